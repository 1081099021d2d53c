"""Decoding with FFmpeg (through PyAV): shared by files, streams and everything that looks into one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, Literal, Protocol, TypeAlias, TypeVar, cast

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.buffer import Buffer
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from maskstream.types import VideoError

_MAX_READ_ERRORS = 16
"""Give up on a container after this many read errors without a packet in between."""


StreamT = TypeVar("StreamT", VideoStream, AudioStream)


Decoder: TypeAlias = Literal["threaded", "strict", "repeatable"]
"""Fast; fast and an error for every fault in the data; or one picture at a time, because what a decoder makes up for
damaged data depends on its threads."""


class Readable(Protocol):
    """The one thing that is asked of a pipe."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


@dataclass(slots=True)
class Damage:
    """What went wrong on the way through a video.

    Attributes:
        errors: packets that could not be read or decoded.
        concealed: pictures that came out with parts made up by the decoder.
        resized: pictures of another size than the first.
    """

    errors: int = 0
    concealed: int = 0
    resized: int = 0


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a decoded picture becomes upright: transposed first, then mirrored."""

    transpose: bool = False
    flip_horizontal: bool = False
    flip_vertical: bool = False

    @classmethod
    def of(cls, picture: VideoFrame) -> Orientation:
        """Read the display matrix ``[[a, b, u], [c, d, v], [x, y, w]]``: ``x' = a x + c y``, ``y' = b x + d y``.

        Angles between the four quarter turns are taken as the nearest one.
        """
        side_data = picture.side_data.get("DISPLAYMATRIX")
        if side_data is None:
            return cls()
        matrix = np.frombuffer(bytes(cast(Buffer, side_data)), np.int32, 9).reshape(3, 3)[:2, :2].astype(np.int64)
        if abs(matrix[0, 1]) + abs(matrix[1, 0]) > abs(matrix[0, 0]) + abs(matrix[1, 1]):
            return cls(True, bool(matrix[1, 0] < 0), bool(matrix[0, 1] < 0))
        return cls(False, bool(matrix[0, 0] < 0), bool(matrix[1, 1] < 0))

    @property
    def degrees(self) -> int:
        """Clockwise turn that makes a picture upright: 0, 90, 180 or 270, apart from any mirroring."""
        if self.transpose:
            return 90 if self.flip_horizontal else 270
        return 180 if self.flip_vertical else 0

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn ``uint8[H, W, 3]`` upright."""
        if self.transpose:
            image = np.asarray(cv2.transpose(image), np.uint8)
        if self.flip_horizontal or self.flip_vertical:
            both = self.flip_horizontal and self.flip_vertical
            image = np.asarray(cv2.flip(image, -1 if both else int(self.flip_horizontal)), np.uint8)
        return image


class PictureConverter:
    """Turns decoded pictures of any pixel format into upright RGB of the size of the first one; for one thread."""

    def __init__(self, coded_hw: tuple[int, int], orientation: Orientation) -> None:
        self._coded_hw = coded_hw
        self._orientation = orientation
        self._reformatter = VideoReformatter()

    @classmethod
    def of(cls, first: VideoFrame) -> PictureConverter:
        """For pictures like ``first``."""
        return cls((first.height, first.width), Orientation.of(first))

    def __call__(self, picture: VideoFrame, damage: Damage) -> NDArray[np.uint8]:
        """``uint8[H, W, 3]``; what is odd about the picture is added to ``damage``."""
        height, width = self._coded_hw
        damage.concealed += picture.is_corrupt
        damage.resized += (picture.height, picture.width) != self._coded_hw
        rgb = self._reformatter.reformat(picture, width=width, height=height, format="rgb24")
        return self._orientation.apply(np.asarray(rgb.to_ndarray(), np.uint8))


@contextmanager
def opened(
    source: str | Readable | BinaryIO,
    *,
    name: str,
    format: str | None = None,
    options: dict[str, str] | None = None,
    timeout: float | None = None,
    decoder: Decoder = "threaded",
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a container and find its video.

    Args:
        source: path, address or an object with ``read``.
        name: what messages call it.
        format: name of the FFmpeg input format, or None to look into the data.
        options: of that format.
        timeout: seconds to wait for data, or None for ever.
        decoder: how to decode.

    Raises:
        VideoError: it cannot be opened, or there is no video in it.
    """
    try:
        container = av.open(
            source, "r", format=format, options=options or {}, timeout=timeout, metadata_errors="ignore"
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{name} cannot be opened as a video: {_reason(error)}") from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams or container.format.name == "tty":  # FFmpeg would render plain text as a film
            raise VideoError(f"{name} has no video stream")
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoError(f"{name} is coded in a way that this FFmpeg cannot decode: convert it to H.264")
        if decoder == "repeatable":
            stream.codec_context.thread_count = 1
        else:
            stream.thread_type = "AUTO"
        if decoder == "strict":
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        yield container, stream


def read_packets(container: InputContainer, stream: StreamT, damage: Damage) -> Iterator[Packet[StreamT]]:
    """Every packet that can be read, past errors in the container."""
    failures = 0
    while failures < _MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream):
                failures = 0
                if packet.size or packet.dts is not None:  # PyAV adds an empty one at the end, to flush the decoder
                    yield packet
            return
        except av.error.FFmpegError:  # noqa: PERF203 - reading goes on behind the damage
            damage.errors += 1
            failures += 1


def decode_pictures(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[VideoFrame]:
    """Every picture that can be decoded from here on, in the order of presentation."""
    for packet in read_packets(container, stream, damage):
        if not packet.size:  # "as before" in AVI; it would flush the decoder
            continue
        try:
            pictures = stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            damage.errors += 1
            continue
        yield from pictures
    try:
        yield from stream.codec_context.decode(None)
    except av.error.FFmpegError:
        damage.errors += 1


def frames_per_second(stream: VideoStream) -> float | None:
    """Average rate a container states; None when it states nothing believable."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate is not None and Fraction(1, 10000) < rate < 1000:
            return float(rate)
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return "it is not a video, or its beginning or end is cut off"
    return str(getattr(error, "strerror", None) or error)
