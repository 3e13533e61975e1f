"""Carried out of today's src/files.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from src.errors import DataError
from src.storage.reading import DECIMALS, MAX_JSON, Record, digest, read_bytes

SEAL = "sha256_of_the_rest"


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
    """`value` with every float in it rounded to `DECIMALS`."""
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
    """`content` with its own digest."""
    return {**content, SEAL: digest(json_bytes(content))}


def read_json(path: Path, repair: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: there is no such file, or it holds something else.
    """
    return parse_json(path, read_bytes(path, repair, MAX_JSON), repair)


def parse_json(path: Path, text: bytes, repair: str) -> dict[str, Any]:
    """The JSON object in a file that was read already.

    Raises:
        DataError: it is something else.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # also what is not UTF-8
        raise DataError(f"{path}: expected JSON, found {error}. {repair}") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected a JSON object, found another value. {repair}"
        )
    return content


def read_record(path: Path, kind: type[Record], repair: str) -> Record:
    """Reads what `write_record` wrote as the pydantic model `kind`.

    Raises:
        DataError: there is no such file, it was changed, or a key is missing or of
            another type.
    """
    text = read_bytes(path, repair, MAX_JSON)
    content = parse_json(path, text, repair)
    content.pop(SEAL, None)
    try:
        expected = json_bytes(sealed(content))
    except (ValueError, RecursionError):  # not finite, or not to be encoded
        expected = b""
    if text != expected:
        raise DataError(
            f"{path}: expected the content that its {SEAL} was taken of, found another:"
            f" the file was changed or damaged. {repair}"
        )
    return checked(path, content, kind, repair)


def checked(
    path: Path, content: Mapping[str, Any], kind: type[Record], repair: str
) -> Record:
    """The content of a JSON file as the pydantic model `kind`.

    Raises:
        DataError: a key is missing or of another type.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise DataError(
            f"{path}: {where}: expected another content, found: {fault['msg']}. "
            f"{repair}"
        ) from None
