"""Opening a video, whatever it is."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from maskstream.types import InputError, Video, VideoError

from .arrays import ArrayVideo, Picture, open_iterable
from .file import FileVideo
from .images import ImagesVideo, is_image, natural_key
from .selection import Selection
from .source import Source
from .stream import is_address, open_address, open_named_pipe, open_pipe

VideoSource: TypeAlias = str | Path | NDArray[np.uint8] | Iterable[Picture] | BinaryIO | Video
"""Everything `open_video` takes."""


def open_video(
    source: VideoSource,
    *,
    start: int = 0,
    stop: int | None = None,
    stride: int = 1,
    fps: float | None = None,
    raw: str | None = None,
) -> Video:
    """Open a video.

    Args:
        source: a video file; a folder of images or a glob pattern, in natural order; ``uint8[T, H, W, 3]`` RGB; images
            or frames, which can be read again when they are a sequence; ``camera:0``, ``rtsp://…`` or ``http://…``;
            ``-`` for standard input, or an open binary file; another video.
        start: ``Frame.index`` of the first frame.
        stop: ``Frame.index`` before which to end, or None for the end.
        stride: take every ``stride``-th frame. Frames keep the index they have in the source.
        fps: frames per second of sources that do not say: images and arrays (24 when None).
        raw: ``WIDTHxHEIGHT@FPS`` when a pipe carries bare ``rgb24`` frames.

    Returns:
        The video. Nothing but its first frame has been decoded.

    Raises:
        VideoError: it does not exist, is no video, holds no frame, or ends before ``start``.
        InputError: the options do not fit the source.
    """
    if fps is not None and not fps > 0:
        raise InputError(f"fps must be more than 0, not {fps}")
    video = _open(source, fps=fps, raw=raw)
    if (start, stop, stride) == (0, None, 1):
        return video
    return Selection(video, start=start, stop=stop, stride=stride)


def _open(source: VideoSource, *, fps: float | None, raw: str | None) -> Video:
    if isinstance(source, str | Path):
        return _open_name(source, fps=fps, raw=raw)
    if isinstance(source, Video):
        return source
    if isinstance(source, np.ndarray):
        return ArrayVideo(source, fps=fps)
    if hasattr(source, "read"):
        return open_pipe(cast(BinaryIO, source), name=str(getattr(source, "name", "the open file")), raw=raw)
    if isinstance(source, Sequence):
        return ArrayVideo(cast(Sequence[Picture], source), fps=fps)
    if isinstance(source, Iterable):
        return open_iterable(source, fps=fps)
    raise InputError(f"a {type(source).__name__} is not a video: give a path, an array or an iterable of frames")


def _open_name(source: str | Path, *, fps: float | None, raw: str | None) -> Source:
    if source == "-":
        return open_pipe(sys.stdin.buffer, name="standard input", raw=raw)
    if raw is not None:
        raise InputError(f"raw describes frames on a pipe, but {source} is opened by name: use - or an open file")
    if isinstance(source, str) and is_address(source):
        return open_address(source)
    return _open_path(source, fps)


def _open_path(source: str | Path, fps: float | None) -> Source:
    try:
        return _open_existing(Path(source).expanduser(), fps)
    except OSError as error:  # a folder that may not be listed, a name that is too long
        raise VideoError(f"{source} cannot be opened: {error.strerror}") from error


def _open_existing(path: Path, fps: float | None) -> Source:
    if path.is_dir():
        return ImagesVideo(_sorted_images(path.iterdir()), name=path.resolve().name, fps=fps)
    if not path.exists() and glob.has_magic(str(path)):
        found = glob.glob(str(path), recursive=True)  # noqa: PTH207 - a pattern may be absolute, Path.glob takes none
        return ImagesVideo(_sorted_images(map(Path, found)), name=path.name, fps=fps)
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    if is_image(path):
        return ImagesVideo([path], name=path.name, fps=fps)
    if not path.is_file():  # a named pipe or a device
        return open_named_pipe(path)
    return FileVideo(path)


def _sorted_images(paths: Iterable[Path]) -> list[Path]:
    return sorted((path for path in paths if is_image(path) and path.is_file()), key=natural_key)
