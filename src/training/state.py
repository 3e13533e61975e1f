"""The state of training: model, optimizer and metrics, split for compiled functions.

As with `nnx.split`, `graphdef` is the static structure of the objects and `state` their
arrays. A compiled function takes and returns the state and merges the objects inside.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.config.names import PrecisionName
from src.config.params import Params
from src.data.pixel_statistics import pixel_statistics
from src.data.prepared import Manifest
from src.errors import ParameterError
from src.evaluation.accumulators import TrainAccumulators
from src.models.architecture import Architecture
from src.models.build import MODELS, Model, use_loop_convolution
from src.models.check import check_class, check_network
from src.models.dense import split_dense
from src.models.frozen import freeze
from src.models.random_streams import build_rngs, unwrap_keys
from src.sharding import device_put, zeros_like
from src.training.batches import BatchSource
from src.training.initial_weights import InitialWeights, with_initial_weights
from src.training.loss_scale import LossScaler, build_loss_scaler
from src.training.optimizer import build_optimizer, peak_rate, with_unit_lr

TrainGraph = nnx.GraphDef[Any]

INIT_STREAM, STEP_STREAM = 0, 1  # streams of the seed: initial weights; training steps
# For functions that run once or twice, where compiling takes longer than running.
UNOPTIMIZED = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
}


class TrainState(NamedTuple):
    """Everything that a training step updates."""

    model: Model
    optimizer: nnx.Optimizer[Model]
    metrics: TrainAccumulators  # of the epoch so far
    ema: Model | None  # the averaged weights; None without `ema_decay`
    loss_scaler: LossScaler | None  # None without `on_nan: skip` and float16

    @property
    def loss_scale(self) -> jax.Array | float:
        """What the loss is multiplied by, > 0."""
        return 1.0 if self.loss_scaler is None else self.loss_scaler.scale[...]


def choose_architecture(params: Params, manifest: Manifest) -> Architecture:
    """The architecture that the parameters name, sized from the data.

    Its pixels are not normalized: see `normalize_pixels`.

    Raises:
        ParameterError: see `check_sizes`, `check_class` and `check_network`.
    """
    check_class(params.model)
    check_sizes(params, manifest)
    model = MODELS[params.model]
    architecture = Architecture(
        model=params.model,
        hidden=model.default_hidden and (params.hidden or model.default_hidden),
        dropout=params.dropout,
        image_shape=manifest.image_shape,
        classes=len(manifest.class_names),
        filters=model.default_filters and (params.filters or model.default_filters),
        blocks=model.default_blocks and (params.blocks or model.default_blocks),
    )
    check_network(architecture, params.debug)
    return architecture


def normalize_pixels(
    architecture: Architecture,
    params: Params,
    train: BatchSource,
    initial: InitialWeights | None = None,
) -> Architecture:
    """The architecture with the statistics of its pixels, if it normalizes them.

    Args:
        architecture: of the run.
        params: `normalize` decides. If it is empty, the network of the initial weights
            does, or else the model.
        train: the examples that training will see. Their statistics are taken where
            the initial weights have none, or have them for other channels.
        initial: the initial weights, if there are any.
    """
    model = MODELS[architecture.model]
    default = model.default_normalize
    if initial and initial.normalizes is not None:
        default = initial.normalizes
    if not (default if params.normalize is None else params.normalize):
        return architecture
    channels = architecture.image_shape[2]
    inputs = model.grey_channels if channels == 1 else channels
    found = initial.pixels if initial else None
    if found is None or len(found.mean) not in (channels, inputs):
        found = pixel_statistics(train.host_images())
    return replace(architecture, pixel_mean=found.mean, pixel_deviation=found.deviation)


def check_sizes(params: Params, manifest: Manifest) -> None:
    """Checks the parameters against the image size and the number of classes.

    Raises:
        ParameterError: the images are too small for the model or the augmentation, or
            `monitor` is constant with so few classes.
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
                f"params.yaml: {name}_pixels: expected less than the image size, "
                f"{height} x {width} pixels, found {strengths[name]}: it would blank "
                f"whole images. Use {max(size // 4, 1)} or less."
            )
    if params.monitor == "validation_top_k" and params.top_k >= classes:
        raise ParameterError(
            f"params.yaml: top_k: expected less than the {classes} classes for "
            f"monitor: validation_top_k, found {params.top_k}: every model would "
            "score 1. Use a smaller top_k, or another monitor."
        )


