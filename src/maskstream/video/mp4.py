"""What everything that writes an MP4 file agrees on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
from av.container import OutputContainer

from maskstream.files import atomic_path
from maskstream.types import OutputError

TICKS_PER_SECOND = 90_000
"""Time base of what we write: exact for the usual frame rates, within 6 µs for any other time."""

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""A full disk, a file that may not grow further, a quota."""

_OPTIONS = {
    "movie_timescale": str(TICKS_PER_SECOND),  # else a film that starts late is moved to whole milliseconds
    "movflags": "+faststart",
    "fflags": "+bitexact",
}


@contextmanager
def new_mp4(path: Path) -> Iterator[OutputContainer]:
    """An MP4 file that appears under its name when the block is left without an exception, and else not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with _as_output_error(path), atomic_path(path) as partial:
        partial.open("wb").close()  # FFmpeg opens the file only when the first packet comes: too late to complain
        container = av.open(str(partial), "w", format="mp4", options=_OPTIONS)
        try:
            yield container
            container.close()
        except BaseException:
            with suppress(OSError, av.error.FFmpegError):
                container.close()
            raise


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or error
        full = getattr(error, "errno", None) in _FULL
        mend = "free some space" if full else "choose a folder that exists and has write access"
        raise OutputError(f"{path} cannot be written: {reason}: {mend}") from error
