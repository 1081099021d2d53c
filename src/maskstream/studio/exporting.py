"""Taking masks away, in every layout that can be written, and bringing masks in, from every one that can be read.

::

    project ──► VideoSample ──► a layout of `conversion` ──► NAME-LAYOUT.zip
                            └─► overlay                  ──► NAME-overlay.mp4
    folder, file or .zip    ──► VideoSample ──► masks by object and frame

An export shows what the screen shows: where objects overlap, the one on top. It is written aside and renamed, so that a
file under its name is whole.
"""

from __future__ import annotations

import re
import shutil
import stat
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol, TypeAlias
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
import torch
from numpy.typing import NDArray

from maskstream.conversion import FORMATS, Feature, losses, survey
from maskstream.conversion.formats import with_frames
from maskstream.datasets.dataset import LazyVideos
from maskstream.files import atomic_path, whole_folder
from maskstream.formats.id_picture import IdPicture
from maskstream.formats.renumber import renumbered
from maskstream.sinks.draw import draw_overlay
from maskstream.types import (
    OBJECT,
    CategorySet,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    MaskstreamWarning,
    OutputError,
    Segment,
    VideoSample,
)
from maskstream.video import VideoWriter, join_videos
from maskstream.video.images import ImagesVideo
from maskstream.video.source import Source

OVERLAY = "overlay"
_SOFT = frozenset({"soft", "alpha", "alpha-video"})
"""Layouts of probabilities."""
_HALF = 128
_COMPRESSED = frozenset({".jpg", ".jpeg", ".png", ".mkv", ".mp4"})
_LARGEST_ARCHIVE = 8 * 2**30
"""Bytes of what is in an archive that somebody sends."""
_MOST_FILES = 500_000
_BLOCK = 2**20

Colour: TypeAlias = tuple[int, int, int]

OnFrame = Callable[[int, int], None]
"""Called with how much is done, and how much there is to do; an exception that it raises ends the work."""


class Annotated(Protocol):
    """What an export needs to know of a project."""

    name: str
    fps: float
    size_hw: tuple[int, int]
    frames: int
    video: Source

    def label_map(self, frame: int) -> NDArray[np.int32]:
        """``int32[H, W]``, the object on top at each pixel."""

    def probability(self, object_id: int, frame: int) -> NDArray[np.uint8] | None:
        """``uint8[H, W]``, how likely an object is at each pixel, where that is known."""

    def annotated_frames(self) -> list[int]:
        """Frames on which anybody or anything has said where objects are."""


# Out.


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: of the file.
        lost: what the layout has no place for, a sentence each.
    """

    path: Path
    lost: tuple[str, ...] = ()


def check_format(name: str, *, write: bool) -> None:
    """See that a layout can be written, or read.

    Raises:
        InputError: it cannot; the message lists those that can.
    """
    writable = [OVERLAY, *(name for name, one in FORMATS.items() if one.write is not None)]
    known = writable if write else list(FORMATS)
    if name not in known:
        raise InputError(f"there is no layout {name!r} to {'write' if write else 'read'}: {', '.join(known)}")


def export(
    project: Annotated,
    folder: Path,
    name: str,
    *,
    categories: Mapping[int, str],
    colours: Mapping[int, Colour] | None = None,
    audio_from: Path | None = None,
    on_frame: OnFrame = lambda done, total: None,
) -> Exported:
    """Write the masks of some objects.

    Args:
        project: what is exported.
        folder: for the file; made if it is not there. An earlier export in this layout is replaced.
        name: of the layout, or "overlay".
        categories: what each object is, "" where nobody said; other objects are left out.
        colours: RGB of objects in the overlay, where they are not the usual ones.
        audio_from: the video whose sound the overlay gets.
        on_frame: called again and again.

    Raises:
        InputError: there is no such layout, nothing to write, or the layout knows other categories only.
        OutputError: it cannot be written.
    """
    check_format(name, write=True)
    if not project.annotated_frames():
        raise InputError("there is nothing to export yet: no frame has a mask")
    stem = f"{file_name(project.name)}-{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    if name == OVERLAY:
        return _export_overlay(project, folder / f"{stem}.mp4", categories, colours, audio_from, on_frame)
    return _export_layout(project, folder / f"{stem}.zip", name, categories, on_frame)


def file_name(name: str) -> str:
    """What a file may be called on every system and in every address."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(name).stem).strip("-")[:80] or "video"


