"""`init_from`: which weights are taken, and every file that is refused."""

import json
import struct
import subprocess
from dataclasses import asdict, replace

import ml_dtypes
import numpy as np
import pytest
import yaml
from flax import nnx
from safetensors.numpy import save

from src import paths
from src.data.pixel_statistics import pixel_statistics
from src.data.prepared import load_manifest
from src.errors import DataError, ParameterError
from src.models.architecture import Architecture
from src.models.build import build_model
from src.models.checkpoint import weights_of
from src.models.resnet18 import IMAGENET_DEVIATION, IMAGENET_MEAN
from src.resume.fingerprint import fingerprint
from src.storage.json_files import SEAL
from src.storage.reading import digest
from src.training.batches import DeviceBatches
from src.training.initial_weights import load_initial_weights
from src.training.state import build_state, normalize_pixels
from tests.helpers.examples import patterned
from tests.helpers.files import write_file, write_record
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code
from tests.helpers.torch_resnet18 import draw_state
from tests.helpers.training import SMALL

NAMES = ["low", "middle", "high"]
RESNET18 = Architecture("resnet18", None, 0.0, image_shape=(32, 32, 3), classes=10)


def drawn(architecture=SMALL, seed=7):
    """The weights of a network that another seed drew."""
    return weights_of(build_model(architecture, nnx.Rngs(params=seed)))


def put_model(name, weights, architecture=SMALL, class_names=NAMES, **settings):
    """A trained model in data/weights; `settings` change its architecture."""
    folder = paths.INITIAL_WEIGHTS / name
    content = save(
        {key: np.asarray(array, order="C") for key, array in weights.items()}
    )
    write_file(folder / "model.safetensors", content)
    record = {
        "architecture": {**asdict(architecture), **settings},
        "class_names": class_names,
        "sha256": digest(content),
    }
    write_record(folder / "model.json", record)
    return weights


def put_file(name, arrays):
    """A .safetensors file in data/weights."""
    content = arrays if isinstance(arrays, bytes) else save(arrays)
    write_file(paths.INITIAL_WEIGHTS / name, content)


def load(params, name, architecture=SMALL, class_names=NAMES):
    changed = params.model_copy(update={"init_from": name})
    return load_initial_weights(changed, architecture, class_names)


def model_of(params, architecture, initial, **changes):
    changed = params.model_copy(update=changes)
    graphdef, state = build_state(changed, architecture, 6, initial)
    return nnx.merge(graphdef, state)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# ---- What is taken ----


def test_without_init_from_nothing_is_read(params, prepared):
    assert load_initial_weights(params, SMALL, NAMES) is None


def test_training_starts_from_the_weights_of_the_model(params, prepared):
    weights = put_model("first", drawn())
    initial = load(params, "first")
    state = model_of(params, SMALL, initial, ema_decay=0.9)
    assert_same(weights_of(state.model), weights)
    assert_same(weights_of(state.ema), weights)
    assert initial.summary == (
        "data/weights/first/model.safetensors: 4 of 4 weights taken (dense, output); "
        "drawn from seed: none; unused in the file: none"
    )


def test_head_of_another_size_is_drawn_from_the_seed(params, prepared):
    weights = put_model("first", drawn(replace(SMALL, classes=10)), class_names=NAMES)
    initial = load(params, "first")
    found = weights_of(model_of(params, SMALL, initial).model)
    fresh = weights_of(model_of(params, SMALL, None).model)
    for name in found:
        expected = fresh if name.startswith("output") else weights
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert "2 of 4 weights taken (dense); drawn from seed: output;" in initial.summary
    assert "unused in the file: output" in initial.summary


def test_head_of_as_many_other_classes_is_drawn_from_the_seed(params, prepared):
    put_model("first", drawn(), class_names=["cat", "dog", "bird"])
    assert load(params, "first").weights.keys() == {"dense.bias", "dense.kernel"}


def test_record_beside_a_named_file_is_read(params, prepared):
    """Its classes have other names, so the head is drawn from the seed."""
    put_model("first", drawn(), class_names=["x", "y", "z"])
    by_file = load(params, "first/model.safetensors")
    assert by_file.summary == load(params, "first").summary
    assert "drawn from seed: output" in by_file.summary


