"""What is known about the masks of a project, in memory: which there are, what they followed from, how sure they are.

A table for each object with a row for each frame, so that questions about thousands of frames are a few operations on
arrays. Masks themselves are never here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from . import doubt
from .records import Direction, Found, Given, Json, Object, Origin

BoolArray = NDArray[np.bool_]

MOST_DOUBTFUL = 500
"""Doubtful frames that are listed."""
_FORWARD, _BACKWARD = 1, 2
_SIDES: dict[Direction | None, int] = {None: 0, "forward": _FORWARD, "backward": _BACKWARD, "both": 3}
_ROW = np.dtype(
    [
        ("there", "?"),
        ("sides", "u1"),
        ("before", "i4"),
        ("before_digest", "u8"),
        ("after", "i4"),
        ("after_digest", "u8"),
        ("area", "f4"),
        ("blur", "f4"),
        ("agreement", "f4"),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The nearest given mask of each frame: frame, or -1, and digest, or 0; not the one on the frame itself."""

    before_t: NDArray[np.int64]
    before_digest_t: NDArray[np.uint64]
    after_t: NDArray[np.int64]
    after_digest_t: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Doubtful:
    """Doubtful frames of an object: which, how much, and why, see `doubt.doubts`."""

    frames_n: NDArray[np.int64]
    doubt_n: NDArray[np.float32]
    why_n: NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Track:
    """One object.

    Attributes:
        given: what is known about its given masks, by frame.
        found_t: a row for each frame.
        about: of `Index.summary`, while nothing changes.
    """

    found_t: NDArray[np.void]
    given: dict[int, Given] = field(default_factory=dict)
    about: tuple[Json, Doubtful] | None = None


