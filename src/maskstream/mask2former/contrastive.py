"""Embeddings of the same objects are to be alike, those of others not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(similarity_xy: Tensor, same_xy: Tensor, *, most: float | None = None) -> Tensor:
    """log(1 + Σ₊ Σ₋ exp(s₋ - s₊)), a mean over rows with a positive (Tube-Link, equation 2; UniVS, specification §11).

    Args:
        similarity_xy: ``float[X, Y]``, dot products of embeddings.
        same_xy: ``bool[X, Y]``, whether they are of one object.
        most: that a difference s₋ - s₊ counts; None: all of it.

    Returns:
        0 where no row has a positive.
    """
    kept = same_xy.any(1)
    if not kept.any():
        return similarity_xy.sum() * 0.0
    similarity_xy, same_xy = similarity_xy[kept].float(), same_xy[kept]
    lowest = torch.finfo(torch.float32).min
    if most is None:  # Σ₊ Σ₋ exp(s₋ - s₊) is a product of sums.
        negative_x = similarity_xy.masked_fill(same_xy, lowest).logsumexp(1)
        positive_x = (-similarity_xy).masked_fill(~same_xy, lowest).logsumexp(1)
        return F.softplus(negative_x + positive_x).mean()
    differences_xyy = (similarity_xy[:, :, None] - similarity_xy[:, None]).clamp(max=most)
    counts_xyy = ~same_xy[:, :, None] & same_xy[:, None]
    return F.softplus(differences_xyy.masked_fill(~counts_xyy, lowest).flatten(1).logsumexp(1)).mean()
