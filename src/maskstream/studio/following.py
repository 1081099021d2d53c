"""Masks that are found: carried from those that a person gave, or by a model that finds objects by itself.

    given masks ─► passes backward ─► shown at once ─┐
                └► passes forward ───────────────────┴─► mean by distance ─► shown

Objects are carried as `OfflineDeva` does it, each by itself, from a given mask to the next. So a mask depends on the
two given ones around it and on nothing else, and is done again only if these are others. A given mask that is empty
says where an object is gone, not where it was: nothing is carried from there towards another given one. What is found
is written every few frames: a job that is stopped, or killed, leaves what it has found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.systems.deva.passes import Pass, blended, plan, sweep
from maskstream.types import (
    OBJECT,
    CategorySet,
    FrameSegmentation,
    InputError,
    Propagator,
    Segment,
    Task,
    TextPrompt,
    VideoSegmenter,
    decode_rle,
    rle_area,
)
from maskstream.video import prefetch
from maskstream.video.backward import frames_at, frames_backward

from . import doubt
from .jobs import Job, Jobs
from .project import Project
from .records import (
    NEXT_ID,
    Direction,
    Found,
    Mask,
    Object,
    Origin,
    SoftMap,
    area_of,
    found_key,
    given_key,
    mask_key,
    object_key,
    read_hard,
    read_soft,
    rle_bytes,
    soft_bytes,
)

Place: TypeAlias = tuple[int, int]
"""An object and a frame."""

EVERY_SECONDS = 0.5
"""Between two transactions of a job."""
EVERY_MASKS = 200
"""A transaction has no more masks than this, and one frame's."""
SAME = 0.5
"""IoU from which on what a model finds is an object that is there already."""


class Following:
    """Jobs that find masks.

    Args:
        project: whose.
        jobs: that run them.
        propagator: gives what carries masks; called in the thread of the job.
        segmenter: gives what finds objects by itself; called there, too. None where nothing does.
        names: of both, to be noted with what they find.
    """

    def __init__(
        self,
        project: Project,
        jobs: Jobs,
        *,
        propagator: Callable[[], Propagator[Any, Any]],
        segmenter: Callable[[], VideoSegmenter] | None = None,
        names: tuple[str, str] = ("propagator", "segmenter"),
    ) -> None:
        self._project = project
        self._jobs = jobs
        self._propagator = propagator
        self._segmenter = segmenter
        self._names = names

    def propagate(self, objects: Sequence[int] | None, first: int, last: int, direction: Direction) -> Job:
        """Carry objects from where they are given.

        Only what is missing is found, is outdated, followed from nothing, or another way than asked for.

        Args:
            objects: which; None for all that are given anywhere.
            first: frame to find them on.
            last: frame, too.
            direction: from the given masks "forward", "backward", or "both" ways. Those outside the range count.

        Raises:
            InputError: something does not fit, or nothing is given.
            BusyError: another job is under way.
        """
        if direction not in get_args(Direction):
            raise InputError(f"direction is forward, backward or both, not {direction!r}")
        self._check_range(first, last)
        index = self._project.index
        with self._project.store.lock:
            ids = sorted(index.objects) if objects is None else sorted(set(objects))
            for object_id in ids:
                self._project.check_object(object_id)
            given = [object_id for object_id in ids if index.track(object_id).given]
        if objects is not None and len(given) < len(ids):
            missing = min(set(ids) - set(given))
            raise InputError(f"{index.objects[missing].name} is not given on any frame: click on it first")
        if not given:
            raise InputError("no object is given on any frame: click on one first")
        return self._jobs.start(
            "propagate" if direction == "both" else f"propagate {direction}",
            lambda job: _Propagation(
                self._project, job, self._propagator(), self._names[0], given, range(first, last + 1), direction
            ).run(),
        )

    def find(self, first: int, last: int, text: str | None = None) -> Job:
        """Find objects, which become new ones.

        What is there already, where a new one begins, is not taken again.

        Args:
            first: frame to look at.
            last: frame, too.
            text: what to look for; None for everything.

        Raises:
            InputError: something does not fit, or there is no segmenter.
            BusyError: another job is under way.
        """
        self._check_range(first, last)
        load = self._segmenter
        if load is None:
            raise InputError("there is no segmenter that finds objects by itself: start the studio with one")
        if text is not None and not text.strip():
            raise InputError("the text is empty: say what to look for")
        frames = range(first, last + 1)
        return self._jobs.start(
            "find everything" if text is None else f"find {text.strip()!r}",
            lambda job: _Search(self._project, job, load(), self._names[1], frames, text).run(),
        )

    def _check_range(self, first: int, last: int) -> None:
        for frame in (first, last):
            self._project.check_frame(frame)
        if first > last:
            raise InputError(f"the range ends before it begins: {first} to {last}")


