"""`MODEL_CARD.md`: what the model is, in words and tables, from what was measured."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, UndefinedError

from src import paths
from src.checkpoint import Trained
from src.config import FormatName
from src.errors import DataError
from src.files import one_line, read_json
from src.metrics import CALIBRATION_BINS, wilson_interval

TEMPLATE = Path(__file__).with_name("model_card.md")
# Of the data sets that README.md names; the terms of others are not known here.
LICENCES = {
    "digits": "CC BY 4.0 (E. Alpaydin and C. Kaynak, UCI, 1998)",
    "mnist": "CC BY-SA 3.0 (Y. LeCun, C. Cortes and C. Burges)",
    "fashion_mnist": "MIT (Zalando SE, 2017)",
}
STAGES = {"prepare": "prepare", "train": "train", "test": "evaluate"}  # by file
NO_LICENCE = "not known to this program: ask where the data came from"
CALIBRATED = 0.02  # of calibration error: below, a probability can be taken at its word

Numbers = Mapping[str, Any]


def model_card(
    trained: Trained,
    manifest: Numbers,
    exported: Mapping[FormatName, Numbers],
    metrics: Numbers,
) -> bytes:
    """The card as Markdown, with the front matter that Hugging Face reads.

    Args:
        trained: the network.
        manifest: the content of the export's `manifest.json`.
        exported: what `metrics/export.json` says, by format.
        metrics: the contents of `metrics/prepare.json`, `train.json` and `test.json`,
            by stage.
    """
    # Markdown, not HTML: `plain` escapes what stands outside of code.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    environment.filters |= {"plain": plain, "share": "{:.4f}".format}
    environment.filters["small"] = "{:.1e}".format
    template = environment.from_string(TEMPLATE.read_text())
    try:
        said = facts(trained, manifest, exported, metrics)
        return template.render(said).encode()
    except (KeyError, TypeError, ValueError, UndefinedError) as error:
        raise DataError(
            f"{paths.METRICS}: expected the numbers of this pipeline's stages, found "
            f"none where the model card wants some: {one_line(error)}. dvc repro"
        ) from None


def facts(
    trained: Trained,
    manifest: Numbers,
    exported: Mapping[FormatName, Numbers],
    metrics: Numbers,
) -> dict[str, Any]:
    """What the template asks for; arguments as for `model_card`."""
    model = manifest["model"]
    classes = class_rows(metrics["test"]["test"]["classes"])
    shape = model["architecture"]["image_shape"]
    return {
        "title": f"{model['architecture']['model']} on {model['dataset']}",
        "model": model,
        "weights": f"{sum(array.size for array in trained.weights.values()):,}",
        "shape": shape,
        "manifest": manifest,
        "prepare": metrics["prepare"],
        "train": metrics["train"],
        "test": metrics["test"]["test"],
        "bins": CALIBRATION_BINS,
        "calibrated": CALIBRATED,
        "classes": classes,
        "weakest": min(classes, key=lambda each: each["recall"]),
        "licence": LICENCES.get(model["dataset"], NO_LICENCE),
        "picture_command": picture_command(*shape),
        "exported": {
            name: {**results, **manifest["formats"][name]}
            for name, results in exported.items()
        },
    }


def read_scores() -> dict[str, Numbers]:
    """The metrics of the stages before, by stage.

    Raises:
        DataError: one is missing.
    """
    return {
        name: read_json(
            paths.METRICS / f"{name}.json", f"Make it anew: dvc repro {stage}"
        )
        for name, stage in STAGES.items()
    }


def plain(value: str) -> str:
    """A name as Markdown shows it: nothing in it makes a table, a link or a tag."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$])", r"\\\1", line)


def class_rows(classes: Mapping[str, Numbers]) -> list[dict[str, Any]]:
    """A row per class, with the interval of its recall."""
    rows = []
    for name, scores in classes.items():
        recognised = round(scores["recall"] * scores["examples"])
        low, high = wilson_interval(recognised, max(scores["examples"], 1))
        rows.append({"name": name, **scores, "low": low, "high": high})
    return rows


def picture_command(height: int, width: int, channels: int) -> str:
    """What a reader types to make `pictures.npy` of a picture file."""
    mode = "L" if channels == 1 else "RGB"
    return (
        'python -c "import numpy, PIL.Image as I; '
        f"p = I.open('picture.png').convert('{mode}').resize(({width}, {height})); "
        "numpy.save('pictures.npy', "
        f'numpy.reshape(p, (1, {height}, {width}, {channels})))"'
    )
