"""Folders in which stages run with given data and parameters."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Every parameter of the recipe, so that editing params.yaml changes no benchmark.
FASHION = {
    "dataset": "fashion_mnist",
    "model": "cnn",
    "hidden": "",
    "dropout": 0.5,
    "label_smoothing": 0.0,
    "augment": "[]",
    "optimizer": "adamw",
    "lr": 0.002,
    "weight_decay": 0.01,
    "schedule": "warmup_cosine",
    "warmup_epochs": 1,
    "clip_norm": "",
    "clip_value": "",
    "lr_end": 0.0,
    "precision": "float32",
    "accumulate": 1,
    "ema_decay": 0.0,
    "limit_examples": "",
    "max_steps": "",
    "on_nan": "stop",
    "batch_size": 32,
    "log_every": 50,
    "monitor": "validation_loss",
    "monitor_mode": "auto",
    "min_delta": 0.0,
    "patience": "",
}


def with_values(text: str, **changes: object) -> str:
    """Replaces values in the text of a params.yaml, including block lists.

    Raises:
        ValueError: a key does not occur exactly once.
    """
    for key, value in changes.items():
        pattern = rf"^{key}:.*\n(- .*\n)*"
        text, count = re.subn(pattern, f"{key}: {value}\n", text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"params.yaml: expected {key} once, found it {count}x.")
    return text


def make_project(
    folder: Path, prepared: Path | None, values: Mapping[str, object]
) -> None:
    """Creates a folder with params.yaml and a link to the data.

    Args:
        folder: the folder to create.
        prepared: the prepared data; None if the prepare stage will write it.
        values: parameters to replace, as written in params.yaml.
    """
    text = with_values((ROOT / "params.yaml").read_text(), **values)
    (folder / "data").mkdir(parents=True)
    if prepared:
        (folder / "data/prepared").symlink_to(prepared.resolve())
    (folder / "params.yaml").write_text(text)


def start(folder: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    """Starts `python -m ...` with line-based pipes for stdin and stdout."""
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **environment,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for a process and returns its unread output; exits if it failed."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{process.args!r}: ended with {process.returncode}.")
    return output


def finish_measured(process: subprocess.Popen[str]) -> float:
    """Like `finish`, but returns the peak memory in MB (10^6 bytes)."""
    if process.stdout:
        process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    finish(process)
    return usage.ru_maxrss * 1024 / 1e6
