"""Checks all of params.yaml.

DVC runs the other stages only when a parameter that they read has changed. No stage
reads a misspelt key, so without this stage nobody would notice it.
"""

import sys
from pathlib import Path

from src.config.params import Params
from src.errors import ParameterError
from src.runtime.stage import StageContext, run_stage


def main(params: Params, context: StageContext) -> str:
    """Checks `data_path`; `run_stage` has checked the rest.

    Some sources read a single file, others want a folder: prepare tells them apart.

    Raises:
        ParameterError: `data_path` is neither a folder nor a file.
    """
    path = Path(params.data_path)
    if not (path.is_dir() or path.is_file()):
        raise ParameterError(
            f"params.yaml: data_path: expected a folder or a file, found none at "
            f"'{path}'. Create it, or use data/raw, the embedded digits; a queued or "
            f"--temp run also needs `dvc add {path}` or an absolute path."
        )
    return f"params.yaml: {len(type(params).model_fields)} parameters, all in range."


if __name__ == "__main__":
    run_stage("check", main, sys.argv[1:])
