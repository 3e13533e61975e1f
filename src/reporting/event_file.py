"""TensorBoard's event files, where `FOURBEAT_TENSORBOARD` names a folder.

Each start of a run writes a file with all of the run's rows, also those from before an
interruption. It begins with a mark: TensorBoard then drops what earlier starts wrote.
"""

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from src.errors import ParameterError

FOLDER = "FOURBEAT_TENSORBOARD"  # the environment variable
FORMAT = "brain.Event:2"  # with it, TensorBoard heeds the mark


class EventFile:
    """An event file that grows with a run."""

    def __init__(self, folder: Path) -> None:
        """Creates the folder and the file.

        Raises:
            ParameterError: the folder cannot be created or written.
        """
        # Imported only where it is asked for.
        from tensorboardX import RecordWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        now, mark = time.time(), SessionLog(status=SessionLog.START)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Absolute: tensorboardX takes a path that begins with "s3:" for a bucket.
            self.writer = RecordWriter(str(folder.absolute() / name))
            for event in (
                Event(wall_time=now, file_version=FORMAT),
                Event(wall_time=now, session_log=mark),  # at step 0
            ):
                self.writer.write(event.SerializeToString())
            self.writer.flush()
        except OSError as error:
            raise ParameterError(
                f"{FOLDER}: expected a folder that can be written, found {folder}: "
                f"{error.strerror or error}. Set another folder, or unset {FOLDER}."
            ) from None

    def add(self, tables: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
        """Adds the numbers of rows, as `TABLE/COLUMN` at the row's `step`.

        Args:
            tables: rows by the name of their table, numbers by column.

        Raises:
            OSError: the disk is full.
        """
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        now = time.time()
        for table, rows in tables.items():
            for row in rows:
                numbers = [
                    Summary.Value(tag=f"{table}/{column}", simple_value=number)
                    for column, number in row.items()
                    if column != "step"
                ]
                summary, step = Summary(value=numbers), int(row["step"])
                event = Event(wall_time=now, step=step, summary=summary)
                self.writer.write(event.SerializeToString())
        if any(tables.values()):
            self.writer.flush()

    def close(self) -> None:
        """Closes the file; raises OSError if rows could not be written."""
        self.writer.close()
