"""Measures the latency and the memory of a loaded network."""

import sys
import time
from pathlib import Path

import numpy as np

from src.export.shipped.runtimes import BATCH_SIZE, Classify

MAX_CALLS, MAX_SECONDS = 100, 0.25  # of a measurement, whichever ends first


def latency(classify: Classify, images: np.ndarray) -> dict[str, float]:
    """Milliseconds per call with all of `images`: median and 99th percentile."""
    classify(images)  # warm-up: compilation and caches
    calls: list[float] = []
    began = time.perf_counter()
    while len(calls) < MAX_CALLS and (
        not calls or time.perf_counter() - began < MAX_SECONDS
    ):
        start = time.perf_counter()
        classify(images)
        calls.append(1000 * (time.perf_counter() - start))
    return {
        "median_ms": float(np.median(calls)),
        "p99_ms": float(np.quantile(calls, 0.99)),
    }


def peak_memory() -> float:
    """The peak resident memory of this process in MiB."""
    try:  # not `getrusage`: on Linux it includes the parent process before exec
        lines = Path("/proc/self/status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(peak) / 1024
    except (OSError, ValueError):
        import resource  # not available on Windows

        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure_latency(classify: Classify, images: np.ndarray) -> dict[str, object]:
    """Latency of one image and of a full batch, then the peak memory."""
    one, many = measured_batches(images)
    return {
        "batch_1": latency(classify, one),
        f"batch_{BATCH_SIZE}": latency(classify, many),
        "peak_memory_mb": peak_memory(),
    }


def measured_batches(images: np.ndarray) -> list[np.ndarray]:
    """One image, and a full batch."""
    return [images[:1], images[np.arange(BATCH_SIZE) % len(images)]]
