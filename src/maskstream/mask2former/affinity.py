"""Who is who between two sets of queries."""

from __future__ import annotations

import torch.nn.functional as F
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
