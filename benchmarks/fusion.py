"""How long DEVA's fusion takes at 480×854: agreeing on the proposals of a clip, and merging them with what is tracked.

    python benchmarks/fusion.py [--official CHECKOUTS]

Draws ellipses that jitter from frame to frame. Alignment, the work of a propagator, is taken as done. Times are those
of a clock on the wall, of one thread, the best of many runs (of the authors' code: of five, or one where it takes half
a minute). Ends with exit code 1 when one is above its target.

With ``--official`` the authors' fusion does the same beside ours, and has to come to the same objective and the same
merged picture. CHECKOUTS is a folder with a checkout of hkchengrex/Tracking-Anything-with-DEVA, named as its
repository. Their code runs as it is, without the network, and needs PuLP and its solver CBC; where it would align a
frame, it gets the masks back as they are.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from maskstream.systems.deva import Consensus, Detections, Merge, agreed, consensus, merge, pairwise_iou
from maskstream.types import LabelMap, PackedMasks, pack_masks

SIZE = (480, 854)
FRAMES = 3
RUNS = 40

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One line of the table, in milliseconds; None where there is no target, or the authors' code was not run."""

    work: str
    ours: float
    target: float | None
    official: float | None = None


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, metavar="CHECKOUTS")
    options = parser.parse_args()
    torch.set_num_threads(1)
    official = Official(options.official / "Tracking-Anything-with-DEVA") if options.official else None
    rows = [*voting(20, official, whole=25, program=5), merging(20, official, target=5), overlapping(20)]
    rows += [*voting(150, official, whole=150, program=None), merging(150, None, target=None), overlapping(150)]
    print(f"{'ms, 480×854, one thread':46} {'ours':>7} {'target':>7} {'official':>9} {'ratio':>7}")
    for row in rows:
        target = "–" if row.target is None else f"{row.target:.0f}"
        theirs = "–" if row.official is None else f"{row.official:.1f}"
        ratio = "–" if row.official is None else f"{row.official / row.ours:.0f}×"
        print(f"{row.work:46} {row.ours:7.2f} {target:>7} {theirs:>9} {ratio:>7}")
    sys.exit(any(row.target is not None and row.ours > row.target for row in rows))


def voting(count: int, official: Official | None, *, whole: float, program: float | None) -> list[Row]:
    """The consensus of a clip: IoUs, program and painting; and the program alone."""
    maps = [label_map(masks_nhw) for masks_nhw in jittering_ellipses(count)]
    nothing_known = ((None, None),)
    clip = [Detections(map_hw, (None,) * count, (nothing_known,) * count) for map_hw in maps]
    iou_pp, areas_p = pairwise_iou([LabelMap(map_hw) for map_hw in maps], [count] * FRAMES)
    frames, groups = np.repeat(range(FRAMES), count), [None] * count * FRAMES

    def solve() -> Consensus:
        return consensus(iou_pp, frames, groups, areas_p=areas_p)

    ours, _ = best_of(RUNS, lambda: agreed(clip))
    solving, choice = best_of(RUNS, solve)
    theirs = official.vote(maps, count) if official else None
    if theirs and not math.isclose(theirs.objective, 2 * choice.objective, rel_tol=1e-5):
        raise AssertionError(
            f"twice our objective is {2 * choice.objective}, but that of the authors {theirs.objective}"
        )
    work = f"consensus of {FRAMES} frames × {count} proposals"
    return [
        Row(work, ours, whole, theirs.whole if theirs else None),
        Row("  of which the program", solving, program, theirs.program if theirs else None),
    ]


