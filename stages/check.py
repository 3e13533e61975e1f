"""Checks params.yaml, all of it.

The other stages run only when a parameter that they read has changed; a misspelt key is
read by none of them and would go unnoticed.
"""

from src.config import Params
from src.stage import run_stage


def main(params: Params) -> str:
    """Says how many parameters there are: they were checked before this was called."""
    return f"params.yaml: {len(type(params).model_fields)} parameters, all in range."


if __name__ == "__main__":
    run_stage("check", main)
