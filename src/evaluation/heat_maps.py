"""Where a network looked: how much each place of an image spoke for a class.

For a network with a feature map this is HiResCAM: the gradient of the class's logit,
times the feature map, summed over channels. It needs one gradient. Grad-CAM averages
the gradient over places first. Where the network averages them too, as in the residual
networks, both are equal up to a factor. Where it has a weight for each place, as in
`cnn`, Grad-CAM marks places that the network did not use.

For other networks it is the size of the gradient to the pixels.

Sources: Draelos and Carin 2020, arXiv:2011.08891; Selvaraju et al. 2017,
arXiv:1610.02391; Simonyan et al. 2013, arXiv:1312.6034. That such maps depend on the
weights is tested as in Adebayo et al. 2018, arXiv:1810.03292.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.models.architecture import Model

TOLERANCE = 1e-3  # of the logits of a feature map, relative and absolute


def heat_maps(model: Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """A map of each image: 1 at the place that spoke most for the class, else less.

    Places that spoke against the class have 0; so has a map without any that spoke for
    it. A map covers its image, with fewer rows and columns.

    Args:
        model: the network, in `eval` mode.
        images: uint8 `[examples, height, width, channels]`, so few that they fit into a
            single forward pass.
        classes: int `[examples]`, the class to explain.

    Returns:
        Float32 `[examples, rows, columns]`, in [0, 1].
    """
    if not len(images):
        return np.zeros((0, 1, 1), np.float32)
    given = model, jax.device_put(images), jax.device_put(classes)
    has_map = type(model).feature_map is not Model.feature_map
    maps, valid = map_evidence(*given) if has_map else (None, False)
    if not valid:
        maps = pixel_gradients(*given)
    positive = np.maximum(np.asarray(maps), 0)
    largest = positive.max((1, 2), keepdims=True)
    return np.divide(positive, largest, out=np.zeros_like(positive), where=largest > 0)


@nnx.jit
def map_evidence(
    model: Model, images: jax.Array, classes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """HiResCAM, and whether the logits of the feature map are the network's.

    They are not where a subclass overrides `__call__` alone.

    Returns:
        Float32 `[examples, rows, columns]`, in logits; a boolean.
    """
    features = model.feature_map(images)

    def chosen(features: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = model.from_feature_map(features)
        return sum_of_classes(logits, classes), logits

    gradient, logits = jax.grad(chosen, has_aux=True)(features)
    valid = jnp.allclose(logits, model(images), rtol=TOLERANCE, atol=TOLERANCE)
    return (gradient * features).sum(-1), valid


@nnx.jit
def pixel_gradients(model: Model, images: jax.Array, classes: jax.Array) -> jax.Array:
    """The size of the gradient to the pixels, the largest of the channels.

    Returns:
        Float32 `[examples, height, width]`, in logits per step of a pixel of 255.
    """

    def chosen(pixels: jax.Array) -> jax.Array:
        return sum_of_classes(model(pixels), classes)

    return jnp.abs(jax.grad(chosen)(images.astype(jnp.float32))).max(-1)


def sum_of_classes(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """The sum of each image's logit of its class.

    No image affects another's logits, so the gradient of the sum is that of each.
    """
    return jnp.take_along_axis(logits, classes[:, None], axis=1).sum()
