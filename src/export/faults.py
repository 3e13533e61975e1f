"""The line on each format that is left out: what is wrong, and what to do."""

import re

from src.errors import one_line

# Of a converter's own source, such as `/usr/lib/python3/site-packages/a.py:12:1:`.
SOURCE_PLACE = re.compile(r"/[^\s'\"]*\.\w+(:\d+)*:?|<unknown>:\d+:\s?|loc\(.*")

OTHER_LAYER = "write the layer with other operations"


class ConverterError(Exception):
    """The error of a converter in another process, with its class."""


def without_operator(operation: str) -> str:
    """Why a network has no graph."""
    return f"expected operations of src/export/graph.py, found {operation}"


def converter_error(error: Exception) -> str:
    """A converter's error without the places in its source, which users cannot act on.

    At most 200 letters, without a final full stop or colon.
    """
    known = isinstance(error, ConverterError)
    text = str(error) if known else f"{type(error).__name__}: {error}"
    return one_line(Exception(SOURCE_PLACE.sub(" ", text))).rstrip(": ")


def left_out(file: object, found: str, advice: str) -> str:
    """The line on a format or a page: its file, what was found, and what to do."""
    end = "" if found.endswith("...") else "."
    return f"{file}: {found}{end} It is left out: {advice}."


def advice(name: str, *, exact: bool) -> str:
    """What to do without a format.

    Args:
        name: of the format.
        exact: whether it has the network's own numbers.
    """
    if exact:
        return f"remove {name} from export_formats, or {OTHER_LAYER}"
    return f"name tflite in export_formats, not {name}: it has 32-bit numbers"
