"""What Tube-Link's parts are worth, in the manner of its Tables 8, 10 and 11, on videos of the synthetic world.

    python benchmarks/tubelink.py --runs runs/tubelink [--seeds 0 1 2] [--steps 300] [--videos 8] [--level medium]
    python benchmarks/tubelink.py --runs runs/tubelink --only default       # one variant, as a first look

Every variant of the recipe ``tubelink-tiny`` is trained, each with several seeds, into a folder of its own under
``--runs``; what is complete there is not trained again, and what was interrupted goes on. Then each is measured, on the
same videos, which none was trained on. What was measured already is kept in benchmarks/results/tubelink.jsonl and not
done again, nor trained for; ``--scores`` names another file. Numbers are percent: mean over seeds ± half of the 95 %
interval (Student's t). Where a difference is more than two of its standard deviations over seeds, it is "as in the
paper" or "the other way round"; otherwise "within noise".

Tables go to the terminal and to benchmarks/results/tubelink.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskstream.metrics import Accumulator, SegmentationTrackingQuality, VideoInstanceAP, VideoPanopticQuality
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.synthetic.world import LEVELS, Level
from maskstream.systems.tubelink import TubeLinkSettings, load_tubelink
from maskstream.training.tubelink import WINDOWS
from maskstream.types import Frame, FrameAnnotation, Task
from study import Journal, Scores, gaps, judged, trained, with_interval

SEED = 3_000_017
"""Of the first video; neither training nor its validation has it."""

SIZE, FRAMES = (128, 224), 24
MIN_SCORE = 0.5
RESULTS = Path(__file__).parent / "results" / "tubelink.md"
SCORES = RESULTS.with_suffix(".jsonl")

TRAINED: dict[str, tuple[str, ...]] = {
    "default": (),
    "no link": ("task.link=none",),
    "no embedding": ("task.frames=2", "task.tubes=1", "train.batch=4"),
    "frames": ("task.frames=1", "task.tubes=1", "train.batch=8"),
    "T=1": ("task.frames=2", "train.batch=4"),
    "T=2, overlapping": ("task.frames=3", "task.overlap=1"),
    "T=3": ("task.frames=6",),
    "T=1, dense": ("task.frames=2", "train.batch=4", "task.assignment=dense"),
    "dense": ("task.assignment=dense",),
    "first frames": ("task.assignment=frame",),
}
"""By name, what is changed in the recipe."""


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        label: what it says.
        trained: which network.
        settings: of inference, for `TubeLinkSettings`.
        paper: what the paper has, for its first column.
        task: that is measured.
    """

    label: str
    trained: str
    settings: tuple[tuple[str, object], ...]
    paper: float | None = None
    task: Task = Task.VPS


def row(
    label: str, trained: str = "default", paper: float | None = None, task: Task = Task.VPS, **settings: object
) -> Row:
    """A line, with the window that training had where nothing is said."""
    return Row(label, trained, tuple(sorted({"window": 2, **settings}.items())), paper, task)


TABLES: dict[str, list[Row]] = {
    "Tubes against frames: the same weights": [
        row("W = 1, overlap of masks", window=1, linking="overlap"),
        row("W = 1, embeddings", window=1),
        row("W = 4, embeddings", window=4),
        row("W = 6, embeddings", window=6),
    ],
    "Table 8a: parts (VPQ)": [
        row("frames, by queries", "frames", 32.4, window=1, linking="query"),
        row("tubes, by queries", "no embedding", 34.5, linking="query"),
        row("+ temporal contrastive learning", "no link", 36.8),
        row("+ cross-tube linking", "default", 37.5),
    ],
    "Table 8b: contrastive learning (VPQ)": [
        row("dense queries of frames", "T=1, dense", 30.2),
        row("sparse queries of frames", "T=1", 34.5),
        row("queries of tubes", "default", 37.5),
    ],
    "Table 8c: what queries are assigned by (VPQ)": [
        row("all masks", "dense", 30.1),
        row("the mask of one frame", "first frames", 35.6),
        row("the masks of the tube", "default", 37.5),
    ],
    "Table 8d: frames of a tube in training, W = 2 (VPQ)": [
        row("1", "T=1", 35.6),
        row("2", "default", 37.5),
        row("2, overlapping by one", "T=2, overlapping", 37.3),
        row("3", "T=3", 37.0),
    ],
    "Table 8e: frames of a tube in inference (VPQ)": [
        row("2", paper=37.5, window=2),
        row("4", paper=39.0, window=4),
        row("6", paper=39.2, window=6),
        row("8", paper=38.5, window=8),
    ],
    "Table 8f: what is tracked by (VPQ)": [
        row("overlap of masks (an extra tracker there)", paper=36.6, linking="overlap"),
        row("features in boxes (learned there)", paper=35.9, linking="boxes"),
        row("queries", paper=36.0, linking="query"),
        row("embeddings", paper=37.5, linking="embedding"),
    ],
    "Table 10: frames of a tube, instances (AP)": [
        row(str(n), paper=paper, task=Task.VIS, window=n, min_score=0.05)
        for n, paper in ((1, 47.8), (2, 49.8), (3, 51.3), (4, 52.8), (6, 51.2))
    ],
    "Table 11: overlap of tubes, W = 6 (VPQ)": [
        row(str(n), paper=paper, window=6, overlap=n) for n, paper in ((0, 30.6), (1, 30.5), (2, 31.2), (4, 31.6))
    ],
}


