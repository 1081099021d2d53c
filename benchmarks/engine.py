"""What many videos cost: two workers against one, where the time goes, and whether broken files or numbers matter.

    python benchmarks/engine.py [--videos 8] [--frames 24] [--height 240]     speed and stages
    python benchmarks/engine.py --videos 500 --broken 0.05 --frames 8 --height 64     many, some of them broken

Renders short videos, runs them through the local engine with the default model, one thread a worker, and prints
seconds, frames a second and processor time for: one worker on one core, one that may use two, and two workers on two.
The start of the processes is not counted. Beside it stands what two copies of a loop that only computes reach on these
two cores, which is what the machine allows: cores that are threads of one, or that others use, do less than two. Then
one video goes through in this process with a watch on every stage.
With ``--broken``, so many of the videos are cut off or are no videos; then only two workers run, and this process's
memory is printed as videos are finished. Exit code 1 when two workers are less than 1.7 times as fast as one, the model
waits for frames more than 5 % of the time, a video is missing, a broken one is not named, or memory grew by more than
10 % between a fifth of the videos and the end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import torch

from maskstream.engine.backend import Outcome
from maskstream.engine.batch import BatchFolder, jobs_of, request_of, run_batch
from maskstream.engine.batch_work import BatchWork
from maskstream.engine.local import LocalBackend, Progress
from maskstream.engine.segment import PromptWords, SegmentOptions, planned, prepared
from maskstream.engine.sources import find_videos
from maskstream.sinks.folder import RunFolder
from maskstream.sinks.frames import FrameSink, SinkThreads
from maskstream.synthetic import render_sample
from maskstream.types import Frame, FrameSegmentation, Session
from maskstream.video import VideoWriter
from maskstream.video.prefetch import prefetch

TARGET = 1.7
MOST_WAITING = 0.05
MOST_GROWN = 0.10
BUSY = 10.0
"""Percent that other programs may take of the machine if seconds are to say something; else processor time judges."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a run cost from the first finished frame on: seconds, frames in them, processor seconds of all workers."""

    seconds: float
    frames: int
    processor: float


def write_videos(folder: Path, count: int, frames: int, size_hw: tuple[int, int], broken: float) -> list[str]:
    """Different stretches of the sample; return the names of those that are broken."""
    folder.mkdir()
    stretch = min(count, 40)
    images = [frame.image for frame, _ in render_sample(frames=frames + stretch, size_hw=size_hw, objects=3)]
    every = round(1 / broken) if broken else count + 1
    named = []
    for number in range(count):
        path = folder / f"v{number:05d}.mp4"
        with VideoWriter(path, size_hw=size_hw) as writer:
            for n in range(frames):
                writer.write(images[number % stretch + n], n / 24)
        if number % every == every - 1:
            path.write_bytes(path.read_bytes()[:300] if number % 2 else b"no video at all\n" * 50)
            named.append(path.stem)
    return named


def timed(work: BatchWork, clips: Path, workers: int, core_count: int) -> Timing:
    """All videos with so many workers on so many cores."""
    began: list[float] = []

    def look(progress: Progress) -> None:
        if not began:
            began.extend((time.perf_counter(), progress.frames, _processor_seconds()))

    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:core_count])
    try:
        folder = BatchFolder(work.output, request_of(work, [str(clips)]))
        jobs = jobs_of(find_videos([str(clips)]), folder)
        summary = run_batch(work, jobs, folder, LocalBackend(workers, threads=1, on_progress=look))
    finally:
        os.sched_setaffinity(0, before)
    seconds = time.perf_counter() - began[0]
    return Timing(seconds, summary.frames - int(began[1]), _processor_seconds() - began[2])


def _processor_seconds() -> float:
    """Of all workers, those that run and those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [child.cpu_times() for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return used.ru_utime + used.ru_stime + sum(times.user + times.system for times in running)


def machine_gain(*, turns: int = 3, seconds: float = 2.0) -> float:
    """How much more two copies of a loop that only computes do on two cores than one on one."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    counts = [0, 0]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(_computed, [(core, 0.1) for core in cores], chunksize=1)  # both are there
        for _ in range(turns):
            for n, used in enumerate((cores[:1], cores)):
                counts[n] += sum(pool.starmap(_computed, [(core, seconds) for core in used], chunksize=1))
    return counts[1] / counts[0]


def _computed(core: int, seconds: float) -> int:
    """Rounds of arithmetic, on numbers that fit beside the core, that are done in so much time."""
    os.sched_setaffinity(0, [core])
    numbers, rounds = np.ones(2048, np.float32), 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(1000):
            np.add(np.multiply(numbers, np.float32(0.5), out=numbers), np.float32(0.5), out=numbers)
        rounds += 1
    return rounds


# Where the time goes.


@dataclass(slots=True)
class Watch:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Count the time until the block ends."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def each(self, stage: str, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Count the time until each frame comes."""
        iterator = iter(frames)
        while True:
            with self.on(stage):
                frame = next(iterator, None)
            if frame is None:
                return
            yield frame


class _TimedSink:
    def __init__(self, name: str, sink: FrameSink, watch: Watch) -> None:
        self._name, self._sink, self._watch = name, sink, watch
        self.checkpoint, self.close = sink.checkpoint, sink.close

    def write(self, frame: Frame, segmentation: FrameSegmentation) -> None:
        with self._watch.on(f"write {self._name} (thread)"):
            self._sink.write(frame, segmentation)


