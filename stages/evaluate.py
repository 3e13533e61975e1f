"""Scores the trained network on the test split, which no other stage learns from.

Run by `dvc repro evaluate`; every test image is scored exactly once.
"""

from src import paths
from src.config.params import Params
from src.runtime.determinism import pin_arithmetic
from src.runtime.stage import StageContext, run_stage


def main(params: Params, context: StageContext) -> str:
    """Writes the test metrics, a prediction per image, and the pictures."""
    pin_arithmetic(params)
    import numpy as np

    from src.data.prepared import load_manifest, load_split
    from src.evaluation.metrics import confusion_matrix, test_metrics
    from src.evaluation.predict import predict, predictions_csv
    from src.models.checkpoint import load_trained
    from src.reporting.plots import draw_confusion, draw_learning_curves, draw_mistakes
    from src.storage.json_files import metrics_bytes

    manifest = load_manifest()
    trained = load_trained(manifest)
    images, labels = load_split("test", manifest)
    log_probabilities = predict(trained.model, images)
    probabilities = np.exp(log_probabilities)
    names = manifest.class_names

    scores = test_metrics(log_probabilities, labels, names, params.top_k)
    confusion = confusion_matrix(labels, probabilities.argmax(1), len(names))
    files = {
        paths.METRICS / "test.json": metrics_bytes({"test": scores}),
        paths.PREDICTIONS: predictions_csv(probabilities, labels, names),
        paths.PLOTS / "learning_curves.png": draw_learning_curves(
            paths.HISTORY, trained.record.history_sha256
        ),
        paths.PLOTS / "confusion.png": draw_confusion(confusion, names),
        paths.PLOTS / "mistakes.png": draw_mistakes(
            images, labels, probabilities, names
        ),
    }
    with context.outputs() as outputs:
        outputs.write_all(files)
    return (
        f"{len(labels)} images: accuracy {scores['accuracy']:.4f} (95 % "
        f"interval {scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f}), "
        f"loss {scores['loss']:.4f} -> {paths.METRICS / 'test.json'}"
    )


if __name__ == "__main__":
    run_stage("evaluate", main)
