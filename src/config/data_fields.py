"""The fields of `params.yaml` about data; see `fields.py`."""

from typing import Annotated

from pydantic import BaseModel, Field

from src.config.names import (
    BackgroundName,
    ChannelsName,
    Count,
    Dataset,
    Finite,
    FolderPath,
    ImageFit,
    ImageSize,
    OnBroken,
)


class DataFields(BaseModel, frozen=True, extra="forbid", strict=True):
    """What `prepare` reads and how, and how much of it `train` uses."""

    dataset: Dataset = Field(
        description="digits, folder (your pictures), npz, idx, csv, parquet, or a TFDS "
        "name such as mnist, fashion_mnist, cifar10, emnist/letters"
    )
    data_path: FolderPath = Field(
        description="folder or file with local data: the digits, or your pictures, "
        "arrays or tables"
    )
    image_size: ImageSize | None = Field(
        description="folder and parquet: resize pictures to this many pixels: 64 is "
        "square, [48, 64] height and width; in [1, 1024], empty = all pictures have "
        "one size"
    )
    image_fit: ImageFit = Field(
        description="how a picture of another shape is resized: pad it, crop its "
        "centre, or stretch it"
    )
    channels: ChannelsName = Field(
        description="grey, rgb, or auto: rgb if any picture has colours"
    )
    background: BackgroundName = Field(
        description="white or black: under transparent pictures and around padded ones"
    )
    on_broken: OnBroken = Field(
        description="a file that cannot be read: stop (exit code 3), or skip it and "
        "list it in data/prepared/files.csv"
    )
    validation_fraction: Annotated[Finite, Field(gt=0, lt=1)] = Field(
        description="fraction of the training examples held out for validation, "
        "stratified by class; in (0, 1). Increase it for small classes"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        description="seed for the split, weights, order, dropout and augmentation; "
        "integer in [0, 2^31). Repeat with other seeds to measure the noise"
    )
    limit_examples: Count | None = Field(
        description="train on this many examples, drawn by seed; integer >= 1, empty = "
        "all. For a quick look"
    )
