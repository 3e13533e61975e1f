"""The import law, and dvc.yaml against the code."""

import ast
from pathlib import Path

import pytest
import yaml

from src.config import TRAINING, Params
from tests.imports import ROOT, import_closure, imported_modules

LAYERS = [
    {"errors", "paths", "interrupt"},
    {"flat_yaml", "storage", "faults", "commit"},
    {"files", "cores"},
    {"config", "npz"},
    {"lineage", "determinism", "located", "devices", "processes"},
    {"data", "models", "optim", "metrics", "counts", "monitor", "guard"},
    {"losses", "augment", "average", "accumulate", "records", "charts", "sweep"},
    {"state", "results", "fingerprint", "events", "pace"},
    {"step", "predict", "score"},
    {"debug"},
    {"loop", "checkpoint", "pictures", "repeat", "report_page"},
    {"report", "lr_range", "export", "sweep_picture"},
    {"saves"},
    {"resume"},
    {"stage"},
]
STAGES = {
    name: stage
    for file in ("dvc.yaml", "extra/dvc.yaml")
    for name, stage in yaml.safe_load((ROOT / file).read_text())["stages"].items()
}
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def room(path: Path) -> str:
    """The module or package right under src."""
    return path.relative_to(ROOT / "src").parts[0].removesuffix(".py")


def parameters_read(path: Path) -> set[str]:
    """Attributes of arguments that are annotated as Params."""
    found = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        names = {
            argument.arg
            for argument in (*function.args.args, *function.args.kwonlyargs)
            if isinstance(argument.annotation, ast.Name)
            and argument.annotation.id == "Params"
        }
        found |= {
            node.attr
            for node in ast.walk(function)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in names
        }
    return found & set(Params.model_fields)


def test_every_module_has_its_layer():
    assert {room(path) for path in SOURCES} - {"__init__"} == set().union(*LAYERS)


@pytest.mark.parametrize("rank", range(len(LAYERS)))
def test_modules_import_only_from_lower_layers(rank):
    below = set().union(*LAYERS[:rank]) | {"__init__"}
    for path in SOURCES:
        if room(path) not in LAYERS[rank]:
            continue
        imported = {room(found) for found in imported_modules(path)} - {room(path)}
        assert imported <= below, f"{path} imports {sorted(imported - below)}"


def test_nothing_in_src_imports_a_stage():
    for path in SOURCES:
        assert "stages" not in {found.parent.name for found in imported_modules(path)}


def test_tensorflow_is_imported_by_its_own_source_and_formats_alone():
    importers = {
        path.name for path in SOURCES if "import tensorflow" in path.read_text()
    }
    export = {"run.py", "saved_model.py", "tensorflow_function.py"}
    assert importers == {"tfds.py", "tflite.py", "tflite_int8.py"} | export


@pytest.mark.parametrize("name", STAGES)
def test_stage_reruns_when_any_source_it_imports_changes(name):
    declared = {dep for dep in STAGES[name]["deps"] if dep.endswith(".py")}
    closure = import_closure(ROOT / f"stages/{name}.py")
    assert declared == {str(path.relative_to(ROOT)) for path in closure}
    assert len(STAGES[name]["deps"]) == len(set(STAGES[name]["deps"]))


@pytest.mark.parametrize("name", STAGES)
def test_stage_reruns_when_a_library_changes(name):
    assert "requirements.lock" in STAGES[name]["deps"]


@pytest.mark.parametrize("name", STAGES)
def test_stage_lists_exactly_the_parameters_it_reads(name):
    closure = import_closure(ROOT / f"stages/{name}.py")
    read = set().union(*(parameters_read(path) for path in closure))
    assert sorted(STAGES[name].get("params", [])) == sorted(read)


def test_trained_network_records_the_parameters_of_its_stage():
    assert sorted(STAGES["train"]["params"]) == sorted(TRAINING)


def test_every_parameter_is_read_by_a_stage():
    listed = {key for stage in STAGES.values() for key in stage.get("params", [])}
    assert listed == set(Params.model_fields)


def test_training_is_not_given_the_test_split():
    deps, outs = STAGES["train"]["deps"], STAGES["prepare"]["outs"]
    assert not [dep for dep in deps if "test" in dep]
    of_test = [out for out in outs if isinstance(out, str) and "test" in out]
    assert of_test == ["data/prepared/test.npz", "data/prepared/shards/test"]
    assert not [dep for dep in deps for out in of_test if out.startswith(f"{dep}/")]


@pytest.mark.parametrize("name", STAGES)
def test_no_parameter_reaches_a_shell(name):
    assert "${" not in STAGES[name]["cmd"]


@pytest.mark.parametrize("name", STAGES)
def test_no_output_turns_the_run_cache_off(name):
    for out in STAGES[name].get("outs", []):
        assert not isinstance(out, dict) or "persist" not in str(out)
