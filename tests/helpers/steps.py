"""Training steps of a chunk, with the key and span that the tests share."""

from src.training.batches import BatchBlock
from src.training.chunk import ChunkSpan, run_chunk
from src.training.state import STEP_STREAM, seed_key

KEY = seed_key(0, STEP_STREAM)


def run_steps(
    state, split, indices, start, stop, steps_before=0, *, run=run_chunk, **static
):
    """Steps `start` to `stop`: one row of steps.csv, at the end of the epoch."""
    block = BatchBlock(split, indices, 0, len(indices))
    span = ChunkSpan(start, stop, len(indices), steps_before)
    return run(state, block, span, KEY, **static)
