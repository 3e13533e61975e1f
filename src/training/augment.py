"""Data augmentation: a pure function of the images and a key."""

import jax

from src.config.names import AugmentName
from src.config.params import Params
from src.data.examples import Batch, Examples
from src.training.augment_colour import vary_colours
from src.training.augment_erasing import cut_out, erase
from src.training.augment_geometry import crop, flip, rotate, shift
from src.training.augment_mixing import cut_mix, mix_up
from src.training.augment_trivial import trivial_augment

# Streams of the key: a new augmentation gets a new number, the others keep theirs.
STREAMS: dict[AugmentName, int] = {
    "flip": 0,
    "shift": 1,
    "rotation": 2,
    "cutout": 3,
    "mixup": 4,
    "crop": 5,
    "colour": 6,
    "trivial": 7,
    "erase": 8,
    "cutmix": 9,
}


def augment(examples: Examples, key: jax.Array, params: Params) -> Batch:
    """Applies the augmentations that `augment` lists, in the order of the list.

    Args:
        examples: the batch of one step.
        key: the key of the step; each augmentation folds its own number into it.
        params: which augmentations, and how strong.
    """
    batch = Batch(*examples)
    # Overfitting a few batches is a check of the model: it needs fixed images.
    for name in () if params.overfit_batches else params.augment:
        batch = apply(name, batch, jax.random.fold_in(key, STREAMS[name]), params)
    return batch


def apply(name: AugmentName, batch: Batch, key: jax.Array, params: Params) -> Batch:
    """Applies one augmentation, as strong as `params` says."""
    images = batch.images
    match name:
        case "mixup":
            return mix_up(batch, key, params.mixup_alpha)
        case "cutmix":
            return cut_mix(batch, key, params.cutmix_alpha)
        case "flip":
            images = flip(images, key)
        case "shift":
            images = shift(images, key, params.shift_pixels)
        case "rotation":
            images = rotate(images, key, params.rotation_degrees)
        case "crop":
            images = crop(images, key, params.crop_area)
        case "colour":
            images = vary_colours(images, key, params.colour_strength)
        case "trivial":
            images = trivial_augment(images, key)
        case "cutout":
            images = cut_out(images, key, params.cutout_pixels)
        case "erase":
            images = erase(images, key, params.erase_area)
    return batch._replace(images=images)
