"""The ONNX file in runtimes of devices: onnxruntime 1.16 and OpenCV 4.9."""

import subprocess
import sys
import venv

import numpy as np
import pytest
from flax import nnx

from src.export.network import plain_network
from src.export.onnx_file import onnx_model
from tests.helpers.formats import as_trained, untrained
from tests.helpers.user_model import user_model

pytestmark = pytest.mark.slow
# Without their dependencies: these are enough to run a network.
PACKAGES = "onnxruntime==1.16.3", "opencv-python-headless==4.9.0.80", "numpy==1.26.4"
PROGRAM = """
import sys
import cv2, numpy, onnxruntime
file, images, answers = sys.argv[1:]
images = numpy.load(images)
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
first = session.run(None, {"images": images})[0]
network = cv2.dnn.readNetFromONNX(file)
second = []
for image in images:
    network.setInput(image[None].astype(numpy.float32))
    second.append(network.forward()[0])
numpy.savez(answers, onnxruntime=first, opencv=numpy.stack(second))
"""


@pytest.fixture(scope="module")
def old_python(tmp_path_factory):
    """The interpreter of an environment with the old runtimes."""
    folder = tmp_path_factory.mktemp("old")
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    ended = subprocess.run(
        [*pip, "--no-deps", *PACKAGES], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        pytest.skip(f"pip: {ended.stderr.splitlines()[-1]}")
    return python


class Norms(nnx.Module):
    """Group norm reduces three axes, which OpenCV computes wrongly at once."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.norm = nnx.GroupNorm(8, num_groups=2, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, images, rngs=None):
        hidden = self.conv(images.astype("float32") / 255)
        return self.head(nnx.silu(self.norm(hidden)).mean((1, 2)))


NETWORKS = {
    "mlp": lambda shape: untrained("mlp", shape),
    "cnn": lambda shape: untrained("cnn", shape),
    "cnn_max": lambda shape: untrained("cnn_max", shape),
    "resnet": lambda shape: untrained("resnet", shape),
    "resnet18": lambda shape: untrained("resnet18", shape),
    "user": lambda shape: as_trained(user_model(shape[2], 3), shape),
    "norms": lambda shape: as_trained(Norms(), shape),
}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("mlp", (28, 28, 1)), ("cnn", (28, 28, 1)), ("cnn_max", (13, 10, 3))),
        *(("resnet", (28, 28, 1)), ("resnet", (64, 64, 3)), ("resnet18", (64, 48, 3))),
        *(("user", (32, 32, 1)), ("user", (37, 45, 3)), ("norms", (9, 8, 3))),
    ],
)
def test_onnx_file_runs_in_onnxruntime_1_16_and_opencv_4_9(
    old_python, tmp_path, name, shape
):
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    network = plain_network(NETWORKS[name](shape))
    content = onnx_model(network.graph, shape, 3).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content)
    np.save(tmp_path / "images.npy", images)
    subprocess.run(
        [old_python, "-c", PROGRAM, "model.onnx", "images.npy", "answers.npz"],
        cwd=tmp_path,
        check=True,
        timeout=120,
    )
    expected = np.asarray(network.probabilities(images))
    with np.load(tmp_path / "answers.npz") as answers:
        # OpenCV 4.9 computes group norm wrongly, 4.14 does not.
        for runtime in (
            ("onnxruntime",) if name == "norms" else ("onnxruntime", "opencv")
        ):
            np.testing.assert_allclose(answers[runtime], expected, atol=1e-6)
