"""Trains on data/prepared and keeps the epoch that validates best.

Run by `dvc repro train`; every number it uses comes from params.yaml.
"""

from src import paths
from src.config.params import Params
from src.runtime.determinism import pin_arithmetic
from src.runtime.processes import (
    broadcast,
    broadcast_arrays,
    check_same,
    init_distributed,
    is_main_process,
    losses_reported,
)
from src.runtime.stage import run_stage


def main(params: Params) -> str:
    """Joins the other processes, if there are any, and trains on all devices."""
    pin_arithmetic(params)
    init_distributed()
    # Here, not above: JAX takes a second, and a wrong parameter was answered before.
    from src.sharding import on_all_devices

    with losses_reported(), on_all_devices(params):
        return train(params)


def train(params: Params) -> str:
    """Trains; writes the best weights, what they are, the history and the metrics."""
    from src import signals
    from src.data.prepared import load_manifest
    from src.models.checkpoint import save_trained, weights_of
    from src.resume.fingerprint import fingerprint
    from src.resume.resume import Resume
    from src.resume.snapshots import Snapshot, TrainingProgress
    from src.storage.lineage import check_unchanged, outputs
    from src.training.data import count_steps, load_train_data
    from src.training.early_stopping import build_early_stopping
    from src.training.events import EpochEnd, SavePoint
    from src.training.history import training_record
    from src.training.loop import fit
    from src.training.progress import ProgressBar
    from src.training.state import build_state, choose_architecture

    manifest = load_manifest()
    architecture = choose_architecture(params, manifest)
    data = load_train_data(manifest, params)
    steps_per_epoch = count_steps(len(data.train), params.batch_size)
    graph, state = build_state(params, architecture, steps_per_epoch)
    name = fingerprint(params, manifest)
    check_same("".join(name))
    check_unchanged()  # the sources that are named there are those that were imported
    with Resume(name, params.save_minutes) as resume:
        state, run, weights = resume.load(state) or Snapshot(
            broadcast_arrays(state),
            TrainingProgress(build_early_stopping(params)),
            weights={},
        )
        with ProgressBar(params.epochs, steps_per_epoch) as bar:
            for event in fit(state, graph, data, params, run.position):
                signals.defer()
                if isinstance(event, SavePoint):
                    resume.maybe_save(event, run, weights)
                    continue
                bar.show(event)
                run.history.add(event)
                if not isinstance(event, EpochEnd):
                    continue
                last = event.result
                better = run.monitor.improves(last.epoch, last.value(params.monitor))
                if better or run.best is None:
                    run.best, weights = last, weights_of(event.model)
                stopped = run.monitor.reason or event.end or ""
                if stopped:
                    break

        best = run.best or last
        record = training_record(params, manifest, best.epoch, stopped)
        if is_main_process():
            with outputs():
                record["history_sha256"] = run.history.write(best, last)
                save_trained(weights, architecture, record)
        broadcast(b"written")  # else the others would end well, whatever happened here
    why = "" if stopped == "epochs" else f" (stopped by {stopped})"
    why += " on the very batches it learned from" if params.overfit_batches else ""
    why += ", begun on another machine" if run.from_other_machine else ""
    return (
        f"{params.model}: best epoch {best.epoch} of {len(run.history.epochs)}{why}, "
        f"validation accuracy {best.validation.accuracy:.4f}, loss "
        f"{best.validation.loss:.4f} -> {paths.WEIGHTS}"
    )


if __name__ == "__main__":
    run_stage("train", main)
