"""Exported files, compared with the trained network."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from flax import nnx
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from src import paths
from src.data.examples import Examples, Source
from src.data.prepared import load_manifest, load_split, save_prepared
from src.errors import DataError, ParameterError
from src.export.compare import (
    accuracy_differences,
    compare,
    sampling_error,
    summary,
)
from src.export.formats import (
    border_brightness,
    calibration_images,
    check_packages,
    format_module,
    write_files,
)
from src.export.fresh_process import unpack_files
from src.export.latency import NETWORK, latency_table
from src.export.shipped import run
from src.export.shipped.numpy_predictor import load_predictor
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.checkpoint import TrainedModel, weights_of
from tests.helpers.examples import patterned
from tests.helpers.files import committed
from tests.helpers.formats import (
    FORMATS,
    all_formats,
    convert_all,
    exported,
    probabilities,
    prove,
    untrained,
)
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code

# From the code of TensorFlow and jax2onnx.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)
SPLITS = ["train", "validation", "test"]
EXACT = [name for name in FORMATS if name != "tflite_int8"]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A small network in all formats, as the pipeline writes them."""
    folder = tmp_path_factory.mktemp("export")
    trained, export = all_formats()
    unpack_files(export.files, folder)
    return folder, trained


@pytest.mark.parametrize(  # cnn: by the program, below
    "model", ["mlp", pytest.param("cnn_max", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", EXACT)
def test_exported_file_gives_the_probabilities_of_the_network(tmp_path, model, name):
    trained = untrained(model)
    exported(tmp_path, [name], trained)
    classify = run.load(tmp_path / format_module(name).FILE)
    for count in (1, 2, 37):
        images = patterned(count, seed=4).images
        found = classify(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, probabilities(trained, images), atol=1e-6)
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(13, 10, 3), pytest.param((28, 28, 1), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", EXACT)
def test_exported_file_takes_images_of_any_shape(tmp_path, name, shape):
    trained = untrained("cnn_max", shape)
    exported(tmp_path, [name], trained, shape)
    images = patterned(5, 4, shape).images
    found = run.load(tmp_path / format_module(name).FILE)(images)
    np.testing.assert_allclose(found, probabilities(trained, images), atol=1e-6)


ONLY = """
import runpy, sys
allowed, sys.argv = set(sys.argv[1].split(",")), ["run.py", *sys.argv[2:]]
class Only:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        ours = name.startswith("_sysconfigdata")  # the interpreter's own
        if ours or top in allowed or top in sys.stdlib_module_names:
            return self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Only, sys.meta_path)
runpy.run_path("run.py", run_name="__main__")
"""


def with_dependencies(names):
    """The modules of these distributions and of all that they require."""
    todo, done = list(names), set()
    while todo:
        name = canonicalize_name(todo.pop())
        name = "tensorflow-cpu" if name == "tensorflow" else name
        if name in done:
            continue
        done.add(name)
        asked = [Requirement(text) for text in requires(name) or []]
        todo += [
            each.name
            for each in asked
            if each.marker is None or each.marker.evaluate({"extra": ""})
        ]
    return {
        module
        for module, owners in packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} & done
    }


@pytest.mark.parametrize(
    "name",
    [
        *("tflite", "onnx", "numpy"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("stablehlo", "saved_model", "tflite_int8")
        ),
    ],
)
def test_exported_file_runs_with_only_the_runtime_that_the_card_names(
    shipped, tmp_path, name
):
    """In a copy of the folder, with only the shipped program and the runtime."""
    folder, trained = shipped
    module = format_module(name)
    allowed = with_dependencies(["numpy", *(module.RUNTIME or "").split()])
    shutil.copytree(folder, tmp_path / "device")
    images = patterned(70, seed=4).images
    np.save(tmp_path / "images.npy", images)
    code = f"{ONLY}print(*sys.modules)"
    given = module.FILE, "../images.npy", "--output", "../found.npz"
    ended = subprocess.run(
        [sys.executable, "-I", "-c", code, ",".join(allowed), *given],
        cwd=tmp_path / "device",
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    found = np.load(tmp_path / "found.npz")["probabilities"]
    tolerance = 0.05 if name == "tflite_int8" else 1e-6
    np.testing.assert_allclose(found, probabilities(trained, images), atol=tolerance)
    packages = {module.partition(".")[0] for module in ended.stdout.split()}
    assert not packages & {"src", "stages", "flax", "optax"}
    runtimes = {"jax", "tensorflow", "onnxruntime", "ai_edge_litert"}
    its_own = {"stablehlo": {"jax"}, "onnx": {"onnxruntime"}, "numpy": set()}
    its_own |= {"saved_model": {"tensorflow"}, "tflite": {"ai_edge_litert"}}
    assert packages & runtimes == its_own[name.removesuffix("_int8")]


@pytest.mark.parametrize("name", ["run.py", "numpy_predictor.py"])
def test_shipped_program_imports_the_standard_library_and_numpy(shipped, name):
    tree = ast.parse((shipped[0] / name).read_text())
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name)
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    outer = {module.partition(".")[0] for module in imported}
    assert outer - set(sys.stdlib_module_names) == {"numpy"}


IMPORTED = """
import json, sys
import numpy as np
from run import load
images = np.load("some.npy")
print(json.dumps([load(name)(images).tolist() for name in sys.argv[1:]]))
"""


def test_run_is_imported_as_a_predictor_of_every_format(shipped):
    folder, trained = shipped
    images = patterned(3, seed=4).images
    np.save(folder / "some.npy", images)
    names = [format_module(name).FILE for name in FORMATS if name != "saved_model"]
    found = subprocess.run(
        [sys.executable, "-c", IMPORTED, *names],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    for name, rows in zip(names, json.loads(found.stdout), strict=True):
        tolerance = 0.05 if "int8" in name else 1e-6
        np.testing.assert_allclose(rows, probabilities(trained, images), atol=tolerance)


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
def test_predictor_names_the_images_that_it_expects(shipped, name):
    classify = run.load(shipped[0] / name)
    with pytest.raises(
        ValueError, match=r"uint8 \[n, 8, 8, 1\], found float64 \[8, 8\]"
    ):
        classify(np.zeros((8, 8)))


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "saved_model"])
def test_file_that_does_not_exist_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name}: expected an exported file, found"):
        run.load(tmp_path / name)


def test_manifest_has_what_a_microcontroller_build_needs(shipped):
    formats = json.loads((shipped[0] / "manifest.json").read_text())["formats"]
    for name in ("tflite", "tflite_int8"):
        facts = formats[name]["tflite"]
        interpreter = Interpreter(str(shipped[0] / formats[name]["file"]))
        # Public, but for the list of operators, which only this method gives.
        used = [each["op_name"] for each in interpreter._get_ops_details()]
        own = {name for name in used if name != "DELEGATE"}
        assert {each["name"] for each in facts["operators"]} == own
        for each in facts["operators"]:
            assert each["count"] == used.count(each["name"])
        for side, details in (
            ("input", interpreter.get_input_details()[0]),
            ("output", interpreter.get_output_details()[0]),
        ):
            assert facts[side]["shape"] == details["shape"].tolist()
            assert facts[side]["type"] == np.dtype(details["dtype"]).name
            if "int8" in name:
                numbers = facts[side]["scale"], facts[side]["zero_point"]
                assert numbers == details["quantization"]
            else:
                assert facts[side]["scale"] is facts[side]["zero_point"] is None


def test_onnx_file_has_the_oldest_ir_version_of_its_opset(shipped):
    """The onnxruntime of 2023 refuses IR 10."""
    assert onnx.load(shipped[0] / "model.onnx").ir_version == 8


@pytest.mark.slow
def test_numpy_predictor_is_imported_by_its_own_name(shipped):
    folder, trained = shipped
    images = patterned(3, seed=4).images
    np.save(folder / "three.npy", images)
    code = (
        "import numpy as np; from numpy_predictor import load_predictor; "
        "print(load_predictor('.')(np.load('three.npy')).tolist())"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    found = subprocess.check_output(
        [sys.executable, "-c", code], cwd=folder, env=environment, text=True
    )
    np.testing.assert_allclose(
        json.loads(found), probabilities(trained, images), atol=1e-6
    )


def test_int8_file_computes_in_integers_throughout(shipped):
    interpreter = Interpreter(str(shipped[0] / "model_int8.tflite"))
    interpreter.allocate_tensors()
    kinds = {detail["dtype"] for detail in interpreter.get_tensor_details()}
    assert kinds <= {np.int8, np.uint8, np.int32}
    assert interpreter.get_input_details()[0]["quantization"] == (1.0, 0)


def test_int8_file_is_a_quarter_of_the_float_file(tmp_path):
    architecture = Architecture("mlp", 256, 0.0, image_shape=(28, 28, 1), classes=3)
    model = build_model(architecture, nnx.Rngs(params=1))
    record = untrained("mlp").record.model_copy(update={"architecture": architecture})
    trained = TrainedModel(model, weights_of(model), record)
    export = exported(tmp_path, ["tflite", "tflite_int8"], trained, (28, 28, 1))
    sizes = {name: entry["bytes"] for name, entry in export.manifest["formats"].items()}
    assert sizes["tflite_int8"] == pytest.approx(sizes["tflite"] / 4, rel=0.03)


def test_calibration_images_come_evenly_from_all_of_train():
    images = np.arange(2000)
    chosen = calibration_images(images)
    assert len(chosen) == 500
    assert (chosen[0], chosen[-1]) == (0, 1999)
    assert set(np.diff(chosen)) <= {4, 5}
    assert list(calibration_images(images[:3])) == [0, 1, 2]


def test_calibration_does_not_change_the_training_images():
    trained, images = untrained("mlp"), patterned(60, 1).images
    before = images.copy()
    convert_all(["tflite_int8"], trained, images)
    assert np.array_equal(images, before)


def test_onnx_file_passes_the_checker_and_names_its_input_and_output(shipped):
    model = onnx.load(shipped[0] / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    (given,), (answer,) = model.graph.input, model.graph.output
    assert (given.name, answer.name) == ("images", "probabilities")
    sizes = given.type.tensor_type.shape.dim
    assert [size.dim_param or size.dim_value for size in sizes] == ["batch", 8, 8, 1]
    assert model.opset_import[0].version == 17


def test_manifest_describes_input_and_output(shipped):
    manifest = json.loads((shipped[0] / "manifest.json").read_text())
    assert manifest["input"]["shape"] == ["batch", 8, 8, 1]
    assert manifest["input"]["type"] == "uint8"
    assert manifest["output"]["shape"] == ["batch", 3]
    assert manifest["class_names"] == ["low", "middle", "high"]
    assert manifest["graph"]["nodes"][0] == {
        "op": "Cast",
        "inputs": ["images"],
        "output": "cast_0",
        "attributes": {"to": "float32"},
    }
    assert manifest["left_out"] == {}
    assert manifest["formats"].keys() == set(FORMATS)


def test_manifest_has_the_digest_of_every_format(shipped):
    folder = shipped[0]
    formats = json.loads((folder / "manifest.json").read_text())["formats"]
    for entry in formats.values():
        contents = [(folder / name).read_bytes() for name in entry["files"]]
        found = [hashlib.sha256(content).hexdigest() for content in contents]
        if len(found) > 1:
            lines = zip(found, sorted(entry["files"]), strict=True)
            text = "".join(f"{sha256}  {name}\n" for sha256, name in lines)
            found = [hashlib.sha256(text.encode()).hexdigest()]
        assert found == [entry["sha256"]]
        assert entry["bytes"] == sum(map(len, contents))


def test_background_is_the_mean_of_the_outermost_pixels():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    images[:, 1:3, 1:3] = 255
    assert border_brightness(images) == 0
    images[:, 0] = 100  # one of four edges, and a corner of two others
    assert border_brightness(images) == pytest.approx((100 + 0 + 25 + 25) / 4)


def files_in(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def test_exported_files_name_no_path_of_this_machine(shipped):
    for path in files_in(shipped[0]):
        content = path.read_bytes()
        assert str(ROOT).encode() not in content
        assert b"site-packages" not in content
        assert str(Path.home()).encode() + b"/" not in content


def test_export_removes_older_files(prepared):
    committed(
        write_files,
        {"a.txt": b"old", "b/c.txt": b"old", "d/e/f": b"old", "d/g": b"old"},
    )
    committed(write_files, {"a.txt": b"new", "d/g": b"new"})
    found = {str(path.relative_to(paths.EXPORT)) for path in files_in(paths.EXPORT)}
    assert found == {"a.txt", "d/g"}
    assert (paths.EXPORT / "a.txt").read_bytes() == b"new"


# What the verification accepts and refuses.

EXPECTED = np.array([[0.7, 0.2, 0.1], [0.1, 0.45, 0.45], [0.2, 0.2, 0.6]])
LABELS = np.array([0, 1, 2])


def judged(name, found):
    allowed = np.full(3, 1e-5)
    return compare(format_module(name), np.float32(found), LABELS, EXPECTED, allowed)


def proven(*arguments):
    proofs = prove(*arguments)
    assert proofs.failed == {}
    assert proofs.latency.keys() == proofs.metrics.keys() | {NETWORK}
    return {
        name: (proofs.metrics[name], proofs.latency[name]) for name in proofs.metrics
    }


def test_verification_counts_bytes_accuracy_differences_and_changes(prepared):
    trained = untrained("mlp")
    test = load_split("test", load_manifest())
    expected = probabilities(trained, test.images)
    export = convert_all(["numpy"], trained, test.images)
    metrics, latency = proven(["numpy"], export, test, expected)["numpy"]
    assert metrics["accuracy"] == (expected.argmax(1) == test.labels).mean()
    assert metrics["changed"] == 0
    assert 0 <= metrics["mean_difference"] <= metrics["largest_difference"] < 1e-6
    files = [export.files[name] for name in ("numpy_predictor.py", "constants.npz")]
    assert metrics["bytes"] == sum(map(len, files))
    for batch in ("batch_1", "batch_64"):
        assert 0 < latency[batch]["median_ms"] <= latency[batch]["p99_ms"]
    assert latency["peak_memory_mb"] > 5


@pytest.mark.parametrize("wrong", [2e-5, np.nan])
def test_verification_refuses_changed_predictions(wrong):
    with pytest.raises(DataError, match=r"model\.onnx: .* difference of (2e-05|nan)"):
        judged("onnx", EXPECTED + wrong)


def test_verification_allows_rounding_to_break_ties():
    found = EXPECTED + np.array([[0, 0, 0], [0, 0, 1e-6], [0, 0, 0]])
    assert judged("onnx", found)["changed"] == 1


def int8_that_is_wrong_on(wrong, count):
    """What the verification makes of int8 if the network is right on all images."""
    labels = np.arange(count) % 3
    found, expected = np.eye(3)[labels].copy(), np.eye(3)[labels]
    found[:wrong] = found[:wrong, [1, 2, 0]]
    module, allowed = format_module("tflite_int8"), np.full(count, 1e-5)
    return compare(module, np.float32(found), labels, expected, allowed)


def test_verification_refuses_int8_only_if_it_loses_accuracy():
    assert judged("tflite_int8", EXPECTED + 0.02)["changed"] == 0
    # 0.5 % + 1.645 sqrt(7 - 7 ** 2 / 355) / 355 = 1.71 %
    lost = r"at most 1\.71% of accuracy \(0\.5%, and chance on 355 .*, found 1\.97%"
    with pytest.raises(DataError, match=lost):
        int8_that_is_wrong_on(7, 355)


def test_few_test_images_do_not_prove_a_loss_of_int8():
    assert int8_that_is_wrong_on(2, 355)["changed"] == 2  # 0.56 %
    assert int8_that_is_wrong_on(60, 10_000)["changed"] == 60  # 0.6 %
    with pytest.raises(DataError, match=r"at most 0\.64% .* found 0\.70%"):
        int8_that_is_wrong_on(70, 10_000)


def test_sampling_error_is_that_of_repeated_test_splits():
    """The standard deviation of the loss on many splits, times 1.645."""
    rng = np.random.default_rng(0)
    kinds = rng.choice(4, p=[0.9, 0.06, 0.03, 0.01], size=(4000, 500))
    before, after = (kinds == 0) | (kinds == 1), (kinds == 0) | (kinds == 2)
    losses = before.mean(1) - after.mean(1)
    errors = [sampling_error(*row) for row in zip(before, after, strict=True)]
    assert np.mean(errors) == pytest.approx(1.645 * losses.std(), rel=0.03)


def test_verification_refuses_int8_with_nan_outputs():
    with pytest.raises(DataError, match="accuracy"):
        judged("tflite_int8", EXPECTED * np.nan)


@pytest.mark.slow
def test_demo_is_exported_and_names_the_training_data(
    prepared, write_params, monkeypatch
):
    write_params(model="mlp", hidden=8, epochs=1)
    for stage in ("train", "evaluate", "export"):
        assert exit_code(stage, monkeypatch) == 0
    assert "mlp on stripes" in (paths.EXPORT / "demo.html").read_text()


def test_verification_names_a_file_that_does_not_run(prepared):
    trained = untrained("mlp")
    test = load_split("test", load_manifest())
    export = convert_all(["onnx"], trained, test.images)
    broken = export._replace(files={**export.files, "model.onnx": b"no model"})
    proofs = prove(["onnx"], broken, test, probabilities(trained, test.images))
    assert not proofs.metrics
    assert proofs.failed["onnx"].startswith("models/export/model.onnx: expected to run")
    assert "remove onnx from export_formats" in proofs.failed["onnx"]


def test_missing_package_is_named_before_anything_is_converted(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    expected = r"export_formats: .* found onnx without jax2onnx\. Install it"
    with pytest.raises(ParameterError, match=expected):
        check_packages(["stablehlo", "onnx"])
    check_packages(["stablehlo", "tflite"])


def test_verification_uses_every_test_image(prepared):
    """Including those of an incomplete last batch."""
    trained, test = untrained("mlp"), load_split("test", load_manifest())
    expected = probabilities(trained, test.images).copy()
    expected[-1] = expected[-1, ::-1]
    export = convert_all(["numpy"], trained, test.images)
    proofs = prove(["numpy"], export, Examples(test.images, test.labels), expected)
    assert "difference" in proofs.failed["numpy"]


def test_verification_reads_a_test_split_in_several_files(prepared, monkeypatch):
    monkeypatch.setattr("src.data.prepared.SHARD_BYTES", 10 * 64)
    splits = {name: load_split(name, load_manifest()) for name in SPLITS}
    names = load_manifest().class_names
    committed(save_prepared, Source("stripes", "1", names, *splits.values()), splits)
    trained, test = untrained("mlp"), load_split("test", load_manifest())
    assert len(load_manifest().shards["test"]) == 3
    assert len(test.labels) == 37
    expected = probabilities(trained, test.images).copy()
    export = convert_all(["numpy"], trained, test.images)
    metrics, _ = proven(["numpy"], export, test, expected)["numpy"]
    assert metrics["accuracy"] == (expected.argmax(1) == test.labels).mean()
    expected[-1] = expected[-1, ::-1]  # in the last shard
    proofs = prove(["numpy"], export, test, expected)
    assert "difference" in proofs.failed["numpy"]


def test_latency_table_has_the_fastest_first():
    def row(milliseconds):
        batch = {"median_ms": milliseconds, "p99_ms": 2 * milliseconds}
        return {"batch_1": batch, "batch_64": batch, "peak_memory_mb": 40.0}

    lines = latency_table({"slow": row(2.0), "fast": row(0.5)}).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["fast", "slow"]
    assert lines[1].split() == ["fast", "0.500", "1.000", "0.500", "1.000", "40"]


# The command run.py.


def command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-I", "run.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_run_prints_a_class_and_its_probability_for_each_image(shipped):
    folder, trained = shipped
    images = patterned(3, seed=4).images
    np.savez(folder / "some.npz", images=images)
    lines = command(folder, "model.onnx", "some.npz").stdout.splitlines()
    rows = probabilities(trained, images)
    names = ["low", "middle", "high"]
    assert lines == [f"{names[row.argmax()]}\t{row.max():.4f}" for row in rows]


def test_run_measures_latency_and_memory(shipped):
    folder = shipped[0]
    np.save(folder / "one.npy", patterned(1, seed=4).images)
    found = json.loads(
        command(folder, "numpy_predictor.py", "one.npy", "--latency").stdout
    )
    assert found.keys() == {"batch_1", "batch_64", "peak_memory_mb"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["good.npy", "good.npy"], 3, "numpy_predictor.py, found none"),
        (["nothing.onnx", "good.npy"], 3, "nothing.onnx: expected a file"),
        (["elsewhere/model.onnx", "good.npy"], 3, "copy it"),
        (["broken.onnx", "good.npy"], 3, "broken.onnx"),
        (["broken.stablehlo", "good.npy"], 3, "broken.stablehlo"),
        (["broken.tflite", "good.npy"], 3, "broken.tflite"),
        (["model.onnx", "none.npy"], 3, "none.npy: expected a file, found none"),
        (["model.onnx", "run.py"], 3, "run.py: expected a .npy, .npz, PNG"),
        (["model.onnx", "text.npy"], 3, "text.npy: expected a .npy, or an .npz with"),
        (["model.onnx", "good.npy", "good.npy"], 3, "expected one .npy or .npz, found"),
        (["model.onnx", "good.npy", "--output", "no/x.npz"], 5, "no/x.npz"),
        (["model.onnx", "good.npy", "--output", "run.py/x.npz"], 5, "directory"),
    ],
)
def test_run_reports_errors_in_one_line(shipped, arguments, code, message):
    folder = shipped[0]
    np.save(folder / "good.npy", patterned(1, seed=4).images)
    (folder / "text.npy").write_text("no array")
    (folder / "elsewhere").mkdir(exist_ok=True)
    (folder / "elsewhere/model.onnx").write_bytes(b"no model")
    for name in ("broken.onnx", "broken.stablehlo", "broken.tflite"):
        (folder / name).write_bytes(b"no model")
    one_line_of(command(folder, *arguments), code, message)


def one_line_of(ended, code, message):
    assert ended.returncode == code, ended.stderr
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


WRONG_IMAGES = {
    "floats": np.zeros((2, 8, 8, 1), np.float32),
    "wide integers": np.zeros((2, 8, 8, 1), np.int64),
    "no batch": np.zeros((8, 8, 1), np.uint8),
    "another height": np.zeros((2, 9, 8, 1), np.uint8),
    "colours": np.zeros((2, 8, 8, 3), np.uint8),
    "none at all": np.zeros((0, 8, 8, 1), np.uint8),
}


@pytest.mark.parametrize("case", WRONG_IMAGES)
def test_run_refuses_images_that_are_not_for_this_network(shipped, case):
    np.save(shipped[0] / "wrong.npy", WRONG_IMAGES[case])
    for options in ([], ["--latency"]):
        ended = command(shipped[0], "numpy_predictor.py", "wrong.npy", *options)
        one_line_of(ended, 3, "wrong.npy: expected uint8 [n, 8, 8, 1], n >= 1")


@pytest.mark.parametrize("case", ["floats", "another height", "colours"])
def test_numpy_predictor_refuses_images_that_are_not_for_this_network(shipped, case):
    classify = run.load(shipped[0] / "numpy_predictor.py")
    with pytest.raises(ValueError, match=r"expected images of uint8 \[n, 8, 8, 1\]"):
        classify(WRONG_IMAGES[case])
    own = load_predictor(shipped[0])
    with pytest.raises(ValueError, match=r"expected images of uint8 \[8, 8, 1\]"):
        own(WRONG_IMAGES[case])


# A process that can import only these packages and their dependencies.
def test_run_names_the_package_that_is_missing(shipped):
    np.save(shipped[0] / "good.npy", patterned(2, seed=4).images)
    ended = subprocess.run(
        [sys.executable, "-c", ONLY, "numpy", "model.onnx", "good.npy"],
        cwd=shipped[0],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    one_line_of(ended, 2, "model.onnx: needs onnxruntime, which is not installed")


def test_stage_reports_exact_and_int8_files_separately(prepared):
    exact = {"largest_difference": 2e-7, "changed": 0, "accuracy": 0.99}
    integers = {"largest_difference": 0.03, "changed": 2, "accuracy": 0.98}
    found = summary({"onnx": exact, "tflite_int8": integers}, 355)
    assert found == (
        "onnx: max difference 2.0e-07; 0 predictions changed on 355 test images. "
        "tflite_int8: 2 predictions changed, accuracy 0.9800"
    )
    assert "max difference" not in summary({"tflite_int8": integers}, 355)


def test_accuracy_of_a_format_is_reported_only_if_it_differs():
    results = {"onnx": {"accuracy": 1.0}, "tflite_int8": {"accuracy": 2 / 3}}
    found = accuracy_differences(results, EXPECTED, LABELS)
    assert found == {"tflite_int8": {"accuracy": 2 / 3}}
    assert accuracy_differences({"onnx": {"accuracy": 1.0}}, EXPECTED, LABELS) == {}
