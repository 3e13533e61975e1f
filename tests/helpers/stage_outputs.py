"""The files that each stage writes."""

from src.results.read import TEST_PLOTS
from tests.helpers.chaos import OUTPUTS

STAGE_OUTPUTS = {
    "prepare": [
        *(f"data/prepared/{name}.npz" for name in ("train", "validation", "test")),
        *(f"data/prepared/shards/train/0000{number}.npz" for number in (1, 2)),
        "data/prepared/manifest.json",
        "data/prepared/files.csv",
        "metrics/prepare.json",
        "metrics/details/prepare.json",
    ],
    "train": list(OUTPUTS),
    "evaluate": [
        "metrics/test.json",
        "metrics/details/test.json",
        "metrics/plots/predictions.csv",
        "metrics/plots/probabilities.npz",
        *(f"metrics/plots/{name}.png" for name in TEST_PLOTS),
    ],
    "export": [
        "models/export/model.stablehlo",
        "models/export/weights.npz",
        "models/export/unlike.npz",
        "models/export/run.py",
        "models/export/manifest.json",
        "models/export/MODEL_CARD.md",
        "models/export/demo.html",
        "models/export/latency.json",
        "metrics/export.json",
        "metrics/details/export.json",
    ],
    "report": ["metrics/report.html"],
}
