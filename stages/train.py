"""Trains on data/prepared and keeps the epoch that validates best.

Run by `dvc repro train`; every number it uses comes from params.yaml.
"""

from src import paths
from src.config import Params
from src.stage import run_stage


def main(params: Params) -> str:
    """Trains; writes the best weights, what they are, the history and the metrics."""
    # Here, not above: JAX takes a second, and a wrong parameter was answered before.
    from src.checkpoint import save_trained, weights_of
    from src.data.prepared import load_manifest
    from src.data.training import count_steps, load_train_data
    from src.loop import Epoch, fit
    from src.monitor import Monitor
    from src.report import History, Progress, training_record
    from src.state import build_state, choose_architecture

    manifest = load_manifest()
    architecture = choose_architecture(params, manifest)
    data = load_train_data(manifest, params)
    steps_per_epoch = count_steps(len(data.train.labels), params.batch_size)
    graph, state = build_state(params, architecture, steps_per_epoch)
    monitor = Monitor(params)
    history = History()
    with Progress(params.epochs, steps_per_epoch) as progress:
        for event in fit(state, graph, data, params):
            progress.show(event)
            history.add(event)
            if not isinstance(event, Epoch):
                continue
            better = monitor.improves(event.epoch, event.value(params.monitor))
            if better or event.epoch == 1:
                best, weights = event, weights_of(event.model)
            last = event
            stopped = monitor.reason or event.end or ""
            if stopped:
                break

    record = training_record(params, manifest, best.epoch, stopped)
    save_trained(weights, architecture, record)
    history.write(best, last)
    why = "" if stopped == "epochs" else f" (stopped by {stopped})"
    return (
        f"{params.model}: best epoch {best.epoch} of {len(history.epochs)}{why}, "
        f"validation accuracy {best.validation.accuracy:.4f}, loss "
        f"{best.validation.loss:.4f} -> {paths.WEIGHTS}"
    )


if __name__ == "__main__":
    run_stage("train", main)
