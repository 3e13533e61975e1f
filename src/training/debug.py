"""`debug: true`: prints the layers and their health, and finds the first NaN.

Debugging runs the same compiled chunks, so a run diverges exactly as one on one device
without `debug`. The chunk that diverged is then replayed step by step from a copy of
its first state, and the last finite step once more operation by operation.
"""

import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.config.params import Params
from src.data.examples import Batch, Examples
from src.errors import DivergedError
from src.models.build import Model
from src.models.checkpoint import dotted
from src.training.batches import BatchBlock
from src.training.chunk import ChunkResult, ChunkSpan, run_chunk
from src.training.losses import cross_entropy
from src.training.state import TrainGraph, TrainState
from src.training.step import step_batch, train_step

SRC_FOLDER = Path(__file__).parents[1]


def run_chunk_watched(
    state: nnx.State,
    block: BatchBlock,
    span: ChunkSpan,
    key: jax.Array,
    *,
    graphdef: TrainGraph,
    params: Params,
) -> tuple[nnx.State, ChunkResult]:
    """`run_chunk` with the same bits; prints the health of every layer after it.

    Raises:
        DivergedError: a step gave a NaN; names the operation. An overflow without a NaN
            is left to the caller.
    """
    train_state = nnx.merge(graphdef, state)
    if span.steps_before == span.start == 0:
        print(layer_table(train_state.model, block.examples))  # noqa: T201
    replay = Replay(block, span, key, graphdef, params)
    after, chunk = replay.run(state, span.start, span.stop)
    if has_failed(chunk, train_state, params):
        replay.explain(state)
    else:
        batch, _ = replay.batch(span.stop - 1)
        print(f"after step {span.steps_before + span.stop}:")  # noqa: T201
        print(health_table(nnx.merge(graphdef, after).model, batch))  # noqa: T201
    return after, chunk


class Replay:
    """Runs steps of one chunk again; arguments as in `run_chunk`."""

    def __init__(
        self,
        block: BatchBlock,
        span: ChunkSpan,
        key: jax.Array,
        graphdef: TrainGraph,
        params: Params,
    ) -> None:
        self.block, self.span, self.key = block, span, key
        self.graphdef, self.params = graphdef, params

    def run(
        self, state: nnx.State, start: int, stop: int
    ) -> tuple[nnx.State, ChunkResult]:
        """The steps from `start` to `stop`; `state` is not donated."""
        span = self.span._replace(start=start, stop=stop)
        return run_chunk(
            copy_arrays(state),
            self.block,
            span,
            self.key,
            graphdef=self.graphdef,
            params=self.params,
        )

    def batch(self, step: int) -> tuple[Batch, jax.Array]:
        """The batch of a step of the epoch, and the step's key."""
        key = jax.random.fold_in(self.key, self.span.steps_before + step)
        indices = self.block.batch_indices[step]
        return step_batch(self.block, indices, key, self.params), key

    def explain(self, state: nnx.State) -> None:
        """Raises DivergedError for the operation that gave the first NaN.

        Args:
            state: before the chunk.
        """
        before: list[tuple[int, nnx.State]] = []  # two steps, each with its state
        for step in range(self.span.start, self.span.stop):
            following, chunk = self.run(state, step, step + 1)
            before = [*before[-1:], (step, state)]
            if has_failed(chunk, nnx.merge(self.graphdef, state), self.params):
                break
            state = following
        # NaN weights come from the step before the one whose loss shows them.
        for step, suspect in before:
            number = self.span.steps_before + step + 1
            batch, key = self.batch(step)
            train_state = nnx.merge(self.graphdef, copy_arrays(suspect))
            print(f"before step {number}:")  # noqa: T201
            print(health_table(train_state.model, batch))  # noqa: T201
            check_operations(train_state, batch, key, self.params, number)


def copy_arrays(state: nnx.State) -> nnx.State:
    """The state in new buffers: `run_chunk` donates the ones that it is given."""
    copy: nnx.State = jax.tree.map(jnp.copy, state)
    return copy


