"""Each trial on as many devices as `stages.train` would take for it, to the same bits.

JAX reads the number of devices once, and `cpu_devices` may choose another one for each
trial. So the process has the largest number, and a trial uses them or the first one.
"""

import os
from contextlib import AbstractContextManager, nullcontext

from src.config.params import Params
from src.runtime.cpu_devices import FLAG, VARIABLE, ImageShape, cpu_devices

MOST = 2  # that `cpu_devices` chooses by itself


def reserve_devices(params: Params) -> bool:
    """Makes JAX treat the CPU as enough devices; call it before JAX is imported.

    Returns:
        Whether a trial may need fewer of them.
    """
    if VARIABLE in os.environ or FLAG in os.environ.get("XLA_FLAGS", ""):
        return False
    os.environ[VARIABLE] = str(params.cpu_devices or MOST)
    return params.cpu_devices is None


def on_own_devices(
    params: Params, image_shape: ImageShape, fewer: bool
) -> AbstractContextManager[object]:
    """A context with the devices of a trial.

    Args:
        params: of the trial.
        image_shape: of the data.
        fewer: what `reserve_devices` returned.

    Raises:
        ParameterError: see `on_all_devices`.
    """
    import jax

    from src.sharding import on_all_devices

    on_cpu = jax.default_backend() == "cpu"
    if fewer and on_cpu and cpu_devices(params, image_shape) == 1:
        return nullcontext()
    return on_all_devices(params)
