"""A trained model on disk: weights in `model.safetensors`, the rest in `model.json`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import BaseModel

from src import paths
from src.data.prepared import Manifest
from src.errors import DataError, DivergedError
from src.models.architecture import Architecture, Model, Weights
from src.models.build import build_model
from src.models.random_streams import SAVED
from src.storage.atomic import AtomicCommit
from src.storage.json_files import read_record, record_bytes
from src.storage.reading import digest
from src.storage.tensors import pack_tensors, read_tensors

TRAIN_AGAIN = "Train again: dvc repro train"


class ModelRecord(BaseModel, frozen=True, extra="allow"):
    """The keys of `model.json` that rebuild the network; it may have others."""

    architecture: Architecture
    class_names: list[str]
    sha256: str  # of model.safetensors
    history_sha256: str  # of history.csv
    epoch: int  # the best one, whose weights were saved
    warning: str = ""  # that `train` printed of missing classes
    temperature: float | None = None  # folded into the output layer; None: 1


@dataclass(frozen=True)
class TrainedModel:
    """A trained network with its weights and its record, for evaluate and export."""

    model: Model
    weights: Weights
    record: ModelRecord


def weights_of(model: Model) -> Weights:
    """Copies of a network's weights and statistics on the host."""
    return arrays_of(nnx.state(model, SAVED))


def arrays_of(state: nnx.State) -> Weights:
    """Copies of a state's arrays on the host, by their dotted paths."""
    # Copies: on CPU, numpy would share a buffer that the next step overwrites.
    return {
        dotted(path): np.array(variable[...], copy=True)
        for path, variable in nnx.to_flat_state(state)
        if holds_array(variable)
    }


def holds_array(variable: nnx.Variable[Any]) -> bool:
    """False for the moments that muon's Adam keeps no array for: `optax.MaskedNode`."""
    return bool(jax.tree.leaves(variable))


def dotted(path: tuple[Any, ...]) -> str:
    """A variable's path as one name, as in "conv1.kernel"."""
    return ".".join(map(str, path))


def save_trained(
    weights: Weights,
    architecture: Architecture,
    record: Mapping[str, Any],
    outputs: AtomicCommit,
) -> None:
    """Writes `model.safetensors` and `model.json`.

    Args:
        weights: of the network, by path.
        architecture: of the network.
        record: other keys of `model.json`, such as the digests of the data.
        outputs: the commit that the files belong to.

    Raises:
        DivergedError: a weight is not finite; nothing is written.
        StorageError: a file cannot be written.
    """
    for name, array in weights.items():
        if wrong := int(np.count_nonzero(~np.isfinite(array))):
            raise DivergedError(
                f"{paths.WEIGHTS}: {name}: expected finite weights, found {wrong} of "
                f"{array.size} that are not; nothing was written. Train again with a "
                "lower lr."
            )
    content = pack_tensors(weights)
    record = {**record, "architecture": asdict(architecture), "sha256": digest(content)}
    outputs.write(paths.WEIGHTS, content)
    outputs.write(paths.MODEL, record_bytes(record))


def load_trained(manifest: Manifest) -> TrainedModel:
    """Rebuilds the trained network in eval mode and loads its weights.

    Args:
        manifest: of the data that the network will be used on.

    Raises:
        DataError: a file is missing or changed, or the network does not fit the data.
    """
    record = read_record(paths.MODEL, ModelRecord, TRAIN_AGAIN)
    check_fits(record, manifest)
    return load_network(record)


def load_network(record: ModelRecord) -> TrainedModel:
    """Rebuilds the network of a record in eval mode and loads its weights.

    Raises:
        DataError: the file of weights is missing or changed, or is another network's.
    """
    weights = read_tensors(paths.WEIGHTS, TRAIN_AGAIN, record.sha256)
    model = trained_network(record.architecture, weights)
    # Not the file's order of weights but the network's, which exported files keep.
    return TrainedModel(model, weights_of(model), record)


def trained_network(architecture: Architecture, weights: Weights) -> Model:
    """The network with these weights, in eval mode.

    Raises:
        DataError: a weight is missing or unknown, or has the wrong shape or dtype.
    """
    shapes = nnx.eval_shape(lambda: build_model(architecture, nnx.Rngs(0)))
    model = with_weights(shapes, weights)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def check_fits(record: ModelRecord, manifest: Manifest) -> None:
    """Raises DataError if the network's image shape or classes are not the data's."""
    expected = manifest.image_shape, manifest.class_names
    found = record.architecture.image_shape, record.class_names
    if found != expected or record.architecture.classes != len(record.class_names):
        raise DataError(
            f"{paths.MODEL}: expected a network for images and classes {expected} as "
            f"in {paths.MANIFEST}, found one for {found}. {TRAIN_AGAIN}"
        )


def with_weights(model: Model, weights: Weights) -> Model:
    """The network with these weights; its random streams, if any, start at zero.

    Raises:
        DataError: a weight is missing or unknown, or has the wrong shape or dtype.
    """
    graphdef, both = nnx.split(model)
    state, streams = nnx.split_state(both, SAVED, ...)
    repair = f"the weights are another network's. {TRAIN_AGAIN}"
    filled = with_arrays(state, weights, paths.WEIGHTS, repair)
    zeros = jax.tree.map(zeros_of, streams)
    return nnx.merge(graphdef, filled, zeros)


def zeros_of(leaf: Any) -> jax.Array:  # noqa: ANN401 - an array or its ShapeDtypeStruct
    """Zeros of the leaf's shape and dtype, which may be a random key's."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.zeros((*leaf.shape, 2), jnp.uint32))
    return jnp.zeros(leaf.shape, leaf.dtype)


def with_arrays(
    state: nnx.State, arrays: Weights, where: Path, repair: str
) -> nnx.State:
    """The state with these arrays.

    Args:
        state: gives the names, shapes and dtypes that `arrays` must have.
        arrays: by dotted path, as `arrays_of` returns them.
        where: the file that the arrays are from, for the message.
        repair: the end of the message: what it means or what to do.

    Raises:
        DataError: an array is missing or unknown, or has the wrong shape or dtype.
    """
    leaves = nnx.to_flat_state(state)
    variables = {dotted(path): leaf for path, leaf in leaves if holds_array(leaf)}
    for name in sorted(variables.keys() | arrays.keys()):
        expected = dtype_and_shape(variables[name]) if name in variables else "none"
        found = dtype_and_shape(arrays[name]) if name in arrays else "none"
        if found != expected:
            raise DataError(
                f"{where}: {name}: expected {expected}, found {found}: {repair}"
            )
    filled = [
        (path, leaf.replace(jax.device_put(arrays[dotted(path)])))
        if holds_array(leaf)
        else (path, leaf)
        for path, leaf in leaves
    ]
    return nnx.from_flat_state(filled)


def dtype_and_shape(array: Any) -> str:  # noqa: ANN401 - numpy's, JAX's or a ShapeDtype
    """Dtype and shape for an error message, as in "float32 [3, 4]"."""
    return f"{array.dtype} {list(array.shape)}"
