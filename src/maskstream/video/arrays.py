"""Frames that are in memory already, or that another program hands over one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from maskstream.types import Frame, InputError, VideoError

from .source import DEFAULT_FPS, OneShot, Source

Picture: TypeAlias = NDArray[np.uint8] | Frame
"""``uint8[H, W, 3]`` RGB, or a `Frame`, which keeps its own index and time."""


class ArrayVideo(Source):
    """``uint8[T, H, W, 3]`` RGB, or a sequence of such images or of frames."""

    seekable = True

    def __init__(self, pictures: NDArray[np.uint8] | Sequence[Picture], *, fps: float | None = None) -> None:
        if isinstance(pictures, np.ndarray) and (
            pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8
        ):
            raise InputError(
                f"a video array must be uint8[T, H, W, 3] in RGB, not {pictures.dtype}{list(pictures.shape)}"
            )
        if len(pictures) == 0:
            raise VideoError("the array or sequence of frames is empty")
        self.name = "frames in memory"
        self.fps = fps or DEFAULT_FPS
        self._pictures = pictures
        self.size_hw = _frame(pictures[0], 0, self.fps).size_hw

    @cached_property
    def _position_of_index(self) -> dict[int, int]:
        indices = [p.index if isinstance(p, Frame) else n for n, p in enumerate(self._pictures)]
        for n, (index, following) in enumerate(pairwise(indices)):
            if following <= index:
                raise InputError(f"frame {n + 1} of the sequence has index {following}, after {index}: sort the frames")
        return {index: n for n, index in enumerate(indices)}

    def indices(self) -> Sequence[int]:
        """Every ``Frame.index``."""
        if isinstance(self._pictures, np.ndarray):
            return range(len(self._pictures))
        return list(self._position_of_index)

    def frames_from(self, index: int) -> Iterator[Frame]:
        """Yield the frames whose ``Frame.index`` is ``index`` or later."""
        return (self[i] for i in self.indices() if i >= index)

    def __getitem__(self, index: int) -> Frame:
        position = index if isinstance(self._pictures, np.ndarray) else self._position_of_index.get(index, -1)
        if not 0 <= position < len(self._pictures):
            raise IndexError(f"{self.name}: there is no frame {index}")
        frame = _frame(self._pictures[position], position, self.fps or DEFAULT_FPS)
        _check_size(frame, self.size_hw)
        return frame


def open_iterable(pictures: Iterable[Picture], *, fps: float | None = None) -> OneShot:
    """A video of what an iterator gives; it can be read once."""
    return OneShot(_frames(pictures, fps or DEFAULT_FPS), name="the stream of frames", fps=fps or DEFAULT_FPS)


def _frames(pictures: Iterable[Picture], fps: float) -> Iterator[Frame]:
    first = None
    for position, picture in enumerate(pictures):
        frame = _frame(picture, position, fps)
        first = first or frame
        _check_size(frame, first.size_hw)
        yield frame


def _frame(picture: Picture, position: int, fps: float) -> Frame:
    return picture if isinstance(picture, Frame) else Frame(position, position / fps, np.asarray(picture))


def _check_size(frame: Frame, size_hw: tuple[int, int]) -> None:
    if frame.size_hw != size_hw:
        (height, width), (first_height, first_width) = frame.size_hw, size_hw
        raise VideoError(
            f"frame {frame.index} is {height}×{width} but the first is {first_height}×{first_width} "
            "(height×width): all frames of a video must have one size"
        )
