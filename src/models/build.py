"""The networks, a file each; `model` in `params.yaml` chooses."""

from flax import nnx

from src.models.architecture import Architecture
from src.models.cnn import CNN
from src.models.mlp import MLP

Model = MLP | CNN


def build_model(architecture: Architecture, rngs: nnx.Rngs) -> Model:
    """The network with its first weights, drawn from `rngs.params`.

    It maps uint8 `[batch, height, width, channels]` to logits `[batch, classes]`.
    """
    match architecture.model:
        case "mlp":
            return MLP(architecture, rngs)
        case "cnn" | "cnn_max":
            return CNN(architecture, rngs)
