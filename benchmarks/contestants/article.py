"""The loop of Flax's MNIST tutorial: `nnx.jit` per step, data from tf.data.

It keeps the tutorial's metrics of each step.
"""

from functools import partial

import numpy as np
import optax
import tensorflow as tf
from flax import nnx

from benchmarks.contestants import Prepare, Run
from benchmarks.task import FILTERS, HIDDEN, LEARNING_RATE, SIDE, Task
from src.models.architecture import Architecture
from src.models.checkpoint import with_weights
from src.models.plain import plain_model
from src.models.resnet import ResNet


class MLP(nnx.Module):
    """Fourbeat's MLP: flatten, dense, relu, dense."""

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
    """Returns the mean loss and the logits, as in the tutorial."""
    logits = model(batch["image"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return loss.mean(), logits


@nnx.jit
def train_step(model, optimizer, metrics, batch):
    """Takes one step, as in the tutorial."""
    grad_fn = nnx.value_and_grad(loss_fn, has_aux=True)
    (loss, logits), grads = grad_fn(model, batch)
    metrics.update(loss=loss, logits=logits, labels=batch["label"])
    optimizer.update(model, grads)
    return loss


@nnx.jit
def eval_step(model, metrics, batch):
    """Scores a batch, as in the tutorial."""
    loss, logits = loss_fn(model, batch)
    metrics.update(loss=loss, logits=logits, labels=batch["label"])


def network(name: str, seed: int, side: int = SIDE) -> nnx.Module:
    """Builds the network with initial weights from `seed`.

    The residual network is Fourbeat's own, with lax's convolutions and pooling.
    """
    hidden, rngs = HIDDEN[name], nnx.Rngs(seed)
    if name == "resnet":
        shape = (side, side, 3)
        architecture = Architecture(name, None, 0.0, shape, 10, FILTERS, 1)
        model = plain_model(ResNet(architecture, rngs))
        model.normalize = lambda pixels: pixels  # `batches` divides by 255
        model.train()
        return model
    if name == "mlp":
        return MLP(hidden, rngs)
    pools = {"cnn": nnx.avg_pool, "cnn_max": nnx.max_pool}
    return CNN(pools[name], hidden, rngs)


def tools(model: MLP | CNN) -> tuple[nnx.Optimizer, nnx.MultiMetric]:
    """The tutorial's optimizer and metrics."""
    optimizer = nnx.Optimizer(model, optax.adamw(LEARNING_RATE, 0.9), wrt=nnx.Param)
    metrics = nnx.MultiMetric(
        accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss")
    )
    return optimizer, metrics


def batches(images: np.ndarray, labels: np.ndarray, size: int) -> tf.data.Dataset:
    """Batches in the given order, pixels in [0, 1]."""
    return (
        tf.data.Dataset.from_tensor_slices({"image": images, "label": labels})
        .map(
            lambda sample: {
                "image": tf.cast(sample["image"], tf.float32) / 255,
                "label": sample["label"],
            },
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .batch(size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def build(task: Task) -> Prepare:
    """Trains batch by batch from tf.data."""
    model = with_weights(network(task.model, 0, task.side), task.weights())
    optimizer, metrics = tools(model)
    images, labels = task.split()

    def prepare(steps: int) -> Run:
        order = task.rows(steps).ravel()
        dataset = batches(images[order], labels[order], task.batch)

        def run() -> list[float]:
            losses = [
                train_step(model, optimizer, metrics, batch)
                for batch in dataset.as_numpy_iterator()
            ]
            return [float(loss) for loss in losses]

        return run

    return prepare
