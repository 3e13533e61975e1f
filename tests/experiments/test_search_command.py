"""Values as commands: a shell and DVC must read back what was meant."""

import shlex

import pytest
from dvc.utils.hydra import apply_overrides

from src.config.load import load_params
from src.experiments.search_command import experiment_command


@pytest.mark.parametrize(
    "values",
    [
        {"lr": 0.001284, "model": "resnet", "batch_size": 64},
        {"lr": 1e-05, "weight_decay": 1e-12, "dropout": 0},
        {"clip_norm": None, "hidden": None, "normalize": True, "patience": 3},
        {"normalize": False, "augment": ("crop", "flip"), "freeze": ()},
        {"lr_milestones": (1, 2.5), "schedule": "piecewise", "stop_at": -0.5},
        {"init_from": "my weights/it's [1], 50 % \\ $HOME"},
        {"init_from": "a\\"},
        {"init_from": "a\\'b\\\\"},
        {"init_from": "null"},
        {"init_from": "true"},
        {"init_from": "1e3"},
        {"init_from": "a=b,c:d{e}(f)"},
        {"init_from": "../weights-1.safetensors"},
    ],
)
def test_command_sets_the_values_in_the_file_of_parameters(values, write_params):
    words = shlex.split(experiment_command(values))
    assert words[:3] == ["dvc", "exp", "run"]
    assert words[3::2] == ["-S"] * len(values)
    path = write_params()
    apply_overrides(path, words[4::2])
    found = load_params(path)
    assert {key: getattr(found, key) for key in values} == values


def test_command_is_plain_for_plain_values():
    values = {"lr": 0.001284, "model": "cnn", "batch_size": 64, "augment": ("crop",)}
    assert experiment_command(values) == (
        "dvc exp run -S lr=0.001284 -S model=cnn -S batch_size=64 -S 'augment=[crop]'"
    )
