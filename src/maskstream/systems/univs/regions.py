"""Whose is which pixel of a frame, at the size of the source."""

from __future__ import annotations

import torch
from torch import Tensor

from maskstream.mask2former.postprocess import FrameSizes, at_source, resized

_AT_ONCE = 16
"""Masks that are brought to the size of the source together."""


def owners(logits_nhw: Tensor, weights_n: Tensor, sizes: FrameSizes) -> tuple[Tensor, Tensor]:
    """Every pixel to the mask with the greatest weight times logit, among those that have it (specification §9.3).

    Args:
        logits_nhw: ``float[N, h, w]``, of the padded input.
        weights_n: ``float[N]``, positive.
        sizes: of the frame.

    Returns:
        ``int64[H, W]``, n for the n-th mask (from 1), 0 for nobody; and ``int64[N]``, how large each mask is.
    """
    best_hw = torch.zeros(sizes.source_hw, device=logits_nhw.device)
    owner_hw = torch.zeros(sizes.source_hw, dtype=torch.long, device=logits_nhw.device)
    areas = [owner_hw.new_zeros(0)]
    for first in range(0, len(logits_nhw), _AT_ONCE):
        part_nhw = at_source(logits_nhw[first : first + _AT_ONCE], sizes)
        areas.append((part_nhw > 0).sum((1, 2)))
        weights = weights_n[first : first + _AT_ONCE].to(part_nhw)
        value_hw, winner_hw = (weights[:, None, None] * part_nhw).max(0)
        wins = value_hw > best_hw
        best_hw = torch.where(wins, value_hw, best_hw)
        owner_hw = torch.where(wins, winner_hw + first + 1, owner_hw)
    return owner_hw, torch.cat(areas)


def masks_at_source(logits_nhw: Tensor, sizes: FrameSizes) -> Tensor:
    """``bool[N, H, W]``, each mask by itself.

    Args:
        logits_nhw: ``float[N, h, w]``, of the padded input.
        sizes: of the frame.
    """
    parts = [at_source(logits_nhw[n : n + _AT_ONCE], sizes) > 0 for n in range(0, len(logits_nhw), _AT_ONCE)]
    nothing = torch.zeros((0, *sizes.source_hw), dtype=torch.bool, device=logits_nhw.device)
    return torch.cat([nothing, *parts])


def class_values(scores_qk: Tensor, masks_qhw: Tensor, size_hw: tuple[int, int] | None = None) -> Tensor:
    """``float[K, H, W]``: Σ over queries of class score times mask probability, of one frame (specification §9.4).

    Args:
        scores_qk: ``float[Q, K]``, of which each class is told by itself.
        masks_qhw: ``float[Q, h, w]``, logits.
        size_hw: size at which masks become probabilities; None: their own.
    """
    logits_qhw = masks_qhw if size_hw is None else resized(masks_qhw, size_hw)
    return torch.einsum("qk,qhw->khw", scores_qk, logits_qhw.sigmoid())
