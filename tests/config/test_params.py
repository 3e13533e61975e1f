"""Reading params.yaml: wrong values give one line; every valid notation is read."""

import codecs
import itertools
import subprocess
import sys

import pytest
from dvc.utils.serialize import load_yaml

from src.config.flat_yaml import parse_flat_yaml
from src.config.load import load_params
from src.errors import ParameterError, suggestion
from tests.helpers.imports import ROOT
from tests.helpers.running import run_stage

OPTIMIZERS = "sgd, momentum, nesterov, adam, adamw, rmsprop, lion, lamb, muon"
FORMATS = "stablehlo, saved_model, tflite, tflite_int8, onnx, numpy"
SCHEDULES = (
    "constant, cosine, warmup_cosine, linear, exponential, piecewise, one_cycle, "
    "plateau"
)
WRONG = [  # key, value in the file, message after the key
    ("lr", "-1", "expected a number > 0, got -1."),
    ("lr", "0", "expected a number > 0, got 0."),
    ("lr", "abc", "expected a number > 0, got 'abc'."),
    ("lr", '"3e-4"', "expected a number > 0, got '3e-4'."),
    ("lr", "''", "expected a number > 0, got ''."),
    ("lr", "", "expected a number > 0, got None."),
    ("lr", ".nan", "expected a number > 0, got nan."),
    ("lr", "nan", "expected a number > 0, got 'nan'."),
    ("lr", "1e400", "expected a number > 0, got inf."),
    ("lr", "true", "expected a number > 0, got True."),
    ("lr", "[1, 2]", "expected a number > 0, got [1, 2]."),
    ("seed", "-1", "expected an integer in [0, 2147483648), got -1."),
    ("epochs", "1.5", "expected an integer >= 1, got 1.5."),
    ("epochs", "0", "expected an integer >= 1, got 0."),
    ("epochs", "true", "expected an integer >= 1, got True."),
    ("batch_size", "0", "expected an integer in [1, 65536], got 0."),
    (
        "batch_size",
        "-8",
        "expected an integer in [1, 65536], got -8.",
    ),
    ("log_every", "0", "expected an integer >= 1, got 0."),
    (
        "hidden",
        "0",
        "expected an integer in [1, 65536] or null, got 0.",
    ),
    ("patience", "0", "expected an integer >= 1 or null, got 0."),
    ("clip_norm", "0", "expected a number > 0 or null, got 0."),
    ("dropout", "1.0", "expected a number in [0, 1), got 1.0."),
    ("momentum", "1.5", "expected a number in [0, 1), got 1.5."),
    ("weight_decay", "-0.1", "expected a number >= 0, got -0.1."),
    ("validation_fraction", "1", "expected a number in (0, 1), got 1."),
    (
        "warmup_epochs",
        "31",
        "expected a number in [0, epochs = 30], got 31.0. Reduce warmup_epochs or "
        "raise epochs.",
    ),
    ("clip_value", "-1", "expected a number > 0 or null, got -1."),
    ("debug", "1", "expected true or false, got 1."),
    ("on_nan", "ignore", "expected one of stop, skip, got 'ignore'."),
    ("stop_at", ".inf", "expected a number or null, got inf."),
    (
        "lr_end",
        "0.01",
        "expected a number in [0, lr = 0.003], got 0.01. Reduce lr_end or raise lr.",
    ),
    (
        "start_from_epoch",
        "31",
        "expected an integer in [1, epochs = 30], got 31. Reduce start_from_epoch or "
        "raise epochs.",
    ),
    (
        "accumulate",
        "5",
        "expected a divisor of batch_size (32), got 5. The nearest: 4 or 8.",
    ),
    (
        "accumulate",
        "99",
        "expected a divisor of batch_size (32), got 99. The nearest: 32.",
    ),
    (
        "lr_milestones",
        "[5, 3]",
        "expected increasing epochs, got [5.0, 3.0]. Sort them, without duplicates.",
    ),
    (
        "lr_range_high",
        "1e-7",
        "expected a number > lr_range_low (1e-06), got 1e-07. Try 0.001.",
    ),
    (
        "augment",
        "[flip, flip]",
        "expected each name once, got ['flip', 'flip']. Remove duplicates.",
    ),
    (
        "augment",
        "[cutmix, flip, mixup]",
        "expected mixup or cutmix, got both. Remove one of them.",
    ),
    (
        "optimizer",
        "adan",
        f"expected one of {OPTIMIZERS}, got 'adan'. Did you mean 'adam'?",
    ),
    ("optimizer", "7", f"expected one of {OPTIMIZERS}, got 7."),
    (
        "model",
        "cnnmax",
        "expected one of mlp, cnn, cnn_max, resnet, resnet18, got 'cnnmax'. Did you "
        "mean 'cnn_max'?",
    ),
    (
        "schedule",
        "cosin",
        f"expected one of {SCHEDULES}, got 'cosin'. Did you mean 'cosine'?",
    ),
    ("monitor_mode", "up", "expected one of auto, min, max, got 'up'."),
    (
        "export_formats",
        "[]",
        f"expected a list, as in [a, b], with one of {FORMATS}, got [].",
    ),
    (
        "export_formats",
        "[onxx]",
        f"expected a list, as in [a, b], with one of {FORMATS}, got 'onxx'. "
        "Did you mean 'onnx'?",
    ),
    *(
        (
            "dataset",
            name,
            "expected a plain name such as digits, folder, npz, mnist or "
            f"emnist/letters, got '{name}'.",
        )
        for name in ("ns:evil", "../etc", "a/b/c", "Digits; touch x")
    ),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_error_names_the_key_the_expectation_and_the_value(
    write_params, key, value, message
):
    with pytest.raises(ParameterError) as caught:
        load_params(write_params(**{key: value}))
    assert str(caught.value).endswith(f"params.yaml: {key}: {message}")


@pytest.mark.parametrize("key", ["hidden", "clip_norm", "image_size", "init_from"])
def test_empty_text_is_null_where_null_is_allowed(write_params, key):
    """`dvc exp run -S clip_norm=` writes ''."""
    assert getattr(load_params(write_params(**{key: "''"})), key) is None


def test_one_name_in_place_of_a_list_is_answered_with_the_list(write_params):
    with pytest.raises(ParameterError, match=r"got 'flip'\. Write \[flip\]\.$"):
        load_params(write_params(augment="flip"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-3", 0.001),
        ("3e-4", 0.0003),
        ("1e-05", 0.00001),
        ("1", 1.0),
        (".5", 0.5),
        ("1E2", 100.0),
        ("+0.1", 0.1),
    ],
)
def test_every_way_to_write_a_number_gives_a_float(write_params, written, meant):
    lr = load_params(write_params(lr=written)).lr
    assert lr == meant
    assert isinstance(lr, float)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lrr: 1", "lrr: unknown key. Did you mean 'lr'?"),
        ("zzz: 1", "zzz: unknown key. Remove it."),
        (
            "lr: 1",
            "lr: expected one value, found two, in lines 20 and 39. Remove one of ",
        ),
        ("a: &x 1", "line 39, column 4: found the anchor x. Write plain YAML; quote"),
        ("a: &x [1]", "line 39, column 4: found the anchor x. Write plain YAML; quote"),
        ("a: [&x 1]", "line 39, column 5: found the anchor x. Write plain YAML; quote"),
        ("&x a: 1", "line 39, column 1: found the anchor x. Write plain YAML; quote"),
        (
            "a: *x",
            "line 39, column 4: found undefined alias 'x'. Write plain YAML; quote",
        ),
        ("a: !!python/name:os.system", "line 39, column 4: found the tag"),
        ("a: [!x 1]", "line 39, column 5: found the tag !x. Write plain YAML; quote"),
        ("a: 2026-11-25", "line 39, column 4: found the tag !!timestamp"),
        ("<<: 1", "line 39, column 1: found the tag !!merge. Write plain"),
        (
            "a: [" + "[" * 2000,
            "maximum recursion depth exceeded. Write plain YAML; quote",
        ),
        ("\tx: 1", "line 39, column 1: found character '\\t' that cannot start any"),
        ("a: {b: 1, c: {d: 1}}", "a: expected a value or a list of values, found a"),
        (
            "? [a]\n: 1",
            "line 39: expected a plain key, found a nesting. Write key: value.",
        ),
    ],
)
def test_wrong_line_is_named(write_params, line, message):
    path = write_params()
    text = path.read_text()
    lines = len(text.splitlines())
    path.write_text(f"{text}{line}\n")
    message = message.replace("39", str(lines + 1))
    with pytest.raises(ParameterError) as caught:
        load_params(path)
    found = str(caught.value).split("params.yaml: ")[1]
    number = text[: text.index("\nlr:")].count("\n") + 2
    assert found.startswith(message.replace("lines 20", f"lines {number}"))
    assert "\n" not in found


BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in itertools.pairwise("abcdefghijklmnop")
)


def test_bomb_of_aliases_is_refused_before_it_is_built(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(BOMB)
    with pytest.raises(ParameterError, match=r"line 1, column 4: found the anchor a\."):
        load_params(path)


@pytest.mark.parametrize(
    "written", ["0", "7", "007", "0o7", "0x7", "1_000", "+7", "-0", "~", "null", ""]
)
def test_values_match_those_that_dvc_reads(write_params, written):
    path = write_params(limit_examples=written)
    ours = parse_flat_yaml(path.read_bytes())
    assert ours == load_yaml(path)


def test_misspelt_key_is_the_first_fault_named(write_params):
    path = write_params()
    path.write_text(path.read_text().replace("optimizer:", "optimiser:"))
    with pytest.raises(ParameterError) as caught:
        load_params(path)
    assert str(caught.value).endswith(
        "optimiser: unknown key. Did you mean 'optimizer'? (1 more)"
    )


def test_missing_key_is_named_with_its_expected_value(write_params):
    path = write_params()
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("lr:")))
    with pytest.raises(ParameterError) as caught:
        load_params(path)
    assert str(caught.value).endswith(
        "lr: expected a number > 0, found no such key. Add it."
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing",
        b"- a\n- b\n",
        b"just words",
        b"\xff\xfe\x00",
        b"a: [",
        b"a: \x00",
        b"a: \xff",
        b"a: " + b"9" * 6000,
        b"a: 1\n---\nb: 2\n",
        b"1: 2\n",
        b"!!set {a}\n",
    ],
)
def test_malformed_mapping_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match=r"params\.yaml: ") as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


