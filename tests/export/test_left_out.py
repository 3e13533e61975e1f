"""Formats that cannot be made or proven: the others are written."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src import paths
from src.data.prepared import load_manifest, load_split
from src.errors import DataError
from src.export import to_onnx
from src.export.faults import advice, converter_error, left_out
from src.export.fresh_process import unpack_files
from src.export.manifest import add_demo, leave_out
from src.export.shipped import run
from src.models.build import MODELS
from src.models.mlp import MLP
from tests.helpers.examples import patterned
from tests.helpers.formats import (
    as_trained,
    convert_all,
    exported,
    probabilities,
    prove,
    untrained,
)
from tests.helpers.running import exit_code

# From the code of TensorFlow and jax2onnx.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)
SHAPE = 8, 8, 1


class Cumulative(nnx.Module):
    """A network with an operation that is no operator of the graph."""

    def __init__(self):
        self.head = nnx.Linear(64, 3, rngs=nnx.Rngs(0))

    def __call__(self, images, rngs=None):
        hidden = jnp.cumsum(images.astype(jnp.float32) / 255, axis=1)
        return self.head(hidden.reshape(images.shape[0], -1))


def test_network_with_another_operator_loses_numpy_and_the_page_by_name(tmp_path):
    trained = as_trained(Cumulative(), SHAPE)
    export = exported(tmp_path, ["numpy", "onnx", "stablehlo"], trained)
    assert export.manifest["formats"].keys() == {"onnx", "stablehlo"}
    assert export.manifest["left_out"] == {
        "demo": "models/export/demo.html: expected operations of src/export/graph.py, "
        "found CumSum. It is left out: write the layer with other operations.",
        "numpy": "models/export/numpy_predictor.py: expected operations of "
        "src/export/graph.py, found CumSum. It is left out: remove numpy from "
        "export_formats, or write the layer with other operations.",
    }
    assert not {"numpy_predictor.py", "constants.npz"} & export.files.keys()
    assert "graph" not in export.manifest
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert written["left_out"] == export.manifest["left_out"]


def test_network_with_another_operator_keeps_a_correct_onnx_file(tmp_path):
    trained = as_trained(Cumulative(), SHAPE)
    exported(tmp_path, ["onnx"], trained)
    images = patterned(5, seed=4).images
    assert jnp.cumsum(jnp.ones((2, 3)), 1).shape == (2, 3)  # jax2onnx is gone again
    found = run.load(tmp_path / "model.onnx")(images)
    np.testing.assert_allclose(found, probabilities(trained, images), atol=1e-6)


class Resized(nnx.Module):
    """A network that jax2onnx refuses."""

    def __init__(self):
        self.head = nnx.Linear(16, 3, rngs=nnx.Rngs(0))

    def __call__(self, images, rngs=None):
        pixels = images.astype(jnp.float32) / 255
        small = jax.image.resize(pixels, (images.shape[0], 4, 4, 1), "bilinear")
        return self.head(small.reshape(images.shape[0], -1))


def test_network_that_jax2onnx_refuses_keeps_the_other_formats(tmp_path, capfd):
    trained = as_trained(Resized(), SHAPE)
    export = exported(tmp_path, ["numpy", "onnx", "stablehlo"], trained)
    assert export.manifest["formats"].keys() == {"stablehlo"}
    left_out = export.manifest["left_out"]
    assert left_out.keys() == {"demo", "numpy", "onnx"}
    found = "graph.py, found in jax2onnx InconclusiveDimensionOperation: Symbolic"
    assert found in left_out["numpy"]
    assert found in left_out["demo"]
    assert capfd.readouterr().err == ""


def test_network_with_another_operator_has_no_page_but_the_export_goes_on(prepared):
    trained, test = as_trained(Cumulative(), SHAPE), load_split("test", load_manifest())
    export = convert_all(["stablehlo"], trained, test.images)
    assert (
        add_demo(export, trained, test, probabilities(trained, test.images)) is export
    )


def test_converter_that_fails_costs_its_own_format_alone(monkeypatch, capfd):
    def fail(network, calibration):
        raise NotImplementedError("no lowering\nfor this.")

    monkeypatch.setattr(to_onnx, "convert", fail)
    images = patterned(9, 1).images
    export = convert_all(["numpy", "onnx"], untrained("mlp"), images)
    assert export.manifest["formats"].keys() == {"numpy"}
    assert export.manifest["left_out"]["onnx"] == (
        "models/export/model.onnx: expected a network to convert, found "
        "NotImplementedError: no lowering for this. It is left out: remove onnx from "
        "export_formats, or write the layer with other operations."
    )
    assert capfd.readouterr().err == ""


def test_line_on_a_converters_error_has_no_place_in_its_source():
    error = RuntimeError(
        "Could not translate./a/.venv/lib/site-packages/b/c.py:310:1: error: 'vhlo.fft'"
        " op is not known\n<unknown>:0: note: loc(callsite(fused['/a/d.py':1:2]))"
    )
    assert converter_error(error) == (
        "RuntimeError: Could not translate. error: 'vhlo.fft' op is not known note"
    )
    assert converter_error(ValueError("/a/b.py:1: ")) == "ValueError"


def test_advice_on_int8_names_the_format_with_floats():
    """It holds whether or not tflite is already among the formats."""
    assert advice("tflite_int8", exact=False) == (
        "name tflite in export_formats, not tflite_int8: it has 32-bit numbers"
    )


def test_line_on_a_long_error_ends_with_what_to_do():
    found = converter_error(ValueError("a word " * 100))
    line = left_out("a.onnx", found, advice("onnx", exact=True))
    assert (
        line.endswith(
            "word a ... It is left out: remove onnx from export_formats, or write the "
            "layer with other operations."
        )
        or line.count("... It is left out: remove onnx") == 1
    )
    assert len(line) < 350


def test_export_without_any_format_is_an_error():
    with pytest.raises(DataError, match=r"found CumSum\. .* No format is left"):
        convert_all(["numpy"], as_trained(Cumulative(), SHAPE), patterned(9, 1).images)


def test_file_that_is_not_proven_is_removed_with_its_files(prepared):
    trained, test = untrained("mlp"), load_split("test", load_manifest())
    expected = probabilities(trained, test.images)
    export = convert_all(["numpy", "stablehlo"], trained, test.images)
    program = export.files["numpy_predictor.py"].replace(
        b"np.maximum(value, 0)", b"value"
    )
    wrong = export._replace(files=export.files | {"numpy_predictor.py": program})
    proofs = prove(["numpy", "stablehlo"], wrong, test, expected)
    assert proofs.metrics.keys() == {"stablehlo"}
    assert "within 1e-05 (rounding), found a difference of" in proofs.failed["numpy"]
    left = leave_out(wrong, proofs.failed)
    assert left.manifest["left_out"] == proofs.failed
    assert left.manifest["formats"].keys() == {"stablehlo"}
    assert export.files.keys() - left.files.keys() == {
        "numpy_predictor.py",
        "constants.npz",
    }
    assert b"numpy_predictor.py" in left.files["manifest.json"]  # in the reason
    with pytest.raises(DataError, match="No format is left"):
        leave_out(left, {"stablehlo": "model.stablehlo: expected other weights."})


@pytest.mark.slow
def test_stage_writes_the_other_formats_and_names_the_one_that_is_left_out(
    prepared, write_params, monkeypatch, capsys
):
    write_params(model="mlp", hidden=8, epochs=1, export_formats="[stablehlo, numpy]")

    # Another class than MLP: what other tests compiled for MLP would be called again.
    class CumulativeMLP(MLP):
        def __call__(self, images, rngs=None):
            return jnp.cumsum(super().__call__(images, rngs), axis=1)

    monkeypatch.setitem(MODELS, "mlp", CumulativeMLP)
    for stage in ("train", "evaluate", "export"):
        assert exit_code(stage, monkeypatch) == 0
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("export: ")]
    assert [line.split(": ")[1] for line in lines] == [
        "models/export/demo.html",
        "models/export/numpy_predictor.py",
    ]
    assert "stablehlo: max difference" in out
    names = {path.name for path in paths.EXPORT.iterdir()}
    assert {"model.stablehlo", "MODEL_CARD.md"} <= names
    assert not {"demo.html", "numpy_predictor.py"} & names
    card = (paths.EXPORT / "MODEL_CARD.md").read_text()
    assert "Left out: demo, numpy" in card


@pytest.mark.slow
def test_stage_without_any_format_left_writes_nothing(
    prepared, write_params, monkeypatch, capsys
):
    write_params(model="mlp", hidden=8, epochs=1, export_formats="[numpy]")
    for stage in ("train", "evaluate"):
        assert exit_code(stage, monkeypatch) == 0

    class UnexportableMLP(MLP):
        def __call__(self, images, rngs=None):
            return Cumulative()(images)

    monkeypatch.setitem(MODELS, "mlp", UnexportableMLP)
    assert exit_code("export", monkeypatch) == 3
    assert "No format is left" in capsys.readouterr().err
    assert not paths.EXPORT.exists()


def test_unpacked_files_are_those_of_the_manifest(tmp_path):
    export = convert_all(["numpy"], untrained("mlp"), patterned(9, 1).images)
    unpack_files(export.files, tmp_path)
    listed = export.manifest["formats"]["numpy"]["files"]
    assert all((tmp_path / name).is_file() for name in listed)
