"""What queries of TarViS become for each task: their two main directions, as in the supplement of the paper.

    python benchmarks/tarvis_queries.py WEIGHTS OUT.png [--videos 6] [--level medium] [--frames 6]

Every video is one clip. It is asked for instances and classes, then for the things of its first frame by their masks,
and by points. What all these queries are after the last layer is one cloud, whose principal components are drawn:
instances that are sure, classes that are there, objects with masks, objects with points. The share of the variance
that both components hold is said, and how far kinds are apart: the share of all variance that is between their means.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.files import atomic_path
from maskstream.mask2former.prediction import ClipTargets
from maskstream.synthetic.world import LEVELS
from maskstream.systems.tarvis import TarViSNetwork, read_tarvis
from maskstream.systems.tarvis.network import padded_pixels
from maskstream.systems.tarvis.targets import middle_points
from maskstream.training.target_clips import TargetClip
from maskstream.training.tarvis import pointed_answers
from tasks import LEAST_PIXELS, SIZE, Known, videos

SURE = 0.5
COLOURS = {"instances": (60, 60, 220), "classes": (60, 160, 60), "masks": (220, 120, 40), "points": (170, 40, 170)}
"""Of the dots, BGR."""

WIDTH, HEIGHT, MARGIN = 720, 560, 40


@torch.no_grad()
def queries_of(network: TarViSNetwork, video: Known, frames: int) -> dict[str, Tensor]:
    """What queries of each kind become, ``float[X, C]``, in the first frames of a video."""
    pictures = np.stack([frame.image for frame in video.frames[:frames]])
    features = network.features(padded_pixels(torch.from_numpy(pictures).permute(0, 3, 1, 2)[None]))
    found: dict[str, Tensor] = {}
    for space in network.config.label_spaces[:1]:
        (answers,) = network.categories(features, space)
        sure_q = answers.instances.classes_bqc[0].softmax(-1)[:, :-1].amax(-1) > SURE
        there_k = torch.zeros(len(answers.classes_bkc[0]), dtype=torch.bool)
        there_k[torch.unique(answers.semantic_bkthw[0].argmax(0))] = True
        found = {"instances": answers.instances.queries_bqc[0, sure_q], "classes": answers.classes_bkc[0, there_k]}
    ids_hw = torch.from_numpy(video.ids(0))
    things = [segment.id for segment in video.truth[0].segmentation.segments if segment.is_thing]
    masks = [mask_hw for mask_hw in (ids_hw == number for number in things) if int(mask_hw.sum()) >= LEAST_PIXELS]
    if masks:
        targets = ClipTargets(torch.zeros(len(masks), dtype=torch.int64), torch.stack(masks)[:, None])
        for kind, points_p2 in (("masks", torch.zeros(0, 2)), ("points", middle_points(targets.masks_nthw[:, 0]))):
            clip = TargetClip(targets, points_p2=points_p2)
            found[kind] = pointed_answers(network, features, clip, SIZE)[-1].queries_bqc[0]
    return found


def drawn(places: dict[str, NDArray[np.float32]], title: str) -> NDArray[np.uint8]:
    """A dot for each query."""
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    every = np.concatenate(list(places.values()))
    low, high = every.min(0), every.max(0)
    for row, (kind, places_n2) in enumerate(places.items()):
        scaled = (places_n2 - low) / np.maximum(high - low, 1e-6)
        for x, y in scaled:
            centre = (int(MARGIN + x * (WIDTH - 2 * MARGIN)), int(HEIGHT - MARGIN - y * (HEIGHT - 3 * MARGIN)))
            cv2.circle(picture, centre, 4, COLOURS[kind], -1, cv2.LINE_AA)
        cv2.circle(picture, (WIDTH - 150, 20 + 18 * row), 5, COLOURS[kind], -1, cv2.LINE_AA)
        label = f"{kind} ({len(places_n2)})"
        cv2.putText(
            picture, label, (WIDTH - 138, 24 + 18 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA
        )
    cv2.putText(picture, title, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return picture


def main() -> None:
    """Ask, take apart, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--level", default="medium", choices=LEVELS)
    parser.add_argument("--frames", type=int, default=6)
    options = parser.parse_args()
    network = read_tarvis(options.weights)
    clouds: dict[str, list[Tensor]] = {kind: [] for kind in COLOURS}
    for video in videos(options.videos, options.level, options.frames):
        for kind, queries_xc in queries_of(network, video, options.frames).items():
            clouds[kind].append(queries_xc)
    cloud = {kind: torch.cat(parts).numpy() for kind, parts in clouds.items() if parts and len(torch.cat(parts))}
    every = np.concatenate(list(cloud.values()))
    mean = every.mean(0)
    _, spread, axes = np.linalg.svd(every - mean, full_matrices=False)
    held = float((spread[:2] ** 2).sum() / (spread**2).sum())
    between = sum(len(part) * float(((part.mean(0) - mean) ** 2).sum()) for part in cloud.values())
    apart = between / float(((every - mean) ** 2).sum())
    picture = drawn(
        {kind: (part - mean) @ axes[:2].T for kind, part in cloud.items()}, f"{100 * held:.0f} % of variance"
    )
    with atomic_path(options.output) as temporary:
        temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    counts = ", ".join(f"{len(part)} {kind}" for kind, part in cloud.items())
    print(f"{counts}; two components hold {100 * held:.1f} %, between kinds are {100 * apart:.1f} % of the variance")


if __name__ == "__main__":
    main()
