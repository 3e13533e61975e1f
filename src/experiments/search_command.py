"""Values of parameters as commands of DVC."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from src.experiments.dvc_command import run_dvc

# Words of Hydra's grammar, in which DVC reads `-S key=value`, that need no quotes.
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
WORDS_WITH_MEANING = {"true", "false", "null", "nan", "inf"}


def experiment_command(values: Mapping[str, Any]) -> str:
    """The command that runs the pipeline with these values, for a shell."""
    return shlex.join(["dvc", "exp", "run", *overrides(values)])


def queue_experiment(values: Mapping[str, Any]) -> str:
    """Queues a training with these values; returns what DVC says about it.

    Only up to `train`: of several experiments, none is chosen by the test split.

    Raises:
        DataError: DVC failed.
    """
    said = run_dvc("exp", "run", "--queue", *overrides(values), "train")
    return " ".join(said.split())


def overrides(values: Mapping[str, Any]) -> list[str]:
    """The arguments of `dvc exp run` that set these values."""
    return [
        word
        for key, value in values.items()
        for word in ("-S", f"{key}={hydra_value(value)}")
    ]


def hydra_value(value: object) -> str:
    """A value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(hydra_value, value))}]"
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in WORDS_WITH_MEANING:
        return text
    # In quotes, a backslash is one unless a quote follows.
    doubled = re.sub(r"(\\+)(?='|$)", r"\1\1", text)
    return "'{}'".format(doubled.replace("'", r"\'"))
