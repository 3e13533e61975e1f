"""Turns any source of images into three splits of uint8 images and int32 labels.

Run by `dvc repro prepare`; no stage before evaluate reads the test split.
"""

import sys
from collections.abc import Iterable
from typing import TextIO

from src import paths
from src.config.params import Params
from src.errors import BrokenFilesError, escape_unprintable
from src.runtime.stage import StageContext, run_stage


def main(params: Params, context: StageContext) -> str:
    """Loads the source, splits it, and writes data/prepared."""
    from src.data.prepared import check_source, save_prepared, split_source
    from src.data.splitting import split_origins
    from src.data.summary import file_lines, summary_lines
    from src.sources.load import load_source
    from src.storage.json_files import metrics_bytes

    try:
        source = load_source(params)
    except BrokenFilesError as error:
        say(error.lines, sys.stderr)
        raise
    check_source(source)
    cut = source, params.validation_fraction, params.seed
    splits, origins = split_source(*cut), split_origins(*cut)
    say(file_lines(source.passed_over), sys.stderr)
    say(summary_lines(source, splits, origins), sys.stdout)
    sizes = {name: len(split.labels) for name, split in splits.items()}
    with context.outputs() as outputs:
        manifest = save_prepared(source, splits, outputs, origins)
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


def say(lines: Iterable[str], file: TextIO) -> None:
    """Prints lines; names of files may hold control characters."""
    for line in lines:
        print(f"prepare: {escape_unprintable(line)}", file=file, flush=True)


if __name__ == "__main__":
    run_stage("prepare", main, sys.argv[1:])
