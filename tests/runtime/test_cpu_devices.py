"""The devices that one CPU becomes."""

import json
import os
import subprocess
import sys

import pytest

from src.errors import ParameterError
from src.runtime.cpu_devices import cpu_devices, set_cpu_devices
from tests.helpers.imports import ROOT
from tests.helpers.prepared import write_prepared
from tests.helpers.running import run_stage

SHAPE = (28, 28, 1)


@pytest.mark.parametrize(
    ("changes", "devices"),
    [
        ({"model": "resnet", "batch_size": 32}, 2),
        ({"model": "resnet18", "batch_size": 32, "accumulate": 16}, 2),
        ({"model": "resnet", "batch_size": 33}, 1),
        ({"model": "resnet", "batch_size": 32, "accumulate": 32}, 1),
        ({"model": "resnet", "batch_size": 32, "debug": True}, 1),
        ({"model": "resnet", "batch_size": 32, "cpu_devices": 1}, 1),
        ({"model": "cnn", "batch_size": 32}, 2),
        ({"model": "cnn_max", "batch_size": 10}, 1),
        ({"model": "mlp", "batch_size": 128}, 1),
        ({"model": "cnn", "batch_size": 128, "cpu_devices": 4}, 4),
    ],
)
def test_number_of_devices_follows_from_the_parameters(params, changes, devices):
    assert cpu_devices(params.model_copy(update=changes), SHAPE) == devices


@pytest.mark.parametrize(
    ("shape", "devices"), [((8, 64, 3), 2), ((9, 57, 1), 2), ((7, 73, 3), 1)]
)
def test_batch_is_worth_two_devices_from_8192_pixels_on(params, shape, devices):
    changes = {"model": "cnn_max", "batch_size": 16}
    assert cpu_devices(params.model_copy(update=changes), shape) == devices


def test_several_processes_refuse_devices_of_their_own(params, become_process):
    become_process(0, 2)
    set_cpu_devices(params, SHAPE)
    asking = params.model_copy(update={"cpu_devices": 2})
    with pytest.raises(ParameterError, match="cpu_devices: expected an empty value"):
        set_cpu_devices(asking, SHAPE)


DEVICES = """
from pathlib import Path
from src.config.load import load_params
from src.runtime.cpu_devices import set_cpu_devices
params = load_params(Path("params.yaml")).model_copy(update={"cpu_devices": 3})
set_cpu_devices(params, (28, 28, 1))
import jax
print(jax.device_count())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "devices"),
    [
        ({}, 3),
        ({"JAX_NUM_CPU_DEVICES": "2"}, 2),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, 4),
    ],
)
def test_variables_of_jax_take_precedence_over_the_parameter(variables, devices):
    found = subprocess.run(
        [sys.executable, "-c", DEVICES],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(found.stdout) == devices


@pytest.mark.slow
@pytest.mark.parametrize(("model", "side", "devices"), [("cnn", 32, 2), ("cnn", 8, 1)])
def test_train_uses_the_devices_that_its_images_are_worth(
    prepared, write_params, model, side, devices
):
    write_prepared(prepared, shape=(side, side, 1))
    write_params(model=model, epochs=1, batch_size=16)
    found = run_stage("train", prepared)
    assert found.returncode == 0, found.stderr
    record = json.loads((prepared / "models/model.json").read_text())
    assert record["devices"] == devices


def test_reading_the_image_size_does_not_import_jax():
    """JAX reads the number of devices when it is imported."""
    program = "import src.data.prepared, sys; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
