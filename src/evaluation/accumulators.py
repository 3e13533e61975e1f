"""What is counted on the device while batches go by: sums, divided only at the end."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


class Confusion(nnx.Metric):
    """How often each class (row) was taken for each class (column), exactly."""

    def __init__(self, classes: int) -> None:
        self.counts = nnx.metrics.MetricState(jnp.zeros((classes, classes), jnp.int32))

    def reset(self) -> None:
        """Forgets what was counted."""
        self.counts[...] = jnp.zeros_like(self.counts[...])

    def update(  # type: ignore[override]
        self,
        *,
        logits: jax.Array,
        labels: jax.Array,
        mask: jax.Array,
        **_: Any,  # noqa: ANN401 - what other metrics take
    ) -> None:
        """Counts a batch.

        Args:
            logits: `[batch, classes]`.
            labels: int32 `[batch]`.
            mask: bool `[batch]`, which examples count.
        """
        places = self.counts[...].at[labels, logits.argmax(-1)]
        self.counts[...] = places.add(mask.astype(jnp.int32))

    def compute(self) -> jax.Array:
        """The counts: int32 `[classes, classes]`."""
        return self.counts[...]


class TopK(nnx.metrics.Average):
    """The share of labels that are among the `k` most likely classes."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def update(  # type: ignore[override]
        self,
        *,
        logits: jax.Array,
        labels: jax.Array,
        mask: jax.Array,
        **_: Any,  # noqa: ANN401 - what other metrics take
    ) -> None:
        """Counts a batch; arguments as in `Confusion`."""
        chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)
        # Of equal ones the first counts as higher, as with `argmax`.
        first = jnp.arange(logits.shape[1])[None] < labels[:, None]
        above = ((logits > chosen) | ((logits == chosen) & first)).sum(1)
        super().update(values=above < self.k, mask=mask)


class KahanAverage(nnx.metrics.Average):
    """An average whose float32 sum remembers what rounding took from it.

    Without it, a small loss added to a large sum would be lost: the rows of steps.csv
    are differences of sums. The sum is `total - rest`, in double precision.

    Source: Kahan 1965, Comm. ACM 8, p. 40.
    """

    def __init__(self, argname: str) -> None:
        super().__init__(argname)
        self.rest = nnx.metrics.MetricState(jnp.float32(0))

    def reset(self) -> None:
        """Forgets what was added."""
        super().reset()
        self.rest[...] = jnp.float32(0)

    def update(  # type: ignore[override]
        self,
        **values: Any,  # noqa: ANN401 - what other metrics take
    ) -> None:
        """Adds a batch: the array that the argument's name says."""
        added = values[self.argname]
        amount = added.sum() - self.rest[...]
        total = self.total[...] + amount
        self.rest[...] = (total - self.total[...]) - amount
        self.total[...] = total
        self.count[...] += added.size


class TrainingMetrics(nnx.MultiMetric):
    """Sums of loss and of right answers, with the number of examples in them."""

    loss: KahanAverage
    accuracy: nnx.metrics.Accuracy

    def __init__(self) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            loss=KahanAverage("loss"), accuracy=nnx.metrics.Accuracy()
        )


class ValidationMetrics(nnx.MultiMetric):
    """All that `monitor` may name is computed from these."""

    loss: nnx.metrics.Average
    confusion: Confusion
    top_k: TopK

    def __init__(self, classes: int, top_k: int) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            loss=nnx.metrics.Average("loss"),
            confusion=Confusion(classes),
            top_k=TopK(top_k),
        )
