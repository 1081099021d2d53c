"""``segments.jsonl``: one line a frame, written as results leave the session (schema ``docs/schemas/segments.json``).

The first line is a header. The journal is the one complete record of a run: tracks, reports and every other format
can be made from it, and a run that was interrupted continues behind its last good line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from maskstream.types import (
    RLE,
    FrameAnnotation,
    FrameSegmentation,
    InputError,
    Segment,
    VideoSample,
    decode_rle,
    rle_area,
    rle_box_xywh,
)

from .lines import LineWriter, json_line, read_header, read_lines

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
    """The line of one frame, line end included."""
    return json_line(journal_plain(segmentation, timestamp))


def journal_plain(segmentation: FrameSegmentation, timestamp: float) -> dict[str, object]:
    """One frame as plain data; segments without a pixel are left out."""
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
    return {
        "frame": segmentation.frame_index,
        "timestamp": timestamp,
        "revision": segmentation.revision,
        "segments": segments,
    }


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


class JournalWriter(LineWriter):
    """Appends to a journal.

    Args:
        path: the file; created with its header unless ``position`` is given.
        size_hw: height and width of every frame.
        position: continue here, in bytes, and drop what stands behind.
    """

    def __init__(self, path: Path, *, size_hw: tuple[int, int], position: int | None = None) -> None:
        header = {"schema": SCHEMA, "version": VERSION, "height": size_hw[0], "width": size_hw[1]}
        super().__init__(path, header, position=position)

    def write(self, segmentation: FrameSegmentation, timestamp: float) -> None:
        """Append one frame."""
        self.write_line(journal_plain(segmentation, timestamp))


class Journal:
    """Reads a journal, from front to back or one frame at a time; never holds more than a frame.

    Raises:
        InputError: the file is missing or is not a journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header = read_header(path, SCHEMA, VERSION, what="a segment journal")
        height, width = header.get("height"), header.get("width")
        if not isinstance(height, int) or not isinstance(width, int):
            raise InputError(f"{path} is not a segment journal: its first line has no height and width")
        self.size_hw: tuple[int, int] = (height, width)

    def __iter__(self) -> Iterator[JournalFrame]:
        return (frame for _, frame in self.with_positions())

    def with_positions(self) -> Iterator[tuple[int, JournalFrame]]:
        """Yield every frame with the place of its line in the file, for `read_at`."""
        return ((position, parse_line(line)) for position, line in read_lines(self.path))

    def read_at(self, positions: Iterator[int]) -> Iterator[JournalFrame]:
        """Yield the frames whose lines stand at these places."""
        with self.path.open("rb") as file:
            for position in positions:
                file.seek(position)
                yield parse_line(file.readline())


def read_journal_video(journal: Journal, video: VideoSample) -> VideoSample:
    """What a journal says of a video, as a labelled video: the frames that were segmented, by their names.

    Args:
        journal: of the video; ``Frame.index`` is the position in ``video.frames``.
        video: gives names, expressions and numbers; its own labels are left behind.

    Raises:
        InputError: the journal speaks of a frame that the video has not.
    """
    position_of: dict[int, int] = {}
    for position, frame in journal.with_positions():
        if not 0 <= frame.frame_index < len(video):
            raise InputError(f"{journal.path} speaks of frame {frame.frame_index}, but {video.name} has {len(video)}")
        position_of[frame.frame_index] = position  # a later line of the same frame replaces the earlier
    indices = sorted(position_of)

    def read(index: int) -> FrameAnnotation:
        frame = next(journal.read_at(iter([position_of[indices[index]]])))
        return FrameAnnotation(segmentation_of(frame, journal.size_hw, frame_index=index))

    return replace(
        video,
        frames=tuple(video.frames[index] for index in indices),
        read_annotation=read,
        read_image=None,
        read_prompts=None,
        read_tracks=None,
    )


def segmentation_of(frame: JournalFrame, size_hw: tuple[int, int], *, frame_index: int) -> FrameSegmentation:
    """The segmentation that was written as a line, under the number it is to have."""
    segments = tuple(seen.segment for seen in frame.segments)
    masks_nhw = decode_rle([seen.rle for seen in frame.segments], size_hw)
    return FrameSegmentation.from_masks(frame_index, segments, masks_nhw, revision=frame.revision)
