"""What a network is, apart from its weights."""

from dataclasses import dataclass

from src.config import ModelName
from src.errors import ParameterError

MINIMUM = {"mlp": 1, "cnn": 4, "cnn_max": 4}  # pixels: two poolings leave one
UNITS = {"mlp": 256, "cnn": 256, "cnn_max": 128}


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build a network anew; it stands in `models/model.json`."""

    model: ModelName
    hidden: int  # units of the dense layer
    dropout: float
    image_shape: tuple[int, int, int]  # height, width, channels
    classes: int


def choose_architecture(
    model: ModelName,
    hidden: int | None,
    dropout: float,
    image_shape: tuple[int, int, int],
    classes: int,
) -> Architecture:
    """The network that the parameters ask for, sized from the data.

    Raises:
        ParameterError: the images are too small for the model.
    """
    if min(image_shape[:2]) < MINIMUM[model]:
        raise ParameterError(
            f"params.yaml: model: expected images of at least {MINIMUM[model]} pixels "
            f"a side for {model}, found {image_shape[0]} x {image_shape[1]}. Use mlp."
        )
    return Architecture(model, hidden or UNITS[model], dropout, image_shape, classes)
