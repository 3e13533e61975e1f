"""Searches for better parameters on train and validation.

Writes .search/NAME.db and .search/NAME.png.

python -m stages.search --trials 30 'lr=1e-4..1e-1' 'model=cnn,resnet'

The last line, the only one on stdout, runs the pipeline with the best parameters. Start
the same command again to continue after an interruption, or with more --trials.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from src import paths
from src.config.load import load_params
from src.errors import ParameterError, counted, shortened
from src.experiments.search_devices import reserve_devices
from src.experiments.search_helpers import (
    HELPER,
    check_workers,
    end_with_stdin,
    helpers,
)
from src.experiments.search_space import Space, parse_space
from src.runtime.cores import share_cores
from src.runtime.determinism import pin_arithmetic
from src.runtime.launch import check_alone
from src.runtime.stage import print_warning, run_command

if TYPE_CHECKING:
    from src.experiments.search_study import SearchStudy

FOLDER = Path(".search")


def main() -> None:
    """Works on the study until it has all its trials, then reports."""
    arguments = parse_arguments(sys.argv[1:])
    params = load_params(paths.PARAMS)
    space = parse_space(arguments.space, params)
    path = study_path(arguments.name, space)
    check_alone()
    pin_arithmetic(params)
    if arguments.helper:
        end_with_stdin()
    from src.data.prepared import load_manifest
    from src.experiments.search_study import SearchStudy, study_origin

    manifest = load_manifest()
    study = SearchStudy(path, space, params)
    study.check_origin(study_origin(params, space, manifest))
    if study.has_work(arguments.trials):
        count = 0 if arguments.helper else arguments.workers - 1
        with helpers(count, sys.argv[1:]) as others:
            share_cores()  # after the helpers, which take their own shares
            fewer = reserve_devices(params)
            # JAX is imported only now: it reads the number of devices once.
            from src.experiments.search import work

            work(study, manifest, arguments.trials, fewer)
            for other in others:
                if code := other.wait():
                    message = f"another worker ended with code {code}; continuing"
                    print_warning("search", message)
            # What a killed worker has left.
            work(study, manifest, arguments.trials, fewer)
    if not arguments.helper:
        report(study, arguments.queue)


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """The arguments of the command.

    Raises:
        ParameterError: a number is out of range.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "space",
        nargs="+",
        metavar="KEY=VALUES",
        help="lr=1e-4..1e-1 (a range), model=cnn,resnet (choices), or epochs=5",
    )
    parser.add_argument("--trials", type=int, default=30, help="in total")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("--name", help="of the study; by default the keys of its space")
    parser.add_argument(
        "--queue", type=int, default=0, metavar="N", help="queue the N best for DVC"
    )
    parser.add_argument(HELPER, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    for option, least in (("trials", 1), ("queue", 0)):
        found = getattr(arguments, option)
        if found < least:
            raise ParameterError(
                f"--{option}: expected an integer >= {least}, found {found}. Use "
                f"--{option} {least} or more."
            )
    check_workers(arguments.workers)
    return arguments


def study_path(name: str | None, space: Space) -> Path:
    """The study's file.

    Raises:
        ParameterError: the name is none for a file.
    """
    name = "-".join(space) if name is None else name
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
        raise ParameterError(
            "--name: expected at most 100 letters, digits, dots, hyphens and "
            f"underscores, found {shortened(name)}. Use --name mine."
        )
    return FOLDER / f"{name}.db"


def report(study: SearchStudy, queued: int) -> None:
    """Prints the table and draws the picture; the best trial's command on stdout.

    Raises:
        ParameterError: no trial has finished.
        DataError: DVC could not queue an experiment.
    """
    from src.experiments.search_command import experiment_command, queue_experiment
    from src.experiments.search_report import (
        finished_trials,
        ranked_trials,
        search_picture,
        search_table,
    )
    from src.experiments.search_space import chosen_values
    from src.storage.atomic import replace_file

    monitor = study.params.monitor
    trials = ranked_trials(study.trials(), study.minimize)
    print(search_table(trials, study.space, monitor), file=sys.stderr)  # noqa: T201
    finished = finished_trials(trials)
    picture = study.path.with_suffix(".png")
    replace_file(picture, search_picture(trials, study.space, monitor))
    best = finished[0]
    summary = (
        f"{counted(len(trials), 'trial')}, {len(finished)} to the end; best: trial "
        f"{best.number + 1}, {monitor} {best.value:.4f} -> {picture}"
    )
    print(f"search: {summary}", file=sys.stderr, flush=True)  # noqa: T201
    for trial in finished[:queued]:
        said = queue_experiment(chosen_values(study.space, trial.params))
        print(f"search: {said}", file=sys.stderr, flush=True)  # noqa: T201
    print(experiment_command(chosen_values(study.space, best.params)))  # noqa: T201


if __name__ == "__main__":
    run_command("search", main)
