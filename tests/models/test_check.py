"""Mistakes in a network's code: one line each, and advice that works."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from src.errors import ParameterError
from src.models.architecture import Architecture, Model
from src.models.build import MODELS
from src.models.check import check_class, check_network
from src.models.normalize import as_floats
from src.training.state import build_state
from tests.helpers.running import exit_code

ARCHITECTURE = Architecture("mlp", None, 0.5, image_shape=(8, 8, 1), classes=3)
HERE = "tests/models/test_check.py: "


class Net(Model):
    """One dense layer; the networks below differ from it in one thing."""

    def __init__(self, architecture, rngs):
        pixels = math.prod(architecture.image_shape)
        self.dense = nnx.Linear(pixels, architecture.classes, rngs=rngs)

    def __call__(self, images, rngs=None):
        return self.dense(flat(images))


def flat(images):
    return as_floats(images).reshape(images.shape[0], -1)


def checked(monkeypatch, cls, debug=False):
    monkeypatch.setitem(MODELS, "mlp", cls)
    check_class("mlp")
    check_network(ARCHITECTURE, debug)


def refusal(monkeypatch, cls):
    with pytest.raises(ParameterError) as error:
        checked(monkeypatch, cls)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{HERE}{cls.__name__}")
    return line.removeprefix(f"{HERE}{cls.__name__}")


# ---- What is returned ----


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda logits: logits[None], "float32 [1, 4, 3]"),
        (lambda logits: logits.T, "float32 [3, 4]"),
        (lambda logits: logits[:, :1], "float32 [4, 1]"),
        (lambda logits: jnp.tile(logits, 2), "float32 [4, 6]"),
        (lambda logits: logits.sum(0), "float32 [3]"),
        (lambda logits: logits.astype(jnp.int32), "int32 [4, 3]"),
        (lambda logits: logits.astype(jnp.bfloat16), "bfloat16 [4, 3]"),
        (lambda logits: (logits, 1.0), "tuple"),
        (lambda _: None, "NoneType"),
    ],
)
def test_anything_but_logits_is_refused_with_what_was_found(monkeypatch, change, found):
    class Other(Net):
        def __call__(self, images, rngs=None):
            return change(super().__call__(images))

    assert refusal(monkeypatch, Other) == (
        ".__call__: expected logits float32 [4, 3] of 4 images and 3 classes, found "
        f"{found}. Return the output of nnx.Linear(..., architecture.classes)."
    )


def test_axis_of_a_single_image_must_stay(monkeypatch):
    class Squeezed(Net):
        def __call__(self, images, rngs=None):
            return super().__call__(images).squeeze()

    line = refusal(monkeypatch, Squeezed)
    assert "expected logits float32 [1, 3] of 1 image and 3 classes, found" in line
    assert "found float32 [3]." in line


def test_fixed_batch_size_is_refused(monkeypatch):
    class Fixed(Net):
        def __call__(self, images, rngs=None):
            return self.dense(as_floats(images).reshape(4, 64))

    line = refusal(monkeypatch, Fixed)
    assert "found TypeError: cannot reshape array of shape (1, 8, 8, 1)" in line


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (flat, "float32 [1, 64]"),
        (lambda images: (images, images), "tuple"),
        (lambda _: None, "NoneType"),
    ],
)
def test_feature_map_of_another_form_is_refused(monkeypatch, change, found):
    class Mapped(Net):
        def feature_map(self, images):
            return change(images)

    assert refusal(monkeypatch, Mapped) == (
        ".feature_map: expected [batch, rows, columns, channels], found "
        f"{found}. Return the output of the last convolution."
    )


def test_feature_map_that_leads_to_no_logits_is_refused(monkeypatch):
    class Mapped(Net):
        def feature_map(self, images):
            return as_floats(images)

        def from_feature_map(self, feature_map, rngs=None):
            return feature_map.mean((1, 2))

    assert refusal(monkeypatch, Mapped) == (
        ".from_feature_map: expected logits float32 [1, 3] of 1 image and 3 classes, "
        "found float32 [1, 1]. Return the output of nnx.Linear(..., "
        "architecture.classes)."
    )


def test_network_with_a_feature_map_is_accepted(monkeypatch):
    class Mapped(Net):
        def feature_map(self, images):
            return as_floats(images)

        def from_feature_map(self, feature_map, rngs=None):
            return self.dense(feature_map.reshape(feature_map.shape[0], -1))

    checked(monkeypatch, Mapped)


# ---- Arguments ----


class WithoutRngs(Net):
    def __call__(self, images):
        return self.dense(flat(images))


class WithoutDefault(Net):
    def __call__(self, images, rngs):
        return self.dense(flat(images))


class OtherInit(Net):
    def __init__(self, *, rngs):
        self.dense = nnx.Linear(64, 3, rngs=rngs)


class WithoutCall(Model):
    __init__ = Net.__init__


@pytest.mark.parametrize("cls", [WithoutRngs, WithoutDefault, OtherInit, WithoutCall])
def test_method_with_other_arguments_is_refused(monkeypatch, cls):
    line = refusal(monkeypatch, cls)
    assert line.startswith(": expected code that runs, found ")
    assert line.endswith(
        ". Write __init__(self, architecture, rngs) and __call__(self, images, "
        "rngs=None)."
    )


def test_class_that_is_no_model_is_refused(monkeypatch):
    class Bare(nnx.Module):
        pass

    assert refusal(monkeypatch, Bare) == (
        ": expected a subclass of Model, found one of Module. Write class Bare(Model)."
    )


def test_model_without_a_class_is_refused(monkeypatch):
    monkeypatch.delitem(MODELS, "cnn")
    with pytest.raises(ParameterError, match=r"MODELS: .* for model: cnn, found none"):
        check_class("cnn")


def test_model_may_call_the_constructor_of_its_base(monkeypatch):
    class Polite(Net):
        def __init__(self, architecture, rngs):
            Model.__init__(self, architecture, rngs)
            super().__init__(architecture, rngs)

    checked(monkeypatch, Polite)


# ---- Attributes ----


def with_attribute(make):
    """A network whose attribute `extra` is what `make` returns for some streams."""

    class Extended(Net):
        def __init__(self, architecture, rngs):
            super().__init__(architecture, rngs)
            self.extra = make(rngs)

    return Extended


@pytest.mark.parametrize(
    "make",
    [
        lambda _: jnp.ones(16),
        lambda _: np.ones(16, np.float32),
        lambda _: jnp.float32(2),
        lambda _: (jnp.ones(16), jnp.ones(16)),
    ],
)
def test_array_that_is_no_variable_is_refused(monkeypatch, make):
    assert refusal(monkeypatch, with_attribute(make)) == (
        ": extra: expected an nnx.Variable, found an array. Write nnx.Param(array) if "
        "it is trained, else nnx.Variable(array)."
    )


def layers(rngs):
    return [nnx.Linear(4, 4, rngs=rngs) for _ in range(2)]


@pytest.mark.parametrize(
    "make",
    [layers, lambda rngs: tuple(layers(rngs)), lambda rngs: {"a": layers(rngs)[0]}],
)
def test_layers_in_a_list_tuple_or_dictionary_are_refused(monkeypatch, make):
    line = refusal(monkeypatch, with_attribute(make))
    assert "in __init__: self.extra = make(rngs): expected code that runs" in line
    assert line.endswith(" Keep layers in nnx.List or nnx.Dict.")


@pytest.mark.parametrize(
    ("make", "name", "found"),
    [
        (lambda _: nnx.Param(jnp.ones(3, jnp.int32)), "extra", "int32"),
        (lambda _: nnx.Param(1.0), "extra", "a Python number"),
        (
            lambda rngs: nnx.Linear(2, 2, param_dtype=jnp.bfloat16, rngs=rngs),
            "extra.bias",
            "bfloat16",
        ),
    ],
)
def test_weights_of_another_dtype_are_refused(monkeypatch, make, name, found):
    assert refusal(monkeypatch, with_attribute(make)) == (
        f": {name}: expected float32, found {found}. Make it an array of float32; "
        "precision in params.yaml sets what layers compute in."
    )


def test_layer_with_a_dtype_that_exports_lack_is_refused(monkeypatch):
    lower = with_attribute(lambda r: nnx.Linear(2, 2, dtype=jnp.bfloat16, rngs=r))
    assert refusal(monkeypatch, lower) == (
        ": extra: expected no dtype, or float32, found bfloat16, which exported files "
        "lack. Leave it out, and set precision in params.yaml."
    )


def test_layer_that_asks_for_float32_keeps_it_with_every_precision(params, monkeypatch):
    """As in validation and export."""

    class Mixed(Net):
        def __init__(self, architecture, rngs):
            self.dense = nnx.Linear(64, 8, rngs=rngs)
            self.head = nnx.Linear(8, 3, dtype=jnp.float32, rngs=rngs)

        def __call__(self, images, rngs=None):
            return self.head(self.dense(flat(images)))

    checked(monkeypatch, Mixed)
    changed = params.model_copy(update={"precision": "bfloat16"})
    model = nnx.merge(*build_state(changed, ARCHITECTURE, 6)).model
    hidden = model.dense(jnp.ones((1, 64)))
    assert (hidden.dtype, model.head(hidden).dtype) == (jnp.bfloat16, jnp.float32)


def test_network_without_weights_is_refused(monkeypatch):
    class Empty(Net):
        def __init__(self, architecture, rngs):
            pass

    line = refusal(monkeypatch, Empty)
    assert line.startswith(": expected weights to train, found none.")


# ---- State ----


class Kept(Net):
    def __call__(self, images, rngs=None):
        self.hidden = flat(images)
        return self.dense(self.hidden)


class Grown(Net):
    def __init__(self, architecture, rngs):
        super().__init__(architecture, rngs)
        self.mean = nnx.Variable(jnp.zeros(1))

    def __call__(self, images, rngs=None):
        self.mean.set_value(flat(images).mean(0))
        return self.dense(flat(images))


@pytest.mark.parametrize(
    ("cls", "name", "expected", "found"),
    [
        (Kept, "hidden", "no such attribute", "float32 [4, 64]"),
        (Grown, "mean", "float32 [1]", "float32 [64]"),
    ],
)
def test_call_that_leaves_other_arrays_is_refused(
    monkeypatch, cls, name, expected, found
):
    assert refusal(monkeypatch, cls) == (
        f".__call__: {name}: expected {expected} as after __init__, found {found}. Use "
        "a local variable, or make it an nnx.Variable in __init__."
    )


class Counting(Net):
    def __init__(self, architecture, rngs):
        super().__init__(architecture, rngs)
        self.count = nnx.Variable(jnp.int32(0))

    def __call__(self, images, rngs=None):
        self.count[...] += 1
        return self.dense(flat(images))


class Noisy(Net):
    def __init__(self, architecture, rngs):
        super().__init__(architecture, rngs)
        self.noise = rngs.noise

    def __call__(self, images, rngs=None):
        noise = jax.random.normal(self.noise(), (images.shape[0], 64))
        return self.dense(flat(images) + noise)


class Compiled(Net):
    @nnx.jit
    def __call__(self, images, rngs=None):
        return self.dense(flat(images))


@pytest.mark.parametrize("cls", [Counting, Noisy, Compiled])
def test_state_that_changes_in_eval_mode_is_refused(monkeypatch, cls):
    assert refusal(monkeypatch, cls).endswith(
        "Change variables and draw random numbers only if rngs is not None, and leave "
        "out nnx.jit, nnx.remat, nnx.scan, nnx.vmap and nnx.RNN."
    )


def test_dropout_without_streams_is_refused(monkeypatch):
    class Dropped(Net):
        def __init__(self, architecture, rngs):
            super().__init__(architecture, rngs)
            self.dropout = nnx.Dropout(architecture.dropout)

        def __call__(self, images, rngs=None):
            return self.dense(self.dropout(flat(images)))

    line = refusal(monkeypatch, Dropped)
    assert ", in __call__: return self.dense(self.dropout(flat(images))): " in line
    assert line.endswith(". Write nnx.Dropout(rate, rngs=rngs) in __init__.")


# ---- Any other mistake ----


class Misfit(Net):
    def __init__(self, architecture, rngs):
        self.dense = nnx.Linear(63, architecture.classes, rngs=rngs)


def test_other_error_names_its_line(monkeypatch):
    class Here(Misfit):
        def __call__(self, images, rngs=None):
            return self.dense(flat(images))

    line = refusal(monkeypatch, Here)
    assert "in __call__: return self.dense(flat(images)): expected code that" in line
    assert "found TypeError: dot_general requires contracting dimensions" in line
    assert line.endswith(". debug=true prints the traceback.")


def test_debugging_keeps_the_traceback(monkeypatch):
    with pytest.raises(TypeError, match="dot_general"):
        checked(monkeypatch, Misfit, debug=True)


def test_stage_refuses_with_code_two_and_writes_nothing(
    prepared, write_params, monkeypatch, capsys
):
    monkeypatch.setitem(MODELS, "mlp", WithoutRngs)
    write_params(model="mlp")
    for stage in ("train", "lr_range"):
        assert exit_code(stage, monkeypatch) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"{stage}: {HERE}WithoutRngs: expected code that runs")
        assert error.count("\n") == 1
    assert not (prepared / "models").exists()


class Advised(Net):
    """Does what the messages say."""

    def __init__(self, architecture, rngs):
        self.layers = nnx.List(
            [
                nnx.Linear(64, 16, rngs=rngs),
                nnx.Linear(16, architecture.classes, dtype=jnp.float32, rngs=rngs),
            ]
        )
        self.named = nnx.Dict({"norm": nnx.LayerNorm(16, rngs=rngs)})
        self.scale = nnx.Variable(jnp.full(16, 2.0))
        self.factor = nnx.Param(jnp.float32(1))
        self.count = nnx.Variable(jnp.int32(0))
        self.noise = rngs.noise
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, images, rngs=None):
        hidden = self.named["norm"](self.layers[0](flat(images)))
        if rngs is not None:
            self.count[...] += 1
            hidden += 0.01 * jax.random.normal(self.noise(), hidden.shape)
        hidden = self.dropout(nnx.relu(hidden) * self.scale[...][None])
        return self.layers[1](hidden) * self.factor[...]


def test_network_that_follows_all_advice_is_accepted(monkeypatch):
    checked(monkeypatch, Advised)


@pytest.mark.slow
def test_network_that_follows_all_advice_trains_and_is_exported(
    prepared, write_params, monkeypatch
):
    monkeypatch.setitem(MODELS, "mlp", Advised)
    write_params(model="mlp", batch_size=16, epochs=2, precision="bfloat16")
    for stage in ("train", "evaluate", "export"):
        assert exit_code(stage, monkeypatch) == 0
