"""The four beats of one optimizer step: forward, loss, backward, update."""

import jax
import jax.numpy as jnp
from flax import nnx

from src.config.params import Params
from src.data.examples import Batch, Examples
from src.models.build import Model
from src.models.frozen import Frozen
from src.models.random_streams import reseed
from src.sharding import replicate, shard_batch
from src.training.augment import augment
from src.training.batches import BatchBlock
from src.training.gradients import data_parallel, microbatched
from src.training.losses import batch_losses, with_class_weights
from src.training.state import TrainState

AUGMENT_STREAM = 1 << 31  # nnx.Rngs folds small numbers into the same key


def train_step(
    train_state: TrainState, batch: Batch, key: jax.Array, params: Params
) -> tuple[jax.Array, nnx.State]:
    """Takes one optimizer step. The metrics score the batch before the update.

    Args:
        train_state: its model, optimizer and metrics are updated in place.
        batch: `images` uint8 `[batch, height, width, channels]`, `labels` int32
            `[batch]`.
        key: the key of this step, folded from the seed and the step count.
        params: the parameters of the run.

    Returns:
        The mean loss of the batch, float32 (), and its gradients.
    """
    loss_scale = train_state.loss_scale

    def loss_fn(
        model: Model, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        reseed(model, key)
        logits = model(batch.images, rngs=nnx.Rngs(dropout=key))  # forward
        losses = batch_losses(logits, batch, params.label_smoothing)  # loss
        return losses.mean() * loss_scale, (logits, losses)

    model, optimizer = train_state.model, train_state.optimizer
    frozen = jax.tree.map(jnp.asarray, nnx.state(model, Frozen))
    grad_fn = nnx.value_and_grad(loss_fn, has_aux=True)
    grad_fn = microbatched(data_parallel(grad_fn), params.accumulate)
    (loss, (logits, losses)), grads = grad_fn(model, batch, key)  # backward
    loss, grads = jax.tree.map(lambda value: value / loss_scale, (loss, grads))
    optimizer.update(model, grads)  # update
    nnx.update(model, frozen)  # which a layer may have changed while it was called
    train_state.metrics.update(loss=losses, logits=logits, labels=batch.labels)
    return loss, grads


def step_batch(
    block: BatchBlock, indices: jax.Array, key: jax.Array, params: Params
) -> Batch:
    """Gathers, augments and weights the batch of one step.

    Args:
        block: the examples on the device, and the class weights.
        indices: the row of its `batch_indices` for this step: int32 `[batch]`, or
            int32 () where the block holds whole batches.
        key: the key of the step.
        params: the parameters of the run.
    """
    # Replicated: otherwise every device would ask the others for its labels.
    indices = replicate(indices)
    images = block.examples.images[indices]
    examples = Examples(shard_batch(images), block.examples.labels[indices])
    batch = augment(examples, jax.random.fold_in(key, AUGMENT_STREAM), params)
    return with_class_weights(batch, block.class_weights)
