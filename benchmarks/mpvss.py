"""Semantic segmentation of video by carrying masks: quality and cost of every way, on videos of the synthetic world.

    python benchmarks/mpvss.py [--weights core-tiny] [--motion NAME=FOLDER ...] [--intervals 2 5 10] [--videos 8]

Every frame by itself; masks of key frames as copies, and by optical flow without weights; and by each motion module
that is named, which training wrote (``maskstream train mpvss-tiny``). Key frames at intervals, or adaptive with a cap
of twice the interval. Videos are those that nothing was trained on. mVC8: of pixels whose true class stays for 8
frames, those that stand still in the prediction. Costs are multiply-adds a frame, averaged, as the paper counts,
without optical flow; times are with one thread, medians over videos.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from maskstream.metrics import SemanticQuality, VideoConsistency
from maskstream.shipped import weights_of
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.synthetic.world import LEVELS, Level
from maskstream.systems.mpvss import KeySettings, Mpvss, MpvssSettings, load_mpvss
from maskstream.systems.mpvss.cost import cost
from maskstream.types import Frame, FrameAnnotation, Task

SEED = 3_000_017
"""Of the first video; neither training nor its validation has it."""

SIZE, FRAMES = (128, 224), 40


@dataclass(frozen=True)
class Film:
    """A video with its truth."""

    name: str
    frames: list[Frame]
    truth: list[FrameAnnotation]


def films(count: int, level: Level) -> list[Film]:
    """Rendered videos."""
    found = []
    for video in synthetic_videos(level=level, seed=SEED, videos=count, frames=FRAMES, size_hw=SIZE):
        read = video.read_image
        assert read is not None
        frames = [Frame(n, n / 24, read(n)) for n in range(FRAMES)]
        found.append(Film(video.name, frames, [video.annotation(n) for n in range(FRAMES)]))
    return found


def ways(options: argparse.Namespace) -> Iterator[tuple[str, str, MpvssSettings]]:
    """Label, weights, settings."""
    core = str(weights_of(options.weights, "segmenter"))
    yield "every frame", core, MpvssSettings(keys=KeySettings(interval=1))
    for interval in options.intervals:
        for adaptive in (False, True):
            keys = KeySettings(interval=interval * (2 if adaptive else 1), adaptive=adaptive)
            when = f"adaptive, at most {keys.interval}" if adaptive else f"every {interval}"
            yield f"copies, {when}", core, MpvssSettings(keys=keys, carrying="copy")
            yield f"optical flow, {when}", core, MpvssSettings(keys=keys, carrying="flow")
            for named in options.motion:
                label, _, folder = named.partition("=")
                yield f"{label}, {when}", folder, MpvssSettings(keys=keys, carrying="motion")


def measure(system: Mpvss, videos: list[Film]) -> tuple[float, float, float, float]:
    """mIoU and mVC8 in percent, key frames as a share of all, and milliseconds a frame."""
    quality, consistency = SemanticQuality(WORLD), VideoConsistency(windows=(8,))
    keys, times = 0, []
    segment = system.network.key_frame

    def counted(*arguments: torch.Tensor) -> object:
        nonlocal keys
        keys += 1
        return segment(*arguments)

    system.network.key_frame = counted  # type: ignore[assignment,method-assign]
    for film in videos:
        session = system.start(Task.VSS, size_hw=SIZE, categories=WORLD)
        began = time.perf_counter()
        results = [result for frame in film.frames for result in session.step(frame)]
        times.append(1000 * (time.perf_counter() - began) / FRAMES)
        for metric in (quality, consistency):
            for index, result in enumerate(results):
                metric.update(film.name, index, film.truth[index], result)
            metric.end_sequence(film.name)
    percent = 100 * quality.result().values["mIoU"], 100 * consistency.result().values["mVC8"]
    return *percent, keys / (len(videos) * FRAMES), median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="core-tiny", help="of key frames, where there is no motion module")
    parser.add_argument("--motion", nargs="*", default=[], metavar="NAME=FOLDER", help="trained motion modules")
    parser.add_argument("--intervals", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--level", default="medium", choices=LEVELS)
    parser.add_argument("--output", type=Path, help="write the table there, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    videos = films(options.videos, options.level)
    lines = ["| masks | mIoU | mVC8 | key frames | GMAC | ms |", "|---|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for label, weights, settings in ways(options):
        system = load_mpvss(weights, settings=settings)
        found = cost(system.network, system.pixels.resized_hw(SIZE))
        miou, mvc, share, ms = measure(system, videos)
        macs = f"{(share * found.key + (1 - share) * found.between) / 1e9:.2f}"
        lines.append(f"| {label} | {miou:.1f} | {mvc:.1f} | {100 * share:.0f} % | {macs} | {ms:.0f} |")
        print(lines[-1], flush=True)
    if options.output is not None:
        options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
