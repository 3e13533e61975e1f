"""Batches on the device, in a given order.

A split that fits stays on the device. A larger one stays on disk: a thread reads and
uploads the next batches while the device computes. Both give the same bits.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import get_mesh

from src.config.params import Params
from src.data.examples import Examples, select_images
from src.data.lazy_images import Images
from src.runtime import processes
from src.sharding import device_put, local_slice, on_mesh, put_batches

PREFETCH_BYTES = 32 << 20  # image bytes per block
DEVICE_FRACTION = 0.25  # of the device's memory that one split may take
# On CPU a copy gains little over the page cache, which holds the same bytes.
CPU_BYTES = 256 << 20


class BatchBlock(NamedTuple):
    """Consecutive batches: batch `n` is `examples.images[batch_indices[n]]`.

    A resident split gives one block with a row of indices per batch. A streamed split
    gives several blocks of whole batches with one index per batch.
    """

    examples: Examples  # `[examples, ...]`, or `[batches, batch, ...]`
    batch_indices: jax.Array  # int32 `[batches of the order, batch]`, or `[batches]`
    start: int  # the first batch
    stop: int  # the batch after the last one
    class_weights: jax.Array | None = None  # float32 [classes]; None: all are 1


class BatchSource(Protocol):
    """A split whose examples can be read in any order."""

    labels: np.ndarray  # int32 [examples], on the host

    def __len__(self) -> int:
        """The number of examples."""

    def host_images(self) -> Images:
        """The images outside the device: uint8 `[n, height, width, channels]`."""

    def blocks(self, order: np.ndarray, first: int = 0) -> Iterator[BatchBlock]:
        """Yields the batches of an order.

        Args:
            order: int32 `[batches, batch]`, the examples of each batch.
            first: the batch to start from.
        """


class DeviceBatches:
    """A split that is resident on the device."""

    def __init__(self, split: Examples) -> None:
        self.examples = Examples(*map(device_put, split))
        self.labels = split.labels

    def __len__(self) -> int:
        return len(self.labels)

    def host_images(self) -> Images:
        """The images; on CPU they are not copied."""
        return np.asarray(self.examples.images)

    def blocks(self, order: np.ndarray, first: int = 0) -> Iterator[BatchBlock]:
        """Yields all batches as one block."""
        yield BatchBlock(self.examples, device_put(order), first, len(order))


class SelectedBatches:
    """Some examples of a split, which is not copied."""

    def __init__(self, split: BatchSource, rows: np.ndarray) -> None:
        """Selects examples.

        Args:
            split: all examples.
            rows: int `[n]`, the examples to select.
        """
        self.split, self.rows = split, rows.astype(np.int32)
        self.labels = split.labels[rows]

    def __len__(self) -> int:
        return len(self.labels)

    def host_images(self) -> Images:
        """The selected images; those on disk stay there."""
        return select_images(self.split.host_images(), self.rows)

    def blocks(self, order: np.ndarray, first: int = 0) -> Iterator[BatchBlock]:
        """Yields the batches of an order of the selected examples."""
        return self.split.blocks(self.rows[order], first)


class StreamedBatches:
    """A split that is read from disk; each process reads only its own rows."""

    def __init__(self, split: Examples) -> None:
        self.images, self.labels = split

    def __len__(self) -> int:
        return len(self.labels)

    def host_images(self) -> Images:
        """The images, still on disk."""
        images: Images = self.images
        return images

    def blocks(self, order: np.ndarray, first: int = 0) -> Iterator[BatchBlock]:
        """Yields blocks of about `PREFETCH_BYTES`; a thread reads the next block."""
        batches, batch = order.shape
        image_bytes = math.prod(self.images.shape[1:])
        size = min(max(PREFETCH_BYTES // (batch * image_bytes), 1), batches)
        indices = device_put(np.arange(batches, dtype=np.int32) % size)
        mesh = get_mesh()

        def read(start: int) -> Examples:
            with on_mesh(mesh):  # the mesh is set per thread
                return self.read(order, start, size)

        starts = range(first // size * size, batches, size)
        with ThreadPoolExecutor(1) as thread:
            upcoming = thread.submit(read, starts[0])
            for start in starts:
                examples = upcoming.result()
                if start + size < batches:
                    upcoming = thread.submit(read, start + size)
                stop = min(start + size, batches)
                yield BatchBlock(examples, indices, max(start, first), stop)

    def read(self, order: np.ndarray, start: int, size: int) -> Examples:
        """Reads `size` batches from `start` on, to the device: `[size, batch, ...]`.

        The last batch is repeated where the order ends: equal sizes compile once.
        """
        batches = order[np.minimum(np.arange(start, start + size), len(order) - 1)]
        own = batches[:, local_slice(order.shape[1])]
        images = self.images[own.reshape(-1)]
        return Examples(
            put_batches(images.reshape(*own.shape, *images.shape[1:])),
            device_put(self.labels[batches]),
        )


def build_batches(split: Examples, params: Params) -> BatchSource:
    """Resident batches if the split fits on the device, else streamed ones."""
    size = math.prod(split.images.shape)
    limit = params.resident_megabytes
    fits = size <= (device_budget() if limit is None else limit * 10**6)
    # Several processes stream: each reads only its own rows.
    if not (fits and processes.is_single_process()):
        return StreamedBatches(split)
    return DeviceBatches(Examples(split.images[:], split.labels))


def device_budget() -> float:
    """Bytes of images that the device may hold for one split."""
    device = jax.devices()[0]
    memory = None if device.platform == "cpu" else device.memory_stats()
    return DEVICE_FRACTION * memory["bytes_limit"] if memory else CPU_BYTES
