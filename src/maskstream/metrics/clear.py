"""CLEAR MOT and identity measures, from a similarity matrix per frame.

Bernardin and Stiefelhagen, EURASIP JIVP 2008 (MOTA, MOTP); Ristani et al., ECCV workshops 2016 (IDF1);
Voigtlaender et al., CVPR 2019 (sMOTSA, MOTSA and MOTSP: the same on masks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .accumulator import Scores
from .hota import EPSILON, FloatArray, IntArray, TrackedFrame

THRESHOLD = 0.5
_KEEP = 1000.0  # more than all similarities of a frame can outweigh


@dataclass(frozen=True, slots=True)
class ClearCounts:
    """What CLEAR and identity measures keep of sequences.

    Attributes:
        tp: matched detections.
        fp: detections too many.
        fn: missed detections.
        switches: matches to another track than the last one ever matched to the same ground truth.
        mostly_tracked: true tracks matched on more than 80 % of their frames.
        partly_tracked: those matched on 20 % to 80 %.
        mostly_lost: the others.
        fragments: how often the match of a true track was taken up again.
        identity_tp: detections that match under the best one-to-one assignment of whole tracks.
        similarity: the sum of similarities of matched detections.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    switches: int = 0
    mostly_tracked: int = 0
    partly_tracked: int = 0
    mostly_lost: int = 0
    fragments: int = 0
    identity_tp: int = 0
    similarity: float = 0.0

    def to_plain(self) -> dict[str, float]:
        """The fields by name; ``ClearCounts(**plain)`` undoes it."""
        return asdict(self)


def clear_counts(frames: Sequence[TrackedFrame]) -> ClearCounts:
    """Match a sequence frame by frame and count (metrics specification §10).

    A pairing of the frame before is kept as long as it is valid; the rest goes by similarity. Pairs less similar than
    0.5 are never matched.

    Args:
        frames: the sequence, in order.
    """
    previous: dict[int, int] = {}  # pairing of the last frame with anything on both sides
    last: dict[int, int] = {}  # the track each ground truth was ever matched to last
    seen, matched, starts = Counter[int](), Counter[int](), Counter[int]()
    predicted = switches = 0
    similarities: list[float] = []
    for frame in frames:
        seen.update(frame.truth_ids.tolist())
        predicted += len(frame.predicted_ids)
        if not len(frame.truth_ids) or not len(frame.predicted_ids):
            continue
        rows, columns = _match(frame, previous)
        pairing = dict(zip(frame.truth_ids[rows].tolist(), frame.predicted_ids[columns].tolist(), strict=True))
        switches += sum(last.get(truth, track) != track for truth, track in pairing.items())
        matched.update(pairing.keys())
        starts.update(pairing.keys() - previous.keys())
        last.update(pairing)
        previous = pairing
        similarities.extend(frame.similarity_gp[rows, columns].tolist())
    ratios = [matched[truth] / seen[truth] for truth in seen]
    tp = len(similarities)
    mostly, lost = sum(ratio > 0.8 for ratio in ratios), sum(ratio < 0.2 for ratio in ratios)
    return ClearCounts(
        tp=tp,
        fp=predicted - tp,
        fn=seen.total() - tp,
        switches=switches,
        mostly_tracked=mostly,
        partly_tracked=len(ratios) - mostly - lost,
        mostly_lost=lost,
        fragments=starts.total() - len(starts),
        identity_tp=identity_true_positives(frames),
        similarity=float(np.sum(similarities)),
    )


def identity_true_positives(frames: Sequence[TrackedFrame]) -> int:
    """Detections that agree when every true track is given at most one predicted track and the reverse, at best.

    IDF1 is then ``2 · IDTP / (true + predicted detections)`` (Ristani et al., section 3).
    """
    together = Counter[tuple[int, int]]()
    for frame in frames:
        for g, p in np.argwhere(frame.similarity_gp >= THRESHOLD):
            together[int(frame.truth_ids[g]), int(frame.predicted_ids[p])] += 1
    true_ids = sorted({truth for truth, _ in together})
    predicted_ids = sorted({track for _, track in together})
    count_gp = np.array([[together[truth, track] for track in predicted_ids] for truth in true_ids], dtype=np.int64)
    if not together:
        return 0
    return int(count_gp[linear_sum_assignment(count_gp, maximize=True)].sum())


def add_clear_counts(counts: Iterable[ClearCounts]) -> ClearCounts:
    """Sequences of one class together. The order of the sums is the order given."""
    total = ClearCounts().to_plain()
    for one in counts:
        for name, value in one.to_plain().items():
            total[name] += value
    return ClearCounts(**total)  # type: ignore[arg-type]  # all but one are sums of integers


def clear_scores(counts: ClearCounts) -> Scores:
    """sMOTSA, MOTSA, MOTSP and IDF1 (metrics specification §10); the first two can be below 0."""
    truths = max(1, counts.tp + counts.fn)
    errors = counts.fp + counts.switches
    detections = 2 * counts.tp + counts.fn + counts.fp
    return {
        "sMOTSA": (counts.similarity - errors) / truths,
        "MOTSA": (counts.tp - errors) / truths,
        "MOTSP": counts.similarity / max(1, counts.tp),
        "IDF1": 2 * counts.identity_tp / max(1, detections),
    }


def unmatched(similarity_gp: FloatArray, *, invalid: float) -> NDArray[np.bool_]:
    """Predictions left over by the best assignment of pairs with a similarity of at least 0.5.

    Args:
        similarity_gp: ``float64[G, P]``.
        invalid: what a less similar pair is worth in the assignment; the reference programs differ in it.

    Returns:
        ``bool[P]``.
    """
    left_p = np.ones(similarity_gp.shape[1], dtype=bool)
    if similarity_gp.size:
        worth_gp = np.where(similarity_gp < THRESHOLD - EPSILON, invalid, similarity_gp)
        rows, columns = linear_sum_assignment(worth_gp, maximize=True)
        left_p[columns[worth_gp[rows, columns] > EPSILON]] = False
    return left_p


def _match(frame: TrackedFrame, previous: dict[int, int]) -> tuple[IntArray, IntArray]:
    """Positions of matched truths and predictions."""
    kept_g = np.array([previous.get(truth, -1) for truth in frame.truth_ids.tolist()], dtype=np.int64)
    score_gp = _KEEP * (kept_g[:, None] == frame.predicted_ids[None]) + frame.similarity_gp
    score_gp[frame.similarity_gp < THRESHOLD - EPSILON] = 0
    rows, columns = linear_sum_assignment(score_gp, maximize=True)
    valid = score_gp[rows, columns] > EPSILON
    return rows[valid], columns[valid]
