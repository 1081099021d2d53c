"""Encoding the overlay: H.264 in MP4, as browsers play it."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from maskstream.types import InputError, OutputError

from .mp4 import TICKS_PER_SECOND, new_mp4
from .source import DEFAULT_FPS

_BT709 = 1
_LIMITED_RANGE = 1
_GROUP_OF_PICTURES = 50
"""Frames from key frame to key frame: about two seconds, so that a browser seeks quickly."""

_ENCODER = {
    "preset": "veryfast",
    "bf": "0",  # packets in the order of presentation: parts can be joined without touching their times
    # The number of threads changes the bytes, so it must not depend on the machine. Neither may the algorithms:
    # x264's AVX-512 code for macroblock trees reads past the end of a row, which for the last one is memory that
    # nobody wrote, wherever the width is not a multiple of 128. cpu-independent takes the exact code, as quick.
    "x264-params": "threads=2:lookahead-threads=1:sliced-threads=0:cpu-independent=1",
}


class VideoWriter:
    """Writes frames to an MP4 file, each at its own time.

    The file appears under its name when the writer is closed; until then, and after an exception, there is none.
    Same frames and times, same bytes.

    Example:
        >>> with VideoWriter("overlay.mp4", size_hw=video.size_hw, fps_hint=video.fps) as writer:  # doctest: +SKIP
        ...     for frame in video:
        ...         writer.write(frame.image, frame.timestamp)
    """

    def __init__(
        self, path: str | Path, *, size_hw: tuple[int, int], fps_hint: float | None = None, quality: int = 23
    ) -> None:
        """Begin a file.

        Args:
            path: of the file; its folder exists.
            size_hw: height and width of the frames; an odd size gets one replicated row or column more.
            fps_hint: about how many frames there are a second; how long a single frame is shown.
            quality: x264's constant rate factor: 18 looks like the source, 28 is small.

        Raises:
            InputError: a size below 1, or a quality outside 0…51.
            OutputError: the file cannot be written.
        """
        if min(size_hw) < 1 or not 0 <= quality <= 51:
            raise InputError(f"cannot encode {size_hw} frames at quality {quality}: sizes from 1, quality 0 to 51")
        self.path = Path(path)
        self.size_hw = size_hw
        self._frame_ticks = round(TICKS_PER_SECOND / (fps_hint or DEFAULT_FPS))
        self._last_pts: int | None = None
        self._held: Packet[VideoStream] | None = None
        self._reformatter = VideoReformatter()
        self._closed = False
        self._file = ExitStack()
        self._container = self._file.enter_context(new_mp4(self.path))
        self._stream = _add_stream(self._container, size_hw, fps_hint or DEFAULT_FPS, quality)

    def write(self, image: NDArray[np.uint8], timestamp: float) -> None:
        """Append a frame.

        Args:
            image: ``uint8[H, W, 3]`` RGB.
            timestamp: seconds at which it is shown. A time that is not after the one before is moved just behind it.

        Raises:
            InputError: the image has another size or type.
            OutputError: the file cannot be written, for example because the disk is full; nothing is left of it.
        """
        if image.shape != (*self.size_hw, 3) or image.dtype != np.uint8:
            raise InputError(
                f"{self.path.name} takes uint8{[*self.size_hw, 3]} frames, not {image.dtype}{list(image.shape)}"
            )
        picture = self._reformatter.reformat(
            VideoFrame.from_ndarray(_padded_to_even(image), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        pts = round(timestamp * TICKS_PER_SECOND)
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        self._last_pts = picture.pts = pts
        picture.time_base = Fraction(1, TICKS_PER_SECOND)
        self._encode(picture)

    def close(self) -> None:
        """Finish the file and give it its name. Without a single frame there is no file. Closing again does nothing.

        Raises:
            OutputError: the file cannot be written; nothing is left of it.
        """
        if self._closed:
            return
        if self._last_pts is None:
            self.discard()
            return
        self._encode(None)
        self._closed = True
        self._file.close()

    def discard(self) -> None:
        """Stop and leave no file."""
        if not self._closed:
            self._abandon(_DiscardedError())

    def _encode(self, picture: VideoFrame | None) -> None:
        if self._closed:
            raise OutputError(f"{self.path} is closed: begin another file for more frames")
        try:
            for packet in self._stream.encode(picture):
                self._put(packet)
            if picture is None and self._held is not None:
                self._held.duration = self._frame_ticks
                self._container.mux(self._held)
        except (OSError, av.error.FFmpegError) as error:
            self._abandon(error)
            raise  # never reached: abandoning a file because of an error raises an OutputError

    def _put(self, packet: Packet[VideoStream]) -> None:
        """Write the packet before this one, now that it is known how long it is shown."""
        if self._held is not None and packet.pts is not None and self._held.pts is not None:
            self._frame_ticks = packet.pts - self._held.pts
            self._held.duration = self._frame_ticks
            self._container.mux(self._held)
        self._held = packet

    def _abandon(self, error: BaseException) -> None:
        self._closed = True
        self._file.__exit__(type(error), error, error.__traceback__)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()


class _DiscardedError(Exception):
    """Tells the file that it is not wanted."""


def _add_stream(container: OutputContainer, size_hw: tuple[int, int], fps: float, quality: int) -> VideoStream:
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate, options={**_ENCODER, "crf": str(quality)})
    stream.height, stream.width = (size + size % 2 for size in size_hw)
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = Fraction(1, TICKS_PER_SECOND)
    context.gop_size = _GROUP_OF_PICTURES
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _LIMITED_RANGE
    return stream


def _padded_to_even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replicate the last row or column of an image of odd size: H.264 4:2:0 counts pixels in pairs."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(image)
