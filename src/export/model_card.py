"""`MODEL_CARD.md`: describes the model, its scores, its files and its limits."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from src.config.names import FormatName
from src.data.pictures import KINDS
from src.evaluation.metrics import CALIBRATION_BINS
from src.export.fit_picture import BRIGHT, DARK
from src.models.checkpoint import TrainedModel
from src.results.read import RunMetrics
from src.results.schema import ClassScores

CARD_TEMPLATE = Path(__file__).with_name("model_card.md")
# Of the data sets that the documentation names. Licences of other data are unknown.
LICENCES = {
    "digits": "CC BY 4.0 (E. Alpaydin and C. Kaynak, UCI, 1998)",
    "mnist": "CC BY-SA 3.0 (Y. LeCun, C. Cortes and C. Burges)",
    "fashion_mnist": "MIT (Zalando SE, 2017)",
}
UNKNOWN_LICENCE = "unknown; ask the source of the data"

Numbers = Mapping[str, Any]


def model_card(
    trained: TrainedModel,
    manifest: Numbers,
    exported: Mapping[FormatName, Numbers],
    metrics: RunMetrics,
) -> bytes:
    """The card as Markdown, with the front matter that Hugging Face reads.

    Args:
        trained: the network.
        manifest: the content of the export's `manifest.json`.
        exported: the measurements of each format.
        metrics: of prepare, train and evaluate.
    """
    # Output is Markdown, not HTML: the filter `plain` escapes text outside of code.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    environment.filters |= {"plain": plain, "decimals": "{:.4f}".format}
    environment.filters["scientific"] = "{:.1e}".format
    template = environment.from_string(CARD_TEMPLATE.read_text("utf-8"))
    variables = card_variables(trained, manifest, exported, metrics)
    return template.render(variables).encode()


def card_variables(
    trained: TrainedModel,
    manifest: Numbers,
    exported: Mapping[FormatName, Numbers],
    metrics: RunMetrics,
) -> dict[str, Any]:
    """The variables of the template; arguments as for `model_card`."""
    model = manifest["model"]
    classes = class_rows(metrics.details.classes)
    shape = model["architecture"]["image_shape"]
    return {
        "title": f"{model['architecture']['model']} on {model['dataset']}",
        "model": model,
        "parameter_count": sum(array.size for array in trained.weights.values()),
        "shape": shape,
        "manifest": manifest,
        "metrics": metrics,
        "scores": metrics.scores,
        "details": metrics.details,
        "bins": CALIBRATION_BINS,
        "background": background_words(manifest["input"]["background"]),
        "classes": classes,
        "weakest": min(
            classes, key=lambda each: (not each["examples"], each["recall"])
        ),
        "licence": LICENCES.get(model["dataset"], UNKNOWN_LICENCE),
        "kinds": KINDS,
        "pictures": manifest["input"].get("pictures"),
        "given": "picture.png" if "pictures" in manifest["input"] else "pictures.npy",
        "picture_command": picture_command(shape, manifest["input"]["background"]),
        "exported": {
            name: {**results, **manifest["formats"][name]}
            for name, results in exported.items()
        },
    }


def background_words(brightness: float) -> str:
    """The background of the training images, in words."""
    if brightness < DARK:
        return "a dark background"
    return "a bright background" if brightness > BRIGHT else "a similar background"


def plain(value: str) -> str:
    """Escapes a name for Markdown, also inside a table cell."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$])", r"\\\1", line)


def class_rows(classes: Mapping[str, ClassScores]) -> list[dict[str, Any]]:
    """A row per class, with the 95 % interval of its recall."""
    rows = []
    for name, scores in classes.items():
        low, high = scores.recall_interval()
        rows.append({"name": name, **scores.model_dump(), "low": low, "high": high})
    return rows


def picture_command(shape: Sequence[int], background: float) -> str:
    """The shell command that converts a picture file to `pictures.npy`."""
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
