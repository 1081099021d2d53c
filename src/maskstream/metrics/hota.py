"""Higher-order tracking accuracy, from a similarity matrix per frame (Luiten et al., IJCV 2021).

A sequence is a list of `TrackedFrame`, is reduced to `HotaCounts` at 19 thresholds, and the counts of many sequences
are added before they become scores. Only the similarities at the end of the file look at masks.
OWTA is the variant for open worlds, which does not punish false positives (Liu et al., CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from maskstream.types import FrameSegmentation, InputError, Overlaps, mask_overlaps

from .accumulator import Scores

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EPSILON = float(np.finfo(np.float64).eps)

ALPHAS: FloatArray = np.arange(0.05, 0.99, 0.05)
"""The 19 thresholds α on similarity: 0.05, 0.10 … 0.95, with the rounding of the reference program."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """Who is on a frame, and how similar every two are.

    Attributes:
        truth_ids: ``int64[G]``, tracks of the ground truth, each once; ids are not negative.
        predicted_ids: ``int64[P]``, predicted tracks, likewise.
        similarity_gp: ``float64[G, P]`` in [0, 1].
    """

    truth_ids: IntArray
    predicted_ids: IntArray
    similarity_gp: FloatArray = field(repr=False)

    def __post_init__(self) -> None:
        shape = (len(self.truth_ids), len(self.predicted_ids))
        if self.similarity_gp.shape != shape:
            raise InputError(
                f"the similarity of {shape[0]} true and {shape[1]} predicted tracks is {list(shape)}, "
                f"not {list(self.similarity_gp.shape)}"
            )
        for ids, what in ((self.truth_ids, "true"), (self.predicted_ids, "predicted")):
            values, counts = np.unique(ids, return_counts=True)
            if (counts > 1).any():
                raise InputError(
                    f"{what} track {values[counts > 1][0]} is on the frame twice: give each mask its own id"
                )

    def select(self, truths: NDArray[np.bool_] | IntArray, predictions: NDArray[np.bool_] | IntArray) -> TrackedFrame:
        """Only some of the tracks, by flags or positions."""
        return TrackedFrame(
            self.truth_ids[truths], self.predicted_ids[predictions], self.similarity_gp[truths][:, predictions]
        )


@dataclass(frozen=True, slots=True, eq=False)
class HotaCounts:
    """What HOTA keeps of sequences; every field is ``float64[…, 19]``, one value an α.

    Attributes:
        tp: matched detections.
        fn: missed detections.
        fp: detections too many.
        association: the sum of C²/(n_g + n_p − C) over pairs of tracks; C is how often they were matched.
        association_recall: the sum of C²/n_g.
        association_precision: the sum of C²/n_p.
        similarity: the sum of similarities of matched detections.
    """

    tp: FloatArray
    fn: FloatArray
    fp: FloatArray
    association: FloatArray
    association_recall: FloatArray
    association_precision: FloatArray
    similarity: FloatArray

    def to_plain(self) -> dict[str, FloatArray]:
        """The fields by name; ``HotaCounts(**plain)`` undoes it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_array(self) -> FloatArray:
        """The fields one after the other, ``float64[7, 19]``; ``HotaCounts(*array)`` undoes it."""
        return np.stack([*self.to_plain().values()])


