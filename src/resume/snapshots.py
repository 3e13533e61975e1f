"""The snapshots of a run: numbered files with everything that training resumes from.

A file is the SHA-256 of its content in one line, then the content in safetensors: the
training state, the best weights so far, and the rest as JSON in the array `record`.
"""

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
from src.models.architecture import Weights
from src.models.checkpoint import with_arrays
from src.storage.atomic import remove_path, replace_file
from src.storage.reading import check_digest, digest, open_regular
from src.storage.tensors import pack_tensors, unpack_tensors
from src.training.early_stopping import EarlyStopping
from src.training.events import EpochResult, LoopPosition
from src.training.history import History

KEPT_SNAPSHOTS = 2
FALL_BACK = "Falling back to the snapshot before it, if there is one."


@dataclass
class TrainingProgress:
    """What the train stage knows of a run, apart from its state and best weights."""

    monitor: EarlyStopping
    history: History = field(default_factory=History)
    best: EpochResult | None = None
    position: LoopPosition | None = None  # None: at the beginning
    from_other_machine: bool = False  # then the bits match neither machine's

    def record(self, result: EpochResult) -> None:
        """Adds an epoch; it becomes the best one if it improves `monitor`."""
        tracker = self.monitor.best
        self.monitor.update(result.epoch, result.value(tracker.name))
        if self.best is None or tracker.epoch == result.epoch:
            self.best = result


class Snapshot(NamedTuple):
    """A run at one moment: everything that training resumes from."""

    state: nnx.State  # of the `TrainState`
    progress: TrainingProgress
    weights: Weights  # of the best epoch; empty before the first


class FoundSnapshot(NamedTuple):
    """A snapshot that was read from a folder."""

    number: int  # of its file
    content: bytes  # of its file, without the digest
    snapshot: Snapshot


class SnapshotFolder:
    """A folder with the newest snapshots of a run, numbered from 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, number: int) -> Path:
        """The file of a snapshot."""
        return self.folder / f"state-{number}.snapshot"

    def numbers(self) -> list[int]:
        """The numbers of the snapshots in the folder, rising."""
        names = (path.name for path in self.folder.iterdir())
        pattern = r"state-([1-9][0-9]{0,8})\.snapshot"
        found = (re.fullmatch(pattern, name) for name in names)
        return sorted(int(match[1]) for match in found if match)

    def add(self, state: Weights, progress: TrainingProgress, best: Weights) -> None:
        """Writes a snapshot, then removes all but the two newest.

        Args:
            state: the arrays of the state, by dotted path.
            progress: with the position of this state.
            best: the weights of the best epoch.

        Raises:
            StorageError: the disk is full, or the folder is not writable.
        """
        record = json.dumps(asdict(progress)).encode()
        content = pack_tensors(
            {
                **{f"state/{name}": array for name, array in state.items()},
                **{f"best/{name}": array for name, array in best.items()},
                "record": np.frombuffer(record, np.uint8),
            }
        )
        numbers = self.numbers()
        header = f"{digest(content)}\n".encode()
        replace_file(self.path(max(numbers, default=0) + 1), header + content)
        for old in numbers[: 1 - KEPT_SNAPSHOTS]:
            remove_path(self.path(old))

    def find_newest(self, template: nnx.State) -> FoundSnapshot | None:
        """The newest intact snapshot; None if the folder has no snapshots.

        Prints a line for each damaged snapshot that is newer.

        Args:
            template: a state of the same run, with the expected arrays.

        Raises:
            DataError: there are snapshots, and all are damaged.
        """
        numbers = self.numbers()
        for number in reversed(numbers):
            path = self.path(number)
            try:
                content = read_snapshot(path)
                snapshot = unpack_snapshot(path, content, template)
            except DataError as error:
                print(f"train: {error}", flush=True)  # noqa: T201
                continue
            return FoundSnapshot(number, content, snapshot)
        if numbers:
            raise DataError(
                f"{self.folder}: expected an intact snapshot of the interrupted run, "
                f"found {len(numbers)} damaged. Remove the folder to train from "
                "scratch."
            )
        return None

    def set_aside_after(self, number: int) -> None:
        """Renames all snapshots newer than `number`, which are damaged.

        Otherwise the next `add` would keep a damaged one instead of `number`.
        """
        for newer in self.numbers():
            if newer > number:
                path = self.path(newer)
                path.replace(path.with_suffix(".damaged"))


def read_snapshot(path: Path) -> bytes:
    """Reads the content of a snapshot's file and checks its digest.

    Raises:
        DataError: the file is missing, a link, or damaged.
    """
    if path.is_symlink():
        raise DataError(f"{path}: expected a file, found a link. {FALL_BACK}")
    with open_regular(path, FALL_BACK) as file:
        header, _, content = file.read().partition(b"\n")
    if not re.fullmatch(rb"[0-9a-f]{64}", header):
        raise DataError(
            f"{path}: expected a SHA-256 in the first line, found none: the file is "
            f"damaged. {FALL_BACK}"
        )
    check_digest(path, content, FALL_BACK, header.decode())
    return content


def unpack_snapshot(path: Path, content: bytes, template: nnx.State) -> Snapshot:
    """The snapshot in the content of its file.

    Args:
        path: the file, for the message.
        content: as `read_snapshot` returns it.
        template: a state of the same run, with the expected arrays.

    Raises:
        DataError: the content is not a snapshot, or is another network's.
    """
    arrays = unpack_tensors(path, content, FALL_BACK)
    record = arrays.pop("record", np.zeros(0, np.uint8)).tobytes()
    try:
        progress = TypeAdapter(TrainingProgress).validate_json(record)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, ("record", *fault["loc"])))
        raise DataError(
            f"{path}: {where}: expected the progress of a run, found: {fault['msg']}. "
            f"{FALL_BACK}"
        ) from None
    state = with_arrays(template, with_prefix(arrays, "state/"), path, FALL_BACK)
    return Snapshot(state, progress, with_prefix(arrays, "best/"))


def with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> Weights:
    """The arrays whose names begin with `prefix`, named without it."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
