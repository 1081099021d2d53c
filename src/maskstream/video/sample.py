"""The pictures of a video of a data set, as a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maskstream.types import Frame, VideoError, VideoSample

from .images import read_image
from .source import DEFAULT_FPS, Source


class SampleVideo(Source):
    """A `VideoSample`, of which every frame or some are wanted. Pictures are read when they are asked for.

    Args:
        sample: the video.
        indices: positions of the frames that are wanted, ascending; all when None.

    Raises:
        VideoError: no frame is wanted, or the first has no picture.
    """

    seekable = True

    def __init__(self, sample: VideoSample, *, indices: Sequence[int] | None = None) -> None:
        self._sample = sample
        self._indices = range(len(sample)) if indices is None else indices
        if not len(self._indices):
            raise VideoError(f"{sample.name} has no frame")
        self.name = sample.name
        self.fps = sample.fps or DEFAULT_FPS
        self.size_hw = self._read(self._indices[0]).size_hw

    def indices(self) -> Sequence[int]:
        """Every ``Frame.index``: positions in the sample."""
        return self._indices

    def frames_from(self, index: int) -> Iterator[Frame]:
        """Yield the wanted frames from ``index`` on."""
        return (self._checked(n) for n in self._indices if n >= index)

    def __getitem__(self, index: int) -> Frame:
        if index not in self._indices:
            raise IndexError(f"{self.name}: there is no frame {index}")
        return self._checked(index)

    def _checked(self, index: int) -> Frame:
        frame = self._read(index)
        if frame.size_hw != self.size_hw:
            raise VideoError(
                f"{self.name}, frame {self._sample.frames[index].stem}: the picture is {frame.size_hw[0]}×"
                f"{frame.size_hw[1]}, but the first is {self.size_hw[0]}×{self.size_hw[1]}"
            )
        return frame

    def _read(self, index: int) -> Frame:
        ref = self._sample.frames[index]
        if self._sample.read_image is not None:
            image = self._sample.read_image(index)
        elif ref.image is None:
            raise VideoError(f"{self.name}, frame {ref.stem}: this data set has annotations but no pictures here")
        elif not ref.image.exists():
            raise VideoError(f"{self.name}, frame {ref.stem}: there is no picture {ref.image}")
        else:
            image = read_image(ref.image)
        return Frame(index, index / (self.fps or DEFAULT_FPS), image)
