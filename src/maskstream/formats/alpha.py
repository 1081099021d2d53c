"""Mattes: each object of a video as grey pictures, or as a grey video, of its own; for compositing.

::

    VIDEO/7/00000.png       object 7, 8 bits, 255 where it is; every object on every frame
    VIDEO/7.mkv             the same as FFV1 in Matroska, lossless

Values between are soft edges. They are written where a frame has probabilities, and kept on the side of one half on
which the mask says they are, so that the mask is exactly where a value is 128 or more.

Neither says categories, scores, crowds, void or which frames nobody labelled; videos number their frames from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from maskstream.types import (
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    OutputError,
    VideoSample,
    resize_masks,
)
from maskstream.video.source import DEFAULT_FPS

from .indexed_png import an_object
from .pictures import write_indices
from .png import read_label_png

HALF = 128
_FFV1 = {"level": "3", "g": "1", "slices": "4", "slicecrc": "1"}
"""Every frame by itself, in four slices with check sums."""


# Writing.


def write_alpha(root: Path, videos: Iterable[VideoSample]) -> None:
    """Write ``VIDEO/ID/FRAME.png`` for every annotated frame."""
    for video in videos:
        written: list[str] = []
        known: set[int] = set()
        for frame, mattes, size_hw in _mattes(video):
            nothing = np.zeros(size_hw, np.uint8)
            for number in mattes.keys() - known:  # it was nowhere before
                for earlier in written:
                    _write_matte(root / video.name / str(number) / f"{earlier}.png", nothing)
            known |= mattes.keys()
            written.append(frame.stem)
            for number in known:
                _write_matte(root / video.name / str(number) / f"{frame.stem}.png", mattes.get(number, nothing))


def write_alpha_video(root: Path, videos: Iterable[VideoSample]) -> None:
    """Write ``VIDEO/ID.mkv``.

    Raises:
        OutputError: a file cannot be written.
    """
    for video in videos:
        with ExitStack() as open_files:
            writers: dict[int, _Writer] = {}
            for done, (_, mattes, size_hw) in enumerate(_mattes(video)):
                nothing = np.zeros(size_hw, np.uint8)
                for number in mattes.keys() - writers.keys():  # it was nowhere before
                    path = root / video.name / f"{number}.mkv"
                    writers[number] = open_files.enter_context(_Writer(path, size_hw, video.fps or DEFAULT_FPS))
                    for _ in range(done):
                        writers[number].write(nothing)
                for number, writer in writers.items():
                    writer.write(mattes.get(number, nothing))


def _mattes(video: VideoSample) -> Iterator[tuple[FrameRef, dict[int, NDArray[np.uint8]], tuple[int, int]]]:
    """Every annotated frame, its mattes by object, and its size."""
    for index, frame in enumerate(video.frames):
        if not frame.annotated:
            continue
        segmentation = video.annotation(index).segmentation
        masks_nhw, soft = segmentation.masks_nhw().cpu(), segmentation.probabilities
        mattes = 255 * masks_nhw.to(torch.uint8)
        if soft is not None:
            levels = (resize_masks(soft[1:].cpu(), segmentation.size_hw) * 255).round().to(torch.uint8)
            mattes = torch.where(masks_nhw, levels.clamp(min=HALF), levels.clamp(max=HALF - 1))
        by_object = {s.track_id: m.numpy() for s, m in zip(segmentation.segments, mattes, strict=True)}
        yield frame, by_object, segmentation.size_hw


def _write_matte(path: Path, matte: NDArray[np.uint8]) -> None:
    write_indices(path, matte.astype(np.int32), grey=True)


class _Writer:
    """Writes a grey video; same frames, same bytes."""

    def __init__(self, path: Path, size_hw: tuple[int, int], fps: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._frames = 0
        rate = Fraction(fps).limit_denominator(1001)
        try:
            # "bitexact" leaves out an id that is drawn by lot.
            self._container = av.open(str(path), "w", format="matroska", options={"fflags": "+bitexact"})
            self._stream = self._container.add_stream("ffv1", rate=rate, options=_FFV1)
        except (OSError, av.error.FFmpegError) as error:
            raise OutputError(f"cannot write {path}: {error}") from error
        self._stream.height, self._stream.width = size_hw
        self._stream.pix_fmt = "gray"

    def write(self, matte: NDArray[np.uint8]) -> None:
        """Append a frame, ``uint8[H, W]``."""
        frame = VideoFrame.from_ndarray(matte, format="gray")
        frame.pts = self._frames
        self._frames += 1
        self._encode(frame)

    def _encode(self, frame: VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except (OSError, av.error.FFmpegError) as error:
            raise OutputError(f"cannot write {self._path}: {error}") from error

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._encode(None)
        self._container.close()


# Reading.


def read_alpha(root: Path) -> list[VideoSample]:
    """Read ``VIDEO/ID/FRAME.png``.

    Raises:
        InputError: there is no video, or a folder is not named by the number of an object.
    """
    return [_pictures_video(folder) for folder in _folders(root, "VIDEO/7/00000.png")]


def read_alpha_video(root: Path) -> list[VideoSample]:
    """Read ``VIDEO/ID.mkv``.

    Raises:
        InputError: there is no video, a file is not named by the number of an object, or they differ in length.
    """
    return [_files_video(folder) for folder in _folders(root, "VIDEO/7.mkv")]


def _folders(root: Path, layout: str) -> list[Path]:
    found = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    if not found:
        raise InputError(f"{root} has no folders: the layout is {layout}")
    return found


def _pictures_video(folder: Path) -> VideoSample:
    files = {
        _object_number(entry): {p.stem: p for p in sorted(entry.glob("*.png")) if not p.name.startswith(".")}
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    }
    stems = sorted({stem for by_stem in files.values() for stem in by_stem})
    if not stems:
        raise InputError(f"{folder} has no mattes: the layout is VIDEO/7/00000.png")

    def read(index: int) -> dict[int, NDArray[np.uint8]]:
        stem = stems[index]
        there = {number: by_stem[stem] for number, by_stem in sorted(files.items()) if stem in by_stem}
        mattes = {number: read_label_png(path).astype(np.uint8) for number, path in there.items()}
        sizes = {matte.shape for matte in mattes.values()}
        if len(sizes) > 1:
            raise InputError(f"the mattes of frame {stem} in {folder} differ in size: {sorted(sizes)}")
        return mattes

    return VideoSample(folder.name, tuple(map(FrameRef, stems)), _annotation_of(read))


def _files_video(folder: Path) -> VideoSample:
    files = {_object_number(path): path for path in sorted(folder.glob("*.mkv")) if not path.name.startswith(".")}
    readers = {number: _Reader(path) for number, path in sorted(files.items())}
    lengths = {number: reader.length for number, reader in readers.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"the mattes in {folder} have {sorted(set(lengths.values()))} frames: they must have as many")
    if not readers:
        raise InputError(f"{folder} has no mattes: the layout is VIDEO/7.mkv")

    def read(index: int) -> dict[int, NDArray[np.uint8]]:
        return {number: reader.frame(index) for number, reader in readers.items()}

    frames = tuple(FrameRef(f"{index:05d}") for index in range(max(lengths.values())))
    return VideoSample(folder.name, frames, _annotation_of(read), fps=next(iter(readers.values())).fps)


def _annotation_of(read: Callable[[int], dict[int, NDArray[np.uint8]]]) -> Callable[[int], FrameAnnotation]:
    def read_annotation(index: int) -> FrameAnnotation:
        mattes = read(index)
        stack = torch.from_numpy(np.stack(list(mattes.values())))
        segmentation = FrameSegmentation.from_masks(index, tuple(map(an_object, mattes)), stack >= HALF)
        if ((stack > 0) & (stack < 255)).any():
            levels = stack.float() / 255
            background = (1 - levels.sum(0)).clamp(min=0)
            soft = torch.cat([background[None], levels]).to(torch.float16)
            segmentation = replace(segmentation, probabilities=soft)
        return FrameAnnotation(segmentation)

    return read_annotation


def _object_number(path: Path) -> int:
    if not path.stem.isdecimal() or int(path.stem) < 1:
        raise InputError(f"{path} is not named by the number of an object, from 1")
    return int(path.stem)


class _Reader:
    """Frames of a grey video, quickly when they are asked for in order.

    Raises:
        InputError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0
        self._frames: Iterator[VideoFrame] = iter(())
        with self._reading(), av.open(str(path)) as container:
            stream = container.streams.video[0]
            self.length = sum(packet.size > 0 for packet in container.demux(stream))
            self.fps = float(stream.average_rate) if stream.average_rate else None

    def frame(self, index: int) -> NDArray[np.uint8]:
        """``uint8[H, W]``.

        Raises:
            InputError: the file is damaged, or ends before.
        """
        if index < self._next or self._next == 0:
            self._frames, self._next = self._decode(), 0
        with self._reading():
            for frame in self._frames:
                self._next += 1
                if self._next > index:
                    return frame.to_ndarray(format="gray").astype(np.uint8, copy=False)
        raise InputError(f"{self._path} ends before frame {index}")

    def _decode(self) -> Iterator[VideoFrame]:
        with av.open(str(self._path)) as container:
            yield from container.decode(video=0)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, IndexError, av.error.FFmpegError) as error:
            raise InputError(f"{self._path} cannot be read as a video: {error}") from error
