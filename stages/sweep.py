"""The experiments of this commit side by side: a table, best first, and a picture.

`python -m stages.sweep --by test.accuracy` writes metrics/plots/sweep.png.
"""

import argparse
import subprocess
import sys

from src import paths
from src.errors import DataError
from src.runtime.stage import run_command

HELP = "the score to sort by; choose by validation, report the test"


def main() -> None:
    """Asks DVC for the experiments; prints the table, draws those that finished."""
    from src.experiments.sweep import ranked, read_experiments, table, varying

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--by", default="validation.loss", help=HELP)
    by: str = parser.parse_args().by
    experiments = ranked(read_experiments(show()), by)
    drawn = [each for each in experiments if by in each.scores]
    if not varying(drawn):
        raise DataError(
            f"experiments of this commit: expected two or more with {by} whose "
            f"parameters differ, found {len(drawn)} without a difference. Run some: "
            "dvc exp run --queue -S 'lr=1e-3,3e-3', then dvc queue start."
        )
    from src.experiments.sweep_plot import draw_sweep
    from src.storage.atomic import replace_file

    picture = paths.PLOTS / "sweep.png"
    replace_file(picture, draw_sweep(drawn, by))
    print(table(experiments, by))  # noqa: T201
    best = drawn[0]
    print(  # noqa: T201
        f"sweep: {len(drawn)} of {len(experiments)} experiments have {by}: best "
        f"{best.scores[by]:.6g}, {best.name} -> {picture}"
    )


def show() -> str:
    """What DVC knows of the experiments of this commit, as JSON.

    Raises:
        DataError: DVC cannot say.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "show", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or ["nothing"])[0]
        raise DataError(
            f"dvc exp show: expected the experiments, found: {said} Run this in the "
            "repository's root."
        )
    return ended.stdout


if __name__ == "__main__":
    run_command("sweep", main)
