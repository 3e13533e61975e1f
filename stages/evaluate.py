"""Scores the trained network on the test split, which no other stage learns from.

Run by `dvc repro evaluate`; every test image is scored exactly once.
"""

from src import paths
from src.config.params import Params
from src.runtime.determinism import pin_arithmetic
from src.runtime.stage import run_stage


def main(params: Params) -> str:
    """Writes the test metrics, a prediction per image, and the pictures."""
    pin_arithmetic(params)
    import numpy as np

    from src.data.prepared import load_manifest, load_split
    from src.evaluation.metrics import confusion_matrix, test_metrics
    from src.evaluation.predict import predict, write_predictions
    from src.models.checkpoint import load_trained
    from src.reporting.plots import draw_confusion, draw_learning_curves, draw_mistakes
    from src.storage.json_files import write_metrics
    from src.storage.lineage import outputs

    manifest = load_manifest()
    trained = load_trained(manifest)
    images, labels = load_split("test", manifest)
    log_probabilities = predict(trained.model, images)
    probabilities = np.exp(log_probabilities)
    names = manifest.class_names

    scores = test_metrics(log_probabilities, labels, names, params.top_k)
    confusion = confusion_matrix(labels, probabilities.argmax(1), len(names))
    mistakes = paths.PLOTS / "mistakes.png"
    with outputs():
        write_metrics(paths.METRICS / "test.json", {"test": scores})
        write_predictions(probabilities, labels, names)
        curves = paths.PLOTS / "learning_curves.png"
        draw_learning_curves(paths.HISTORY, trained.record.history_sha256, curves)
        draw_confusion(confusion, names, paths.PLOTS / "confusion.png")
        draw_mistakes(images, labels, probabilities, names, mistakes)
    return (
        f"{len(labels)} images: accuracy {scores['accuracy']:.4f} (95 % "
        f"interval {scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f}), "
        f"loss {scores['loss']:.4f} -> {paths.METRICS / 'test.json'}"
    )


if __name__ == "__main__":
    run_stage("evaluate", main)
