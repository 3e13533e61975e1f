"""A trained network on disk: `model.npz`, the weights, and `model.json`, all else."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import BaseModel

from src import paths
from src.data.prepared import Manifest
from src.errors import DataError, DivergedError
from src.models.architecture import Architecture
from src.models.build import Model, build_model
from src.storage.atomic import AtomicCommit
from src.storage.json_files import read_record, record_bytes
from src.storage.npz import pack_arrays, read_arrays
from src.storage.reading import digest

REPAIR = "Train it anew: dvc repro train"

Weights = dict[str, np.ndarray]  # by path in the network: "conv1.kernel"


class Record(BaseModel, frozen=True, extra="allow"):
    """What must stand in `model.json` to build the network anew; more may."""

    architecture: Architecture
    class_names: list[str]
    sha256: str  # of model.npz
    history_sha256: str  # of history.csv


@dataclass(frozen=True)
class Trained:
    """A network as evaluate and export find it."""

    model: Model
    weights: Weights
    record: Record


def weights_of(model: Model) -> Weights:
    """Copies of a network's weights on the host."""
    return arrays_of(nnx.state(model))


def arrays_of(state: nnx.State) -> Weights:
    """Copies of a state's arrays on the host, by their places in it."""
    # Copies: on CPU numpy would look into a buffer that the next step overwrites.
    return {
        dotted(path): np.array(variable[...], copy=True)
        for path, variable in nnx.to_flat_state(state)
    }


def dotted(path: tuple[Any, ...]) -> str:
    """A variable's place in the network as a name."""
    return ".".join(map(str, path))


def save_trained(
    weights: Weights,
    architecture: Architecture,
    record: Mapping[str, Any],
    outputs: AtomicCommit,
) -> None:
    """Writes the weights and their record.

    Args:
        weights: of the network, by name.
        architecture: of the network.
        record: what else to say of it, such as the digests of its data.
        outputs: of the stage.

    Raises:
        DivergedError: a weight is not finite.
    """
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise DivergedError(
                f"{paths.WEIGHTS}: {name}: expected finite weights, found others; "
                "nothing was written. Train anew with a lower lr."
            )
    content = pack_arrays(weights)
    record = {
        **record,
        "architecture": asdict(architecture),
        "sha256": digest(content),
    }
    outputs.write(paths.WEIGHTS, content)
    outputs.write(paths.MODEL, record_bytes(record))


def load_trained(manifest: Manifest) -> Trained:
    """Builds the network anew and gives it its weights.

    Args:
        manifest: of the data that the network is to be used on.

    Raises:
        DataError: a file is missing or changed, or the network is one for other data.
    """
    record = read_record(paths.MODEL, Record, REPAIR)
    check_fits(record, manifest)
    architecture = record.architecture
    shapes = nnx.eval_shape(lambda: build_model(architecture, nnx.Rngs(params=0)))
    weights = read_arrays(paths.WEIGHTS, REPAIR, record.sha256)
    return Trained(with_weights(shapes, weights), weights, record)


def check_fits(record: Record, manifest: Manifest) -> None:
    """Raises DataError where a network takes or names something else than the data."""
    expected = manifest.image_shape, manifest.class_names
    found = record.architecture.image_shape, record.class_names
    if found != expected or record.architecture.classes != len(record.class_names):
        raise DataError(
            f"{paths.MODEL}: expected a network for images and classes {expected} as "
            f"in {paths.MANIFEST}, found one for {found}. {REPAIR}"
        )


def with_weights(model: Model, weights: Weights) -> Model:
    """The network with these weights, name by name.

    Raises:
        DataError: a weight is missing, left over, or of another shape or type.
    """
    graph, state = nnx.split(model)
    repair = f"these are the weights of another network. {REPAIR}"
    return nnx.merge(graph, with_arrays(state, weights, paths.WEIGHTS, repair))


def with_arrays(
    state: nnx.State, arrays: Mapping[str, np.ndarray], where: Path, repair: str
) -> nnx.State:
    """The state with these arrays, name by name.

    Args:
        state: says which arrays there must be, of which shape and type.
        arrays: by their places, as `arrays_of` gives them.
        where: the file that they are from.
        repair: what its reader should know or do.

    Raises:
        DataError: an array is missing, left over, or of another shape or type.
    """
    variables = {dotted(path): (path, leaf) for path, leaf in nnx.to_flat_state(state)}
    for name in sorted(variables.keys() | arrays.keys()):
        expected = described(variables[name][1]) if name in variables else "none"
        found = described(arrays[name]) if name in arrays else "none"
        if found != expected:
            raise DataError(
                f"{where}: {name}: expected {expected}, found {found}: {repair}"
            )
    filled = [
        (path, leaf.replace(jnp.asarray(arrays[name])))
        for name, (path, leaf) in variables.items()
    ]
    return nnx.from_flat_state(filled)


def described(array: Any) -> str:  # noqa: ANN401 - of numpy, of JAX, or only its shape
    """Type and shape, as the errors show them."""
    return f"{array.dtype} {list(array.shape)}"
