"""Trains on data/prepared and saves the weights of the best validation epoch.

Run by `dvc repro train`; every number it uses comes from params.yaml.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import paths, signals
from src.config.params import Params
from src.runtime.cpu_devices import set_cpu_devices
from src.runtime.determinism import pin_arithmetic
from src.runtime.processes import (
    broadcast,
    broadcast_arrays,
    check_same,
    init_distributed,
    is_main_process,
    peer_errors,
)
from src.runtime.stage import StageContext, print_warning, run_stage

if TYPE_CHECKING:
    from src.data.prepared import Manifest
    from src.models.architecture import Architecture, Weights
    from src.resume.snapshots import TrainingProgress
    from src.training.data import TrainData
    from src.training.events import EpochResult
    from src.training.initial_weights import InitialWeights


def main(params: Params, context: StageContext) -> str:
    """Joins the other processes, if there are any, and trains on all devices."""
    pin_arithmetic(params)
    init_distributed()
    from src.data.prepared import load_manifest

    with peer_errors():
        manifest = load_manifest()
        set_cpu_devices(params, manifest.image_shape)
        # JAX is imported only now: it reads the number of devices once.
        from src.sharding import on_all_devices

        with on_all_devices(params):
            return train(params, context, manifest)


def train(params: Params, context: StageContext, manifest: Manifest) -> str:
    """Trains and writes the outputs; returns the line to print."""
    from src.models.checkpoint import weights_of
    from src.reporting.live import LiveView
    from src.resume.fingerprint import fingerprint
    from src.resume.resume import Resume
    from src.resume.snapshots import TrainingProgress
    from src.training.calibration import calibrate, find_output_layer
    from src.training.data import count_steps
    from src.training.early_stopping import build_early_stopping
    from src.training.events import EpochEnd, SavePoint
    from src.training.history import training_record
    from src.training.loop import fit
    from src.training.progress import ProgressBar
    from src.training.state import build_state, eval_model

    data, architecture, initial = load_inputs(params, manifest)
    steps_per_epoch = count_steps(len(data.train), params.batch_size)
    graphdef, state = build_state(params, architecture, steps_per_epoch, initial)
    head = None
    if params.calibrate:
        drawn = weights_of(eval_model(graphdef, state))
        head = find_output_layer(drawn, architecture, data.validation)
    name = fingerprint(params, manifest, initial)
    check_same("".join(name))
    context.check_inputs()  # the fingerprint names the sources that were imported
    view = LiveView(params, manifest.dataset, steps_per_epoch, name.run)
    with Resume(name, params.save_minutes) as resume, view:
        new = TrainingProgress(build_early_stopping(params))
        state, run, weights = resume.load(state) or (broadcast_arrays(state), new, {})
        view.follow(run.history)
        with ProgressBar(params.epochs, steps_per_epoch) as bar:
            for event in fit(state, graphdef, data, params, run.position):
                signals.defer()  # from now on a signal saves first
                if isinstance(event, SavePoint):
                    resume.maybe_save(event, run, weights)
                    continue
                bar.show(event)
                run.history.add(event)
                if isinstance(event, EpochEnd):
                    last = event.result
                    run.record(last)
                    if run.best is last:
                        weights = weights_of(event.model)
                    if stopped := run.monitor.reason or event.stopped or "":
                        break
        best = run.best or last
        record = training_record(params, manifest, best.epoch, stopped)
        record["initial_weights_sha256"] = initial.sha256 if initial else None
        record["warning"] = missing_classes(best, data, manifest)
        scores = None
        if head:
            weights, record["temperature"], scores, warning = calibrate(
                weights, architecture, head, data.validation
            )
        if is_main_process():
            tables = run.history.files(best, last, scores)
            write_outputs(context, tables, weights, architecture, record)
            if head and warning:
                print_warning("train", warning)
        # Barrier: otherwise the others would exit 0 even if this write failed.
        broadcast(b"written")
    return summary(params, run, best, stopped)


def load_inputs(
    params: Params, manifest: Manifest
) -> tuple[TrainData, Architecture, InitialWeights | None]:
    """The examples, the architecture, and the weights that `init_from` names."""
    from src.training.data import load_train_data
    from src.training.initial_weights import load_initial_weights
    from src.training.state import choose_architecture, normalize_pixels

    architecture = choose_architecture(params, manifest)
    initial = load_initial_weights(params, architecture, manifest.class_names)
    if initial and is_main_process():
        print(f"train: {initial.summary}", flush=True)  # noqa: T201
        if initial.warning:
            print_warning("train", initial.warning)
    data = load_train_data(manifest, params)
    architecture = normalize_pixels(architecture, params, data.train, initial)
    return data, architecture, initial


def write_outputs(
    context: StageContext,
    tables: dict[Path, bytes],
    weights: Weights,
    architecture: Architecture,
    record: dict[str, Any],
) -> None:
    """Writes history, metrics, the best weights and their record; prints the warning.

    All files are written, or none.
    """
    from src.models.checkpoint import save_trained
    from src.storage.reading import digest

    record = {**record, "history_sha256": digest(tables[paths.HISTORY])}
    with context.outputs() as outputs:
        outputs.write_all(tables)
        save_trained(weights, architecture, record, outputs)
    if record["warning"]:
        print_warning("train", record["warning"])


def missing_classes(best: EpochResult, data: TrainData, manifest: Manifest) -> str:
    """A warning if the saved model never predicts a class of validation, else ""."""
    import numpy as np

    from src.evaluation.metrics import prediction_warning

    names = manifest.class_names
    actual = np.bincount(data.validation.labels, minlength=len(names))
    return prediction_warning(actual, np.array(best.predicted), names, "validation")


def summary(
    params: Params, run: TrainingProgress, best: EpochResult, stopped: str
) -> str:
    """The line that the stage prints at its end."""
    remarks = "" if stopped == "epochs" else f" (stopped by {stopped})"
    remarks += " on the batches it trained on" if params.overfit_batches else ""
    remarks += ", begun on another machine" if run.from_other_machine else ""
    return (
        f"{params.model}: best epoch {best.epoch} of {len(run.history.epochs)}{remarks}"
        f", validation accuracy {best.validation.accuracy:.4f}, loss "
        f"{best.validation.loss:.4f} -> {paths.WEIGHTS}"
    )


if __name__ == "__main__":
    run_stage("train", main, sys.argv[1:])
