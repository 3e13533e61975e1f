"""Writes the trained network as files that run without this project, proven equal.

Run by `dvc repro export`; each file is read back from the disk and run on all of test.
"""

from src import paths
from src.config import Params
from src.determinism import pin_arithmetic
from src.stage import run_stage


def main(params: Params) -> str:
    """Writes models/export and what it measured of each file."""
    pin_arithmetic(params)
    import numpy as np

    from src.checkpoint import load_trained
    from src.data.prepared import load_manifest, load_split
    from src.export.formats import compare, write_export
    from src.files import write_metrics
    from src.lineage import outputs
    from src.predict import predict

    manifest = load_manifest()
    trained = load_trained(manifest)
    test = load_split("test", manifest)
    expected = np.exp(predict(trained.model, test.images))
    with outputs():
        predictors = write_export(params.export_formats, trained)
        results = {
            name: compare(name, predictor, test, expected)
            for name, predictor in predictors.items()
        }
        write_metrics(paths.METRICS / "export.json", {"export": results})
    worst = max(result["largest_difference"] for result in results.values())
    return (
        f"{', '.join(results)}: equal to the trained network on {len(test.labels)} "
        f"test images (largest difference {worst:.1e}) -> {paths.EXPORT}"
    )


if __name__ == "__main__":
    run_stage("export", main)
