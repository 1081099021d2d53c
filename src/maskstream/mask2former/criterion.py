"""What the query core is trained to make small: the loss of a set of answers (DETR; Mask2Former, §3.3; Tube-Link, §4).

every stage: answers ─► matching with objects ─┬─► class of every query, "nothing" of those without object
                                               └─► masks of matched queries at points they are least sure of
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from .matcher import POINTS, PUBLISHED, Matching, Weights, check_targets, match
from .points import sample_logits, sample_masks, uncertain_points
from .prediction import ClipPrediction, ClipTargets


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCriterion:
    """Loss of all stages together; as published unless said otherwise.

    Attributes:
        weights: of the terms, in matching and in the loss.
        nothing: weight of queries without object among those that have one, which have weight 1.
        points: of a clip in matching, and of each mask in the loss.
        oversample: see `points.uncertain_points`.
        importance: see there.
    """

    weights: Weights = PUBLISHED
    nothing: float = 0.1
    points: int = POINTS
    oversample: float = 3.0
    importance: float = 0.75

    def __call__(
        self,
        stages: Sequence[ClipPrediction],
        targets: Sequence[ClipTargets],
        *,
        matching: Matching | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The loss of B clips.

        Args:
            stages: answers of the network after each layer, the last one last.
            targets: of each clip.
            matching: the same for all stages, where it is known which query stands for which object; None: every
                stage is matched by itself.
            generator: chance; None: of torch.

        Returns:
            ``loss``, the weighted sum of all terms over all stages. And, of the last stage, without gradient and
            before they are weighted: ``ce``, the mean over queries, each by its weight; ``bce`` and ``dice``, sums
            over matched masks, divided by how many a process has on average, at least 1.

        Raises:
            InputError: targets do not fit the predictions, or predictions are not finite.
        """
        queries = stages[-1].classes_bqc.shape[1]
        if matching is None:
            matched = sum(min(queries, len(target.classes_n)) for target in targets)
        else:
            check_targets(stages[-1], targets)
            matched = sum(len(objects_n) for _, objects_n in matching)
        masks = _per_process(matched, stages[-1].masks_bqthw.device)
        total = stages[-1].masks_bqthw.new_zeros((), dtype=torch.float32)
        for stage in stages:
            pairs = matching
            if pairs is None:
                pairs = match(stage, targets, weights=self.weights, points=self.points, generator=generator)
            ce = self._classes(stage, targets, pairs)
            bce, dice = self._masks(stage, targets, pairs, generator)
            bce, dice = bce / masks, dice / masks
            total = total + self.weights.classes * ce + self.weights.bce * bce + self.weights.dice * dice
        return {"loss": total, "ce": ce.detach(), "bce": bce.detach(), "dice": dice.detach()}

    def _classes(self, stage: ClipPrediction, targets: Sequence[ClipTargets], pairs: Matching) -> Tensor:
        """Weighted cross-entropy of all queries, divided by the weights applied."""
        batch, queries, classes = stage.classes_bqc.shape
        labels_bq = torch.full((batch, queries), classes - 1, device=stage.classes_bqc.device)
        for labels_q, target, (queries_n, objects_n) in zip(labels_bq, targets, pairs, strict=True):
            labels_q[queries_n] = target.classes_n[objects_n]
        weight_c = torch.ones(classes, device=stage.classes_bqc.device)
        weight_c[-1] = self.nothing
        labels_x = labels_bq.flatten()
        total = F.cross_entropy(stage.classes_bqc.flatten(0, 1).float(), labels_x, weight_c, reduction="sum")
        return total / weight_c[labels_x].sum().clamp_min(torch.finfo(torch.float32).tiny)

    def _masks(
        self,
        stage: ClipPrediction,
        targets: Sequence[ClipTargets],
        pairs: Matching,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and dice, both summed over the matched masks of all clips."""
        logits_mthw = torch.cat(
            [masks_qthw[queries_n] for masks_qthw, (queries_n, _) in zip(stage.masks_bqthw, pairs, strict=True)]
        )
        if not len(logits_mthw):
            nothing = logits_mthw.float().sum()  # 0; its gradient is 0, not missing
            return nothing, nothing
        where_mp2 = uncertain_points(
            logits_mthw, self.points, oversample=self.oversample, importance=self.importance, generator=generator
        )
        wheres = torch.split(where_mp2, [len(objects_n) for _, objects_n in pairs])
        truth_mp = torch.cat(
            [
                sample_masks(target.masks_nthw, where_np2, objects_n)
                for target, where_np2, (_, objects_n) in zip(targets, wheres, pairs, strict=True)
            ]
        )
        bce_m, dice_m = point_losses(sample_logits(logits_mthw, where_mp2), truth_mp, smooth=self.weights.smooth)
        return bce_m.sum(), dice_m.sum()


def point_losses(logits_mp: Tensor, truth_mp: Tensor, *, smooth: float = 1.0) -> tuple[Tensor, Tensor]:
    """What masks cost (Mask2Former, §3.3).

    Args:
        logits_mp: ``float32[M, P]``, masks at points.
        truth_mp: ``float32[M, P]`` in [0, 1].
        smooth: ε.

    Returns:
        ``float32[M]`` twice: mean cross-entropy, and 1 - (2 Σ p g + ε) / (Σ p + Σ g + ε).
    """
    bce_m = F.binary_cross_entropy_with_logits(logits_mp, truth_mp, reduction="none").mean(1)
    probability_mp = logits_mp.sigmoid()
    both_m = (probability_mp * truth_mp).sum(1)
    either_m = probability_mp.sum(1) + truth_mp.sum(1)
    return bce_m, 1 - (2 * both_m + smooth) / (either_m + smooth)


def _per_process(count: int, device: torch.device) -> float:
    """The mean of a count over all processes, at least 1."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return max(count, 1)
    total = torch.tensor(float(count), device=device)
    distributed.all_reduce(total)
    return max(float(total) / distributed.get_world_size(), 1.0)
