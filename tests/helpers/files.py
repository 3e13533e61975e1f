"""Writes files as the stages do, one at a time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.storage.atomic import atomic_commit, replace_file
from src.storage.json_files import json_bytes, metrics_bytes, record_bytes
from src.storage.npz import pack_arrays
from src.storage.reading import digest
from src.storage.tables import csv_bytes


def committed(write: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a writer with a new commit as its last argument."""
    with atomic_commit() as outputs:
        return write(*arguments, outputs)


def write_file(path: Path, content: bytes | memoryview) -> str:
    """Writes a file; returns its SHA-256."""
    replace_file(path, content)
    return digest(content)


def write_json(path: Path, content: Mapping[str, Any]) -> str:
    return write_file(path, json_bytes(content))


def write_metrics(path: Path, metrics: Mapping[str, Any]) -> str:
    return write_file(path, metrics_bytes(metrics))


def write_record(path: Path, content: Mapping[str, Any]) -> str:
    return write_file(path, record_bytes(content))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    return write_file(path, csv_bytes(header, rows))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    return write_file(path, pack_arrays(arrays))
