"""Checks a network's code before training; nothing is computed.

The network is built and called on shapes alone. Whatever its code raises, and whatever
would give wrong results later without a word, becomes one line.
"""

import inspect
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from src.config.names import ModelName
from src.errors import FourbeatError, ParameterError, counted, one_line
from src.models.architecture import Architecture
from src.models.build import MODELS, Model, build_model
from src.models.checkpoint import dotted, dtype_and_shape

FLOAT = "float32"
SIGNATURES = (
    "Write __init__(self, architecture, rngs) and __call__(self, images, rngs=None)."
)
NO_TRANSFORMS = "leave out nnx.jit, nnx.remat, nnx.scan, nnx.vmap and nnx.RNN."
# What to do, by a part of Flax's message; the first that fits.
ADVICE = {
    "assigned to static attribute": "Keep layers in nnx.List or nnx.Dict.",
    "no `rngs` argument": "Write nnx.Dropout(rate, rngs=rngs) in __init__.",
    "Cannot mutate '": "Use a local variable, or an nnx.Variable from __init__.",
    "Cannot mutate": "Change variables and draw random numbers only if rngs is not "
    f"None, and {NO_TRANSFORMS}",
    "Cannot extract graph node": f"Call layers directly: {NO_TRANSFORMS}",
}


def check_class(name: ModelName) -> None:
    """Raises ParameterError if there is no subclass of `Model` for `model`."""
    if name not in MODELS:
        raise ParameterError(
            f"src/models/build.py: MODELS: expected an entry for model: {name}, found "
            "none. Add one, as docs/how-to/extend.md shows."
        )
    cls = MODELS[name]
    if not issubclass(cls, Model):
        raise ParameterError(
            f"{place(cls)}: expected a subclass of Model, found one of "
            f"{cls.__base__.__name__}. Write class {cls.__name__}(Model)."
        )


def check_network(architecture: Architecture, debug: bool) -> None:
    """Builds the network and calls it in both modes, on shapes.

    Args:
        architecture: of the network.
        debug: whether an error in the network's code keeps its traceback.

    Raises:
        ParameterError: its code fails, or does not do what training needs.
    """
    cls = MODELS[architecture.model]
    # Not the number of classes: axes that are swapped would go unseen.
    count = architecture.classes + 1
    images = jax.ShapeDtypeStruct((count, *architecture.image_shape), jnp.uint8)

    def call(images: jax.Array) -> None:
        model = build_model(architecture, nnx.Rngs(0))
        check_layers(model)
        before = layout(model)
        model.train()  # type: ignore[no-untyped-call]
        logits = model(images, rngs=nnx.Rngs(dropout=0))
        check_logits(model, logits, architecture.classes, count)
        check_same_layout(model, before)
        model.eval()  # type: ignore[no-untyped-call]
        # One more level of tracing: NNX then refuses changes of state. And one image:
        # code that assumes a batch size would go unseen.
        logits = jax.eval_shape(lambda images: model(images), images[:1])
        check_logits(model, logits, architecture.classes, 1)
        check_feature_map(model, images[:1], architecture.classes)

    try:
        jax.eval_shape(call, images)
    except FourbeatError:
        raise
    except Exception as error:
        if debug:
            raise
        raise ParameterError(explained(cls, error)) from error


def check_layers(model: Model) -> None:
    """Raises ParameterError for arrays and dtypes that training cannot handle."""
    where = place(type(model))
    for name, leaf in arrays_in(model):
        if not isinstance(leaf, nnx.Variable):
            raise ParameterError(
                f"{where}: {name}: expected an nnx.Variable, found an array. Write "
                "nnx.Param(array) if it is trained, else nnx.Variable(array)."
            )
        dtype = getattr(leaf, "dtype", "a Python number")
        if isinstance(leaf, nnx.Param | nnx.BatchStat) and dtype != FLOAT:
            raise ParameterError(
                f"{where}: {name}: expected {FLOAT}, found {dtype}. Make it an array "
                f"of {FLOAT}; precision in params.yaml sets what layers compute in."
            )
    for path, module in nnx.iter_modules(model):
        if (dtype := getattr(module, "dtype", None)) and jnp.dtype(dtype) != FLOAT:
            raise ParameterError(
                f"{where}: {dotted(path)}: expected no dtype, or {FLOAT}, found "
                f"{jnp.dtype(dtype)}, which exported files lack. Leave it out, and set "
                "precision in params.yaml."
            )
    if not jax.tree.leaves(nnx.state(model, nnx.Param)):
        raise ParameterError(
            f"{where}: expected weights to train, found none. Add a layer in __init__."
        )


