"""The files that each stage writes."""

from tests.helpers.chaos import OUTPUTS

STAGE_OUTPUTS = {
    "prepare": [
        *(f"data/prepared/{name}.npz" for name in ("train", "validation", "test")),
        *(f"data/prepared/shards/train/0000{number}.npz" for number in (1, 2)),
        "data/prepared/manifest.json",
        "metrics/prepare.json",
    ],
    "train": list(OUTPUTS),
    "evaluate": [
        "metrics/test.json",
        "metrics/plots/predictions.csv",
        *(f"metrics/plots/{name}.png" for name in ("learning_curves", "confusion")),
        "metrics/plots/mistakes.png",
    ],
    "export": [
        "models/export/model.stablehlo",
        "models/export/weights.npz",
        "models/export/run.py",
        "models/export/manifest.json",
        "models/export/MODEL_CARD.md",
        "models/export/demo.html",
        "models/export/latency.json",
        "metrics/export.json",
    ],
    "report": ["metrics/report.html"],
}
