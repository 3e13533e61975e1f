"""The training loop around the compiled chunks.

It is a generator. The caller decides what happens with each event: print it, save it,
stop after it.
"""

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import replace

import jax
from flax import nnx

from src.config.params import Params
from src.errors import DivergedError
from src.sharding import shard_state
from src.training.chunk import ChunkResult, ChunkSpan, run_chunk
from src.training.data import TrainData, count_steps, epoch_order, weighted_blocks
from src.training.debug import run_chunk_watched
from src.training.events import EpochEnd, EpochResult, LogRow, LoopPosition, SavePoint
from src.training.optimizer import with_unit_lr
from src.training.pacing import Budget, ChunkSizer, next_multiple
from src.training.state import (
    STEP_STREAM,
    TrainGraph,
    seed_key,
    with_empty_metrics,
    with_peak_rate,
)
from src.training.validation import validate


def fit(
    state: nnx.State,
    graphdef: TrainGraph,
    data: TrainData,
    params: Params,
    position: LoopPosition | None = None,
) -> Iterator[LogRow | EpochEnd | SavePoint]:
    """Trains; yields a `LogRow` every `log_every` steps and an `EpochEnd` per epoch.

    Also yields a `SavePoint` about every second and after each epoch but the last.

    Args:
        state: of the `TrainState`; consumed, see `run_chunk`.
        graphdef: of the `TrainState`.
        data: the training and validation split.
        params: the parameters of the run.
        position: where `state` was saved; None: the beginning.

    Raises:
        DivergedError: a loss or a gradient is not finite.
    """
    budget, sizer = Budget(params), ChunkSizer()
    position = position or LoopPosition.start(params)
    state = shard_state(state)
    for epoch in range(position.epoch, params.epochs + 1):
        if position.step_in_epoch == 0:
            state = with_empty_metrics(state)
        state, position, chunk = yield from train_epoch(
            state, graphdef, data, params, position, budget, sizer
        )
        step = steps_before(epoch, data, params) + position.step_in_epoch
        validation = validate(state, graphdef, data, params.top_k)
        check_validation(validation.metrics.loss, epoch, float(chunk.lr))
        result = EpochResult.of(chunk, validation, position, step)
        stopped = "epochs" if epoch == params.epochs else budget.exhausted
        yield EpochEnd(result, graphdef, state, stopped)
        if stopped:
            return
        if params.schedule == "plateau":
            plateau = position.plateau.after(epoch, result.value(params.monitor))
            position = replace(position, plateau=plateau)
            state = with_peak_rate(state, graphdef, plateau.rate)
        position = replace(position, epoch=epoch + 1, step_in_epoch=0, row_start=None)
        yield SavePoint(state, position, ends_epoch=True)


def train_epoch(
    state: nnx.State,
    graphdef: TrainGraph,
    data: TrainData,
    params: Params,
    position: LoopPosition,
    budget: Budget,
    sizer: ChunkSizer,
) -> Generator[LogRow | SavePoint, None, tuple[nnx.State, LoopPosition, ChunkResult]]:
    """Takes the steps of one epoch from `position` on, or until `budget` is exhausted.

    Arguments as in `fit`. Returns the last state and position, and the last chunk.
    """
    epoch, labels, batch_size = position.epoch, data.train.labels, params.batch_size
    steps_per_epoch = count_steps(len(labels), batch_size)
    earlier = steps_before(epoch, data, params)
    order = epoch_order(labels, batch_size, params.seed, epoch, params.sampling_power)
    key = seed_key(params.seed, STEP_STREAM)
    run = run_chunk_watched if params.debug else run_chunk
    step_params = with_unit_lr(params)
    first = position.step_in_epoch
    for block in weighted_blocks(data.train, order, data.classes, params, first):
        while position.step_in_epoch < block.stop and not budget.exhausted:
            start = position.step_in_epoch
            row_end = min(
                next_multiple(start, params.log_every),
                steps_per_epoch,
                budget.max_steps - earlier,
            )
            stop = sizer.chunk_end(start, min(row_end, block.stop))
            span = ChunkSpan(start, stop, row_end, earlier)
            began = time.monotonic()
            state, on_device = run(
                state, block, span, key, graphdef=graphdef, params=step_params
            )
            chunk: ChunkResult = jax.device_get(on_device)
            sizer.update(stop - start, time.monotonic() - began)
            check_finite(chunk, epoch, earlier)
            position = replace(position, step_in_epoch=stop)
            if stop == row_end:
                budget.update(earlier + stop)
                yield LogRow.of(chunk, position, earlier + stop)
                position = position.after_row(chunk)
            if stop < steps_per_epoch and not budget.exhausted:
                yield SavePoint(state, position, ends_epoch=False)
        if budget.exhausted:
            break
    return state, position, chunk


def steps_before(epoch: int, data: TrainData, params: Params) -> int:
    """Steps of the epochs before `epoch`."""
    return (epoch - 1) * count_steps(len(data.train), params.batch_size)


def check_finite(chunk: ChunkResult, epoch: int, steps_before: int) -> None:
    """Raises DivergedError where training cannot recover."""
    loss, norm, lr = (float(n) for n in (chunk.loss, chunk.grad_norm, chunk.lr))
    tolerant = chunk.skips is not None
    if chunk.diverged or not (tolerant or math.isfinite(loss + norm)):
        so_far = ""
        if chunk.skips:
            before = int(chunk.skips.total) - 1
            so_far = f", after {before} skipped, one too many in a row"
        step = steps_before + int(chunk.steps)
        repair = (
            "Lower lr, set clip_norm, or raise warmup_epochs; debug=true finds the "
            "operation."
            if step > 1
            else "No weight has changed yet: debug=true finds the operation to change."
        )
        raise DivergedError(
            f"step {step} (epoch {epoch}){so_far}: expected finite numbers, found loss "
            f"{loss:g} and gradient norm {norm:g} at learning rate {lr:g}. {repair}"
        )


def check_validation(loss: float, epoch: int, lr: float) -> None:
    """Raises DivergedError where the validation loss is not finite."""
    if not math.isfinite(loss):
        raise DivergedError(
            f"epoch {epoch}: expected a finite validation loss, found {loss:g} at "
            f"learning rate {lr:g}. Lower lr, or set clip_norm."
        )
