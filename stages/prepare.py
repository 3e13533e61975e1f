"""Turns any source of images into three splits of uint8 images and int32 labels.

Run by `dvc repro prepare`; the test split lies untouched until evaluate.
"""

from src import paths
from src.config.params import Params
from src.runtime.stage import run_stage


def main(params: Params) -> str:
    """Reads the source, cuts the validation split, writes data/prepared."""
    from src.data.examples import data_warnings
    from src.data.prepared import check_source, divide, save_prepared
    from src.sources.load import load_source
    from src.storage.json_files import write_metrics
    from src.storage.lineage import outputs

    source = load_source(params)
    check_source(source)
    splits = divide(source, params.validation_fraction, params.seed)
    for doubt in data_warnings(splits["train"], splits["test"], source.class_names):
        print(f"prepare: warning: {doubt}", flush=True)  # noqa: T201
    sizes = {name: len(split.labels) for name, split in splits.items()}
    with outputs():
        manifest = save_prepared(source, splits)
        examples = {str(name): {"examples": size} for name, size in sizes.items()}
        write_metrics(paths.METRICS / "prepare.json", examples)
        classes = len(source.class_names)
        details = {"classes": classes, "in_both": manifest["in_both"]}
        write_metrics(paths.DETAILS / "prepare.json", details)
    shape = " x ".join(map(str, manifest["image_shape"]))
    counts = ", ".join(f"{size} {name}" for name, size in sizes.items())
    return (
        f"{source.name}: {counts} images of {shape}, {len(source.class_names)} "
        f"classes, {manifest['in_both']['train_test']} test images also in train "
        f"-> {paths.PREPARED}"
    )


if __name__ == "__main__":
    run_stage("prepare", main)
