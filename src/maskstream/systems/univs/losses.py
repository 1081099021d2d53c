"""What UniVS is trained to make small (UniVS, §4.1 and appendix B.1; specification §11).

every stage ─┬─ learnable queries ─► matched with objects ─┬─► class, mask ─┐ half
             └─ queries of prompts: each has its own ──────┴─► class, mask ─┤ half
                 who is who: among both kinds, and between them ────────────┴─► loss

Masks are compared frame by frame, everything else clip by clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.mask2former.contrastive import contrastive_loss
from maskstream.mask2former.criterion import point_losses
from maskstream.mask2former.matcher import POINTS, Weights, match
from maskstream.mask2former.points import sample_logits, sample_masks, uncertain_points, uniform_points
from maskstream.mask2former.prediction import ClipPrediction, ClipTargets

from .network import Answers, UniVSNetwork

_SHARP = 5.0
"""What scores are multiplied by before they are compared when queries are matched."""

_MATCHING = Weights(classes=3.0)

_COLUMNS, _OF_OBJECTS = 20, 15
"""Queries that others are told apart from, at most, and how many of them are of objects."""

_MOST = 10.0
"""That a difference of similarities counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What is asked for in a clip.

    Attributes:
        targets: all its objects.
        means_pn: ``bool[P, N]``, which of them each prompt means; of several, the union.
        kind: of the prompts.
        names_kd: ``float[K, D]``, embeddings of the names of classes; None: classes are not learned from this clip.
    """

    targets: ClipTargets
    means_pn: Tensor
    kind: Literal["visual", "category", "expression"]
    names_kd: Tensor | None = field(default=None, repr=False)

    def of_prompts(self) -> ClipTargets:
        """What each prompt is to find; its class is that of any object it means, which for sentences says nothing."""
        classes_p = self.targets.classes_n[self.means_pn.int().argmax(1)]
        masks = [self.targets.masks_nthw[means_n].any(0) for means_n in self.means_pn]
        return ClipTargets(classes_p, torch.stack(masks) if masks else self.targets.masks_nthw[:0])


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Embeddings of which it is known who they are.

    Attributes:
        embeddings_xc: ``float[X, C]``.
        ids_x: ``int64[X]``, numbers of objects; -1 of none.
    """

    embeddings_xc: Tensor = field(repr=False)
    ids_x: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Known]) -> Known:
        """Those of several clips."""
        return cls(torch.cat([part.embeddings_xc for part in parts]), torch.cat([part.ids_x for part in parts]))


