"""The machine's rate of float32 matrix products, without training."""

import jax
import jax.numpy as jnp

from benchmarks.contestants import Prepare, Run
from benchmarks.task import Task

SIDE = 2048
FLOPS = 2 * SIDE**3


def build(task: Task) -> Prepare:
    """Multiplies matrices; one step is one GFLOP."""
    square = jnp.full((SIDE, SIDE), 1 / SIDE)
    product = jax.jit(jnp.matmul)

    def prepare(steps: int) -> Run:
        def run() -> list[float]:
            result = square
            for _ in range(max(round(steps * 1e9 / FLOPS), 1)):
                result = product(result, square)
            result.block_until_ready()
            return []

        return run

    return prepare
