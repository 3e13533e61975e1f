"""JSON files: sorted keys, finite numbers, and a digest where they cross stages.

The same content gives the same bytes, which is what DVC compares.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from src.errors import DataError, shortened
from src.storage.reading import MAX_JSON_BYTES, digest, read_bytes

Schema = TypeVar("Schema", bound=BaseModel)

SEAL = "sha256_of_the_rest"
DECIMALS = 6  # of every number in metrics/; smaller changes are rounding noise


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys: the same content gives the same bytes.

    Raises:
        ValueError: a number in `content` is not finite.
    """
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    return f"{text}\n".encode()


def metrics_bytes(metrics: Mapping[str, Any]) -> bytes:
    """A metrics file; rounded, so that `dvc metrics diff` shows real changes only.

    Args:
        metrics: numbers, nested by split.

    Raises:
        ValueError: a number in `metrics` is not finite.
    """
    return json_bytes(rounded(metrics))


def rounded(value: Any) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """`value` with all its floats rounded to `DECIMALS`."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return value


def record_bytes(content: Mapping[str, Any]) -> bytes:
    """JSON that contains the SHA-256 of its other keys; see `read_record`.

    Raises:
        ValueError: a number in `content` is not finite.
    """
    return json_bytes(sealed(content))


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` and its SHA-256."""
    return {**content, SEAL: digest(json_bytes(content))}


def read_json(path: Path, repair: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: there is no such file, or it is not a JSON object.
    """
    return parse_json(path, read_bytes(path, repair, MAX_JSON_BYTES), repair)


def parse_json(path: Path, text: bytes, repair: str) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
        DataError: the text is not a JSON object.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for invalid UTF-8
        raise DataError(f"{path}: expected JSON, found {error}. {repair}") from None
    if not isinstance(content, dict):
        found = type(content).__name__
        raise DataError(f"{path}: expected a JSON object, found a {found}. {repair}")
    return content


def read_record(path: Path, kind: type[Schema], repair: str) -> Schema:
    """Reads a file of `record_bytes` as the pydantic model `kind`.

    Raises:
        DataError: there is no such file, it was changed, a key is missing, or a value
            has the wrong type.
    """
    text = read_bytes(path, repair, MAX_JSON_BYTES)
    content = parse_json(path, text, repair)
    recorded = f"{str(content.pop(SEAL, None))[:12]}..."
    try:
        found = f"{digest(json_bytes(content))[:12]}..."
        if text == record_bytes(content):
            return checked(path, content, kind, repair)
    except (ValueError, RecursionError):
        found = "a number that is not finite, or invalid text"
    if found == recorded:
        found = "the same keys, formatted differently"
    raise DataError(
        f"{path}: expected {SEAL} {recorded}, found {found}: the file was changed or "
        f"damaged. {repair}"
    )


def checked(
    path: Path, content: Mapping[str, Any], kind: type[Schema], repair: str
) -> Schema:
    """Validates the content of a JSON file as the pydantic model `kind`.

    Raises:
        DataError: a key is missing, or a value has the wrong type.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        found = f"{shortened(fault['input'])} ({fault['msg']})"
        if fault["type"] == "missing":
            found = "no such key"
        raise DataError(
            f"{path}: {where}: expected a valid value, found {found}. {repair}"
        ) from None
