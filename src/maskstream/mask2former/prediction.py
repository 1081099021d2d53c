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


@dataclass(frozen=True, slots=True, eq=False)
class ClipTargets:
    """What is to be found in one clip of T frames.

    Attributes:
        classes_n: ``int64[N]``, 0 … K - 1.
        masks_nthw: ``bool[N, T, H, W]``; empty where an object is not seen.
    """

    classes_n: Tensor
    masks_nthw: Tensor
