"""Comparing DVC experiments: ranking, varying parameters, axes, table and plot."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from src.errors import DataError, ParameterError
from src.experiments.sweep import (
    Experiment,
    build_dimension,
    ranked,
    read_experiments,
    sweep_table,
    varying,
)
from src.experiments.sweep_plot import draw_sweep, sweep_figure
from tests.helpers.running import run_stage


def run(name, loss, state="success", **params):
    """An experiment; without scores if `loss` is None."""
    scores = {} if loss is None else {"validation.loss": loss, "validation.f1": -loss}
    return Experiment(name, {"lr": 0.1, "epochs": 5, **params}, scores, state)


def entry(name, loss, error=None, **params):
    """A revision as `dvc exp show --json` of DVC 3.67 prints it."""
    data = {
        "params": {"params.yaml": {"data": params}},
        "metrics": {
            "metrics/train.json": {"data": {"validation": {"loss": loss}, "steps": 9}},
            "metrics/test.json": {"error": {"msg": "missing"}},
        },
    }
    return {"rev": "0123456789", "name": name, "data": data, "error": error}


def shown(*groups):
    baseline = {**entry("main", 0.001), "rev": "fedcba"}
    experiments = [
        {"revs": [revision], "executor": executor, "name": revision["name"]}
        for revision, executor in groups
    ]
    workspace = {**entry(None, 0.001), "rev": "workspace", "experiments": None}
    return json.dumps([workspace, {**baseline, "experiments": experiments or None}])


def test_experiments_are_read_by_name_with_parameters_and_dotted_scores():
    (found,) = read_experiments(shown((entry("a", 0.5, lr=0.1, augment=[]), None)))
    assert found.name == "a"
    assert found.params == {"lr": 0.1, "augment": []}
    assert found.scores == {"validation.loss": 0.5, "steps": 9}
    assert found.state == "success"


@pytest.mark.parametrize("state", ["failed", "queued", "running"])
def test_unfinished_experiment_has_no_scores(state):
    """DVC shows the ones of the commit that it began from."""
    error = {"msg": "Experiment run failed"} if state == "failed" else None
    group = entry("a", 0.001, error), {"state": state}
    (found,) = read_experiments(shown(group))
    assert found.state == state
    assert found.scores == {}


def test_commit_without_experiments_gives_an_empty_list():
    assert read_experiments(shown()) == []


def test_least_loss_is_first_and_experiments_without_a_score_are_last():
    runs = [run("c", 0.3), run("x", None, "failed"), run("a", 0.1), run("b", 0.2)]
    assert [each.name for each in ranked(runs, "validation.loss")] == list("abcx")
    # Here validation.f1 is minus the loss, so its largest value is first.
    assert [each.name for each in ranked(runs, "validation.f1")] == list("abcx")


def test_one_experiment_is_not_enough():
    runs = [run("a", 0.1), run("b", None, "failed")]
    with pytest.raises(DataError, match="two or more finished ones, found 1 of 2"):
        ranked(runs, "validation.loss")


@pytest.mark.parametrize("name", ["test.accuracy", "test.loss"])
def test_scores_of_the_test_split_are_not_read(name):
    """Nothing is chosen by them."""
    first, second = entry("a", 0.5, lr=0.1), entry("b", 0.25, lr=0.2)
    for each, score in ((first, 0.1), (second, 0.9)):
        test = {"data": {"test": {"accuracy": score, "loss": score}}}
        each["data"]["metrics"]["metrics/test.json"] = test
    found = read_experiments(shown((first, None), (second, None)))
    assert [each.name for each in ranked(found, "validation.loss")] == ["b", "a"]
    with pytest.raises(
        ParameterError, match=r"expected a score on train or validation, found 'test"
    ):
        ranked(found, name)


def test_unknown_score_is_refused_with_the_known_ones():
    runs = [run("a", 0.1), run("b", 0.2)]
    with pytest.raises(
        ParameterError, match=r"'loss'\. Choose one of validation\.loss"
    ):
        ranked(runs, "loss")


def test_parameters_that_differ_are_named_in_their_order():
    runs = [
        run("a", 0.1, model="mlp", hidden=None, augment=[]),
        run("b", 0.2, model="cnn", hidden=8, augment=[]),
    ]
    assert varying(runs) == ["model", "hidden"]


def test_one_and_one_point_zero_are_the_same_value():
    assert varying([run("a", 0.1, lr=1), run("b", 0.2, lr=1.0)]) == []


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ([1e-3, 1e-2, 0.021], True),
        ([1e-3, 0.02], False),  # a ratio of 20 exactly
        ([0.0, 1e-3, 5.0], False),  # zero has no logarithm
        ([-1.0, 30.0], False),
        ([8, 512], True),
        ([2, 3], False),
    ],
)
def test_positive_numbers_of_more_than_a_factor_of_twenty_have_a_log_axis(values, log):
    found = build_dimension("lr", values)
    assert (found.log, found.positions, found.categories) == (log, values, [])


@pytest.mark.parametrize(
    ("values", "categories", "positions"),
    [
        (["mlp", "cnn", "mlp"], ["cnn", "mlp"], [1, 0, 1]),
        ([True, False], ["false", "true"], [1, 0]),
        ([None, 64, 8], ["8", "64", "none"], [2, 1, 0]),
        ([["shift", "flip"], []], ["none", "shift+flip"], [1, 0]),
        ([float("nan"), 0.1], ["nan", "0.1"], None),
    ],
)
def test_categories_are_sorted_with_numbers_first(values, categories, positions):
    found = build_dimension("any", values)
    assert sorted(found.categories) == sorted(categories)
    assert not found.log
    assert [found.categories[int(index)] for index in found.positions] == [
        {True: "true", False: "false", None: "none"}.get(value, value)
        if isinstance(value, bool | str | None)
        else "+".join(value) or "none"
        if isinstance(value, list)
        else f"{value:g}"
        for value in values
    ]
    assert positions is None or found.positions == positions


def test_table_has_a_row_per_experiment_and_shows_the_state_if_there_is_no_score():
    runs = [run("best-of", 0.0124, lr=3e-4), run("b", None, "failed", lr=0.1)]
    assert sweep_table(runs, "validation.loss") == (
        "experiment      lr  validation.loss\n"
        "best-of     0.0003           0.0124\n"
        "b              0.1           failed"
    )


def lines(figure):
    """The plotted line of each experiment, by name."""
    (axes,) = figure.axes
    return {
        line.get_label(): line
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def test_plot_has_a_line_per_experiment_through_its_values():
    runs = [
        run("a", 0.1, lr=0.001, model="cnn"),
        run("b", 0.2, lr=0.01, model="mlp"),
        run("c", 0.5, lr=0.1, model="cnn"),
    ]
    figure = sweep_figure(runs, "validation.loss")
    (axes,) = figure.axes
    named = [label.get_text() for label in axes.get_xticklabels()]
    assert named == ["lr", "model", "validation.loss"]
    drawn = lines(figure)
    # lr on a log scale, the models in alphabetical order, the loss from 0.1 to 0.5.
    expected = {"a": [0, 0, 0], "b": [0.5, 1, 0.25], "c": [1, 0, 1]}
    assert drawn.keys() == expected.keys()
    for name, heights in expected.items():
        np.testing.assert_allclose(drawn[name].get_ydata(), heights, atol=1e-12)


def test_best_line_is_thick_and_the_score_sets_the_colour():
    runs = [run("a", 0.1, lr=0.001), run("b", 0.1, lr=0.1), run("c", 0.5, lr=0.2)]
    drawn = lines(sweep_figure(runs, "validation.loss"))
    widths = {name: line.get_linewidth() for name, line in drawn.items()}
    assert widths["a"] > 2 * widths["b"] == 2 * widths["c"]
    colours = {name: to_rgba(line.get_color()) for name, line in drawn.items()}
    assert colours["a"] == colours["b"] != colours["c"]


def test_equal_scores_and_names_that_look_like_formulas_are_drawn():
    runs = [run("a$b", 0.1, model="$^$"), run("$", 0.1, model="m")]
    sweep_figure(runs, "validation.loss").savefig(io.BytesIO(), format="png")
    first, second = (draw_sweep(runs, "validation.loss") for _ in range(2))
    assert first == second


def test_folder_without_a_dvc_repository_is_refused_with_code_three(tmp_path):
    result = run_stage("sweep", tmp_path)
    assert result.returncode == 3
    assert result.stderr.startswith("sweep: dvc exp show: expected success, found")
    assert result.stderr.count("\n") == 1


def test_repository_without_experiments_is_refused_with_the_command_to_run(tmp_path):
    for command in (
        ["git", "init", "--quiet"],
        [sys.executable, "-m", "dvc", "init", "--quiet"],
        ["git", "-c", "user.name=T", "-c", "user.email=t@t", "commit", "-qm", "x"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    result = run_stage("sweep", tmp_path)
    assert result.returncode == 3
    assert "found 0 of 0. Run some: dvc exp run --queue" in result.stderr


def test_wrong_argument_ends_with_code_two(tmp_path):
    assert run_stage("sweep", tmp_path, arguments=["--what"]).returncode == 2
