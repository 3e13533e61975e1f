"""The process that converts to the formats of TensorFlow."""

import subprocess
import sys
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from src.export.end_process import end_process
from src.export.faults import ConverterError
from src.export.tensorflow_process import receive, send

PROGRAM = Path(__file__).with_name("tensorflow_process.py")
TENSORFLOW_FORMATS = ("saved_model", "tflite", "tflite_int8")


class Program(NamedTuple):
    """A network that TensorFlow converts; see `tensorflow_process.convert`."""

    module: bytes
    calibration: np.ndarray | None
    file: str
    version: int
    platforms: tuple[str, ...]
    shape: tuple[int | None, ...]
    classes: int


class TensorflowConverter:
    """A process that imports TensorFlow at once, and ends with the block."""

    def __init__(self, names: Collection[str]) -> None:
        """Starts the process, unless no format of these names needs it."""
        self.thread = ThreadPoolExecutor(1)
        self.process = start() if set(TENSORFLOW_FORMATS) & set(names) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown(wait=False, cancel_futures=True)
        if process := self.process:
            process.kill()
        self.thread.shutdown()  # its wait for the process is over
        if process:
            end_process(process)

    def submit(
        self, program: Program, then: Callable[[dict[str, bytes]], dict[str, bytes]]
    ) -> Future[dict[str, bytes]]:
        """Converts a program in another thread; one after another.

        Args:
            program: what to convert.
            then: gets the files in the other thread; its result is the future's.

        The future raises ConverterError if TensorFlow cannot convert the program.
        """
        return self.thread.submit(lambda: then(self.convert(program)))

    def convert(self, program: Program) -> dict[str, bytes]:
        """The files.

        Raises:
            ConverterError: TensorFlow cannot convert the program.
        """
        self.process = self.process or start()
        requests, answers = self.process.stdin, self.process.stdout
        if not requests or not answers:
            raise ConverterError("no pipes to TensorFlow's process")
        header = program._asdict()
        del header["module"], header["calibration"]
        pixels = b"" if program.calibration is None else program.calibration.tobytes()
        try:
            send(requests, header, [program.module, pixels])
            answer, parts = receive(answers)
        except (EOFError, OSError):
            code = self.process.wait()
            end_process(self.process)
            self.process = None
            raise ConverterError(f"TensorFlow ended with exit code {code}") from None
        if "error" in answer:
            raise ConverterError(answer["error"])
        return dict(zip(answer["names"], parts, strict=True))


def start() -> subprocess.Popen[bytes]:
    """Starts the process; it ends when its standard input does."""
    return subprocess.Popen(  # noqa: S603 - our own program, and no shell
        [sys.executable, "-I", str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
