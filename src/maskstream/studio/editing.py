"""What people do to a project. Each method is one action: all of it is done, or it raises and nothing is.

clicks, box, scribble ─► the prompter, with the mask so far ─► given mask
brush, eraser ─────────► the mask so far, painted on ────────► given mask
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from tempfile import TemporaryFile
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import torch
from scipy import ndimage

from maskstream.prompt_queue import WaitingPrompts
from maskstream.types import (
    BoxPrompt,
    ImageSegmenter,
    InputError,
    MaskPrompt,
    ObjectPrompt,
    Point,
    PointPrompt,
    ScribblePrompt,
    resize_masks,
)

from .history import Step, Write
from .jobs import Jobs
from .project import Change, Project, own_mask
from .records import (
    NEXT_ID,
    Found,
    Given,
    Json,
    Mask,
    Object,
    area_of,
    digest,
    found_key,
    given_key,
    given_values,
    hard_bytes,
    is_soft,
    mask_key,
    object_key,
    places,
    prompts_key,
    read_soft,
    soft_bytes,
    to_json,
)

Split: TypeAlias = Literal["time", "regions"]

KEPT_FEATURES = 4
"""Frames whose features are kept between clicks."""
LEAST_PART = 0.01
"""Parts of a mask that are smaller than this fraction of it are no objects of their own."""
MOST_POINTS = 10_000
"""Points of a stroke, and prompts of an object on a frame."""
LARGEST_RADIUS, FARTHEST = 1000.0, 2**20
"""Of a brush, and of its stroke from the corner of the picture; in pixels."""


class Editor:
    """The actions of people. Threads may share it; actions are one after the other.

    Args:
        project: that is edited.
        prompter: turns clicks, boxes and scribbles into masks; None where there is none.
        jobs: stopped before something is undone.
    """

    def __init__(self, project: Project, prompter: ImageSegmenter[Any] | None = None, jobs: Jobs | None = None) -> None:
        self.project = project
        self._prompter = prompter
        self._jobs = jobs
        self._store = project.store
        self._index = project.index
        self._editing = threading.Lock()
        self._features: OrderedDict[int, Any] = OrderedDict()

    # ------------------------------------------------------------------ pointing

    def prompt(self, frame: int, object_id: int | None, prompts: Sequence[Mapping[str, Json]]) -> Change:
        """Point at an object.

        All that was pointed at for an object on a frame acts together, and refines what the object is there: what was
        found, too. A box begins anew.

        Args:
            frame: it is seen on.
            object_id: the object; None for a new one.
            prompts: new ones, or those so far and new ones: ``{"kind": "point", "x", "y", "positive"}``, ``{"kind":
                "box", "box": [x0, y0, x1, y1]}`` or ``{"kind": "scribble", "stroke": [[x, y], …], "positive"}``, in
                pixels of the video.

        Raises:
            InputError: one of them does not fit, or nothing is found where they point.
        """
        with self._editing:
            self._check(frame, object_id)
            if self._prompter is None:
                raise InputError("there is no prompter, so clicks mean nothing: paint with the brush")
            before = self._said(frame, object_id) if object_id is not None else []
            new = [plain for plain in map(_plain, _listed(prompts, "prompts")) if plain not in before]
            if not new:
                raise InputError("nothing new is pointed at: give a point, a box or a scribble")
            boxes = [n for n, plain in enumerate(new) if plain["kind"] == "box"]
            said = new[boxes[-1] :] if boxes else [*before, *new]
            so_far = None if boxes else self._mask(frame, object_id)
            mask = self._segmented(frame, object_id, said, so_far)
            what = {"point": "click on", "box": "box around", "scribble": "scribble on"}[said[-1]["kind"]]
            return self._give(frame, object_id, mask, what, prompts=to_json(said))

    def brush(
        self, frame: int, object_id: int | None, stroke_xy: Sequence[Point], radius: float, *, erase: bool = False
    ) -> Change:
        """Paint an object, or erase of it.

        Args:
            frame: painted on.
            object_id: the object; None for a new one.
            stroke_xy: where the brush went, in pixels of the video.
            radius: of the brush, in pixels.
            erase: take away.

        Raises:
            InputError: the stroke does not fit, or there is nothing to erase.
        """
        with self._editing:
            self._check(frame, object_id)
            painted = self._painted(stroke_xy, radius)
            so_far = self._mask(frame, object_id)
            if not erase:
                mask = painted if so_far is None else so_far | painted
            elif so_far is None or not so_far.any():
                raise InputError(f"there is nothing to erase on frame {frame}: the object is not there")
            else:
                mask = so_far & ~painted
            return self._give(frame, object_id, mask, "erase of" if erase else "paint", prompts=None)

    def give(self, masks: Mapping[tuple[int, int], Mask], label: str = "give masks") -> Change:
        """Take masks as they are.

        Args:
            masks: ``bool[H, W]`` at the size of the video, by object, which must be there, and frame.
            label: of the action.

        Raises:
            InputError: one does not fit.
        """
        with self._editing:
            for (object_id, frame), mask_hw in masks.items():
                self._check(frame, object_id)
                self._check_mask(mask_hw, frame)
            with self._store.action(label) as write:
                for (object_id, frame), mask_hw in masks.items():
                    self._write_given(write, object_id, frame, mask_hw, prompts=None)
            return self._changed(write)

    def adopt(
        self,
        frames: Iterable[tuple[int, Mapping[int, Mask]]],
        described: Mapping[int, tuple[str | None, str]] | None = None,
        *,
        label: str = "import",
        model: str = "import",
    ) -> Change:
        """Take masks in as new objects, as if they had been found: they can be corrected, and are never outdated.

        Args:
            frames: numbers of frames, each with masks ``bool[H, W]`` by any number that tells objects apart; gone over
                once, and never held.
            described: name (None for a usual one) and category ("" for none) of objects, by those numbers; read after
                the frames.
            label: of the action.
            model: what found them.

        Raises:
            InputError: one does not fit, or there is none; nothing is changed.
        """
        with self._editing, closing(_Spool(self._coded(frames))) as spool:
            if not spool.numbers:
                raise InputError("there is no mask to take in: every frame is empty")
            with self._store.lock:
                ids = dict(zip(spool.numbers, self.project.new_ids(len(spool.numbers)), strict=True))
                with self._store.action(label) as write:
                    for number, object_id in ids.items():
                        name, category = (described or {}).get(number, (None, ""))
                        usual = Object.new(object_id)
                        it = usual.described(name=name or None, category=category, colour=None, visible=None)
                        self._write_new(write, object_id, it)
                    for one in spool:
                        key = found_key(ids[one.number], one.frame)
                        write.put(key, Found(model, one.area).to_bytes())
                        write.put(mask_key(key), one.value)
            return self._changed(write)

    # ------------------------------------------------------------------- objects

    def clear(self, frame: int, object_id: int) -> Change:
        """Take away what is known of an object on a frame: given, found and pointed at.

        Raises:
            InputError: nothing is.
        """
        with self._editing:
            self._check(frame, object_id)
            with self._store.action(f"clear {self._name(object_id)}") as write:
                for key in (given_key(object_id, frame), found_key(object_id, frame)):
                    write.put(key, None)
                    write.put(mask_key(key), None)
                write.put(prompts_key(object_id, frame), None)
                if not write.changed:
                    raise InputError(f"{self._name(object_id)} is neither given nor found on frame {frame}")
            return self._changed(write, object_id)

    def describe(
        self,
        object_id: int,
        *,
        name: str | None = None,
        category: str | None = None,
        colour: str | None = None,
        visible: bool | None = None,
    ) -> Change:
        """Say what an object is called, its category and colour, and whether it is shown; None leaves it as it is.

        Raises:
            InputError: one of them does not fit.
        """
        with self._editing:
            self.project.check_object(object_id)
            before = self._index.objects[object_id]
            after = before.described(name=name, category=category, colour=colour, visible=visible)
            if visible is not None and after.visible != before.visible:
                label = f"{'show' if visible else 'hide'} {before.name}"
            else:
                label = f"describe {after.name}"
            with self._store.action(label) as write:
                write.put(object_key(object_id), after.to_bytes())
            return self._changed(write, object_id)

    def delete(self, object_id: int) -> Change:
        """Take an object away, on all frames.

        Raises:
            InputError: there is none.
        """
        with self._editing:
            self.project.check_object(object_id)
            with self._store.action(f"delete {self._name(object_id)}") as write:
                self._write_deleted(write, object_id)
            return self._changed(write, object_id)

    def merge(self, into: int, others: Sequence[int]) -> Change:
        """Make several objects one.

        On frames where one of them is given the union of all is given, on others the union is found. It follows from
        nothing: to carry on what was given, propagate.

        Args:
            into: the object that stays.
            others: those that become part of it.

        Raises:
            InputError: one of them is not there, or is named twice.
        """
        ids = [into, *_listed(others, "objects")]
        with self._editing:
            for object_id in ids:
                self.project.check_object(object_id)
            if len(ids) < 2 or len(set(ids)) < len(ids):
                raise InputError("two different objects at least are needed to merge: choose another")
            names = " and ".join(self._name(object_id) for object_id in ids[1:])
            with self._store.lock:
                given = {frame for object_id in ids for frame in self._index.given_frames(object_id)}
                found = {frame for object_id in ids for frame in self._index.found_frames(object_id)}
            with (
                closing(_Spool(self._unions(ids, sorted(given | found), given))) as spool,
                self._store.action(f"merge {names} into {self._name(into)}") as write,
            ):
                for object_id in ids[1:]:
                    self._write_deleted(write, object_id)
                for one in spool:
                    is_given = one.frame in given
                    key = given_key(into, one.frame) if is_given else found_key(into, one.frame)
                    about = Given(write.action, digest(one.value), one.area) if is_given else Found("merged", one.area)
                    write.put(key, about.to_bytes())
                    write.put(mask_key(key), one.value)
                    write.put(prompts_key(into, one.frame), None)
            return self._changed(write, into)

    def split(self, object_id: int, frame: int, how: Split) -> Change:
        """Make two or more objects of one.

        Args:
            object_id: the object.
            frame: by "time": from here on it is a new object; all that is given and found there moves. By "regions":
                the connected parts of its mask on this frame become objects, given there; the largest stays.
            how: one of these.

        Returns:
            The change; its object is the new one, or the first of them.

        Raises:
            InputError: there is nothing to split.
        """
        if how not in ("time", "regions"):
            raise InputError(f"an object is split by time or by regions, not by {how!r}")
        with self._editing:
            self._check(frame, object_id)
            return self._split_time(object_id, frame) if how == "time" else self._split_regions(object_id, frame)

    # ------------------------------------------------------------------- history

    def undo(self) -> Change:
        """Undo the last action. A job that is under way is stopped first.

        Raises:
            InputError: there is none.
        """
        return self._stepped(self._store.undo, "undo")

    def redo(self) -> Change:
        """Do again what was undone last. A job that is under way is stopped first.

        Raises:
            InputError: nothing was undone.
        """
        return self._stepped(self._store.redo, "do again")

    def _stepped(self, step: Callable[[], Step | None], what: str) -> Change:
        # Before the lock is taken: a job may be waiting for it.
        if self._jobs is not None:
            self._jobs.stop()
        with self._editing:
            done = step()
            if done is None:
                raise InputError(f"there is nothing to {what}")
            frames = sorted({frame for _, frame in places(done.keys)})
            return Change(done.revision, tuple(frames), None, done.label)

    # --------------------------------------------------------------------- parts

    def _check(self, frame: int, object_id: int | None) -> None:
        self.project.check_frame(frame)
        if object_id is not None:
            self.project.check_object(object_id)

    def _check_mask(self, mask_hw: Mask, frame: int) -> None:
        if mask_hw.dtype != np.bool_ or mask_hw.shape != self.project.size_hw:
            raise InputError(
                f"a mask of frame {frame} is {mask_hw.dtype}{list(mask_hw.shape)}, "
                f"but the video needs bool{list(self.project.size_hw)}"
            )

    def _name(self, object_id: int) -> str:
        return self._index.objects[object_id].name

    def _mask(self, frame: int, object_id: int | None) -> Mask | None:
        """An object as it is seen on a frame; None where nothing is known."""
        if object_id is None or object_id not in self.project.stored(frame):
            return None
        mask: Mask = self.project.label_map(frame) == object_id
        return mask

    def _said(self, frame: int, object_id: int) -> list[Json]:
        said: list[Json] = json.loads(self._store.get(prompts_key(object_id, frame)) or b"[]")
        return said

    def _segmented(self, frame: int, object_id: int | None, said: Sequence[Json], so_far: Mask | None) -> Mask:
        number = object_id or self.project.new_ids(1)[0]
        refines = so_far is not None and bool(so_far.any())
        check = WaitingPrompts(self.project.size_hw)
        prompts = [check.checked(_prompt(plain, frame, number, add=refines), emitted=-1) for plain in said]
        if not refines and not any(plain["kind"] == "box" or plain["positive"] for plain in said):
            raise InputError("all points and strokes are off the object: give one that is on it")
        if refines and so_far is not None:
            prompts.insert(0, MaskPrompt(frame, number, torch.from_numpy(so_far)))
        assert self._prompter is not None
        proposals = self._prompter.segment(self._encoded(frame), prompts)
        mask_hw: Mask = (resize_masks(proposals.masks_nhw, self.project.size_hw)[0] >= 0.5).cpu().numpy()
        return mask_hw

    def _encoded(self, frame: int) -> Any:
        assert self._prompter is not None
        if frame not in self._features:
            (self._features[frame],) = self._prompter.encode([self.project.video[frame]])
        self._features.move_to_end(frame)
        while len(self._features) > KEPT_FEATURES:
            self._features.popitem(last=False)
        return self._features[frame]

    def _painted(self, stroke_xy: Sequence[Point], radius: float) -> Mask:
        points = [_point(point) for point in _listed(stroke_xy, "the stroke")]
        if not points:
            raise InputError("the stroke has no point")
        if not (isinstance(radius, int | float) and 0 < radius <= LARGEST_RADIUS):
            raise InputError(f"the radius of the brush is more than 0 and at most {LARGEST_RADIUS:g}, not {radius}")
        # A brush beside the picture reaches into it.
        margin = int(np.ceil(radius))
        height, width = self.project.size_hw
        away = np.ones((height + 2 * margin, width + 2 * margin), np.uint8)
        dots = np.rint([points[0], *points]).clip(-FARTHEST, FARTHEST).astype(np.int32) + margin
        cv2.polylines(away, [dots], False, 0)  # it draws nothing of a single point
        distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        painted: Mask = distance[margin : margin + height, margin : margin + width] <= radius
        return painted

    def _give(self, frame: int, object_id: int | None, mask: Mask, what: str, *, prompts: bytes | None) -> Change:
        if object_id is None and not mask.any():
            raise InputError("nothing is there: point at another place, or paint")
        with self._store.lock:
            number = object_id or self.project.new_ids(1)[0]
            name = self._name(number) if object_id else Object.new(number).name
            with self._store.action(f"{what} {name}") as write:
                if object_id is None:
                    self._write_new(write, number, Object.new(number))
                self._write_given(write, number, frame, mask, prompts=prompts)
        return self._changed(write, number)

    @staticmethod
    def _write_new(write: Write, object_id: int, described: Object) -> None:
        write.put(NEXT_ID, str(object_id + 1).encode())
        write.put(object_key(object_id), described.to_bytes())

    @staticmethod
    def _write_given(write: Write, object_id: int, frame: int, mask_hw: Mask, *, prompts: bytes | None) -> None:
        for key, value in given_values(object_id, frame, mask_hw, action=write.action).items():
            write.put(key, value)
        write.put(prompts_key(object_id, frame), prompts)

    def _write_deleted(self, write: Write, object_id: int) -> None:
        write.put(object_key(object_id), None)
        kinds = ("prompts/", "given/", "found/", "mask/given/", "mask/found/")
        for key in [key for kind in kinds for key in self._store.keys(f"{kind}{object_id}/")]:
            write.put(key, None)

    def _move(self, write: Write, key: str, new_key: str) -> None:
        write.put(new_key, self._store.get(key))
        write.put(key, None)

    def _changed(self, write: Write, object_id: int | None = None) -> Change:
        frames = sorted({frame for _, frame in places(write.changed)})
        return Change(self.project.revision, tuple(frames), object_id, write.label)

    # --------------------------------------------------------- merging, splitting

    def _union(self, ids: Sequence[int], frame: int, *, given: bool) -> tuple[bytes, float]:
        """What is known of several objects on a frame, as one mask, and its area; as probabilities where all have them
        and of one size, unless somebody is to have given it."""
        stored = self.project.stored(frame)
        values = [stored[object_id].mask for object_id in ids if object_id in stored]
        maps = [read_soft(value) for value in values if is_soft(value)]
        if not given and len(maps) == len(values) and len({one.shape for one in maps}) == 1:
            union = np.maximum.reduce(maps)
            return soft_bytes(union), area_of(union > 127)
        mask_hw = np.logical_or.reduce([own_mask(value, self.project.size_hw) for value in values])
        return hard_bytes(mask_hw), area_of(mask_hw)

    def _unions(self, ids: Sequence[int], frames: Iterable[int], given: Collection[int]) -> Iterator[_Kept]:
        for frame in frames:
            value, area = self._union(ids, frame, given=frame in given)
            yield _Kept(frame, ids[0], area, value)

    def _split_time(self, object_id: int, frame: int) -> Change:
        with self._store.lock:
            given, found = self._index.given_frames(object_id), self._index.found_frames(object_id)
            known = sorted({*given, *found})
            if not known or known[-1] < frame or known[0] >= frame:
                raise InputError(
                    f"{self._name(object_id)} is known on frames {_span(known)}, so it cannot be split at {frame}: "
                    "choose a frame between them"
                )
            (new,) = self.project.new_ids(1)
            with self._store.action(f"split {self._name(object_id)} at frame {frame}") as write:
                self._write_new(write, new, replace(Object.new(new), category=self._index.objects[object_id].category))
                for moved in (f for f in given if f >= frame):
                    self._move(write, given_key(object_id, moved), given_key(new, moved))
                    self._move(write, mask_key(given_key(object_id, moved)), mask_key(given_key(new, moved)))
                    self._move(write, prompts_key(object_id, moved), prompts_key(new, moved))
                for other in found:
                    self._split_found(write, object_id, new, other, frame)
                later = [f for f in found if f >= frame]
                if later and given[-1:] < [frame]:  # nothing was given there: what is found on its first frame is
                    value = self._store.get(mask_key(found_key(new, later[0])))
                    assert value is not None
                    mask_hw = own_mask(value, self.project.size_hw)
                    self._write_given(write, new, later[0], mask_hw, prompts=None)
        return self._changed(write, new)

    def _split_found(self, write: Write, object_id: int, new: int, frame: int, split: int) -> None:
        """Where a found mask followed from what is the other object now, it follows from nothing."""
        key, value = found_key(object_id, frame), self._store.get(found_key(object_id, frame))
        assert value is not None
        about = Found.from_bytes(value)
        origins = [origin for origin in (about.before, about.after) if origin is not None]
        if any((origin.frame >= split) != (frame >= split) for origin in origins):
            about = replace(about, direction=None, before=None, after=None)
        if frame < split:
            write.put(key, about.to_bytes())
            return
        write.put(found_key(new, frame), about.to_bytes())
        write.put(key, None)
        self._move(write, mask_key(key), mask_key(found_key(new, frame)))

    def _split_regions(self, object_id: int, frame: int) -> Change:
        mask = self._mask(frame, object_id)
        parts = [] if mask is None else _parts(mask)
        if mask is None or len(parts) < 2:
            raise InputError(f"{self._name(object_id)} is not in several parts on frame {frame}: erase between them")
        rest = mask & ~np.logical_or.reduce(parts[1:])
        with self._store.lock:
            ids = self.project.new_ids(len(parts) - 1)
            with self._store.action(f"split {self._name(object_id)} into its parts") as write:
                self._write_given(write, object_id, frame, rest, prompts=None)
                for new, part in zip(ids, parts[1:], strict=True):
                    category = self._index.objects[object_id].category
                    self._write_new(write, new, replace(Object.new(new), category=category))
                    self._write_given(write, new, frame, part, prompts=None)
        return self._changed(write, ids[0])

    # --------------------------------------------------------------- many masks

    def _coded(self, frames: Iterable[tuple[int, Mapping[int, Mask]]]) -> Iterator[_Kept]:
        for frame, masks in frames:
            self.project.check_frame(frame)
            for number, mask_hw in masks.items():
                self._check_mask(mask_hw, frame)
                if mask_hw.any():
                    yield _Kept(frame, number, area_of(mask_hw), hard_bytes(mask_hw))


@dataclass(frozen=True, slots=True)
class _Kept:
    """A mask that waits in a file."""

    frame: int
    number: int
    area: float
    value: bytes


class _Spool:
    """Masks that are not in memory, until all of them are known to be good. To be closed.

    Args:
        masks: gone over at once.
    """

    def __init__(self, masks: Iterable[_Kept]) -> None:
        self.numbers: list[int] = []
        self._file = TemporaryFile()  # noqa: SIM115 - closed by `close`
        try:
            for one in masks:
                if one.number not in self.numbers:
                    self.numbers.append(one.number)
                about = [one.frame, one.number, one.area, len(one.value)]
                self._file.write(json.dumps(about).encode() + b"\n" + one.value)
        except BaseException:
            self._file.close()
            raise

    def __iter__(self) -> Iterator[_Kept]:
        self._file.seek(0)
        while line := self._file.readline():
            frame, number, area, length = json.loads(line)
            yield _Kept(frame, number, area, self._file.read(length))

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


def _parts(mask: Mask) -> list[Mask]:
    """Connected parts, the largest first, without specks."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-areas, kind="stable")
    return [labels == n + 1 for n in order.tolist() if areas[n] >= LEAST_PART * areas.sum()]


