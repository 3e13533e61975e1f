"""Training runs on several devices. JAX fixes the device count when it starts.

`python -m tests.helpers.device_runs NAME...` prints JSON for as many devices as
`XLA_FLAGS` makes of the processor: each run's losses by step, what validation
says, and the digest of its weights.
"""

import hashlib
import json
import sys

import jax
import numpy as np

from src.config.load import load_params
from src.config.params import Params
from src.data.examples import select
from src.models.architecture import Architecture
from src.models.build import MODELS
from src.models.checkpoint import weights_of
from src.sharding import on_all_devices, shard_state
from src.training.batches import DeviceBatches
from src.training.data import TrainData, count_steps
from src.training.events import EpochEnd, LogRow
from src.training.loop import fit
from src.training.state import build_state
from src.training.validation import score
from tests.helpers.examples import patterned
from tests.helpers.imports import ROOT
from tests.helpers.stateful import StatefulNet

COMMON = {
    "model": "mlp",
    "dropout": 0.5,
    "optimizer": "adamw",
    "augment": ("shift",),
    "batch_size": 48,
    "log_every": 1,
    "epochs": 20,
}
RUNS = {
    "mlp": {},
    "cnn": {"model": "cnn", "epochs": 2},
    # Enough units for `split_dense`, which two and three devices divide. Clipping and
    # momentum show a gradient of the wrong size; AdamW would not.
    "split": {
        "model": "cnn",
        "hidden": 66,
        "ema_decay": 0.9,
        "optimizer": "momentum",
        "clip_norm": 0.5,
        "epochs": 2,
    },
    "split_features": {
        "model": "cnn",
        "hidden": 66,
        "accumulate": 2,
        "on_nan": "skip",
        "augment": ("shift", "mixup"),
        "optimizer": "lamb",
        "epochs": 2,
    },
    "split_and_frozen": {
        "model": "cnn",
        "hidden": 66,
        "accumulate": 2,
        "freeze": ("dense",),
        "epochs": 2,
    },
    "slices": {"model": "cnn_max", "batch_size": 192, "epochs": 10},
    "features": {
        "accumulate": 2,
        "ema_decay": 0.9,
        "augment": ("shift", "mixup"),
        "on_nan": "skip",
        "class_weight_power": 1.0,
        "sampling_power": 0.5,
        "epochs": 4,
    },
    "augmentation": {
        "augment": ("crop", "trivial", "cutmix"),
        "epochs": 4,
    },
    "muon": {"optimizer": "muon", "epochs": 2},
    "bfloat16": {"precision": "bfloat16", "epochs": 2},
    "stateful": {"model": "stateful", "ema_decay": 0.9, "accumulate": 2, "epochs": 4},
    "overfit_batches": {"overfit_batches": 2, "epochs": 10},
}


def splits():
    """480 training examples, and 300 that do not fill whole batches."""
    return patterned(480, seed=1), patterned(300, seed=2)


def prepared_run(changes):
    """Parameters, data and initial state of a run, on all devices."""
    params = load_params(ROOT / "params.yaml").model_copy(update={**COMMON, **changes})
    train, validation = splits()
    if params.overfit_batches:  # as `load_train_data` selects them
        rows = np.arange(params.overfit_batches * params.batch_size)
        train = validation = select(train, rows)
    data = TrainData(*map(DeviceBatches, (train, validation)), classes=3)
    hidden = params.hidden or 16
    architecture = Architecture(params.model, hidden, params.dropout, (8, 8, 1), 3)
    steps = count_steps(len(train.labels), params.batch_size)
    graphdef, state = build_state(params, architecture, steps)
    return params, data, graphdef, shard_state(state)


def run(changes: dict[str, object]) -> dict[str, object]:
    """Trains and returns the numbers to compare."""
    params, data, graphdef, state = prepared_run(changes)
    sums = score(state, graphdef, data.validation, classes=3, top_k=2)
    losses, validation, weights = [], [], {}
    for event in fit(state, graphdef, data, params):
        if isinstance(event, LogRow):
            losses.append(event.train.loss)
        elif isinstance(event, EpochEnd):
            validation.append(event.result.validation.loss)
            weights = weights_of(event.model)
    content = b"".join(np.asarray(weights[name]).tobytes() for name in sorted(weights))
    return {
        "losses": losses,
        "validation": validation,
        "first": [
            float(sums.loss.total[...]),
            sums.confusion.counts[...].tolist(),
            float(sums.top_k.total[...]),
        ],
        "weights": hashlib.sha256(content).hexdigest(),
    }


def main(names: list[str]) -> None:
    """Prints the results of the named runs."""
    MODELS["stateful"] = StatefulNet
    anything: Params = load_params(ROOT / "params.yaml").model_copy(update=COMMON)
    with on_all_devices(anything):
        found = {name: run(RUNS[name]) for name in names}
    print(json.dumps({"devices": jax.device_count(), **found}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
