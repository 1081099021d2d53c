"""Which query answers for which object: the cheapest assignment (DETR, Carion et al., ECCV 2020; Mask2Former, §3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from maskstream.types import InputError

from .points import sample_logits, sample_masks, uniform_points
from .prediction import ClipPrediction, ClipTargets

POINTS = 12544
"""Points at which masks are compared, as published: of a clip as of a picture."""

Matching = Sequence[tuple[Tensor, Tensor]]
"""Of each clip, the queries ``int64[n]`` that were given an object, and these objects ``int64[n]``."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What mistakes count, in matching and in the loss.

    Attributes:
        classes: of the class.
        bce: of the mask, by the cross-entropy of its pixels.
        dice: of the mask, by its overlap.
        smooth: added to both parts of dice.
    """

    classes: float = 2.0
    bce: float = 5.0
    dice: float = 5.0
    smooth: float = 1.0


PUBLISHED = Weights()


@torch.no_grad()
def match(
    prediction: ClipPrediction,
    targets: Sequence[ClipTargets],
    *,
    weights: Weights = PUBLISHED,
    points: int = POINTS,
    generator: torch.Generator | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Give every object of a clip a query of its own, at the least cost in all (Tube-Link, specification §4).

        cost = - classes · p(class of the object) + bce · mean cross-entropy + dice · (1 - overlap)

    All queries and objects of a clip are compared at the same points, which lie anywhere. Costs are float32 even under
    autocast.

    Args:
        prediction: of B clips.
        targets: of each of them.
        weights: of the terms.
        points: of a clip.
        generator: chance; None: of torch.

    Returns:
        See `Matching`; queries ascend. Where objects are more than queries some are left out.

    Raises:
        InputError: targets do not fit the prediction, or costs are not finite.
    """
    check_targets(prediction, targets)
    matching: list[tuple[Tensor, Tensor]] = []
    with torch.autocast(prediction.masks_bqthw.device.type, enabled=False):
        for clip, (classes_qc, logits_qthw, target) in enumerate(
            zip(prediction.classes_bqc, prediction.masks_bqthw, targets, strict=True)
        ):
            where_1p2 = uniform_points(points, device=logits_qthw.device, generator=generator)
            bce_qn, dice_qn = mask_costs(
                sample_logits(logits_qthw, where_1p2),
                sample_masks(target.masks_nthw, where_1p2),
                smooth=weights.smooth,
            )
            probability_qn = classes_qc.float().softmax(-1)[:, target.classes_n]
            cost_qn = weights.bce * bce_qn + weights.dice * dice_qn - weights.classes * probability_qn
            if not cost_qn.isfinite().all():
                raise InputError(
                    f"answers for clip {clip} of the batch are NaN or infinite and cannot be matched: "
                    "train with a lower learning rate, or check the weights that were loaded"
                )
            queries, objects = linear_sum_assignment(cost_qn.cpu().numpy())
            matching.append((_indices(queries, cost_qn.device), _indices(objects, cost_qn.device)))
    return matching


def mask_costs(logits_qp: Tensor, targets_np: Tensor, *, smooth: float = 1.0) -> tuple[Tensor, Tensor]:
    """What it costs to give mask q to object n.

    Args:
        logits_qp: ``float32[Q, P]``, masks at points.
        targets_np: ``float32[N, P]`` in [0, 1], objects at the same points.
        smooth: ε.

    Returns:
        ``float32[Q, N]`` twice: mean cross-entropy, and 1 - (2 Σ p g + ε) / (Σ p + Σ g + ε).
    """
    bce_qn = -(F.logsigmoid(logits_qp) @ targets_np.T + F.logsigmoid(-logits_qp) @ (1 - targets_np).T)
    probability_qp = logits_qp.sigmoid()
    both_qn = probability_qp @ targets_np.T
    either_qn = probability_qp.sum(-1)[:, None] + targets_np.sum(-1)
    return bce_qn / logits_qp.shape[1], 1 - (2 * both_qn + smooth) / (either_qn + smooth)


def check_targets(prediction: ClipPrediction, targets: Sequence[ClipTargets]) -> None:
    """See that targets are what a prediction can be compared with.

    Raises:
        InputError: they are not.
    """
    batch, _, frames, _, _ = prediction.masks_bqthw.shape
    classes = prediction.classes_bqc.shape[2] - 1
    if len(targets) != batch:
        raise InputError(f"there are answers for {batch} clips but targets for {len(targets)}: give one for each")
    for clip, target in enumerate(targets):
        shape = list(target.masks_nthw.shape)
        if target.masks_nthw.dtype != torch.bool or shape[:2] != [len(target.classes_n), frames]:
            raise InputError(
                f"masks of clip {clip} are {target.masks_nthw.dtype}{shape}: "
                f"expected bool[{len(target.classes_n)}, {frames}, H, W], one for each object and frame"
            )
        wrong = target.classes_n[(target.classes_n < 0) | (target.classes_n >= classes)].tolist()
        if wrong:
            raise InputError(f"clip {clip} has an object of class {wrong[0]}, but classes are 0 to {classes - 1}")


def _indices(positions: object, device: torch.device) -> Tensor:
    return torch.as_tensor(positions, dtype=torch.int64, device=device)
