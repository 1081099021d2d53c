"""Protocols that list beforehand which object is scored on which frame, and average over groups of objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypedDict

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError

from .accumulator import Accumulator
from .boundaries import frame_regions, object_jf
from .curves import Curve, make_curve
from .jf import boundary_radius


@dataclass(frozen=True, slots=True)
class ListedObject:
    """When an object is scored, and what it is averaged with.

    Attributes:
        frames: the frame indices on which it is scored.
        group: the objects it is averaged with, "seen" or "unseen".
    """

    frames: Collection[int]
    group: str


class ListedSummary(TypedDict):
    """What stays of a video: the group and the curve of each object."""

    groups: dict[int, str]
    curves: dict[int, Curve]


@dataclass(slots=True)
class OpenListed:
    """An open video: frame, J and F of each object."""

    sequence_id: str
    scores: dict[int, list[tuple[int, float, float]]]


class ListedObjects(Accumulator[OpenListed, ListedSummary, None]):
    """What LVOS and YouTube-VOS share.

    Args:
        objects: the objects of every video.
    """

    def __init__(self, objects: Mapping[str, Mapping[int, ListedObject]]) -> None:
        super().__init__()
        self.objects = objects

    def begin(self, sequence_id: str) -> OpenListed:
        """No frame seen.

        Raises:
            InputError: the video is not listed.
        """
        if sequence_id not in self.objects:
            raise InputError(f"{sequence_id}: no such video in the meta file of the ground truth")
        return OpenListed(sequence_id, {o: [] for o in sorted(self.objects[sequence_id])})

    def add(
        self, state: OpenListed, frame_index: int, truth: FrameAnnotation, prediction: FrameSegmentation, meta: None
    ) -> None:
        """Score the objects that list this frame; the others, and ids that are not listed, are passed over."""
        known = self.objects[state.sequence_id]
        objects = [o for o in state.scores if frame_index in known[o].frames]
        if not objects or not truth.annotated:
            return
        size_hw = prediction.size_hw
        true_regions, pred_regions = frame_regions(truth.segmentation), frame_regions(prediction)
        j, f = object_jf(pred_regions, true_regions, objects, size_hw=size_hw, radius=boundary_radius(size_hw))
        for n, o in enumerate(objects):
            state.scores[o].append((frame_index, j[n], f[n]))

    def reduce(self, state: OpenListed) -> ListedSummary:
        """A curve an object.

        Raises:
            InputError: a listed frame never came, or an object lists none.
        """
        known = self.objects[state.sequence_id]
        curves = {}
        for o, scores in state.scores.items():
            missing = sorted(set(known[o].frames) - {frame for frame, _, _ in scores})
            if missing:
                raise InputError(
                    f"{state.sequence_id}, frame {missing[0]}: object {o} is scored on this frame but no annotation of "
                    "it came: give every annotated frame, with an empty prediction where there is none"
                )
            if not scores:
                raise InputError(f"{state.sequence_id}: object {o} has no frame to score: leave it out")
            frames, j, f = zip(*scores, strict=True)
            curves[o] = make_curve(frames, j, f)
        return ListedSummary(groups={o: known[o].group for o in curves}, curves=curves)


def grouped_curves(summaries: Mapping[str, ListedSummary]) -> dict[str, tuple[str, Curve]]:
    """Group and curve of every object, by ``sequence/object``."""
    return {
        f"{sequence_id}/{o}": (summary["groups"][o], summary["curves"][o])
        for sequence_id, summary in summaries.items()
        for o in sorted(summary["curves"])
    }
