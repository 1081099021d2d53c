"""A project: a folder with a video, its objects, the masks that a person gave and those that were found.

PROJECT/studio.sqlite      everything that was done; see `history`
PROJECT/lock               held while a process works on the project
PROJECT/video.*            the video, where it was brought along; else it stays where it is
PROJECT/exports/           what was made of it
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.systems.deva.offline import together
from maskstream.systems.deva.passes import quantised
from maskstream.types import InputError, VideoError, resize_masks
from maskstream.video import open_video
from maskstream.video.backward import frame_indices
from maskstream.video.images import ImagesVideo
from maskstream.video.source import DEFAULT_FPS, Source

from .history import Changes, Store
from .index import Index
from .records import (
    NEXT_ID,
    Json,
    Mask,
    SoftMap,
    found_key,
    given_key,
    is_soft,
    mask_key,
    prompts_key,
    read_hard,
    read_soft,
    to_json,
)

DATABASE, LOCK, EXPORTS = "studio.sqlite", "lock", "exports"
_CHANNELS = 8
"""Probabilities that are enlarged at once."""
_TOLD_APART_BY = ("height and width", "frames", "bytes")
"""What has to be the same of a video when a project is opened again."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an action changed.

    Attributes:
        revision: of the project, now.
        frames: whose masks may look different, ascending.
        object_id: that it was about, where it was about one.
        label: of the action.
    """

    revision: int
    frames: tuple[int, ...]
    object_id: int | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A mask as a value, and the action that gave it; 0 where it was found."""

    mask: bytes
    order: int


