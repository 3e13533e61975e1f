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
    from src.files import write_metrics
    from src.loop import Epoch, Steps, count_steps, fit, load_train_data
    from src.models.architecture import choose_architecture
    from src.monitor import Monitor
    from src.report import (
        Progress,
        training_metrics,
        training_record,
        write_history,
        write_steps,
    )
    from src.state import build_state

    manifest = load_manifest()
    architecture = choose_architecture(
        params.model,
        params.hidden,
        params.dropout,
        manifest.image_shape,
        len(manifest.class_names),
    )
    data = load_train_data(manifest)
    steps_per_epoch = count_steps(len(data.train.labels), params.batch_size)
    graph, state = build_state(params, architecture, steps_per_epoch)
    monitor = Monitor(
        params.monitor, params.monitor_mode, params.patience, params.min_delta
    )
    rows: list[Steps] = []
    epochs: list[Epoch] = []
    with Progress(params.epochs, steps_per_epoch) as progress:
        for event in fit(state, graph, data, params):
            progress.show(event)
            if isinstance(event, Steps):
                rows.append(event)
                continue
            epochs.append(event)
            if monitor.improves(event.epoch, event.value(params.monitor)):
                weights = weights_of(event.model)
            if monitor.exhausted:
                break

    best = epochs[monitor.best_epoch - 1]
    save_trained(weights, architecture, training_record(params, manifest, best.epoch))
    write_history(epochs)
    write_steps(rows)
    write_metrics(paths.METRICS / "train.json", training_metrics(epochs, best))
    return (
        f"{params.model}: best epoch {best.epoch} of {len(epochs)}, validation "
        f"accuracy {best.validation.accuracy:.4f}, loss {best.validation.loss:.4f} "
        f"-> {paths.WEIGHTS}"
    )


if __name__ == "__main__":
    run_stage("train", main)