class Index:
    """Everything but the masks. Whoever uses it holds the lock of the store.

    Args:
        frames: of the video.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.objects: dict[int, Object] = {}
        self._tracks: dict[int, Track] = {}

    def update(self, values: Mapping[str, bytes | None]) -> None:
        """Take in values by key, as they are now; None for those that are there no more."""
        for key, value in values.items():
            kind, _, rest = key.partition("/")
            if kind == "object":
                self._describe(int(rest), value)
            elif kind in ("given", "found"):
                object_id, _, frame = rest.partition("/")
                track = self.track(int(object_id))
                track.about = None
                if kind == "given":
                    self._set_given(track, int(frame), value)
                else:
                    self._set_found(track, int(frame), value)

    def track(self, object_id: int) -> Track:
        """The masks of an object."""
        if object_id not in self._tracks:
            self._tracks[object_id] = Track(np.zeros(self.frames, _ROW))
        return self._tracks[object_id]

    def given_frames(self, object_id: int) -> list[int]:
        """Frames on which an object is given, ascending."""
        return sorted(self.track(object_id).given)

    def found_frames(self, object_id: int) -> list[int]:
        """Frames on which an object is found, ascending."""
        frames: list[int] = np.flatnonzero(self.track(object_id).found_t["there"]).tolist()
        return frames

    def annotated_frames(self) -> list[int]:
        """Frames on which any object is given or found."""
        there = np.zeros(self.frames, bool)
        for object_id in self.objects:
            there |= self.track(object_id).found_t["there"] | self._is_given(object_id)
        frames: list[int] = np.flatnonzero(there).tolist()
        return frames

    def nearest(self, object_id: int) -> Nearest:
        """The nearest given masks of each frame."""
        given = self.track(object_id).given
        at = np.array(sorted(given), np.int64)
        digests = np.array([0, *(given[frame].digest for frame in at.tolist()), 0], np.uint64)
        bounded = np.concatenate([[-1], at, [-1]])
        frames = np.arange(self.frames)
        before, after = np.searchsorted(at, frames, "left"), np.searchsorted(at, frames, "right") + 1
        return Nearest(bounded[before], digests[before], bounded[after], digests[after])

    def origins(self, object_id: int, frame: int) -> tuple[Origin | None, Origin | None]:
        """The nearest given masks before and after a frame."""
        given = self.track(object_id).given
        before = max((f for f in given if f < frame), default=None)
        after = min((f for f in given if f > frame), default=None)
        first, last = (None if f is None else Origin(f, given[f].digest) for f in (before, after))
        return first, last

    def outdated(self, object_id: int) -> BoolArray:
        """``bool[T]``: found masks that followed from given ones which are not the nearest now.

        Empty ones, too: that an object is gone followed from the same, and may be wrong now.
        """
        found_t, nearest = self.track(object_id).found_t, self.nearest(object_id)
        ahead = (found_t["before"] != nearest.before_t) | (found_t["before_digest"] != nearest.before_digest_t)
        behind = (found_t["after"] != nearest.after_t) | (found_t["after_digest"] != nearest.after_digest_t)
        wrong = (ahead & (found_t["sides"] & _FORWARD > 0)) | (behind & (found_t["sides"] & _BACKWARD > 0))
        outdated: BoolArray = wrong & found_t["there"] & ~self._is_given(object_id)
        return outdated

    def to_find(self, object_id: int, direction: Direction) -> tuple[BoolArray, BoolArray]:
        """The frames that are not found as they would be now, and can be: missing, outdated, of another direction, or
        following from nothing.

        Returns:
            ``bool[T]``, frames to be found; and those of them that what was found backward is there for, up to date.
        """
        found_t, nearest, sides = self.track(object_id).found_t, self.nearest(object_id), _SIDES[direction]
        has_before, has_after = nearest.before_t >= 0, nearest.after_t >= 0
        usable = (np.where(has_before, _FORWARD, 0) | np.where(has_after, _BACKWARD, 0)) & sides
        covered = found_t["there"] & (found_t["sides"] > 0) & (usable & ~found_t["sides"] == 0)
        fresh = covered & ~self.outdated(object_id)
        wanted = (usable > 0) & ~fresh & ~self._is_given(object_id)
        behind = found_t["there"] & (found_t["sides"] == _BACKWARD) & ~self.outdated(object_id)
        return wanted, wanted & behind

    def summary(self) -> tuple[list[Json], list[Json]]:
        """Objects, and the most doubtful of their frames, the worst first, as plain data."""
        ids = sorted(self.objects)
        about = {object_id: self._about(object_id) for object_id in ids}
        described = []
        for object_id, (masks, _) in about.items():
            it = self.objects[object_id]
            shown = {"name": it.name, "category": it.category, "colour": it.colour, "visible": it.visible}
            described.append({"id": object_id, **shown, **masks})
        return described, _worst({object_id: doubtful for object_id, (_, doubtful) in about.items()})

    def _about(self, object_id: int) -> tuple[Json, Doubtful]:
        track = self.track(object_id)
        if track.about is None:
            found = track.found_t["there"] & ~self._is_given(object_id)
            given, outdated = sorted(track.given), runs(self.outdated(object_id))
            seen = runs(found & (track.found_t["area"] > 0))  # where it is gone, it was looked for in vain
            masks = {"given": given, "found": seen, "outdated": outdated}
            track.about = masks, self._doubtful(object_id, found)
        return track.about

    def _doubtful(self, object_id: int, found: BoolArray) -> Doubtful:
        track = self.track(object_id)
        unknown = np.float32(np.nan)
        areas, blur, agreed = (np.where(found, track.found_t[n], unknown) for n in ("area", "blur", "agreement"))
        for frame, given in track.given.items():
            areas[frame] = given.area
        doubt_t, why_t = doubt.doubts(areas, blur, agreed)
        frames = np.flatnonzero(found & (doubt_t >= doubt.DOUBTFUL))
        return Doubtful(frames, doubt_t[frames], why_t[frames])

    def _is_given(self, object_id: int) -> BoolArray:
        is_given = np.zeros(self.frames, bool)
        is_given[list(self.track(object_id).given)] = True
        return is_given

    def _describe(self, object_id: int, value: bytes | None) -> None:
        if value is None:
            self.objects.pop(object_id, None)
        else:
            self.objects[object_id] = Object.from_bytes(value)

    @staticmethod
    def _set_given(track: Track, frame: int, value: bytes | None) -> None:
        if value is None:
            track.given.pop(frame, None)
        else:
            track.given[frame] = Given.from_bytes(value)

    @staticmethod
    def _set_found(track: Track, frame: int, value: bytes | None) -> None:
        if value is None:
            track.found_t[frame] = np.zeros((), _ROW)
            return
        found = Found.from_bytes(value)
        before, after = found.before or Origin(-1, 0), found.after or Origin(-1, 0)
        nothing = float("nan")
        track.found_t[frame] = (
            True,
            _SIDES[found.direction],
            before.frame,
            before.digest,
            after.frame,
            after.digest,
            found.area,
            nothing if found.blur is None else found.blur,
            nothing if found.agreement is None else found.agreement,
        )


def _worst(doubtful: Mapping[int, Doubtful]) -> list[Json]:
    """The most doubtful frames of all objects; of equal ones the first."""
    if not doubtful:
        return []
    ids = np.concatenate([np.full(len(one.frames_n), object_id) for object_id, one in doubtful.items()])
    frames, doubts, why = (
        np.concatenate([getattr(one, name) for one in doubtful.values()]) for name in ("frames_n", "doubt_n", "why_n")
    )
    worst = np.lexsort([ids, frames, -doubts])[:MOST_DOUBTFUL]
    columns = (column[worst].tolist() for column in (ids, frames, doubts, why))
    return [
        {"frame": frame, "object": object_id, "doubt": round(value, 3), "why": doubt.REASONS[reason]}
        for object_id, frame, value, reason in zip(*columns, strict=True)
    ]


def runs(flags_t: BoolArray) -> list[list[int]]:
    """First and last of each run of True.

    >>> runs(np.array([True, True, False, True]))
    [[0, 1], [3, 3]]
    """
    edges = np.flatnonzero(np.diff(flags_t.astype(np.int8), prepend=0, append=0))
    return [[first, end - 1] for first, end in edges.reshape(-1, 2).tolist()]
