"""The fields of `params.yaml` about the network; see `fields.py`."""

from typing import Annotated

from pydantic import Field

from src.config.data_fields import DataFields
from src.config.names import FolderPath, Fraction, ModelName, PrecisionName, Share


class NetworkFields(DataFields, frozen=True, extra="forbid", strict=True):
    """The network, its initial weights, and regularisation."""

    model: ModelName = Field(
        description="mlp, cnn (average pooling), cnn_max (max pooling), resnet "
        "(residual blocks, for 28 to 224 pixels a side) or resnet18 (torchvision's, "
        "from 32 pixels); layer sizes follow the data"
    )
    hidden: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        description="units of the dense layer; integer in [1, 65536], empty = the "
        "model's default (mlp 256, cnn 256, cnn_max 128). Increase it if training "
        "accuracy stays low"
    )
    filters: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        description="resnet: filters of the first stage, doubled at each stage; "
        "integer in [1, 1024], empty = the model's default"
    )
    blocks: Annotated[int, Field(ge=1, le=16)] | None = Field(
        description="resnet: residual blocks per stage; integer in [1, 16], empty = "
        "the model's default"
    )
    normalize: bool | None = Field(
        description="true or false: subtract the mean of the training images, or of "
        "those of init_from, and divide by their standard deviation, per channel; "
        "empty = as the model of init_from, or else the model's default (true for "
        "resnet and resnet18)"
    )
    precision: PrecisionName = Field(
        description="precision of the network's arithmetic: float32, bfloat16, or "
        "float16 with dynamic loss scaling; weights and loss stay float32. The 16-bit "
        "types are faster on GPU and TPU only"
    )

    init_from: FolderPath | None = Field(
        description="name of a folder or file in data/weights: a trained model, or a "
        ".safetensors file. Weights whose name and shape fit are taken, the others "
        "and a head for other classes are drawn from seed; empty = all are drawn from "
        "seed"
    )
    freeze: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        description="list of layers that training does not change, such as [conv1, "
        "layer1]; a BatchNorm among them keeps its statistics; [] = none. Train again "
        "without it at a lower lr"
    )
    dropout: Fraction = Field(
        description="dropout rate of the dense layer; in [0, 1), 0 = off. Increase it "
        "if validation lags behind training"
    )
    label_smoothing: Fraction = Field(
        description="label smoothing: probability spread over all classes; in [0, 1), "
        "0 = off. Try 0.05 to 0.1 for noisy labels"
    )
    class_weight_power: Share = Field(
        description="weight of each class in the training loss: its number of examples "
        "to the power of -class_weight_power; in [0, 1], 0 = all equal, 1 = inverse "
        "frequency. The mean weight is 1"
    )
    sampling_power: Share = Field(
        description="how often a class is drawn: in proportion to its number of "
        "examples to the power of 1 - sampling_power; in [0, 1], 0 = each example once "
        "per epoch, 1 = all classes equally often. Use it or class_weight_power"
    )
    ema_decay: Fraction = Field(
        description="decay of an exponential moving average of the weights, which is "
        "then validated, saved and exported; in [0, 1), 0 = off. Try 0.99 to 0.9999 if "
        "validation is noisy"
    )
