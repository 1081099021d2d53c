"""MOSE v2: objects that vanish and return, boundaries judged by the size of the object (Ding et al., 2025).

MOSE v1 follows DAVIS: use `vos.DavisSemiSupervised`, or `vos.GenericVos` for objects that enter late.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError

from .accumulator import Scores
from .additive import RowMeans, Terms
from .boundaries import Region, frame_regions, region_f
from .curves import Values, mean, without_any_prediction, without_ends


class MoseCurve(TypedDict):
    """One object over the frames on which it is scored.

    ``j``, ``f``, ``f_new`` are its scores, ``visible`` whether the annotation shows it.
    """

    frames: NDArray[np.int64]
    j: Values
    f: Values
    f_new: Values
    visible: NDArray[np.bool_]


@dataclass(slots=True)
class OpenMose:
    """An open video: J', F, F_new and visibility of each object on each frame."""

    sequence_id: str
    objects: tuple[int, ...]
    frames: list[int] = field(default_factory=list)
    scores: list[list[tuple[float, float, float, bool]]] = field(default_factory=list)


class MoseV2(RowMeans[OpenMose, dict[int, MoseCurve], None]):
    """MOSE v2 (metrics specification §5.10).

    The objects of a video without any prediction score 0 and neither disappear nor return, as the official program
    has it; a video of which some predictions are missing is an error.

    Args:
        objects: the object ids of each video, from ``meta.json``. The first and the last annotated frame are not
            scored; other ids are passed over.
    """

    name = "MOSE v2"
    without_prediction = "zero"
    columns = ("J", "F_new", "F", "disappear_J", "disappear_F_new", "reappear_J", "reappear_F_new")
    skip_undefined = True

    def __init__(self, objects: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.objects = objects

    def begin(self, sequence_id: str) -> OpenMose:
        """No frame seen.

        Raises:
            InputError: the meta file does not know the video.
        """
        if sequence_id not in self.objects:
            raise InputError(f"{sequence_id}: no such video in the meta file of the ground truth")
        return OpenMose(sequence_id, tuple(sorted(self.objects[sequence_id])))

    def add(
        self, state: OpenMose, frame_index: int, truth: FrameAnnotation, prediction: FrameSegmentation, meta: None
    ) -> None:
        """Score every object of the video."""
        if not truth.annotated:
            return
        true_regions, pred_regions = frame_regions(truth.segmentation), frame_regions(prediction)
        empty = Region.empty(prediction.size_hw)
        scores = []
        for o in state.objects:
            p, g = pred_regions.get(o, empty), true_regions.get(o, empty)
            scores.append((smoothed_j(p, g), *adaptive_f(p, g), g.area > 0))
        state.frames.append(frame_index)
        state.scores.append(scores)

    def reduce(self, state: OpenMose) -> dict[int, MoseCurve]:
        """A curve an object; one without frames if none came.

        Raises:
            InputError: too few frames came.
        """
        if not state.frames:
            return {o: empty_curve() for o in state.objects}
        counted = without_ends(state.sequence_id, len(state.frames))
        frames, scores = np.array(state.frames[counted], np.int64), state.scores[counted]
        curves = {}
        for n, o in enumerate(state.objects):
            j, f, f_new, visible = (np.array(column) for column in zip(*(row[n] for row in scores), strict=True))
            curves[o] = MoseCurve(
                frames=frames,
                j=j.astype(np.float64),
                f=f.astype(np.float64),
                f_new=f_new.astype(np.float64),
                visible=visible.astype(np.bool_),
            )
        return curves

    def rows(self, sequence_id: str, summary: dict[int, MoseCurve]) -> dict[str, Scores]:
        """A row ``sequence/object`` for every object, by id."""
        return {f"{sequence_id}/{o}": mose_row(summary[o]) for o in sorted(summary)}

    def from_sums(self, sums: Terms) -> Scores:
        """Means over objects; disappearance and reappearance over those objects that do so."""
        values = super().from_sums(sums)
        values["J&F"] = (values["J"] + values["F"]) / 2
        for prefix in ("", "disappear_", "reappear_"):
            values[f"{prefix}J&F_new"] = (values[f"{prefix}J"] + values[f"{prefix}F_new"]) / 2
        return values

    def notes(self, summaries: Mapping[str, dict[int, MoseCurve]]) -> Sequence[str]:
        """Videos that have no prediction."""
        silent = [s for s, curves in summaries.items() if any(not len(curve["frames"]) for curve in curves.values())]
        return without_any_prediction("videos", silent)


def smoothed_j(pred: Region, truth: Region) -> float:
    """J' = (intersection + 1) / (union + 1), and 1 when both masks are empty (metrics specification §5.10)."""
    shared = pred.shared_area(truth)
    return (shared + 1) / (pred.area + truth.area - shared + 1)


def adaptive_f(pred: Region, truth: Region) -> tuple[float, float]:
    """F, and F_new whose tolerance follows the size of the object (metrics specification §5.10).

    With q = 0.8 % of the diagonal and w = ⌈0.1 √area⌉: if w < q, F has radius ⌈q⌉ and F_new radius w. Otherwise, and
    without an object, both have radius q, which is not rounded.
    """
    q = 0.008 * math.hypot(*truth.size_hw)
    w = min(q, math.ceil(0.1 * math.sqrt(truth.area))) if truth.area else q
    if w < q:
        return region_f(pred, truth, radius=math.ceil(q)), region_f(pred, truth, radius=w)
    f = region_f(pred, truth, radius=q)
    return f, f


def mose_row(curve: MoseCurve) -> Scores:
    """The scores of one object; disappearance or reappearance is nan when it does not happen."""
    if not len(curve["frames"]):
        return dict.fromkeys(MoseV2.columns, math.nan) | dict.fromkeys(("J", "F", "F_new"), 0.0)
    row: Scores = {"J": mean(curve["j"]), "F_new": mean(curve["f_new"]), "F": mean(curve["f"])}
    runs = _runs(curve["visible"])
    # A run that begins the sequence comes after nothing: nobody disappeared, nobody returned.
    gone = [run for run in runs[1:] if not curve["visible"][run.start]]
    returned = [run for run in runs[1:] if curve["visible"][run.start]]
    for name, selected in (("disappear", gone), ("reappear", returned)):
        row[f"{name}_J"] = mean([mean(curve["j"][run]) for run in selected])
        row[f"{name}_F_new"] = mean([mean(curve["f_new"][run]) for run in selected])
    return row


def empty_curve() -> MoseCurve:
    """The curve of an object of a video without any prediction."""
    nothing = np.zeros(0)
    return MoseCurve(
        frames=np.zeros(0, np.int64), j=nothing, f=nothing, f_new=nothing, visible=np.zeros(0, dtype=np.bool_)
    )


def _runs(visible: NDArray[np.bool_]) -> list[slice]:
    """The maximal runs of equal values, in order."""
    edges = [0, *(np.flatnonzero(visible[1:] != visible[:-1]) + 1).tolist(), len(visible)]
    return [slice(start, stop) for start, stop in pairwise(edges)]