class _Results:
    """What a job finds, written every so often; one action."""

    def __init__(self, project: Project, job: Job) -> None:
        self._project = project
        self._job = job
        self._action = project.store.begin(job.what)
        self._waiting: dict[Place, tuple[Found, bytes]] = {}
        self._written = time.monotonic()

    def put(self, place: Place, about: Found, mask: bytes) -> None:
        """Keep a mask, to be written."""
        self._waiting[place] = about, mask

    def get(self, place: Place) -> tuple[Found, bytes] | None:
        """What is found at a place by now."""
        if place in self._waiting:
            return self._waiting[place]
        key, store = found_key(*place), self._project.store
        with store.lock:
            about, mask = store.get(key), store.get(mask_key(key))
        return None if about is None or mask is None else (Found.from_bytes(about), mask)

    def add(self, described: Callable[[int], Object]) -> int:
        """Make a new object, described by its number."""
        store = self._project.store
        with store.lock:
            (number,) = self._project.new_ids(1)
            if not self._add(number, described(number)):
                # Somebody made an object meanwhile, and that comes before this one: what follows is one more action.
                self._action = store.begin(self._job.what)
                self._add(number, described(number))
        return number

    def _add(self, number: int, described: Object) -> bool:
        with self._action.write() as write:
            taken = write.put(NEXT_ID, str(number + 1).encode())
            if taken:
                write.put(object_key(number), described.to_bytes())
        return taken

    def flush(self, *, now: bool = False) -> None:
        """Write what waits, if it is time."""
        late = time.monotonic() - self._written >= EVERY_SECONDS
        if self._waiting and (now or late or len(self._waiting) >= EVERY_MASKS):
            waiting, self._waiting = self._waiting, {}
            with self._project.store.lock:
                self._write(waiting)
                revision = self._project.revision
            self._written = time.monotonic()
            self._job.masks(revision, sorted({frame for _, frame in waiting}))

    def _write(self, waiting: Mapping[Place, tuple[Found, bytes]]) -> None:
        index = self._project.index
        with self._action.write() as write:
            for (object_id, frame), (about, mask) in waiting.items():
                # People go on while a job runs: what they gave meanwhile, or took away, is theirs.
                is_there = object_id in index.objects and frame not in index.track(object_id).given
                key = found_key(object_id, frame)
                if is_there and write.put(key, about.to_bytes()):
                    write.put(mask_key(key), mask)


