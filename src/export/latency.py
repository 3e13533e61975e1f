"""Latency of the network and its exports. It varies, so it is not a metric."""

import os
import platform
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from src.export.shipped.latency import measure_latency, measured_batches
from src.export.shipped.runtimes import BATCH_SIZE, Classify
from src.models.build import Model
from src.models.plain import plain_model

NETWORK = "trained network, jax.jit"
TABLE_HEADER = (
    f"{'ms per call':<26}  1 image      p99  {BATCH_SIZE} images      p99     MB"
)


def compile_network(model: Model, images: np.ndarray) -> Classify:
    """The trained network, compiled for the sizes of `time_network`.

    With plain operations, as the formats: XLA compiles the others three times as long.
    """
    network = plain_model(model)
    compiled = jax.jit(lambda images: nnx.softmax(network(images)))

    def classify(images: np.ndarray) -> np.ndarray:
        return np.asarray(compiled(images))

    for batch in measured_batches(images):
        classify(batch)
    return classify


def time_network(classify: Classify, images: np.ndarray) -> dict[str, Any]:
    """Latencies of the trained network in this process."""
    measured = measure_latency(classify, images)
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
