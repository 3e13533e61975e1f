"""Reads a flat YAML mapping the way YAML 1.2 means it.

PyYAML speaks YAML 1.1, in which `1e-3` is a string, `on` a truth value and `010` eight,
and it keeps the last of two equal keys without a word. A hyperparameter must not depend
on such things, so the scalars here are those of YAML 1.2's core schema (section
10.3.2), and tags, anchors, nested mappings and repeated keys are refused.
"""

import re
from typing import Any

import yaml

from src.errors import ParameterError


class CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as PyYAML has it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        """Refuses what a flat file has no use for, before it is built."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(
                problem="found an anchor or alias", problem_mark=event.start_mark
            )
        if getattr(event, "tag", None):
            raise yaml.MarkedYAMLError(
                problem=f"found the tag {event.tag}", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


for tag, pattern, first in (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]+|\.)?([eE][-+]?[0-9]+)?(?<=[0-9.])"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), first
    )


def parse_flat_yaml(content: bytes) -> dict[str, Any]:
    """The keys and values of a flat mapping.

    Raises:
        ParameterError: not YAML, not a mapping, a key that stands twice, a value that
            is neither a scalar nor a list of scalars, a tag, an anchor or an alias.
    """
    loader = None
    try:
        loader = CoreLoader(content)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ParameterError("expected a mapping of keys to values, found none.")
        check_flat(root)
        return {
            key.value: loader.construct_object(value, deep=True)
            for key, value in root.value
        }
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ParameterError(f"{fault(error)}. Expected plain YAML.") from None
    finally:
        if loader is not None:
            loader.dispose()


def check_flat(root: yaml.MappingNode) -> None:
    """Raises ParameterError where a key stands twice or a value is nested."""
    lines: dict[str, int] = {}
    for key, value in root.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ParameterError(f"line {line}: expected a plain key.")
        if key.value in lines:
            raise ParameterError(
                f"{key.value}: stands twice, in lines {lines[key.value]} and {line}. "
                "Remove one of them."
            )
        lines[key.value] = line
        items = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if not all(isinstance(item, yaml.ScalarNode) for item in items):
            raise ParameterError(
                f"{key.value}: expected a value or a list of values, found a nesting. "
                "Keep params.yaml flat: `-S key=value` reaches the top level only."
            )


def fault(error: Exception) -> str:
    """Where the YAML is wrong and how, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split()).rstrip(".")
