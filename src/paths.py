"""The project's paths, relative to the repository's root."""

from pathlib import Path

PARAMS = Path("params.yaml")
LOCK = Path("requirements.lock")

MANUAL = Path("data/manual")
INITIAL_WEIGHTS = Path("data/weights")
PREPARED = Path("data/prepared")
MANIFEST = PREPARED / "manifest.json"
FILES = PREPARED / "files.csv"
SHARDS = PREPARED / "shards"

WEIGHTS = Path("models/model.safetensors")
MODEL = Path("models/model.json")
EXPORT = Path("models/export")

METRICS = Path("metrics")
DETAILS = METRICS / "details"
REPORT = METRICS / "report.html"
PLOTS = METRICS / "plots"
HISTORY = PLOTS / "history.csv"
STEPS = PLOTS / "steps.csv"
PREDICTIONS = PLOTS / "predictions.csv"
PROBABILITIES = PLOTS / "probabilities.npz"

LIVE = Path("live/index.html")
