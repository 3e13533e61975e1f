"""The processes of an export: TensorFlow's, and one for each file."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from src import paths
from src.errors import DataError, StorageError
from src.export import tensorflow_converter
from src.export.faults import ConverterError
from src.export.formats import format_module
from src.export.fresh_process import FreshProcesses
from src.export.network import plain_network
from src.export.shipped import run
from src.export.tensorflow_converter import TENSORFLOW_FORMATS, TensorflowConverter
from tests.helpers.examples import patterned
from tests.helpers.formats import (
    FORMATS,
    as_trained,
    convert_all,
    exported,
    probabilities,
    tensorflow,
    untrained,
)
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code
from tests.helpers.user_model import user_model

IMAGES = patterned(37, 4).images


def program(name="tflite"):
    return format_module(name).convert(plain_network(untrained("mlp")), IMAGES)


# TensorFlow's process.


def test_formats_of_tensorflow_are_those_that_need_the_package():
    needing = [name for name in FORMATS if "tensorflow" in format_module(name).PACKAGES]
    assert sorted(needing) == sorted(TENSORFLOW_FORMATS)


def test_no_process_starts_without_a_format_of_tensorflow():
    with TensorflowConverter(["onnx", "numpy", "stablehlo"]) as converter:
        assert converter.process is None


def test_process_has_ended_after_the_block():
    with TensorflowConverter(["tflite"]) as converter:
        process = converter.process
        assert process.poll() is None
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_process_ends_with_the_process_that_started_it():
    """As after `kill -9`: its standard input ends."""
    process = tensorflow_converter.start()
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


def test_error_of_tensorflow_names_its_class_and_the_next_conversion_works():
    wrong = program()._replace(module=b"no program")
    with pytest.raises(ConverterError, match=r"^\w+Error: "):
        tensorflow().convert(wrong)
    assert tensorflow().convert(program()).keys() == {"model.tflite"}


def test_process_that_crashes_costs_its_format_alone(monkeypatch, tmp_path):
    crashing = tmp_path / "crashing.py"
    crashing.write_text("import os, sys\nsys.stdin.buffer.readline()\nos.abort()\n")
    own = tensorflow_converter.PROGRAM
    monkeypatch.setattr(tensorflow_converter, "PROGRAM", crashing)
    with TensorflowConverter(["tflite"]) as converter:
        with pytest.raises(ConverterError, match=r"ended with exit code -6"):
            converter.convert(program())
        monkeypatch.setattr(tensorflow_converter, "PROGRAM", own)
        assert converter.convert(program()).keys() == {"model.tflite"}


def test_format_that_crashes_tensorflow_is_left_out_by_name(monkeypatch, tmp_path):
    crashing = tmp_path / "crashing.py"
    crashing.write_text("raise SystemExit(7)")
    monkeypatch.setattr(tensorflow_converter, "PROGRAM", crashing)
    monkeypatch.setattr("tests.helpers.formats.tensorflow", lambda: converter)
    with TensorflowConverter([]) as converter:
        export = convert_all(["numpy", "tflite"], untrained("mlp"), IMAGES)
    assert export.manifest["formats"].keys() == {"numpy"}
    assert export.manifest["left_out"]["tflite"] == (
        "models/export/model.tflite: expected a network to convert, found TensorFlow "
        "ended with exit code 7. It is left out: remove tflite from export_formats, or "
        "write the layer with other operations."
    )


@pytest.mark.slow
def test_same_network_gives_the_same_files_in_another_process():
    first = {name: tensorflow().convert(program(name)) for name in TENSORFLOW_FORMATS}
    with TensorflowConverter([]) as converter:
        second = {name: converter.convert(program(name)) for name in TENSORFLOW_FORMATS}
    for name in ("tflite", "tflite_int8"):  # SavedModel numbers its functions
        assert first[name] == second[name]
    assert first["saved_model"].keys() == second["saved_model"].keys()


@pytest.mark.slow
def test_files_are_ready_with_all_that_running_them_needs(tmp_path):
    trained = as_trained(user_model(1, 3), (8, 8, 1))
    names = ["numpy", "onnx", "stablehlo", "tflite"]

    def ready(name, files):
        for path, content in files.items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / path).write_bytes(content)

    convert_all(names, trained, IMAGES, ready=ready)
    for name in names:
        found = run.load(tmp_path / name / format_module(name).FILE)(IMAGES)
        np.testing.assert_allclose(found, probabilities(trained, IMAGES), atol=1e-5)
        assert (tmp_path / name / "run.py").exists()


# The processes that run the files.


@pytest.fixture
def processes(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    with FreshProcesses(()) as found:
        yield found


def begin(processes, folder, name, **changed):
    trained = untrained("mlp")
    export = exported(folder, [name], trained)
    files = export.files | {f"{path}.py": text for path, text in changed.items()}
    file = format_module(name).FILE
    processes.start(name, file, files, folder / "images.npy")
    return probabilities(trained, IMAGES)


def test_process_gives_the_probabilities_and_then_the_latency(processes, tmp_path):
    expected = begin(processes, tmp_path, "numpy")
    found = processes.answers("numpy")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert processes.runs["numpy"].process.poll() is None  # waits
    measured = processes.latency("numpy")
    assert measured.keys() == {"batch_1", "batch_64", "peak_memory_mb"}
    assert processes.runs["numpy"].process.poll() is not None  # has ended


@pytest.mark.parametrize("name", ["numpy", "onnx", "stablehlo"])
def test_only_stablehlo_is_run_with_jax(processes, tmp_path, name):
    asking = b"import jax; raise SystemExit('has JAX')"
    begin(processes, tmp_path, name, run=asking)
    found = "has JAX" if name == "stablehlo" else "import of jax halted"
    with pytest.raises(DataError, match=found):
        processes.answers(name)


def test_process_that_finds_no_space_is_an_error_of_the_disk(processes, tmp_path):
    failing = b"import sys; print('run.py: full', file=sys.stderr); sys.exit(5)"
    begin(processes, tmp_path, "numpy", run=failing)
    with pytest.raises(StorageError, match=r"run\.py: full\. Free some"):
        processes.answers("numpy")


def test_process_that_fails_while_it_measures_is_named(processes, tmp_path):
    failing = b"print('ready', flush=True); input(); raise SystemExit('no clock')"
    begin(processes, tmp_path, "numpy", run=failing)
    assert processes.runs["numpy"].process.stdout.readline() == "ready\n"
    with pytest.raises(DataError, match=r"numpy_predictor\.py: expected to run"):
        processes.latency("numpy")


def test_processes_and_their_files_are_gone_after_the_block(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    with FreshProcesses(()) as processes:
        begin(processes, tmp_path, "numpy", run=b"import time; time.sleep(600)")
        process, folder = processes.runs["numpy"].process, processes.folder
        assert folder.exists()
    assert process.returncode == -signal.SIGKILL
    assert not folder.exists()


def test_run_waits_for_the_end_of_standard_input_before_it_measures(tmp_path):
    exported(tmp_path, ["numpy"], untrained("mlp"))
    np.save(tmp_path / "images.npy", IMAGES)
    words = ["run.py", "numpy_predictor.py", "images.npy", "--latency", "--wait"]
    with subprocess.Popen(
        [sys.executable, "-I", *words],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        output, _ = process.communicate(timeout=60)
    assert "batch_64" in json.loads(output)


def members(session):
    """The processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("moment", [2, 4])  # with TensorFlow's; with those of files
def test_stage_that_is_stopped_leaves_no_process_and_no_file(
    prepared, write_params, monkeypatch, tmp_path, moment
):
    formats = "[saved_model, stablehlo, numpy, onnx]"
    write_params(model="mlp", hidden=8, epochs=1, export_formats=formats)
    for stage in ("train", "evaluate"):
        assert exit_code(stage, monkeypatch) == 0
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.export"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and len(members(process.pid)) < moment:
        time.sleep(0.01)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "export: stopped by SIGTERM" in err
    end = time.monotonic() + 60
    while members(process.pid):  # one that began in that moment ends by itself
        assert time.monotonic() < end
        time.sleep(0.01)
    assert [path for path in temporary.iterdir() if "fourbeat-" in path.name] == []
    assert not paths.EXPORT.exists()
