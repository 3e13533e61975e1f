"""Checks params.yaml, all of it.

The other stages run only when a parameter that they read has changed; a misspelt key is
read by none of them and would go unnoticed.
"""

from pathlib import Path

from src.config.params import Params
from src.errors import ParameterError
from src.runtime.stage import StageContext, run_stage


def main(params: Params, context: StageContext) -> str:
    """Says how many parameters there are: they were checked before this was called.

    Raises:
        ParameterError: `data_path` is no folder; DVC would say so in its own words.
    """
    if not Path(params.data_path).is_dir():
        raise ParameterError(
            f"params.yaml: data_path: expected a folder, found none at "
            f"'{params.data_path}'. The embedded data lies in data/raw."
        )
    return f"params.yaml: {len(type(params).model_fields)} parameters, all in range."


if __name__ == "__main__":
    run_stage("check", main)