def check_logits(
    model: Model,
    logits: Any,  # noqa: ANN401 - whatever the network returned
    classes: int,
    count: int,
    method: str = "__call__",
) -> None:
    """Raises ParameterError if a method returned anything but logits."""
    is_array = isinstance(logits, jax.Array | jax.ShapeDtypeStruct)
    found = dtype_and_shape(logits) if is_array else type(logits).__name__
    if found != (expected := f"{FLOAT} [{count}, {classes}]"):
        raise ParameterError(
            f"{place(type(model))}.{method}: expected logits {expected} of "
            f"{counted(count, 'image')} and {classes} classes, found {found}. "
            "Return the output of nnx.Linear(..., architecture.classes)."
        )


def check_feature_map(model: Model, images: jax.Array, classes: int) -> None:
    """Raises ParameterError if a heat map cannot be made of a network's feature map."""
    if type(model).feature_map is Model.feature_map:
        return
    features = jax.eval_shape(model.feature_map, images)
    if getattr(features, "ndim", None) != 4:
        is_array = isinstance(features, jax.ShapeDtypeStruct)
        found = dtype_and_shape(features) if is_array else type(features).__name__
        raise ParameterError(
            f"{place(type(model))}.feature_map: expected [batch, rows, columns, "
            f"channels], found {found}. Return the output of the last convolution."
        )
    logits = jax.eval_shape(lambda each: model.from_feature_map(each), features)
    check_logits(model, logits, classes, 1, "from_feature_map")


def arrays_in(model: Model) -> Iterator[tuple[str, Any]]:
    """The variables and other arrays of a network, by dotted path."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Variable):
            yield dotted(path), node
        elif isinstance(node, nnx.Pytree):
            for name, value in vars(node).items():
                several = isinstance(value, tuple | list | dict)
                for leaf in jax.tree.leaves(value) if several else [value]:
                    if isinstance(leaf, jax.Array | np.ndarray):
                        yield dotted((*path, name)), leaf


def layout(model: Model) -> dict[str, str]:
    """The dtypes and shapes of a network's arrays, by dotted path."""
    return {
        name: ", ".join(map(dtype_and_shape, jax.tree.leaves(value)))
        for name, value in arrays_in(model)
    }


def check_same_layout(model: Model, before: dict[str, str]) -> None:
    """Raises ParameterError if a call added an array, or changed its dtype or shape."""
    after = layout(model)
    for name in sorted(before.keys() | after.keys()):
        if after.get(name) != before.get(name):
            raise ParameterError(
                f"{place(type(model))}.__call__: {name}: expected "
                f"{before.get(name, 'no such attribute')} as after __init__, found "
                f"{after.get(name, 'none')}. Use a local variable, or make it an "
                "nnx.Variable in __init__."
            )


def explained(cls: type[Model], error: Exception) -> str:
    """The message for an exception that the code of a network raised."""
    file = inspect.getsourcefile(cls)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file and Path(frame.filename) == Path(file)]
    line = f", line {own[-1].lineno}, in {own[-1].name}: {own[-1].line}" if own else ""
    parts = {f"{cls.__qualname__}.__": SIGNATURES, **ADVICE}
    known = [advice for part, advice in parts.items() if part in str(error)]
    return (
        f"{place(cls)}{line}: expected code that runs, found "
        f"{type(error).__name__}: {one_line(error)}. "
        f"{known[0] if known else 'debug=true prints the traceback.'}"
    )


def place(cls: type) -> str:
    """The file and the name of a class, as in "src/models/mlp.py: MLP"."""
    return f"{cls.__module__.replace('.', '/')}.py: {cls.__name__}"
