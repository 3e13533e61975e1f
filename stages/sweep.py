"""Compares the experiments of this commit: a table, best first, and a plot.

`python -m stages.sweep --by validation.accuracy` writes metrics/plots/sweep.png.
"""

import argparse

from src import paths
from src.errors import DataError
from src.runtime.stage import run_command

HELP = "sort by this score on train or validation; nothing is chosen by the test split"


def main() -> None:
    """Prints a table of the experiments and plots the finished ones."""
    from src.experiments.dvc_command import run_dvc
    from src.experiments.sweep import ranked, read_experiments, sweep_table, varying

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--by", default="validation.loss", help=HELP)
    by: str = parser.parse_args().by
    experiments = ranked(read_experiments(run_dvc("exp", "show", "--json")), by)
    drawn = [each for each in experiments if by in each.scores]
    if not varying(drawn):
        raise DataError(
            f"experiments of this commit: expected two or more with {by} and "
            f"different parameters, found {len(drawn)} with equal ones. Run some: "
            "dvc exp run --queue -S 'lr=1e-3,3e-3' train, then dvc queue start."
        )
    from src.experiments.sweep_plot import draw_sweep
    from src.storage.atomic import replace_file

    picture = paths.PLOTS / "sweep.png"
    replace_file(picture, draw_sweep(drawn, by))
    print(sweep_table(experiments, by))  # noqa: T201
    best = drawn[0]
    print(  # noqa: T201
        f"sweep: {len(drawn)} of {len(experiments)} experiments have {by}; best: "
        f"{best.name}, {best.scores[by]:.6g} -> {picture}"
    )


if __name__ == "__main__":
    run_command("sweep", main)
