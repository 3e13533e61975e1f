"""Pages in a real browser: headless Chromium, without a network."""

import fcntl
import html
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from src.export.demo_weights import Encoded, encode_exact

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # the sandbox refuses to run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # blocks the network
)
RESULT = re.compile(r'<pre id="result-of-the-test">(.*?)</pre>', re.DOTALL)
SCRIPT = """
<script>
addEventListener("load", async () => {{
  const place = document.createElement("pre");
  let result;
  try {{ result = {{value: await (async () => {{ {script} }})()}}; }}
  catch (error) {{ result = {{error: String(error)}}; }}
  place.id = "result-of-the-test";
  place.textContent = JSON.stringify(result);
  document.documentElement.append(place);
}});
</script>
"""


def browser() -> str:
    """Chromium's name. Without Chromium the test is skipped, or fails in CI."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and "CI" not in os.environ:
        pytest.skip("no Chromium: apt-get install chromium")
    assert found, f"none of {NAMES} is installed"
    return found


def run(folder: Path, *arguments: str) -> str:
    """Runs the browser with a temporary profile; returns its output."""
    return subprocess.run(
        [browser(), *OPTIONS, f"--user-data-dir={folder / 'profile'}", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


def evaluate(page: Path, script: str, folder: Path) -> Any:
    """Runs a script in a loaded page and returns its result.

    Args:
        page: an HTML file.
        script: the body of an async function.
        folder: for the browser's profile.
    """
    copy = folder / f"with_script_{page.name}"
    copy.write_text(page.read_text() + SCRIPT.format(script=script))
    dom = run(folder, "--virtual-time-budget=60000", "--dump-dom", copy.as_uri())
    found = RESULT.search(dom)
    assert found, f"{page}: the script did not end"
    result = json.loads(html.unescape(found[1]))
    assert "error" not in result, result["error"]
    return result.get("value")


def classify_in_page(page: Path, images: np.ndarray, folder: Path) -> np.ndarray:
    """The probabilities that a demo page computes for each image."""
    rows = images.reshape(len(images), -1).tolist()
    script = f"return {json.dumps(rows)}.map((row) => classify(Uint8Array.from(row)))"
    return np.array(evaluate(page, script, folder))


def play_in_browser(
    player: Path,
    graphs: Sequence[tuple[Mapping[str, Any], Encoded, np.ndarray]],
    folder: Path,
) -> list[np.ndarray]:
    """What the demo page's player makes of each graph, its constants and its input.

    One browser start for all graphs: it takes longer than they do.
    """
    page = folder / "player.html"
    page.write_text(f"<!doctype html><script>{player.read_text()}</script>")
    cases = [
        [graph, constants, encode_exact({"input": np.asarray(x, np.float32)})["input"]]
        for graph, constants, x in graphs
    ]
    script = f"""return {json.dumps(cases)}.map(([graph, constants, input]) => {{
      const decoded = Object.entries(constants).map(
        ([name, encoded]) => [name, decodeTensor(encoded)]);
      const {{shape, values}} = runGraph(graph, decoded, decodeTensor(input));
      return [shape, [...values]];
    }})"""
    found = evaluate(page, script, folder)
    return [np.array(values).reshape(shape) for shape, values in found]


class Tab:
    """A page that stays open, in real time; Chromium is asked through two pipes."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page, self.folder, self.number = page, folder, 0

    def __enter__(self) -> Self:
        pipes = [*os.pipe(), *os.pipe()]
        # Chromium reads commands from 3 and writes answers to 4: free both for it.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in pipes]
        for end in pipes:
            os.close(end)
        commands, self.commands, self.answers, answers = high
        profile = f"--user-data-dir={self.folder / 'profile'}"
        program = [browser(), *OPTIONS, profile, "--remote-debugging-pipe"]
        # Not preexec_fn: it would fork this process, whose threads are JAX's.
        redirected = f'exec "$@" 3<&{commands} 4>&{answers}'
        self.process = subprocess.Popen(
            ["bash", "-c", redirected, "bash", *program],
            pass_fds=(commands, answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self.reader = os.fdopen(self.answers, "rb")
        target = self.ask("Target.createTarget", url=self.page.as_uri())["targetId"]
        found = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.session = found["sessionId"]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.commands)
        self.reader.close()

    def ask(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """The answer to a command of Chromium's DevTools protocol."""
        self.number += 1
        command = {"id": self.number, "method": method, "params": parameters}
        command |= {"sessionId": session} if session else {}
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        while True:
            answer = json.loads(self.read_message())
            if answer.get("id") == self.number:
                return answer.get("result", {})

    def read_message(self) -> bytes:
        message = bytearray()
        while (sign := self.reader.read(1)) != b"\0":
            assert sign, "the browser has ended"
            message += sign
        return bytes(message)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression; None while the page is loading."""
        found = self.ask("Runtime.evaluate", self.session, expression=expression)
        return found.get("result", {}).get("value")

    def wait_for(self, expression: str, seconds: float = 120) -> Any:
        """Waits until an expression has a value other than null, 0, false or ""."""
        end = time.monotonic() + seconds
        while not (found := self.evaluate(expression)):
            assert time.monotonic() < end, f"still nothing: {expression}"
            time.sleep(0.02)
        return found


def screenshot(page: Path, picture: Path, folder: Path, size: str = "1000,900") -> None:
    """A page as PNG in a window of `size`, width and height in pixels."""
    run(folder, f"--window-size={size}", f"--screenshot={picture}", page.as_uri())


def print_to_pdf(page: Path, file: Path, folder: Path) -> None:
    """A page as it comes out of a printer."""
    run(folder, f"--print-to-pdf={file}", page.as_uri())
