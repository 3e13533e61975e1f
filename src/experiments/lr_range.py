"""The LR range test: the loss while the learning rate grows at every step.

Source: Smith 2017, arXiv:1506.01186, section 3.3; exponential growth and the smoothed
loss as in fastai's `lr_find`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from src.config.params import Params
from src.errors import DivergedError
from src.models.architecture import Architecture
from src.signals import raise_if_stopped
from src.training.batches import BatchSource
from src.training.chunk import ChunkResult, ChunkSpan, run_chunk
from src.training.data import count_steps, epoch_order, weighted_blocks
from src.training.initial_weights import InitialWeights
from src.training.optimizer import with_unit_lr
from src.training.state import STEP_STREAM, build_state, seed_key

SMOOTHING = 0.9  # decay of the running mean of the losses
STOP_RATIO = 4  # stops once the loss is this many times the lowest


class LRRange(NamedTuple):
    """The curve: a value per step."""

    rates: np.ndarray
    losses: np.ndarray  # of the batches, nats
    smoothed: np.ndarray

    @property
    def suggestion(self) -> float:
        """The rate at which the smoothed loss falls fastest on a log scale.

        Rates beyond the lowest loss are ignored. The peak of a schedule can be two or
        three times higher.
        """
        lowest = max(int(self.smoothed.argmin()), 1)
        slopes = np.gradient(self.smoothed, np.log(self.rates))
        return float(self.rates[int(slopes[: lowest + 1].argmin())])


def find_range(
    split: BatchSource,
    architecture: Architecture,
    params: Params,
    initial: InitialWeights | None = None,
) -> LRRange:
    """Trains on `lr_range_steps` batches, from `lr_range_low` up to `lr_range_high`.

    Stops early where the loss explodes. Trains as the pipeline does, except for the
    schedule, and always in float32.

    Args:
        split: the training examples.
        architecture: of the model.
        params: the parameters of the run.
        initial: the initial weights, if there are any.

    Raises:
        ParameterError: the batch size is larger than the split.
        DivergedError: the first losses are not finite.
    """
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    for rate, loss in rising_losses(split, architecture, params, initial):
        if not math.isfinite(loss):
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        rates.append(rate)
        losses.append(loss)
        smoothed.append(mean / (1 - SMOOTHING ** len(losses)))
        if smoothed[-1] > STOP_RATIO * min(smoothed):
            break
    if len(rates) < 3:
        raise DivergedError(
            f"step {len(rates) + 1}: expected finite losses at the lowest rates, found "
            f"{loss:g} at {rate:g}. Lower lr_range_low."
        )
    return LRRange(np.array(rates), np.array(losses), np.array(smoothed))


def rising_losses(
    split: BatchSource,
    architecture: Architecture,
    params: Params,
    initial: InitialWeights | None = None,
) -> Iterator[tuple[float, float]]:
    """Trains step by step; yields the learning rate and the loss of each.

    Raises:
        ParameterError: the batch size is larger than the split.
    """
    growing = {
        "schedule": "exponential",
        "lr": params.lr_range_low,
        "lr_end": params.lr_range_high,
        "epochs": 1,
        "warmup_epochs": 0.0,
        # Neither `on_nan: skip` nor float16: a skipped step would repeat its rate.
        "on_nan": "stop",
        "precision": "float32",
    }
    steps = params.lr_range_steps
    rising = params.model_copy(update=growing)
    graphdef, state = build_state(rising, architecture, steps - 1, initial)
    epochs = -(-steps // count_steps(len(split), params.batch_size))
    orders = [
        epoch_order(
            split.labels, params.batch_size, params.seed, epoch, params.sampling_power
        )
        for epoch in range(1, epochs + 1)
    ]
    order = np.concatenate(orders)[:steps]
    blocks = weighted_blocks(split, order, architecture.classes, params)
    block = next(blocks)
    key = seed_key(params.seed, STEP_STREAM)
    step_params = with_unit_lr(rising)
    for step in range(steps):
        if step == block.stop:
            block = next(blocks)
        state, on_device = run_chunk(
            state,
            block,
            ChunkSpan(step, step + 1, row_end=steps, steps_before=0),
            key,
            graphdef=graphdef,
            params=step_params,
        )
        chunk: ChunkResult = jax.device_get(on_device)
        raise_if_stopped()
        yield float(chunk.lr), float(chunk.loss)
