"""Batches on the device, in the order that is asked for.

A split that fits lies there whole. A larger one stays on disk: while the device
computes, a thread reads the next batches and copies them there. Either way a batch has
the same bits.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import get_mesh

from src.config.params import Params
from src.data.examples import Examples
from src.runtime import processes
from src.sharding import device_put, local_slice, on_mesh, place_batches

PREFETCH_BYTES = 32 << 20  # bytes of images that are gathered at a time
# What a split may take: a quarter of the device's memory where it has its own. On CPU a
# copy gains little over the page cache, which holds the same bytes.
SHARE_OF_DEVICE, ON_CPU = 0.25, 256 << 20


class BatchBlock(NamedTuple):
    """Some batches: batch `n` has the images `examples.images[rows[n]]`."""

    examples: Examples  # `[examples, ...]`, or `[batches, batch, ...]`
    rows: jax.Array  # int32 `[batches of the order, batch]`, or `[batches]`
    start: int  # its first batch
    stop: int  # the batch before which it ends


class BatchSource(Protocol):
    """The examples of a split, to be asked for in any order."""

    def __len__(self) -> int:
        """How many there are."""

    def blocks(self, order: np.ndarray, first: int = 0) -> Iterator[BatchBlock]:
        """The batches of an order, one after the other.

        Args:
            order: int32 `[batches, batch]`, the examples of each.
            first: the batch to begin with.
        """


class DeviceBatches:
    """A split that lies on the device."""

    def __init__(self, split: Examples) -> None:
        self.examples = Examples(*map(device_put, split))

    def __len__(self) -> int:
        return len(self.examples.labels)

    def blocks(self, order: np.ndarray, first: int = 0) -> Iterator[BatchBlock]:
        """All batches at once."""
        yield BatchBlock(self.examples, device_put(order), first, len(order))


class StreamedBatches:
    """A split that stays where it is; a process reads its share of each batch alone."""

    def __init__(self, split: Examples) -> None:
        self.images, self.labels = split

    def __len__(self) -> int:
        return len(self.labels)

    def blocks(self, order: np.ndarray, first: int = 0) -> Iterator[BatchBlock]:
        """Blocks of about `PREFETCH_BYTES`; the next one is read in a thread."""
        batches, batch = order.shape
        image = math.prod(self.images.shape[1:])
        size = min(max(PREFETCH_BYTES // (batch * image), 1), batches)
        rows = device_put(np.arange(batches, dtype=np.int32) % size)
        mesh = get_mesh()

        def gather(start: int) -> Examples:
            with on_mesh(mesh):
                return self.gather(order, start, size)

        starts = range(first // size * size, batches, size)
        with ThreadPoolExecutor(1) as thread:
            ahead = thread.submit(gather, starts[0])
            for start in starts:
                examples = ahead.result()
                if start + size < batches:
                    ahead = thread.submit(gather, start + size)
                stop = min(start + size, batches)
                yield BatchBlock(examples, rows, max(start, first), stop)

    def gather(self, order: np.ndarray, start: int, size: int) -> Examples:
        """The batches from `start` on, on the device: `[size, batch, ...]`.

        Where the order ends sooner, its last batch is repeated: all blocks are of one
        size, so that one compilation serves all.
        """
        wanted = order[np.minimum(np.arange(start, start + size), len(order) - 1)]
        own = wanted[:, local_slice(order.shape[1])]
        images = self.images[own.reshape(-1)]
        return Examples(
            place_batches(images.reshape(*own.shape, *images.shape[1:])),
            device_put(self.labels[wanted]),
        )


def build_batches(split: Examples, params: Params) -> BatchSource:
    """A split on the device if it fits there, else from where it lies."""
    size = math.prod(split.images.shape)
    limit = params.resident_megabytes
    fits = size <= (room() if limit is None else limit * 10**6)
    # With several processes each reads its own share alone.
    if not (fits and processes.is_single_process()):
        return StreamedBatches(split)
    return DeviceBatches(Examples(split.images[:], split.labels))


def room() -> float:
    """How many bytes of images the device takes."""
    device = jax.devices()[0]
    memory = None if device.platform == "cpu" else device.memory_stats()
    return SHARE_OF_DEVICE * memory["bytes_limit"] if memory else ON_CPU
