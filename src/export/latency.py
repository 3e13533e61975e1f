"""Latency of the network and its exports. It varies, so it is not a metric."""

import os
import platform
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from src.export.shipped.latency import measure_latency
from src.export.shipped.runtimes import BATCH_SIZE
from src.models.build import Model

NETWORK = "trained network, jax.jit"
TABLE_HEADER = (
    f"{'ms per call':<26}  1 image      p99  {BATCH_SIZE} images      p99     MB"
)


def time_network(model: Model, images: np.ndarray) -> dict[str, Any]:
    """Latencies of the trained network in this process."""
    compiled = jax.jit(lambda images: nnx.softmax(model(images)))
    measured = measure_latency(lambda images: np.asarray(compiled(images)), images)
    del measured["peak_memory_mb"]  # this process also holds the data and TensorFlow
    return measured


def latency_report(measured: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """The content of `latency.json`.

    Args:
        measured: latencies by format.
        weights: SHA-256 of the weights.
    """
    machine = {"machine": platform.machine(), "threads": os.cpu_count()}
    return {"measured_on": machine, "latency": measured, "weights_sha256": weights}


def latency_table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """The latencies as a table for a terminal, fastest first."""
    rows = sorted(measured.items(), key=lambda row: row[1]["batch_1"]["median_ms"])
    return "\n".join([TABLE_HEADER, *(latency_row(*row) for row in rows)])


def latency_row(name: str, latency: Mapping[str, Any]) -> str:
    """A row of the table."""
    one, many = latency["batch_1"], latency[f"batch_{BATCH_SIZE}"]
    memory = latency.get("peak_memory_mb")
    return (
        f"{name:<26}{one['median_ms']:>9.3f}{one['p99_ms']:>9.3f}"
        f"{many['median_ms']:>11.3f}{many['p99_ms']:>9.3f}"
        f"{'' if memory is None else f'{memory:>7.0f}'}"
    )
