"""Turns what pydantic reports about a parameter into one sentence."""

from typing import Any

from pydantic_core import ErrorDetails

from src.errors import shortened, suggestion


def explain_fault(fault: ErrorDetails, properties: dict[str, Any]) -> str:
    """One sentence: the key, what was expected, what was found, what to do.

    Args:
        fault: from pydantic.
        properties: of the parameters' JSON schema, by key.
    """
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    key = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        hint = suggestion(key, list(properties)) or " Remove it."
        return f"{key}: unknown key.{hint}"
    schema = properties[key]
    if fault["type"] == "missing":
        return f"{key}: expected {expectation(schema)}, found no such key. Add it."
    found = fault["input"]
    known = schema.get("enum") or schema.get("items", {}).get("enum", [])
    hint = suggestion(found, known)
    if found in known:  # one name where a list is expected
        hint = f" Write [{found}]."
    return f"{key}: expected {expectation(schema)}, got {shortened(found)}.{hint}"


def expectation(schema: dict[str, Any]) -> str:
    """The values that a field allows, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(expectation(option) for option in schema["anyOf"])
    if "expected" in schema:
        return str(schema["expected"])
    if "enum" in schema or "const" in schema:
        return f"one of {', '.join(schema.get('enum') or [schema['const']])}"
    if schema["type"] == "array":
        return f"a list, as in [a, b], with {expectation(schema['items'])}"
    if schema["type"] == "null":
        return "null"
    if schema["type"] == "boolean":
        return "true or false"
    noun = {"integer": "an integer", "number": "a number"}[schema["type"]]
    return f"{noun}{interval(schema)}"


def interval(schema: dict[str, Any]) -> str:
    """The bounds of a number, such as ` in [0, 1)` or ` > 0`; empty without any."""
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None and high is not None:
        left, right = (
            "[" if "minimum" in schema else "(",
            "]" if "maximum" in schema else ")",
        )
        return f" in {left}{low}, {high}{right}"
    if low is not None:
        return f" {'>=' if 'minimum' in schema else '>'} {low}"
    return ""