def test_weights_without_a_record_keep_the_head(params, prepared):
    put_file("bare.safetensors", drawn())
    assert_same(load(params, "bare.safetensors").weights, drawn())


def test_folder_without_a_record_is_read_as_a_file(params, prepared):
    put_file("bare/model.safetensors", drawn())
    assert_same(load(params, "bare").weights, drawn())


@pytest.mark.parametrize("name", ["data/weights/first", "first/", "./first"])
def test_name_may_be_completed_by_a_shell(params, prepared, name):
    put_model("first", drawn())
    assert len(load(params, name).weights) == 4


def test_weights_of_half_precision_become_float32(params, prepared):
    half = {name: array.astype(np.float16) for name, array in drawn().items()}
    put_file("half.safetensors", half)
    found = load(params, "half.safetensors").weights
    for name, array in half.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array)


def test_record_of_an_older_version_is_read(params, prepared):
    put_model("first", drawn())
    path = paths.INITIAL_WEIGHTS / "first/model.json"
    record = json.loads(path.read_text())
    del record[SEAL]
    for key in ("filters", "blocks", "pixel_mean", "pixel_deviation"):
        del record["architecture"][key]
    write_record(path, record)
    assert len(load(params, "first").weights) == 4


def test_state_dict_of_torchvision_is_the_whole_network_but_a_head(params, prepared):
    put_file("timm.safetensors", draw_state())
    same = load(params, "timm.safetensors", RESNET18)
    assert len(same.weights) == 102
    other = load(params, "timm.safetensors", replace(RESNET18, classes=3))
    assert same.weights.keys() - other.weights.keys() == {"fc.bias", "fc.kernel"}
    assert other.summary == (
        "data/weights/timm.safetensors: 100 of 102 weights taken (bn1, conv1, layer1, "
        "layer2, layer3, layer4); drawn from seed: fc; unused in the file: fc"
    )


def test_many_names_are_shortened(params, prepared):
    extra = {f"part{number}.kernel": np.ones((2, 2)) for number in range(9)}
    put_file("more.safetensors", {**drawn(), **extra})
    assert load(params, "more.safetensors").summary.endswith(
        "unused in the file: part0, part1, part2, part3, part4, part5 and 3 more"
    )


# ---- Normalization ----


def normalized(params, initial, architecture=SMALL, normalize=None, seed=1):
    changed = params.model_copy(update={"normalize": normalize})
    images = patterned(40, seed=seed)
    found = normalize_pixels(architecture, changed, DeviceBatches(images), initial)
    return found.pixel_mean, found.pixel_deviation


def training_statistics():
    return tuple(pixel_statistics(np.asarray(patterned(40, seed=1).images)))


@pytest.mark.parametrize(
    ("source", "normalize", "expected"),
    [
        (((0.3,), (0.2,)), None, ((0.3,), (0.2,))),
        (((0.3,), (0.2,)), True, ((0.3,), (0.2,))),
        (((0.3,), (0.2,)), False, (None, None)),
        ((None, None), None, (None, None)),
        ((None, None), True, "training"),
        (((0.1, 0.2, 0.3), (1.0, 1.0, 1.0)), None, "training"),
    ],
)
def test_pixels_are_normalized_as_those_of_the_source(
    params, prepared, source, normalize, expected
):
    mean, deviation = source
    put_model("first", drawn(), pixel_mean=mean, pixel_deviation=deviation)
    found = normalized(params, load(params, "first"), normalize=normalize)
    assert found == (training_statistics() if expected == "training" else expected)


def test_grey_statistics_are_not_those_of_colours(params, prepared):
    put_model("grey", drawn(), pixel_mean=[0.3], pixel_deviation=[0.2])
    colours = replace(SMALL, image_shape=(8, 8, 3))
    images = np.repeat(np.asarray(patterned(40, seed=1).images), 3, axis=-1)
    source = DeviceBatches(patterned(40, seed=1)._replace(images=images))
    found = normalize_pixels(colours, params, source, load(params, "grey"))
    assert (found.pixel_mean, found.pixel_deviation) == tuple(pixel_statistics(images))


def test_bare_weights_leave_normalization_to_the_model(params, prepared):
    put_file("bare.safetensors", drawn())
    initial = load(params, "bare.safetensors")
    assert normalized(params, initial) == (None, None)
    assert normalized(params, initial, normalize=True) == training_statistics()


