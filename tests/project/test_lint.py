"""The linter refuses code that runs data as code."""

import ast
import subprocess
import sys

import pytest

from tests.helpers.imports import ROOT

UNSAFE = {
    "pickle": ("import pickle\n\npickle.loads(b'')\n", "S301"),
    "import of pickle": ("import pickle\n", "TID251"),
    "eval": ("eval('1')\n", "S307"),
    "exec": ("exec('1')\n", "S102"),
    "yaml.load": ("import yaml\n\nyaml.load('', yaml.Loader)\n", "S506"),
    "shell": ("import subprocess\n\nsubprocess.run('ls', shell=True)\n", "S602"),
    "os.system": ("import os\n\nos.system('ls')\n", "S605"),
    "numpy.load": ("import numpy as np\n\nnp.load('x.npz')\n", "TID251"),
    "numpy's header reader": ("from numpy.lib import format\n", "TID251"),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_linter_refuses_unsafe_code(name):
    source, code = UNSAFE[name]
    command = ["ruff", "check", "--stdin-filename", "src/unsafe.py", "--output-format"]
    result = subprocess.run(
        [sys.executable, "-m", *command, "concise", "-"],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert f" {code} " in result.stdout


@pytest.mark.parametrize("folder", ["src", "stages", "benchmarks"])
def test_no_file_allows_pickle(folder):
    for path in (ROOT / folder).rglob("*.py"):
        if ".venv" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert getattr(node.value, "value", None) is False, path
