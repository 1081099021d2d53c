"""Interactive segmentation with simulated clicks on a data set in the layout of DAVIS-2016.

    python benchmarks/clicks.py ROOT [--split dev] [--every 10] [--segmenters grabcut,click-small] [--json scores.json]

Every 10th frame is a picture of its own. The first click is in the middle of the object; each further one is in the
middle of the largest mistake, on the object or off it, and is given together with the clicks before and the mask so far
(the protocol of RITM: Sofiiuk et al., ICIP 2022). The middle is where the outline is farthest.

Prints the mean intersection over union, in percent, after 1, 3 and 5 clicks, and the processor time of a click: with
OMP_NUM_THREADS=1 what it takes on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskstream.api import load_prompter
from maskstream.formats import read_label_png
from maskstream.metrics import region_similarity
from maskstream.training.clicked import largest_mistake
from maskstream.types import Frame, ImageSegmenter, MaskPrompt, PointPrompt
from maskstream.video import open_video

Mask = NDArray[np.bool_]
COUNTS = (1, 3, 5)


@dataclass(frozen=True, slots=True)
class Row:
    """Mean intersection over union, fractions, after each of `COUNTS` clicks, and seconds of the processor a click."""

    segmenter: str
    pictures: int
    ious: tuple[float, ...]
    seconds: float


def next_click(truth: Mask, found: Mask) -> tuple[tuple[float, float], bool]:
    """Where somebody would click who sees the largest mistake, and whether it is on the object."""
    depth, positive = largest_mistake(truth, found)
    row, column = np.unravel_index(int(depth.argmax()), truth.shape)
    return (float(column), float(row)), positive


def pictures(root: Path, split: str, every: int) -> Iterator[tuple[Frame, Mask]]:
    """Frames that show an object, with its mask."""
    for sequence in (root / "ImageSets" / "2016" / f"{split}.txt").read_text().split():
        truth = sorted((root / "Annotations" / "480p" / sequence).glob("*.png"))
        for frame, path in zip(open_video(root / "JPEGImages" / "480p" / sequence), truth, strict=True):
            if frame.index % every == 0:
                mask = read_label_png(path) > 0
                if mask.any():
                    yield frame, mask


def clicked(segmenter: ImageSegmenter[Any], frame: Frame, truth: Mask, clicks: int) -> Iterator[Mask]:
    """What is found after each click."""
    (features,) = segmenter.encode([frame])
    found = np.zeros_like(truth)
    points: list[tuple[float, float]] = []
    signs: list[bool] = []
    for _ in range(clicks):
        point, positive = next_click(truth, found)
        points.append(point)
        signs.append(positive)
        before = [MaskPrompt(frame.index, 1, torch.from_numpy(found))] if found.any() else []
        given = PointPrompt(frame.index, 1, tuple(points), tuple(signs), add=bool(before))
        found = segmenter.segment(features, [*before, given]).masks_nhw[0].numpy() > 0.5
        yield found


def score(name: str, root: Path, split: str, every: int) -> Row:
    """Run one segmenter."""
    segmenter, ious, seconds = load_prompter(name), [], []
    for done, (frame, truth) in enumerate(pictures(root, split, every), start=1):
        began = time.process_time()
        masks = list(clicked(segmenter, frame, truth, max(COUNTS)))
        seconds.append((time.process_time() - began) / max(COUNTS))
        ious.append([region_similarity(masks[count - 1], truth) for count in COUNTS])
        print(f"{name}: {done} pictures", file=sys.stderr)
    return Row(name, len(ious), tuple(fmean(column) for column in zip(*ious, strict=True)), fmean(seconds))


def main() -> None:
    """Run all segmenters and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--segmenters", default="grabcut,click-small", help="with commas between")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [score(name, options.root, options.split, options.every) for name in options.segmenters.split(",")]
    print(f"{'segmenter':16} pictures " + "".join(f"  {count} clicks" for count in COUNTS) + "  ms a click")
    for row in rows:
        means = "".join(f"  {100 * iou:8.1f}" for iou in row.ious)
        print(f"{row.segmenter:16} {row.pictures:8} {means}  {1000 * row.seconds:10.0f}")
    if options.json:
        plain = [{"segmenter": row.segmenter, "ious": row.ious, "seconds": row.seconds} for row in rows]
        options.json.write_text(json.dumps(plain) + "\n")


if __name__ == "__main__":
    main()
