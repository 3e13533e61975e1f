"""Carried out of today's src/step.py."""

import jax
from flax import nnx

from src.config.params import Params
from src.data.examples import Batch, Examples
from src.models.build import Model
from src.sharding import replicate, shard_batch
from src.training.augment import augment
from src.training.gradients import data_parallel, microbatched
from src.training.losses import batch_losses
from src.training.state import TrainState

AUGMENT = 1 << 31  # far from the small numbers that nnx.Rngs folds into the same key


def train_step(
    parts: TrainState, batch: Batch, key: jax.Array, params: Params
) -> tuple[jax.Array, nnx.State]:
    """Takes one optimizer step; scores the batch with the parameters before it.

    Args:
        parts: model, optimizer and metrics are changed in place.
        batch: `images` uint8 `[batch, height, width, channels]`, `labels` int32
            `[batch]`.
        key: this step's own, folded from the run's seed and the step count.
        params: the run's.

    Returns:
        The batch's mean loss, and the gradient of it.
    """
    model, optimizer, metrics, _, guard = parts
    scale = 1.0 if guard is None else guard.scale[...]

    def loss_fn(
        model: Model, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        logits = model(batch.images, rngs=nnx.Rngs(dropout=key))  # forward
        losses = batch_losses(logits, batch, params.label_smoothing)  # loss
        return losses.mean() * scale, (logits, losses)

    backward = nnx.value_and_grad(loss_fn, has_aux=True)
    (loss, (logits, losses)), gradient = microbatched(  # backward
        data_parallel(backward), model, batch, key, params.accumulate
    )
    loss, gradient = jax.tree.map(lambda value: value / scale, (loss, gradient))
    optimizer.update(model, gradient)  # update
    metrics.update(loss=losses, logits=logits, labels=batch.labels)
    return loss, gradient


def step_batch(
    split: Examples, rows: jax.Array, key: jax.Array, params: Params
) -> Batch:
    """What one step learns from: the examples at `rows`, changed at random.

    Args:
        split: the training examples.
        rows: int32 `[batch]`; or int32 (), where they are a batch already.
        key: of the step.
        params: the run's.
    """
    rows = replicate(
        rows
    )  # else each device looks up its labels and asks for the others'
    examples = Examples(shard_batch(split.images[rows]), split.labels[rows])
    return augment(examples, jax.random.fold_in(key, AUGMENT), params)
