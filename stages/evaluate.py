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

    from src.data.examples import Examples
    from src.data.prepared import Manifest
    from src.evaluation.decision import Answers, Decision
    from src.models.checkpoint import ModelRecord, TrainedModel

# Scores that `dvc metrics diff` does not show: metrics/details/test.json.
TEST_DETAILS = (
    "accuracy_low",
    "accuracy_high",
    "balanced_accuracy",
    "correct",
    "examples",
    "top_k",
    "roc_auc",
    "average_precision",
    "aurc",
    "classes",
)


def main(params: Params, context: StageContext) -> str:
    """Writes the test metrics, a prediction per image, and the plots."""
    pin_arithmetic(params)
    import numpy as np

    from src.data.prepared import load_manifest, load_split
    from src.evaluation.decision import Decision, decide
    from src.evaluation.metrics import confusion_matrix, test_metrics
    from src.evaluation.predict import (
        predict,
        predictions_csv,
        probabilities_npz,
    )
    from src.models.checkpoint import load_trained
    from src.storage.json_files import metrics_bytes, rounded

    manifest = load_manifest()
    trained = load_trained(manifest)
    # As the details hold it, from which export reads it.
    decision = Decision(
        threshold=rounded(find_threshold(params, trained, manifest)),
        reject_below=rounded(params.reject_below),
    )
    test = load_split("test", manifest)
    images, labels = test
    files = test_files(len(labels))
    log_probabilities = predict(trained.model, images)
    probabilities = np.exp(log_probabilities)
    names, record = manifest.class_names, trained.record
    answers = decide(probabilities, decision)
    predicted = answers.predicted
    scores = test_metrics(log_probabilities, labels, names, params.top_k, predicted)
    headlines = {name: scores[name] for name in scores if name not in TEST_DETAILS}
    details = {name: scores[name] for name in TEST_DETAILS if name in scores}
    details |= decision_details(decision, answers, labels)
    counts = confusion_matrix(labels, predicted, len(names))
    rejected = decision.reject_below
    drawn = draw_plots(trained, test, files, probabilities, answers, counts, rejected)
    contents = {
        paths.METRICS / "test.json": metrics_bytes({"test": headlines}),
        paths.DETAILS / "test.json": metrics_bytes({"test": details}),
        paths.PREDICTIONS: predictions_csv(
            probabilities, labels, names, files, decision
        ),
        paths.PROBABILITIES: probabilities_npz(probabilities, names),
        **{paths.PLOTS / f"{name}.png": plot for name, plot in drawn.items()},
    }
    with context.outputs() as outputs:
        outputs.write_all(contents)
    warn_of_missing_classes(counts, names, record)
    return (
        f"{len(labels)} images: accuracy {scores['accuracy']:.4f} (95 % interval "
        f"{scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f}), "
        f"loss {scores['loss']:.4f} -> {paths.METRICS / 'test.json'}"
    )


def draw_plots(
    trained: TrainedModel,
    test: Examples,
    files: list[str],
    probabilities: np.ndarray,
    answers: Answers,
    confusion: np.ndarray,
    reject_below: float | None,
) -> dict[str, bytes]:
    """The plots by name, as PNG files; prints a warning if letters are missing."""
    from src.evaluation.heat_maps import heat_maps
    from src.reporting import curves, fonts, plots
    from src.reporting.heat_map_plots import Explained, draw_heat_maps

    (images, labels), record = test, trained.record
    names, predicted = record.class_names, answers.predicted
    # Of the most likely class, whatever the threshold: is this probability right?
    most_likely = probabilities.max(1), probabilities.argmax(1) == labels
    drawn = {
        "learning_curves": plots.draw_learning_curves(
            paths.HISTORY, record.history_sha256, record.epoch
        ),
        "calibration": plots.draw_calibration(*most_likely),
        "risk_coverage": curves.draw_risk_coverage(answers, labels, reject_below),
    }
    shown = plots.shown_mistakes(labels, probabilities, predicted)
    maps = heat_maps(trained.model, images[shown], predicted[shown])
    explained = [
        Explained(images[row], heat, names[predicted[row]], answers.confidence[row])
        for row, heat in zip(shown, maps, strict=True)
    ]
    with fonts.fonts_for([*names, *(files[row] for row in shown)]) as warning:
        drawn |= {
            "confusion": plots.draw_confusion(confusion, names),
            "one_vs_rest": curves.draw_one_vs_rest(probabilities, labels, names),
            "mistakes": plots.draw_mistakes(
                images, labels, probabilities, names, files, predicted
            ),
            "heat_maps": draw_heat_maps(explained, shown.tolist()),
        }
    if warning:
        print(f"evaluate: warning: {warning}", flush=True)  # noqa: T201
    return drawn


def find_threshold(
    params: Params, trained: TrainedModel, manifest: Manifest
) -> float | None:
    """The threshold of the second of two classes; None: the more likely class.

    A rule chooses it on validation. Test is not used.

    Raises:
        ParameterError: there are not two classes, or validation lacks one of them.
    """
    import numpy as np

    from src.data.prepared import load_split
    from src.errors import ParameterError
    from src.evaluation.predict import predict
    from src.evaluation.threshold import choose_threshold

    rule, names = params.threshold, manifest.class_names
    if rule is None:
        return None
    if len(names) != 2:
        raise ParameterError(
            f"params.yaml: threshold: expected two classes for threshold: {rule}, "
            f"found {len(names)}. Leave it empty."
        )
    if not isinstance(rule, str):
        return None if rule == 0.5 else rule  # at 0.5, ties go to the first class too
    images, labels = load_split("validation", manifest)
    missing = [name for index, name in enumerate(names) if index not in labels]
    if missing:
        raise ParameterError(
            f"params.yaml: threshold: expected validation images of both classes for "
            f"threshold: {rule}, found none of {missing[0]}. Raise "
            "validation_fraction, or set a number, as in threshold: 0.3."
        )
    scores = np.exp(predict(trained.model, images))[:, 1].astype(np.float64)
    return choose_threshold(rule, scores, labels == 1)


def decision_details(
    decision: Decision, answers: Answers, labels: np.ndarray
) -> dict[str, float]:
    """What was decided and, with `reject_below`, the coverage; for export too."""
    from src.evaluation.risk_coverage import answered_scores

    given = {
        key: value for key, value in decision._asdict().items() if value is not None
    }
    if decision.reject_below is None:
        return given
    if answers.unsure.all():
        print_warning(
            "evaluate",
            f"the network is unsure of all {len(labels)} test images. Lower "
            f"reject_below ({decision.reject_below}).",
        )
    correct = answers.predicted == labels
    return given | answered_scores(correct, answers.unsure)


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