@pytest.mark.parametrize("channels", [1, 3])
def test_weights_of_torchvision_bring_the_statistics_of_imagenet(
    params, prepared, channels
):
    put_file("timm.safetensors", draw_state())
    architecture = replace(RESNET18, image_shape=(32, 32, channels))
    initial = load(params, "timm.safetensors", architecture)
    expected = IMAGENET_MEAN, IMAGENET_DEVIATION
    assert normalized(params, initial, architecture) == expected


# ---- What is refused ----


@pytest.mark.parametrize(
    "name", ["../first", "/etc/passwd", "a/../../b", "..", "data/weights/../x"]
)
def test_names_outside_of_the_folder_are_refused(params, prepared, name):
    with pytest.raises(ParameterError, match="init_from: expected a name in data/weig"):
        load(params, name)


def test_missing_file_names_the_closest_and_what_a_queued_run_needs(params, prepared):
    put_model("first", drawn())
    with pytest.raises(DataError) as error:
        load(params, "frist")
    assert str(error.value) == (
        "data/weights/frist: expected a model folder or a .safetensors file, found "
        "none. Did you mean 'first'? A queued or --temp run also needs --copy-paths "
        "data/weights/frist"
    )


@pytest.mark.parametrize("inside", ["", "model.safetensors", "model.json"])
def test_links_out_of_the_folder_are_refused(params, prepared, inside):
    put_model("first", drawn())
    linked = paths.INITIAL_WEIGHTS / "first" / inside
    outside = prepared / "elsewhere"
    linked.rename(outside)
    linked.parent.mkdir(exist_ok=True)
    linked.symlink_to(outside)
    with pytest.raises(DataError, match=r"found a link out of data/weights\. Copy it"):
        load(params, "first")


def test_link_to_itself_is_refused(params, prepared):
    (paths.INITIAL_WEIGHTS / "first").mkdir(parents=True)
    loop = paths.INITIAL_WEIGHTS / "first/model.safetensors"
    loop.symlink_to(loop.name)
    with pytest.raises((DataError, OSError)):
        load(params, "first")


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin", "ckpt"])
def test_pickles_are_refused_and_the_guide_is_named(params, prepared, suffix):
    put_file(f"net.{suffix}", b"\x80\x02}q\x00.")
    with pytest.raises(DataError, match=r"pickle, .* docs/how-to/fine-tune\.md shows"):
        load(params, f"net.{suffix}")


def header(text, size=8):
    return struct.pack("<Q", len(text)) + text + bytes(size)


HOSTILE = {
    "empty": b"",
    "text": b"<html>404</html>" * 10,
    "huge header": struct.pack("<Q", 1 << 62) + b"{}",
    "no JSON": header(b"{" * 100),
    "negative size": header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}'),
    "huge shape": header(
        b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}'
    ),
    "beyond the end": header(
        b'{"a":{"dtype":"F32","shape":[200],"data_offsets":[0,800]}}'
    ),
    "unknown dtype": header(
        b'{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}'
    ),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_damaged_and_hostile_files_are_refused_in_one_line(params, prepared, content):
    put_file("bad.safetensors", content)
    with pytest.raises(DataError) as error:
        load(params, "bad.safetensors")
    line = str(error.value)
    assert line.startswith("data/weights/bad.safetensors: expected safetensors, found ")
    assert line.endswith("Copy or download it again, as .safetensors with float32.")
    assert "\n" not in line
    assert len(line) < 400


def test_truncated_file_is_refused(params, prepared):
    put_file("cut.safetensors", save(drawn())[:-1])
    with pytest.raises(DataError, match="expected safetensors"):
        load(params, "cut.safetensors")


def test_changed_weights_of_a_model_are_refused_by_their_digest(params, prepared):
    put_model("first", drawn())
    path = paths.INITIAL_WEIGHTS / "first/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected SHA-256 .* both of one model"):
        load(params, "first")


def test_edited_record_is_refused(params, prepared):
    put_model("first", drawn())
    path = paths.INITIAL_WEIGHTS / "first/model.json"
    path.write_text(path.read_text().replace('"mlp"', '"cnn"'))
    with pytest.raises(DataError, match="the file was changed or damaged"):
        load(params, "first")


