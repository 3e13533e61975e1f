"""Checks all of params.yaml.

DVC runs the other stages only when a parameter that they read has changed. No stage
reads a misspelt key, so without this stage nobody would notice it.
"""

import sys
from pathlib import Path

from src.config.params import Params
from src.errors import ParameterError
from src.runtime.stage import StageContext, run_stage

FROM_A_FILE = "npz", "csv", "parquet"  # the sources that read a single file too


def main(params: Params, context: StageContext) -> str:
    """Checks `data_path`; `run_stage` has checked the rest.

    Raises:
        ParameterError: `data_path` is not a folder, nor a file of a source that reads
            single files.
    """
    path, may_be_file = Path(params.data_path), params.dataset in FROM_A_FILE
    if not (path.is_dir() or (may_be_file and path.is_file())):
        raise ParameterError(
            f"params.yaml: data_path: expected a folder{' or one file' * may_be_file}, "
            f"found {'a file' if path.is_file() else 'none'} at '{path}'. Set the "
            "path of your data, or use data/raw, the embedded digits."
        )
    return f"params.yaml: {len(type(params).model_fields)} parameters, all in range."


if __name__ == "__main__":
    run_stage("check", main, sys.argv[1:])
