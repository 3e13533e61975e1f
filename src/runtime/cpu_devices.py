"""Several devices on one CPU, which compute the parts of a batch side by side.

The threads of one device share every operation, and a convolution uses two badly.
Devices compute whole steps and wait for each other once per message.
"""

import os
import sys

from src.config.params import Params
from src.errors import ParameterError
from src.runtime.processes import is_single_process

VARIABLE = "JAX_NUM_CPU_DEVICES"
FLAG = "--xla_force_host_platform_device_count"  # the same, in XLA_FLAGS
# Measured: docs/explanation/measurements.md
SPLIT_MODELS = "cnn", "cnn_max", "resnet", "resnet18"
# Pixels of a batch, channels not counted. Below, a step is so short that waiting for
# the other device may cost more than it saves, above all on a busy machine.
SPLIT_PIXELS = 8192

ImageShape = tuple[int, int, int]  # height, width, channels


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
    """The parameter; where it is empty, 2 if that is faster on two cores, else 1.

    The rule does not look at the number of cores, because it decides the bits.
    """
    if params.cpu_devices is not None:
        return params.cpu_devices
    height, width, _ = image_shape
    divides = params.batch_size % (2 * params.accumulate) == 0
    large = params.batch_size * height * width >= SPLIT_PIXELS
    splits = params.model in SPLIT_MODELS and divides and large and not params.debug
    return 2 if splits else 1
