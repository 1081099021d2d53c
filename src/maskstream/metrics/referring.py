"""Referring video object segmentation: Ref-DAVIS, Ref-YouTube-VOS, MeViS, and RefCOCO for single images.

A sequence is one expression, named ``video/expression``; for Ref-DAVIS it is one annotator's reading of a video, named
``anno_A/video``. What is not written here about matching and averaging is in ``davis_unsupervised.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError

from .accumulator import Accumulator, Report, Scores
from .boundaries import region_f, region_j, union_region
from .curves import Curve, jf_report, jf_row, make_curve, mean
from .davis_unsupervised import DavisUnsupervised, OpenProposals
from .jf import boundary_radius

HIDDEN = (
    "the labels of Ref-YouTube-VOS validation are not public: 202 validation videos (those listed in valid and not "
    "in test; 834 expressions), server only"
)

PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


class RefDavis(DavisUnsupervised):
    """Ref-DAVIS17: the unsupervised protocol once for each of the four annotators (metrics specification §8).

    Sequences are named ``anno_A/video`` with A from 0 to 3, as the result folders are. Within a video the objects
    are assigned anew to the predicted ids, which is how published numbers come about.
    """

    name = "Ref-DAVIS17"
    annotators = ("anno_0", "anno_1", "anno_2", "anno_3")

    def begin(self, sequence_id: str) -> OpenProposals:
        """No frame seen.

        Raises:
            InputError: the name does not begin with an annotator.
        """
        if sequence_id.partition("/")[0] not in self.annotators:
            raise InputError(f"{sequence_id}: a sequence of Ref-DAVIS is named anno_A/video, with A from 0 to 3")
        return super().begin(sequence_id)

    def result(self) -> Report:
        """The result over all sequences that have ended.

        Raises:
            InputError: a sequence has not ended, or a video is missing from an annotator.
        """
        names = set(self._summaries)
        for video in sorted({name.partition("/")[2] for name in names}):
            for annotator in self.annotators:
                if f"{annotator}/{video}" not in names:
                    raise InputError(f"{annotator}/{video} is missing: the score is the mean over four annotators")
        return super().result()

    def score(self, summaries: Mapping[str, dict[int, Curve]]) -> Report:
        """The mean of the four runs; each run is a row too."""
        runs = {}
        for annotator in self.annotators:
            own = {s: curves for s, curves in summaries.items() if s.startswith(f"{annotator}/")}
            runs[annotator] = super().score(own)
        columns = runs["anno_0"].values
        values = {column: mean([run.values[column] for run in runs.values()]) for column in columns}
        rows = {annotator: run.values for annotator, run in runs.items()}
        for run in runs.values():
            rows |= run.per_video
        return Report(self.name, values, per_video=rows)


@dataclass(slots=True)
class OpenExpression:
    """An open expression: J and F of each frame."""

    frames: list[int] = field(default_factory=list)
    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)


class Mevis(Accumulator[OpenExpression, Curve, None]):
    """MeViS (metrics specification §8; Ding et al., ICCV 2023).

    The target of an expression is everything annotated for it, the prediction everything predicted. All frames
    count; the mean over frames is averaged over expressions. An expression that ends without a frame has no
    prediction at all and scores 0.
    """

    name = "MeViS"

    def begin(self, sequence_id: str) -> OpenExpression:
        """No frame seen."""
        return OpenExpression()

    def add(
        self,
        state: OpenExpression,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: None,
    ) -> None:
        """Score the union of the masks."""
        if truth.annotated:
            target, answer = union_region(truth.segmentation), union_region(prediction)
            state.frames.append(frame_index)
            state.j.append(region_j(answer, target))
            state.f.append(region_f(answer, target, radius=boundary_radius(prediction.size_hw)))

    def reduce(self, state: OpenExpression) -> Curve:
        """The curve of the expression."""
        return make_curve(state.frames, state.j, state.f)

    def score(self, summaries: Mapping[str, Curve]) -> Report:
        """J and F of every expression, averaged over expressions."""
        silent: Scores = {"J&F": 0.0, "J": 0.0, "F": 0.0}
        rows = {s: jf_row(curve) if len(curve["frames"]) else silent for s, curve in summaries.items()}
        missing = [s for s, curve in summaries.items() if not len(curve["frames"])]
        notes = [f"{len(missing)} expressions without any prediction score 0, first {missing[0]}"] if missing else []
        return jf_report(self.name, rows, notes)


class RefYoutubeVos(Mevis):
    """Ref-YouTube-VOS, where there is ground truth, such as on a part of the training set (metrics specification §8).

    J and F of an expression are averaged over the frames listed for it, all of them, and then over expressions.
    """

    name = "Ref-YouTube-VOS"

    def add(
        self,
        state: OpenExpression,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: None,
    ) -> None:
        """Score the referred object.

        Raises:
            InputError: the frame has no label.
        """
        if not truth.annotated:
            raise InputError(HIDDEN)
        super().add(state, frame_index, truth, prediction, meta)

    def reduce(self, state: OpenExpression) -> Curve:
        """The curve of the expression.

        Raises:
            InputError: no frame came.
        """
        if not state.frames:
            raise InputError(f"an expression ended without a frame; {HIDDEN}")
        return super().reduce(state)


class Overlap(TypedDict):
    """What stays of an expression of a still image: pixels of intersection and of union."""

    intersection: int
    union: int


class RefCoco(Accumulator[list[Overlap], list[Overlap], None]):
    """RefCOCO, RefCOCO+ and RefCOCOg (metrics specification §8): cIoU, gIoU and P@X.

    A sequence is an expression of one image, which is its only frame. An expression that refers to nothing and is
    answered with nothing has IoU 1.
    """

    name = "RefCOCO"

    def begin(self, sequence_id: str) -> list[Overlap]:
        """No image seen."""
        return []

    def add(
        self,
        state: list[Overlap],
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: None,
    ) -> None:
        """Compare the union of what is annotated with the union of what is predicted.

        Raises:
            InputError: the image is not annotated, or another came before.
        """
        if state or not truth.annotated:
            raise InputError("an expression of RefCOCO has exactly one image, and it must be annotated")
        target, answer = union_region(truth.segmentation), union_region(prediction)
        shared = answer.shared_area(target)
        state.append(Overlap(intersection=shared, union=answer.area + target.area - shared))

    def reduce(self, state: list[Overlap]) -> list[Overlap]:
        """The overlap, if the image came."""
        return state

    def score(self, summaries: Mapping[str, list[Overlap]]) -> Report:
        """cIoU over all pixels, gIoU and P@X over expressions."""
        overlaps = {name: overlap for name, summary in summaries.items() for overlap in summary}
        ious = {name: o["intersection"] / o["union"] if o["union"] else 1.0 for name, o in overlaps.items()}
        unions = sum(o["union"] for o in overlaps.values())
        shared = sum(o["intersection"] for o in overlaps.values())
        values: Scores = {"cIoU": shared / unions if unions else float("nan"), "gIoU": mean(ious.values())}
        for threshold in PRECISION_THRESHOLDS:
            values[f"P@{threshold}"] = mean([float(iou > threshold) for iou in ious.values()])
        return Report(self.name, values, per_video={name: {"IoU": iou} for name, iou in ious.items()})
