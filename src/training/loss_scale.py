"""Steps whose loss or gradient is not finite: skipped, counted, and learned from.

With `float16`, small gradients would become 0. So the loss is multiplied by a scale
before the gradient is taken, and the gradient divided by it; a gradient that overflows
halves the scale, many good steps in a row double it again, up to its first value
(Micikevicius et al. 2018, arXiv:1710.03740, section 3.2).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from src.config.params import Params

MAX_CONSECUTIVE_SKIPS = 5  # skipped steps, after which no more is hoped for
FIRST_SCALE = 2.0**15
DOUBLE_AFTER = 2000  # good steps
REMEMBERED = 64  # skipped steps whose numbers are kept


class LossScaler(nnx.Pytree):
    """Decides which steps count; part of what a step changes.

    Attributes:
        scale: float32 (), what the loss is multiplied by; 1 where nothing overflows.
        good: int32 (), steps since the scale changed.
        in_a_row: int32 (), the latest steps that went wrong and no scale explains.
        skipped: int32 (), steps since training began.
        steps: int32 `[REMEMBERED]`, their numbers from 1, in a circle.
    """

    def __init__(self, params: Params) -> None:
        self.adapts = params.precision == "float16"
        self.limit = MAX_CONSECUTIVE_SKIPS if params.on_nan == "skip" else 1
        self.scale = nnx.Variable(jnp.float32(FIRST_SCALE if self.adapts else 1))
        self.good = nnx.Variable(jnp.int32(0))
        self.in_a_row = nnx.Variable(jnp.int32(0))
        self.skipped = nnx.Variable(jnp.int32(0))
        self.steps = nnx.Variable(jnp.zeros(REMEMBERED, jnp.int32))

    def note(self, finite: jax.Array, step: jax.Array) -> None:
        """Remembers how a step went.

        Args:
            finite: bool (), whether its loss and gradient are.
            step: int32 (), its number, from 1.
        """
        scale, skipped = self.scale[...], self.skipped[...]
        # A scale that can still fall is the likelier cause.
        excused = self.adapts & (scale > 1)
        self.in_a_row[...] = jnp.where(
            finite | excused, 0, self.in_a_row[...] + 1
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
    def lost(self) -> jax.Array:
        """Whether training is past hope: bool ()."""
        return self.in_a_row[...] >= self.limit


def build_loss_scaler(params: Params) -> LossScaler | None:
    """A guard where the parameters ask for one: it costs a pass over the gradient."""
    wanted = params.on_nan == "skip" or params.precision == "float16"
    return LossScaler(params) if wanted else None
