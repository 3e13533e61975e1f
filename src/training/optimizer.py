"""The optimizer as one Optax chain, in one order for every `optimizer`.

1. clip     clip each number at `clip_value`, then scale by global norm to `clip_norm`
2. scale    the part that names the optimizer: momentum, moments, signs, rotations
3. decay    add `weight_decay` times the weight, kernels only; decoupled from 2
            (Loshchilov and Hutter 2019, arXiv:1711.05101)
4. trust    lamb only: scale each layer by norm of weights / norm of update
5. schedule multiply by the learning rate of this step, negative: downhill

The learning rate is `peak` times the schedule. In a compiled step the schedule is in
units of `lr`, and `peak` is an array of the optimizer's state. So runs that differ in
`lr` alone share a compilation, if `lr_end` is 0.

A skipped step does not count: the schedule does not advance.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from src.config.params import Params

# The RMS of a muon update, matched to adamw's so that its lr and decay carry over:
# Liu et al. 2025, arXiv:2502.16982, section 2.2.
MUON_RMS = 0.2
CYCLE_START, CYCLE_END = 25, 1e4  # one_cycle: lr / 25 up to lr, down to lr / 25 / 1e4


def build_optimizer(
    params: Params, steps_per_epoch: int
) -> optax.GradientTransformation:
    """The chain that the parameters configure."""
    decay = params.weight_decay if params.optimizer != "adam" else 0.0
    return optax.chain(
        optax.clip(params.clip_value) if params.clip_value else optax.identity(),
        optax.clip_by_global_norm(params.clip_norm)
        if params.clip_norm
        else optax.identity(),
        scale_gradient(params),
        optax.add_decayed_weights(decay, mask=is_kernel) if decay else optax.identity(),
        optax.scale_by_trust_ratio()
        if params.optimizer == "lamb"
        else optax.identity(),
        # Stores both factors of the applied rate, for `learning_rate`.
        optax.inject_hyperparams(scale_by_learning_rate)(
            peak=1.0, schedule=build_schedule(params, steps_per_epoch)
        ),
    )


def scale_by_learning_rate(
    peak: jax.Array, schedule: jax.Array
) -> optax.GradientTransformation:
    """Step 5 of the chain; both factors float32 ()."""
    return optax.scale(-peak * schedule)


def with_unit_lr(params: Params) -> Params:
    """The parameters with `lr` 1 and `lr_end` in units of `lr`, for compiled steps."""
    return params.model_copy(update={"lr": 1.0, "lr_end": params.lr_end / params.lr})


def learning_rate(optimizer: nnx.Optimizer[Any]) -> jax.Array:
    """The rate of the last step; with `plateau`, of the next steps: float32 ()."""
    factors = optimizer.opt_state[-1].hyperparams
    rate: jax.Array = factors["peak"][...] * factors["schedule"][...]
    return rate


def peak_rate(optimizer: nnx.Optimizer[Any]) -> nnx.Variable[jax.Array]:
    """What the schedule is multiplied by: float32 ()."""
    peak: nnx.Variable[jax.Array] = optimizer.opt_state[-1].hyperparams["peak"]
    return peak


def scale_gradient(params: Params) -> optax.GradientTransformation:
    """The part of the chain that differs between optimizers."""
    match params.optimizer:
        case "sgd":
            return optax.identity()
        case "momentum":
            return optax.trace(decay=params.momentum)
        case "nesterov":
            return optax.trace(decay=params.momentum, nesterov=True)
        case "adam" | "adamw" | "lamb":
            return optax.scale_by_adam()
        case "rmsprop":
            return optax.scale_by_rms()
        case "lion":
            return optax.scale_by_lion()
        case "muon":
            return scale_by_muon(params.momentum)


def scale_by_muon(momentum: float) -> optax.GradientTransformation:
    """Muon for kernels, with output units or filters as columns; adam for biases.

    Source: Jordan 2024, kellerjordan.github.io/posts/muon.
    """

    def dimensions(updates: nnx.State) -> nnx.State:
        return jax.tree.map(
            lambda update: optax.contrib.MuonDimensionNumbers(
                tuple(range(update.ndim - 1)), update.ndim - 1
            ),
            updates,
        )

    def resize(updates: nnx.State, _: object) -> nnx.State:
        return jax.tree.map(
            lambda update: (
                update * (MUON_RMS * max(update.shape[-1], update[..., 0].size) ** 0.5)
            ),
            updates,
        )

    kernels = optax.chain(
        optax.contrib.scale_by_muon(beta=momentum, weight_dimension_numbers=dimensions),
        optax.stateless(resize),
    )
    return optax.partition(
        {"kernel": kernels, "bias": optax.scale_by_adam()},
        lambda weights: jax.tree.map(
            lambda kernel: "kernel" if kernel else "bias", is_kernel(weights)
        ),
    )


def is_kernel(weights: nnx.State) -> nnx.State:
    """False for biases, and for the scales of normalizations: one dimension."""

    def of_leaf(path: tuple[Any, ...], weight: jax.Array) -> bool:
        names = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
        return weight.ndim > 1 and "bias" not in names  # attention's has two dimensions

    kernels: nnx.State = jax.tree.map_with_path(of_leaf, weights)
    return kernels


def build_schedule(params: Params, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate as a function of the steps taken so far, from 0.

    With `t` of `T` steps taken and `w` warm-up steps:

    - cosine: lr_end + (lr - lr_end) (1 + cos(pi t / T)) / 2
    - warmup_cosine: lr t / w, then cosine over the other T - w steps
    - linear: lr + (lr_end - lr) t / T
    - exponential: lr (lr_end / lr)^(t / T)
    - piecewise: lr lr_factor^(number of lr_milestones passed)
    - one_cycle: half a cosine from lr / 25 up to lr in w steps, then half a cosine down
      to lr / 250,000 (Smith and Topin 2018, arXiv:1708.07120, as optax has it)
    - constant, and plateau's first: lr
    """
    lr, end = params.lr, params.lr_end
    warms_up = params.schedule in ("warmup_cosine", "one_cycle")
    warmup = round(params.warmup_epochs * steps_per_epoch) if warms_up else 0
    # Even a run that is all warm-up needs one step of decay.
    total = max(params.epochs * steps_per_epoch, warmup + 1)
    match params.schedule:
        case "constant" | "plateau":
            return optax.constant_schedule(lr)
        case "cosine":
            schedule = optax.cosine_decay_schedule(lr, total, alpha=end / lr)
        case "warmup_cosine":
            schedule = optax.warmup_cosine_decay_schedule(
                0.0, lr, warmup, total, end_value=end
            )
            return clamp_end(schedule, end, total)
        case "linear":
            schedule = optax.linear_schedule(lr, end, total)
        case "exponential":
            schedule = optax.exponential_decay(lr, total, end / lr)
        case "piecewise":
            falls: dict[int, float] = {}
            for epoch in params.lr_milestones:
                step = round(epoch * steps_per_epoch)  # two milestones may share a step
                falls[step] = falls.get(step, 1.0) * params.lr_factor
            return optax.piecewise_constant_schedule(lr, falls)
        case "one_cycle":
            low, lowest = lr / CYCLE_START, lr / CYCLE_START / CYCLE_END
            up = optax.cosine_decay_schedule(low, max(warmup, 1), alpha=CYCLE_START)
            down = optax.cosine_decay_schedule(lr, total - warmup, alpha=lowest / lr)
            schedule = optax.join_schedules([up, down], [warmup])
            return clamp_end(schedule, lowest, total)
    return clamp_end(schedule, end, total)


def clamp_end(schedule: optax.Schedule, end: float, total: int) -> optax.Schedule:
    """The schedule with exactly `end` from step `total` on, free of rounding."""
    return lambda count: jnp.where(count >= total, end, schedule(count))
