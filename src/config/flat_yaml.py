"""Reads a flat YAML mapping with ruamel.yaml, as DVC does.

ruamel.yaml implements YAML 1.2. In YAML 1.1, which PyYAML implements, `1e-3` is a
string and `on` is true. Duplicate keys, anchors, tags and nested values are errors.
"""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from src.errors import ParameterError

# The types of YAML 1.2's core schema; ruamel.yaml also knows dates, for example.
PLAIN = ("null", "bool", "int", "float", "str", "seq")
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in PLAIN}


def parse_flat_yaml(content: bytes) -> dict[str, Any]:
    """The keys and values of a flat mapping.

    Raises:
        ParameterError: the content is not YAML, not a mapping, has a duplicate key, a
            value that is neither a scalar nor a list of scalars, a tag, or an anchor.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(content)
        if not isinstance(root, MappingNode):
            raise ParameterError("expected a mapping of keys to values, found none.")
        check_flat(root)
        return {
            key.value: yaml.constructor.construct_object(value, deep=True)
            for key, value in root.value
        }
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParameterError(
            f"{fault(error)}. Write plain YAML; quote text that is not a plain word."
        ) from None


def check_flat(root: MappingNode) -> None:
    """Raises ParameterError for a duplicate key, a nested value, an anchor or a tag."""
    lines: dict[str, int] = {}
    for key, value in root.value:
        line = key.start_mark.line + 1
        if not isinstance(key, ScalarNode):
            raise ParameterError(
                f"line {line}: expected a plain key, found a nesting. Write key: value."
            )
        if key.value in lines:
            raise ParameterError(
                f"{key.value}: expected one value, found two, in lines "
                f"{lines[key.value]} and {line}. Remove one of them."
            )
        lines[key.value] = line
        items = value.value if isinstance(value, SequenceNode) else [value]
        if not all(isinstance(item, ScalarNode) for item in items):
            raise ParameterError(
                f"{key.value}: expected a value or a list of values, found a nesting. "
                "Keep params.yaml flat: `-S key=value` reaches the top level only."
            )
        for node in (key, value, *items):
            check_plain(node)


def check_plain(node: Node) -> None:
    """Raises MarkedYAMLError for an anchor, an alias, a tag or a date."""
    if node.anchor or node.tag not in PLAIN_TAGS:
        tag = str(node.tag).replace("tag:yaml.org,2002:", "!!")
        found = f"the anchor {node.anchor}" if node.anchor else f"the tag {tag}"
        raise MarkedYAMLError(problem=f"found {found}", problem_mark=node.start_mark)


def fault(error: Exception) -> str:
    """Where the YAML is wrong and how, in one line."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split()).rstrip(".")
