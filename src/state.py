"""What changes while training, and what stays.

Model, optimizer and metrics are split once: `graph` is how they hang together and
stays, `state` is their arrays and changes. A compiled function takes and returns the
state alone, and merges the objects inside.
"""

from typing import Any

import jax
from flax import nnx

from src.config import Params
from src.data.prepared import Manifest
from src.errors import ParameterError
from src.models import Model, build_model
from src.models.architecture import SMALLEST, UNITS, Architecture
from src.optim import build_optimizer

Graph = nnx.GraphDef[Any]

INIT, STEPS = 0, 1  # streams of the seed: first weights, and what steps draw


def choose_architecture(params: Params, manifest: Manifest) -> Architecture:
    """The network that the parameters ask for, sized from the data.

    Raises:
        ParameterError: the images are too small for the model.
    """
    height, width, _ = manifest.image_shape
    if min(height, width) < SMALLEST[params.model]:
        raise ParameterError(
            f"params.yaml: model: expected images of at least {SMALLEST[params.model]} "
            f"pixels a side for {params.model}, found {height} x {width}. Use mlp."
        )
    return Architecture(
        model=params.model,
        hidden=params.hidden or UNITS[params.model],
        dropout=params.dropout,
        image_shape=manifest.image_shape,
        classes=len(manifest.class_names),
    )


def build_state(
    params: Params, architecture: Architecture, steps_per_epoch: int
) -> tuple[Graph, nnx.State]:
    """A network with its first weights, its optimizer and empty metrics, split."""

    def build() -> tuple[Model, nnx.Optimizer[Model], nnx.MultiMetric]:
        rngs = nnx.Rngs(params=seed_key(params.seed, INIT))
        model = build_model(architecture, rngs)
        transformation = build_optimizer(params, steps_per_epoch)
        optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
        return model, optimizer, build_metrics()

    # Compiled as one function: array by array, the first weights cost two seconds. It
    # runs once, so XLA need not optimize it, which would cost another second.
    hastily = {"xla_backend_optimization_level": 0}
    state = jax.jit(lambda: nnx.state(build()), compiler_options=hastily)()
    return nnx.graphdef(nnx.eval_shape(build)), state


def build_metrics() -> nnx.MultiMetric:
    """Sums of loss and of right answers, with the number of examples in them."""
    return nnx.MultiMetric(
        loss=nnx.metrics.Average("loss"), accuracy=nnx.metrics.Accuracy()
    )


def seed_key(seed: int, stream: int) -> jax.Array:
    """The key of one stream of random numbers, the same on every kind of device."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), stream)


def with_empty_metrics(state: nnx.State, graph: Graph) -> nnx.State:
    """The state as at the beginning of an epoch: nothing is counted yet."""
    model, optimizer, metrics = nnx.merge(graph, state)
    metrics.reset()
    return nnx.state((model, optimizer, metrics))
