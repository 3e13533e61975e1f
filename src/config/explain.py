"""Carried out of today's src/faults.py."""

from typing import Any

from pydantic_core import ErrorDetails

from src.errors import shortened, suggestion


def explain(fault: ErrorDetails, properties: dict[str, Any]) -> str:
    """One sentence: the key, what was expected, what was found, what to do.

    Args:
        fault: as pydantic has it.
        properties: of the JSON schema, by key.
    """
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    key = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key.{suggestion(key, list(properties))}"
    schema = properties[key]
    if fault["type"] == "missing":
        return f"{key}: expected {expectation(schema)}, found no such key. Add it."
    found = fault["input"]
    known = schema.get("enum") or schema.get("items", {}).get("enum", [])
    hint = suggestion(found, known)
    return f"{key}: expected {expectation(schema)}, got {shortened(found)}.{hint}"


def expectation(schema: dict[str, Any]) -> str:
    """What a field takes, in words, from its JSON schema."""
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
    bounds = [
        f"{words} {schema[key]}"
        for key, words in {
            "minimum": "of at least",
            "exclusiveMinimum": "above",
            "maximum": "at most",
            "exclusiveMaximum": "below",
        }.items()
        if key in schema
    ]
    return f"{noun} {' and '.join(bounds)}".rstrip()