def build_state(
    params: Params,
    architecture: Architecture,
    steps_per_epoch: int,
    initial: InitialWeights | None = None,
) -> tuple[TrainGraph, nnx.State]:
    """The initial model, optimizer and metrics, split into graphdef and state.

    Weights that `initial` lacks are drawn from the seed.

    Raises:
        ParameterError: `freeze` names an unknown layer.
    """
    graphdef, state = draw_state(
        seed_key(params.seed, INIT_STREAM),
        params=with_unit_lr(params),
        network=MODELS[architecture.model],
        architecture=architecture,
        steps_per_epoch=steps_per_epoch,
    )
    state = with_peak_rate(state, graphdef, params.lr)
    if initial:
        state = with_initial_weights(state, initial.weights)
    return graphdef, state


# Compiled as one function: array by array, initialization takes two seconds.
@partial(
    jax.jit,
    static_argnames=("params", "network", "architecture", "steps_per_epoch"),
    compiler_options=UNOPTIMIZED,
)
def draw_state(
    key: jax.Array,
    *,
    params: Params,
    network: type[Model],
    architecture: Architecture,
    steps_per_epoch: int,
) -> tuple[TrainGraph, nnx.State]:
    """The initial state with a peak rate of 1.

    Equal arguments give one graphdef, and so one compiled step.

    Args:
        key: of the initial weights.
        params: from `with_unit_lr`.
        network: the class of `architecture.model`.
        architecture: of the network.
        steps_per_epoch: for the schedule.
    """
    rngs = build_rngs(key)
    model = network(architecture, rngs)
    use_loop_convolution(model)
    unwrap_keys(model)
    model.train()  # type: ignore[no-untyped-call]
    freeze(model, params.freeze)
    split_dense(model, params.batch_size // params.accumulate)
    set_precision(model, params.precision)
    transformation = build_optimizer(params, steps_per_epoch)
    train_state = TrainState(
        model=model,
        optimizer=nnx.Optimizer(model, transformation, wrt=nnx.Param),
        metrics=TrainAccumulators(),
        ema=nnx.clone(model) if params.ema_decay else None,
        loss_scaler=build_loss_scaler(params),
    )
    return nnx.split(train_state)


def eval_model(graphdef: TrainGraph, state: nnx.State) -> Model:
    """The model to validate, save and export: the EMA if there is one.

    In float32 and in eval mode: without dropout, and with the statistics of training.
    """
    train_state: TrainState = nnx.merge(graphdef, state)
    model = train_state.model if train_state.ema is None else train_state.ema
    model.set_attributes(dtype=jnp.dtype("float32"), raise_if_not_found=False)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def set_precision(model: Model, precision: PrecisionName) -> None:
    """Makes layers without a dtype compute in `precision`; weights keep theirs."""
    options: dict[str, Any] = {"dtype": jnp.dtype(precision)}
    model.set_attributes(lacks_dtype, raise_if_not_found=False, **options)


def lacks_dtype(_: object, module: object) -> bool:
    """Whether a layer leaves its dtype to `precision`; a filter of NNX."""
    return getattr(module, "dtype", None) is None


@partial(jax.jit, compiler_options=UNOPTIMIZED)
def seed_key(seed: int, stream: int) -> jax.Array:
    """The key of one random stream; threefry gives the same bits on every device."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), stream)


def with_empty_metrics(state: nnx.State) -> nnx.State:
    """The state with its metrics at zero, for the start of an epoch."""
    parts = state.raw_mapping
    return nnx.State({**parts, "metrics": zeros_like(parts["metrics"])})


def with_peak_rate(state: nnx.State, graphdef: TrainGraph, rate: float) -> nnx.State:
    """The state with another peak learning rate; see `build_optimizer`."""
    train_state = nnx.merge(graphdef, state)
    # float32 as before: another dtype would recompile the step.
    peak_rate(train_state.optimizer)[...] = device_put(np.float32(rate))
    return nnx.state(train_state)
