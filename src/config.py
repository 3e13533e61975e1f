"""Typed, checked view of `params.yaml`.

`params.yaml` is the only place where a hyperparameter gets its value: no field below
has a default, so a missing, misspelt or ill-typed key stops the run before any data is
read. Nothing here imports JAX or numpy: a typo is answered in a fraction of a second.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from src.errors import ParameterError
from src.flat_yaml import parse_flat_yaml

MAX_BYTES = 1 << 20

Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[Finite, Field(ge=0)]
Positive = Annotated[Finite, Field(gt=0)]
Share = Annotated[Finite, Field(ge=0, lt=1)]

Dataset = Annotated[
    str,
    Field(
        # A TFDS builder and perhaps its config; with a colon in it, a name would
        # make tensorflow-datasets import community code.
        pattern=r"^[a-z][a-z0-9_]{0,63}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$",
        description="a plain name such as digits, folder, npz, mnist or emnist/letters",
    ),
]
ModelName = Literal["mlp", "cnn", "cnn_max"]
OptimizerName = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"]
ScheduleName = Literal["constant", "warmup_cosine"]
AugmentName = Literal["flip", "shift"]
MonitorName = Literal["validation_loss", "validation_accuracy"]
FormatName = Literal["stablehlo"]


class Params(BaseModel, frozen=True, extra="forbid", strict=True):
    """Every hyperparameter of a run; the comments in `params.yaml` say what each does.

    Durations are in epochs, sizes in examples, `lr` is the peak of the schedule. `None`
    (`null` in the file) stands for "off" or "the model's own", where a field allows it.
    """

    dataset: Dataset
    data_path: Annotated[str, Field(min_length=1, description="a path")]
    validation_fraction: Annotated[Finite, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]

    model: ModelName
    hidden: Annotated[int, Field(ge=1, le=65536)] | None
    dropout: Share
    label_smoothing: Share
    augment: Annotated[tuple[AugmentName, ...], Field(strict=False)]

    optimizer: OptimizerName
    lr: Positive
    momentum: Share
    weight_decay: NotNegative
    schedule: ScheduleName
    warmup_epochs: NotNegative
    clip_norm: Positive | None

    batch_size: Count
    epochs: Count
    log_every: Count  # optimizer steps

    monitor: MonitorName
    monitor_mode: Literal["auto", "min", "max"]
    patience: Count | None
    min_delta: NotNegative

    export_formats: Annotated[tuple[FormatName, ...], Field(strict=False, min_length=1)]

    @model_validator(mode="after")
    def _listed_once(self) -> Self:
        for key in ("augment", "export_formats"):
            names = getattr(self, key)
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: expected each name once, got one twice.")
        return self

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.schedule == "warmup_cosine" and self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs: expected a number from 0 to epochs ({self.epochs}), "
                f"got {self.warmup_epochs}."
            )
        return self


ELSEWHERE = {"dataset", "data_path", "validation_fraction", "export_formats"}
TRAINING = [key for key in Params.model_fields if key not in ELSEWHERE]


def load_params(path: Path) -> Params:
    """Reads and checks `params.yaml`.

    Raises:
        ParameterError: no such file, not a flat mapping, or a key or value is wrong.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ParameterError(
            f"{path}: expected a file, found none. Run from the repository's root."
        ) from None
    if len(content) > MAX_BYTES:
        raise ParameterError(f"{path}: expected at most {MAX_BYTES} bytes, found more.")
    try:
        return Params.model_validate(parse_flat_yaml(content))
    except ValidationError as error:
        faults = error.errors(include_url=False)
        # A misspelt key is two faults, unknown and missing; the first helps to mend it.
        faults.sort(key=lambda fault: fault["type"] != "extra_forbidden")
        others = {fault["loc"][:1] for fault in faults[1:]} - {faults[0]["loc"][:1]}
        more = f" ({len(others)} more)" if others else ""
        raise ParameterError(f"{path}: {explain(faults[0])}{more}") from None
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None


def explain(fault: ErrorDetails) -> str:
    """One sentence: the key, what was expected, what was found, what to do."""
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    key = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key.{suggestion(key, list(Params.model_fields))}"
    schema = Params.model_json_schema()["properties"][key]
    if fault["type"] == "missing":
        return f"{key}: expected {expectation(schema)}, found no such key. Add it."
    found = fault["input"]
    hint = suggestion(found, schema.get("enum", []))
    return f"{key}: expected {expectation(schema)}, got {shortened(found)}.{hint}"


def suggestion(found: object, known: list[str]) -> str:
    """` Did you mean ...?`, or nothing where nothing known is near."""
    near = get_close_matches(str(found), known, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def shortened(value: object) -> str:
    """A value as the message shows it, however long it is."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def expectation(schema: dict[str, Any]) -> str:
    """What a field takes, in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(expectation(option) for option in schema["anyOf"])
    if "description" in schema:
        return str(schema["description"])
    if "enum" in schema or "const" in schema:
        return f"one of {', '.join(schema.get('enum') or [schema['const']])}"
    if schema["type"] == "array":
        return f"a list with {expectation(schema['items'])}"
    if schema["type"] == "null":
        return "null"
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
