"""Protocols that list beforehand which object is scored on which frame, and average over groups of objects."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypedDict

import numpy as np

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError

from .accumulator import Scores
from .additive import Additive, Numbers, Terms, ratios
from .boundaries import Region, boundary_radius, frame_regions, object_jf
from .curves import Curve, Values, make_curve

GROUPS = ("seen", "unseen")


@dataclass(frozen=True, slots=True)
class ListedObject:
    """When an object is scored, and what it is averaged with.

    Attributes:
        frames: the frame indices on which it is scored.
        group: the objects it is averaged with, one of `GROUPS`.
    """

    frames: Collection[int]
    group: str


class ListedSummary(TypedDict):
    """What stays of a video: the group and the curve of each object."""

    groups: dict[int, str]
    curves: dict[int, Curve]


@dataclass(slots=True)
class OpenListed:
    """An open video: frame, J and F of each object; with several candidates for an object, an array of them."""

    sequence_id: str
    scores: dict[int, list[tuple[int, float | Values, float | Values]]]


class ListedObjects(Additive[OpenListed, ListedSummary, None]):
    """What LVOS and YouTube-VOS share.

    Args:
        objects: the objects of every video.
    """

    columns: ClassVar[tuple[str, ...]]
    """What is averaged over the objects of a group."""

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
        j, f = self.compare(frame_regions(truth.segmentation), prediction, objects)
        for n, o in enumerate(objects):
            state.scores[o].append((frame_index, j[n], f[n]))

    def compare(
        self, truth: Mapping[int, Region], prediction: FrameSegmentation, objects: Sequence[int]
    ) -> tuple[Sequence[float | Values], Sequence[float | Values]]:
        """J and F of each object with the prediction of the same id."""
        size_hw = prediction.size_hw
        preds = frame_regions(prediction)
        return object_jf(preds, truth, objects, size_hw=size_hw, radius=boundary_radius(size_hw))

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

    @abstractmethod
    def row(self, curve: Curve) -> Scores:
        """The columns of one object."""

    def terms(self, summaries: Mapping[str, ListedSummary]) -> Terms:
        """Sums of the columns over the objects of each group of each video, and over how many."""
        sums = np.zeros((len(summaries), len(GROUPS), len(self.columns)))
        counts = np.zeros((len(summaries), len(GROUPS), 1))
        for n, summary in enumerate(summaries.values()):
            for o in sorted(summary["curves"]):
                row, group = self.row(summary["curves"][o]), GROUPS.index(summary["groups"][o])
                sums[n, group] += [row[column] for column in self.columns]
                counts[n, group] += 1
        return {"sums": sums, "counts": counts}

    def group_means(self, sums: Terms) -> dict[str, Scores]:
        """The mean of each column in each group, nan in one without objects."""
        means: Numbers = ratios(sums["sums"], sums["counts"])
        return {
            group: dict(zip(self.columns, row, strict=True)) for group, row in zip(GROUPS, means.tolist(), strict=True)
        }

    def video_rows(self, summaries: Mapping[str, ListedSummary]) -> dict[str, Scores]:
        """A row ``sequence/object`` for every object, by id."""
        return {
            f"{sequence_id}/{o}": self.row(summary["curves"][o])
            for sequence_id, summary in summaries.items()
            for o in sorted(summary["curves"])
        }
