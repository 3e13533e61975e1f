"""The optimizer: one chain, in one order, for every name in `params.yaml`.

The gradient goes through these, top to bottom:

1. clip     scaled down where its norm is above `clip_norm`
2. scale    what gives the optimizer its name: momentum, Adam's or RMSprop's moments
3. decay    plus `weight_decay` times the weight, kernels only: decoupled from 2
            (Loshchilov and Hutter 2019, arXiv:1711.05101)
4. schedule times the learning rate of this step, negative: downhill
"""

import jax
import optax
from flax import nnx

from src.config import Params


def build_optimizer(
    params: Params, steps_per_epoch: int
) -> optax.GradientTransformation:
    """The chain that the parameters describe."""
    decay = params.weight_decay if params.optimizer != "adam" else 0.0
    return optax.chain(
        optax.identity()
        if params.clip_norm is None
        else optax.clip_by_global_norm(params.clip_norm),
        scale_gradient(params),
        optax.add_decayed_weights(decay, mask=is_kernel) if decay else optax.identity(),
        optax.scale_by_learning_rate(build_schedule(params, steps_per_epoch)),
    )


def scale_gradient(params: Params) -> optax.GradientTransformation:
    """The part of the chain that gives the optimizer its name."""
    match params.optimizer:
        case "sgd":
            return optax.identity()
        case "momentum":
            return optax.trace(decay=params.momentum)
        case "nesterov":
            return optax.trace(decay=params.momentum, nesterov=True)
        case "adam" | "adamw":
            return optax.scale_by_adam()
        case "rmsprop":
            return optax.scale_by_rms()


def build_schedule(params: Params, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate as a function of the steps taken before, from 0."""
    if params.schedule == "constant":
        return optax.constant_schedule(params.lr)
    warmup_steps = round(params.warmup_epochs * steps_per_epoch)
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=params.lr,
        warmup_steps=warmup_steps,
        # A run that is all warm-up still needs a step to come down in.
        decay_steps=max(params.epochs * steps_per_epoch, warmup_steps + 1),
        end_value=0.0,
    )


def is_kernel(weights: nnx.State) -> nnx.State:
    """A tree of truth values, True for kernels: biases have one dimension."""
    return jax.tree.map(lambda weight: weight.ndim > 1, weights)
