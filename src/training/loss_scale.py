"""Skipping steps whose loss or gradient is not finite, and float16's loss scale.

In float16, small gradients underflow to 0. So the loss is multiplied by a scale before
the gradient is taken, and the gradient is divided by it. A gradient that overflows
halves the scale. Many finite steps in a row double it, up to its first value.

Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from src.config.params import Params

MAX_CONSECUTIVE_SKIPS = 5
FIRST_SCALE = 2.0**15
DOUBLE_AFTER = 2000  # finite steps
REMEMBERED = 64  # skipped steps whose numbers are kept


class LossScaler(nnx.Pytree):
    """Counts skipped steps and adapts the loss scale.

    Attributes:
        scale: float32 (), what the loss is multiplied by; 1 outside float16.
        good: int32 (), finite steps since the scale changed.
        consecutive: int32 (), skipped steps in a row that the scale does not explain.
        skipped: int32 (), skipped steps since training began.
        steps: int32 `[REMEMBERED]`, their numbers from 1, a ring buffer.
    """

    def __init__(self, params: Params) -> None:
        self.adapts = params.precision == "float16"
        self.limit = MAX_CONSECUTIVE_SKIPS if params.on_nan == "skip" else 1
        self.scale = nnx.Variable(jnp.float32(FIRST_SCALE if self.adapts else 1))
        self.good = nnx.Variable(jnp.int32(0))
        self.consecutive = nnx.Variable(jnp.int32(0))
        self.skipped = nnx.Variable(jnp.int32(0))
        self.steps = nnx.Variable(jnp.zeros(REMEMBERED, jnp.int32))

    def update(self, finite: jax.Array, step: jax.Array) -> None:
        """Records one step.

        Args:
            finite: bool (), whether its loss and gradient are finite.
            step: int32 (), its number, from 1.
        """
        scale, skipped = self.scale[...], self.skipped[...]
        # While the scale can still fall, it is the likelier cause.
        excused = self.adapts & (scale > 1)
        self.consecutive[...] = jnp.where(
            finite | excused, 0, self.consecutive[...] + 1
        ).astype(jnp.int32)
        place = jnp.where(finite, REMEMBERED, skipped % REMEMBERED)
        self.steps[...] = self.steps[...].at[place].set(step, mode="drop")
        self.skipped[...] = skipped + ~finite
        if self.adapts:
            good = jnp.where(finite, self.good[...] + 1, 0)
            double = good >= DOUBLE_AFTER
            self.good[...] = jnp.where(double, 0, good)
            halved = jnp.maximum(scale / 2, 1)
            grown = jnp.where(double, jnp.minimum(scale * 2, FIRST_SCALE), scale)
            self.scale[...] = jnp.where(finite, grown, halved)

    @property
    def diverged(self) -> jax.Array:
        """Whether too many steps in a row were skipped: bool ()."""
        return self.consecutive[...] >= self.limit


def build_loss_scaler(params: Params) -> LossScaler | None:
    """A loss scaler where needed: it costs a pass over all gradients."""
    needed = params.on_nan == "skip" or params.precision == "float16"
    return LossScaler(params) if needed else None
