"""Progress bars: on a terminal, after a second, and nowhere else."""

import io

import pytest

from src.runtime.progress import with_progress


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
