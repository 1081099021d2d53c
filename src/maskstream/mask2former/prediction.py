"""What queries answer, and what they should."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ClipPrediction:
    """What the network says of B clips of T frames: a class and a tube of each of Q queries.

    Attributes:
        classes_bqc: ``float[B, Q, K + 1]``, logits; the last class is "nothing".
        masks_bqthw: ``float[B, Q, T, h, w]``, logits at a quarter of the size of the input.
        queries_bqc: ``float[B, Q, C]``, the queries themselves, not normalised.
    """

    classes_bqc: Tensor
    masks_bqthw: Tensor
    queries_bqc: Tensor

    def of_queries(self, which: slice) -> ClipPrediction:
        """The answers of some queries."""
        return ClipPrediction(self.classes_bqc[:, which], self.masks_bqthw[:, which], self.queries_bqc[:, which])

    def of_clips(self, which: slice) -> ClipPrediction:
        """The answers for some clips."""
        return ClipPrediction(self.classes_bqc[which], self.masks_bqthw[which], self.queries_bqc[which])


@dataclass(frozen=True, slots=True, eq=False)
class ClipTargets:
    """What is to be found in one clip of T frames.

    Attributes:
        classes_n: ``int64[N]``, 0 … K - 1.
        masks_nthw: ``bool[N, T, H, W]``; empty where an object is not seen.
    """

    classes_n: Tensor
    masks_nthw: Tensor

    def only(self, which_n: Tensor) -> ClipTargets:
        """Some of it, ``bool[N]`` or positions."""
        return ClipTargets(self.classes_n[which_n], self.masks_nthw[which_n])

    def on_frames(self, which: slice) -> ClipTargets:
        """All of it on some frames, empty where it is not seen."""
        return ClipTargets(self.classes_n, self.masks_nthw[:, which])

    def seen(self) -> ClipTargets:
        """What is seen on any frame."""
        return self.only(self.masks_nthw.flatten(1).any(1))
