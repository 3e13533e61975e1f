"""The weights and images of the comparison with torchvision, drawn with numpy alone.

The golden file holds answers only: both sides draw the same weights from the same seed.
"""

import numpy as np

CLASSES = 10
WIDTHS = 64, 128, 256, 512
SIZES = {"small": (12, 64, 50), "large": (8, 224, 224)}  # images, height, width
STEP_IMAGES = 8  # of "small", for the gradients


def shapes() -> dict[str, tuple[int, ...]]:
    """The names and shapes of a state dict, in torchvision's order."""
    found = {"conv1.weight": (64, 3, 7, 7), **norm_shapes("bn1", 64)}
    inputs = 64
    for number, width in enumerate(WIDTHS, 1):
        for block in range(2):
            name, first = f"layer{number}.{block}", inputs if block == 0 else width
            found[f"{name}.conv1.weight"] = (width, first, 3, 3)
            found |= norm_shapes(f"{name}.bn1", width)
            found[f"{name}.conv2.weight"] = (width, width, 3, 3)
            found |= norm_shapes(f"{name}.bn2", width)
            if first != width:
                found[f"{name}.downsample.0.weight"] = (width, first, 1, 1)
                found |= norm_shapes(f"{name}.downsample.1", width)
        inputs = width
    return {**found, "fc.weight": (CLASSES, 512), "fc.bias": (CLASSES,)}


def norm_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """The variables of one BatchNorm."""
    kinds = "weight", "bias", "running_mean", "running_var"
    return {
        **{f"{name}.{kind}": (width,) for kind in kinds},
        f"{name}.num_batches_tracked": (),
    }


def draw_state() -> dict[str, np.ndarray]:
    """A state dict by torchvision's names; no statistic is at its start."""
    rng = np.random.default_rng(18)
    return {name: draw(rng, name, shape) for name, shape in shapes().items()}


def draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One array, of a size that a trained network could have."""
    if name.endswith("num_batches_tracked"):
        return np.array(1000, np.int64)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 2.0, shape).astype(np.float32)
    if name.endswith("weight") and len(shape) == 1:
        return rng.uniform(0.6, 1.2, shape).astype(np.float32)
    fan_in = np.prod(shape[1:]) if len(shape) > 1 else 100
    return (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)


def draw_images(size: str) -> np.ndarray:
    """Coarse patterns with noise: uint8 `[images, height, width, 3]`."""
    count, height, width = SIZES[size]
    rng = np.random.default_rng(height)
    coarse = rng.integers(0, 200, (count, 5, 5, 3))
    rows, columns = np.arange(height) * 5 // height, np.arange(width) * 5 // width
    noise = rng.integers(0, 56, (count, height, width, 3))
    return (coarse[:, rows][:, :, columns] + noise).astype(np.uint8)


def draw_labels() -> np.ndarray:
    """The labels of the images of the step: int64 `[STEP_IMAGES]`."""
    return np.random.default_rng(1).integers(0, CLASSES, STEP_IMAGES)


def draw_direction(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A unit vector in the shape of a gradient: float64, with torchvision's axes."""
    rng = np.random.default_rng(list(name.encode()))
    direction = rng.standard_normal(shape)
    return direction / np.linalg.norm(direction)
