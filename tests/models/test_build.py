"""What `build_model` does to a network of a user."""

from flax import nnx
from jax import lax

from src.models.architecture import Architecture, Model
from src.models.build import MODELS, build_model
from src.models.loop_convolution import loop_convolution


def own_convolution(*arguments, **options):
    return lax.conv_general_dilated(*arguments, **options)


class Nested(Model):
    smallest_image = 8

    def __init__(self, architecture, rngs):
        self.parts = nnx.List(
            [
                nnx.Sequential(nnx.Conv(1, 4, (3, 3), rngs=rngs)),
                nnx.Conv(4, 4, (3, 3), conv_general_dilated=own_convolution, rngs=rngs),
            ]
        )


def test_only_convolutions_without_a_function_of_their_own_get_the_fast_one(
    monkeypatch,
):
    monkeypatch.setitem(MODELS, "mlp", Nested)
    architecture = Architecture("mlp", 8, 0.0, (8, 8, 1), 3)
    first, second = build_model(architecture, nnx.Rngs(0)).parts
    assert first.layers[0].conv_general_dilated is loop_convolution
    assert second.conv_general_dilated is own_convolution
