"""The types of the fields, and the names that a choice allows."""

from typing import Annotated, Literal

from pydantic import Field

Count = Annotated[int, Field(ge=1)]

Finite = Annotated[float, Field(allow_inf_nan=False)]

NotNegative = Annotated[Finite, Field(ge=0)]

Positive = Annotated[Finite, Field(gt=0)]

Fraction = Annotated[Finite, Field(ge=0, lt=1)]

Share = Annotated[Finite, Field(ge=0, le=1)]

Dataset = Annotated[
    str,
    Field(
        # A TFDS builder, optionally with its config. A colon is not allowed: with one,
        # tensorflow-datasets would import community code.
        pattern=r"^[a-z][a-z0-9_]{0,63}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$",
        json_schema_extra={
            "expected": "a plain name such as digits, folder, npz, mnist or "
            "emnist/letters"
        },
    ),
]


# The values of `dataset` that are not names of tensorflow-datasets.
LocalSource = Literal["digits", "folder", "npz", "idx", "csv", "parquet"]


FolderPath = Annotated[
    str, Field(min_length=1, json_schema_extra={"expected": "a path"})
]

Side = Annotated[int, Field(ge=1, le=1024)]  # pixels

ImageSize = (
    Side
    | Annotated[
        tuple[Side, Side],
        Field(strict=False, json_schema_extra={"expected": "[height, width]"}),
    ]
)

ImageFit = Literal["pad", "crop", "stretch"]

ChannelsName = Literal["auto", "grey", "rgb"]

BackgroundName = Literal["white", "black"]

OnBroken = Literal["stop", "skip"]

ModelName = Literal["mlp", "cnn", "cnn_max", "resnet", "resnet18"]

PrecisionName = Literal["float32", "bfloat16", "float16"]

AugmentName = Literal[
    "shift",
    "flip",
    "rotation",
    "crop",
    "colour",
    "trivial",
    "cutout",
    "erase",
    "mixup",
    "cutmix",
]

OptimizerName = Literal[
    "sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "lion", "lamb", "muon"
]

ScheduleName = Literal[
    "constant",
    "cosine",
    "warmup_cosine",
    "linear",
    "exponential",
    "piecewise",
    "one_cycle",
    "plateau",
]

MonitorName = Literal[
    "validation_loss",
    "validation_accuracy",
    "validation_balanced_accuracy",
    "validation_precision",
    "validation_recall",
    "validation_f1",
    "validation_top_k",
    "train_loss",
    "train_accuracy",
]

MonitorMode = Literal["auto", "min", "max"]

FormatName = Literal[
    "stablehlo", "saved_model", "tflite", "tflite_int8", "onnx", "numpy"
]

ThresholdRule = (
    Annotated[
        str,
        Field(
            pattern=r"^(f1|recall:(0?\.[0-9]*[1-9][0-9]*|1(\.0+)?))$",
            json_schema_extra={"expected": "f1, or a recall such as recall:0.95"},
        ),
    ]
    | Annotated[Finite, Field(gt=0, lt=1)]
)

# Parameters that training does not read.
NOT_TRAINING = {
    "dataset",
    "data_path",
    "image_size",
    "image_fit",
    "channels",
    "background",
    "on_broken",
    "validation_fraction",
    "lr_range_low",
    "lr_range_high",
    "lr_range_steps",
    "reject_below",
    "threshold",
    "export_formats",
}
