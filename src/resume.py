"""What an interrupted run leaves, so that the next one ends with the very same bits.

Under `.resume/` (or `FOURBEAT_RESUME_DIR`) lies a folder per fingerprint: all that the
bits depend on. In it are the two latest states of training, each a whole file with its
digest in front, and the lock of the process that works there. A run that succeeds
removes its folder, so that `dvc repro -f` trains anew.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import jax
import numpy as np
from flax import nnx
from pydantic import TypeAdapter, ValidationError

from src.checkpoint import Weights, arrays_of, with_arrays
from src.config import TRAINING, Params
from src.cores import threads
from src.data.prepared import Manifest
from src.devices import whole
from src.errors import BusyError, DataError
from src.files import digest
from src.interrupt import Stopped, receive, received
from src.loop import Point, Position, Result
from src.monitor import Monitor
from src.npz import pack_arrays, read_packed, unpack_arrays
from src.processes import agree, leads, share
from src.report import History
from src.storage import explained, make_folder, remove_now, replace_file

SOURCES = Path(__file__).parent
LIBRARIES = "jax", "jaxlib", "flax", "optax", "numpy"
GENERATIONS = 2
SECONDS = 1.0  # between two saves at ends of epochs: where these are short
OLDER = "Using the state before it, if there is one."  # advice
SHARE = 100  # times what a save took must pass before the next: 1 % of the time


@dataclass
class Progress:
    """What the train stage knows beside the state and the best weights."""

    monitor: Monitor
    history: History = field(default_factory=History)
    best: Result | None = None
    position: Position | None = None  # None: at the beginning


class Saved(NamedTuple):
    """A run, wherever it is."""

    state: nnx.State
    progress: Progress
    weights: Weights  # of the best epoch


def fingerprint(params: Params, manifest: Manifest) -> str:
    """A name for all that decides the bits of training: 64 hexadecimal digits."""
    values = params.model_dump(
        include=set(TRAINING) - {"save_minutes", "resident_megabytes"}
    )
    stage = SOURCES.parent / "stages/train.py"
    sources = {
        str(path.relative_to(SOURCES.parent)): digest(path.read_bytes())
        for path in [*sorted(SOURCES.rglob("*.py")), stage]
    }
    settings = ("JAX_", "XLA_", "NVIDIA_")
    # Which process is where decides no bit.
    places = ("JAX_COORDINATOR", "JAX_PROCESS", "JAX_LOCAL")
    device = jax.devices()[0]
    decides = {
        "parameters": values,
        "data": [manifest.digest(name) for name in ("train", "validation")],
        "class_names": manifest.class_names,
        "sources": sources,
        "versions": {name: version(name) for name in LIBRARIES},
        "device": [device.platform, device.device_kind],
        "devices": [jax.device_count(), jax.process_count()],
        "processor": processor(),
        "threads": threads(),
        "settings": sorted(
            (name, value)
            for name, value in os.environ.items()
            if name.startswith(settings) and not name.startswith(places)
        ),
    }
    text = json.dumps(decides, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()


def processor() -> list[str]:
    """The processor's model and instruction sets: XLA compiles for them."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    kept = {line for line in lines if line.startswith(("model name", "flags"))}
    return [platform.machine(), *sorted(kept)]


