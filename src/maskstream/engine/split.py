"""Long videos in pieces that are done apart, and how these become one video again.

video ──► `cut_up` ──► pieces, each segmented by itself, anywhere ──► `stitched` ──► the results of one video

At a scene change nothing goes over: what follows is new. Pieces of equal length share `OVERLAP` frames, and who covers
the same pixels there is the same object. Pieces know nothing of each other, so that nothing can be followed from one
into the next: prompts therefore need scenes, or whole videos.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, takewhile
from pathlib import Path

import numpy as np
import torch

from maskstream.formats.events import read_events
from maskstream.formats.journal import Journal, JournalFrame
from maskstream.identity import ObjectTable
from maskstream.mask2former.affinity import assigned
from maskstream.scene_cuts import find_cuts
from maskstream.types import (
    Event,
    FrameSegmentation,
    InputError,
    LabelMap,
    PackedMasks,
    TextPrompt,
    VideoSegmenter,
    decode_rle,
    mask_overlaps,
    pack_masks,
)
from maskstream.video import open_video, prefetch
from maskstream.video.source import DEFAULT_FPS, Source

from .segment import Plan, PromptWords, SegmentOptions, planned

OVERLAP = 16
"""Frames that two pieces of equal length share: enough for every system to have found what is there."""

SAME = 0.5
"""IoU over the shared frames above which two objects are one. Of disjoint masks, only one can be so alike."""

_SHORTEST = 2 * OVERLAP


@dataclass(frozen=True, slots=True)
class Split:
    """Where long videos are cut: at scene changes, unless a length is given.

    Attributes:
        seconds: about how long a piece is,
        frames: or how many frames it has, of those that are taken.
    """

    seconds: float | None = None
    frames: int | None = None

    @property
    def at_cuts(self) -> bool:
        """Whether pieces are scenes."""
        return self.seconds is None and self.frames is None


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames of a video that are segmented by themselves; numbers are those of ``Frame.index``.

    Attributes:
        number: of the piece, from 0.
        start: its first frame.
        first: its first frame that counts; those before are shared with the piece before.
        stop: frame before which it ends.
    """

    number: int
    start: int
    first: int
    stop: int

    def __str__(self) -> str:
        return f"frames {self.first} to {self.stop - 1}"


def parse_split(text: str) -> Split:
    """Read ``cuts``, ``60s`` or ``1500``.

    Raises:
        InputError: it is none of these.
    """
    if text == "cuts":
        return Split()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s?)", text)
    if match is None or float(match[1]) == 0 or ("." in match[1] and not match[2]):
        raise InputError(f"--split is cuts, seconds as in 60s, or frames as in 1500, not {text!r}")
    return Split(seconds=float(match[1])) if match[2] else Split(frames=int(match[1]))


def check_split(split: Split, options: SegmentOptions, words_of: Mapping[str, PromptWords]) -> None:
    """See that videos can be done in pieces.

    Args:
        split: where they are cut.
        options: how they are segmented.
        words_of: the prompts of each.

    Raises:
        InputError: something needs whole videos.
    """
    if options.save_scores:
        raise InputError("--save-scores needs whole videos: leave out --split")
    if planned(options, PromptWords()).offline:
        raise InputError("what goes over the whole video, or back in it, cannot be done in pieces: leave out --split")
    for name, words in words_of.items():
        if words.text or words.remove:
            raise InputError(f"{name}: sentences and removals need whole videos: leave out --split")
        if words != PromptWords() and not split.at_cuts:
            raise InputError(f"{name}: prompts need whole videos, or whole scenes: leave out --split, or --split cuts")


