"""Which class is a pixel of a frame, where classes are told by themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from maskstream.mask2former.postprocess import resized


def class_values(scores_qk: Tensor, masks_qhw: Tensor, size_hw: tuple[int, int] | None = None) -> Tensor:
    """``float[K, H, W]``: Σ over queries of class score times mask probability, of one frame (specification §9.4).

    Args:
        scores_qk: ``float[Q, K]``, of which each class is told by itself.
        masks_qhw: ``float[Q, h, w]``, logits.
        size_hw: size at which masks become probabilities; None: their own.
    """
    logits_qhw = masks_qhw if size_hw is None else resized(masks_qhw, size_hw)
    return torch.einsum("qk,qhw->khw", scores_qk, logits_qhw.sigmoid())
