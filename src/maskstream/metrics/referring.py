"""Referring video object segmentation: Ref-DAVIS, Ref-YouTube-VOS, MeViS, and RefCOCO for single images.

A sequence is one expression, named ``video/expression``; for Ref-DAVIS it is one annotator's reading of a video, named
``anno_A/video``. What is not written here about matching and averaging is in ``davis_unsupervised.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, TypedDict

import numpy as np

from maskstream.types import FrameAnnotation, FrameSegmentation, InputError

from .accumulator import Scores, WithoutPrediction
from .additive import Additive, Terms, ratio
from .boundaries import union_region
from .curves import Curve, JfMeans, jf_row, mean, without_any_prediction
from .davis_unsupervised import DavisUnsupervised, OpenProposals
from .vos import ObjectFrames

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

    def video_of(self, sequence_id: str) -> str:
        """The video, whose four readings belong together."""
        return sequence_id.partition("/")[2]

    def terms(self, summaries: Mapping[str, dict[int, Curve]]) -> Terms:
        """The terms of the unsupervised protocol, one run an annotator.

        Raises:
            InputError: a video is missing from an annotator.
        """
        for video in sorted({self.video_of(name) for name in summaries}):
            for annotator in self.annotators:
                if f"{annotator}/{video}" not in summaries:
                    raise InputError(f"{annotator}/{video} is missing: the score is the mean over four annotators")
        of_run = np.array([[name.startswith(f"{a}/") for a in self.annotators] for name in summaries], np.float64)
        of_run = of_run.reshape(len(summaries), len(self.annotators), 1)
        return {name: of_run * rows[:, None] for name, rows in super().terms(summaries).items()}

    def from_sums(self, sums: Terms) -> Scores:
        """The mean of the four runs."""
        runs = self._runs(sums)
        return {column: mean([run[column] for run in runs]) for column in runs[0]}

    def video_rows(self, summaries: Mapping[str, dict[int, Curve]]) -> dict[str, Scores]:
        """A row for each of the four runs, and then all objects."""
        return dict(zip(self.annotators, self._runs(self.sums(summaries)), strict=True)) | super().video_rows(summaries)

    def _runs(self, sums: Terms) -> list[Scores]:
        return [
            super(RefDavis, self).from_sums({name: total[n] for name, total in sums.items()})
            for n in range(len(self.annotators))
        ]


class Mevis(JfMeans[ObjectFrames, Curve]):
    """MeViS (metrics specification §8; Ding et al., ICCV 2023).

    The target of an expression is everything annotated for it, the prediction everything predicted. All frames
    count; the mean over frames is averaged over expressions. An expression without any prediction, and one that ends
    without a frame, scores 0, as in the official program.
    """

    name = "MeViS"
    without_prediction: ClassVar[WithoutPrediction] = "zero"

    def begin(self, sequence_id: str) -> ObjectFrames:
        """No frame seen."""
        return ObjectFrames(sequence_id, objects=(1,))

    def add(
        self,
        state: ObjectFrames,
        frame_index: int,
        truth: FrameAnnotation,
        prediction: FrameSegmentation,
        meta: None,
    ) -> None:
        """Score the union of the masks."""
        state.add_union(frame_index, truth, prediction)

    def reduce(self, state: ObjectFrames) -> Curve:
        """The curve of the expression."""
        return state.curves(slice(None))[1]

    def video_of(self, sequence_id: str) -> str:
        """The video of an expression."""
        return sequence_id.rpartition("/")[0] or sequence_id

    def rows(self, sequence_id: str, summary: Curve) -> dict[str, Scores]:
        """The row of the expression."""
        silent: Scores = {"J&F": 0.0, "J": 0.0, "F": 0.0}
        return {sequence_id: jf_row(summary) if len(summary["frames"]) else silent}

    def notes(self, summaries: Mapping[str, Curve]) -> Sequence[str]:
        """Expressions that have no prediction."""
        silent = [name for name, curve in summaries.items() if not len(curve["frames"])]
        return without_any_prediction("expressions", silent)


class RefYoutubeVos(Mevis):
    """Ref-YouTube-VOS, where there is ground truth, such as on a part of the training set (metrics specification §8).

    J and F of an expression are averaged over the frames listed for it, all of them, and then over expressions.
    """

    name = "Ref-YouTube-VOS"
    without_prediction = "refuse"

    def add(
        self,
        state: ObjectFrames,
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

    def reduce(self, state: ObjectFrames) -> Curve:
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


class RefCoco(Additive[list[Overlap], list[Overlap], None]):
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

    def video_of(self, sequence_id: str) -> str:
        """The image of an expression."""
        return sequence_id.rpartition("/")[0] or sequence_id

    def terms(self, summaries: Mapping[str, list[Overlap]]) -> Terms:
        """Pixels, IoU and whether it is above each threshold, of each expression."""
        ious = [[_iou(overlap) for overlap in summary] for summary in summaries.values()]
        hits = [[sum(iou > t for iou in one) for t in PRECISION_THRESHOLDS] for one in ious]
        return {
            "shared": np.array([sum(o["intersection"] for o in summary) for summary in summaries.values()], np.int64),
            "union": np.array([sum(o["union"] for o in summary) for summary in summaries.values()], np.int64),
            "iou": np.array([sum(one) for one in ious], np.float64),
            "hits": np.array(hits, np.int64).reshape(len(ious), len(PRECISION_THRESHOLDS)),
            "expressions": np.array([len(one) for one in ious], np.int64),
        }

    def from_sums(self, sums: Terms) -> Scores:
        """cIoU over all pixels, gIoU and P@X over expressions."""
        expressions = float(sums["expressions"])
        values = {
            "cIoU": ratio(float(sums["shared"]), float(sums["union"])),
            "gIoU": ratio(float(sums["iou"]), expressions),
        }
        for threshold, hits in zip(PRECISION_THRESHOLDS, sums["hits"].tolist(), strict=True):
            values[f"P@{threshold}"] = ratio(hits, expressions)
        return values

    def video_rows(self, summaries: Mapping[str, list[Overlap]]) -> dict[str, Scores]:
        """The IoU of each expression."""
        return {name: {"IoU": _iou(overlap)} for name, summary in summaries.items() for overlap in summary}


def _iou(overlap: Overlap) -> float:
    return overlap["intersection"] / overlap["union"] if overlap["union"] else 1.0
