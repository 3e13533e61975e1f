"""`init_from`: training that starts from trained weights.

A weight is taken if the network has one of the same name and shape. All others are
drawn from the seed, as without `init_from`. So is the head if the classes are others.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from flax import nnx

from src.config.params import Params
from src.data.pixel_statistics import PixelStatistics
from src.errors import DataError, ParameterError
from src.models.architecture import Architecture, Weights
from src.models.build import Model, build_model
from src.models.checkpoint import dotted, dtype_and_shape
from src.models.frozen import check_known
from src.models.random_streams import SAVED
from src.models.resnet18 import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    from_torch_state,
    is_torch_state,
)
from src.training.weight_files import WeightFile, read_weight_file

SHOWN = 6  # names that a line shows
IMAGENET = PixelStatistics(IMAGENET_MEAN, IMAGENET_DEVIATION)

Shapes = Mapping[str, jax.ShapeDtypeStruct]  # of a network's weights, by path


@dataclass(frozen=True)
class InitialWeights:
    """What training takes from a file."""

    weights: Weights  # the ones that are taken, by path in the network
    sha256: str  # of the file
    normalizes: bool | None  # whether its network normalized pixels; None: unknown
    pixels: PixelStatistics | None  # of its training images
    summary: str  # which weights are taken, drawn and unused: one line
    warning: str  # which weights `freeze` keeps as drawn; "" for none


def load_initial_weights(
    params: Params, architecture: Architecture, class_names: list[str]
) -> InitialWeights | None:
    """The weights that `init_from` names; None if it is empty.

    Args:
        params: the parameters of the run.
        architecture: of the network.
        class_names: of the data.

    Raises:
        ParameterError: `init_from` is no name in data/weights, or `freeze` names an
            unknown layer or one of random weights.
        DataError: a file is missing, damaged or of another kind, or no weight fits.
    """
    if params.init_from is None:
        if params.freeze:
            check_known(network_of(architecture), params.freeze)
            raise random_forever(params.freeze[0], "init_from is empty")
        return None
    file = read_weight_file(params.init_from)
    arrays, normalizes, pixels = file.arrays, file.normalizes, file.pixels
    from_torch = is_torch_state(arrays)
    if from_torch and architecture.model == "resnet18":
        arrays, normalizes, pixels = from_torch_state(arrays), True, IMAGENET
    shapes = shapes_of(architecture)
    same_classes = file.class_names in (None, class_names)
    left = set() if same_classes else head_of(architecture, shapes)
    taken = {
        name: converted(file, name, array, shapes[name])
        for name, array in arrays.items()
        if name in shapes.keys() - left and array.shape == shapes[name].shape
    }
    # Biases alone fit by chance.
    if all(array.ndim < 2 for array in taken.values()):
        raise nothing_fits(file, architecture, shapes, from_torch)
    return InitialWeights(
        weights=taken,
        sha256=file.sha256,
        normalizes=normalizes,
        pixels=pixels,
        summary=summarize(file, arrays, taken, shapes),
        warning=frozen_as_drawn(file, params.freeze, taken, shapes),
    )


def frozen_as_drawn(
    file: WeightFile, freeze: Sequence[str], taken: Collection[str], shapes: Shapes
) -> str:
    """A warning that names the weights that are drawn and then frozen; "" for none.

    Raises:
        ParameterError: all weights of a frozen layer are.
    """
    drawn: dict[str, None] = {}  # keeps the order
    for layer in freeze:
        inside = [name for name in shapes if f"{name}.".startswith(f"{layer}.")]
        missing = [name for name in inside if name not in taken]
        if missing and len(missing) == len(inside):
            raise random_forever(layer, f"no weight of {file.path} fits it")
        drawn |= dict.fromkeys(missing)
    if not drawn:
        return ""
    return (
        f"params.yaml: freeze: expected trained weights in frozen layers, found "
        f"{listed(drawn, shapes)} drawn from seed: nothing in {file.path} fits. Use "
        "other weights, or freeze less."
    )


def random_forever(layer: str, reason: str) -> ParameterError:
    """The error for a layer that would keep its random weights."""
    return ParameterError(
        f"params.yaml: freeze: expected trained weights for {layer}, found none: "
        f"{reason}. Name weights in init_from, or remove {layer} from freeze."
    )


def shapes_of(architecture: Architecture) -> Shapes:
    """The shapes and dtypes of a network's weights and statistics."""
    state = nnx.state(network_of(architecture), SAVED)
    return {
        dotted(path): jax.ShapeDtypeStruct(variable.shape, variable.dtype)
        for path, variable in nnx.to_flat_state(state)
    }