class Resume:
    """The folder of one fingerprint, while one process works in it."""

    def __init__(self, name: str, save_minutes: float) -> None:
        root = Path(os.environ.get("FOURBEAT_RESUME_DIR", ".resume"))
        self.folder = root / name[:16]
        # Beside the folder and never removed: whoever has it open has the one lock.
        self.lock = root / f"{name[:16]}.lock"
        self.seconds = 60 * save_minutes
        self.saved = time.monotonic()
        self.cost = 0.0  # seconds that the last save took
        self.descriptor = -1  # of the lock, once it is open

    def __enter__(self) -> Self:
        """Takes the folder; process 0 does, if there are several.

        Raises:
            BusyError: another process has it.
            DataError: it is a link to another place.
            StorageError: it cannot be made.
        """
        if not leads():
            return self
        make_folder(self.lock.parent)
        with explained(self.lock):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            self.descriptor = os.open(self.lock, flags, 0o644)
        try:
            self.take()
        except BaseException:
            os.close(self.descriptor)
            raise
        return self

    def take(self) -> None:
        """Locks the lock, makes the folder, clears away what a killed process left."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self.descriptor, 32, 0).decode(errors="replace").strip()
            raise BusyError(
                f"{self.lock}: expected no other process on this run, found process "
                f"{owner}. Wait for it and run again, or stop it. Queued experiments "
                "that train the same at once must not share FOURBEAT_RESUME_DIR."
            ) from None
        with explained(self.lock):
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, str(os.getpid()).encode(), 0)
        if self.folder.is_symlink():
            raise DataError(
                f"{self.folder}: expected a folder of this project's own, found a link "
                "to another place. Remove the link."
            )
        make_folder(self.folder)
        for unfinished in self.folder.glob(".state-*.tmp"):
            remove_now(unfinished)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Gives the folder back; after a success it is gone."""
        if not leads():
            return
        if kind is None:  # all is written: what cannot be removed does no harm
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.descriptor)

    def keep(self, point: Point, progress: Progress, weights: Weights) -> None:
        """Saves where it is time to; ends the process here after a signal.

        Raises:
            Stopped: a signal came; what can be saved is.
            StorageError: the disk is full, or the folder cannot be written.
        """
        began = time.monotonic()
        pause = SECONDS if point.ends_epoch else self.seconds
        late = leads() and began - self.saved > max(pause, SHARE * self.cost)
        due, number = agree(late, received() or 0)
        if number:
            receive(number)
        if due or number:
            now = replace(progress, position=point.position)
            self.save(whole(point.state), now, weights)
            agree(0)  # else a launcher might end the one that still writes
            self.saved = time.monotonic()
            self.cost = self.saved - began
        if number:  # not a signal that has come since: the others do not know of it
            raise Stopped

    def save(self, state: nnx.State, progress: Progress, weights: Weights) -> None:
        """Writes a generation, then removes the one before the one before it.

        But not once a weight is infinite: training ends soon, from the last save too.
        """
        now = arrays_of(state)  # in each: it may be computed by all
        if not leads():
            return
        trained = (now[name] for name in now if name.startswith(("model.", "average.")))
        if not all(np.isfinite(array).all() for array in trained):
            return
        record = json.dumps(asdict(progress)).encode()
        arrays = {
            **{f"state/{name}": array for name, array in now.items()},
            **{f"best/{name}": array for name, array in weights.items()},
            "record": np.frombuffer(record, np.uint8),
        }
        content = pack_arrays(arrays)
        numbers = self.generations()
        number = max(numbers, default=0) + 1
        header = f"{digest(content)}\n".encode()
        replace_file(self.path(number), header + content)
        for old in numbers[: 1 - GENERATIONS]:
            remove_now(self.path(old))

    def load(self, template: nnx.State) -> Saved | None:
        """The latest state that is whole, process 0's; None where there is none.

        Args:
            template: a state of the same run; its arrays say what must be there.

        Raises:
            DataError: there are states, and each is damaged.
        """
        content, saved = self.latest(template) if leads() else (b"", None)
        content = share(content)
        if not content:
            return None
        saved = saved or unpack_saved(self.folder, content, template)
        where = saved.progress.position
        if where and leads():
            after = f", after {where.taken} of its steps" if where.taken else ""
            print(f"train: going on in epoch {where.epoch}{after}", flush=True)  # noqa: T201
        return saved

    def latest(self, template: nnx.State) -> tuple[bytes, Saved | None]:
        """The latest generation that is whole, as its bytes and unpacked.

        Without any bytes where there is none at all.

        Raises:
            DataError: there are generations, and each is damaged.
        """
        numbers = self.generations()
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

    def generations(self) -> list[int]:
        """The numbers of the states that lie here, rising."""
        names = (path.name for path in self.folder.iterdir())
        found = (re.fullmatch(r"state-([1-9][0-9]{0,8})\.npz", name) for name in names)
        return sorted(int(match[1]) for match in found if match)

    def path(self, number: int) -> Path:
        """Where a generation lies."""
        return self.folder / f"state-{number}.npz"


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
