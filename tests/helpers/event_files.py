"""Reads TensorBoard's event files as TensorBoard does, without it."""

import struct
from collections import defaultdict
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c


def read_events(file: Path) -> list[Event]:
    """The events of a file: length, checksum, content, checksum."""
    content, events = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        assert struct.unpack("<I", content[8:12])[0] == masked_crc32c(content[:8])
        record, end = content[12 : 12 + length], 16 + length
        assert struct.unpack("<I", content[end - 4 : end])[0] == masked_crc32c(record)
        events.append(Event.FromString(record))
        content = content[end:]
    return events


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag.

    A session that starts drops what earlier ones wrote from its step on.
    """
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    files = sorted(
        folder.glob("events.out.tfevents.*"), key=lambda f: f.stat().st_mtime_ns
    )
    for event in (event for file in files for event in read_events(file)):
        if event.session_log.status == SessionLog.START:
            for points in found.values():
                points[:] = [point for point in points if point[0] < event.step]
        for value in event.summary.value:
            found[value.tag].append((event.step, value.simple_value))
    return dict(found)
