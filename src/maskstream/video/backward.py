"""Some frames of a video, forward or backward, for work that goes over a video more than once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maskstream.types import Frame, InputError, Video

from .source import Source, closing_frames

BUDGET = 128 * 2**20
"""Bytes of decoded pictures that are held to go backward. A file is sought once for so many: more is faster."""

_SKIPPED = 64
"""Frames that are decoded and dropped rather than sought past."""


def frame_indices(video: Video) -> Sequence[int]:
    """Every ``Frame.index`` of a video that can be read twice, ascending.

    Raises:
        InputError: it cannot.
    """
    if not video.seekable:
        raise InputError(f"{video.name} can be read only once, but this needs to go back: save it to a file first")
    indices = video.indices() if isinstance(video, Source) else None
    return [frame.index for frame in video] if indices is None else indices


def frames_at(video: Video, indices: Sequence[int]) -> Iterator[Frame]:
    """The frames with these indices, which ascend. Those that cannot be decoded are left out."""
    for run in _runs(indices):
        wanted = set(run)
        with closing_frames(video.frames_from(run[0])) as frames:
            for frame in frames:
                if frame.index in wanted:
                    yield frame
                if frame.index >= run[-1]:
                    break


def frames_backward(video: Video, indices: Sequence[int], *, budget: int = BUDGET) -> Iterator[Frame]:
    """As `frames_at`, the last first. Decodes forward, so many at a time as fit into ``budget`` bytes, at least one."""
    height, width = video.size_hw
    length = max(budget // (3 * height * width), 1)
    for stop in range(len(indices), 0, -length):
        chunk = list(frames_at(video, indices[max(stop - length, 0) : stop]))
        while chunk:
            yield chunk.pop()


def _runs(indices: Sequence[int]) -> Iterator[list[int]]:
    """Split where so much is left out that seeking pays."""
    run: list[int] = []
    for index in indices:
        if run and index - run[-1] > _SKIPPED:
            yield run
            run = []
        run.append(index)
    if run:
        yield run
