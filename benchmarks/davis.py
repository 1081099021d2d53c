"""Region similarity and boundary accuracy on a data set in the layout of DAVIS-2016.

    python benchmarks/davis.py ROOT --split dev --task vos [--sequences bear,bus] [--workers 2] [--json scores.json]

`vos`: the mask of the first frame is given; first and last frame are not counted (the official rule).
`uvos`: nothing is given; the foreground is the union of everything that was found. Nothing is chosen by the truth.
`--baseline copy` repeats the first mask on every frame, `--baseline flow` moves it along DIS flow and nothing else.

Prints a row a sequence, and last the mean over sequences in percent: `J 41.2 F 39.8 J&F 40.5`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from maskstream.api import load
from maskstream.formats import read_label_png
from maskstream.metrics import boundary_f, region_similarity, sequence_mean
from maskstream.optical_flow import dense_flow
from maskstream.types import MaskPrompt, Task, Video
from maskstream.video import open_video

Method = Literal["model", "copy", "flow"]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Row:
    """Scores of one sequence, fractions, and what it took."""

    sequence: str
    region: float
    boundary: float
    frames: int
    seconds: float


def foregrounds(video: Video, first: Mask, task: Task, method: Method, parts: Mapping[str, Any]) -> Iterator[Mask]:
    """The predicted foreground of every frame."""
    if method == "copy":
        yield from (first for _ in video)
    elif method == "flow":
        yield from _moved_by_flow(video, first)
    else:
        session = load(**parts).start(task, size_hw=video.size_hw, fps=video.fps)
        session.prompt([MaskPrompt(0, 1, first)] if task is Task.VOS else [])
        for frame in video:
            for result in session.step(frame):
                yield result.label_map().numpy() > 0
        for result in session.finish():
            yield result.label_map().numpy() > 0


def _moved_by_flow(video: Video, first: Mask) -> Iterator[Mask]:
    soft, before = first.astype(np.float32), None
    for frame in video:
        grey = np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        if before is not None:
            flow = dense_flow(grey, before)
            rows, columns = np.indices(grey.shape, dtype=np.float32)
            soft = np.asarray(cv2.remap(soft, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR))
        before = grey
        yield soft > 0.5


def score(root: Path, sequence: str, task: Task, method: Method, parts: Mapping[str, Any]) -> Row:
    """Run one sequence."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    video = open_video(root / "JPEGImages" / "480p" / sequence)
    truth = [read_label_png(path) > 0 for path in sorted((root / "Annotations" / "480p" / sequence).glob("*.png"))]
    began = time.perf_counter()
    found = list(foregrounds(video, truth[0], task, method, parts))
    seconds = time.perf_counter() - began
    pairs = list(zip(found, truth, strict=True))
    skip = task is Task.VOS
    region = sequence_mean([region_similarity(mask, true) for mask, true in pairs], skip_first_last=skip)
    boundary = sequence_mean([boundary_f(mask, true) for mask, true in pairs], skip_first_last=skip)
    return Row(sequence, region, boundary, len(pairs), seconds)


def main() -> None:
    """Run all sequences, print rows and the mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--task", choices=["vos", "uvos"], default="vos")
    parser.add_argument("--baseline", choices=["copy", "flow"], help="instead of the model; vos only")
    parser.add_argument("--sequences", help="only these, with commas between")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--segmenter", help="as for 'maskstream segment'")
    parser.add_argument("--propagator", help="as for 'maskstream segment'")
    parser.add_argument("--size", type=int, help="as for 'maskstream segment'")
    options = parser.parse_args()
    if options.baseline and options.task != "vos":
        parser.error("baselines need the first mask: --task vos")
    listing = options.root / "ImageSets" / "2016" / f"{options.split}.txt"
    if not listing.exists():
        parser.error(f"{listing} does not exist: is {options.root} in the layout of DAVIS-2016?")
    sequences = options.sequences.split(",") if options.sequences else listing.read_text().split()

    rows = []
    method: Method = options.baseline or "model"
    given = {name: getattr(options, name) for name in ("segmenter", "propagator", "size")}
    parts = {name: value for name, value in given.items() if value is not None}
    with ProcessPoolExecutor(options.workers) as pool:
        futures = [pool.submit(score, options.root, s, Task(options.task), method, parts) for s in sequences]
        for done, future in enumerate(futures, start=1):
            row = future.result()
            rows.append(row)
            speed = row.seconds / row.frames * 1000
            print(f"{row.sequence:24} J {100 * row.region:5.1f}  F {100 * row.boundary:5.1f}  {speed:5.0f} ms/frame")
            print(f"{done} of {len(sequences)} sequences", file=sys.stderr)
    region, boundary = fmean(row.region for row in rows), fmean(row.boundary for row in rows)
    if options.json:
        options.json.write_text(json.dumps({"J": region, "F": boundary, "rows": [asdict(row) for row in rows]}) + "\n")
    print(f"J {100 * region:.1f} F {100 * boundary:.1f} J&F {50 * (region + boundary):.1f}")


if __name__ == "__main__":
    main()
