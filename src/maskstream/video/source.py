"""What every kind of source has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from maskstream.types import Frame, Video, VideoError

DEFAULT_FPS = 24.0
"""Frames per second of pictures that carry no time."""


@contextmanager
def closing_frames(frames: Iterable[Frame]) -> Iterator[Iterator[Frame]]:
    """Iterate, and stop a generator at once when the block is left, so that no decoder lingers."""
    iterator = iter(frames)
    try:
        yield iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


class Source(Video):
    """A `Video` that can say which frames it has."""

    @abstractmethod
    def indices(self) -> Sequence[int] | None:
        """Every ``Frame.index``, increasing, or None when only reading to the end can tell."""

    def __iter__(self) -> Iterator[Frame]:
        return self.frames_from(0)

    @property
    def frame_count(self) -> int | None:
        """How many frames iteration yields, or None when only reading to the end can tell."""
        indices = self.indices()
        return None if indices is None else len(indices)


class OneShot(Source):
    """Frames that pass by once: a camera, a pipe, an iterator."""

    seekable = False

    def __init__(self, frames: Iterator[Frame], *, name: str, fps: float | None) -> None:
        first = next(frames, None)
        if first is None:
            raise VideoError(f"{name} gave no frame")
        self.name = name
        self.fps = fps
        self.size_hw = first.size_hw
        self._first = first
        self._rest: Iterator[Frame] | None = frames

    def indices(self) -> None:
        """Unknown until the end."""
        return

    def frames_from(self, index: int) -> Iterator[Frame]:
        """Yield the frames from ``index`` on; those before are read and dropped.

        Raises:
            VideoError: the frames have been read before.
        """
        rest = self._rest
        if rest is None:
            raise VideoError(f"{self.name} can be read only once: save it to a file to read it again")
        self._rest = None
        return self._read(rest, index)

    def _read(self, rest: Iterator[Frame], index: int) -> Iterator[Frame]:
        if self._first.index >= index:
            yield self._first
        with closing_frames(rest) as frames:
            yield from (frame for frame in frames if frame.index >= index)

    def __getitem__(self, index: int) -> Frame:
        raise VideoError(f"{self.name} cannot seek to frame {index}: save it to a file first")
