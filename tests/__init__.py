"""The project's tests; JAX has the flags here that the stages give it."""

from pathlib import Path

from src.config.load import load_params
from src.runtime.determinism import pin_arithmetic

pin_arithmetic(load_params(Path(__file__).parents[1] / "params.yaml"))
