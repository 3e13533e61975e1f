"""Loads `params.yaml`, or says in one line what is wrong with it."""

from pathlib import Path

from pydantic import ValidationError

from src.config.explain import explain_fault
from src.config.flat_yaml import parse_flat_yaml
from src.config.params import Params
from src.errors import ParameterError

MAX_BYTES = 1 << 16  # six times the size of params.yaml; YAML is slow to parse


def load_params(path: Path) -> Params:
    """Reads and checks `params.yaml`.

    Raises:
        ParameterError: there is no such file, it is not a flat mapping, or a key or a
            value is wrong.
    """
    if not path.is_file():  # reading a pipe would block
        raise ParameterError(
            f"{path}: expected a file, found none. Run from the repository's root."
        )
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ParameterError(f"{path}: expected at most {MAX_BYTES} bytes, found more.")
    try:
        return Params.model_validate(parse_flat_yaml(content))
    except ValidationError as error:
        faults = error.errors(include_url=False)
        # A misspelt key is two faults, unknown and missing. Only the first says which.
        faults.sort(key=lambda fault: fault["type"] != "extra_forbidden")
        others = {fault["loc"][:1] for fault in faults[1:]} - {faults[0]["loc"][:1]}
        more = f" ({len(others)} more)" if others else ""
        properties = Params.model_json_schema()["properties"]
        sentence = explain_fault(faults[0], properties)
        raise ParameterError(f"{path}: {sentence}{more}") from None
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None
