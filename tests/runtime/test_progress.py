"""Progress bars: on a terminal, after a second, and nowhere else."""

import io
import re

import pytest

from src.runtime.progress import with_progress
from tests.helpers.running import exit_code


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "delay", "shown"),
    [(Terminal, 0, True), (Terminal, 1000, False), (io.StringIO, 0, False)],
)
def test_bar_appears_on_a_terminal_after_the_delay(monkeypatch, stream, delay, shown):
    stderr = stream()
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setattr("src.runtime.progress.DELAY", delay)
    assert list(with_progress(iter("abc"), 3, "reading", "file")) == [*"abc"]
    assert ("reading:   0%" in stderr.getvalue()) == shown
    assert shown or stderr.getvalue() == ""


BARS = {
    "train": [],  # has its own
    "evaluate": ["scoring"],
    "export": ["converting", "finishing", "scoring", "comparing", "timing"],
}


@pytest.mark.slow
@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_stages_show_bars_on_a_terminal_and_nothing_in_a_pipe(
    prepared, write_params, monkeypatch, stream
):
    write_params(model="mlp", hidden=8, max_steps=1, epochs=1, export_formats="[numpy]")
    monkeypatch.setattr("src.runtime.progress.DELAY", 0)
    for stage, names in BARS.items():
        stderr = stream()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", stderr)
            assert exit_code(stage, monkeypatch) == 0
        shown = re.findall(r"(\w+):   0%", stderr.getvalue())
        assert [*dict.fromkeys(shown)] == (names if stream is Terminal else [])
        assert stream is Terminal or "%" not in stderr.getvalue()