def overlapping(count: int) -> Row:
    """The choice among proposals of a frame that overlap, bit-packed: IoUs and program."""
    clip: list[PackedMasks] = [pack_masks(masks_nhw) for masks_nhw in jittering_ellipses(count)]
    frames, groups = np.repeat(range(FRAMES), count), [None] * count * FRAMES

    def choose() -> Consensus:
        iou_pp, areas_p = pairwise_iou(clip, [count] * FRAMES)
        return consensus(iou_pp, frames, groups, areas_p=areas_p)

    ours, _ = best_of(RUNS // 4, choose)
    return Row(f"choice of {FRAMES} frames × {count} overlapping proposals", ours, None)


def merging(count: int, official: Official | None, *, target: float | None) -> Row:
    """What is tracked with what is detected."""
    objects_hw, proposals_hw = (label_map(masks_nhw) for masks_nhw in jittering_ellipses(count)[:2])
    groups = [None] * count

    def work() -> Merge:
        return merge(objects_hw, groups, proposals_hw, groups)

    ours, merged = best_of(RUNS, work)
    theirs = None
    if official:
        theirs, painted = official.merge(objects_hw, proposals_hw, count)
        id_of_label = torch.tensor([0, *range(1, count + 1), *(count + 1 + p for p in merged.new)])
        if not torch.equal(id_of_label[merged.label_map.long()], painted):
            raise AssertionError("the merged pictures differ")
    return Row(f"merging {count} objects with {count} proposals", ours, target, theirs)


def best_of(runs: int, work: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds of the fastest run, and what the last one gave."""
    fastest = math.inf
    for _ in range(runs):
        began = time.perf_counter()
        result = work()
        fastest = min(fastest, 1000 * (time.perf_counter() - began))
    return fastest, result


# What is fused.


def jittering_ellipses(count: int) -> list[Tensor]:
    """Of every frame ``bool[N, H, W]``: the more, the smaller; each frame has them a few pixels elsewhere."""
    rng = np.random.default_rng(0)
    height, width = SIZE
    centres, radii = rng.random((count, 2)), rng.uniform(0.05, 0.2, (count, 2)) * math.sqrt(20 / count)
    clip = []
    for _ in range(FRAMES):
        masks_nhw = np.zeros((count, *SIZE), np.uint8)
        for n, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
            y, x = centre * SIZE + rng.normal(0, 4, 2)
            axes = (int(radius[1] * width), int(radius[0] * height))
            cv2.ellipse(masks_nhw[n], (int(x), int(y)), axes, 20.0 * n, 0, 360, 1, -1)
        clip.append(torch.from_numpy(masks_nhw).bool())
    return clip


def label_map(masks_nhw: Tensor) -> Tensor:
    """``int32[H, W]``, later ones painted over earlier ones."""
    labels_n11 = torch.arange(1, len(masks_nhw) + 1, dtype=torch.int32)[:, None, None]
    return (masks_nhw * labels_n11).amax(dim=0)


# The authors' fusion.


@dataclass(frozen=True)
class OfficialVote:
    """What the authors' consensus took, in milliseconds, and what it reached: twice what eq. 4 says."""

    whole: float
    program: float
    objective: float


class Official:
    """The authors' ``find_consensus_auto_association`` and ``match_and_merge``."""

    def __init__(self, checkout: Path) -> None:
        sys.path.insert(0, str(checkout))
        for name in ("deva.model", "deva.model.memory_utils", "deva.model.network"):
            # Fusion given alignment calls nothing of the network, but names its class.
            sys.modules[name] = ModuleType(name)
        sys.modules["deva.model.network"].__dict__["DEVA"] = object
        self._consensus = import_module("deva.inference.consensus_automatic")
        self._merging = import_module("deva.inference.segment_merging")
        self._info = import_module("deva.inference.object_info").ObjectInfo
        self._frame = import_module("deva.inference.frame_utils").FrameInfo
        self._manager = import_module("deva.inference.object_manager").ObjectManager
        self._consensus.__dict__["spatial_alignment"] = already_aligned

    def vote(self, maps: Sequence[Tensor], count: int) -> OfficialVote:
        """Their consensus of proposals 1…count of every frame."""
        module = self._consensus.__dict__
        solver, program, objectives = module["solve_with_pulp"], [], []

        def solve(iou_pp: np.ndarray, excludes_pp: np.ndarray, total: int) -> list[float]:
            seconds, chosen = best_of(1, lambda: solver(iou_pp, excludes_pp, total))
            program.append(seconds)
            objectives.append(float(((2 * iou_pp.sum(axis=0) - 1) * (np.array(chosen) > 0.5)).sum()))
            return list(chosen)

        def work() -> None:
            # It changes what it is given.
            frames = [
                self._frame(torch.zeros(3, *SIZE), map_hw.long(), [self._info(n + 1) for n in range(count)], t, {})
                for t, map_hw in enumerate(maps)
            ]
            self._consensus.find_consensus_auto_association(frames, "first", network=None, store=None, config=None)

        module["solve_with_pulp"] = solve
        whole, _ = best_of(max(1, 100 // count), work)
        module["solve_with_pulp"] = solver
        return OfficialVote(whole, min(program), objectives[-1])

    def merge(self, objects_hw: Tensor, proposals_hw: Tensor, count: int) -> tuple[float, Tensor]:
        """Milliseconds of their merge, and ``int64[H, W]``: objects 1…count, a new one count + its number."""
        detected_hw = torch.where(proposals_hw > 0, proposals_hw + count, 0)

        def work() -> tuple[Tensor, list[int]]:
            manager = self._manager()
            manager.add_new_objects([self._info(n) for n in range(1, count + 1)])
            detected = [self._info(n) for n in range(count + 1, 2 * count + 1)]
            return self._merging.match_and_merge(objects_hw, detected_hw, manager, detected), manager.all_obj_ids

        milliseconds, (masks_nhw, ids) = best_of(max(1, 100 // count), work)
        return milliseconds, (masks_nhw * torch.tensor(ids)[:, None, None]).amax(dim=0)


def already_aligned(time_index: int, image: Tensor, masks_nhw: Tensor, *_: object) -> Tensor:
    """In place of spatial alignment: the masks as they are, after background."""
    return torch.cat([torch.full_like(masks_nhw[:1], 0.5), masks_nhw])[None]


if __name__ == "__main__":
    main()
