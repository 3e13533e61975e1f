"""The space of a search: `key=low..high`, `key=a,b,c`, or `key=a` for all trials.

It imports neither JAX nor optuna, so a wrong word is answered within half a second.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from src.config.explain import explain_fault
from src.config.fields import Fields
from src.config.flat_yaml import parse_flat_yaml
from src.config.params import TRAINING, Params
from src.errors import ParameterError, shortened

LOG_RATIO = 10  # a range is logarithmic if high / low is at least this
DIGITS = 4  # of a fraction, counted from the first that differs within its range
NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
# Parameters of training that decide how trials are compared, or that every trial of a
# process shares. `seed` also decides the validation split.
SAME_IN_ALL_TRIALS = {
    *("seed", "monitor", "monitor_mode", "top_k", "min_delta", "overfit_batches"),
    *("cpu_devices", "debug", "deterministic", "calibrate"),
    *("log_every", "save_minutes", "resident_megabytes"),
}


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, both included."""

    low: float
    high: float
    integer: bool

    @property
    def log(self) -> bool:
        """Whether factors count instead of differences."""
        return self.low > 0 and self.high / self.low >= LOG_RATIO

    @property
    def size(self) -> float:
        """How many values there are."""
        return self.high - self.low + 1 if self.integer else math.inf

    def value(self, proposed: float) -> float:
        """A proposed number as training takes it: a fraction with few digits."""
        if self.integer:
            return int(proposed)
        largest = max(abs(self.low), abs(self.high))
        same = max(math.floor(math.log10(largest / (self.high - self.low))), 0)
        rounded = float(f"{proposed:.{DIGITS + same}g}")
        return min(max(rounded, self.low), self.high)

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"


@dataclass(frozen=True)
class Choices:
    """Some values, each by the text that was given for it."""

    values: Mapping[str, Any]

    @property
    def size(self) -> float:
        """How many values there are."""
        return len(self.values)

    def value(self, proposed: str) -> Any:  # noqa: ANN401
        """The value of a text."""
        return self.values[proposed]

    def __str__(self) -> str:
        return ",".join(self.values)


Space = Mapping[str, Range | Choices]  # by key, in the order of params.yaml


def parse_space(words: Sequence[str], params: Params) -> Space:
    """The space that the words of a command line describe.

    Args:
        words: such as `lr=1e-4..1e-1`, `model=cnn,resnet` or `epochs=5`.
        params: of the project; they fill in the other parameters.

    Raises:
        ParameterError: a key is unknown, given twice or not for a search, a value is
            wrong, or there is nothing to choose from.
    """
    found: dict[str, Range | Choices] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals and word.isprintable()):
            raise ParameterError(
                f"expected KEY=VALUES, found {shortened(word)}. Write lr=1e-4..1e-1 or "
                "model=cnn,resnet."
            )
        if key in found:
            raise ParameterError(
                f"{key}: expected it once, found it twice. Write {key}=a,b,c."
            )
        check_key(key, params)
        found[key] = parse_domain(key, text, params)
    if not any(domain.size > 1 for domain in found.values()):
        raise ParameterError(
            "expected a parameter with two values or more, found none. Write "
            "lr=1e-4..1e-1 or model=cnn,resnet."
        )
    return {key: found[key] for key in Params.model_fields if key in found}


def check_key(key: str, params: Params) -> None:
    """Raises ParameterError unless trials may differ in a parameter."""
    if key not in Params.model_fields:
        checked(key, None, params)  # raises
    if key not in TRAINING:
        raise ParameterError(
            f"{key}: expected a parameter of train, found one of another stage. Set it "
            "in params.yaml."
        )
    if key in SAME_IN_ALL_TRIALS:
        raise ParameterError(
            f"{key}: expected a parameter that trials may differ in, found one that "
            "must be the same in all of them. Set it in params.yaml."
        )


def parse_domain(key: str, text: str, params: Params) -> Range | Choices:
    """The values of one parameter.

    Raises:
        ParameterError: see `parse_space`.
    """
    if found := re.fullmatch(rf"({NUMBER})\.\.({NUMBER})", text):
        return parse_range(key, found[1], found[2], params)
    values: dict[str, Any] = {}
    for each in split_choices(text):
        value = checked(key, parse_value(key, each), params)
        if value in values.values():
            raise ParameterError(
                f"{key}: expected each value once, found {shortened(each)} twice. "
                "Remove one."
            )
        values[each.strip()] = value
    return Choices(values)


def parse_range(key: str, first: str, last: str, params: Params) -> Range:
    """A range of numbers; whole ones where the parameter is.

    Raises:
        ParameterError: the parameter is no number, an end is out of its bounds, or the
            range is empty.
    """
    schema = Params.model_json_schema()["properties"][key]
    types = {each.get("type") for each in schema.get("anyOf", [schema])}
    if not types & {"integer", "number"}:
        raise ParameterError(
            f"{key}: expected values with commas between them, found the range "
            f"{first}..{last}. Write {key}=a,b,c."
        )
    ends = [float(first), float(last)]
    if "integer" in types:
        ends = [int(end) if end.is_integer() else end for end in ends]
    low, high = (checked(key, end, params) for end in ends)
    if not low < high:
        raise ParameterError(
            f"{key}: expected low..high with low < high, found {first}..{last}. "
            "Exchange the ends, or write one value."
        )
    return Range(low, high, "integer" in types)


def split_choices(text: str) -> list[str]:
    """Splits at commas, but not inside the brackets of a list."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def parse_value(key: str, text: str) -> Any:  # noqa: ANN401
    """A value as params.yaml would have it; nothing is null.

    Raises:
        ParameterError: the text is no value of YAML.
    """
    try:
        return parse_flat_yaml(f"{key}: {text}".encode())[key]
    except ParameterError as error:
        raise ParameterError(f"{key}: {shortened(text)}: {error}") from None


def checked(key: str, value: Any, params: Params) -> Any:  # noqa: ANN401
    """A value as its field has it, without regard to the other parameters.

    Raises:
        ParameterError: the key is unknown, or the value is not allowed.
    """
    try:
        fields = Fields.model_validate({**params.model_dump(), key: value})
    except ValidationError as error:
        properties = Params.model_json_schema()["properties"]
        fault = explain_fault(error.errors(include_url=False)[0], properties)
        raise ParameterError(fault) from None
    return getattr(fields, key)


def chosen_values(space: Space, proposed: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the parameters that an optuna trial stands for."""
    return {key: domain.value(proposed[key]) for key, domain in space.items()}


def with_values(params: Params, values: Mapping[str, Any]) -> Params:
    """The parameters with other values, checked together.

    Raises:
        ParameterError: they contradict each other.
    """
    try:
        return Params.model_validate({**params.model_dump(), **values})
    except ValidationError as error:
        properties = Params.model_json_schema()["properties"]
        fault = explain_fault(error.errors(include_url=False)[0], properties)
        raise ParameterError(fault) from None


def space_size(space: Space) -> float:
    """How many different trials there are."""
    return math.prod(domain.size for domain in space.values())
