"""The files of a fictional finished run, for the report and its inputs."""

import io

import numpy as np
from PIL import Image

from src import paths
from src.data.examples import Examples, Source
from src.data.prepared import save_prepared
from src.evaluation.metrics import test_metrics as all_metrics
from src.results.read import TEST_PLOTS
from stages.evaluate import TEST_DETAILS
from tests.helpers.files import (
    committed,
    write_csv,
    write_file,
    write_json,
    write_metrics,
    write_record,
)

EXPORT = {
    "onnx": {"accuracy": 0.875, "bytes": 215156, "changed": 2, "mean_difference": 1e-9},
    "stablehlo": {"accuracy": 0.75, "bytes": 7, "largest_difference": 6e-07},
}


class FinishedRun:
    """Writes the files that the stages would have written to the working directory."""

    def __init__(self, names, shape=(4, 6, 1), wrong=5, count=40, files=None):
        rng = np.random.default_rng(0)
        self.names = names
        self.labels = np.arange(count, dtype=np.int32) % len(names)
        self.images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        self.predicted = self.labels.copy()
        self.predicted[:wrong] = (self.labels[:wrong] + 1) % len(names)
        self.files = files or [""] * count
        self.confidence = np.round(rng.uniform(0.5, 1.0, count), 6)
        test = Examples(self.images, self.labels)
        splits = {"train": test, "validation": test, "test": test}
        source = Source("made up", "1.2", names, test, None, None)
        self.manifest = committed(save_prepared, source, splits)
        self.write_training()
        self.write_scores()
        self.write_plots()
        self.write_export()
        paths.LOCK.write_text("jax==1\n")

    def write_training(self):
        write_metrics(paths.METRICS / "train.json", {"best_epoch": 2})
        details = {"epochs": 3, "steps": 1234, "skipped": 0}
        write_metrics(paths.DETAILS / "train.json", details)
        sizes = {key: {"examples": 40} for key in ("train", "validation", "test")}
        write_metrics(paths.METRICS / "prepare.json", sizes)
        details = {"in_both": {"train_test": 6789}}
        write_metrics(paths.DETAILS / "prepare.json", details)
        record = {
            "architecture": {"model": "cnn_max"},
            "class_names": self.names,
            "data_sha256": {"train": self.manifest["sha256"]["train"]},
            "epoch": 2,
            "stopped": "patience",
            "versions": {"jax": "9.8.7"},
            "sha256": "d" * 64,
        }
        write_record(paths.MODEL, record)

    def write_scores(self):
        count, classes = len(self.labels), len(self.names)
        rest = (1 - self.confidence) / classes
        probabilities = np.repeat(rest[:, None], classes, 1)
        probabilities[np.arange(count), self.predicted] = self.confidence
        self.scores = all_metrics(np.log(probabilities), self.labels, self.names, 1)
        details = {
            name: self.scores[name] for name in TEST_DETAILS if name in self.scores
        }
        write_metrics(paths.METRICS / "test.json", {"test": self.scores})
        write_metrics(paths.DETAILS / "test.json", {"test": details})
        named = [[self.names[i] for i in of] for of in (self.labels, self.predicted)]
        confidence = self.confidence.tolist()
        rows = zip(range(count), *named, confidence, self.files, strict=True)
        header = ("index", "actual", "predicted", "confidence", "file")
        write_csv(paths.PREDICTIONS, header, rows)

    def write_plots(self):
        self.plots = {}
        for index, name in enumerate(TEST_PLOTS):
            file = io.BytesIO()
            Image.new("L", (600 + index, 300)).save(file, "PNG")
            self.plots[name] = file.getvalue()
            write_file(paths.PLOTS / f"{name}.png", self.plots[name])

    def write_export(self):
        write_json(paths.DETAILS / "export.json", {"export": EXPORT})
        files = {
            name: {"file": f"model.{name}", "sha256": name[0] * 64} for name in EXPORT
        }
        manifest = {"formats": files, "model": {"sha256": "d" * 64}}
        write_record(paths.EXPORT / "manifest.json", manifest)
