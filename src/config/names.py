"""Typed, checked view of `params.yaml`.

`params.yaml` is the only place where a hyperparameter gets its value: no field below
has a default, so a missing, misspelt or ill-typed key stops the run before any data is
read. Nothing here imports JAX or numpy: a typo is answered in a fraction of a second.
"""

from typing import Annotated, Literal

from pydantic import Field

MAX_BYTES = 1 << 16  # six times what there is; YAML is slow to read


Count = Annotated[int, Field(ge=1)]


Finite = Annotated[float, Field(allow_inf_nan=False)]


NotNegative = Annotated[Finite, Field(ge=0)]


Positive = Annotated[Finite, Field(gt=0)]


Share = Annotated[Finite, Field(ge=0, lt=1)]


Dataset = Annotated[
    str,
    Field(
        # A TFDS builder and perhaps its config; with a colon in it, a name would
        # make tensorflow-datasets import community code.
        pattern=r"^[a-z][a-z0-9_]{0,63}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$",
        json_schema_extra={
            "expected": "a plain name such as digits, folder, npz, mnist or "
            "emnist/letters"
        },
    ),
]


# The values of `dataset` that are not names of tensorflow-datasets.
LocalSource = Literal["digits", "folder", "npz"]


FolderPath = Annotated[
    str, Field(min_length=1, json_schema_extra={"expected": "a path"})
]


ModelName = Literal["mlp", "cnn", "cnn_max"]


PrecisionName = Literal["float32", "bfloat16", "float16"]


AugmentName = Literal["shift", "flip", "rotation", "cutout", "mixup"]


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


ELSEWHERE = {
    "dataset",
    "data_path",
    "validation_fraction",
    "lr_range_low",
    "lr_range_high",
    "lr_range_steps",
    "export_formats",
}