def test_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(b"a: " + b"1" * (2 << 20))
    with pytest.raises(ParameterError, match="expected at most 65536 bytes"):
        load_params(path)


def test_file_with_windows_line_ends_and_byte_order_mark_reads_the_same(write_params):
    path = write_params()
    expected = load_params(path)
    content = path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(codecs.BOM_UTF8 + content)
    assert load_params(path) == expected


def test_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ParameterError, match="Run from the repository's root"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "stage", ["check", "prepare", "train", "evaluate", "export", "report"]
)
def test_stage_refuses_wrong_parameters_with_code_two_and_one_line(write_params, stage):
    folder = write_params(lr="-1").parent
    result = run_stage(stage, folder)
    assert result.returncode == 2
    assert result.stderr == (
        f"{stage}: params.yaml: lr: expected a number > 0, got -1.\n"
    )
    assert result.stdout == ""
    assert [path.name for path in folder.iterdir()] == ["params.yaml"]


def test_jax_is_not_imported_to_check_the_parameters():
    code = (
        "import sys, stages.train, stages.export; from pathlib import Path;"
        "from src.config.load import load_params; load_params(Path('params.yaml'));"
        "print({'jax', 'numpy', 'tensorflow'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "set()\n"


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("exponential", "lr_end: expected a number > 0 for schedule: exponential"),
        ("piecewise", "lr_milestones: expected numbers in (0, epochs = 30)"),
    ],
)
def test_schedule_without_its_parameters_is_refused(write_params, schedule, message):
    with pytest.raises(ParameterError) as caught:
        load_params(write_params(schedule=schedule))
    assert message in str(caught.value)


def test_milestone_that_the_run_never_reaches_is_refused(write_params):
    path = write_params(schedule="piecewise", lr_milestones="[15, 30]")
    with pytest.raises(
        ParameterError, match=r"in \(0, epochs = 30\) .*got \[15\.0, 30\.0\]"
    ):
        load_params(path)


@pytest.mark.parametrize(("found", "word"), [("adamW", "adamw"), ("SGD", "sgd")])
def test_suggestion_ignores_case(found, word):
    known = ["adam", "adamw", "sgd"]
    assert suggestion(found, known) == f" Did you mean '{word}'?"