def category_set(categories: Mapping[int, str], name: str) -> CategorySet:
    """The label space of some objects: their categories, and "object" for those of which nobody said it.

    Args:
        categories: what each object is, "" where nobody said.
        name: of the label space.
    """
    named = sorted(set(filter(None, categories.values())))
    if not named:
        return OBJECT
    unnamed = [] if all(categories.values()) or OBJECT.names[0] in named else [OBJECT.names[0]]
    return CategorySet.from_names([*unnamed, *named], name=name, is_thing=True)


def _own_space(categories: Mapping[int, str], space: CategorySet, title: str) -> CategorySet:
    """The label space of a layout that takes no other.

    Raises:
        InputError: an object is none of its categories.
    """
    for number, text in sorted(categories.items()):
        if text not in space.names:
            known = ", ".join(space.names)
            said = f"is {text!r}" if text else "has no category"
            raise InputError(f"{title} has a place for {known} and nothing else, but object {number} {said}")
    return space


def sample_of(
    project: Annotated, categories: Mapping[int, str], space: CategorySet, *, soft: bool = False
) -> VideoSample:
    """A project as a labelled video.

    Args:
        project: with masks.
        categories: what each object is, "" where nobody said; other objects are left out.
        space: these categories.
        soft: with probabilities.
    """
    number_of = {category.name: category.id for category in space.categories}
    segment_of = {}
    for number, text in sorted(categories.items()):
        category = space[number_of[text or OBJECT.names[0]]]
        segment_of[number] = Segment(number, number, category.id, is_thing=category.is_thing)

    def read_annotation(index: int) -> FrameAnnotation:
        ids = project.label_map(index)
        picture = IdPicture(ids)
        there = {number: segment_of[number] for number in picture.ids if number in segment_of}
        segmentation = picture.segmentation(index, there)
        if soft:
            levels = np.stack([np.zeros(ids.shape, np.uint8), *(_levels(project, n, index, ids == n) for n in there)])
            # The background wins exactly where there is no object.
            rest = 255 - levels.sum(axis=0, dtype=np.int64).clip(max=255)
            levels[0] = np.where(np.isin(ids, list(there)), rest.clip(max=_HALF - 1), rest.clip(min=_HALF))
            segmentation = replace(segmentation, probabilities=(torch.from_numpy(levels) / 255).half())
        return FrameAnnotation(segmentation)

    pictures = _Pictures(project.video)
    annotated = set(project.annotated_frames())
    frames = tuple(
        FrameRef(stem, image, index in annotated) for index, (stem, image) in enumerate(_frame_names(project))
    )
    from_files = isinstance(project.video, ImagesVideo)
    return VideoSample(
        file_name(project.name), frames, read_annotation, None if from_files else pictures.image, fps=project.fps
    )


