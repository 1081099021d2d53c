"""Propagation between prompted frames, forward and backward, one object at a time; and the maps that come of it."""

from __future__ import annotations

import tempfile
import zlib
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.types import Frame, Propagator, resize_masks

Map: TypeAlias = NDArray[np.uint8]
"""``uint8[h, w]``, probability of an object in steps of 1/255."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Objects that are carried from a frame where they are given.

    Attributes:
        object_ids: the objects, all given on ``origin``.
        origin: frame it begins on.
        until: frame it ends before, where they are given again; None for the end of the video, or its beginning.
    """

    object_ids: tuple[int, ...]
    origin: int
    until: int | None

    def ends_before(self, index: int, *, backward: bool) -> bool:
        """Whether a frame lies beyond it."""
        return self.until is not None and (index <= self.until if backward else index >= self.until)

    def frames(self, indices: Sequence[int], *, backward: bool) -> Sequence[int]:
        """Those of the frames of a video that it needs, ascending."""
        if backward:
            first = 0 if self.until is None else bisect_right(indices, self.until)
            return indices[first : bisect_right(indices, self.origin)]
        stop = len(indices) if self.until is None else bisect_left(indices, self.until)
        return indices[bisect_left(indices, self.origin) : stop]


def plan(
    given: Mapping[int, Sequence[int]], stale: Mapping[int, set[int]], *, backward: bool, joint: bool
) -> list[Pass]:
    """The passes that frames with outdated maps need.

    Args:
        given: for each object the frames it is given on, ascending.
        stale: for each object the frames to find it on anew.
        backward: those backward, else those forward.
        joint: objects that are given on the same two frames share a pass.
    """
    passes: dict[tuple[int, int | None], list[int]] = defaultdict(list)
    for object_id, frames in given.items():
        outdated = sorted(stale[object_id])
        for before, after in pairwise([None, *frames, None]):
            first = 0 if before is None else bisect_right(outdated, before)
            stop = len(outdated) if after is None else bisect_left(outdated, after)
            origin, until = (after, before) if backward else (before, after)
            if first < stop and origin is not None:
                passes[origin, until].append(object_id)
    groups = [(ends, group) for ends, ids in passes.items() for group in ([ids] if joint else [[each] for each in ids])]
    return [Pass(tuple(group), origin, until) for (origin, until), group in groups]


def sweep(
    frames: Iterable[Frame],
    passes: Sequence[Pass],
    propagator: Propagator[Any, Any],
    mask_of: Callable[[int, int], Tensor],
    *,
    backward: bool,
) -> Iterator[tuple[Frame, Any, dict[int, Map]]]:
    """Run all passes of one direction at once, so that each frame is decoded and looked at once.

    Args:
        frames: in the order of the passes.
        passes: of one direction.
        propagator: carries masks.
        mask_of: of an object, on a frame it is given on; ``bool`` or ``float`` at any resolution.
        backward: the direction.

    Yields:
        Each frame; its features, or None where no pass is under way; and where objects were found on it. Frames that
        an object is given on are not among those it is found on.
    """
    waiting: dict[int, list[Pass]] = defaultdict(list)
    for each in passes:
        waiting[each.origin].append(each)
    active: list[tuple[Pass, Any]] = []
    for frame in frames:
        active = [(each, state) for each, state in active if not each.ends_before(frame.index, backward=backward)]
        beginning = waiting.pop(frame.index, [])
        features = propagator.encode(frame) if active or beginning else None
        found: dict[int, Map] = {}
        for n, (each, state) in enumerate(active):
            moved, probabilities = propagator.read(state, features)
            active[n] = each, moved
            found |= {i: quantised(probabilities[1 + c]) for c, i in enumerate(propagator.object_ids(moved))}
        for each in beginning:
            size_hw = propagator.size_hw(features)
            masks_nhw = torch.cat([resize_masks(mask_of(i, frame.index)[None], size_hw) for i in each.object_ids])
            start, _ = propagator.read(propagator.start(), features)
            active.append((each, propagator.write(start, features, masks_nhw, each.object_ids)))
        yield frame, features, found


def quantised(probabilities_hw: Tensor) -> Map:
    """Probabilities in 1/255."""
    rounded: Map = (probabilities_hw.float() * 255).round().cpu().numpy().astype(np.uint8)
    return rounded


def blended(ahead: Map | None, behind: Map | None, *, since: int, to: int) -> Map | None:
    """What two passes say of a frame between them: the mean, weighted by how near each began.

    Integers, rounded half up, so that a video run backward gives the same.

    Args:
        ahead: found by the pass forward, or None.
        behind: found by the pass backward, or None.
        since: how far back the first began.
        to: how far ahead the second began.
    """
    if ahead is None or behind is None:
        return behind if ahead is None else ahead
    total = since + to
    weighted = to * ahead.astype(np.int64) + since * behind.astype(np.int64)
    mean: Map = ((2 * weighted + total) // (2 * total)).astype(np.uint8)
    return mean


class MapStore:
    """Maps by key, compressed in a temporary file: memory does not grow with the size of pictures.

    Maps that were replaced stay in the file until it is closed.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0
        self._place_of_key: dict[tuple[int, int], tuple[int, int, tuple[int, int]]] = {}

    def put(self, key: tuple[int, int], found: Map) -> None:
        """Store a map of an object on a frame."""
        # Level 1: maps are almost everywhere 0 or 255.
        packed = zlib.compress(found.tobytes(), 1)
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the store
        self._file.seek(self._end)
        self._file.write(packed)
        self._place_of_key[key] = self._end, len(packed), (found.shape[0], found.shape[1])
        self._end += len(packed)

    def get(self, key: tuple[int, int]) -> Map | None:
        """The map stored last under this key, or None."""
        if self._file is None or key not in self._place_of_key:
            return None
        start, length, size_hw = self._place_of_key[key]
        self._file.seek(start)
        return np.frombuffer(zlib.decompress(self._file.read(length)), dtype=np.uint8).reshape(size_hw)

    def drop(self, key: tuple[int, int]) -> None:
        """Forget a map, if there is one."""
        self._place_of_key.pop(key, None)

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._file.close()
