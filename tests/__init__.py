"""The project's tests; JAX runs with the flags that the stages set."""

from pathlib import Path

from src.config.load import load_params
from src.runtime.determinism import pin_arithmetic

pin_arithmetic(load_params(Path(__file__).parents[1] / "params.yaml"))
