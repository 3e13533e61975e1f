"""The space of a search: which words of a command line it takes, and what they mean."""

import math
from contextlib import suppress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from src.config.load import load_params
from src.config.params import TRAINING, Params
from src.errors import ParameterError
from src.experiments.search_space import (
    SAME_IN_ALL_TRIALS,
    Choices,
    Range,
    chosen_values,
    parse_space,
    space_size,
    split_choices,
    with_values,
)
from tests.helpers.imports import ROOT

PARAMS = load_params(ROOT / "params.yaml")


def parse(*words):
    return parse_space(words, PARAMS)


def test_space_has_the_keys_in_the_order_of_the_file():
    words = "lr=1e-4..1e-1", "model=cnn,resnet", "batch_size=32,64,128"
    for order in (words, words[::-1]):
        space = parse(*order)
        assert list(space) == ["model", "lr", "batch_size"]
        assert space["lr"] == Range(1e-4, 1e-1, integer=False)
        assert space["model"] == Choices({"cnn": "cnn", "resnet": "resnet"})
        assert space["batch_size"] == Choices({"32": 32, "64": 64, "128": 128})


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("clip_norm=,1,0.5", [None, 1.0, 0.5]),
        ("clip_norm=null,1e-1", [None, 0.1]),
        ("hidden=,64", [None, 64]),
        ("normalize=true,false,", [True, False, None]),
        ("augment=[],[shift],[crop,flip]", [(), ("shift",), ("crop", "flip")]),
        ("augment=[crop, flip],[shift]", [("crop", "flip"), ("shift",)]),
        ("lr_milestones=[1, 2.5],[3]", [(1, 2.5), (3,)]),
        ("epochs=5,6", [5, 6]),
        ("dropout=0,0.5", [0, 0.5]),
        ("init_from=,../x,a.b", [None, "../x", "a.b"]),
    ],
)
def test_choices_are_read_as_in_the_file(word, values):
    (domain,) = parse(word).values()
    assert list(domain.values.values()) == values
    assert domain.size == len(values)


@pytest.mark.parametrize(
    ("word", "low", "high", "integer", "log"),
    [
        ("lr=1e-4..1e-1", 1e-4, 0.1, False, True),
        ("lr=0.001..0.01", 0.001, 0.01, False, True),  # ten times exactly
        ("lr=.01..0.09", 0.01, 0.09, False, False),
        ("dropout=0..0.9", 0, 0.9, False, False),  # zero has no logarithm
        ("batch_size=16..256", 16, 256, True, True),
        ("hidden=32..64", 32, 64, True, False),  # the field may also be empty
        ("stop_at=-1..2", -1, 2, False, False),
    ],
)
def test_range_is_logarithmic_from_a_factor_of_ten(word, low, high, integer, log):
    (domain,) = parse(word).values()
    assert domain == Range(low, high, integer)
    assert domain.log is log
    assert domain.size == (high - low + 1 if integer else math.inf)


