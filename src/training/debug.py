"""What `debug: true` adds: the layers, their health, and where a NaN comes from.

The chunks are the same compiled ones, so a run goes wrong here exactly as it did
without `debug`. The chunk that went wrong is then played again from a copy of its first
state, one step at a time, and the last good step once more operation by operation.
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
from src.training.chunk import ChunkResult, run_chunk
from src.training.losses import cross_entropy
from src.training.state import Graph
from src.training.step import step_batch, train_step

SOURCES = Path(__file__).parents[1]


def run_chunk_watched(
    state: nnx.State,
    split: Examples,
    rows: jax.Array,
    start: int,
    stop: int,
    done: int,
    key: jax.Array,
    *,
    graph: Graph,
    params: Params,
) -> tuple[nnx.State, ChunkResult]:
    """`run_chunk`, with the same bits; prints how the layers are after it.

    Raises:
        DivergedError: a step went wrong, and this operation gave the first NaN. What
            overflows without one is left to the caller.
    """

    def run(state: nnx.State, start: int, stop: int) -> tuple[nnx.State, ChunkResult]:
        return run_chunk(
            *(copied(state), split, rows, start, stop, done, key),
            graph=graph,
            params=params,
        )

    def health(state: nnx.State, step: int) -> tuple[Batch, jax.Array]:
        step_key = jax.random.fold_in(key, done + step)
        batch = step_batch(split, rows[step], step_key, params)
        print(described_health(nnx.merge(graph, state).model, batch))  # noqa: T201
        return batch, step_key

    if done == start == 0:
        print(described_layers(nnx.merge(graph, state).model, split))  # noqa: T201
    after, chunk = run(state, start, stop)
    if not went_wrong(chunk, graph, state, params):
        print(f"after step {done + stop}:")  # noqa: T201
        health(after, stop - 1)
        return after, chunk
    latest: list[tuple[int, nnx.State]] = []  # two steps, each with the state before it
    for step in range(start, stop):
        following, replayed = run(state, step, step + 1)
        latest = [*latest[-1:], (step, state)]
        if went_wrong(replayed, graph, state, params):
            break
        state = following
    # A NaN in the weights comes from the step before the one whose loss shows it.
    for step, suspect in latest:
        number = done + step + 1
        print(f"before step {number}:")  # noqa: T201
        explain(suspect, graph, *health(suspect, step), params, number)
    return after, chunk


def copied(state: nnx.State) -> nnx.State:
    """The state in buffers of its own: `run_chunk` consumes what it is given."""
    copy: nnx.State = jax.tree.map(jnp.copy, state)
    return copy


def went_wrong(
    chunk: ChunkResult, graph: Graph, before: nnx.State, params: Params
) -> bool:
    """Whether a chunk has a step that is not finite; `before` is the state before it.

    With float16, an overflow is how the loss scale is found, not a fault.
    """
    if chunk.skips is None:
        finite = np.isfinite(chunk.loss) & np.isfinite(chunk.gradient_norm)
        return bool(chunk.lost | ~finite)
    if params.precision == "float16":
        return bool(chunk.lost)
    return int(chunk.skips.total) > int(nnx.merge(graph, before).guard.skipped[...])


def explain(
    state: nnx.State,
    graph: Graph,
    batch: Batch,
    key: jax.Array,
    params: Params,
    number: int,
) -> None:
    """Takes one step, each operation for itself; raises DivergedError at the first NaN.

    Args:
        state: from before the step; left as it is.
        graph: of the `TrainState`.
        batch: of the step.
        key: of the step.
        params: the run's.
        number: of the step, from 1.
    """
    parts = nnx.merge(graph, copied(state))
    try:
        with jax.disable_jit(), jax.debug_nans(True):
            train_step(parts, batch, key, params)
    except FloatingPointError as error:
        # Of an operation in the backward pass JAX says where the forward one stands.
        origin = error.__cause__ or error
        frames = traceback.extract_tb(origin.__traceback__)
        own = [frame for frame in frames if SOURCES in Path(frame.filename).parents]
        place = Path(own[-1].filename).relative_to(SOURCES.parent)
        where = f"{place}, line {own[-1].lineno}, in {own[-1].name}: {own[-1].line}"
        raise DivergedError(
            f"step {number}: expected finite numbers, found the first NaN in {where}: "
            f"{str(error).splitlines()[0]}. Lower lr, set clip_norm, or mend it."
        ) from None


def described_layers(model: Model, split: Examples) -> str:
    """The shape of every layer's input, output and weights, as a table."""
    plain = {"width": 100, "color_system": None}
    table: str = nnx.tabulate(model, split.images[:1], console_kwargs=plain)
    return table.rstrip()


def described_health(model: Model, batch: Batch) -> str:
    """A row per kernel or bias: its norm, its gradient's, and how many units are dead.

    A unit is dead on a batch when no example changes its bias: nothing goes through its
    relu.
    """
    gradient = gradient_of(model, batch)
    weights = dict(nnx.to_flat_state(nnx.state(model, nnx.Param)))
    lines = [f"{'weights':<18}{'shape':<18}{'norm':>10}{'gradient':>12}{'dead':>12}"]
    for path, slope in nnx.to_flat_state(gradient):
        values, slopes = np.asarray(weights[path][...]), np.asarray(slope[...])
        dead = f"{(slopes == 0).sum()} of {slopes.size}" if slopes.ndim == 1 else ""
        with np.errstate(over="ignore", invalid="ignore"):  # then it says inf or nan
            norms = np.linalg.norm(values), np.linalg.norm(slopes)
        lines.append(
            f"{'.'.join(map(str, path)):<18}{values.shape!s:<18}"
            f"{norms[0]:>10.4g}{norms[1]:>12.4g}{dead:>12}"
        )
    return "\n".join(lines)


@nnx.jit
def gradient_of(model: Model, batch: Batch) -> nnx.State:
    """The gradient of the mean loss, without dropout, smoothing or mixed labels."""

    def loss_fn(model: Model) -> jax.Array:
        return cross_entropy(model(batch.images), batch.labels, smoothing=0.0).mean()

    gradient: nnx.State = nnx.grad(loss_fn)(model)
    return gradient
