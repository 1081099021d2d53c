"""Who is who between two sets of queries."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def bi_softmax(similarity_nm: Tensor, *, rival: bool = False) -> Tensor:
    """How sure each object is of each track, and each track of each object: the mean of both (QDTrack, equation 4).

    Args:
        similarity_nm: ``float[N, M]``, dot products.
        rival: whether none is also a choice, with similarity 0.
    """
    if rival:
        wider = F.pad(similarity_nm, (0, 1, 0, 1))
        return (wider.softmax(1)[:-1, :-1] + wider.softmax(0)[:-1, :-1]) / 2
    return (similarity_nm.softmax(1) + similarity_nm.softmax(0)) / 2


def mask_overlap(first_nthw: Tensor, second_mthw: Tensor) -> Tensor:
    """IoU over all frames, ``float[N, M]``; 0 for two that are empty.

    Args:
        first_nthw: ``bool[N, T, h, w]``.
        second_mthw: ``bool[M, T, h, w]``.
    """
    first, second = first_nthw.flatten(1).float(), second_mthw.flatten(1).float()
    both_nm = first @ second.T
    return both_nm / (first.sum(1)[:, None] + second.sum(1) - both_nm).clamp(min=1)


def assigned(affinity_nm: Tensor, least: float) -> dict[int, int]:
    """For candidates the target that each is, by the Hungarian method; only pairs above ``least`` count.

    Args:
        affinity_nm: ``float[N, M]``, of targets and candidates.
        least: what an affinity must exceed.
    """
    if not affinity_nm.numel():
        return {}
    values_nm = torch.where(affinity_nm > least, affinity_nm, 0).cpu().numpy()
    pairs = zip(*linear_sum_assignment(values_nm, maximize=True), strict=True)
    return {int(m): int(n) for n, m in pairs if values_nm[n, m] > 0}
