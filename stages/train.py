"""Trains on data/prepared and saves the weights of the best validation epoch.

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
    # Imported here: JAX takes a second, and a wrong parameter is reported before.
    from src.sharding import on_all_devices

    with losses_reported(), on_all_devices(params):
        return train(params)


def train(params: Params) -> str:
    """Trains; writes the best weights, their record, the history and the metrics."""
    from src import signals
    from src.data.prepared import load_manifest
    from src.models.checkpoint import save_trained, weights_of
    from src.resume.fingerprint import fingerprint
    from src.resume.resume import Resume
    from src.resume.snapshots import Progress, Saved
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
    graphdef, state = build_state(params, architecture, steps_per_epoch)
    name = fingerprint(params, manifest)
    check_same("".join(name))
    check_unchanged()  # the fingerprint names the sources that were imported
    with Resume(name, params.save_minutes) as resume:
        state, run, weights = resume.load(state) or Saved(
            broadcast_arrays(state), Progress(build_early_stopping(params)), weights={}
        )
        with ProgressBar(params.epochs, steps_per_epoch) as bar:
            for event in fit(state, graphdef, data, params, run.position):
                signals.defer()
                if isinstance(event, SavePoint):
                    resume.keep(event, run, weights)
                    continue
                bar.show(event)
                run.history.add(event)
                if not isinstance(event, EpochEnd):
                    continue
                last = event.result
                run.monitor.update(last.epoch, last.value(params.monitor))
                if run.monitor.best.epoch == last.epoch or run.best is None:
                    run.best, weights = last, weights_of(event.model)
                stopped = run.monitor.reason or event.stopped or ""
                if stopped:
                    break

        best = run.best or last
        record = training_record(params, manifest, best.epoch, stopped)
        if is_main_process():
            with outputs():
                record["history_sha256"] = run.history.write(best, last)
                save_trained(weights, architecture, record)
        # Barrier: otherwise the others would exit 0 even if this write failed.
        broadcast(b"written")
    why = "" if stopped == "epochs" else f" (stopped by {stopped})"
    why += " on the very batches it learned from" if params.overfit_batches else ""
    why += ", begun on another machine" if run.mixed else ""
    return (
        f"{params.model}: best epoch {best.epoch} of {len(run.history.epochs)}{why}, "
        f"validation accuracy {best.validation.accuracy:.4f}, loss "
        f"{best.validation.loss:.4f} -> {paths.WEIGHTS}"
    )


if __name__ == "__main__":
    run_stage("train", main)
