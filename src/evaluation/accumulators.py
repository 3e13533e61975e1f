"""Metrics accumulated on the device: sums over batches, divided once at the end."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


class ConfusionCounts(nnx.Metric):
    """Exact counts by actual class (row) and predicted class (column)."""

    def __init__(self, classes: int) -> None:
        self.counts = nnx.metrics.MetricState(jnp.zeros((classes, classes), jnp.int32))

    def reset(self) -> None:
        """Sets the counts to 0."""
        self.counts[...] = jnp.zeros_like(self.counts[...])

    def update(  # type: ignore[override]
        self,
        *,
        logits: jax.Array,
        labels: jax.Array,
        mask: jax.Array,
        **_: Any,  # noqa: ANN401 - arguments of other metrics
    ) -> None:
        """Adds a batch.

        Args:
            logits: `[batch, classes]`.
            labels: int32 `[batch]`.
            mask: bool `[batch]`, False for padding.
        """
        places = self.counts[...].at[labels, logits.argmax(-1)]
        self.counts[...] = places.add(mask.astype(jnp.int32))

    def compute(self) -> jax.Array:
        """The counts: int32 `[classes, classes]`."""
        return self.counts[...]


class TopK(nnx.metrics.Average):
    """Top-k accuracy: the share of labels among the `k` most likely classes."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def update(  # type: ignore[override]
        self,
        *,
        logits: jax.Array,
        labels: jax.Array,
        mask: jax.Array,
        **_: Any,  # noqa: ANN401 - arguments of other metrics
    ) -> None:
        """Adds a batch; arguments as in `ConfusionCounts`."""
        chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)
        # Among equal logits the first class ranks higher, as with `argmax`.
        first = jnp.arange(logits.shape[1])[None] < labels[:, None]
        above = ((logits > chosen) | ((logits == chosen) & first)).sum(1)
        super().update(values=above < self.k, mask=mask)


class KahanAverage(nnx.metrics.Average):
    """A mean with Kahan summation in float32.

    The exact sum is `total - compensation`, in double precision. Rows of steps.csv are
    differences of two sums, so rounding errors of the sums would show in them.

    Source: Kahan 1965, Comm. ACM 8, p. 40.
    """

    def __init__(self, argname: str) -> None:
        super().__init__(argname)
        self.compensation = nnx.metrics.MetricState(jnp.float32(0))

    def reset(self) -> None:
        """Sets the sum to 0."""
        super().reset()
        self.compensation[...] = jnp.float32(0)

    def update(  # type: ignore[override]
        self,
        **values: Any,  # noqa: ANN401 - arguments of other metrics
    ) -> None:
        """Adds the array of the argument `argname`."""
        added = values[self.argname]
        amount = added.sum() - self.compensation[...]
        total = self.total[...] + amount
        self.compensation[...] = (total - self.total[...]) - amount
        self.total[...] = total
        self.count[...] += added.size


class TrainAccumulators(nnx.MultiMetric):
    """Sums of loss and of correct answers over training examples."""

    loss: KahanAverage
    accuracy: nnx.metrics.Accuracy

    def __init__(self) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            loss=KahanAverage("loss"), accuracy=nnx.metrics.Accuracy()
        )


class ValidationAccumulators(nnx.MultiMetric):
    """Sums for every metric that `monitor` can name."""

    loss: nnx.metrics.Average
    confusion: ConfusionCounts
    top_k: TopK

    def __init__(self, classes: int, top_k: int) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            loss=nnx.metrics.Average("loss"),
            confusion=ConfusionCounts(classes),
            top_k=TopK(top_k),
        )
