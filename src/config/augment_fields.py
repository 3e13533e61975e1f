"""The fields of `params.yaml` about augmentation; see `fields.py`."""

from typing import Annotated

from pydantic import Field

from src.config.names import AugmentName, Count, Positive
from src.config.network_fields import NetworkFields


class AugmentFields(NetworkFields, frozen=True, extra="forbid", strict=True):
    """Random changes of the training images."""

    augment: Annotated[tuple[AugmentName, ...], Field(strict=False)] = Field(
        description="list of random augmentations, applied in the order given: shift, "
        "flip (left-right), rotation, crop (random resized crop), colour, trivial "
        "(TrivialAugment), cutout, erase, and last mixup or cutmix; [] = none. No flip "
        "for digits or letters"
    )
    shift_pixels: Annotated[int, Field(ge=1, le=256)] = Field(
        description="shift: maximum in each direction, in pixels; integer in [1, 256]"
    )
    rotation_degrees: Annotated[Positive, Field(le=180)] = Field(
        description="rotation: maximum angle in both directions, in degrees; in (0, "
        "180]"
    )
    cutout_pixels: Count = Field(
        description="cutout: side of the black square, in pixels; integer in [1, image "
        "size). Half of the image or less works best"
    )
    mixup_alpha: Positive = Field(
        description="mixup: alpha of Beta(alpha, alpha), > 0; of the two mixed "
        "images, the original gets the larger weight. Try 0.1 to 0.4; a higher alpha "
        "mixes more. Not together with cutmix"
    )
    cutmix_alpha: Positive = Field(
        description="cutmix: alpha of Beta(alpha, alpha), > 0, the distribution of the "
        "area of the rectangle that is pasted from another image. 1: all areas are "
        "equally likely"
    )
    crop_area: Annotated[Positive, Field(le=1)] = Field(
        description="crop: smallest area of the random box that is enlarged to the "
        "whole image, as a fraction of the image; in (0, 1]. Decrease it if classes "
        "differ in texture, increase it if they differ in shape"
    )
    colour_strength: Annotated[Positive, Field(le=1)] = Field(
        description="colour: brightness, contrast and saturation are multiplied by "
        "random factors in [1 - colour_strength, 1 + colour_strength]; in (0, 1]"
    )
    erase_area: Annotated[Positive, Field(le=1)] = Field(
        description="erase: largest area of the rectangle of noise, as a fraction of "
        "the image; in (0, 1]. Half of the images get one"
    )
