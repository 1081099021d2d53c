"""``tracks.json``: the whole video in the layout of YouTube-VIS, made from the journal (datasets specification C5).

Beside the keys of that layout, which other tools read, every annotation carries ``track_id``, ``score`` and
``prompt_id``, and the video carries ``frame_indices``.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from maskstream.files import atomic_path
from maskstream.types import OBJECT, RLE, CategorySet, Segment

from .journal import Journal

SCHEMA = "maskstream/tracks"
VERSION = 1


@dataclass(slots=True)
class TrackIndex:
    """Where one track is visible, and how large.

    Attributes:
        segment: the track as it was written last, when every vote was in.
        frames: positions in the list of frames, ascending.
        areas: pixels on each of them.
        boxes: left, top, width, height on each of them, one after the other.
    """

    segment: Segment
    frames: array[int] = field(default_factory=lambda: array("L"))
    areas: array[int] = field(default_factory=lambda: array("L"))
    boxes: array[int] = field(default_factory=lambda: array("L"))


@dataclass(frozen=True, slots=True)
class JournalIndex:
    """A journal in numbers: what is needed to write tracks and a report without holding a mask.

    Attributes:
        journal: what was indexed.
        frame_indices: ``Frame.index`` of every frame.
        line_positions: where its line stands in the file.
        tracks: every track by id, ascending.
    """

    journal: Journal
    frame_indices: array[int]
    line_positions: array[int]
    tracks: dict[int, TrackIndex]


def index_journal(journal: Journal) -> JournalIndex:
    """Go through a journal once. Keeps a few bytes a frame and visible segment."""
    frame_indices, line_positions = array("L"), array("Q")
    tracks: dict[int, TrackIndex] = {}
    for line_position, frame in journal.with_positions():
        for seen in frame.segments:
            track = tracks.setdefault(seen.segment.track_id, TrackIndex(seen.segment))
            track.segment = seen.segment
            track.frames.append(len(frame_indices))
            track.areas.append(seen.area)
            track.boxes.extend(seen.box_xywh)
        frame_indices.append(frame.frame_index)
        line_positions.append(line_position)
    return JournalIndex(journal, frame_indices, line_positions, dict(sorted(tracks.items())))


def write_tracks(path: Path, index: JournalIndex, *, video_name: str, categories: CategorySet = OBJECT) -> None:
    """Write ``tracks.json``, one mask at a time.

    Args:
        path: the file to write.
        index: of the journal, from `index_journal`.
        video_name: becomes the folder in ``file_names``.
        categories: the label space; a track of unknown category gets its first one, as the layout has no unknown.
    """
    height, width = index.journal.size_hw
    video = {
        "id": 1,
        "width": width,
        "height": height,
        "length": len(index.frame_indices),
        "file_names": [f"{video_name}/{frame:05d}.jpg" for frame in index.frame_indices],
        "frame_indices": list(index.frame_indices),
    }
    listed = [{"id": c.id, "name": c.name, "isthing": c.is_thing} for c in categories.categories]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"schema":{_json(SCHEMA)},"version":{VERSION},\n"videos":[{_json(video)}],\n')
        file.write(f'"categories":{_json(listed)},\n"annotations":[')
        for number, track in enumerate(index.tracks.values(), start=1):
            segment = track.segment
            head = {
                "id": number,
                "video_id": 1,
                "category_id": categories.ids[0] if segment.category is None else segment.category,
                "track_id": segment.track_id,
                "score": segment.score,
                "prompt_id": segment.prompt_id,
                "iscrowd": 0,
                "width": width,
                "height": height,
            }
            file.write((",\n" if number > 1 else "\n") + _json(head)[:-1])
            boxes = (track.boxes[k : k + 4].tolist() for k in range(0, len(track.boxes), 4))
            for key, values in (("areas", track.areas), ("bboxes", boxes), ("segmentations", _masks(index, track))):
                file.write(f',"{key}":[')
                _write_sparse(file, track.frames, values, len(index.frame_indices))
                file.write("]")
            file.write("}")
        file.write("\n]}\n")


def _masks(index: JournalIndex, track: TrackIndex) -> Iterator[RLE]:
    for frame in index.journal.read_at(index.line_positions[position] for position in track.frames):
        yield next(seen.rle for seen in frame.segments if seen.segment.track_id == track.segment.track_id)


def _write_sparse(file: IO[str], positions: Iterable[int], values: Iterable[object], length: int) -> None:
    """Write ``length`` values of a JSON list, null where there is none."""
    written = 0
    for position, value in zip(positions, values, strict=True):
        file.write("null," * (position - written))
        file.write(_json(value) + ("," if position + 1 < length else ""))
        written = position + 1
    file.write(",".join(["null"] * (length - written)))


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
