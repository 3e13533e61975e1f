"""Runs the LR range test and suggests a learning rate.

Run only on request: `dvc repro extra/dvc.yaml:lr_range`.
"""

import sys

from src import paths
from src.config.params import Params
from src.runtime.determinism import pin_arithmetic
from src.runtime.launch import check_alone
from src.runtime.stage import StageContext, print_warning, run_stage


def main(params: Params, context: StageContext) -> str:
    """Writes the loss by learning rate as a table and as a picture."""
    pin_arithmetic(params)
    check_alone()
    from src.data.prepared import load_manifest
    from src.experiments.lr_range import LRRange, find_range
    from src.reporting.plots import draw_lr_range
    from src.storage.tables import csv_bytes
    from src.training.data import load_train_data
    from src.training.initial_weights import load_initial_weights
    from src.training.state import choose_architecture, normalize_pixels

    manifest = load_manifest()
    architecture = choose_architecture(params, manifest)
    initial = load_initial_weights(params, architecture, manifest.class_names)
    if initial:
        print(f"lr_range: {initial.summary}", flush=True)  # noqa: T201
        if initial.warning:
            print_warning("lr_range", initial.warning)
    data = load_train_data(manifest, params)
    architecture = normalize_pixels(architecture, params, data.train, initial)
    found = find_range(data.train, architecture, params, initial)
    rows = [
        (f"{rate:.6g}", loss, smoothed)  # significant digits: rates are tiny
        for rate, loss, smoothed in zip(
            *(column.tolist() for column in found), strict=True
        )
    ]
    table = csv_bytes(LRRange._fields, rows)
    picture = draw_lr_range(*found, found.suggestion)
    with context.outputs() as outputs:
        outputs.write(paths.PLOTS / "lr_range.csv", table)
        outputs.write(paths.PLOTS / "lr_range.png", picture)
    return (
        f"{params.model}, {params.optimizer}: the loss falls fastest at lr "
        f"{found.suggestion:.2g} (of {found.rates[0]:.2g} to {found.rates[-1]:.2g}); "
        f"try lr={found.suggestion:.1g} -> {paths.PLOTS / 'lr_range.png'}"
    )


if __name__ == "__main__":
    run_stage("lr_range", main, sys.argv[1:])