def _span(frames: Sequence[int]) -> str:
    return f"{frames[0]} to {frames[-1]}" if frames else "none"


def _plain(said: Mapping[str, Json]) -> Json:
    """One prompt, checked, with nothing that does not belong to it.

    Raises:
        InputError: it is no prompt.
    """
    kind = said.get("kind") if isinstance(said, Mapping) else None
    if kind == "point":
        x, y = _point((said.get("x"), said.get("y")))
        return {"kind": kind, "x": x, "y": y, "positive": _sign(said)}
    if kind == "box":
        x0, y0, x1, y1 = _numbers(said.get("box"), 4, "a box is four numbers, x0, y0, x1 and y1")
        return {"kind": kind, "box": [x0, y0, x1, y1]}
    if kind == "scribble":
        stroke = [list(_point(point)) for point in _listed(said.get("stroke"), "stroke")]
        return {"kind": kind, "stroke": stroke, "positive": _sign(said)}
    raise InputError(f"a prompt is a point, a box or a scribble, not {kind!r}")


def _prompt(plain: Json, frame: int, object_id: int, *, add: bool) -> ObjectPrompt:
    if plain["kind"] == "box":
        return BoxPrompt(frame, object_id, tuple(plain["box"]))
    if plain["kind"] == "scribble":
        stroke = tuple((x, y) for x, y in plain["stroke"])
        return ScribblePrompt(frame, object_id, stroke, plain["positive"], add=add)
    # Signs are checked for all points together.
    return PointPrompt(frame, object_id, ((plain["x"], plain["y"]),), (plain["positive"],), add=True)


def _sign(said: Mapping[str, Json]) -> bool:
    positive = said.get("positive", True)
    if not isinstance(positive, bool):
        raise InputError(f"positive is true or false, not {positive!r}")
    return positive


def _point(point: Json) -> Point:
    x, y = _numbers(point, 2, "a point is two numbers, x and y")
    return x, y


def _numbers(values: Json, count: int, what: str) -> tuple[float, ...]:
    is_sequence = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == count
    if not is_sequence or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        raise InputError(f"{what}, not {values!r}"[:200])
    return tuple(float(value) for value in values)


def _listed(values: Json, what: str) -> Sequence[Json]:
    """Something that should be a list, and not too long."""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise InputError(f"{what} is a list, not {values!r}"[:200])
    if len(values) > MOST_POINTS:
        raise InputError(f"{what} has {len(values)} entries: {MOST_POINTS} are the most")
    return values
