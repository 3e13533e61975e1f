"""Runs DVC of this environment."""

import subprocess
import sys

from src.errors import DataError


def run_dvc(*arguments: str) -> str:
    """Runs a command of DVC; returns its output.

    Raises:
        DataError: it failed.
    """
    result = subprocess.run(  # noqa: S603 - DVC's arguments, no shell
        [sys.executable, "-m", "dvc", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        error = (result.stderr.strip().splitlines() or ["no message"])[0]
        raise DataError(
            f"dvc {' '.join(arguments[:2])}: expected success, found an error: {error} "
            "Run this in the repository's root."
        )
    return result.stdout
