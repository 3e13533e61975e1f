"""What changes while training, and what stays.

Model, optimizer and metrics are split once: `graph` is how they hang together and
stays, `state` is their arrays and changes. A compiled function takes and returns the
state alone, and merges the objects inside.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from src.config.names import PrecisionName
from src.config.params import Params
from src.data.prepared import Manifest
from src.errors import ParameterError
from src.evaluation.accumulators import TrainingMetrics
from src.models.architecture import Architecture
from src.models.build import MODELS, Model, build_model
from src.sharding import shard_state
from src.training.loss_scale import LossScaler, build_loss_scaler
from src.training.optimizer import build_optimizer, learning_rate

Graph = nnx.GraphDef[Any]

INIT, STEPS = 0, 1  # streams of the seed: first weights, and what steps draw


class TrainState(NamedTuple):
    """What a step changes; the last two only where the parameters ask for them."""

    model: Model
    optimizer: nnx.Optimizer[Model]
    metrics: TrainingMetrics  # of the epoch so far
    average: Model | None  # with `ema_decay`: of the weights
    guard: LossScaler | None  # with `on_nan: skip` or float16: of steps that went wrong

    @property
    def best(self) -> Model:
        """The network to validate, save and export, computing in float32."""
        model = self.model if self.average is None else self.average
        set_precision(model, "float32")
        return model


def choose_architecture(params: Params, manifest: Manifest) -> Architecture:
    """The network that the parameters ask for, sized from the data.

    Raises:
        ParameterError: see `check_sizes`.
    """
    check_sizes(params, manifest)
    return Architecture(
        model=params.model,
        hidden=params.hidden or MODELS[params.model].default_hidden,
        dropout=params.dropout,
        image_shape=manifest.image_shape,
        classes=len(manifest.class_names),
    )


def check_sizes(params: Params, manifest: Manifest) -> None:
    """Compares the parameters with the size of images and classes.

    Raises:
        ParameterError: the images are too small for the model or for their changes, or
            `monitor` says nothing with so few classes.
    """
    height, width, _ = manifest.image_shape
    size, classes = min(height, width), len(manifest.class_names)
    smallest = MODELS[params.model].smallest_image
    if size < smallest:
        raise ParameterError(
            f"params.yaml: model: expected images of at least {smallest} pixels a "
            f"side for {params.model}, found {height} x {width}. Use mlp."
        )
    strengths = {"shift": params.shift_pixels, "cutout": params.cutout_pixels}
    for name in strengths.keys() & set(params.augment):
        if strengths[name] >= size:
            raise ParameterError(
                f"params.yaml: {name}_pixels: expected less than the images' {height} "
                f"x {width} pixels, got {strengths[name]}: nothing would be left of "
                f"them. Use {max(size // 4, 1)} or less."
            )
    if params.monitor == "validation_top_k" and params.top_k >= classes:
        raise ParameterError(
            f"params.yaml: top_k: expected less than the {classes} classes for "
            f"monitor: validation_top_k, got {params.top_k}: every network would be "
            "as good. Use a smaller one, or another monitor."
        )


def build_state(
    params: Params, architecture: Architecture, steps_per_epoch: int
) -> tuple[Graph, nnx.State]:
    """A network with its first weights, its optimizer and empty metrics, split."""

    def build() -> TrainState:
        rngs = nnx.Rngs(params=seed_key(params.seed, INIT))
        model = build_model(architecture, rngs)
        set_precision(model, params.precision)
        transformation = build_optimizer(params, steps_per_epoch)
        optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
        average = nnx.clone(model) if params.ema_decay else None
        return TrainState(
            model, optimizer, TrainingMetrics(), average, build_loss_scaler(params)
        )

    # Compiled as one function: array by array, the first weights cost two seconds. It
    # runs once, so XLA need not optimize it, which would cost another second.
    hastily = {"xla_backend_optimization_level": 0}
    state = jax.jit(lambda: nnx.state(build()), compiler_options=hastily)()
    return nnx.graphdef(nnx.eval_shape(build)), state


def set_precision(model: Model, precision: PrecisionName) -> None:
    """Has every layer compute in `precision`, whatever that of its weights is."""
    model.set_attributes(dtype=jnp.dtype(precision))


def seed_key(seed: int, stream: int) -> jax.Array:
    """The key of one stream of random numbers, the same on every kind of device."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), stream)


def with_empty_metrics(state: nnx.State, graph: Graph) -> nnx.State:
    """The state as at the beginning of an epoch: nothing is counted yet."""
    parts = nnx.merge(graph, state)
    parts.metrics.reset()
    return shard_state(nnx.state(parts))


def with_learning_rate(state: nnx.State, graph: Graph, rate: float) -> nnx.State:
    """The state with another rate for the next steps, where the schedule is plateau."""
    parts = nnx.merge(graph, state)
    # float32 as before: another type would have the step compiled anew.
    learning_rate(parts.optimizer)[...] = jnp.float32(rate)
    return shard_state(nnx.state(parts))