class _Propagation:
    """One propagation; see `Following.propagate`.

    It starts from what is given when it begins: what comes of that is outdated where something else is given meanwhile.
    """

    def __init__(
        self,
        project: Project,
        job: Job,
        propagator: Propagator[Any, Any],
        model: str,
        ids: Sequence[int],
        frames: range,
        direction: Direction,
    ) -> None:
        self._project = project
        self._job = job
        self._propagator = propagator
        self._model = model
        self._direction = direction
        self._results = _Results(project, job)
        with project.store.lock:
            self._given = {i: dict(project.index.track(i).given) for i in ids}
            to_find = {i: project.index.to_find(i, direction) for i in ids}
            self._wanted = {i: _inside(frames, wanted) for i, (wanted, _) in to_find.items()}
            ahead = {} if direction == "backward" else self._wanted
            behind = {} if direction == "forward" else self._wanted
            if direction == "both":  # what a pass backward found, and is up to date, is found
                behind = {i: wanted - _inside(frames, to_find[i][1]) for i, wanted in behind.items()}
            self._ahead, self._behind = self._plan(ahead, backward=False), self._plan(behind, backward=True)
            passes = [*self._ahead, *self._behind]
            origins = {(i, each.origin) for each in passes for i in each.object_ids}
            self._masks = {place: project.store.get(mask_key(given_key(*place))) for place in origins}

    def run(self) -> None:
        """Find everything."""
        every = range(self._project.frames)
        needed = [
            sorted({frame for each in passes for frame in each.frames(every, backward=passes is self._behind)})
            for passes in (self._behind, self._ahead)
        ]
        total, video = sum(map(len, needed)), self._project.video
        done = 0
        try:
            for backward in (True, False):
                indices = needed[0 if backward else 1]
                read = frames_backward(video, indices) if backward else frames_at(video, indices)
                passes = self._behind if backward else self._ahead
                with closing(prefetch(read)) as frames:
                    for frame, _, found in sweep(frames, passes, self._propagator, self._mask, backward=backward):
                        for object_id, map_hw in found.items():
                            if frame.index in self._wanted[object_id]:
                                self._settle((object_id, frame.index), map_hw, backward=backward)
                        self._results.flush()
                        done += 1
                        self._job.advance(done, total)
        finally:
            self._results.flush(now=True)

    def _plan(self, wanted: Mapping[int, set[int]], *, backward: bool) -> list[Pass]:
        """Passes, no longer than they have to be."""
        given = {i: sorted(self._given[i]) for i in wanted}
        return [
            _trimmed(each, wanted, backward=backward) for each in plan(given, wanted, backward=backward, joint=False)
        ]

    def _mask(self, object_id: int, frame: int) -> Tensor:
        mask = self._masks[object_id, frame]
        assert mask is not None, "a given mask is there as long as it is known"
        return torch.from_numpy(read_hard(mask))

    def _origin_beside(self, place: Place, *, after: bool) -> Origin | None:
        """The nearest given mask before or after."""
        object_id, frame = place
        given = self._given[object_id]
        beside = [f for f in given if (f > frame if after else f < frame)]
        nearest = min(beside, key=lambda f: abs(f - frame), default=None)
        return None if nearest is None else Origin(nearest, given[nearest].digest)

    def _is_empty(self, object_id: int, origin: Origin | None) -> bool:
        """Whether somebody said that an object is not there."""
        return origin is not None and self._given[object_id][origin.frame].area == 0

    def _settle(self, place: Place, map_hw: SoftMap, *, backward: bool) -> None:
        """Decide where an object is on a frame by what a pass found."""
        before, after = (self._origin_beside(place, after=after) for after in (False, True))
        direction, blur, agreed = self._direction, doubt.blur(map_hw), None
        gone = self._is_empty(place[0], after)
        if backward and direction == "both" and before is not None:
            if gone:
                return  # the pass forward says all
            direction, before = "backward", None  # for now
        elif not backward and direction == "both" and before is not None and after is not None and not gone:
            earlier = self._results.get(place)
            if earlier is not None and earlier[0].direction == "backward" and earlier[0].after == after:
                behind_hw = read_soft(earlier[1])
                if self._is_empty(place[0], before):
                    self._results.put(place, replace(earlier[0], direction="both", before=before), earlier[1])
                    return
                # Of each by itself: where they disagree the mean of both is blurred, too.
                blur, agreed = max(blur, doubt.blur(behind_hw)), doubt.agreement(map_hw, behind_hw)
                mixed = blended(map_hw, behind_hw, since=place[1] - before.frame, to=after.frame - place[1])
                assert mixed is not None
                map_hw = mixed
            else:  # taken away meanwhile
                direction, after = "forward", None
        about = Found(
            self._model,
            area_of(map_hw > 127),
            direction,
            None if direction == "backward" else before,
            None if direction == "forward" else after,
            blur,
            agreed,
        )
        self._results.put(place, about, soft_bytes(map_hw))


