"""Training steps of a chunk, with the key and span that the tests share."""

from src.training.chunk import ChunkSpan, run_chunk
from src.training.state import STEP_STREAM, seed_key

KEY = seed_key(0, STEP_STREAM)


def run_steps(
    state, split, indices, start, stop, steps_before=0, *, run=run_chunk, **static
):
    """The steps `start` to `stop`; one row of steps.csv, which ends with the epoch."""
    span = ChunkSpan(start, stop, len(indices), steps_before)
    return run(state, split, indices, span, KEY, **static)
