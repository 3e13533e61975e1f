"""The saved states of a run: numbered files, each with its digest in front."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax import nnx
from pydantic import TypeAdapter, ValidationError

from src.errors import DataError
from src.models.checkpoint import Weights, with_arrays
from src.storage.atomic import remove_path, replace_file
from src.storage.npz import pack_arrays, read_packed, unpack_arrays
from src.storage.reading import digest
from src.training.early_stopping import EarlyStopping
from src.training.events import EpochResult, LoopPosition
from src.training.history import History

GENERATIONS = 2
OLDER = "Using the state before it, if there is one."  # advice


@dataclass
class Progress:
    """What the train stage knows beside the state and the best weights."""

    monitor: EarlyStopping
    history: History = field(default_factory=History)
    best: EpochResult | None = None
    position: LoopPosition | None = None  # None: at the beginning
    mixed: bool = False  # begun on another machine: the last bits are neither's


class Saved(NamedTuple):
    """A run, wherever it is."""

    state: nnx.State
    progress: Progress
    weights: Weights  # of the best epoch


class Saves:
    """The latest generations of a run's state, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, number: int) -> Path:
        """Where a generation lies."""
        return self.folder / f"state-{number}.npz"

    def numbers(self) -> list[int]:
        """The generations that lie here, rising."""
        names = (path.name for path in self.folder.iterdir())
        found = (re.fullmatch(r"state-([1-9][0-9]{0,8})\.npz", name) for name in names)
        return sorted(int(match[1]) for match in found if match)

    def add(self, arrays: Weights, progress: Progress, weights: Weights) -> None:
        """Writes a generation, then removes the one before the one before it.

        Args:
            arrays: of the state, by their names.
            progress: with the position of this state.
            weights: of the best epoch.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        record = json.dumps(asdict(progress)).encode()
        content = pack_arrays(
            {
                **{f"state/{name}": array for name, array in arrays.items()},
                **{f"best/{name}": array for name, array in weights.items()},
                "record": np.frombuffer(record, np.uint8),
            }
        )
        numbers = self.numbers()
        header = f"{digest(content)}\n".encode()
        replace_file(self.path(max(numbers, default=0) + 1), header + content)
        for old in numbers[: 1 - GENERATIONS]:
            remove_path(self.path(old))

    def latest(self, template: nnx.State) -> tuple[bytes, Saved | None]:
        """The latest generation that is whole, as its bytes and unpacked.

        Without any bytes where there is none at all.

        Raises:
            DataError: there are generations, and each is damaged.
        """
        numbers = self.numbers()
        damaged: list[Path] = []
        for number in reversed(numbers):
            try:
                content = read_saved(self.path(number))
                saved = unpack_saved(self.path(number), content, template)
            except DataError as error:
                print(f"train: {error}", flush=True)  # noqa: T201
                damaged.append(self.path(number))
                continue
            for path in damaged:  # else the next save would keep it, not this one
                path.replace(path.with_suffix(".damaged"))
            return content, saved
        if numbers:
            raise DataError(
                f"{self.folder}: expected a whole state of the interrupted run, found "
                f"{len(numbers)} damaged ones. Remove the folder to train anew."
            )
        return b"", None


def read_saved(path: Path) -> bytes:
    """Reads one generation.

    Raises:
        DataError: it is damaged.
    """
    if path.is_symlink():
        raise DataError(f"{path}: expected a file, found a link. {OLDER}")
    header, _, content = read_packed(path, OLDER).partition(b"\n")
    if header.decode(errors="replace") != digest(content):
        raise DataError(f"{path}: expected another SHA-256: damaged. {OLDER}")
    return content


def unpack_saved(path: Path, content: bytes, template: nnx.State) -> Saved:
    """What is in a generation.

    Raises:
        DataError: it is none, or of another network.
    """
    arrays = unpack_arrays(path, content, OLDER)
    record = arrays.pop("record", np.zeros(0, np.uint8)).tobytes()
    try:
        progress = TypeAdapter(Progress).validate_json(record)
    except ValidationError:
        raise DataError(f"{path}: record: expected another content. {OLDER}") from None
    state = with_arrays(template, strip(arrays, "state/"), path, OLDER)
    return Saved(state, progress, strip(arrays, "best/"))


def strip(arrays: Mapping[str, np.ndarray], prefix: str) -> Weights:
    """The arrays whose names begin so, without that beginning."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
