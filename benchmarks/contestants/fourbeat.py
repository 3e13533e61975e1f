"""Fourbeat's loop, as the train stage runs it."""

from pathlib import Path

import jax
from flax import nnx

from benchmarks.contestants import Prepare, Run
from benchmarks.task import FILTERS, HIDDEN, LEARNING_RATE, WEIGHT_DECAY, Task
from src.config.load import load_params
from src.data.examples import Examples
from src.models.architecture import Architecture
from src.models.checkpoint import with_weights
from src.sharding import device_put, on_all_devices, shard_state
from src.training.batches import BatchBlock
from src.training.chunk import ChunkSpan, run_chunk
from src.training.state import STEP_STREAM, build_state, seed_key, with_empty_metrics


def build(task: Task, log_every: int = 100) -> Prepare:
    """Trains chunk by chunk and reads the last loss of each chunk."""
    recipe = {
        "optimizer": "adamw",
        "schedule": "constant",
        "lr": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "clip_norm": None,
        "clip_value": None,
        "label_smoothing": 0.0,
        "augment": (),
        "precision": "float32",
        "accumulate": 1,
        "ema_decay": 0.0,
        "on_nan": "stop",
    }
    recipe |= {"model": task.model, "batch_size": task.batch}
    params = load_params(Path("params.yaml")).model_copy(update=recipe)
    # For good: all that follows runs on these devices.
    on_all_devices(params).__enter__()
    filters = FILTERS if task.model == "resnet" else None
    architecture = Architecture(
        task.model, HIDDEN[task.model], 0.0, task.image_shape, 10, filters, 1
    )
    graphdef, state = build_state(params, architecture, steps_per_epoch=1)
    train_state = nnx.merge(graphdef, state)
    model = with_weights(train_state.model, task.weights())
    state = shard_state(nnx.state(train_state._replace(model=model)))
    split = Examples(*map(device_put, task.split()))
    key = seed_key(0, STEP_STREAM)

    per_epoch = len(split.labels) // task.batch

    def prepare(steps: int) -> Run:
        epochs = -(-steps // per_epoch)
        # Whole epochs, as in training: `rows` has one shape, so one compilation.
        order = task.rows(epochs * per_epoch).reshape(epochs, per_epoch, task.batch)

        def run() -> list[float]:
            nonlocal state
            losses = []
            for epoch, indices in enumerate(map(device_put, order)):
                block = BatchBlock(split, indices, 0, per_epoch)
                last = min(per_epoch, steps - epoch * per_epoch)
                for start in range(0, last, log_every):
                    stop = min(start + log_every, last)
                    span = ChunkSpan(start, stop, stop, epoch * per_epoch)
                    state, chunk = run_chunk(
                        state, block, span, key, graphdef=graphdef, params=params
                    )
                    losses.append(float(jax.device_get(chunk).loss))
                state = with_empty_metrics(state)
            return losses

        return run

    return prepare
