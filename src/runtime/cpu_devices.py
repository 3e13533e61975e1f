"""Several devices on one CPU, which compute the parts of a batch side by side.

The threads of one device wait for each other after every operation; devices wait for
each other once per message. That pays for networks with many small operations.
"""

import os
import sys

from src.config.params import Params
from src.errors import ParameterError
from src.runtime.processes import is_single_process

VARIABLE = "JAX_NUM_CPU_DEVICES"
FLAG = "--xla_force_host_platform_device_count"  # the same, in XLA_FLAGS
SPLIT_MODELS = "resnet", "resnet18"  # measured: docs/explanation/measurements.md


def set_cpu_devices(params: Params) -> None:
    """Makes JAX treat the CPU as `cpu_devices` devices.

    Without effect after JAX is imported, and if the environment sets the number.

    Raises:
        ParameterError: several processes, which have one device each, and the parameter
            asks for more.
    """
    if not is_single_process():
        if (params.cpu_devices or 1) > 1:
            raise ParameterError(
                "params.yaml: cpu_devices: expected an empty value for several "
                f"processes, found {params.cpu_devices}. Remove it: each process has "
                "a device."
            )
        return
    given = VARIABLE in os.environ or FLAG in os.environ.get("XLA_FLAGS", "")
    if not given and "jax" not in sys.modules:
        os.environ[VARIABLE] = str(cpu_devices(params))


def cpu_devices(params: Params) -> int:
    """The parameter, or the model's number of devices where it is empty."""
    if params.cpu_devices is not None:
        return params.cpu_devices
    divides = params.batch_size % (2 * params.accumulate) == 0
    return 2 if params.model in SPLIT_MODELS and divides and not params.debug else 1
