"""The loop around the compiled chunks: epochs, their order, their scores.

It is a generator: what happens with a chunk or an epoch - shown, kept, stopped after -
is the caller's.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax
import numpy as np
from flax import nnx

from src.config.params import Params
from src.errors import DivergedError
from src.evaluation.metrics import macro_averages
from src.sharding import shard_state
from src.training.chunk import ChunkResult, MetricSums, SkippedSteps, run_chunk
from src.training.data import TrainData, count_steps, epoch_order
from src.training.debug import run_chunk_watched
from src.training.early_stopping import build_plateau
from src.training.events import (
    EpochEnd,
    EpochResult,
    LogRow,
    LoopPosition,
    SavePoint,
    TrainMetrics,
    ValidationMetrics,
)
from src.training.pacing import Budget, ChunkSizer, next_multiple
from src.training.state import (
    STEPS,
    Graph,
    seed_key,
    with_empty_metrics,
    with_learning_rate,
)
from src.training.validation import ValidationSums, score


def fit(
    state: nnx.State,
    graph: Graph,
    data: TrainData,
    params: Params,
    position: LoopPosition | None = None,
) -> Iterator[LogRow | EpochEnd | SavePoint]:
    """Trains; yields every `log_every` steps, and after each epoch's validation.

    After each of these but the last, and about every second, comes a `SavePoint`.

    Args:
        state: consumed, see `run_chunk`.
        graph: of the `TrainState`.
        data: the training and validation split.
        params: the run's.
        position: where the state is from; None: the beginning.

    Raises:
        DivergedError: a loss or a gradient is not finite.
    """
    examples = len(data.train)
    steps = count_steps(examples, params.batch_size)
    key = seed_key(params.seed, STEPS)
    limits, pace = Budget(params), ChunkSizer()
    run = run_chunk_watched if params.debug else run_chunk
    now = position or LoopPosition(1, 0, None, 0, build_plateau(params))
    state = shard_state(state)
    for epoch in range(now.epoch, params.epochs + 1):
        order = epoch_order(examples, params.batch_size, params.seed, epoch)
        if now.taken == 0:
            state = with_empty_metrics(state, graph)
        done = (epoch - 1) * steps
        blocks = data.train.blocks(order, now.taken)
        block = next(blocks)
        while now.taken < steps and not limits.reason:
            if now.taken == block.stop:
                block = next(blocks)
            row_end = min(next_multiple(now.taken, params.log_every), steps)
            row_end = min(row_end, limits.steps - done)
            stop = pace.stop(now.taken, min(row_end, block.stop))
            state, result = run(
                *(state, block.examples, block.rows, now.taken, stop, done, key),
                graph=graph,
                params=params,
            )
            chunk: ChunkResult = jax.device_get(result)
            pace.learn(stop - now.taken)
            check_finite(chunk, epoch, done)
            now = replace(now, taken=stop)
            if stop == row_end:
                limits.look(done + stop)
                yield steps_of(chunk, now, done + stop)
                sums = tuple(map(float, chunk.sums))
                now = replace(now, before=sums, skipped=skipped_of(chunk))
            if stop < steps and not limits.reason:
                yield SavePoint(state, now, ends_epoch=False)
        validation = validate(state, graph, data, params)
        check_validation(validation, epoch, float(chunk.lr))
        result = result_of(chunk, validation, now, done + now.taken)
        end = "epochs" if epoch == params.epochs else limits.reason
        yield EpochEnd(result, nnx.merge(graph, state).best, end)
        if end:
            return
        if params.schedule == "plateau":
            rate = now.plateau.next_rate(epoch, result.value(params.monitor))
            state = with_learning_rate(state, graph, rate)
        now = replace(now, epoch=epoch + 1, taken=0, before=None)
        yield SavePoint(state, now, ends_epoch=True)


def steps_of(chunk: ChunkResult, position: LoopPosition, step: int) -> LogRow:
    """The row of steps.csv that ends here."""
    total = skipped_of(chunk)
    return LogRow(
        epoch=position.epoch,
        step=step,
        train=means(chunk.sums, position.before),
        lr=float(chunk.lr),
        gradient_norm=float(chunk.gradient_norm),
        skipped=total - position.skipped,
        skipped_steps=latest_skipped(chunk.skips, total - position.skipped),
        loss_scale=float(chunk.skips.scale) if chunk.skips else 1.0,
    )


def result_of(
    chunk: ChunkResult, validation: ValidationMetrics, position: LoopPosition, step: int
) -> EpochResult:
    """The row of history.csv of an epoch that ended with this chunk."""
    return EpochResult(
        epoch=position.epoch,
        step=step,
        train=means(chunk.sums),
        validation=validation,
        lr=float(chunk.lr),
        skipped=position.skipped,
    )


def validate(
    state: nnx.State, graph: Graph, data: TrainData, params: Params
) -> ValidationMetrics:
    """What the validation split says of the network."""
    split, classes = data.validation, data.classes
    tally = score(state, split, classes, graph=graph, top_k=params.top_k)
    return scores(jax.device_get(tally))


def skipped_of(chunk: ChunkResult) -> int:
    """How many steps were skipped since training began."""
    return int(chunk.skips.total) if chunk.skips else 0


def means(
    sums: MetricSums, before: Sequence[float] | None = None
) -> TrainMetrics | None:
    """The means over all that was added, or over what was added since `before`.

    None where nothing was. `before` has the numbers of a `MetricSums`.
    """
    old = before or [0.0] * len(sums)
    total, rest, correct, examples = (
        float(new) - then for new, then in zip(sums, old, strict=True)
    )
    return (
        TrainMetrics((total - rest) / examples, correct / examples)
        if examples
        else None
    )


def scores(tally: ValidationSums) -> ValidationMetrics:
    """The counts of a split, divided."""
    confusion = np.asarray(tally.confusion)
    examples = int(confusion.sum())
    return ValidationMetrics(
        loss=float(tally.loss) / examples,
        accuracy=int(np.trace(confusion)) / examples,
        **macro_averages(confusion),
        top_k=int(tally.top_k) / examples,
    )


def latest_skipped(skips: SkippedSteps | None, new: int) -> tuple[int, ...]:
    """The numbers of the `new` steps that were skipped last, at most 64."""
    if skips is None:
        return ()
    total, size = int(skips.total), len(skips.steps)
    places = range(total - min(new, size), total)
    return tuple(int(skips.steps[place % size]) for place in places)


def check_finite(chunk: ChunkResult, epoch: int, done: int) -> None:
    """Raises DivergedError where the loss or gradient make it hopeless to go on."""
    loss, norm, lr = (float(n) for n in (chunk.loss, chunk.gradient_norm, chunk.lr))
    tolerant = chunk.skips is not None
    if chunk.lost or not (tolerant or (math.isfinite(loss) and math.isfinite(norm))):
        so_far = ""
        if chunk.skips:
            before = int(chunk.skips.total) - 1
            so_far = f", after {before} skipped, one too many in a row"
        raise DivergedError(
            f"step {done + int(chunk.steps)} (epoch {epoch}){so_far}: expected finite "
            f"numbers, found loss {loss:g} and gradient norm {norm:g} at learning rate "
            f"{lr:g}. Lower lr, set clip_norm, or raise warmup_epochs; debug=true "
            "finds the operation."
        )


def check_validation(validation: ValidationMetrics, epoch: int, lr: float) -> None:
    """Raises DivergedError where the validation loss is not finite."""
    if not math.isfinite(validation.loss):
        raise DivergedError(
            f"epoch {epoch}: expected a finite validation loss, found "
            f"{validation.loss:g} at learning rate {lr:g}. Lower lr, or set clip_norm."
        )
