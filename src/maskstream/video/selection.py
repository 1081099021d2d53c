"""Start, stop and stride, in one place for every source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maskstream.types import Frame, InputError, Video, VideoError

from .source import Source, closing_frames


class Selection(Source):
    """The frames ``start``, ``start + stride``, … before ``stop`` of another video; they keep their index."""

    def __init__(self, video: Video, *, start: int = 0, stop: int | None = None, stride: int = 1) -> None:
        if start < 0 or stride < 1 or (stop is not None and stop <= start):
            raise InputError(
                f"start {start}, stop {stop}, stride {stride} select no frame of {video.name}: "
                "start is at least 0, stop is more than start, stride is at least 1"
            )
        self.name, self.size_hw, self.fps, self.seekable = video.name, video.size_hw, video.fps, video.seekable
        self._video = video
        self._start, self._stop, self._stride = start, stop, stride
        self._last = None if stop is None else start + (stop - 1 - start) // stride * stride
        if self.frame_count == 0:
            raise VideoError(f"{video.name} has {video.frame_count} frames: it cannot start at frame {start}")

    def indices(self) -> Sequence[int] | None:
        """Every selected ``Frame.index``, or None when only reading to the end can tell."""
        available = _indices_of(self._video)
        if available is None:
            return None
        if isinstance(available, range):
            return available[self._start : self._stop : self._stride]
        return [index for index in available if self._selects(index)]

    def frames_from(self, index: int) -> Iterator[Frame]:
        """Yield the selected frames whose ``Frame.index`` is ``index`` or later."""
        steps = max(0, -(-(index - self._start) // self._stride))
        return self._read(self._video.frames_from(self._start + steps * self._stride), first_read=index <= self._start)

    def _read(self, frames: Iterator[Frame], *, first_read: bool) -> Iterator[Frame]:
        empty = True
        with closing_frames(frames) as selected:
            for frame in selected:
                if self._selects(frame.index):
                    empty = False
                    yield frame
                if self._last is not None and frame.index >= self._last:
                    break
        if empty and first_read:
            raise VideoError(f"{self.name} ends before frame {self._start}: it cannot start there")

    def __getitem__(self, index: int) -> Frame:
        if not self._selects(index):
            raise IndexError(f"frame {index} of {self.name} is not selected")
        return self._video[index]

    def _selects(self, index: int) -> bool:
        return (
            index >= self._start
            and (self._stop is None or index < self._stop)
            and (index - self._start) % self._stride == 0
        )


def _indices_of(video: Video) -> Sequence[int] | None:
    if isinstance(video, Source):
        return video.indices()
    return None if video.frame_count is None else range(video.frame_count)