def stages(work: BatchWork, clip: Path, output: Path) -> tuple[dict[str, float], float]:
    """Milliseconds a frame of every stage of one video, and of the whole."""
    watch = Watch()
    system = work.options.load()
    ready = prepared(planned(work.options, PromptWords()), system, str(clip), weights={})
    step = ready.session.step

    def timed_step(frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        with watch.on("model"):
            return step(frame, force_key=force_key)

    def timed_prefetch(frames: Iterable[Frame]) -> Iterator[Frame]:
        return watch.each("waiting for a frame", prefetch(watch.each("decode (thread)", frames)))

    def timed_sinks(sinks: dict[str, FrameSink]) -> SinkThreads:
        return SinkThreads({name: _TimedSink(name, sink, watch) for name, sink in sinks.items()})

    session: Session = ready.session
    session.step = timed_step  # type: ignore[method-assign]
    with patch.multiple("maskstream.engine.run", prefetch=timed_prefetch, SinkThreads=timed_sinks), watch.on("whole"):
        frames = replace(ready, session=session).run(RunFolder(output, ready.request)).frames
    whole = watch.seconds.pop("whole")
    return {stage: seconds / frames * 1000 for stage, seconds in watch.seconds.items()}, whole / frames * 1000


# Many.


def many(work: BatchWork, clips: Path, broken: Sequence[str]) -> bool:
    """All videos with two workers: are the broken ones named, is nothing else lost, is memory flat."""
    process = psutil.Process()
    total = len(list(clips.iterdir()))
    readings: list[float] = []

    def look(outcome: Outcome) -> None:
        readings.append(process.memory_info().rss / 2**20)
        if len(readings) % max(1, total // 10) == 0:
            print(f"  {len(readings):6} of {total} videos: this process holds {readings[-1]:7.1f} MiB", flush=True)

    began = time.perf_counter()
    folder = BatchFolder(work.output, request_of(work, [str(clips)]))
    jobs = jobs_of(find_videos([str(clips)]), folder)
    summary = run_batch(work, jobs, folder, LocalBackend(2, threads=1), on_outcome=look)
    seconds = time.perf_counter() - began
    there = len(list(work.videos.iterdir()))
    grown = readings[-1] / readings[len(readings) // 5] - 1
    named = sorted(summary.failed) == sorted(broken)
    print(f"  {there} done, {len(summary.failed)} named of {len(broken)} broken, in {seconds:.0f} s with the start")
    print(f"  memory at the end is {grown:+.1%} of that after a fifth (at most +10 %)")
    return named and there == total - len(broken) and grown <= MOST_GROWN


def main() -> None:
    """Render, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--broken", type=float, default=0.0, help="this part of the videos is broken")
    options = parser.parse_args()
    size_hw = options.height, options.height * 4 // 3 // 2 * 2
    torch.set_num_threads(1)
    how = {"segmenter": "motion", "propagator": "flow", "size": options.height}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        broken = write_videos(root / "clips", options.videos, options.frames, size_hw, options.broken)
        settings = SegmentOptions("deva", how)
        print(f"{options.videos} videos of {options.frames} frames, {size_hw[1]}×{size_hw[0]}", flush=True)
        if options.broken:
            sys.exit(not many(BatchWork(settings, {}, root / "many"), root / "clips", broken))
        busy = psutil.cpu_percent(interval=2.0)
        print(f"other programs take {busy:.0f} % of this machine", flush=True)
        speeds, spent = {}, {}
        for workers, core_count in ((1, 1), (1, 2), (2, 2)):
            work = BatchWork(settings, {}, root / f"out{workers}{core_count}")
            cost = timed(work, root / "clips", workers, core_count)
            speeds[workers, core_count] = cost.frames / cost.seconds
            spent[workers, core_count] = cost.processor / cost.frames
            print(
                f"  workers {workers}, cores {core_count}: {cost.seconds:6.1f} s, "
                f"{speeds[workers, core_count]:6.2f} frames/s, "
                f"{spent[workers, core_count] * 1000:6.1f} ms of processor time a frame",
                flush=True,
            )
        gained = speeds[2, 2] / speeds[1, 1]
        alone = 2 * spent[1, 1] / spent[2, 2]
        possible = machine_gain()
        print(f"two workers on two cores are {gained:.2f} times as fast as one on one,")
        print(f"and {speeds[2, 2] / speeds[1, 2]:.2f} times as fast as one that may use both;")
        print(
            f"two loops that only compute, {possible:.2f} times: workers get {gained / possible:.0%} of what is there;"
        )
        print(f"by processor time, {alone:.2f} times on cores that have nothing else to do (target {TARGET})")
        each, whole = stages(BatchWork(settings, {}, root), next((root / "clips").iterdir()), root / "stages")
        print("one video in one process, ms a frame:")
        for stage, ms in each.items():
            print(f"  {stage:32} {ms:7.2f}")
        waiting = each["waiting for a frame"] / whole
        print(f"  {'the whole run':32} {whole:7.2f}")
        print(f"the model waits for frames {waiting:.1%} of the time (at most {MOST_WAITING:.0%})")
    sys.exit((alone if busy > BUSY else gained) < TARGET or waiting > MOST_WAITING)


if __name__ == "__main__":
    main()
