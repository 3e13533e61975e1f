"""Turns any source of images into three splits of uint8 images and int32 labels.

Run by `dvc repro prepare`; no stage before evaluate reads the test split.
"""

from src import paths
from src.config.params import Params
from src.runtime.stage import run_stage


def main(params: Params) -> str:
    """Loads the source, splits it, and writes data/prepared."""
    from src.data.examples import data_warnings
    from src.data.prepared import check_source, save_prepared, split_source
    from src.sources.load import load_source
    from src.storage.json_files import write_metrics
    from src.storage.lineage import outputs

    source = load_source(params)
    check_source(source)
    splits = split_source(source, params.validation_fraction, params.seed)
    for warning in data_warnings(splits["train"], splits["test"], source.class_names):
        print(f"prepare: warning: {warning}", flush=True)  # noqa: T201
    sizes = {name: len(split.labels) for name, split in splits.items()}
    with outputs():
        manifest = save_prepared(source, splits)
        duplicates_across_splits = manifest["in_both"]
        write_metrics(
            paths.METRICS / "prepare.json",
            {
                **{name: {"examples": size} for name, size in sizes.items()},
                "classes": len(source.class_names),
                "in_both": duplicates_across_splits,
            },
        )
    shape = " x ".join(map(str, manifest["image_shape"]))
    counts = ", ".join(f"{size} {name}" for name, size in sizes.items())
    return (
        f"{source.name}: {counts} images of {shape}, {len(source.class_names)} "
        f"classes, {duplicates_across_splits['train_test']} test images also in train "
        f"-> {paths.PREPARED}"
    )


if __name__ == "__main__":
    run_stage("prepare", main)
