"""What many videos will cost: time and disk, from the first seconds of one of them and the headers of all."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import av

from maskstream.sinks.folder import RunFolder
from maskstream.types import InputError, MaskstreamError, Video
from maskstream.video import open_video
from maskstream.video.source import DEFAULT_FPS

from .backend import Job
from .batch_work import BatchWork
from .segment import planned, prepared
from .sources import is_remote, local_copy

SECONDS = 2.0
"""So much of one video is segmented to see how long it takes."""

_LOOKED_AT = 200
"""So many videos are asked how long they are; of more, every so many-th."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run may cost.

    Attributes:
        videos: how many are left to do.
        frames: how many they have, or may have if not all could be asked.
        unreadable: names of videos that cannot be opened, among those that were asked.
        measured: the video that was tried,
        measured_frames: and how many frames of it.
        frames_per_second: how quickly one worker did them.
        seconds: for all, in so many workers.
        bytes: on the disk.
    """

    videos: int
    frames: int
    unreadable: tuple[str, ...]
    measured: str
    measured_frames: int
    frames_per_second: float
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class _Length:
    frames: int
    pixels: int


def estimate(work: BatchWork, jobs: Sequence[Job], *, workers: int) -> Estimate:
    """Try a little, and take it for all: time goes with pixels, and workers do not hold each other up.

    Args:
        work: what is to be done to each.
        jobs: what is left to do.
        workers: how many there will be.

    Raises:
        InputError: there is nothing to do, or not one of the videos can be done.
    """
    asked = [job for job in jobs if not is_remote(job.source)][:: -(-len(jobs) // _LOOKED_AT)]
    known = {job.name: _length_if_readable(job.source) for job in asked}
    lengths = {name: length for name, length in known.items() if length is not None}
    unreadable = [name for name, length in known.items() if length is None]
    candidates = [job for job in jobs if job.name in lengths or is_remote(job.source)]
    if not candidates:
        raise InputError(f"not one of {len(jobs)} videos can be read")
    tried, frames, seconds, size, length = _try_one(work, candidates)
    lengths = lengths or {tried.name: length}
    every = range(work.options.start, max((each.frames for each in lengths.values()), default=0))
    counts = [len(every[: each.frames][: work.options.stop : work.options.stride]) for each in lengths.values()]
    pixels = [count * each.pixels for count, each in zip(counts, lengths.values(), strict=True)]
    readable = len(jobs) * len(candidates) / (len(candidates) + len(unreadable))
    of_measured = frames * length.pixels
    return Estimate(
        len(jobs),
        round(fmean(counts) * readable),
        tuple(unreadable),
        tried.name,
        frames,
        frames / seconds,
        fmean(pixels) * readable / of_measured * seconds / workers,
        round(fmean(pixels) * readable / of_measured * size),
    )


def _try_one(work: BatchWork, jobs: Sequence[Job]) -> tuple[Job, int, float, int, _Length]:
    """The first video that can be done: frames of it, how long they took, bytes written, and how long it is."""
    system = work.options.load()
    reasons = []
    for job in jobs[:10]:
        with tempfile.TemporaryDirectory() as name:
            try:
                with local_copy(job.source, Path(name) / "source") as path:
                    length = _length(path)
                    fps = open_video(path, fps=work.options.fps).fps or DEFAULT_FPS
                    stop = work.options.start + max(1, round(SECONDS * fps)) * work.options.stride
                    options = replace(work.options, stop=min(stop, work.options.stop or stop))
                    ready = prepared(planned(options, job.words), system, path, weights=work.weights)
                    folder = RunFolder(Path(name) / "out", ready.request)
                    began = time.perf_counter()
                    frames = ready.run(folder).frames
                    seconds = time.perf_counter() - began
            except MaskstreamError as error:
                reasons.append(f"{job.name}: {error}")
                continue
            size = sum(file.stat().st_size for file in folder.path.rglob("*") if file.is_file())
            return job, frames, seconds, size, length
    raise InputError(f"none of the first {len(reasons)} videos can be done; {reasons[0]}")


def _length_if_readable(path: str) -> _Length | None:
    try:
        return _length(path)
    except MaskstreamError:
        return None


def _length(path: str) -> _Length:
    """How many frames, and how large, as far as headers tell."""
    video: Video = open_video(path)
    pixels = video.size_hw[0] * video.size_hw[1]
    if not Path(path).is_file():
        return _Length(video.frame_count or 0, pixels)
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        if stream.frames:
            return _Length(stream.frames, pixels)
        if container.duration and video.fps:
            return _Length(round(container.duration / av.time_base * video.fps), pixels)
    return _Length(video.frame_count or 0, pixels)
