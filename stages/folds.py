"""Cross-validation over the training split, and the labels that it puts in doubt.

`python -m stages.folds --folds 5` trains a network for each fold on the other folds and
predicts the fold with it. It writes metrics/folds.json (the scores), metrics/folds.npz
(out-of-fold probabilities), metrics/doubtful.html and metrics/doubtful_labels.csv. The
files of the current run do not change, and the test split is not read.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from src import paths
from src.config.params import Params
from src.errors import DataError, ParameterError
from src.runtime.cpu_devices import set_cpu_devices
from src.runtime.determinism import pin_arithmetic
from src.runtime.launch import check_alone
from src.runtime.stage import StageContext, run_stage

if TYPE_CHECKING:
    import numpy as np

    from src.data.prepared import Manifest
    from src.experiments.cross_validation import TrainingExamples
    from src.reporting.doubtful_page import DoubtfulSummary

SCORES, PROBABILITIES = paths.METRICS / "folds.json", paths.METRICS / "folds.npz"
PAGE, TABLE = paths.METRICS / "doubtful.html", paths.METRICS / "doubtful_labels.csv"


def main(params: Params, context: StageContext) -> str:
    """Trains, and writes the scores, the probabilities and the doubtful labels."""
    count = read_arguments()
    check_alone()
    pin_arithmetic(params)
    from src.data.prepared import load_manifest

    manifest = load_manifest()
    set_cpu_devices(params, manifest.image_shape)
    # JAX is imported only now: it reads the number of devices once.
    from src.experiments.cross_validation import load_training_examples
    from src.experiments.folds import divide, pack_folds, summarize_folds
    from src.storage.json_files import metrics_bytes

    train, names = load_training_examples(manifest, params), manifest.class_names
    groups = [origin.group for origin in train.origins]
    folds = divide(train.examples, groups, count, params.seed, names)
    probabilities, scores = predict_folds(train, folds, manifest, params)
    summary = summarize_folds(scores)
    packed = pack_folds(
        probabilities,
        train.examples.labels,
        folds,
        train.rows,
        [origin.file for origin in train.origins],
        names,
        manifest.digest("train"),
    )
    doubtful, page, table = judge(train, probabilities, count, manifest, params)
    if load_manifest() != manifest:
        raise DataError(
            f"{paths.MANIFEST}: expected the data that the folds were trained on, "
            "found others: prepare ran in the meantime. Run stages.folds again."
        )
    with context.outputs() as outputs:
        outputs.write(SCORES, metrics_bytes({"folds": {"folds": count, **summary}}))
        outputs.write(PROBABILITIES, packed)
        outputs.write(PAGE, page)
        outputs.write(TABLE, table)
    score = summary["accuracy"]
    return (
        f"{count} folds: accuracy {score['mean']:.4f} ± "
        f"{score['standard_deviation']:.4f} (95 % interval of the mean "
        f"{score['low']:.4f} to {score['high']:.4f}) -> {SCORES}; "
        f"{doubtful.doubtful} of {doubtful.examples} labels in doubt -> {PAGE}"
    )


def read_arguments() -> int:
    """The number of folds.

    Raises:
        ParameterError: it is less than 2.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=5, help="2 or more")
    count: int = parser.parse_args().folds
    if count < 2:
        raise ParameterError(
            f"--folds: expected an integer >= 2, found {count}. Use --folds 5."
        )
    return count


def predict_folds(
    train: TrainingExamples, folds: np.ndarray, manifest: Manifest, params: Params
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """The out-of-fold probabilities, and the scores of each fold, which it prints."""
    import numpy as np

    from src.evaluation.metrics import test_metrics
    from src.experiments.cross_validation import cross_validate

    labels, names = train.examples.labels, manifest.class_names
    probabilities = np.empty((len(labels), len(names)), np.float32)
    scores = []
    for fold in cross_validate(train.examples, folds, manifest, params):
        found, given = fold.log_probabilities, labels[fold.members]
        probabilities[fold.members] = np.exp(found)
        scores.append(test_metrics(found, given, names, params.top_k))
        print(  # noqa: T201
            f"fold {fold.number}: {len(given)} images: accuracy "
            f"{scores[-1]['accuracy']:.4f}, loss {scores[-1]['loss']:.4f}, best epoch "
            f"{fold.best_epoch} of {fold.epochs}",
            flush=True,
        )
    return probabilities, scores


def judge(
    train: TrainingExamples,
    probabilities: np.ndarray,
    folds: int,
    manifest: Manifest,
    params: Params,
) -> tuple[DoubtfulSummary, bytes, bytes]:
    """How many labels are in doubt, and the page and the table of them."""
    from src.data.examples import select_images
    from src.experiments.doubtful_labels import (
        describe_doubtful,
        doubtful_csv,
        judge_labels,
    )
    from src.reporting.doubtful_page import (
        MAX_SHOWN,
        DoubtfulSummary,
        build_doubtful_page,
    )

    images, labels = train.examples
    judged = judge_labels(labels, probabilities)
    doubtful = describe_doubtful(judged, probabilities, train, manifest.class_names)
    summary = DoubtfulSummary(
        dataset=manifest.dataset,
        data_path=params.data_path,
        examples=len(labels),
        folds=folds,
        doubtful=len(doubtful),
        estimate=judged.estimate,
        from_files=manifest.dataset == "folder",  # the source that reads labels.csv
        table=str(TABLE),
    )
    shown = select_images(images, judged.doubtful[:MAX_SHOWN])[:]
    page = build_doubtful_page(summary, doubtful[:MAX_SHOWN], shown)
    return summary, page, doubtful_csv(doubtful, summary.from_files)


if __name__ == "__main__":
    run_stage("folds", main)