class _Search:
    """One search; see `Following.find`."""

    def __init__(
        self,
        project: Project,
        job: Job,
        segmenter: VideoSegmenter,
        model: str,
        frames: range,
        text: str | None,
    ) -> None:
        self._project = project
        self._job = job
        self._model = model
        self._frames = frames
        self._results = _Results(project, job)
        task, categories, prompts = _task(segmenter, text, frames[0])
        self._session = segmenter.start(task, size_hw=project.size_hw, fps=project.fps, categories=categories)
        self._session.prompt(prompts)
        named = categories or next(iter(segmenter.label_spaces.values()), OBJECT)
        self._names = {} if named == OBJECT else {category.id: category.name for category in named.categories}
        self._sentence = text.strip() if text is not None and prompts else ""
        self._number: dict[int, int | None] = {}
        with project.store.lock:
            self._known = set(project.index.objects)

    def run(self) -> None:
        """Find everything."""
        done = 0
        try:
            with closing(prefetch(frames_at(self._project.video, self._frames))) as frames:
                for frame in frames:
                    for result in self._session.step(frame):
                        self._take(result)
                    self._results.flush()
                    done += 1
                    self._job.advance(done, len(self._frames))
            for result in self._session.finish():
                self._take(result)
        finally:
            self._results.flush(now=True)

    def _take(self, result: FrameSegmentation) -> None:
        pixels = result.size_hw[0] * result.size_hw[1]
        for segment, code in zip(result.segments, result.to_rle(), strict=True):
            area = rle_area(code)
            if not area:
                continue
            if segment.track_id not in self._number:
                mask_hw = decode_rle([code], result.size_hw)[0].numpy()
                is_known = self._is_known(mask_hw, result.frame_index)
                self._number[segment.track_id] = None if is_known else self._new(segment)
            number = self._number[segment.track_id]
            if number is not None:
                about = Found(self._model, round(area / pixels, 8))
                self._results.put((number, result.frame_index), about, rle_bytes(code))

    def _new(self, segment: Segment) -> int:
        category = "" if segment.category is None else self._names.get(segment.category, "")
        return self._results.add(lambda number: Object.new(number, category=category or self._sentence))

    def _is_known(self, mask_hw: Mask, frame: int) -> bool:
        """Whether it is an object that was there before."""
        labels = self._project.label_map(frame)
        for object_id in self._known & set(np.unique(labels[mask_hw]).tolist()):
            other = labels == object_id
            if np.count_nonzero(other & mask_hw) >= SAME * np.count_nonzero(other | mask_hw):
                return True
        return False


def _inside(frames: range, flags_t: NDArray[np.bool_]) -> set[int]:
    """The frames of a range that are flagged."""
    return {frame for frame in np.flatnonzero(flags_t).tolist() if frame in frames}


def _trimmed(each: Pass, wanted: Mapping[int, set[int]], *, backward: bool) -> Pass:
    """A pass that ends behind the last frame that is wanted of it."""
    ahead = (frame for i in each.object_ids for frame in wanted[i] if (frame < each.origin) == backward)
    reached = [frame for frame in ahead if not each.ends_before(frame, backward=backward)]
    return replace(each, until=min(reached) - 1 if backward else max(reached) + 1)


def _task(
    segmenter: VideoSegmenter, text: str | None, first: int
) -> tuple[Task, CategorySet | None, Sequence[TextPrompt]]:
    """What a segmenter is asked for, the classes that are meant, and sentences.

    Raises:
        InputError: it finds nothing by itself, has to be told, or cannot be.
    """
    able = [task for task in (Task.VPS, Task.UVOS, Task.OWVS, Task.VIS, Task.VSS) if task in segmenter.tasks]
    known = next(iter(segmenter.label_spaces.values()), OBJECT)
    names = list(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
    if not able and not (names and Task.REFVOS in segmenter.tasks):
        raise InputError("this segmenter follows what is pointed at and finds nothing by itself: choose another")
    if text is None:
        if segmenter.open_vocabulary and known == OBJECT:
            raise InputError("this segmenter finds what it is told to look for: give a text")
        return able[0], None if known == OBJECT else known, ()
    if set(names) <= set(known.names) and able:
        return able[0], CategorySet(known.name, tuple(c for c in known.categories if c.name in names)), ()
    if segmenter.open_vocabulary and able:
        return able[0], CategorySet.from_names(names), ()
    if Task.REFVOS in segmenter.tasks:
        return Task.REFVOS, None, (TextPrompt(text.strip(), kind="expression", frame_index=first),)
    listed = ", ".join(known.names) if known != OBJECT else "nothing by name"
    raise InputError(f"this segmenter does not know {text.strip()!r}; it knows {listed}"[:400])
