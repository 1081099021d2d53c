"""Cameras, network streams and pipes: what passes by once."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from maskstream.types import Frame, InputError

from .decoding import Damage, PictureConverter, Readable, decode_pictures, frames_per_second, opened
from .notices import warn
from .source import DEFAULT_FPS, OneShot

NETWORK_TIMEOUT = 20.0
"""Seconds without data after which a network stream counts as ended."""

_ADDRESS = re.compile(r"(https?|rtsps?|rtmps?|rtp|udp|tcp|srt|mms)://", re.IGNORECASE)
_CAMERA = re.compile(r"camera:(.+)", re.IGNORECASE)
_RAW = re.compile(r"(\d+)x(\d+)@(\d+(?:\.\d+)?)")


def is_address(source: str) -> bool:
    """Whether a source is a camera or lies on a network, and not a path."""
    return bool(_ADDRESS.match(source) or _CAMERA.fullmatch(source))


def open_address(source: str) -> OneShot:
    """Open ``camera:N``, ``camera:NAME`` (on Windows only by name) or an address such as ``rtsp://…``.

    Raises:
        VideoError: there is no such camera or nothing answers.
    """
    camera = _CAMERA.fullmatch(source)
    if camera is None:
        return _open(source, name=source, timeout=NETWORK_TIMEOUT)
    system, device = platform.system(), camera[1]
    if system == "Darwin":
        return _open(device, name=source, format="avfoundation", options={"framerate": "30"})
    if system == "Windows":
        return _open(f"video={device}", name=source, format="dshow")
    return _open(f"/dev/video{device}" if device.isdecimal() else device, name=source, format="v4l2")


def open_named_pipe(path: Path) -> OneShot:
    """Read an encoded video from a named pipe or a device."""
    return _open(f"file:{path}", name=str(path))


def open_pipe(file: BinaryIO, *, name: str, raw: str | None = None) -> OneShot:
    """Read a video from an open binary file.

    Args:
        file: a pipe, or a file at its beginning.
        name: what messages call it.
        raw: None for an encoded video, ``WIDTHxHEIGHT@FPS`` for bare ``rgb24`` frames.

    Raises:
        InputError: ``raw`` is written wrongly.
        VideoError: there is no frame in it.
    """
    if raw is None:
        seekable = getattr(file, "seekable", None)
        return _open(file if seekable is not None and seekable() else _Pipe(file), name=name)
    match = _RAW.fullmatch(raw)
    if match is None or not int(match[1]) * int(match[2]) * float(match[3]):
        raise InputError(f"raw frames are described as WIDTHxHEIGHT@FPS, for example 854x480@25, not {raw!r}")
    width, height, fps = int(match[1]), int(match[2]), float(match[3])
    return OneShot(_raw_frames(file, name, (height, width), fps), name=name, fps=fps)


class _Pipe:
    """Only the reading end of a file: a pipe claims to seek but cannot."""

    def __init__(self, file: BinaryIO) -> None:
        # read1 hands over what has arrived instead of waiting for a full buffer
        self.read = getattr(file, "read1", file.read)


def _raw_frames(file: BinaryIO, name: str, size_hw: tuple[int, int], fps: float) -> Iterator[Frame]:
    length, index = size_hw[0] * size_hw[1] * 3, 0
    while data := _read_fully(file, length):
        if len(data) < length:
            warn(f"{name}: read {index} frames; the last one has {len(data)} of {length} bytes and was left out")
            return
        yield Frame(index, index / fps, np.frombuffer(data, np.uint8).reshape(*size_hw, 3))
        index += 1


def _read_fully(file: BinaryIO, length: int) -> bytearray:
    """Exactly ``length`` bytes, fewer only at the end: one read of a pipe may return any part."""
    data = bytearray()
    while len(data) < length and (part := file.read(length - len(data))):
        data += part
    return data


def _open(
    source: str | Readable | BinaryIO,
    *,
    name: str,
    format: str | None = None,
    options: dict[str, str] | None = None,
    timeout: float | None = None,
) -> OneShot:
    resources = ExitStack()  # kept open until the frames have been read
    container, stream = resources.enter_context(
        opened(source, name=name, format=format, options=options, timeout=timeout)
    )
    return OneShot(_decoded(resources, container, stream, name), name=name, fps=frames_per_second(stream))


def _decoded(resources: ExitStack, container: InputContainer, stream: VideoStream, name: str) -> Iterator[Frame]:
    damage, interval = Damage(), 1 / (frames_per_second(stream) or DEFAULT_FPS)
    first_pts: int | None = None
    convert: PictureConverter | None = None
    index, timestamp = 0, -interval
    with resources:
        for picture in decode_pictures(container, stream, damage):
            if convert is None:
                convert, first_pts = PictureConverter.of(picture), picture.pts
            now = None
            if picture.pts is not None and first_pts is not None and stream.time_base is not None:
                now = float((picture.pts - first_pts) * stream.time_base)
            # a clock that is absent, stands still or jumps back must not stop the film
            timestamp = now if now is not None and now > timestamp else timestamp + interval
            yield Frame(index, timestamp, convert(picture, damage))
            index += 1
    if damage.errors or damage.concealed or damage.resized:
        warn(
            f"{name}: read {index} frames; {damage.errors} pieces could not be decoded, {damage.concealed} frames are "
            f"damaged in parts, {damage.resized} had another size and were scaled to that of the first"
        )
