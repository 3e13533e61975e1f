"""Scores the trained network on the test split, each image exactly once.

Run by `dvc repro evaluate`. No other stage's choices depend on the test split.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from src import paths
from src.config.params import Params
from src.runtime.determinism import pin_arithmetic
from src.runtime.stage import StageContext, print_warning, run_stage

if TYPE_CHECKING:
    import numpy as np

    from src.models.checkpoint import ModelRecord

# Scores that `dvc metrics diff` does not show: metrics/details/test.json.
TEST_DETAILS = (
    "accuracy_low",
    "accuracy_high",
    "balanced_accuracy",
    "correct",
    "examples",
    "top_k",
    "classes",
)


def main(params: Params, context: StageContext) -> str:
    """Writes the test metrics, a prediction per image, and the plots."""
    pin_arithmetic(params)
    import numpy as np

    from src.data.prepared import load_manifest, load_split
    from src.evaluation.heat_maps import heat_maps
    from src.evaluation.metrics import confusion_matrix, test_metrics
    from src.evaluation.predict import predict, predictions_csv
    from src.models.checkpoint import load_trained
    from src.reporting import fonts, plots
    from src.reporting.heat_map_plots import Explained, draw_heat_maps
    from src.storage.json_files import metrics_bytes

    manifest = load_manifest()
    trained = load_trained(manifest)
    images, labels = load_split("test", manifest)
    files = test_files(len(labels))
    log_probabilities = predict(trained.model, images)
    probabilities = np.exp(log_probabilities)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    names, record = manifest.class_names, trained.record
    scores = test_metrics(log_probabilities, labels, names, params.top_k)
    headlines = {name: scores[name] for name in scores if name not in TEST_DETAILS}
    details = {name: scores[name] for name in TEST_DETAILS}
    history = paths.HISTORY, record.history_sha256
    curves = plots.draw_learning_curves(*history, record.epoch)
    calibration = plots.draw_calibration(confidence, predicted == labels)
    shown = plots.shown_mistakes(labels, probabilities)
    maps = heat_maps(trained.model, images[shown], predicted[shown])
    explained = [
        Explained(images[row], heat, names[predicted[row]], confidence[row])
        for row, heat in zip(shown, maps, strict=True)
    ]
    with fonts.fonts_for([*names, *(files[row] for row in shown)]) as fonts_warning:
        counts = confusion_matrix(labels, predicted, len(names))
        confusion = plots.draw_confusion(counts, names)
        mistakes = plots.draw_mistakes(images, labels, probabilities, names, files)
        looked = draw_heat_maps(explained, shown.tolist())
    if fonts_warning:
        print(f"evaluate: warning: {fonts_warning}", flush=True)  # noqa: T201
    contents = {
        paths.METRICS / "test.json": metrics_bytes({"test": headlines}),
        paths.DETAILS / "test.json": metrics_bytes({"test": details}),
        paths.PREDICTIONS: predictions_csv(probabilities, labels, names, files),
        paths.PLOTS / "learning_curves.png": curves,
        paths.PLOTS / "confusion.png": confusion,
        paths.PLOTS / "calibration.png": calibration,
        paths.PLOTS / "mistakes.png": mistakes,
        paths.PLOTS / "heat_maps.png": looked,
    }
    with context.outputs() as outputs:
        outputs.write_all(contents)
    warn_of_missing_classes(counts, names, record)
    return (
        f"{len(labels)} images: accuracy {scores['accuracy']:.4f} (95 % interval "
        f"{scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f}), "
        f"loss {scores['loss']:.4f} -> {paths.METRICS / 'test.json'}"
    )


def warn_of_missing_classes(
    confusion: np.ndarray, class_names: list[str], record: ModelRecord
) -> None:
    """Warns if the model never predicts a class of test, unless `train` has warned."""
    from src.evaluation.metrics import prediction_warning

    actual, predicted = confusion.sum(1), confusion.sum(0)
    warning = prediction_warning(actual, predicted, class_names, "test")
    if warning and not record.warning:
        print_warning("evaluate", warning)


def test_files(count: int) -> list[str]:
    """The file of each test image; empty for images from arrays.

    Raises:
        DataError: files.csv is missing or damaged, or lacks a row of an image.
    """
    from src.data.files_csv import read_files
    from src.errors import DataError

    files = read_files("test")
    if len(files) != count:
        raise DataError(
            f"{paths.FILES}: expected the {count} images of test.npz, found "
            f"{len(files)}. Prepare it again: dvc repro prepare"
        )
    return files


if __name__ == "__main__":
    run_stage("evaluate", main, sys.argv[1:])
