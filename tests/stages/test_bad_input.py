"""Wrong parameters, data or artifacts: one line, the exit code, and no output."""

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save

from src import paths
from src.storage.json_files import SEAL
from src.storage.reading import digest
from tests.helpers.examples import patterned
from tests.helpers.files import write_record
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code, run_python, run_stage

PARAMS = (ROOT / "params.yaml").read_text()


def with_line(line, instead_of=""):
    """params.yaml with a line more, or another one."""
    if not instead_of:
        return f"{PARAMS}{line}\n"
    key = line.partition(":")[0]
    text, count = re.subn(rf"(?m)^{key}:.*$", line.replace("\\", r"\\"), PARAMS)
    assert count == 1
    return text


WRONG_PARAMETERS = {  # params.yaml, part of the message
    "unknown key": (with_line("lrr: 1"), "lrr: unknown key. Did you mean 'lr'?"),
    "key twice": (with_line("lr: 1"), "lr: expected one value, found two, in lines"),
    "missing key": (PARAMS.replace("\nlr: ", "\n# lr: "), "lr: expected a number"),
    "empty": ("", "expected a mapping"),
    "only a list": ("- lr\n", "expected a mapping"),
    "nested": (with_line("a: {b: 1}"), "found a nesting"),
    "tab": (with_line("\tx: 1"), "line"),
    "python object": (with_line("x: !!python/object/apply:os.system [ls]"), "the tag"),
    "anchor": (with_line("x: &a [1]"), "found the anchor a"),
    "aliases": (
        with_line("\n".join(f"x{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(9))),
        "found undefined alias 'a-1'",
    ),
    "brackets": (with_line("x: " + "[" * 9000), "recursion"),
    "too long": (with_line("#" * 70_000), "at most 65536 bytes"),
    "text for a number": (with_line('lr: "3e-4"', PARAMS), "lr: expected a number"),
    "negative": (with_line("lr: -1", PARAMS), "lr: expected a number > 0, got -1"),
    "not a number": (with_line("lr: .nan", PARAMS), "lr: expected"),
    "infinite": (with_line("lr: 1e400", PARAMS), "lr: expected"),
    "fraction": (with_line("epochs: 1.5", PARAMS), "epochs: expected an integer"),
    "none at all": (with_line("epochs: 0", PARAMS), "epochs: expected an integer >= 1"),
    "truth": (with_line("batch_size: true", PARAMS), "batch_size: expected an int"),
    "too much momentum": (with_line("momentum: 1.5", PARAMS), "momentum: expected"),
    "all dropped": (with_line("dropout: 1.0", PARAMS), "dropout: expected a number in"),
    "optimizer": (with_line("optimizer: adan", PARAMS), "Did you mean 'adam'?"),
    "schedule": (with_line("schedule: cosin", PARAMS), "Did you mean 'cosine'?"),
    "model": (with_line("model: vgg", PARAMS), "model: expected one of mlp, cnn"),
    "namespace": (with_line("dataset: 'ns:evil'", PARAMS), "dataset: expected a plain"),
    "traversal": (with_line("dataset: ../../etc", PARAMS), "dataset: expected a plain"),
    "long name": (with_line("dataset: " + "a" * 10_000, PARAMS), "dataset: expected"),
    "shell": (with_line("optimizer: '; touch canary'", PARAMS), "optimizer: expected"),
    "warmup": (with_line("warmup_epochs: 999", PARAMS), "warmup_epochs: expected"),
    "slices": (with_line("accumulate: 5", PARAMS), "accumulate: expected a divisor"),
    "twice": (with_line("augment: [flip, flip]", PARAMS), "augment: expected each"),
    "calibrate": (with_line("calibrate: maybe", PARAMS), "expected true or false"),
    "reject all": (
        with_line("reject_below: 1", PARAMS),
        "reject_below: expected a num",
    ),
    "rule": (with_line("threshold: f2", PARAMS), "threshold: expected f1, or a recall"),
    "recall": (
        with_line("threshold: recall:1.5", PARAMS),
        "threshold: expected f1, or",
    ),
    "no recall": (with_line("threshold: recall:0.0", PARAMS), "threshold: expected f1"),
    "certain": (with_line("threshold: 1.0", PARAMS), "or a number in (0, 1)"),
    "no such folder": (with_line("data_path: nowhere", PARAMS), "data_path: expected"),
}


def snapshot(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refused(stage, folder, monkeypatch, capsys):
    """Runs a stage that must change no file; returns its exit code and its line."""
    before = snapshot(folder)
    code = exit_code(stage, monkeypatch)
    error = capsys.readouterr().err
    assert error.startswith(f"{stage}: ")
    assert error.count("\n") == 1, error
    assert error.isprintable() or error[:-1].isprintable()
    assert snapshot(folder) == before
    return code, error


@pytest.mark.parametrize("name", WRONG_PARAMETERS)
def test_wrong_parameters_are_code_two(tmp_path, monkeypatch, capsys, name):
    text, message = WRONG_PARAMETERS[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    paths.PARAMS.write_text(text)
    code, error = refused("check", tmp_path, monkeypatch, capsys)
    assert code == 2
    assert message in error


def test_parameters_are_checked_before_jax_is_imported(tmp_path):
    (tmp_path / "params.yaml").write_text(with_line("lrr: 1"))
    source = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_module('stages.train', run_name='__main__')\n"
        "finally:\n"
        "    assert 'jax' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    result = run_python(["-c", source], tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr


GOOD = patterned(60, seed=0)
IMAGES, LABELS = GOOD.images, GOOD.labels


def arrays(**given):
    """Writes train.npz with these arrays."""
    return lambda folder: np.savez(folder / "train.npz", **given)


def good_arrays(folder):
    np.savez(folder / "train.npz", images=IMAGES, labels=LABELS)


def with_names(text):
    def write(folder):
        good_arrays(folder)
        (folder / "manifest.json").write_text(text)

    return write


def with_test(**given):
    def write(folder):
        good_arrays(folder)
        np.savez(folder / "test.npz", **given)

    return write


def linked_arrays(folder):
    outside = folder.parent.parent / "outside.npz"
    np.savez(outside, images=IMAGES, labels=LABELS)
    (folder / "train.npz").symlink_to(outside)


def cut_short(folder):
    good_arrays(folder)
    path = folder / "train.npz"
    path.write_bytes(path.read_bytes()[:-100])


def with_shard(name, **given):
    def write(folder):
        good_arrays(folder)
        (folder / "shards/train").mkdir(parents=True)
        np.savez(folder / "shards/train" / name, **given)

    return write


WRONG_ARRAYS = {
    "no first shard": (
        with_shard("00002.npz", images=IMAGES, labels=LABELS),
        "train/00002.npz: expected shards/train/00001.npz, because",
    ),
    "a shard of another shape": (
        with_shard("00001.npz", images=IMAGES[:, :4], labels=LABELS),
        "train/00001.npz: images: expected shape [8, 8, 1] as in",
    ),
    "a shard without labels": (
        with_shard("00001.npz", images=IMAGES),
        "train/00001.npz: expected the arrays images and labels",
    ),
    "no file": (lambda folder: None, "train.npz: expected a file, found none"),
    "a folder": (lambda f: (f / "train.npz").mkdir(), "expected a file, found none"),
    "a pipe": (lambda f: os.mkfifo(f / "train.npz"), "expected a file, found none"),
    "a link outside": (linked_arrays, "found a link to a file outside"),
    "a test that is a broken link": (
        lambda f: [good_arrays(f), (f / "test.npz").symlink_to(f / "gone")],
        "test.npz: expected a file, found none",
    ),
    "cut short": (cut_short, "expected an npz of plain arrays"),
    "no labels": (arrays(images=IMAGES), "expected the arrays images and labels"),
    "one more": (
        arrays(images=IMAGES, labels=LABELS, x=LABELS),
        "found images, labels, x",
    ),
    "other lengths": (arrays(images=IMAGES, labels=LABELS[:-1]), "60 images and 59"),
    "no example": (arrays(images=IMAGES[:0], labels=LABELS[:0]), "expected"),
    "a row an image": (
        arrays(images=IMAGES.reshape(60, 64), labels=LABELS),
        "expected [n, height, width] or",
    ),
    "two channels": (
        arrays(images=IMAGES.repeat(2, axis=3), labels=LABELS),
        "expected 1 or 3 channels",
    ),
    **{
        f"{dtype} images": (
            arrays(images=(IMAGES * 1.1).astype(dtype), labels=LABELS),
            "images: expected uint8",
        )
        for dtype in ("float64", "bool", "float16")
    },
    **{
        f"{dtype} images": (
            arrays(images=IMAGES.astype(dtype) + 100, labels=LABELS),
            "images: expected uint8",
        )
        for dtype in ("int64", "uint16", ">u2")
    },
    "objects": (
        arrays(images=IMAGES.astype(object), labels=LABELS),
        "expected an npz of plain arrays",
    ),
    "label too large": (
        with_names('{"class_names": ["a", "b"]}'),
        "labels: expected 0 to 1, found",
    ),
    "labels in floats": (
        arrays(images=IMAGES, labels=LABELS / 2),
        "labels: expected integers",
    ),
    "two of three": (
        arrays(images=IMAGES, labels=1 - np.eye(3, dtype=int)[LABELS]),
        "labels: expected integers with 1 dimension, or one 1 in each row",
    ),
    "one class": (arrays(images=IMAGES, labels=LABELS * 0), "at least two classes"),
    "test of another shape": (
        with_test(images=IMAGES[:, :4], labels=LABELS),
        "test: images: expected shape [8, 8, 1] as in train",
    ),
    "test of another class": (
        with_test(images=IMAGES, labels=LABELS + 1),
        "test.npz: labels: expected one of the 3 classes in",
    ),
    "names are no JSON": (with_names("{"), "manifest.json: expected JSON"),
    "a name twice": (with_names('{"class_names": ["a", "a"]}'), "different names"),
    "control characters": (
        with_names(r'{"class_names": ["\u001b[2J", "b", "c"]}'),
        "clas",
    ),
    "half a letter": (with_names(r'{"class_names": ["\ud800", "b", "c"]}'), "class na"),
    "a long name": (
        with_names(json.dumps({"class_names": ["a" * 101, "b", "c"]})),
        "expected class names of 1 to 100 characters",
    ),
    "too many names": (
        with_names(json.dumps({"class_names": [str(n) for n in range(200_000)]})),
        "expected at most 10000 classes, found 200000",
    ),
    "too few names": (with_names('{"class_names": ["a", "b"]}'), "expected 0 to 1"),
    "deep JSON": (with_names('{"a":' + "[" * 100_000), "manifest.json: expected JSON"),
    "long JSON": (with_names(" " * (5 << 20)), "expected at most 4194304 bytes"),
}


def picture(where, size=(6, 6), mode="L"):
    def write(folder):
        for name in ("cat", "dog"):
            for index in range(5):
                path = folder / f"train/{name}/{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (6, 6), index).save(path)
        if where:
            (folder / where).parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, size).save(folder / where, format="PNG")

    return write


def beside_pictures(where, content):
    def write(folder):
        picture(None)(folder)
        (folder / where).write_bytes(content)

    return write


def of_kind(kind):
    """A picture that Pillow could read, EPS with the help of a PostScript program."""

    def write(folder):
        picture(None)(folder)
        Image.new("L", (6, 6)).save(folder / "train/cat/9.png", format=kind)

    return write


def long_name(folder):
    picture(None)(folder)
    (folder / "train/dog").rename(folder / "train" / ("d" * 101))


def pipe_among_pictures(folder):
    picture(None)(folder)
    os.mkfifo(folder / "train/cat/9.png")


def linked_picture(folder):
    picture(None)(folder)
    outside = folder.parent.parent / "outside.png"
    Image.new("L", (6, 6)).save(outside)
    (folder / "train/cat/9.png").symlink_to(outside)


def linked_class(folder):
    picture(None)(folder)
    outside = folder.parent.parent / "outside"
    (folder / "train/cat").rename(outside)
    (folder / "train/cat").symlink_to(outside)


WRONG_IMAGES = {
    "none": (lambda folder: None, "expected pictures in class folders, found nothing"),
    "other files alone": (
        lambda f: [(f / "a").mkdir(), (f / "a/x.txt").write_bytes(b"x")],
        "found 1 other file, such as a/x.txt",
    ),
    "no picture": (beside_pictures("train/cat/a.png", b"x" * 99), "expected PNG, JPEG"),
    "cut short": (
        beside_pictures("train/cat/a.png", b"\x89PNG\r\n\x1a\n" + bytes(9)),
        "expected PNG, JPEG",
    ),
    "another size": (
        picture("train/cat/a.png", (7, 6)),
        "expected pictures of one size, 6 x 6",
    ),
    "new class in test": (picture("test/cow/a.png"), "expected one of the classes"),
    "a flat test": (picture("test/a.png"), "`python -m stages.predict test/`"),
    "a large one": (picture("train/cat/0.png", (9000, 9000), "1"), "of one size"),
    "a bomb": (
        picture("train/cat/0.png", (12001, 10000), "1"),
        "found 12001 x 10000 pixels, above the limit of 120 million",
    ),
    **{
        f"{kind} by another name": (of_kind(kind), "9.png: expected PNG, JPEG")
        for kind in ("EPS", "PPM", "ICO")
    },
    "a pipe": (pipe_among_pictures, "or HEIC, found no file"),
    "a long class name": (long_name, "expected class names of 1 to 100 characters"),
    "a test that is a broken link": (
        lambda f: [picture(None)(f), (f / "test").symlink_to(f / "gone")],
        "test: expected a folder, found a link to",
    ),
    "a link outside": (linked_picture, "found a link to a file outside"),
    "a link to a folder": (linked_class, "train/cat: expected a folder, found a link"),
}
WRONG_DIGITS = {
    "none": (lambda folder: None, "expected a file"),
    "no gzip": (lambda f: (f / "digits.csv.gz").write_bytes(b"x"), "a gzipped table"),
    "a bomb": (
        lambda f: (f / "digits.csv.gz").write_bytes(gzip.compress(bytes(1 << 28))),
        "more than 1048576 bytes",
    ),
    "other numbers": (
        lambda f: (f / "digits.csv.gz").write_bytes(gzip.compress(b"1,2\n")),
        "64 pixels",
    ),
}
SOURCES = [
    *(("npz", name, *case) for name, case in WRONG_ARRAYS.items()),
    *(("folder", name, *case) for name, case in WRONG_IMAGES.items()),
    *(("digits", name, *case) for name, case in WRONG_DIGITS.items()),
]


@pytest.mark.parametrize(
    ("dataset", "make", "message"),
    [pytest.param(kind, *case, id=f"{kind}: {name}") for kind, name, *case in SOURCES],
)
def test_wrong_data_is_code_three(
    tmp_path, write_params, monkeypatch, capsys, dataset, make, message
):
    workspace = tmp_path / "workspace"
    (workspace / "data").mkdir(parents=True)
    monkeypatch.chdir(workspace)
    write_params(dataset=dataset, data_path="data").rename(workspace / "params.yaml")
    make(workspace / "data")
    code, error = refused("prepare", workspace, monkeypatch, capsys)
    assert code == 3
    assert message in error
    assert not (workspace / "metrics").exists()


def flip(path, at=-500):
    content = bytearray(path.read_bytes())
    content[at] ^= 8
    path.write_bytes(content)


def resealed(path, **changes):
    record = json.loads(path.read_text()) | changes
    del record[SEAL]
    write_record(path, record)


def other_weights(change):
    """Other weights, and a record that fits them."""
    content = save(change(load_file(paths.WEIGHTS)))
    paths.WEIGHTS.write_bytes(content)
    resealed(paths.MODEL, sha256=digest(content))


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


TRAIN = paths.PREPARED / "train.npz"
WRONG_ARTIFACTS = {  # stage, exit code, damage, part of the message
    "no manifest": ("train", 3, lambda: paths.MANIFEST.unlink(), "dvc repro prepare"),
    "no split": ("train", 3, lambda: TRAIN.unlink(), "train.npz: expected a file"),
    "flipped split": ("train", 3, lambda: flip(TRAIN), "train.npz: expected SHA-256"),
    "flipped manifest": (
        "train",
        3,
        lambda: edit(paths.MANIFEST, '"low"', '"lou"'),
        "the file was changed or damaged",
    ),
    "foreign manifest": (
        "train",
        3,
        lambda: paths.MANIFEST.write_text('{"class_names": ["a"]}'),
        "manifest.json: expected sha256_of_the_rest ",
    ),
    "manifest with an infinite number": (
        "train",
        3,
        lambda: paths.MANIFEST.write_text('{"a": 1e999}'),
        "manifest.json: expected sha256_of_the_rest ",
    ),
    "manifest of another shape": (
        "train",
        3,
        lambda: resealed(paths.MANIFEST, image_shape=[4, 16, 1]),
        "images: expected shape [4, 16, 1]",
    ),
    "batch too large": (
        "train",
        2,
        lambda: edit(paths.PARAMS, "batch_size: 32", "batch_size: 101"),
        "batch_size: expected at most the 100 training examples",
    ),
    "top_k with few classes": (
        "train",
        2,
        lambda: edit(
            paths.PARAMS, "monitor: validation_loss", "monitor: validation_top_k"
        ),
        "top_k: expected less than the 3 classes",
    ),
    "no network": (
        "evaluate",
        3,
        lambda: paths.MODEL.unlink(),
        "model.json: expected a file, found none. Train again",
    ),
    "no weights": ("export", 3, lambda: paths.WEIGHTS.unlink(), "dvc repro train"),
    "flipped weights": (
        "evaluate",
        3,
        lambda: flip(paths.WEIGHTS, 300),
        "model.safetensors: expected SHA-256",
    ),
    "flipped record": (
        "export",
        3,
        lambda: edit(paths.MODEL, '"epoch": ', '"epoch":  '),
        "model.json: expected sha256_of_the_rest ",
    ),
    "another architecture": (
        "evaluate",
        3,
        lambda: other_weights(lambda w: w | {"dense.bias": w["dense.bias"][:-1]}),
        "dense.bias: expected float32 [8], found float32 [7]",
    ),
    "a weight less": (
        "export",
        3,
        lambda: other_weights(lambda w: {"dense.bias": w["dense.bias"]}),
        "dense.kernel: expected float32 [64, 8], found none",
    ),
    "other classes": (
        "evaluate",
        3,
        lambda: resealed(paths.MODEL, class_names=["a", "b", "c"]),
        "model.json: expected a network for images and classes",
    ),
    "infinite weights": (
        "evaluate",
        4,
        lambda: other_weights(lambda w: w | {"output.bias": w["output.bias"] + np.inf}),
        "log-probabilities: expected finite numbers",
    ),
    "history of another run": (
        "evaluate",
        3,
        lambda: edit(paths.HISTORY, "1,", "2,"),
        "history.csv: expected SHA-256",
    ),
}


@pytest.fixture(scope="module")
def artifacts():
    """The files that train writes, by path; each case gets a new copy."""
    found: dict[Path, bytes] = {}

    def copy(monkeypatch):
        if not found:
            assert exit_code("train", monkeypatch) == 0
            for folder in (paths.MODEL.parent, paths.METRICS):
                files = [path for path in folder.rglob("*") if path.is_file()]
                found.update({path: path.read_bytes() for path in files})
        for path, content in found.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return copy


@pytest.mark.parametrize("name", WRONG_ARTIFACTS)
def test_wrong_artifact_gives_its_exit_code(
    prepared, write_params, monkeypatch, capsys, artifacts, name
):
    stage, expected, spoil, message = WRONG_ARTIFACTS[name]
    write_params(model="mlp", hidden=8, epochs=1)
    if stage != "train":
        artifacts(monkeypatch)
    capsys.readouterr()
    spoil()
    code, error = refused(stage, prepared, monkeypatch, capsys)
    assert code == expected
    assert message in error


@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate", "export", "report"])
def test_each_stage_prints_one_line_in_a_new_process(tmp_path, write_params, stage):
    """The tests above run in this process; this one starts a new one."""
    write_params(lr=-1)
    result = run_stage(stage, tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"{stage}: params.yaml: lr: expected a number")
