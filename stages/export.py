"""Writes the trained network as files that run without this project, proven equal.

Run by `dvc repro export`; each file is run in a process of its own on all of test.
"""

from src import paths
from src.config.params import Params
from src.runtime.cores import bound_to
from src.runtime.determinism import pin_arithmetic
from src.runtime.stage import StageContext, run_stage


def main(params: Params, context: StageContext) -> str:
    """Writes models/export and what it measured of each file."""
    pin_arithmetic(params)
    import numpy as np

    from src.data.prepared import load_manifest, load_split, open_split
    from src.evaluation.predict import predict
    from src.export.demo_page import demo_page
    from src.export.formats import check_packages, convert_all, write_files
    from src.export.latency import NETWORK, latency_report, table, time_network
    from src.export.model_card import model_card, read_scores
    from src.export.verify import check_layers, layers_agree, prove_all, summary
    from src.models.checkpoint import load_trained
    from src.storage.json_files import json_bytes, metrics_bytes

    check_packages(params.export_formats)
    manifest = load_manifest()
    trained = load_trained(manifest)
    scores = read_scores()
    test, train = load_split("test", manifest), open_split("train", manifest)
    expected = np.exp(predict(trained.model, test.images))
    agree = layers_agree(trained, test.images, expected)
    check_layers(params.export_formats, agree)
    own = time_network(trained.model, test.images)
    export = convert_all(
        params.export_formats, trained, train.images, layers_agree=agree
    )
    # On all cores, so that the result is the same for a job that shares the machine.
    with bound_to(context.cores):
        proofs = prove_all(params.export_formats, export, test, expected)
    results = {name: proof.metrics for name, proof in proofs.items()}
    latency = {name: proof.latency for name, proof in proofs.items()} | {NETWORK: own}
    report = latency_report(latency, trained.record.sha256)
    card = model_card(trained, export.manifest, results, scores)
    files = export.files | {"latency.json": json_bytes(report), "MODEL_CARD.md": card}
    if agree:
        files["demo.html"] = demo_page(trained, export.manifest)
    with context.outputs() as outputs:
        write_files(files, outputs)
        metrics = metrics_bytes({"export": results})
        outputs.write(paths.METRICS / "export.json", metrics)
    print(table(latency))  # noqa: T201 - of this moment, so in no metrics file
    missing = "" if agree else "; no demo.html: its list of layers is wrong"
    return f"{summary(results, len(test.labels))}{missing} -> {paths.EXPORT}"


if __name__ == "__main__":
    run_stage("export", main)
