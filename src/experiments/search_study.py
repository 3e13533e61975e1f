"""The trials of a search in one SQLite file, which several processes may work on.

A trial belongs to the process that holds its lock. The operating system frees the locks
of a process that ends, however it ends; then another process takes over its trial.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from src import paths
from src.config.params import TRAINING, Params
from src.data.prepared import Manifest
from src.errors import DataError, ParameterError, StorageError, one_line
from src.experiments.search_rules import (
    direction,
    distributions,
    is_behind,
    is_rung,
    propose,
)
from src.experiments.search_space import Space, space_size
from src.storage.atomic import make_folder, storage_errors
from src.training.early_stopping import build_best_tracker

STUDY = "search"  # the study's name in its file
ORIGIN, NOTE, STARTS = "origin", "note", "starts"  # user attributes
# A trial that ends its process each time, by taking all memory for example, is given up
# at last.
MAX_STARTS = 5
SECONDS = 60  # to wait for another process that writes


def study_origin(params: Params, space: Space, manifest: Manifest) -> dict[str, str]:
    """What decides the value of a trial, by name; equal in all sessions of a study."""
    # Training is the same with and without calibration.
    included = set(TRAINING) - {"calibrate"}
    fixed = params.model_dump(mode="json", include=included)
    named = {key: str(space.get(key, value)) for key, value in fixed.items()}
    digests = {
        f"{paths.PREPARED}/{name}": manifest.digest(name)[:12]
        for name in ("train", "validation")
    }
    return named | digests | {"class names": ", ".join(manifest.class_names)}


class Outcome(NamedTuple):
    """How a trial ended."""

    value: float | None  # `monitor` at the best epoch; None: it has none
    note: str  # the best epoch, or why there is no value


class SearchStudy:
    """A study that several processes share."""

    def __init__(self, path: Path, space: Space, params: Params) -> None:
        """Opens or creates the file.

        Args:
            path: the SQLite file.
            space: of the search.
            params: of the project.

        Raises:
            DataError: it is no study.
            StorageError: it cannot be read or written.
        """
        self.path, self.space, self.params = path, space, params
        self.minimize = build_best_tracker(params).gain(0.0, 1.0) > 0
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        make_folder(path.parent)
        lock = path.with_suffix(".lock")
        with storage_errors(lock):
            self.lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with self.exclusive(), readable(path):
            self.storage = optuna.storages.RDBStorage(
                f"sqlite:///{path}",
                engine_kwargs={"connect_args": {"timeout": SECONDS}},
            )
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=STUDY,
                direction=direction(self.minimize),
                load_if_exists=True,
            )
            self.id = self.storage.get_study_id_from_name(STUDY)
            self.study.get_trials(deepcopy=False)

    def check_origin(self, origin: Mapping[str, str]) -> None:
        """Writes what the study is about, or compares it with what was written.

        Raises:
            ParameterError: the study is about something else.
        """
        with self.exclusive():
            stored = self.study.user_attrs.get(ORIGIN)
            if stored is None and not self.study.get_trials(deepcopy=False):
                self.study.set_user_attr(ORIGIN, dict(origin))
                return
        stored = stored if isinstance(stored, dict) else {}
        for name in {**origin, **stored}:
            if origin.get(name) != stored.get(name):
                raise ParameterError(
                    f"{self.path}: expected {name}: {stored.get(name)}, as this study "
                    f"began, found {origin.get(name)}. Undo the change, or begin "
                    "another study: --name NAME."
                )

    def has_work(self, total: int) -> bool:
        """Whether there is a trial to begin, or one that has not ended."""
        trials = self.trials()
        new = len(trials) < min(total, space_size(self.space))
        return new or not all(trial.state.is_finished() for trial in trials)

    def trials(self) -> list[FrozenTrial]:
        """All trials so far, in the order of their numbers."""
        with self.exclusive():
            return self.study.get_trials()

    def claim(self, total: int) -> FrozenTrial | None:
        """A trial for this process: one whose process has ended, or else a new one.

        Args:
            total: how many trials the study shall have; fewer if the space is smaller.

        Returns:
            None if there is none left.
        """
        with self.exclusive():
            trials = self.study.get_trials(deepcopy=False)
            for trial in trials:
                running = trial.state == TrialState.RUNNING
                if running and self.try_lock(1 + trial.number):
                    return trial
            if len(trials) >= min(total, space_size(self.space)):
                return None
            self.try_lock(1 + len(trials))
            # One transaction: a killed process leaves no half of a trial.
            self.study.add_trial(
                create_trial(
                    state=TrialState.RUNNING,
                    params=propose(trials, self.space, self.params, self.minimize),
                    distributions=distributions(self.space),
                )
            )
            return self.study.get_trials(deepcopy=False)[-1]

    def count_start(self, trial: FrozenTrial, change: int) -> int:
        """Adds to the number of times that a trial was begun, and returns it."""
        with self.exclusive():
            starts = int(trial.user_attrs.get(STARTS, 0)) + change
            self.storage.set_trial_user_attr(self.id_of(trial), STARTS, starts)
        return starts

    def report(self, trial: FrozenTrial, epoch: int, value: float, epochs: int) -> bool:
        """Stores the value of an epoch; whether the trial should stop there.

        Args:
            trial: of this process.
            epoch: from 1.
            value: of `monitor`.
            epochs: how many epochs the trial has.
        """
        with self.exclusive():
            self.storage.set_trial_intermediate_value(self.id_of(trial), epoch, value)
            trials = self.study.get_trials(deepcopy=False)
        values = [
            other.intermediate_values[epoch]
            for other in trials
            if other.number != trial.number and epoch in other.intermediate_values
        ]
        return is_rung(epoch, epochs) and is_behind(value, values, self.minimize)

    def finish(self, trial: FrozenTrial, outcome: Outcome) -> None:
        """Stores how a trial ended, and frees its lock."""
        complete = outcome.value is not None
        with self.exclusive():
            self.storage.set_trial_user_attr(self.id_of(trial), NOTE, outcome.note)
            # Pruned, not failed: so the estimator learns from a refused trial, too.
            state = TrialState.COMPLETE if complete else TrialState.PRUNED
            self.study.tell(trial.number, outcome.value, state)
        fcntl.lockf(self.lock, fcntl.LOCK_UN, 1, 1 + trial.number)

    def id_of(self, trial: FrozenTrial) -> int:
        """The trial's key in the file."""
        return self.storage.get_trial_id_from_study_id_trial_number(
            self.id, trial.number
        )

    def try_lock(self, byte: int) -> bool:
        """Locks a byte of the lock file until this process ends; whether it could.

        Byte 0 is that of the study, byte 1 + n that of trial n.
        """
        try:
            fcntl.lockf(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        return True

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keeps other processes from the file; turns its errors into one line.

        Raises:
            DataError: the file is no study.
            StorageError: the file cannot be read or written.
        """
        with storage_errors(self.path):
            fcntl.lockf(self.lock, fcntl.LOCK_EX, 1, 0)
        try:
            with database_errors(self.path):
                yield
        finally:
            fcntl.lockf(self.lock, fcntl.LOCK_UN, 1, 0)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what optuna raises about a file that it did not write into a DataError."""
    try:
        yield
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        raise no_study(path, error) from None


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turns what SQLite finds wrong with a file into one line.

    Raises:
        DataError: the file is no study, or damaged.
        StorageError: the file cannot be read or written.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = original(error)
        if not isinstance(cause, sqlite3.Error):
            raise
        # An operational error of the general kind: a table or a column is missing.
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        general = code & 255 == sqlite3.SQLITE_ERROR
        if isinstance(cause, sqlite3.OperationalError) and not general:
            raise StorageError(
                f"{path}: {one_line(cause)}. Make it writable, or free some space."
            ) from None
        raise no_study(path, cause) from None


def original(error: Exception) -> Exception:
    """The error of SQLite that SQLAlchemy and optuna have wrapped."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def no_study(path: Path, error: Exception) -> DataError:
    """The error for a file that is no study."""
    return DataError(
        f"{path}: expected a study of stages.search, found another or a damaged file: "
        f"{one_line(error)}. Delete it, or begin another study: --name NAME."
    )
