"""The tutorial's loop: `nnx.jit` per step, fed by tf.data.

After "MNIST tutorial" in Flax's documentation, with its per-step metrics.
"""

from functools import partial

import optax
import tensorflow as tf
from flax import nnx

from benchmarks.contestants import Prepare, Run
from benchmarks.task import HIDDEN, LEARNING_RATE, Task


class MLP(nnx.Module):
    """Flatten, dense, relu, dense."""

    def __init__(self, hidden: int, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(784, hidden, rngs=rngs)
        self.output = nnx.Linear(hidden, 10, rngs=rngs)

    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        return self.output(nnx.relu(self.dense(x)))


class CNN(nnx.Module):
    """The tutorial's network."""

    def __init__(self, pool, hidden: int, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, 32, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, kernel_size=(3, 3), rngs=rngs)
        self.pool = partial(pool, window_shape=(2, 2), strides=(2, 2))
        self.dense = nnx.Linear(3136, hidden, rngs=rngs)
        self.output = nnx.Linear(hidden, 10, rngs=rngs)

    def __call__(self, x):
        x = self.pool(nnx.relu(self.conv1(x)))
        x = self.pool(nnx.relu(self.conv2(x)))
        x = x.reshape(x.shape[0], -1)
        return self.output(nnx.relu(self.dense(x)))


def loss_fn(model, batch):
    """The mean loss, and the logits for the metrics."""
    logits = model(batch["image"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return loss.mean(), logits


@nnx.jit
def train_step(model, optimizer, metrics, batch):
    """One step, as the tutorial writes it."""
    grad_fn = nnx.value_and_grad(loss_fn, has_aux=True)
    (loss, logits), grads = grad_fn(model, batch)
    metrics.update(loss=loss, logits=logits, labels=batch["label"])
    optimizer.update(model, grads)
    return loss


def build(task: Task) -> Prepare:
    """Trains batch by batch as tf.data hands them over."""
    hidden, rngs = HIDDEN[task.model], nnx.Rngs(0)
    pools = {"cnn": nnx.avg_pool, "cnn_max": nnx.max_pool}
    if task.model == "mlp":
        model = MLP(hidden, rngs)
    else:
        model = CNN(pools[task.model], hidden, rngs)
    for name, array in task.weights().items():
        layer, leaf = name.split(".")
        getattr(getattr(model, layer), leaf)[...] = array
    optimizer = nnx.Optimizer(model, optax.adamw(LEARNING_RATE, 0.9), wrt=nnx.Param)
    metrics = nnx.MultiMetric(
        accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss")
    )
    images, labels = task.split()

    def prepare(steps: int) -> Run:
        order = task.rows(steps).ravel()
        batches = (
            tf.data.Dataset.from_tensor_slices(
                {"image": images[order], "label": labels[order]}
            )
            .map(
                lambda sample: {
                    "image": tf.cast(sample["image"], tf.float32) / 255,
                    "label": sample["label"],
                },
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            .batch(task.batch, drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE)
        )

        def run() -> list[float]:
            losses = [
                train_step(model, optimizer, metrics, batch)
                for batch in batches.as_numpy_iterator()
            ]
            return [float(loss) for loss in losses]

        return run

    return prepare