@dataclass(frozen=True, slots=True, kw_only=True)
class UniVSCriterion:
    """The loss of a clip; as published unless said otherwise.

    Attributes:
        classes: weight.
        bce: weight.
        dice: weight.
        reid: weight of each group of embeddings: learnable queries, prompts, and both.
        matching: weights of costs when learnable queries are matched.
        points: at which masks are compared, of each on each frame; in matching, of a clip.
        oversample: see `points.uncertain_points`.
        importance: see there.
    """

    classes: float = 5.0
    bce: float = 5.0
    dice: float = 5.0
    reid: float = 0.5
    matching: Weights = _MATCHING
    points: int = POINTS
    oversample: float = 3.0
    importance: float = 0.5

    def __call__(
        self,
        network: UniVSNetwork,
        stages: Sequence[Answers],
        asked: Asked,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[dict[str, Tensor], tuple[Known, Known]]:
        """The loss of a clip.

        Args:
            network: which tells classes.
            stages: its answers after each layer, the last one last.
            asked: for what.
            generator: chance; None: of torch.

        Returns:
            ``loss``, the weighted sum of all terms over all stages. And, of the last stage, without gradient and before
            they are weighted: ``ce``, ``bce`` and ``dice`` of learnable queries, ``prompt_bce`` and ``prompt_dice`` of
            prompts, and ``reid``. Then who the learnable queries and those of prompts are, for `between_clips`.

        Raises:
            InputError: targets do not fit the answers, or answers are not finite.
        """
        wanted = asked.of_prompts()
        half = 0.5 if len(asked.means_pn) else 1.0
        weight = {"ce": self.classes, "bce": self.bce, "dice": self.dice}
        total = stages[-1].masks_qthw.new_zeros((), dtype=torch.float32)
        for stage in stages:
            of_learnable, of_prompts, reid, who = self._stage(network, stage, asked, wanted, generator)
            total = total + self.reid * reid
            for name, factor in weight.items():
                total = total + half * factor * (of_learnable[name] + of_prompts[name])
        parts = {**of_learnable, "prompt_bce": of_prompts["bce"], "prompt_dice": of_prompts["dice"], "reid": reid}
        return {"loss": total, **{name: value.detach() for name, value in parts.items()}}, who

    def between_clips(
        self, clips: Sequence[tuple[Known, Known]], *, are_names: bool, generator: torch.Generator | None = None
    ) -> Tensor:
        """Who is who over several clips of a video, whose objects have the same numbers (specification §11, stage 3).

        Args:
            clips: learnable queries and prompts of each.
            are_names: whether prompts are names of classes, which are nobody: then learnable queries alone count.
            generator: chance; None: of torch.
        """
        free, prompted = (Known.joined(side) for side in zip(*clips, strict=True))
        groups = [(free, free)] if are_names else [(free, free), (prompted, prompted), (free, prompted)]
        return self.reid * torch.stack([reid_loss(x, y, generator=generator) for x, y in groups]).sum()

    def _stage(
        self,
        network: UniVSNetwork,
        stage: Answers,
        asked: Asked,
        wanted: ClipTargets,
        generator: torch.Generator | None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor, tuple[Known, Known]]:
        """Terms of learnable queries and of prompts, that of embeddings, and who they are."""
        free, prompted = stage[slice(network.queries)], stage[slice(network.queries, None)]
        logits = [None if asked.names_kd is None else network.class_logits(x, asked.names_kd) for x in (free, prompted)]
        queries_n, objects_n = self._matched(free, logits[0], asked.targets, generator)
        every_p = torch.arange(len(asked.means_pn), device=queries_n.device)
        terms: list[dict[str, Tensor]] = []
        for answers, logits_qk, which, truth in (
            (free, logits[0], queries_n, asked.targets.only(objects_n)),
            (prompted, logits[1], every_p, wanted),
        ):
            nothing = answers.embeddings_qtc.sum() * 0.0
            ce = nothing if logits_qk is None else class_loss(logits_qk, which, truth.classes_n)
            bce, dice = self._masks(answers.masks_qthw[which], truth.masks_nthw, generator)
            if answers is prompted and asked.kind == "category":
                bce = bce + self._rivalry(prompted.masks_qthw, truth.masks_nthw, generator)
            terms.append({"ce": ce, "bce": bce, "dice": dice})
        who = _learnable(free, queries_n, objects_n, asked.targets), _prompted(prompted, asked)
        return terms[0], terms[1], _reid_of_clip(*who, asked, generator), who

    @torch.no_grad()
    def _matched(
        self, answers: Answers, logits_qk: Tensor | None, targets: ClipTargets, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Which learnable query stands for which object, of those that are seen in the clip."""
        seen = targets.masks_nthw.flatten(1).any(1).nonzero()[:, 0]
        targets = targets.only(seen)
        if logits_qk is None:  # then all classes are one
            logits_qk = answers.masks_qthw.new_zeros(len(answers.masks_qthw), 1)
            targets = ClipTargets(torch.zeros_like(targets.classes_n), targets.masks_nthw)
        scores_qk = F.pad(_SHARP * logits_qk.float().sigmoid(), (0, 1), value=-math.inf)  # they know no "nothing"
        prediction = ClipPrediction(scores_qk[None], answers.masks_qthw[None], answers.embeddings_qtc[None, :, 0])
        ((queries_n, objects_n),) = match(
            prediction, [targets], weights=self.matching, points=self.points, generator=generator
        )
        return queries_n, seen[objects_n]

    def _masks(
        self, logits_mthw: Tensor, masks_mthw: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and dice, means over masks of frames."""
        if not len(logits_mthw):
            nothing = logits_mthw.float().sum()  # 0; its gradient is 0, not missing
            return nothing, nothing
        logits_x1hw, masks_x1hw = (x.flatten(0, 1)[:, None] for x in (logits_mthw, masks_mthw))
        where_xp2 = uncertain_points(
            logits_x1hw, self.points, oversample=self.oversample, importance=self.importance, generator=generator
        )
        bce_x, dice_x = point_losses(
            sample_logits(logits_x1hw, where_xp2), sample_masks(masks_x1hw, where_xp2), smooth=self.matching.smooth
        )
        return bce_x.mean(), dice_x.mean()

    def _rivalry(self, logits_pthw: Tensor, masks_pthw: Tensor, generator: torch.Generator | None) -> Tensor:
        """Cross-entropy over classes at points of the clip that one of them has."""
        if not len(logits_pthw):
            return logits_pthw.float().sum()
        where_1x2 = uniform_points(self.points, device=logits_pthw.device, generator=generator)
        truth_px = sample_masks(masks_pthw, where_1x2) > 0.5
        one_x = truth_px.sum(0) == 1
        logits_xp = sample_logits(logits_pthw, where_1x2).T
        if not one_x.any():
            return logits_xp.sum() * 0.0
        return F.cross_entropy(logits_xp[one_x], truth_px.int().argmax(0)[one_x])


def reid_loss(x: Known, y: Known, *, auxiliary: bool = True, generator: torch.Generator | None = None) -> Tensor:
    """Embeddings of the same objects are to be alike, those of others not (specification §11).

    The contrastive loss of dot products, and a smooth distance of their cosines from 1 and 0. Of the second kind some
    are chosen by chance: up to 15 that are of objects of the first, and 5 that are not.

    Args:
        x: some; those of no object do not count.
        y: others, or the same.
        auxiliary: whether cosines count, too.
        generator: chance; None: of torch.
    """
    rows_xc, ids_x = x.embeddings_xc[x.ids_x >= 0], x.ids_x[x.ids_x >= 0]
    same_xy = ids_x[:, None] == y.ids_x
    is_object_y = same_xy.any(0)
    chosen = torch.cat(
        [_some(is_object_y, _OF_OBJECTS, generator), _some(~is_object_y, _COLUMNS - _OF_OBJECTS, generator)]
    )
    columns_yc, same_xy = y.embeddings_xc[chosen], same_xy[:, chosen]
    if not same_xy.any():
        return rows_xc.sum() * 0.0 + columns_yc.sum() * 0.0
    found = contrastive_loss(rows_xc @ columns_yc.T / math.sqrt(rows_xc.shape[1]), same_xy, most=_MOST)
    if auxiliary:
        cosine_xy = F.normalize(rows_xc, dim=1) @ F.normalize(columns_yc, dim=1).T
        found = found + F.smooth_l1_loss(cosine_xy.clamp(0, 1), same_xy.float(), reduction="sum") / len(rows_xc)
    return found


def class_loss(logits_qk: Tensor, queries_n: Tensor, classes_n: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss of all queries, and cross-entropy of those that have an object (specification §11).

    Args:
        logits_qk: ``float[Q, K]``.
        queries_n: ``int64[N]``, those that have one.
        classes_n: ``int64[N]``, of their objects.
        gamma: how much less counts what is right already.

    Returns:
        Both divided by the number of objects, at least 1. Positives and negatives of the focal loss count alike: α = ½.
    """
    truth_qk = torch.zeros_like(logits_qk, dtype=torch.float32)
    truth_qk[queries_n, classes_n] = 1
    surprise_qk = F.binary_cross_entropy_with_logits(logits_qk.float(), truth_qk, reduction="none")
    focal = 0.5 * ((1 - (-surprise_qk).exp()) ** gamma * surprise_qk).sum() / max(len(classes_n), 1)
    return focal + F.cross_entropy(logits_qk[queries_n].float(), classes_n) if len(classes_n) else focal


def _learnable(answers: Answers, queries_n: Tensor, objects_n: Tensor, targets: ClipTargets) -> Known:
    """Who learnable queries are on each frame: the object they are matched with, where it is seen."""
    queries, frames, _ = answers.embeddings_qtc.shape
    ids_qt = torch.full((queries, frames), -1, dtype=torch.int64, device=answers.embeddings_qtc.device)
    seen_nt = targets.masks_nthw[objects_n].flatten(2).any(2)
    ids_qt[queries_n] = torch.where(seen_nt, objects_n[:, None], -1)
    return Known(answers.embeddings_qtc.flatten(0, 1), ids_qt.flatten())


def _prompted(answers: Answers, asked: Asked) -> Known:
    """Who queries of prompts are: of names their class, otherwise the first object they mean; on all frames."""
    firsts_p = asked.means_pn.int().argmax(1)
    ids_p = asked.targets.classes_n[firsts_p] if asked.kind == "category" else firsts_p
    frames = answers.embeddings_qtc.shape[1]
    return Known(answers.embeddings_qtc.flatten(0, 1), ids_p.repeat_interleave(frames))


def _reid_of_clip(free: Known, prompted: Known, asked: Asked, generator: torch.Generator | None) -> Tensor:
    """Learnable queries and prompts by themselves, each half, and between them."""
    apart = [reid_loss(x, x, generator=generator) for x in (free, prompted)]
    half = 0.5 if len(asked.means_pn) else 1.0
    if asked.kind == "category":  # a class is who somebody is, and there are many of it
        ids_x = torch.where(free.ids_x < 0, -1, asked.targets.classes_n[free.ids_x.clamp(min=0)])
        free = Known(free.embeddings_xc, ids_x)
    between = reid_loss(free, prompted, auxiliary=asked.kind != "category", generator=generator)
    return half * (apart[0] + apart[1]) + between


def _some(which_y: Tensor, most: int, generator: torch.Generator | None) -> Tensor:
    """Positions of up to so many that are chosen by chance."""
    positions = which_y.nonzero()[:, 0]
    drawn_at = positions.device if generator is None else generator.device
    order = torch.randperm(len(positions), generator=generator, device=drawn_at)[:most]
    return positions[order.to(positions.device)]
