"""The import law, and dvc.yaml against the code."""

import ast
from pathlib import Path

import pytest
import yaml

from src.config.params import TRAINING, Params
from tests.helpers.imports import ROOT, import_closure, imported_modules

# Top to bottom. A module imports from its own room or from a lower line.
ROOMS = [
    {"stages"},
    {"experiments"},
    {"reporting", "export", "resume"},
    {"results", "training"},
    {"evaluation"},
    {"models", "sources"},
    {"data", "sharding"},
    {"runtime"},
    {"storage"},
    {"config"},
    {"signals"},
    {"errors", "paths"},
]
STAGES = {
    name: stage
    for file in ("dvc.yaml", "extra/dvc.yaml")
    for name, stage in yaml.safe_load((ROOT / file).read_text())["stages"].items()
}
SOURCES = sorted(
    path for name in ("src", "stages") for path in (ROOT / name).rglob("*.py")
)


def room(path: Path) -> str:
    """The folder or module right under `src`, or `stages`."""
    first, *rest = path.relative_to(ROOT).parts
    return rest[0].removesuffix(".py") if first == "src" else first


def covered(path: Path, deps: list[str]) -> str | None:
    """The entry of a stage's `deps` that holds a source: a file or a folder."""
    name = path.relative_to(ROOT)
    return next((dep for dep in deps if name.is_relative_to(dep)), None)


def code_of(stage: str) -> set[Path]:
    """What a stage imports, but for the rooms' `__init__.py`: they hold no code."""
    closure = import_closure(ROOT / f"stages/{stage}.py")
    if stage == "export":  # imports the formats by name
        formats = (ROOT / "src/export").glob("to_*.py")
        closure = closure.union(*map(import_closure, formats))
    return closure - set((ROOT / "src").rglob("__init__.py"))


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


def test_every_module_has_its_room():
    assert {room(path) for path in SOURCES} - {"__init__"} == set().union(*ROOMS)


@pytest.mark.parametrize("line", range(len(ROOMS)))
def test_modules_import_only_from_their_own_room_or_lower_ones(line):
    below = set().union(*ROOMS[line + 1 :]) | {"__init__"}
    for path in SOURCES:
        if room(path) not in ROOMS[line]:
            continue
        imported = {room(found) for found in imported_modules(path)} - {room(path)}
        assert imported <= below, f"{path} imports {sorted(imported - below)}"


def test_no_room_imports_anything_by_itself():
    for path in SOURCES:
        if path.name == "__init__.py" and room(path) != "stages":
            body = ast.parse(path.read_text()).body
            assert [type(node) for node in body] == [ast.Expr], path


def test_tensorflow_is_imported_by_its_own_source_and_formats_alone():
    importers = {
        path.name for path in SOURCES if "import tensorflow" in path.read_text()
    }
    assert importers == {"tfds.py", "runtimes.py", "tensorflow_process.py"}


@pytest.mark.parametrize("name", STAGES)
def test_stage_reruns_when_any_source_it_imports_changes(name):
    closure = code_of(name)
    for path in closure:
        assert covered(path, STAGES[name]["deps"]), path


@pytest.mark.parametrize("name", STAGES)
def test_stage_depends_on_no_sources_that_it_does_not_import(name):
    deps = STAGES[name]["deps"]
    closure = code_of(name)
    needed = {covered(path, deps) for path in closure}
    assert needed == {dep for dep in deps if dep.startswith(("src", "stages"))}


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


TESTS = sorted((ROOT / "tests").rglob("*.py"))
# Folders of tests that are about no room of `src`.
OTHER_FOLDERS = {"benchmarks", "helpers", "project", "stages"}


def imported_names(path: Path) -> set[str]:
    """Modules and names that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def patched_names(path: Path) -> set[str]:
    """The names in strings that a file hands to `setattr` and its kind."""
    return {
        argument.value
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("setattr", "delattr")
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def is_private(name: str) -> bool:
    """Whether a part of a dotted name begins with a single underscore."""
    parts = name.split(".")
    return any(part.startswith("_") and not part.startswith("__") for part in parts)


def test_no_test_imports_another_test():
    for path in TESTS:
        parts = {part for name in imported_names(path) for part in name.split(".")[:-1]}
        tests = {part for part in parts if part.startswith("test_")}
        assert not tests, f"{path}: move what it shares to tests/helpers"


def test_no_private_name_is_imported_or_patched():
    for path in TESTS:
        names = imported_names(path) | patched_names(path)
        assert not set(filter(is_private, names)), path


def test_folders_of_tests_mirror_the_rooms():
    rooms = {path.stem for path in (ROOT / "src").iterdir()}
    folders = {path.parent for path in TESTS} - {ROOT / "tests"}
    assert {folder.name for folder in folders} <= rooms | OTHER_FOLDERS
    assert all(folder.parent == ROOT / "tests" for folder in folders)
    alone = {path.stem for path in TESTS if path.parent == ROOT / "tests"}
    tested = {name.removeprefix("test_") for name in alone - {"__init__", "conftest"}}
    assert tested <= rooms