def hota_counts(frames: Sequence[TrackedFrame]) -> HotaCounts:
    """Match a sequence and count (metrics specification §9.1; Luiten et al., section 5 and algorithm 1).

    One assignment a frame serves all thresholds: it maximises similarity, weighted by how well the two tracks agree
    over the whole sequence.

    Args:
        frames: the sequence, in any order.
    """
    true_ids = np.unique(_concatenated([frame.truth_ids for frame in frames]))
    predicted_ids = np.unique(_concatenated([frame.predicted_ids for frame in frames]))
    rows = [np.searchsorted(true_ids, frame.truth_ids) for frame in frames]
    columns = [np.searchsorted(predicted_ids, frame.predicted_ids) for frame in frames]
    frames_with_g = np.bincount(_concatenated(rows), minlength=len(true_ids))
    frames_with_p = np.bincount(_concatenated(columns), minlength=len(predicted_ids))

    alignment_gp = _alignment(frames, rows, columns, frames_with_g, frames_with_p)
    matched_pairs: list[IntArray] = []
    similarities: list[FloatArray] = []
    for frame, g, p in zip(frames, rows, columns, strict=True):
        if len(g) and len(p):
            matched_g, matched_p = linear_sum_assignment(-alignment_gp[np.ix_(g, p)] * frame.similarity_gp)
            matched_pairs.append(g[matched_g] * len(predicted_ids) + p[matched_p])
            similarities.append(frame.similarity_gp[matched_g, matched_p])
    similarity_m = np.concatenate(similarities) if similarities else np.zeros(0)
    pairs, pair_of_m = np.unique(_concatenated(matched_pairs), return_inverse=True)
    hit_am = similarity_m >= ALPHAS[:, None] - EPSILON
    count_ac = np.stack([np.bincount(pair_of_m[hit], minlength=len(pairs)) for hit in hit_am]).astype(np.float64)
    of_g, of_p = frames_with_g[pairs // max(1, len(predicted_ids))], frames_with_p[pairs % max(1, len(predicted_ids))]
    tp = hit_am.sum(axis=1).astype(np.float64)
    return HotaCounts(
        tp=tp,
        fn=frames_with_g.sum() - tp,
        fp=frames_with_p.sum() - tp,
        association=(count_ac**2 / (of_g + of_p - count_ac)).sum(axis=1),
        association_recall=(count_ac**2 / of_g).sum(axis=1),
        association_precision=(count_ac**2 / of_p).sum(axis=1),
        similarity=np.where(hit_am, similarity_m, 0.0).sum(axis=1),
    )


def add_hota_counts(counts: Iterable[HotaCounts]) -> HotaCounts:
    """Sequences of one class together. The order of the sums is the order given."""
    total = {field.name: np.zeros(len(ALPHAS)) for field in fields(HotaCounts)}
    for one in counts:
        for name, values in one.to_plain().items():
            total[name] = total[name] + values
    return HotaCounts(**total)


def hota_curves(counts: HotaCounts) -> dict[str, FloatArray]:
    """HOTA and its parts at each α: arrays of the shape of the counts (metrics specification §9.1, step 5).

    Denominators are at least 1, so what has no sample is 0; only LocA is 1 where nothing matched, as the reference
    program has it.
    """
    tp, fn, fp = counts.tp, counts.fn, counts.fp
    matched = np.maximum(1, tp)
    detection = tp / np.maximum(1, tp + fn + fp)
    recall = tp / np.maximum(1, tp + fn)
    association = counts.association / matched
    return {
        "HOTA": np.sqrt(detection * association),
        "DetA": detection,
        "AssA": association,
        "DetRe": recall,
        "DetPr": tp / np.maximum(1, tp + fp),
        "AssRe": counts.association_recall / matched,
        "AssPr": counts.association_precision / matched,
        "LocA": np.where(tp > 0, counts.similarity / matched, 1.0),
        "OWTA": np.sqrt(recall * association),
    }


def hota_scores(counts: HotaCounts) -> Scores:
    """HOTA, DetA, AssA, DetRe, DetPr, AssRe, AssPr, LocA and OWTA, each the mean of its curve over α."""
    return {name: float(np.mean(curve)) for name, curve in hota_curves(counts).items()}


def _alignment(
    frames: Sequence[TrackedFrame],
    rows: Sequence[IntArray],
    columns: Sequence[IntArray],
    frames_with_g: IntArray,
    frames_with_p: IntArray,
) -> FloatArray:
    """How well two tracks agree over the sequence: their soft matches over all frames with either."""
    matches_gp = np.zeros((len(frames_with_g), len(frames_with_p)))
    for frame, g, p in zip(frames, rows, columns, strict=True):
        similarity_gp = frame.similarity_gp
        either_gp = similarity_gp.sum(axis=1)[:, None] + similarity_gp.sum(axis=0)[None] - similarity_gp
        share_gp = np.divide(similarity_gp, either_gp, out=np.zeros_like(similarity_gp), where=either_gp > EPSILON)
        matches_gp[np.ix_(g, p)] += share_gp
    return matches_gp / (frames_with_g[:, None] + frames_with_p[None] - matches_gp)


def _concatenated(arrays: Sequence[IntArray]) -> IntArray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)


# Similarities of the segments of one frame.


def frame_overlaps(truth: FrameSegmentation, prediction: FrameSegmentation) -> Overlaps:
    """Intersections and areas of all masks of two segmentations of one frame."""
    return mask_overlaps(truth.masks, len(truth.segments), prediction.masks, len(prediction.segments))


def box_iou(first_n4: IntArray, second_m4: IntArray) -> FloatArray:
    """Intersection over union of every two boxes; 0 with an empty one.

    Args:
        first_n4: ``int64[N, 4]``, x0, y0, x1, y1 in pixels, ends one past.
        second_m4: ``int64[M, 4]``.

    Returns:
        ``float64[N, M]``.
    """
    corner_nm2 = np.maximum(first_n4[:, None, :2], second_m4[None, :, :2])
    end_nm2 = np.minimum(first_n4[:, None, 2:], second_m4[None, :, 2:])
    shared_nm = (end_nm2 - corner_nm2).clip(min=0).prod(axis=2)
    areas_n = (first_n4[:, 2:] - first_n4[:, :2]).prod(axis=1)
    areas_m = (second_m4[:, 2:] - second_m4[:, :2]).prod(axis=1)
    iou_nm: FloatArray = shared_nm / np.maximum(1, areas_n[:, None] + areas_m[None] - shared_nm)
    return iou_nm