@pytest.mark.parametrize(
    ("word", "proposed", "value"),
    [
        ("lr=1e-4..1e-1", 0.0123456789, 0.01235),
        ("ema_decay=0.999..0.9999", 0.99912345678, 0.9991235),
        ("ema_decay=0.999..0.9999", 0.99989999999, 0.9999),
        ("dropout=0..0.9", 0.123456, 0.1235),
    ],
)
def test_fraction_has_four_digits_that_differ_within_its_range(word, proposed, value):
    (domain,) = parse(word).values()
    assert domain.value(proposed) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["optimiser=adam,sgd"],
            r"optimiser: unknown key\. Did you mean 'optimizer'\?",
        ),
        (["lr"], r"expected KEY=VALUES, found 'lr'\. Write lr=1e-4\.\.1e-1 or"),
        (["=3,4"], "expected KEY=VALUES, found '=3,4'"),
        (["lr=1,2\nepochs: 3"], "expected KEY=VALUES, found"),
        (["lr=1e-3,1e-2", "lr=1..2"], "lr: expected it once, found it twice"),
        (
            ["lr=1e-1..1e-4"],
            r"lr: expected low\.\.high with low < high, found 1e-1\.\.",
        ),
        (["lr=1..1"], r"lr: expected low\.\.high with low < high"),
        (["lr=0..1"], "lr: expected a number > 0, got 0"),
        (["lr=1e-3..1e999"], "lr: expected a number > 0, got inf"),
        (["lr=1e-3..x"], r"lr: expected a number > 0, got '1e-3\.\.x'"),
        (["lr=a,b"], "lr: expected a number > 0, got 'a'"),
        (["lr=,1"], "lr: expected a number > 0, got None"),
        (["dropout=0..1"], r"dropout: expected a number in \[0, 1\), got 1"),
        (["batch_size=1.5..3"], r"batch_size: expected an integer in .*, got 1\.5"),
        (["batch_size=32,64.5"], r"batch_size: expected an integer in .*, got 64\.5"),
        (["model=cnn,resnt"], r"model: expected one of .*, got 'resnt'\. Did you mean"),
        (["model=1..3"], r"model: expected values with commas .* the range 1\.\.3"),
        (["augment=1..3"], "augment: expected values with commas"),
        (["normalize=0..1"], "normalize: expected values with commas"),
        (["augment=[crop,flip"], r"augment: '\[crop,flip': line 1"),
        (["model=cnn,cnn"], "model: expected each value once, found 'cnn' twice"),
        (["lr=1,1.0"], r"lr: expected each value once, found '1\.0' twice"),
        (["lr=0.1", "epochs=3"], "expected a parameter with two values or more"),
        (["dataset=digits,mnist"], "dataset: expected a parameter of train, found one"),
        (["seed=0,1"], "seed: expected a parameter that trials may differ in"),
        (["monitor=train_loss,train_accuracy"], "monitor: expected a parameter that"),
        (["lr=!!python/object:os.system,1"], "lr: '!!python/object:os.system'"),
        (["lr=&a 1,2"], "lr: '&a 1'"),
    ],
)
def test_wrong_word_is_refused_with_the_key_and_the_finding(words, message):
    with pytest.raises(ParameterError, match=message):
        parse(*words)


def test_every_parameter_of_training_can_be_searched_or_is_named():
    """A new parameter of train is decided on by whoever adds it."""
    assert set(TRAINING) > SAME_IN_ALL_TRIALS
    examples = {"model": "mlp", "optimizer": "lion", "schedule": "linear"}
    for key in set(TRAINING) - SAME_IN_ALL_TRIALS:
        value = getattr(PARAMS, key)
        text = "" if value is None else str(list(value) if value == () else value)
        other = examples.get(key)
        words = [f"{key}={text},{other}" if other else f"{key}={text}"]
        space = parse(*words, "lr=1,2" if key != "lr" else "dropout=0.1,0.2")
        assert value in space[key].values.values()


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=20))
def test_any_word_is_taken_or_refused(text):
    for word in (text, f"lr={text}", f"augment={text},[]"):
        with suppress(ParameterError):
            assert space_size(parse(word)) > 1


@given(st.text(alphabet="a,[]", max_size=12))
def test_commas_split_only_outside_of_brackets(text):
    parts = split_choices(text)
    assert ",".join(parts) == text
    if "[" not in text and "]" not in text:
        assert parts == text.split(",")


@given(st.data())
def test_number_from_a_range_is_rounded_within_it(data):
    numbers = st.floats(1e-6, 1e3)
    low, high = sorted(data.draw(st.tuples(numbers, numbers)))
    assume(low < high)
    proposed = data.draw(st.floats(low, high))
    value = Range(low, high, integer=False).value(proposed)
    assert low <= value <= high
    assert abs(value - proposed) <= min(5e-4 * proposed, 5e-3 * (high - low))


def test_values_are_those_of_the_texts_that_were_chosen():
    space = parse("clip_norm=,1", "lr=1e-4..1e-1", "hidden=8..16")
    values = chosen_values(space, {"clip_norm": "", "lr": 0.0123456, "hidden": 9})
    assert values == {"clip_norm": None, "lr": 0.01235, "hidden": 9}
    assert isinstance(values["hidden"], int)
    changed = with_values(PARAMS, values)
    assert isinstance(changed, Params)
    assert (changed.clip_norm, changed.lr, changed.hidden) == (None, 0.01235, 9)


def test_values_that_contradict_other_parameters_are_refused():
    with pytest.raises(ParameterError, match=r"lr_end: expected .* \[0, lr = 0\.003\]"):
        with_values(PARAMS, {"lr_end": 0.5})


def test_size_counts_the_combinations():
    assert space_size(parse("model=cnn,mlp", "batch_size=1..10", "epochs=3")) == 20
    assert space_size(parse("model=cnn,mlp", "dropout=0..0.5")) == math.inf
