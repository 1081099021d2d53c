"""``segments.jsonl``: one line a frame, written as results leave the session (schema ``docs/schemas/segments.json``).

The first line is a header. The journal is the one complete record of a run: tracks, reports and every other format
can be made from it, and a run that was interrupted continues behind its last good line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from maskstream.types import RLE, FrameSegmentation, InputError, Segment, rle_area, rle_box_xywh

SCHEMA = "maskstream/segments"
VERSION = 1


@dataclass(frozen=True, slots=True)
class JournalSegment:
    """One visible segment of one frame: `Segment` and where it is."""

    segment: Segment
    rle: RLE
    area: int
    box_xywh: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class JournalFrame:
    """One line of the journal."""

    frame_index: int
    timestamp: float
    segments: tuple[JournalSegment, ...]
    revision: int = 0


def journal_line(segmentation: FrameSegmentation, timestamp: float) -> str:
    """The line of one frame, line end included; segments without a pixel are left out."""
    segments = []
    for segment, code in zip(segmentation.segments, segmentation.to_rle(), strict=True):
        area = rle_area(code)
        if area:
            segments.append(
                {
                    "id": segment.id,
                    "track_id": segment.track_id,
                    "category": segment.category,
                    "score": segment.score,
                    "is_thing": segment.is_thing,
                    "prompt_id": segment.prompt_id,
                    "area": area,
                    "bbox": rle_box_xywh(code),
                    "rle": code,
                }
            )
    line = {
        "frame": segmentation.frame_index,
        "timestamp": timestamp,
        "revision": segmentation.revision,
        "segments": segments,
    }
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n"


def parse_line(line: str | bytes) -> JournalFrame:
    """Undo `journal_line`."""
    plain = json.loads(line)
    segments = tuple(
        JournalSegment(
            Segment(s["id"], s["track_id"], s["category"], s["score"], s["is_thing"], s["prompt_id"]),
            RLE(size=s["rle"]["size"], counts=s["rle"]["counts"]),
            s["area"],
            (s["bbox"][0], s["bbox"][1], s["bbox"][2], s["bbox"][3]),
        )
        for s in plain["segments"]
    )
    return JournalFrame(plain["frame"], plain["timestamp"], segments, plain["revision"])


class JournalWriter:
    """Appends to a journal.

    Args:
        path: the file; created with its header unless ``position`` is given.
        size_hw: height and width of every frame.
        position: continue here, in bytes, and drop what stands behind.
    """

    def __init__(self, path: Path, *, size_hw: tuple[int, int], position: int | None = None) -> None:
        if position is None:
            header = {"schema": SCHEMA, "version": VERSION, "height": size_hw[0], "width": size_hw[1]}
            self._file: BinaryIO = path.open("wb")
            self._file.write(json.dumps(header, separators=(",", ":")).encode() + b"\n")
            return
        self._file = path.open("r+b")
        self._file.truncate(position)
        self._file.seek(position)

    def write(self, segmentation: FrameSegmentation, timestamp: float) -> None:
        """Append one frame."""
        self._file.write(journal_line(segmentation, timestamp).encode())

    def sync(self) -> int:
        """Make everything durable; return the position to continue from."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Journal:
    """Reads a journal, from front to back or one frame at a time; never holds more than a frame.

    Raises:
        InputError: the file is missing or is not a journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                header = json.loads(file.readline())
            if header["schema"] != SCHEMA or header["version"] != VERSION:
                raise InputError(f"{path} is {header['schema']} version {header['version']}, not {SCHEMA} {VERSION}")
            self.size_hw: tuple[int, int] = (header["height"], header["width"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is not a segment journal: {error}") from error

    def __iter__(self) -> Iterator[JournalFrame]:
        return (frame for _, frame in self.with_positions())

    def with_positions(self) -> Iterator[tuple[int, JournalFrame]]:
        """Yield every frame with the place of its line in the file, for `read_at`."""
        with self.path.open("rb") as file:
            position = len(file.readline())
            for line in file:
                yield position, parse_line(line)
                position += len(line)

    def read_at(self, positions: Iterator[int]) -> Iterator[JournalFrame]:
        """Yield the frames whose lines stand at these places."""
        with self.path.open("rb") as file:
            for position in positions:
                file.seek(position)
                yield parse_line(file.readline())