def cut_up(split: Split, source: str, options: SegmentOptions) -> list[Piece]:
    """Where a video is cut.

    Scene changes are looked for on all frames, also where only every so many-th is taken.

    Args:
        split: how.
        source: path of the video.
        options: which of its frames are taken.

    Raises:
        VideoError: it cannot be read.
    """
    video = open_video(source, start=options.start, stop=options.stop, stride=options.stride, fps=options.fps)
    taken = video.indices() if isinstance(video, Source) else None
    if taken is None:
        raise InputError(f"{source}: nobody knows how long it is, so it cannot be cut: leave out --split")
    if split.at_cuts:
        every = open_video(source, start=options.start, stop=options.stop, fps=options.fps)
        borders = sorted({0, *(bisect_left(taken, cut) for cut in find_cuts(prefetch(every)))} - {len(taken)})
    else:
        length = split.frames or round((split.seconds or 0) * (video.fps or DEFAULT_FPS) / options.stride)
        count = max(1, round(len(taken) / max(length, _SHORTEST)))
        borders = [len(taken) * number // count for number in range(count)]
    shared = 0 if split.at_cuts else OVERLAP
    return [
        Piece(number, taken[max(0, begin - shared)], taken[begin], taken[end - 1] + 1)
        for number, (begin, end) in enumerate(zip(borders, [*borders[1:], len(taken)], strict=True))
    ]


def plan_of(plan: Plan, piece: Piece, system: VideoSegmenter) -> Plan:
    """What is to be done to a piece: its frames, and the prompts on them.

    Args:
        plan: of the video.
        piece: of it.
        system: of the plan.
    """
    options = replace(plan.options, task=plan.task(system), start=piece.start, stop=piece.stop)
    mine = (p for p in plan.prompts if not isinstance(p, TextPrompt) and piece.first <= p.frame_index < piece.stop)
    return replace(plan, options=options, prompts=tuple(mine))


@dataclass(frozen=True, slots=True)
class Segmented:
    """A piece that is done.

    Attributes:
        piece: which.
        asked: numbers of the objects that its prompts gave.
        folder: with its journal and events; None where there was nothing to follow.
    """

    piece: Piece
    asked: frozenset[int]
    folder: Path | None


def asked_for(plan: Plan) -> frozenset[int]:
    """Numbers that prompts gave to objects."""
    return frozenset(prompt.object_id for prompt in plan.prompts if not isinstance(prompt, TextPrompt))


def stitched(pieces: Sequence[Segmented], *, size_hw: tuple[int, int], stride: int) -> Iterator[FrameSegmentation]:
    """Yield the results of a video from those of its pieces.

    Objects are numbered anew, as they come, except those that a prompt numbered. Of a frame that two pieces share, the
    result of the earlier counts, which knows more of the past.

    Args:
        pieces: all, in order.
        size_hw: of the video.
        stride: every so many-th frame is taken.
    """
    objects = ObjectTable()
    for done in pieces:
        for object_id in done.asked:
            objects.reserve(object_id)
    names: dict[int, int] = {}
    earlier: list[JournalFrame] = []  # frames of the piece before that this one has, too
    for done, following in zip(pieces, [*pieces[1:], None], strict=True):
        piece = done.piece
        if done.folder is None:
            for index in range(piece.first, piece.stop, stride):
                yield FrameSegmentation(index, size_hw, (), LabelMap(torch.zeros(size_hw, dtype=torch.int32)))
            continue
        journal = Journal(done.folder / "segments.jsonl")
        later = [*takewhile(partial(_is_before, piece.first), journal)]
        names = {track_id: names[other] for track_id, other in joined(earlier, later, size_hw).items()}
        names |= {object_id: object_id for object_id in done.asked}
        renaming = _Renaming(objects, names, begun=piece.start if later else None)
        events_of = defaultdict(list)
        for timed in read_events(done.folder / "events.jsonl"):
            events_of[timed.frame_index].append(timed.event)
        earlier = []
        for frame in islice(journal, len(later), None):
            yield renaming.result(frame, events_of[frame.frame_index], size_hw)
            if following is not None and frame.frame_index >= following.piece.start:
                earlier.append(frame)


def _is_before(index: int, frame: JournalFrame) -> bool:
    return frame.frame_index < index


def joined(
    earlier: Sequence[JournalFrame], later: Sequence[JournalFrame], size_hw: tuple[int, int], *, least: float = SAME
) -> dict[int, int]:
    """Who is who in two pieces: pairs of the same category that overlap best, one to one.

    Masks are compared on the frames on which both are seen, as a piece takes some frames to find an object.

    Args:
        earlier: frames that both pieces have, as the first of them has them,
        later: and the second.
        size_hw: of the video.
        least: IoU that a pair must exceed.

    Returns:
        For tracks of the second piece the track of the first.
    """
    kinds = [_kinds(frames) for frames in (earlier, later)]
    tracks_n, tracks_m = (list(each) for each in kinds)
    row_of, column_of = ({track: n for n, track in enumerate(tracks)} for tracks in (tracks_n, tracks_m))
    shared_nm, union_nm = np.zeros((2, len(tracks_n), len(tracks_m)), np.int64)
    other_of = {frame.frame_index: frame for frame in later}
    for frame in earlier:
        if (other := other_of.get(frame.frame_index)) is None:
            continue
        overlaps = mask_overlaps(
            _masks(frame, size_hw), len(frame.segments), _masks(other, size_hw), len(other.segments)
        )
        cells = np.ix_(
            [row_of[seen.segment.track_id] for seen in frame.segments],
            [column_of[seen.segment.track_id] for seen in other.segments],
        )
        shared_nm[cells] += overlaps.shared_gp
        union_nm[cells] += overlaps.areas_g[:, None] + overlaps.areas_p[None] - overlaps.shared_gp
    alike_nm = [[kinds[0][n] == kinds[1][m] for m in tracks_m] for n in tracks_n]
    iou_nm = np.where(np.reshape(alike_nm, shared_nm.shape), shared_nm / np.maximum(union_nm, 1), 0.0)
    pairs = assigned(torch.from_numpy(iou_nm), least)
    return {tracks_m[m]: tracks_n[n] for m, n in pairs.items()}


def _kinds(frames: Sequence[JournalFrame]) -> dict[int, tuple[int | None, bool | None]]:
    """What each track was last."""
    return {
        seen.segment.track_id: (seen.segment.category, seen.segment.is_thing)
        for frame in frames
        for seen in frame.segments
    }


def _masks(frame: JournalFrame, size_hw: tuple[int, int]) -> PackedMasks:
    return pack_masks(decode_rle([seen.rle for seen in frame.segments], size_hw))


class _Renaming:
    """Results of a piece under the numbers that its objects have in the video.

    Args:
        objects: of the video.
        names: numbers in the video, by those in the piece; those that are not known yet are added.
        begun: the first frame of a piece whose first frames do not count. Who was born on them is so when it is seen.
    """

    def __init__(self, objects: ObjectTable, names: dict[int, int], *, begun: int | None) -> None:
        self._objects = objects
        self._names = names
        self._begun = begun

    def result(self, frame: JournalFrame, events: Sequence[Event], size_hw: tuple[int, int]) -> FrameSegmentation:
        """A frame of the piece, and what happened on it, as one of the video."""
        before = set(self._names)
        # Under which number a category is written is decided anew, by the table.
        told = [
            event if event.track_id is None else replace(event, track_id=self._name(event.track_id))
            for event in events
            if event.kind != "renamed"
        ]
        born = {event.track_id for event in told if event.kind == "born"}
        ids = []
        for seen in frame.segments:
            segment = seen.segment
            record = self._objects[self._name(segment.track_id)]
            record.is_thing, record.prompt_id = segment.is_thing, segment.prompt_id
            record.category_votes = {} if segment.category is None else {segment.category: 1}
            record.score_sum, record.score_count = (0.0, 0) if segment.score is None else (segment.score, 1)
            ids.append(record.track_id)
            if self._begun is not None and segment.track_id not in before and record.track_id not in born:
                told.append(Event("born", record.track_id, f"found by the piece that begins on frame {self._begun}"))
        segments, labels, renamed = self._objects.segments(ids)
        masks_nhw = torch.zeros((len(segments), *size_hw), dtype=torch.bool)
        for label, mask_hw in zip(labels[1:], decode_rle([s.rle for s in frame.segments], size_hw), strict=True):
            masks_nhw[label - 1] |= mask_hw  # regions of one class are one segment
        result = FrameSegmentation.from_masks(frame.frame_index, segments, masks_nhw, revision=frame.revision)
        return replace(result, events=(*told, *renamed))

    def _name(self, track_id: int) -> int:
        if track_id not in self._names:
            self._names[track_id] = self._objects.add().track_id
        if self._names[track_id] not in self._objects:  # a prompt gave it this number
            self._objects.add(self._names[track_id])
        return self._names[track_id]