def has_failed(chunk: ChunkResult, before: TrainState, params: Params) -> bool:
    """Whether a step of the chunk was not finite; `before` is the state before it.

    With float16 an overflow only lowers the loss scale.
    """
    if chunk.skips is None or before.loss_scaler is None:
        finite = np.isfinite(chunk.loss) & np.isfinite(chunk.grad_norm)
        return bool(chunk.diverged | ~finite)
    if params.precision == "float16":
        return bool(chunk.diverged)
    return int(chunk.skips.total) > int(before.loss_scaler.skipped[...])


def check_operations(
    train_state: TrainState, batch: Batch, key: jax.Array, params: Params, number: int
) -> None:
    """Runs one step operation by operation; raises DivergedError at the first NaN.

    Args:
        train_state: before the step; updated in place.
        batch: the batch of the step.
        key: the key of the step.
        params: the parameters of the run.
        number: the step's number, from 1.
    """
    try:
        with jax.disable_jit(), jax.debug_nans(True):
            train_step(train_state, batch, key, params)
    except FloatingPointError as error:
        # For an operation of the backward pass JAX names the forward one as its cause.
        origin = error.__cause__ or error
        frames = traceback.extract_tb(origin.__traceback__)
        own = [frame for frame in frames if SRC_FOLDER in Path(frame.filename).parents]
        place = Path(own[-1].filename).relative_to(SRC_FOLDER.parent)
        where = f"{place}, line {own[-1].lineno}, in {own[-1].name}: {own[-1].line}"
        raise DivergedError(
            f"step {number}: expected finite numbers, found the first NaN in {where}: "
            f"{str(error).splitlines()[0]}. Lower lr, set clip_norm, or fix that line."
        ) from None


def layer_table(model: Model, split: Examples) -> str:
    """A table of every layer's input, output and weight shapes."""
    model = in_eval_mode(model)
    plain = {"width": 100, "color_system": None}
    table: str = nnx.tabulate(model, split.images[:1], console_kwargs=plain)
    return table.rstrip()


def health_table(model: Model, batch: Batch) -> str:
    """A row per kernel or bias: its norm, the norm of its gradient, and dead units.

    A unit is dead on a batch when its bias has a zero gradient for every example.
    """
    model = in_eval_mode(model)
    grads = eval_grads(model, batch)
    weights = dict(nnx.to_flat_state(nnx.state(model, nnx.Param)))
    names = [dotted(path) for path in weights]
    width = max(18, *(len(name) + 2 for name in names))
    lines = [
        f"{'weights':<{width}}{'shape':<18}{'norm':>10}{'gradient':>12}{'dead':>12}"
    ]
    for path, variable in nnx.to_flat_state(grads):
        values, grad = np.asarray(weights[path][...]), np.asarray(variable[...])
        dead = f"{(grad == 0).sum()} of {grad.size}" if grad.ndim == 1 else ""
        with np.errstate(over="ignore", invalid="ignore"):  # the table shows inf or nan
            norms = np.linalg.norm(values), np.linalg.norm(grad)
        lines.append(
            f"{dotted(path):<{width}}{values.shape!s:<18}"
            f"{norms[0]:>10.4g}{norms[1]:>12.4g}{dead:>12}"
        )
    return "\n".join(lines)


def in_eval_mode(model: Model) -> Model:
    """A copy without dropout, and with the statistics of training."""
    copy = nnx.clone(model)
    copy.eval()  # type: ignore[no-untyped-call]
    return copy


@nnx.jit
def eval_grads(model: Model, batch: Batch) -> nnx.State:
    """Gradients of the mean loss in eval mode, without label smoothing and mixup."""

    def loss_fn(model: Model) -> jax.Array:
        return cross_entropy(model(batch.images), batch.labels, smoothing=0.0).mean()

    grads: nnx.State = nnx.grad(loss_fn)(model)
    return grads
