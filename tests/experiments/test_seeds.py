"""The same run over seeds: its statistics, and that it leaves everything as it was."""

import json
import re

import numpy as np
import pytest
from scipy import stats

from src.experiments.seeds import summarize
from tests.helpers.imports import ROOT
from tests.helpers.running import exit_code, run_stage


@pytest.mark.parametrize("count", [2, 5, 30])
def test_interval_is_that_of_scipys_t_test(count):
    values = np.random.default_rng(count).normal(0.9, 0.01, count)
    found = summarize(values.tolist())
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(values.mean())
    assert found.standard_deviation == pytest.approx(values.std(ddof=1))


def test_repeat_trains_each_seed_elsewhere_and_reports_all(
    write_params, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    changes = {"model": "mlp", "epochs": 1, "data_path": ROOT / "data/raw"}
    write_params(seed=4, **changes)  # the second of the two
    for stage in ("prepare", "train", "evaluate"):
        assert exit_code(stage, monkeypatch) == 0
    alone = json.loads((tmp_path / "metrics/test.json").read_text())["test"]["accuracy"]
    write_params(seed=3, **changes)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["repeat", "--seeds", "2"])

    assert exit_code("repeat", monkeypatch) == 0

    said = re.findall(
        r"seed (\d): 355 images: accuracy (0\.\d{4})", capsys.readouterr().out
    )
    assert [seed for seed, _ in said] == ["3", "4"]
    first, second = (float(accuracy) for _, accuracy in said)
    assert second == pytest.approx(alone, abs=5e-5)
    assert first != second
    repeated = json.loads((tmp_path / "metrics/repeat.json").read_text())["repeat"]
    assert repeated["accuracy"]["mean"] == pytest.approx((first + alone) / 2, abs=5e-5)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("arguments", [["--seeds", "1"], ["--seeds", "x"], ["--what"]])
def test_wrong_arguments_end_with_code_two(write_params, tmp_path, arguments):
    write_params()
    assert run_stage("repeat", tmp_path, arguments=arguments).returncode == 2