@cache
def videos(count: int, level: Level) -> list[tuple[str, list[Frame], list[FrameAnnotation]]]:
    """Name, frames and truth of each."""
    found = []
    for video in synthetic_videos(level=level, seed=SEED, videos=count, frames=FRAMES, size_hw=SIZE):
        read = video.read_image
        assert read is not None
        frames = [Frame(n, n / 24, read(n)) for n in range(FRAMES)]
        found.append((video.name, frames, [video.annotation(n) for n in range(FRAMES)]))
    return found


def measure(weights: Path, one: Row, count: int, level: Level) -> Scores:
    """Fractions by metric, and ``ms`` a frame."""
    settings = TubeLinkSettings(**{"min_score": MIN_SCORE, **dict(one.settings)})  # type: ignore[arg-type]
    system = load_tubelink(str(weights), settings=settings)
    metrics: list[Accumulator[Any, Any, Any]] = (
        [VideoPanopticQuality(WORLD, windows=WINDOWS), SegmentationTrackingQuality(WORLD, crowd="none")]
        if one.task is Task.VPS
        else [VideoInstanceAP(WORLD)]
    )
    seconds = 0.0
    for name, frames, truth in videos(count, level):
        began = time.perf_counter()
        session = system.start(one.task, size_hw=SIZE, categories=WORLD)
        results = [*(result for frame in frames for result in session.step(frame)), *session.finish()]
        seconds += time.perf_counter() - began
        for metric in metrics:
            for index, result in enumerate(results):
                metric.update(name, index, truth[index], result)
            metric.end_sequence(name)
    values = {name: value for metric in metrics for name, value in metric.result().values.items()}
    kept = {"VPQ": "VPQ_1246", "VPQth": "VPQ_1246_things", "STQ": "STQ", "AP": "AP"}
    scores = {name: float(values[key]) for name, key in kept.items() if key in values}
    return {**scores, "ms": 1000 * seconds / (count * FRAMES)}


def scores_of(
    options: argparse.Namespace, weights: Callable[[str, int], Path]
) -> Iterator[tuple[str, Row, list[Scores]]]:
    """Table, row, and the scores of each seed."""
    journal = Journal(options.scores)
    for table, rows in TABLES.items():
        for one in rows:
            if options.only and one.trained not in options.only:
                continue
            found = []
            for seed in options.seeds:

                def measured(one: Row = one, seed: int = seed) -> Scores:
                    return measure(weights(one.trained, seed), one, options.videos, options.level)

                key = (one.trained, one.settings, one.task.value, seed, options.steps, options.videos, options.level)
                found.append(journal.scores(key, measured))
            yield table, one, found


def verdict(rows: Sequence[tuple[Row, list[Scores]]], metric: str) -> list[str]:
    """Of every two rows of a table, whether they are ordered as in the paper."""
    lines = []
    for n, (first, ours) in enumerate(rows):
        for second, theirs in rows[n + 1 :]:
            if first.paper is None or second.paper is None:
                continue
            difference, published = gaps(ours, theirs, metric), second.paper - first.paper
            lines.append(
                f"{second.label} − {first.label}: {100 * np.mean(difference):+.1f} (paper {published:+.1f}), "
                f"{judged(difference, published)}"
            )
    return lines


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of runs")
    parser.add_argument("--core", default="core-tiny", help="weights that all begin from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--level", default="medium", choices=LEVELS)
    parser.add_argument("--only", nargs="+", choices=list(TRAINED), help="variants that are trained and measured")
    parser.add_argument("--scores", type=Path, default=SCORES, help="what was measured before")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    options.runs.mkdir(parents=True, exist_ok=True)

    @cache
    def weights(name: str, seed: int) -> Path:
        settings = ("train.ema=0.98", f"model.init={options.core}", *TRAINED[name])  # runs are short
        return trained("tubelink-tiny", settings, options.runs, name=name, seed=seed, steps=options.steps)

    tables: dict[str, list[tuple[Row, list[Scores]]]] = {}
    for table, one, scores in scores_of(options, weights):
        tables.setdefault(table, []).append((one, scores))
        print(f"{table} | {one.label} | " + ", ".join(f"{k} {np.mean([s[k] for s in scores]):.3f}" for k in scores[0]))
    lines = [
        "# Tube-Link on the synthetic world",
        "",
        f"`python benchmarks/tubelink.py`: {options.videos} videos of {FRAMES} frames, {SIZE[0]}×{SIZE[1]}, level "
        f"{options.level}; {options.steps} steps from {Path(options.core).name}, seeds: {len(options.seeds)}. Percent; "
        "ms a frame with one thread of whatever machine it was.",
        "",
    ]
    for table, rows in tables.items():
        metrics = [name for name in rows[0][1][0] if name != "ms"]
        lines += [f"## {table}", "", f"| | {' | '.join(metrics)} | paper | ms |", "|---" * (len(metrics) + 3) + "|"]
        for one, scores in rows:
            cells = [with_interval([score[name] for score in scores]) for name in metrics]
            paper = "" if one.paper is None else f"{one.paper:.1f}"
            ms = f"{np.median([score['ms'] for score in scores]):.0f}"
            lines.append(f"| {one.label} | {' | '.join(cells)} | {paper} | {ms} |")
        lines += ["", *(f"* {line}" for line in verdict(rows, metrics[0])), ""]
    text = "\n".join(lines)
    options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