def _levels(project: Annotated, object_id: int, frame: int, mask_hw: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``uint8[H, W]``, how likely an object is; on the side of one half that its mask says."""
    found = project.probability(object_id, frame)
    if found is None:
        return mask_hw.astype(np.uint8) * 255
    levels: NDArray[np.uint8] = np.where(mask_hw, found.clip(min=_HALF), found.clip(max=_HALF - 1)).astype(np.uint8)
    return levels


def _frame_names(project: Annotated) -> Iterator[tuple[str, Path | None]]:
    """What the files of each frame are called, without suffix, and its picture where that is a file."""
    paths: Sequence[Path] = project.video.paths if isinstance(project.video, ImagesVideo) else ()
    distinct = len({path.stem for path in paths}) == len(paths)
    for index in range(project.frames):
        path = paths[index] if paths else None
        yield (path.stem if path is not None and distinct else f"{index:05d}"), path


class _Pictures:
    """Pictures of a video, decoded once where they are asked for in order."""

    def __init__(self, video: Source) -> None:
        self._video = video
        self._next = 0
        self._frames = iter(video.frames_from(0))

    def image(self, index: int) -> NDArray[np.uint8]:
        """``uint8[H, W, 3]``, RGB."""
        if index != self._next:
            self._frames = iter(self._video.frames_from(index))
        frame = next(self._frames, None)
        if frame is None or frame.index != index:
            self._next = -1
            return self._video[index].image  # says what is wrong
        self._next = index + 1
        return frame.image


def _export_layout(
    project: Annotated, path: Path, name: str, categories: Mapping[int, str], on_frame: OnFrame
) -> Exported:
    layout = FORMATS[name]
    assert layout.write is not None
    space = (
        category_set(categories, file_name(project.name))
        if layout.label_space is None
        else _own_space(categories, layout.label_space, layout.title)
    )
    video = sample_of(project, categories, space, soft=name in _SOFT)
    holds = layout.holds | layout.with_pictures
    if Feature.NAMES not in holds:  # frames are known by their place, so none can be left out
        video = replace(video, frames=tuple(replace(frame, annotated=True) for frame in video.frames))
    kept = [n for n, frame in enumerate(video.frames) if frame.annotated or Feature.UNANNOTATED in holds]
    step = _Steps(2 * len(kept), on_frame)
    video = step.counting(video)
    content = survey([video], space)
    ids = sorted(content.ids[video.name])
    if not ids and Feature.EMPTY not in holds:
        raise InputError("there is nothing to export: these objects are on no frame")
    if layout.largest_id is not None and max(ids, default=0) > layout.largest_id:
        if len(ids) > layout.largest_id:
            raise InputError(f"{layout.title} ends at {layout.largest_id} objects, and there are {len(ids)}")
        video = renumbered(video, {old: new for new, old in enumerate(ids, 1)})
    lost = tuple(sentence.partition(": ")[2] for sentence in losses(content, layout))
    aside = path.with_name(f".{path.stem}.files")
    shutil.rmtree(aside, ignore_errors=True)  # left by a server that was killed
    try:
        with whole_folder(aside) as folder:
            layout.write(folder, [with_frames(video, kept)], space)
        _pack(aside, path)
    except OSError as error:
        raise OutputError(f"{path.name} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    step.finish()
    return Exported(path, lost)


def _pack(folder: Path, path: Path) -> None:
    """A folder as an archive; same files, same bytes."""
    with atomic_path(path) as temporary, ZipFile(temporary, "w") as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            entry = ZipInfo(file.relative_to(folder).as_posix())
            entry.compress_type = ZIP_STORED if file.suffix.lower() in _COMPRESSED else ZIP_DEFLATED
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, _BLOCK)


def _export_overlay(
    project: Annotated,
    path: Path,
    categories: Mapping[int, str],
    colours: Mapping[int, Colour] | None,
    audio_from: Path | None,
    on_frame: OnFrame,
) -> Exported:
    space = category_set(categories, file_name(project.name))
    named = space if any(categories.values()) else None
    video = sample_of(project, categories, space)
    part = path.with_name(f".{path.stem}.part.mp4")
    step = _Steps(project.frames, on_frame)
    try:
        start = None
        with VideoWriter(part, size_hw=project.size_hw, fps_hint=project.fps) as writer:
            for frame in project.video.frames_from(0):
                start = frame.timestamp if start is None else start
                segmentation = video.annotation(frame.index).segmentation
                drawn = draw_overlay(frame.image, segmentation, categories=named, colours=colours)
                writer.write(drawn, frame.timestamp)
                step()
        with warnings.catch_warnings():  # a video without sound is still one
            warnings.simplefilter("ignore", MaskstreamWarning)
            join_videos([part], path, audio_from=audio_from, start=start or 0.0)
    finally:
        part.unlink(missing_ok=True)
    step.finish()
    return Exported(path)


class _Steps:
    """Counts frames."""

    def __init__(self, total: int, on_frame: OnFrame) -> None:
        self._total, self._done, self._on_frame = total, 0, on_frame

    def __call__(self) -> None:
        self._done = min(self._done + 1, self._total)
        self._on_frame(self._done, self._total)

    def finish(self) -> None:
        self._on_frame(self._total, self._total)

    def counting(self, video: VideoSample) -> VideoSample:
        """The video, counting the frames whose labels are read."""

        def read_annotation(index: int) -> FrameAnnotation:
            self()
            return video.annotation(index)

        return replace(video, read_annotation=read_annotation)


# In.


@dataclass(frozen=True, slots=True)
class Imported:
    """Masks that were brought in.

    Attributes:
        video: with these masks.
        frame_of: which frame of the project each frame of it is.
        categories: its label space.
        size_hw: of the project.
    """

    video: VideoSample
    frame_of: tuple[int, ...]
    categories: CategorySet
    size_hw: tuple[int, int]

    def frames(self) -> Iterator[tuple[int, FrameSegmentation]]:
        """Frames of the project, and what is on each; those that nobody labelled are left out.

        Raises:
            InputError: labels are damaged, or of another size than the video.
        """
        for place, (number, frame) in enumerate(zip(self.frame_of, self.video.frames, strict=True)):
            if not frame.annotated:
                continue
            segmentation = self.video.annotation(place).segmentation
            if segmentation.size_hw != self.size_hw:
                (height, width), (own_height, own_width) = segmentation.size_hw, self.size_hw
                raise InputError(
                    f"the masks of frame {frame.stem} are {height}×{width}, but the video is {own_height}×{own_width}"
                )
            yield number, segmentation


def read_masks(project: Annotated, path: Path, name: str) -> Imported:
    """Masks of the frames of a project, from a folder or file.

    Frames belong together by the names of their files, by order where there are as many, or else by number.

    Args:
        project: whose masks they are to become.
        path: of the folder or file.
        name: of its layout.

    Raises:
        InputError: it is not in this layout, its masks are hidden, or it is of another video.
    """
    check_format(name, write=False)
    try:
        categories, videos = FORMATS[name].read(path, None)
        names = videos.names if isinstance(videos, LazyVideos) else [video.name for video in videos]
        video = videos[_place_of(project, names, path)]
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror or error}") from error
    if video.read_annotation is None:
        raise InputError(f"{path.name} does not show the masks of {video.name}")
    return Imported(video, _matched(project, video), categories, project.size_hw)


def _place_of(project: Annotated, names: Sequence[str], path: Path) -> int:
    """Which of several videos is meant: the only one, or that with the name of the project."""
    if len(names) == 1:
        return 0
    own = {project.name, Path(project.name).stem, file_name(project.name)}
    found = [place for place, name in enumerate(names) if name in own]
    if len(found) != 1:
        shown = ", ".join(names[:4]) + " …" * (len(names) > 4)
        raise InputError(f"{path.name} has {len(names)} videos ({shown or 'none'}), and not one called {project.name}")
    return found[0]


def _matched(project: Annotated, video: VideoSample) -> tuple[int, ...]:
    """Which frame of the project each frame of a video is.

    Raises:
        InputError: it is of another video.
    """
    number_of = {stem: number for number, (stem, _) in enumerate(_frame_names(project))}
    stems = [frame.stem for frame in video.frames]
    if all(stem in number_of for stem in stems):
        return tuple(number_of[stem] for stem in stems)
    if len(stems) == project.frames:
        return tuple(range(project.frames))
    if all(stem.isdecimal() and int(stem) < project.frames for stem in stems):
        return tuple(map(int, stems))
    raise InputError(
        f"{video.name} has {len(stems)} frames, but the video has {project.frames}, and their names differ "
        f"({stems[0]}, {next(iter(number_of))}): as many are needed, or the same names"
    )


@contextmanager
def unpacked(archive: Path, folder: Path) -> Iterator[Path]:
    """The files of an archive, in a folder that is removed afterwards.

    Args:
        archive: a .zip.
        folder: that does not exist yet.

    Yields:
        The folder; where the archive has all in one folder, that one has to be looked into too.

    Raises:
        InputError: it is damaged, too large, or wants to be unpacked elsewhere.
        OutputError: there is no room for it.
    """
    try:
        try:
            folder.mkdir(parents=True)
            with ZipFile(archive) as opened:
                _unpack(opened, folder)
        except InputError:
            raise
        # RuntimeError is what zipfile raises for a password, ValueError for names that no file can have.
        except (BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, zlib.error) as error:
            raise InputError(f"the archive cannot be read: {error}") from error
        except OSError as error:
            raise OutputError(f"the archive cannot be unpacked: {error.strerror or error}") from error
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(archive: ZipFile, folder: Path) -> None:
    entries = archive.infolist()
    if len(entries) > _MOST_FILES:
        raise InputError(f"the archive has {len(entries)} files: at most {_MOST_FILES} are taken")
    left = _LARGEST_ARCHIVE
    for entry in entries:
        if entry.is_dir():
            continue
        target = folder / _inside(entry)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("xb") as file:
            while block := source.read(_BLOCK):
                left -= len(block)  # what an entry says of its size may be a lie
                if left < 0:
                    raise InputError(f"the archive holds more than {_LARGEST_ARCHIVE / 2**30:.0f} GiB")
                file.write(block)


def _inside(entry: ZipInfo) -> Path:
    """Where an entry goes.

    Raises:
        InputError: it is a link or leads out of the archive.
    """
    name = entry.filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    parts = PurePosixPath(name).parts
    leads_out = name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or PureWindowsPath(name).drive
    if leads_out or not parts or kind not in (0, stat.S_IFREG):
        raise InputError(f"the archive has {name!r}, which is a link or leads out of it")
    return Path(*parts)
