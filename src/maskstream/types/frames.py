"""Frames and videos: what comes in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture of a video.

    Attributes:
        index: position in the source, from 0. A stride or a start does not renumber frames.
        timestamp: presentation time in seconds, from the first frame of the source.
        image: ``uint8[H, W, 3]``, RGB, upright.
    """

    index: int
    timestamp: float
    image: NDArray[np.uint8] = field(repr=False)

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise InputError(
                f"frame {self.index} must be uint8[H, W, 3] in RGB, not {self.image.dtype}{list(self.image.shape)}"
            )

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


def check_arrival(frame: Frame, size_hw: tuple[int, int], last_index: int) -> None:
    """See that a frame is the next of its video.

    Args:
        frame: that came.
        size_hw: of the video.
        last_index: of the frame before; -1 at the beginning.

    Raises:
        InputError: it is of another size, or comes out of order.
    """
    if frame.size_hw != size_hw:
        raise InputError(
            f"frame {frame.index} is {frame.size_hw[0]}×{frame.size_hw[1]} but the video began at "
            f"{size_hw[0]}×{size_hw[1]}: "
            "all frames of a video must be of one size"
        )
    if frame.index <= last_index:
        raise InputError(f"frame {frame.index} came after frame {last_index}: frames must come in order")


class Video(ABC):
    """A lazily decoded sequence of frames. Iterating again starts again, where the source allows it.

    Attributes of every video:
        name: what to call it in messages and reports.
        size_hw: height and width in pixels, upright.
        fps: average frames per second, or None when unknown.
        seekable: whether ``video[i]`` and a second iteration work.
    """

    name: str
    size_hw: tuple[int, int]
    fps: float | None
    seekable: bool

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order. Never holds more than a few of them."""

    @abstractmethod
    def frames_from(self, index: int) -> Iterator[Frame]:
        """Yield the frames whose ``Frame.index`` is ``index`` or later: what continuing an interrupted run needs."""

    @abstractmethod
    def __getitem__(self, index: int) -> Frame:
        """The frame with this ``Frame.index``, exactly as iteration yields it.

        Raises:
            IndexError: there is no such frame.
            VideoError: the source cannot seek.
        """

    @property
    @abstractmethod
    def frame_count(self) -> int | None:
        """How many frames iteration yields, or None when only reading to the end can tell."""
