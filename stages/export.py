"""Exports the trained network to files that run without this project.

Run by `dvc repro export`. Each file is tested on all test images in a fresh process.
Formats are converted and tested side by side.
"""

import sys
from typing import TYPE_CHECKING

from src import paths
from src.config.params import Params
from src.runtime.determinism import pin_arithmetic
from src.runtime.stage import StageContext, print_error, run_stage

if TYPE_CHECKING:
    from src.export.manifest import Export
    from src.export.verify import Proofs


def main(params: Params, context: StageContext) -> str:
    """Writes models/export and the measurements of each format."""
    pin_arithmetic(params)
    from src.export.fresh_process import FreshProcesses
    from src.export.tensorflow_converter import TensorflowConverter

    formats = params.export_formats
    with FreshProcesses(context.cores) as processes:
        # It imports TensorFlow from now on, while this process imports JAX.
        with TensorflowConverter(formats) as tensorflow:
            import numpy as np

            from src.data.prepared import load_manifest, load_split, open_split
            from src.evaluation.decision import Decision
            from src.evaluation.predict import predict
            from src.export.convert import convert_all
            from src.export.formats import check_packages, format_module
            from src.export.latency import compile_network
            from src.export.manifest import add_demo, add_unlike, leave_out
            from src.export.model_card import model_card
            from src.export.verify import image_file, prove_all
            from src.models.checkpoint import load_trained
            from src.results.read import read_run_metrics

            check_packages(formats)
            manifest = load_manifest()
            trained, metrics = load_trained(manifest), read_run_metrics()
            test, train = load_split("test", manifest), open_split("train", manifest)
            validation = open_split("validation", manifest)
            images = image_file(test, processes.folder)
            export = convert_all(
                formats,
                trained,
                train.images,
                tensorflow,
                ready=lambda name, files: processes.start(
                    name, format_module(name).FILE, files, images
                ),
                pictures=manifest.pictures,
                decision=Decision(
                    metrics.details.threshold, metrics.details.reject_below
                ),
            )
        export = add_unlike(export, train.images, validation.images)
        expected = np.exp(predict(trained.model, test.images))
        network = compile_network(trained.model, test.images)
        proofs = prove_all(formats, processes, export, test, expected, network)
    export = add_demo(leave_out(export, proofs.failed), trained, test, expected)
    card = model_card(trained, export.manifest, proofs.metrics, metrics)
    return write(context, export, proofs, card)


def write(
    context: StageContext, export: "Export", proofs: "Proofs", card: bytes
) -> str:
    """Writes and prints the results; returns the stage's last line."""
    from src.export.compare import summary
    from src.export.formats import write_files
    from src.export.latency import latency_report, latency_table
    from src.storage.json_files import json_bytes, metrics_bytes

    for reason in export.manifest["left_out"].values():
        print_error("export", reason)
    sha256 = export.manifest["model"]["sha256"]
    latency = json_bytes(latency_report(proofs.latency, sha256))
    files = export.files | {"latency.json": latency, "MODEL_CARD.md": card}
    details = metrics_bytes({"export": proofs.metrics})
    with context.outputs() as outputs:
        write_files(files, outputs)
        headlines = metrics_bytes({"export": proofs.differing})
        outputs.write(paths.METRICS / "export.json", headlines)
        outputs.write(paths.DETAILS / "export.json", details)
    print(latency_table(proofs.latency))  # noqa: T201 - differs each time, so not a metric
    return f"{summary(proofs.metrics, proofs.examples)} -> {paths.EXPORT}"


if __name__ == "__main__":
    run_stage("export", main, sys.argv[1:])
