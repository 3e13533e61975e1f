"""`jax.jit` per step: a pure function of arrays, lax's convolutions, data in memory."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.contestants import Prepare, Run
from benchmarks.contestants.article import network
from benchmarks.task import LEARNING_RATE, WEIGHT_DECAY, Task
from src.models.checkpoint import with_weights


def build(task: Task) -> Prepare:
    """Trains batch by batch and keeps running sums of loss and accuracy."""
    model = with_weights(network(task.model, 0, task.side), task.weights())
    graphdef, weights, others = nnx.split(model, nnx.Param, ...)
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    images, labels = map(jnp.asarray, task.split())

    def loss_fn(weights, others, rows):
        model = nnx.merge(graphdef, weights, others, copy=True)
        logits, target = model(images[rows] / 255), labels[rows]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        correct = (logits.argmax(1) == target).sum()
        return losses.mean(), (correct, nnx.state(model, nnx.Not(nnx.Param)))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(state, sums, rows):
        weights, others, moments = state
        grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (correct, others)), grads = grad_fn(weights, others, rows)
        updates, moments = optimizer.update(grads, moments, weights)
        weights = optax.apply_updates(weights, updates)
        total, right = sums
        return (weights, others, moments), (total + loss, right + correct), loss

    state = weights, others, optimizer.init(weights)

    def prepare(steps: int) -> Run:
        order = jnp.asarray(task.rows(steps))

        def run() -> list[float]:
            nonlocal state
            losses, sums = [], (jnp.float32(0), jnp.int32(0))
            for rows in order:
                state, sums, loss = step(state, sums, rows)
                losses.append(loss)
            return [float(loss) for loss in losses]

        return run

    return prepare