class Project:
    """An open project, for any number of threads; from `create` or `open`.

    Attributes:
        folder: that it is in.
        video: its video; frames are numbered from 0.
        name: of the project.
        fps: frames per second.
        size_hw: height and width of the video.
        frames: how many there are.
        key: changes with the video.
        store: everything on disk.
        index: everything but the masks, in memory; to be used under ``store.lock``.
    """

    def __init__(self, folder: Path, lock: BinaryIO, store: Store) -> None:
        """Take over an open store; see `open`."""
        self.folder = folder
        self.name = folder.name
        self.store = store
        self._lock = lock
        recorded = noted_video(folder, store)
        self.video = _opened(folder / recorded["path"])
        now = _described(folder, folder / recorded["path"], self.video)
        for what in _TOLD_APART_BY:
            if now[what] != recorded[what]:
                raise InputError(
                    f"the video {folder / recorded['path']} is not the one that the project was made with: "
                    f"{what} are {now[what]}, they were {recorded[what]}: put that one back, or make a new project"
                )
        self.fps = float(self.video.fps or DEFAULT_FPS)
        self.size_hw = self.video.size_hw
        self.frames = int(recorded["frames"])
        self.key = hashlib.sha256(to_json(recorded)).hexdigest()[:16]
        self.index = Index(self.frames)
        try:
            for prefix in ("object/", "given/", "found/"):
                self.index.update(dict(store.items(prefix)))
        except (sqlite3.Error, LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{folder / DATABASE} is damaged, or of another version: put a copy back, or make a new project"
            ) from error
        store.watch(self._update)

    @classmethod
    def create(cls, folder: Path, video: Path) -> Project:
        """Make a project.

        Args:
            folder: that it will be in; made if it is not there.
            video: a video file or a folder of images. One inside the folder goes where the folder goes.

        Raises:
            InputError: there is a project already, or the video cannot be read twice.
            VideoError: there is no such video.
        """
        folder, video = folder.resolve(), video.expanduser().resolve()
        source = _opened(video)
        folder.mkdir(parents=True, exist_ok=True)
        with _Opening(folder) as (lock, store):
            if store.fact("video") is not None:
                raise InputError(f"{folder} is a project already: open it, or name another folder")
            store.note("video", to_json(_described(folder, video, source)))
            return cls(folder, lock, store)

    @classmethod
    def open(cls, folder: Path) -> Project:
        """Open a project as it was left.

        Raises:
            InputError: there is none, it is open elsewhere or damaged, or its video is missing or another one.
        """
        folder = folder.resolve()
        if not cls.is_in(folder):
            raise InputError(f"{folder} is not a project: it has no {DATABASE}")
        with _Opening(folder) as (lock, store):
            return cls(folder, lock, store)

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a folder is a project."""
        return (folder / DATABASE).is_file()

    def close(self) -> None:
        """Let go of the folder. Nothing has to be saved."""
        self.store.close()
        self._lock.close()

    @property
    def exports(self) -> Path:
        """The folder for what is made of the project; there."""
        folder = self.folder / EXPORTS
        folder.mkdir(exist_ok=True)
        return folder

    # --------------------------------------------------------------- questions

    @property
    def revision(self) -> int:
        """Grows with everything that is done."""
        return self.store.revision

    def summary(self) -> dict[str, Json]:
        """What there is but masks, as plain data: see `Index.summary`; what to look at first, what can be undone."""
        with self.store.lock:
            objects, doubtful = self.index.summary()
            revision, undo, redo = self.revision, self.store.undo_label, self.store.redo_label
        height, width = self.size_hw
        video = {"name": self.video.name, "frames": self.frames, "fps": self.fps, "height": height, "width": width}
        return {
            "project": {"name": self.name, "folder": str(self.folder)},
            "video": {**video, "key": self.key},
            "revision": revision,
            "objects": objects,
            "doubtful": doubtful,
            "undo": undo,
            "redo": redo,
        }

    def annotated_frames(self) -> list[int]:
        """Frames on which any object is given or found, ascending."""
        with self.store.lock:
            return self.index.annotated_frames()

    def prompts(self, frame: int) -> list[dict[str, Json]]:
        """What a person pointed at on a frame, by object."""
        self.check_frame(frame)
        with self.store.lock:
            values = {i: self.store.get(prompts_key(i, frame)) for i in sorted(self.index.objects)}
        return [{"object": i, "prompts": json.loads(value)} for i, value in values.items() if value is not None]

    def check_frame(self, frame: int) -> None:
        """See that there is such a frame.

        Raises:
            InputError: there is not.
        """
        if not 0 <= frame < self.frames:
            raise InputError(f"there is no frame {frame}: {self.video.name} has frames 0 to {self.frames - 1}")

    def check_object(self, object_id: int) -> None:
        """See that there is such an object.

        Raises:
            InputError: there is not.
        """
        with self.store.lock:
            known = sorted(self.index.objects)
        if object_id not in known:
            listed = ", ".join(map(str, known)) or "none yet"
            raise InputError(f"there is no object {object_id}; there are: {listed}")

    # ------------------------------------------------------------------- masks

    def label_map(self, frame: int) -> NDArray[np.int32]:
        """The objects of a frame, ``int32[H, W]`` at the size of the video: 0, or an id. Hidden objects are there, too.

        Probabilities compete as they do in `OfflineDeva`. Masks that are not probabilities are as they are, and on top
        of these; those that a person gave are uppermost, the last one first.
        """
        return composed(self.stored(frame), self.size_hw)

    def masks(self, frame: int) -> dict[int, Mask]:
        """The objects that are on a frame, ``bool[H, W]`` each, disjoint."""
        labels = self.label_map(frame)
        return {object_id: labels == object_id for object_id in np.unique(labels).tolist() if object_id}

    def probability(self, object_id: int, frame: int) -> NDArray[np.uint8] | None:
        """Where an object is, ``uint8[H, W]`` in steps of 1/255 at the size of the video; None where nothing is known.

        It knows nothing of other objects.
        """
        value = self.stored(frame).get(object_id)
        if value is None:
            return None
        if not is_soft(value.mask):
            return read_hard(value.mask).astype(np.uint8) * 255
        return _resized(read_soft(value.mask), self.size_hw)

    def stored(self, frame: int) -> dict[int, Stored]:
        """The masks of a frame as they are kept, by object, in order."""
        self.check_frame(frame)
        stored: dict[int, Stored] = {}
        with self.store.lock:
            for object_id in sorted(self.index.objects):
                track = self.index.track(object_id)
                given = track.given.get(frame)
                if given is not None:
                    key, order = given_key(object_id, frame), given.action
                elif track.found_t["there"][frame]:
                    key, order = found_key(object_id, frame), 0
                else:
                    continue
                value = self.store.get(mask_key(key))
                assert value is not None, f"{key} is without a mask"
                stored[object_id] = Stored(value, order)
        return stored

    def _update(self, changes: Changes) -> None:
        self.index.update({key: self.store.get(key) for key in changes if not key.startswith("mask/")})

    def new_ids(self, count: int) -> list[int]:
        """The numbers of the next objects. Whoever takes them writes `NEXT_ID`, and holds the lock of the store."""
        first = int(self.store.get(NEXT_ID) or b"1")
        return list(range(first, first + count))


def composed(stored: Mapping[int, Stored], size_hw: tuple[int, int]) -> NDArray[np.int32]:
    """Masks of a frame, see `Project.stored`, as `Project.label_map` has them."""
    soft = {i: read_soft(one.mask) for i, one in stored.items() if is_soft(one.mask)}
    hard = {i: read_hard(stored[i].mask) for i in stored if i not in soft}
    labels = np.zeros(size_hw, np.int32)
    if soft:
        ids = list(stored)
        # Those that are not probabilities compete, too: what they cover is not free for others around their outlines.
        maps_nhw = np.stack(_of_one_size([soft[i] if i in soft else hard[i] for i in ids], list(soft.values())))
        probabilities = together(torch.from_numpy(maps_nhw).float() / 255)
        labels = np.array([0, *ids], np.int32)[_most_probable(probabilities, size_hw)]
    for object_id in sorted(hard, key=lambda i: stored[i].order):
        labels[labels == object_id] = 0
        labels[hard[object_id]] = object_id
    return labels


def _most_probable(probabilities: Tensor, size_hw: tuple[int, int]) -> NDArray[np.int32]:
    """The most probable channel at another size, a few channels at a time: pictures may be large, and objects many."""
    best_hw, channel_hw = resize_masks(probabilities[:_CHANNELS], size_hw).max(0)
    for first in range(_CHANNELS, len(probabilities), _CHANNELS):
        more_hw, which_hw = resize_masks(probabilities[first : first + _CHANNELS], size_hw).max(0)
        channel_hw = torch.where(more_hw > best_hw, which_hw + first, channel_hw)
        best_hw = torch.maximum(best_hw, more_hw)
    channels: NDArray[np.int32] = channel_hw.int().numpy()
    return channels


def own_mask(mask: bytes, size_hw: tuple[int, int]) -> Mask:
    """Where an object is if nothing else is there, ``bool[H, W]``, of a mask as it is kept."""
    if not is_soft(mask):
        return read_hard(mask)
    soft = torch.from_numpy(read_soft(mask).copy()).float() / 255
    where: Mask = (resize_masks(soft[None], size_hw)[0] > 0.5).numpy()
    return where


def _of_one_size(maps: Sequence[Mask | SoftMap], soft: Sequence[SoftMap]) -> list[SoftMap]:
    """Maps at the size of the largest of those that are probabilities."""
    size_hw = max((one.shape for one in soft), key=lambda size: size[0] * size[1])
    return [_resized(one, (size_hw[0], size_hw[1])) for one in maps]


def _resized(one: Mask | SoftMap, size_hw: tuple[int, int]) -> SoftMap:
    if one.dtype == np.uint8 and one.shape == size_hw:
        return np.asarray(one, dtype=np.uint8)
    values = torch.from_numpy(one.copy())
    return quantised(resize_masks((values.float() / 255 if one.dtype == np.uint8 else values)[None], size_hw)[0])


# ----------------------------------------------------------------------- the folder


class _Opening:
    """The lock and the store of a folder, let go of again if the block raises."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> tuple[BinaryIO, Store]:
        self._lock = _locked(self._folder)
        try:
            self._store = Store(self._folder / DATABASE)
        except BaseException:
            self._lock.close()
            raise
        return self._lock, self._store

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._store.close()
            self._lock.close()


