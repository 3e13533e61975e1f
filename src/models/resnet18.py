"""ResNet-18 as torchvision has it, for weights that were trained elsewhere.

Padding, strides, epsilon and names of the layers are torchvision's, so a state dict
needs only other words for its last names, and its axes in another order.

Source: He et al. 2016, arXiv:1512.03385, table 1.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from src.models.architecture import Architecture, Model, Weights
from src.models.dropout import Dropout
from src.models.normalize import Normalize
from src.models.pooling import Pool

WIDTHS = 64, 128, 256, 512  # filters of layer1 to layer4
# Of the pixels of ImageNet in [0, 1]; red, green, blue.
IMAGENET_MEAN = 0.485, 0.456, 0.406
IMAGENET_DEVIATION = 0.229, 0.224, 0.225

# torchvision's last name -> the name here; "weight" depends on the layer.
LAST_NAMES = {"bias": "bias", "running_mean": "mean", "running_var": "var"}

# torch's `kaiming_normal_(mode="fan_out", nonlinearity="relu")`.
KERNEL_INIT = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


def build_convolution(
    inputs: int, filters: int, size: int, stride: int, rngs: nnx.Rngs
) -> nnx.Conv:
    """A square convolution without bias, padded by half of the kernel on each side."""
    # Not 'SAME': with a stride of 2 it would pad one side only.
    pad = (size // 2, size // 2)
    return nnx.Conv(
        inputs,
        filters,
        kernel_size=(size, size),
        strides=stride,
        padding=(pad, pad),
        use_bias=False,
        kernel_init=KERNEL_INIT,
        rngs=rngs,
    )


# torch's momentum of 0.1 is the weight of the new statistics, Flax's of the old ones.
build_batch_norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5)


def overlapping_max_pool(images: jax.Array) -> jax.Array:
    """Max pooling with a 3x3 window, stride 2 and one pixel of padding on each side.

    Equal to `nnx.max_pool`, whose gradient takes three times as long on CPU.
    """
    return max_of_three(max_of_three(images, axis=1), axis=2)


def max_of_three(images: jax.Array, axis: int) -> jax.Array:
    """The maximum of each even row (axis 1) or column (axis 2) and its neighbours."""
    size = images.shape[axis]
    count = (size + 1) // 2
    pads = [(0, 0, 0)] * images.ndim
    pads[axis] = (1, 2 * count - size, 0)
    padded = lax.pad(images, jnp.array(-jnp.inf, images.dtype), pads)
    first, second, third = (
        lax.slice_in_dim(padded, start, start + 2 * count - 1, 2, axis)
        for start in range(3)
    )
    return jnp.maximum(jnp.maximum(first, second), third)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions with BatchNorm, added to the block's input."""

    def __init__(self, inputs: int, filters: int, stride: int, rngs: nnx.Rngs) -> None:
        self.conv1 = build_convolution(inputs, filters, 3, stride, rngs)
        self.bn1 = build_batch_norm(filters, rngs=rngs)
        self.conv2 = build_convolution(filters, filters, 3, 1, rngs)
        self.bn2 = build_batch_norm(filters, rngs=rngs)
        self.downsample = nnx.List[nnx.Module]([])
        if stride != 1 or inputs != filters:
            projection = build_convolution(inputs, filters, 1, stride, rngs)
            self.downsample.extend([projection, build_batch_norm(filters, rngs=rngs)])

    def __call__(self, images: jax.Array) -> jax.Array:
        """`[batch, height / stride, width / stride, filters]`."""
        hidden = nnx.relu(self.bn1(self.conv1(images)))
        hidden = self.bn2(self.conv2(hidden))
        for layer in self.downsample:
            images = layer(images)
        return nnx.relu(hidden + images)


class ResNet18(Model):
    """7x7 convolution, max pooling, eight residual blocks, average pooling, dense."""

    smallest_image = 32  # one pixel is left for the average
    grey_channels = 3  # equal ones, so that ImageNet's first kernel fits
    default_normalize = True

    def __init__(self, architecture: Architecture, rngs: nnx.Rngs) -> None:
        channels = architecture.image_shape[2]
        self.repeats = self.grey_channels if channels == 1 else 1
        self.normalize = Normalize.of(architecture)
        first = WIDTHS[0]
        self.conv1 = build_convolution(channels * self.repeats, first, 7, 2, rngs)
        self.bn1 = build_batch_norm(first, rngs=rngs)
        self.pool: Pool = overlapping_max_pool
        inputs = (first, *WIDTHS)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nnx.List(
                [
                    BasicBlock(inputs[index], filters, 2 if index else 1, rngs),
                    BasicBlock(filters, filters, 1, rngs),
                ]
            )
            for index, filters in enumerate(WIDTHS)
        )
        self.dropout = Dropout(architecture.dropout)
        self.fc = nnx.Linear(WIDTHS[-1], architecture.classes, rngs=rngs)

    def __call__(self, images: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Logits `[batch, classes]` of uint8 `[batch, height, width, channels]`."""
        return self.from_feature_map(self.feature_map(images), rngs)

    def feature_map(self, images: jax.Array) -> jax.Array:
        """The output of `layer4`, `[batch, height / 32, width / 32, 512]`."""
        pixels = self.normalize(jnp.repeat(images, self.repeats, axis=-1))
        hidden = self.pool(nnx.relu(self.bn1(self.conv1(pixels))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in layer:
                hidden = block(hidden)
        return hidden

    def from_feature_map(
        self, feature_map: jax.Array, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Logits of the feature map's average."""
        hidden = feature_map.mean((1, 2))
        hidden = self.dropout(hidden, deterministic=rngs is None, rngs=rngs)
        return self.fc(hidden)


def is_torch_state(arrays: Weights) -> bool:
    """Whether these are the names of a ResNet's state dict in torchvision or timm."""
    return "conv1.weight" in arrays and "bn1.running_mean" in arrays


def from_torch_state(arrays: Weights) -> Weights:
    """A state dict of torchvision or timm with the names and axes of `ResNet18`.

    Args:
        arrays: `conv1.weight` `[filters, channels, rows, columns]`, `bn1.running_mean`,
            `layer1.0.conv1.weight`, ..., `fc.weight` `[classes, units]`.

    Returns:
        The same numbers as `conv1.kernel` `[rows, columns, channels, filters]`,
        `bn1.mean`, `layer1.0.conv1.kernel`, ..., `fc.kernel` `[units, classes]`. The
        counters `num_batches_tracked` are left out; unknown names stay.
    """
    renamed = {}
    for name, array in arrays.items():
        layer, _, last = name.rpartition(".")
        match last, array.ndim:
            case "num_batches_tracked", _:
                continue
            case "weight", 4:
                renamed[f"{layer}.kernel"] = np.transpose(array, (2, 3, 1, 0))
            case "weight", 2:
                renamed[f"{layer}.kernel"] = array.T
            case "weight", 1:
                renamed[f"{layer}.scale"] = array
            case _:
                renamed[f"{layer}.{LAST_NAMES.get(last, last)}"] = array
    return renamed
