"""Turns any source of images into three splits of uint8 images and int32 labels.

Run by `dvc repro prepare`; no stage before evaluate reads the test split.
"""

from src import paths
from src.config.params import Params
from src.runtime.stage import StageContext, run_stage


def main(params: Params, context: StageContext) -> str:
    """Loads the source, splits it, and writes data/prepared."""
    from src.data.examples import data_warnings
    from src.data.prepared import check_source, save_prepared, split_source
    from src.sources.load import load_source
    from src.storage.json_files import metrics_bytes

    source = load_source(params)
    check_source(source)
    splits = split_source(source, params.validation_fraction, params.seed)
    for warning in data_warnings(splits["train"], splits["test"], source.class_names):
        print(f"prepare: warning: {warning}", flush=True)  # noqa: T201
    sizes = {name: len(split.labels) for name, split in splits.items()}
    with context.outputs() as outputs:
        manifest = save_prepared(source, splits, outputs)
        examples = {str(name): {"examples": size} for name, size in sizes.items()}
        details = {"classes": len(source.class_names), "in_both": manifest["in_both"]}
        outputs.write(paths.METRICS / "prepare.json", metrics_bytes(examples))
        outputs.write(paths.DETAILS / "prepare.json", metrics_bytes(details))
    shape = " x ".join(map(str, manifest["image_shape"]))
    counts = ", ".join(f"{size} {name}" for name, size in sizes.items())
    return (
        f"{source.name}: {counts} images of {shape}, {len(source.class_names)} "
        f"classes, {manifest['in_both']['train_test']} test images also in train "
        f"-> {paths.PREPARED}"
    )


if __name__ == "__main__":
    run_stage("prepare", main)
