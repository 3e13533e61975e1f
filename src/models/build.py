"""The table of models; `model` in `params.yaml` chooses one by name."""

from flax import nnx
from jax import lax

from src.config.names import ModelName
from src.models.architecture import Architecture
from src.models.architecture import Model as Model
from src.models.cnn import CNN, MaxPoolCNN
from src.models.loop_convolution import loop_convolution
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
    model = MODELS[architecture.model](architecture, rngs)
    use_loop_convolution(model)
    return model


def use_loop_convolution(model: Model) -> None:
    """Replaces lax's function in convolutions; those with another keep theirs."""
    model.set_attributes(
        is_lax_convolution,
        conv_general_dilated=loop_convolution,
        raise_if_not_found=False,
    )


def is_lax_convolution(_: object, module: object) -> bool:
    """Whether a module convolves by lax; a filter of NNX."""
    return getattr(module, "conv_general_dilated", None) is lax.conv_general_dilated
