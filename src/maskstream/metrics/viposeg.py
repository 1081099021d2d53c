"""VIPOSeg: panoptic video object segmentation, in crowds and on unseen classes (Xu et al., 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError

from .accumulator import Scores
from .additive import Additive, Numbers, Terms, ratios
from .boundaries import Region, boundary_iou, boundary_iou_width, frame_regions, region_j
from .curves import Values, mean

GROUPS = ("thing_seen", "thing_unseen", "stuff_seen", "stuff_unseen")

CROWDS = 60
"""Decay looks at frames with fewer objects than this."""

CLASS_COUNT = 124
"""Classes are the VIPSeg ones, from 0."""

# fmt: off
THINGS = frozenset({
    2, 4, 8, 10, 41, 43, 44, 46, 47, 48, 49, 50, 51, 52, 54, 55, 56, 60, 61, 62, 63, 64, 65, 72, 74, 76, 77, 78, 79,
    82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 95, 96, 97, 99, 100, 101, 102, 106, 107, 108, 109, 114, 115, 116, 117,
    118, 122, 123,
})
UNSEEN_THINGS = frozenset({46, 47, 55, 61, 64, 72, 86, 95, 96, 97, 99, 100, 101, 102, 109, 116, 118})
UNSEEN_STUFF = frozenset({5, 6, 9, 17, 20, 25, 26, 34, 38, 57, 58, 71, 81, 94, 112, 113, 120})
# fmt: on

OTHER_MACHINE = 98
OTHER_MACHINE_UNSEEN_VIDEOS = frozenset(
    {
        "187_WUZUSD4477I",
        "319_l1Dz12fxQzQ",
        "320_nhKXemkIvh4",
        "517_AWvYuplla_s",
        "532_QmZyJuLlEec",
        "774_devdFjIpDcc",
        "1016_HG0AsTOxI5g",
        "1017_IAU0WGB9VPw",
        "1020_TgCIv6bp3XM",
        "1021_cPOxAMo28yk",
        "1022_emSaDd2ddj0",
        "1033_sh81AwYuihg",
        "1065_d2sHRyAHKqI",
        "1067_fk3jhxBi1pA",
        "1068_gxnZkf0LQfk",
        "1069_jFHRbZxswz8",
        "1070_uTJB31tuYes",
        "1072_zvNEdUk5k0Q",
        "1230_AGY-gQ_3O8Y",
        "1333__iprMPKLdOQ",
        "1334_qlmfvYA3_rk",
        "2004_1btxeVbyojs",
        "2005_83KrhWajwfw",
    }
)
"""Where class 98, "other machine", counts as unseen; it is seen everywhere else."""


@dataclass(frozen=True, slots=True)
class ViposegObject:
    """An object: its class (0 to 123, ``obj_class.json``) and the frame whose reference picture gives its mask."""

    category: int
    given: int


class ViposegCurve(TypedDict):
    """One object over the frames on which it is scored.

    ``mask`` and ``boundary`` are its two IoUs, ``crowd`` how many objects the video had introduced by then.
    """

    group: str
    frames: NDArray[np.int64]
    mask: Values
    boundary: Values
    crowd: NDArray[np.int64]


@dataclass(slots=True)
class OpenViposeg:
    """An open video: frame, mask IoU, boundary IoU and number of objects, for each object."""

    sequence_id: str
    scores: dict[int, list[tuple[int, float, float, int]]]
    frame_count: int = 0


class Viposeg(Additive[OpenViposeg, dict[int, ViposegCurve], None]):
    """VIPOSeg's eight IoUs, group and overall scores and decay (metrics specification §7).

    An object is scored on the frames after the one on which it is given. The values of all objects and frames of the
    data set are pooled, thing and stuff, seen and unseen apart.

    Args:
        objects: the objects of each video, things and stuff alike.
    """

    name = "VIPOSeg"

    def __init__(self, objects: Mapping[str, Mapping[int, ViposegObject]]) -> None:
        super().__init__()
        for sequence_id, known in objects.items():
            for o, given in known.items():
                if not 0 <= given.category < CLASS_COUNT:
                    raise InputError(f"{sequence_id}: object {o} has class {given.category}; VIPOSeg's are 0 to 123")
        self.objects = objects

    def begin(self, sequence_id: str) -> OpenViposeg:
        """No frame seen.

        Raises:
            InputError: the ground truth does not know the video.
        """
        if sequence_id not in self.objects:
            raise InputError(f"{sequence_id}: no such video in the ground truth")
        return OpenViposeg(sequence_id, {o: [] for o in sorted(self.objects[sequence_id])})

    def add(
        self, state: OpenViposeg, frame_index: int, truth: FrameAnnotation, prediction: FrameSegmentation, meta: None
    ) -> None:
        """Score the objects that were given on an earlier frame."""
        if not truth.annotated:
            return
        state.frame_count += 1
        known = self.objects[state.sequence_id]
        objects = [o for o in state.scores if known[o].given < frame_index]
        true_regions, pred_regions = frame_regions(truth.segmentation), frame_regions(prediction)
        empty, width = Region.empty(prediction.size_hw), boundary_iou_width(prediction.size_hw)
        for o in objects:
            mask, boundary = both_ious(pred_regions.get(o, empty), true_regions.get(o, empty), width=width)
            state.scores[o].append((frame_index, mask, boundary, len(objects)))

    def reduce(self, state: OpenViposeg) -> dict[int, ViposegCurve]:
        """A curve for every object that was scored.

        Raises:
            InputError: no frame came.
        """
        if not state.frame_count:
            raise InputError(f"{state.sequence_id}: ended without an annotated frame: leave it out, or give its frames")
        curves = {}
        for o, scores in state.scores.items():
            if scores:
                frames, mask, boundary, crowd = zip(*scores, strict=True)
                curves[o] = ViposegCurve(
                    group=viposeg_group(self.objects[state.sequence_id][o].category, state.sequence_id),
                    frames=np.array(frames, np.int64),
                    mask=np.array(mask, np.float64),
                    boundary=np.array(boundary, np.float64),
                    crowd=np.array(crowd, np.int64),
                )
        return curves

    def terms(self, summaries: Mapping[str, dict[int, ViposegCurve]]) -> Terms:
        """Sums of both IoUs over object-frames, and their number: of each group, and of each number of objects."""
        by_group = np.zeros((len(summaries), len(GROUPS), 3))
        by_crowd = np.zeros((len(summaries), CROWDS, 2))
        for n, curves in enumerate(summaries.values()):
            for _, curve in sorted(curves.items()):
                sums = [curve["mask"].sum(), curve["boundary"].sum(), len(curve["mask"])]
                by_group[n, GROUPS.index(curve["group"])] += sums
                counted = curve["crowd"] < CROWDS
                ious = (curve["mask"] + curve["boundary"])[counted] / 2
                np.add.at(by_crowd[n], curve["crowd"][counted], np.stack([ious, np.ones_like(ious)], axis=1))
        return {"by_group": by_group, "by_crowd": by_crowd}

    def from_sums(self, sums: Terms) -> Scores:
        """Pooled means; nan for a group without objects, and then overall."""
        values: Scores = {}
        for group, (mask, boundary) in zip(GROUPS, _group_means(sums).tolist(), strict=True):
            values |= {f"{group}_miou": mask, f"{group}_biou": boundary, f"{group}_iou": (mask + boundary) / 2}
        values["overall_iou"] = sum(values[f"{group}_iou"] for group in GROUPS) / 4
        values["decay"] = crowd_decay(sums["by_crowd"][:, 0], sums["by_crowd"][:, 1])
        return values

    def video_rows(self, summaries: Mapping[str, dict[int, ViposegCurve]]) -> dict[str, Scores]:
        """A row ``sequence/object`` for every object, by id."""
        return {
            f"{s}/{o}": {"miou": mean(curves[o]["mask"]), "biou": mean(curves[o]["boundary"])}
            for s, curves in summaries.items()
            for o in sorted(curves)
        }

    def notes(self, summaries: Mapping[str, dict[int, ViposegCurve]]) -> Sequence[str]:
        """Groups that are empty, and what decay is."""
        present = {curve["group"] for curves in summaries.values() for curve in curves.values()}
        empty = [group for group in GROUPS if group not in present]
        notes = [f"no object of the group {', '.join(empty)}: the overall score is undefined"] if empty else []
        return (*notes, "decay is a rate λ, not a fraction")


def both_ious(pred: Region, truth: Region, *, width: int) -> tuple[float, float]:
    """Mask and boundary IoU of an object on a frame: both 1 when it is absent on both sides, 0 when on one only."""
    if not pred.area or not truth.area:
        absent = float(pred.area == truth.area)
        return absent, absent
    return region_j(pred, truth), boundary_iou(pred, truth, width=width)


def viposeg_group(category: int, sequence_id: str) -> str:
    """The group in which an object of a class is averaged; class 98 depends on the video."""
    if category == OTHER_MACHINE:
        return "stuff_unseen" if sequence_id in OTHER_MACHINE_UNSEEN_VIDEOS else "stuff_seen"
    if category in THINGS:
        return "thing_unseen" if category in UNSEEN_THINGS else "thing_seen"
    return "stuff_unseen" if category in UNSEEN_STUFF else "stuff_seen"


def crowd_decay(sums_k: Numbers, counts_k: Numbers) -> float:
    """λ of the fit IoU ≈ exp(−λ·k/100), where k objects have been introduced (metrics specification §7).

    Args:
        sums_k: ``float64[60]``, the sum of the mean of mask and boundary IoU over objects and frames, by k.
        counts_k: ``int64[60]``, over how many. k of 60 and more takes no part.

    Returns:
        The slope of a least-squares line through the origin, every k weighing the same; nan without values, infinite
        if the mean at some k is 0.
    """
    k = np.flatnonzero(counts_k[1:]) + 1
    if not len(k):
        return math.nan
    x = k / 100
    with np.errstate(divide="ignore"):
        losses = -np.log(sums_k[k] / counts_k[k])
    return float((x * losses).sum() / (x * x).sum())


def _group_means(sums: Terms) -> Values:
    """``float64[4, 2]``: mean mask and boundary IoU of each group."""
    return ratios(sums["by_group"][:, :2], sums["by_group"][:, 2:])
