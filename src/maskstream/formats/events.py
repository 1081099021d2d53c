"""``events.jsonl``: why objects appeared, were confirmed or went, a line each (schema ``docs/schemas/events.json``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maskstream.types import Event, FrameSegmentation

from .lines import LineWriter, read_header, read_lines

SCHEMA = "maskstream/events"
VERSION = 1


@dataclass(frozen=True, slots=True)
class TimedEvent:
    """An event and when it happened."""

    frame_index: int
    timestamp: float
    event: Event


class EventWriter(LineWriter):
    """Writes the events of results.

    Args:
        path: the file; created with its header unless ``position`` is given.
        position: continue here, in bytes, and drop what stands behind.
    """

    def __init__(self, path: Path, *, position: int | None = None) -> None:
        super().__init__(path, {"schema": SCHEMA, "version": VERSION}, position=position)

    def write(self, segmentation: FrameSegmentation, timestamp: float) -> None:
        """Append the events of one frame."""
        for event in segmentation.events:
            self.write_line(
                {
                    "frame": segmentation.frame_index,
                    "timestamp": timestamp,
                    "event": event.kind,
                    "track_id": event.track_id,
                    "reason": event.reason,
                }
            )


def read_events(path: Path) -> Iterator[TimedEvent]:
    """Every event of a file, in order.

    Raises:
        InputError: the file is missing or holds no events.
    """
    read_header(path, SCHEMA, VERSION, what="an event log")
    for _, line in read_lines(path):
        plain = json.loads(line)
        yield TimedEvent(plain["frame"], plain["timestamp"], Event(plain["event"], plain["track_id"], plain["reason"]))
