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
ImageShape = tuple[int, int, int]  # height, width, channels
FLAG = "--xla_force_host_platform_device_count"  # the same, in XLA_FLAGS
# Measured: docs/explanation/measurements.md
SPLIT_MODELS = "cnn", "cnn_max", "resnet", "resnet18"
SPLIT_PIXELS = 8192  # of a batch, in one channel; smaller steps are not worth a message


def set_cpu_devices(params: Params, image_shape: ImageShape) -> None:
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
        os.environ[VARIABLE] = str(cpu_devices(params, image_shape))


def cpu_devices(params: Params, image_shape: ImageShape) -> int:
    """The parameter; where it is empty, 2 if that is faster, else 1."""
    if params.cpu_devices is not None:
        return params.cpu_devices
    height, width, _ = image_shape
    divides = params.batch_size % (2 * params.accumulate) == 0
    large = params.batch_size * height * width >= SPLIT_PIXELS
    splits = params.model in SPLIT_MODELS and divides and large and not params.debug
    return 2 if splits else 1