def _locked(folder: Path) -> BinaryIO:
    """The lock of a folder; the system lets go of it when the process ends, however that ends."""
    file = (folder / LOCK).open("a+b")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise InputError(f"{folder} is open in another maskstream studio: close it there, or stop that one") from error
    return file


def noted_video(folder: Path, store: Store) -> dict[str, Json]:
    """What was noted of the video when a project was made, see `_described`.

    Raises:
        InputError: nothing was, or something else.
    """
    try:
        noted = json.loads(store.fact("video") or b"null")
    except ValueError:
        noted = None
    kinds = {"path": str, "height and width": list, "frames": int, "bytes": int}
    if not isinstance(noted, dict) or not all(isinstance(noted.get(what), kind) for what, kind in kinds.items()):
        raise InputError(f"{folder} is a project that does not say which video it is of: make it anew")
    return noted


def _opened(path: Path) -> Source:
    """The video, which can be read in any order.

    Raises:
        InputError: it cannot, or is not there any more.
    """
    if not path.exists():
        raise InputError(f"the video {path} is not there: put it back, or make a new project")
    video = open_video(path)
    if not isinstance(video, Source) or not video.seekable:
        raise InputError(f"{path} can be read only once: save it to a file first")
    return video


def _described(folder: Path, path: Path, video: Source) -> dict[str, Json]:
    """What is noted of a video, to know it again."""
    inside = path.is_relative_to(folder)
    files = video.paths if isinstance(video, ImagesVideo) else (path,)
    try:
        length = sum(file.stat().st_size for file in files)
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}") from error
    return {
        "path": path.relative_to(folder).as_posix() if inside else os.fspath(path),
        "height and width": list(video.size_hw),
        "frames": len(frame_indices(video)),
        "bytes": length,
    }
