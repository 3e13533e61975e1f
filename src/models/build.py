"""The table of models; `model` in `params.yaml` chooses one by name."""

from flax import nnx

from src.config.names import ModelName
from src.models.architecture import Architecture
from src.models.architecture import Model as Model
from src.models.cnn import CNN, MaxPoolCNN
from src.models.mlp import MLP
from src.models.resnet import ResNet
from src.models.resnet18 import ResNet18

MODELS: dict[ModelName, type[Model]] = {
    "mlp": MLP,
    "cnn": CNN,
    "cnn_max": MaxPoolCNN,
    "resnet": ResNet,
    "resnet18": ResNet18,
}


def build_model(architecture: Architecture, rngs: nnx.Rngs) -> Model:
    """Builds the network; its initial weights are drawn from `rngs.params`."""
    return MODELS[architecture.model](architecture, rngs)
