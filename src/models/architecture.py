"""What a network is, apart from its weights."""

from dataclasses import dataclass

from src.config.names import ModelName

SMALLEST = {"mlp": 1, "cnn": 4, "cnn_max": 4}  # pixels a side: two poolings leave one
UNITS = {"mlp": 256, "cnn": 256, "cnn_max": 128}  # of the dense layer, if not told


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build a network anew; it stands in `models/model.json`."""

    model: ModelName
    hidden: int  # units of the dense layer
    dropout: float
    image_shape: tuple[int, int, int]  # height, width, channels
    classes: int
