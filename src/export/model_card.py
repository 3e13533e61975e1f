"""`MODEL_CARD.md`: what the model is, in words and tables, from what was measured."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from src.config.names import FormatName
from src.data.prepared import PREPARE_AGAIN
from src.evaluation.metrics import CALIBRATION_BINS
from src.export.fit_picture import BRIGHT, DARK
from src.models.checkpoint import TrainedModel
from src.results.read import EVALUATE, TRAIN, read_metrics
from src.results.schema import (
    ClassScores,
    EvaluateMetrics,
    PrepareMetrics,
    Scores,
    TrainMetrics,
)

TEMPLATE = Path(__file__).with_name("model_card.md")
# Of the data sets that README.md names; the terms of others are not known here.
LICENCES = {
    "digits": "CC BY 4.0 (E. Alpaydin and C. Kaynak, UCI, 1998)",
    "mnist": "CC BY-SA 3.0 (Y. LeCun, C. Cortes and C. Burges)",
    "fashion_mnist": "MIT (Zalando SE, 2017)",
}
NO_LICENCE = "not known to this program: ask where the data came from"

Numbers = Mapping[str, Any]


class RunScores(NamedTuple):
    """What the stages before measured."""

    prepare: PrepareMetrics
    train: TrainMetrics
    test: Scores


def read_scores() -> RunScores:
    """The metrics of prepare, train and evaluate.

    Raises:
        DataError: a file is missing or damaged.
    """
    return RunScores(
        read_metrics("prepare", PrepareMetrics, PREPARE_AGAIN),
        read_metrics("train", TrainMetrics, TRAIN),
        read_metrics("test", EvaluateMetrics, EVALUATE).test,
    )


def model_card(
    trained: TrainedModel,
    manifest: Numbers,
    exported: Mapping[FormatName, Numbers],
    scores: RunScores,
) -> bytes:
    """The card as Markdown, with the front matter that Hugging Face reads.

    Args:
        trained: the network.
        manifest: the content of the export's `manifest.json`.
        exported: what `metrics/export.json` says, by format.
        scores: what the stages before said.
    """
    # Markdown, not HTML: `plain` escapes what stands outside of code.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    environment.filters |= {"plain": plain, "share": "{:.4f}".format}
    environment.filters["small"] = "{:.1e}".format
    template = environment.from_string(TEMPLATE.read_text("utf-8"))
    return template.render(facts(trained, manifest, exported, scores)).encode()


def facts(
    trained: TrainedModel,
    manifest: Numbers,
    exported: Mapping[FormatName, Numbers],
    scores: RunScores,
) -> dict[str, Any]:
    """What the template asks for; arguments as for `model_card`."""
    model = manifest["model"]
    classes = class_rows(scores.test.classes)
    shape = model["architecture"]["image_shape"]
    return {
        "title": f"{model['architecture']['model']} on {model['dataset']}",
        "model": model,
        "weights": f"{sum(array.size for array in trained.weights.values()):,}",
        "shape": shape,
        "manifest": manifest,
        "prepare": scores.prepare,
        "train": scores.train,
        "test": scores.test,
        "bins": CALIBRATION_BINS,
        "ground": ground(manifest["input"]["background"]),
        "classes": classes,
        "weakest": min(
            classes, key=lambda each: (not each["examples"], each["recall"])
        ),
        "licence": LICENCES.get(model["dataset"], NO_LICENCE),
        "picture_command": picture_command(shape, manifest["input"]["background"]),
        "exported": {
            name: {**results, **manifest["formats"][name]}
            for name, results in exported.items()
        },
    }


def ground(background: float) -> str:
    """What the things in the training images stand on, in words."""
    if background < DARK:
        return "a dark ground"
    return "a bright ground" if background > BRIGHT else "a ground like theirs"


def plain(value: str) -> str:
    """A name in Markdown: nothing in it ends a cell, opens a tag or formats others."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$])", r"\\\1", line)


def class_rows(classes: Mapping[str, ClassScores]) -> list[dict[str, Any]]:
    """A row per class, with the interval of its recall."""
    rows = []
    for name, scores in classes.items():
        low, high = scores.recall_interval()
        rows.append({"name": name, **scores.model_dump(), "low": low, "high": high})
    return rows


def picture_command(shape: Sequence[int], background: float) -> str:
    """What a reader types to make `pictures.npy` of a picture file."""
    height, width, channels = shape
    mode, level = ("L", "RGB")[channels // 3], (round(background),) * channels
    fill = level[0] if channels == 1 else level
    return (
        'python -c "import numpy; from PIL import Image as I, ImageOps as O; '
        f"p = I.open('picture.png').convert('{mode}'); "
        f"p = O.pad(p, ({width}, {height}), I.Resampling.BOX, {fill}); "
        "numpy.save('pictures.npy', "
        f'numpy.reshape(p, (1, {height}, {width}, {channels})))"'
    )