def network_of(architecture: Architecture) -> Model:
    """The network with shapes in place of its weights."""
    model: Model = nnx.eval_shape(lambda: build_model(architecture, nnx.Rngs(0)))
    return model


def head_of(architecture: Architecture, shapes: Shapes) -> set[str]:
    """The weights whose shape depends on the number of classes."""
    other = shapes_of(replace(architecture, classes=architecture.classes + 1))
    return {name for name, shape in shapes.items() if other[name] != shape}


def converted(
    file: WeightFile, name: str, array: np.ndarray, expected: jax.ShapeDtypeStruct
) -> np.ndarray:
    """One weight in the network's dtype; float16 becomes float32.

    Raises:
        DataError: the dtype is another one, or a number is not finite.
    """
    if array.dtype == np.float16 and expected.dtype == np.float32:
        array = array.astype(np.float32)
    if array.dtype != expected.dtype:
        raise DataError(
            f"{file.path}: {name}: expected {dtype_and_shape(expected)}, found "
            f"{dtype_and_shape(array)}. Save the weights as {expected.dtype}."
        )
    if wrong := int(np.count_nonzero(~np.isfinite(array))):
        raise DataError(
            f"{file.path}: {name}: expected finite weights, found {wrong} of "
            f"{array.size} that are not. Use other weights."
        )
    return array


def nothing_fits(
    file: WeightFile, architecture: Architecture, shapes: Shapes, from_torch: bool
) -> DataError:
    """The error for a file of another network."""
    name = file.model or ("resnet18" if from_torch else None)
    repair = f"They are of model: {name}." if name else "Use the model that has them."
    if name == architecture.model:
        repair = "Use the sizes of that network: hidden, filters, image_size."
    return DataError(
        f"{file.path}: expected weights of {architecture.model} ({shown(shapes)}), "
        f"found no kernel that fits ({shown(file.arrays)}). {repair}"
    )


def shown(arrays: Mapping[str, np.ndarray] | Shapes) -> str:
    """Two kernels with their shapes, for a message: biases say less."""
    kernels = sorted(arrays, key=lambda name: (len(arrays[name].shape) < 2, name))
    named = [f"{name} {list(arrays[name].shape)}" for name in kernels[:2]]
    return ", ".join([*named, "..."] if kernels[2:] else named) or "nothing"


def summarize(
    file: WeightFile, arrays: Weights, taken: Collection[str], shapes: Shapes
) -> str:
    """Which weights are taken, drawn and unused, in one line."""
    drawn = shapes.keys() - taken
    unused = arrays.keys() - taken
    return (
        f"{file.path}: {len(taken)} of {len(shapes)} weights taken "
        f"({listed(taken, shapes)}); drawn from seed: {listed(drawn, shapes)}; "
        f"unused in the file: {listed(unused, arrays)}"
    )


def listed(names: Collection[str], among: Collection[str]) -> str:
    """Names in one line: a layer in place of its weights, if all are among them."""
    short = set()
    for name in names:
        layer = name.partition(".")[0]
        whole = all(each in names for each in among if each.partition(".")[0] == layer)
        short.add(layer if whole else name)
    first, rest = sorted(short)[:SHOWN], len(short) - SHOWN
    return (", ".join(first) or "none") + (f" and {rest} more" if rest > 0 else "")


def with_initial_weights(state: nnx.State, weights: Weights) -> nnx.State:
    """The state of a `TrainState` whose model, and average, have these weights.

    Args:
        state: as `build_state` draws it.
        weights: by path in the network.
    """
    filled = []
    for path, leaf in nnx.to_flat_state(state):
        name = dotted(path[1:])
        if path[0] in ("model", "ema") and name in weights:
            leaf = leaf.replace(jax.device_put(weights[name]))
        filled.append((path, leaf))
    return nnx.from_flat_state(filled)
