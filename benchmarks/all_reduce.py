"""Times an all-reduce without training: `python -m benchmarks.all_reduce COUNT`.

Sums COUNT float32 numbers over all devices, in one process or in one of several. Prints
a line of JSON with the seconds of one all-reduce.
"""

import json
import statistics
import sys
import time
from functools import partial

from src.runtime.cores import share_cores
from src.runtime.processes import init_distributed

ROUNDS, REPEATS = 7, 20


def main() -> None:
    """Measures and prints."""
    share_cores()
    init_distributed()
    import jax
    import numpy as np
    from jax.sharding import Mesh, PartitionSpec

    mesh = Mesh(np.array(jax.devices()), ("batch",))
    everywhere = PartitionSpec()

    @jax.jit
    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=everywhere,
        out_specs=everywhere,
        check_vma=False,
    )
    def sums(numbers: jax.Array) -> jax.Array:
        def body(_: int, numbers: jax.Array) -> jax.Array:
            # Divided by the device count, so the values stay the same.
            return jax.lax.psum(numbers, "batch") / mesh.size

        total: jax.Array = jax.lax.fori_loop(0, REPEATS, body, numbers)
        return total

    numbers = np.ones(int(sys.argv[1]), np.float32)
    sums(numbers).block_until_ready()
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        sums(numbers).block_until_ready()
        seconds.append((time.perf_counter() - began) / REPEATS)
    print(json.dumps({"seconds": statistics.median(seconds)}), flush=True)


if __name__ == "__main__":
    main()
