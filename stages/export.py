"""Exports the trained network to files that run without this project.

Run by `dvc repro export`. Each file is tested on all test images in a fresh process.
Formats are converted and tested side by side.
"""

import sys

from src import paths
from src.config.params import Params
from src.runtime.determinism import pin_arithmetic
from src.runtime.stage import StageContext, print_error, run_stage


def main(params: Params, context: StageContext) -> str:
    """Writes models/export and the measurements of each format."""
    pin_arithmetic(params)
    from src.export.fresh_process import FreshProcesses
    from src.export.tensorflow_converter import TensorflowConverter

    formats = params.export_formats
    with (
        FreshProcesses(context.cores) as processes,
        TensorflowConverter(formats) as tensorflow,  # imports TensorFlow from now on
    ):
        import numpy as np

        from src.data.prepared import load_manifest, load_split, open_split
        from src.evaluation.predict import predict
        from src.export.compare import accuracy_differences, summary
        from src.export.convert import convert_all
        from src.export.formats import check_packages, format_module, write_files
        from src.export.latency import (
            NETWORK,
            compile_network,
            latency_report,
            latency_table,
            time_network,
        )
        from src.export.manifest import add_demo, leave_out
        from src.export.model_card import model_card
        from src.export.verify import image_file, prove_all
        from src.models.checkpoint import load_trained
        from src.results.read import read_run_metrics
        from src.storage.json_files import json_bytes, metrics_bytes

        check_packages(formats)
        manifest = load_manifest()
        trained, metrics = load_trained(manifest), read_run_metrics()
        test, train = load_split("test", manifest), open_split("train", manifest)
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
        )
        expected = np.exp(predict(trained.model, test.images))
        network = compile_network(trained.model, test.images)
        proofs = prove_all(formats, processes, export, test.labels, expected)
        own = time_network(network, test.images)
    export = leave_out(export, proofs.failed)
    export = add_demo(export, trained, test, expected)
    for reason in export.manifest["left_out"].values():
        print_error("export", reason)
    results = {name: proof.metrics for name, proof in proofs.proven.items()}
    latency = {name: proof.latency for name, proof in proofs.proven.items()}
    report = latency_report(latency | {NETWORK: own}, trained.record.sha256)
    card = model_card(trained, export.manifest, results, metrics)
    files = export.files | {"latency.json": json_bytes(report), "MODEL_CARD.md": card}
    differing = accuracy_differences(results, expected, test.labels)
    headlines = metrics_bytes({"export": differing})
    with context.outputs() as outputs:
        write_files(files, outputs)
        outputs.write(paths.METRICS / "export.json", headlines)
        outputs.write(paths.DETAILS / "export.json", metrics_bytes({"export": results}))
    print(latency_table(latency | {NETWORK: own}))  # noqa: T201 - differs each time, so not a metric
    return f"{summary(results, len(test.labels))} -> {paths.EXPORT}"


if __name__ == "__main__":
    run_stage("export", main, sys.argv[1:])
