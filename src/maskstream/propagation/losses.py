"""What the propagation network is trained to make small.

DEVA (Cheng et al., "Tracking Anything with Decoupled Video Segmentation", ICCV 2023), appendix; XMem (Cheng & Schwing,
ECCV 2022), appendix. On every frame, for samples of one batch:

    loss = bootstrapped cross-entropy + 0.1 · cross-entropy of the auxiliary head + soft Dice
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def hard_fraction(iteration: int, start: int, end: int, *, hardest: float = 0.3) -> float:
    """The fraction of the pixels that count at an iteration: all, then linearly fewer, then the hardest.

    Args:
        iteration: of the run, from 0.
        start: until here all pixels count.
        end: from here on as few as ever do.
        hardest: the fraction at the end.
    """
    if iteration <= start:
        return 1.0
    if iteration >= end:
        return hardest
    return hardest + (1 - hardest) * (end - iteration) / (end - start)


def bootstrapped_cross_entropy(log_odds_bnhw: Tensor, labels_bhw: Tensor, fraction: float = 1.0) -> Tensor:
    """Cross-entropy of the hardest pixels of each sample (Wu et al., 2016, arXiv:1605.06885).

    Padded objects, of log-odds -16, change it by less than 1e-7: they need not be left out.

    Args:
        log_odds_bnhw: ``float[b, 1 + n, H, W]``, background first; their softmax are probabilities.
        labels_bhw: ``int64[b, H, W]`` in 0…n.
        fraction: of the pixels of each sample, in (0, 1]; those with the greatest loss.

    Returns:
        The mean over these pixels and all samples.
    """
    if fraction >= 1:
        return F.cross_entropy(log_odds_bnhw, labels_bhw)
    loss_bx = F.cross_entropy(log_odds_bnhw, labels_bhw, reduction="none").flatten(1)
    count = max(int(loss_bx.shape[1] * fraction), 1)
    return loss_bx.topk(count, dim=1, sorted=False).values.mean()


def soft_dice(probabilities_bnhw: Tensor, labels_bhw: Tensor, *, objects: int | None = None) -> Tensor:
    """Soft Dice loss of every object: ``1 - (2 Σ m g + 1) / (Σ m + Σ g + 1)`` (Milletari et al., 2016, "V-Net").

    Args:
        probabilities_bnhw: ``float[b, n, H, W]`` in [0, 1], without background.
        labels_bhw: ``int64[b, H, W]``; object i is label i + 1.
        objects: of which the loss is the mean, at least n; n if None. Those that are not there lose nothing.

    Returns:
        The mean over samples and objects.
    """
    number_n = torch.arange(1, 1 + probabilities_bnhw.shape[1], device=labels_bhw.device)
    truth = (labels_bhw.unsqueeze(1) == number_n[:, None, None]).to(probabilities_bnhw.dtype)
    both = (probabilities_bnhw * truth).sum(dim=(2, 3))
    either = probabilities_bnhw.sum(dim=(2, 3)) + truth.sum(dim=(2, 3))
    loss_bn = 1 - (2 * both + 1) / (either + 1)
    return loss_bn.sum() / (len(loss_bn) * (objects or loss_bn.shape[1]))
