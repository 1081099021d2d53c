"""What Tube-Link is trained to make small (Tube-Link, §3.2 and 3.3; specification §4).

tube ─► answers ─┬─ slots of stuff: each has its class, there or not  ─┐
                 └─ the others: matched with things                   ─┴─► loss of classes and masks
queries of two tubes ─► those of the same things alike, of others not ───► temporal contrastive loss
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.mask2former.contrastive import contrastive_loss
from maskstream.mask2former.criterion import SetCriterion
from maskstream.mask2former.matcher import Weights, match
from maskstream.mask2former.points import sample_logits, sample_masks, uniform_points
from maskstream.mask2former.prediction import ClipPrediction, ClipTargets

from .association import Association, LinkMode

_MARGIN = 0.1
"""What the cosine of two things may be without cost."""

_SAME, _OTHER = 0.7, 0.3
"""α₁ and α₂ of the paper: the program does not have them, and assigns each thing to one query."""

Assignment: TypeAlias = Literal["tube", "frame", "dense"]
"""By what queries are told to be of a thing: one query each, by the thing's masks in all frames of the tube, or by that
in the first alone; or all queries whose tubes overlap that of the thing by more than α₁. Table 8b and 8c of the paper.
"""

_NEGATIVES = 3
"""Most pairs of two things that count, for each pair of one, where there are many."""

ASSIGNMENT = Weights(classes=2.0, bce=5.0, dice=4.0, smooth=1e-3)
"""Of costs when queries are assigned to things for the contrastive loss; not those of the segmentation loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TubeCriterion:
    """The loss of a tube's classes and masks.

    Attributes:
        stuff_slots: see `TubeLinkConfig.stuff_slots`.
        criterion: of things, and of stuff by itself; each has normalisers of its own.
    """

    stuff_slots: int = 0
    criterion: SetCriterion = field(default_factory=SetCriterion)

    def __call__(
        self,
        stages: Sequence[ClipPrediction],
        targets: Sequence[ClipTargets],
        *,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """See `SetCriterion`; the sum of both parts."""
        if not self.stuff_slots:
            return self.criterion(stages, targets, generator=generator)
        free = stages[-1].classes_bqc.shape[1] - self.stuff_slots
        first_stuff = stages[-1].classes_bqc.shape[2] - 1 - self.stuff_slots
        things = self.criterion(
            [stage.of_queries(slice(free)) for stage in stages],
            [target.only(target.classes_n < first_stuff) for target in targets],
            generator=generator,
        )
        stuff_targets = [target.only(target.classes_n >= first_stuff) for target in targets]
        stuff = self.criterion(
            [stage.of_queries(slice(free, None)) for stage in stages],
            stuff_targets,
            matching=[
                (target.classes_n - first_stuff, torch.arange(len(target.classes_n), device=target.classes_n.device))
                for target in stuff_targets
            ],
            generator=generator,
        )
        return {name: value + stuff[name] for name, value in things.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationLoss:
    """The temporal contrastive loss (§3.2, equations 2 and 3), between two tubes of a video.

    Attributes:
        things: the first so many classes; only these are followed.
        stuff_slots: the last so many queries, which stand for no thing.
        contrastive: weight.
        auxiliary: weight.
        points: of a tube at which masks are compared.
        link: how queries of the later tube look at those of the earlier one.
        assignment: see `Assignment`.
        link_earlier: let the earlier tube look at the later one instead, as the authors' program does in training.
    """

    things: int
    stuff_slots: int = 0
    contrastive: float = 0.25
    auxiliary: float = 1.0
    points: int = 12_544
    link: LinkMode = "attention"
    assignment: Assignment = "tube"
    link_earlier: bool = False

    def __call__(
        self,
        association: Association,
        earlier: ClipPrediction,
        later: ClipPrediction,
        targets: tuple[Sequence[ClipTargets], Sequence[ClipTargets]],
        *,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The loss of B pairs of tubes.

        Args:
            association: link layer and embedding head.
            earlier: answers of the last stage.
            later: the same of tubes of the same B videos.
            targets: of earlier and of later tubes; the n-th objects of both are the same, and empty where not seen.
            generator: chance.

        Returns:
            ``track``, the weighted sum, a mean over pairs that have a thing in common; without gradient ``contrastive``
            and ``auxiliary``.
        """
        free = slice(earlier.queries_bqc.shape[1] - self.stuff_slots)
        earlier, later = earlier.of_queries(free), later.of_queries(free)
        first_bqc, second_bqc = earlier.queries_bqc, later.queries_bqc
        if self.link_earlier:
            first_bqc = association.link(first_bqc, second_bqc, mode=self.link)
        else:
            second_bqc = association.link(second_bqc, first_bqc, mode=self.link)
        with torch.no_grad():
            assigned = [
                self._assigned(prediction, of_tubes, generator)
                for prediction, of_tubes in zip((earlier, later), targets, strict=True)
            ]
        contrastive = auxiliary = first_bqc.sum() * 0.0
        pairs = 0
        for first_qc, second_qc, (x_queries, x_objects), (y_queries, y_objects) in zip(
            first_bqc, second_bqc, *assigned, strict=True
        ):
            same_xy = (x_objects[:, None] == y_objects[None]) & (x_objects >= 0)[:, None]
            if not same_xy.any():
                continue
            x, y = association.embed(first_qc[x_queries]), association.embed(second_qc[y_queries])
            contrastive = contrastive + contrastive_loss(x @ y.T, same_xy)
            auxiliary = auxiliary + auxiliary_loss(F.normalize(x, dim=1) @ F.normalize(y, dim=1).T, same_xy)
            pairs += 1
        contrastive, auxiliary = contrastive / max(pairs, 1), auxiliary / max(pairs, 1)
        return {
            "track": self.contrastive * contrastive + self.auxiliary * auxiliary,
            "contrastive": contrastive.detach(),
            "auxiliary": auxiliary.detach(),
        }

    def _assigned(
        self, prediction: ClipPrediction, targets: Sequence[ClipTargets], generator: torch.Generator | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Of each tube, queries and the things they are, by their position among all objects; -1 is none."""
        if self.assignment == "frame":
            prediction = replace(prediction, masks_bqthw=prediction.masks_bqthw[:, :, :1])
            targets = [target.on_frames(slice(1)) for target in targets]
        seen = [
            ((target.classes_n < self.things) & target.masks_nthw.flatten(1).any(1)).nonzero()[:, 0]
            for target in targets
        ]
        things = [target.only(positions) for target, positions in zip(targets, seen, strict=True)]
        if self.assignment == "dense":
            return [
                _overlapping(masks_qthw, target.masks_nthw, positions, self.points, generator)
                for masks_qthw, target, positions in zip(prediction.masks_bqthw, things, seen, strict=True)
            ]
        pairs = match(prediction, things, weights=ASSIGNMENT, points=self.points, generator=generator)
        return [(queries, positions[objects]) for (queries, objects), positions in zip(pairs, seen, strict=True)]


def _overlapping(
    logits_qthw: Tensor, masks_nthw: Tensor, positions_n: Tensor, points: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Queries that overlap a thing by more than α₁, with its position, and those that overlap none by α₂, with -1."""
    where_1p2 = uniform_points(points, device=logits_qthw.device, generator=generator)
    inside_qp = (sample_logits(logits_qthw, where_1p2) > 0).float()
    truth_np = (sample_masks(masks_nthw, where_1p2) > 0.5).float()
    both_qn = inside_qp @ truth_np.T
    iou_qn = both_qn / (inside_qp.sum(1)[:, None] + truth_np.sum(1) - both_qn).clamp(min=1)
    best = iou_qn.max(1) if len(positions_n) else None
    if best is None:
        return positions_n.new_zeros(0), positions_n.new_zeros(0)
    objects_q = torch.where(best.values > _SAME, positions_n[best.indices], -1)
    queries = ((best.values > _SAME) | (best.values < _OTHER)).nonzero()[:, 0]
    return queries, objects_q[queries]


def auxiliary_loss(cosine_xy: Tensor, same_xy: Tensor) -> Tensor:
    """``L_track_aux`` (equation 3): cosines of the same things are to be 1, of others 0.

    Others may be a little alike; and of many, those that are most alike count alone.

    Args:
        cosine_xy: ``float[X, Y]``.
        same_xy: ``bool[X, Y]``, with at least one that is the same.
    """
    cost_xy = ((cosine_xy.float() - _MARGIN * ~same_xy).clamp(0, 1) - same_xy.float()).square()
    positives, negatives = cost_xy[same_xy], cost_xy[~same_xy]
    if len(negatives) > _NEGATIVES * (len(positives) + 1):
        negatives = negatives.topk(_NEGATIVES * len(positives)).values
    return torch.cat([positives, negatives]).mean()
