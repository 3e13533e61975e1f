"""Layers that training does not change.

Their variables change type. NNX selects variables by type, so frozen ones get neither
gradients nor optimizer state, and no average over steps or devices touches their bits.
Copies, snapshots and the saved model still hold them by their names.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
from flax import nnx

from src.errors import ParameterError, shortened, suggestion

SHOWN = 12  # layers that an error names


class Frozen(nnx.Variable[jax.Array]):
    """A weight or statistic that training does not change."""


def freeze(model: nnx.Module, names: Sequence[str]) -> None:
    """Freezes layers, in place.

    A BatchNorm whose variables are all frozen normalizes by its running statistics.

    Args:
        model: a network in training mode.
        names: dotted names of layers or weights, or their beginnings up to a dot:
            "layer1" freezes "layer1.0.conv1.kernel", and not "layer10.kernel".

    Raises:
        ParameterError: a layer is unknown, or none is left to train.
    """
    check_known(model, names)
    # A new class, not a new variable: two layers may share one.
    for path, variable in variables_of(model):
        if any(prefix in names for prefix in prefixes(path)):
            variable.__class__ = Frozen
    if names and not any(
        isinstance(each, nnx.Param) for _, each in variables_of(model)
    ):
        raise ParameterError(
            f"params.yaml: freeze: expected at least one layer to train, found that "
            f"{list(names)} are all. Remove one."
        )
    for _, module in nnx.iter_modules(model):
        if hasattr(module, "use_running_average") and is_frozen(module):
            module.use_running_average = True


def variables_of(model: nnx.Module) -> Iterator[tuple[tuple[Any, ...], nnx.Variable]]:
    """The weights and statistics of a model with their paths."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Variable) and not isinstance(node, nnx.RngState):
            yield path, node


def prefixes(path: tuple[Any, ...]) -> list[str]:
    """The dotted beginnings of a path, the whole one last."""
    parts = [str(part) for part in path]
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def is_frozen(module: nnx.Module) -> bool:
    """Whether a module has variables, and all are frozen."""
    kinds = {isinstance(variable, Frozen) for _, variable in variables_of(module)}
    return kinds == {True}


def check_known(model: nnx.Module, names: Sequence[str]) -> None:
    """Raises ParameterError for a name that no layer or weight begins with."""
    known: dict[str, None] = {}  # keeps the order
    for path, variable in variables_of(model):
        parts = prefixes(path)
        # No statistic alone: the layer would still update it.
        known |= dict.fromkeys(parts if isinstance(variable, nnx.Param) else parts[:-1])
    for name in names:
        if name not in known:
            layers = [each for each in known if "." not in each]
            shown = ", ".join(layers[:SHOWN]) + (", ..." if layers[SHOWN:] else "")
            raise ParameterError(
                f"params.yaml: freeze: expected names of layers ({shown}) or layers in "
                f"them, found {shortened(name)}.{suggestion(name, list(known))}"
            )