@pytest.mark.parametrize(
    "pixels", [([0.1], [0.0]), ([0.1], [0.1, 0.2]), ("a", [1.0]), ([0.1], [-1.0])]
)
def test_impossible_statistics_are_refused(params, prepared, pixels):
    mean, deviation = pixels
    put_model("first", drawn(), pixel_mean=mean, pixel_deviation=deviation)
    with pytest.raises(DataError, match=r"first/model\.json: architecture"):
        load(params, "first")


@pytest.mark.parametrize("dtype", [np.float64, np.int32, bool])
def test_weights_of_another_dtype_are_refused_by_name(params, prepared, dtype):
    wrong = {**drawn(), "dense.bias": np.zeros(16, dtype)}
    put_file("wrong.safetensors", wrong)
    found = np.dtype(dtype).name
    with pytest.raises(
        DataError,
        match=rf"dense\.bias: expected float32 \[16\], found {found} \[16\]\. Save",
    ):
        load(params, "wrong.safetensors")


def test_bfloat16_is_refused_with_advice(params, prepared):
    arrays = {"dense.bias": np.zeros(16, ml_dtypes.bfloat16)}
    put_file("wrong.safetensors", save(arrays))
    with pytest.raises(DataError, match=r"dtype BF16\. .*float32"):
        load(params, "wrong.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(params, prepared, value):
    weights = drawn()
    weights["dense.kernel"][0, 0] = value
    put_file("nan.safetensors", weights)
    with pytest.raises(DataError, match=r"dense\.kernel: expected finite .*1 of 1024"):
        load(params, "nan.safetensors")


def test_weights_of_another_network_are_refused_with_what_was_found(params, prepared):
    cnn = Architecture("cnn", 9, 0.0, image_shape=(8, 8, 1), classes=3)
    put_model("other", drawn(cnn), architecture=cnn)
    with pytest.raises(DataError) as error:
        load(params, "other")
    assert str(error.value) == (
        "data/weights/other/model.safetensors: expected weights of mlp (dense.kernel "
        "[64, 16], output.kernel [16, 3], ...), found no kernel that fits "
        "(conv1.kernel [3, 3, 1, 32], conv2.kernel [3, 3, 32, 64], ...). They are of "
        "model: cnn."
    )


def test_weights_of_the_same_model_in_another_size_name_the_sizes(params, prepared):
    put_file("small.safetensors", {"dense.kernel": np.zeros((64, 8), np.float32)})
    with pytest.raises(DataError, match="Use the model that has them"):
        load(params, "small.safetensors")
    narrow = replace(SMALL, hidden=8)
    put_model("narrow", drawn(narrow), architecture=narrow)
    with pytest.raises(DataError, match="Use the sizes of that network: hidden, "):
        load(params, "narrow")


def test_weights_of_torchvision_name_their_model(params, prepared):
    put_file("timm.safetensors", draw_state())
    with pytest.raises(DataError, match=r"They are of model: resnet18\.$"):
        load(params, "timm.safetensors")


# ---- Frozen layers without trained weights ----


def test_freezing_without_initial_weights_is_refused(params):
    changed = params.model_copy(update={"freeze": ("dense", "output")})
    with pytest.raises(ParameterError) as error:
        load_initial_weights(changed, SMALL, NAMES)
    assert str(error.value) == (
        "params.yaml: freeze: expected trained weights for dense, found none: "
        "init_from is empty. Name weights in init_from, or remove dense from freeze."
    )


def test_freezing_a_layer_that_is_drawn_anew_is_refused(params, prepared):
    put_model("first", drawn(), class_names=["cat", "dog", "bird"])
    frozen = params.model_copy(update={"freeze": ("dense", "output")})
    with pytest.raises(ParameterError) as error:
        load(frozen, "first")
    assert str(error.value) == (
        "params.yaml: freeze: expected trained weights for output, found none: no "
        "weight of data/weights/first/model.safetensors fits it. Name weights in "
        "init_from, or remove output from freeze."
    )
    advised = params.model_copy(update={"freeze": ("dense",)})
    assert load(advised, "first").warning == ""


def test_frozen_weights_that_do_not_fit_are_named(params, prepared):
    """The first kernel is of images with three channels; its bias fits."""
    put_model("colours", drawn(replace(SMALL, image_shape=(8, 8, 3))))
    frozen = params.model_copy(update={"freeze": ("dense",)})
    assert load(frozen, "colours").warning == (
        "params.yaml: freeze: expected trained weights in frozen layers, found "
        "dense.kernel drawn from seed: nothing in data/weights/colours/"
        "model.safetensors fits. Use other weights, or freeze less."
    )
    assert load(params, "colours").warning == ""


@pytest.mark.parametrize("stage", ["train", "lr_range"])
def test_stage_warns_of_frozen_weights_that_do_not_fit(
    prepared, write_params, monkeypatch, capfd, stage
):
    put_model("colours", drawn(replace(SMALL, image_shape=(8, 8, 3))))
    changes = {"init_from": "colours", "freeze": "[dense]", "epochs": 1}
    write_params(model="mlp", hidden=16, lr_range_steps=10, **changes)
    assert exit_code(stage, monkeypatch) == 0
    error = capfd.readouterr()[1]
    assert error.startswith(f"{stage}: warning: params.yaml: freeze: expected trained")


# ---- The run ----


@pytest.mark.parametrize(
    ("file", "stage"), [("dvc.yaml", "train"), ("extra/dvc.yaml", "lr_range")]
)
def test_stage_runs_again_when_the_weights_change(file, stage):
    stages = yaml.safe_load((ROOT / file).read_text())["stages"]
    assert str(paths.INITIAL_WEIGHTS) in stages[stage]["deps"]


def test_git_ignores_weights_but_keeps_their_folder():
    names = ["first/model.json", "timm.safetensors", "README.md"]
    found = subprocess.run(
        ["git", "check-ignore", "--no-index", *names],
        cwd=ROOT / paths.INITIAL_WEIGHTS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.split() == names[:2]


def test_fingerprint_depends_on_the_weights(params, prepared):
    manifest = load_manifest()
    changed = params.model_copy(update={"init_from": "first"})
    found = []
    for seed in (1, 1, 2):
        put_model("first", drawn(seed=seed))
        initial = load_initial_weights(changed, SMALL, NAMES)
        found.append(fingerprint(changed, manifest, initial))
    assert found[0] == found[1] != found[2]


def test_stage_trains_from_the_weights_and_records_their_digest(
    prepared, write_params, monkeypatch, capfd
):
    write_params(model="mlp", hidden=16, init_from="first", freeze="[dense]", epochs=1)
    weights = put_model("first", drawn())
    assert exit_code("train", monkeypatch) == 0
    assert (
        "train: data/weights/first/model.safetensors: 4 of 4 " in capfd.readouterr()[0]
    )
    record = json.loads(paths.MODEL.read_text())
    file = paths.INITIAL_WEIGHTS / "first/model.safetensors"
    assert record["initial_weights_sha256"] == digest(file.read_bytes())
    after = load_weights()
    np.testing.assert_array_equal(after["dense.kernel"], weights["dense.kernel"])
    assert (after["output.kernel"] != weights["output.kernel"]).any()


def load_weights():
    from safetensors.numpy import load_file

    return load_file(paths.WEIGHTS)


@pytest.mark.parametrize(
    ("changes", "code", "line"),
    [
        ({"init_from": "first"}, 3, "data/weights/first: expected a model folder"),
        ({"init_from": "../first"}, 2, "params.yaml: init_from: expected a name in"),
        (
            {"freeze": "[dens]", "init_from": "second"},
            2,
            "params.yaml: freeze: expected names of layers",
        ),
        ({"freeze": "[dense]"}, 2, "params.yaml: freeze: expected trained weights for"),
    ],
)
@pytest.mark.parametrize("stage", ["train", "lr_range"])
def test_stage_refuses_in_one_line_and_writes_nothing(
    prepared, write_params, monkeypatch, capfd, stage, changes, code, line
):
    put_model("second", drawn())
    write_params(model="mlp", hidden=16, **changes)
    assert exit_code(stage, monkeypatch) == code
    error = capfd.readouterr()[1]
    assert error.startswith(f"{stage}: {line}")
    assert error.count("\n") == 1
    assert not paths.WEIGHTS.exists()
