"""What TarViS is trained to make small (specification §10): the sum over all stages, each counts the same.

categories ─┬─ instances ─► matched with things ─► class, mask ───────────────────────┐
            └─ classes of pixels: VIS [background, classes], VPS [classes] ───────────┤
objects ────── each has its own mask, the cells of the grid what belongs to none ─────┴─► loss

Masks are compared frame by frame. A query is matched with a thing by its whole tube.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.mask2former.criterion import SetCriterion, point_losses
from maskstream.mask2former.matcher import POINTS, PUBLISHED, Matching, Weights, match
from maskstream.mask2former.points import sample_logits, sample_masks, uncertain_points, uniform_points
from maskstream.mask2former.prediction import ClipPrediction, ClipTargets

from .network import CategoryAnswers, ObjectAnswers

IGNORED = -100
"""Label of pixels that do not count."""

_LEAST = -1000.0
"""Uncertainty of pixels that do not count, and logit of classes that are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TarViSCriterion:
    """The loss of a batch; as published for ResNet-50 and Swin-T unless said otherwise.

    Attributes:
        weights: of class, cross-entropy and dice, in matching and in the loss; the last two also of objects.
        nothing: weight of the class of instances that have no thing.
        points: of each mask on each frame, in matching as in the loss; in VIS also of classes of pixels on each frame.
        vps_points: of classes of pixels on each frame in VPS; published are 50,176 for the second stage.
        semantic: weight of classes of pixels; of Swin-L 0.75 in the first stage, 1 in the second.
        only_present: leave out classes that are neither there nor found at the points of a clip, as for Swin-L in the
            first stage ("null-class elimination").
        small: weight of the length of a point's logits, as for Swin-L in the second stage: 1e-3.
        oversample: see `points.uncertain_points`.
        importance: see there.
    """

    weights: Weights = PUBLISHED
    nothing: float = 0.1
    points: int = POINTS
    vps_points: int = 25_088
    semantic: float = 2.0
    only_present: bool = False
    small: float = 0.0
    oversample: float = 3.0
    importance: float = 0.75

    def categories(
        self,
        stages: Sequence[CategoryAnswers],
        targets: Sequence[ClipTargets],
        *,
        kind: Literal["vis", "vps"],
        things: int,
        size_hw: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The loss of B clips that are asked for instances and classes of pixels.

        Args:
            stages: answers of the network after each layer, the last one last.
            targets: of each clip, at the size of the padded pictures.
            kind: whether pixels of no target are background (VIS), or nobody knows what they are (VPS).
            things: the first so many classes; only these are instances.
            size_hw: of the pictures without padding, whose pixels have no class.
            generator: chance; None: of torch.

        Returns:
            ``loss``, the weighted sum of all terms over all stages. And, of the last stage, without gradient and before
            they are weighted: ``ce``, ``bce`` and ``dice`` of instances, and ``semantic``, of classes of pixels.

        Raises:
            InputError: targets do not fit the answers, or answers are not finite.
        """
        instances = [target.only(target.classes_n < things) for target in targets]
        if kind == "vis":
            labels_bthw = torch.stack([painted(target, nothing=0, first=1) for target in instances])
        else:
            labels_bthw = torch.stack([painted(target, nothing=IGNORED) for target in targets])
        labels_bthw[:, :, size_hw[0] :] = IGNORED
        labels_bthw[:, :, :, size_hw[1] :] = IGNORED
        total = stages[-1].semantic_bkthw.new_zeros((), dtype=torch.float32)
        for stage in stages:
            found = self._instances(stage.instances, instances, generator)
            if kind == "vis":
                logits_bkthw = torch.cat([stage.background_bthw[:, None], stage.semantic_bkthw], 1)
                semantic, length = self._pixels(logits_bkthw, labels_bthw, self.points, generator)
            else:
                semantic, length = self._pixels(stage.semantic_bkthw, labels_bthw, self.vps_points, generator)
            total = total + found.pop("loss") + self.semantic * semantic + self.small * length
        return {"loss": total, **found, "semantic": semantic.detach()}

    def objects(
        self, stages: Sequence[ObjectAnswers], masks_bnthw: Tensor, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The loss of B clips that are asked for N objects.

        What belongs to no object is one more mask, which the cells of the grid are to find, and counts as one.

        Args:
            stages: answers of the network after each layer, the last one last.
            masks_bnthw: ``bool[B, N, T, H, W]``, at the size of the padded pictures; padding belongs to none.
            generator: chance; None: of torch.

        Returns:
            ``loss``, the weighted sum of both terms over all stages; ``object_bce`` and ``object_dice`` of the last
            stage, without gradient and before they are weighted. All are means over masks of frames.
        """
        cells = len(stages[-1].background_bthw)  # 0 without a grid
        truth_xthw = torch.cat([masks_bnthw.flatten(0, 1), ~masks_bnthw.any(1)[:cells]])
        total = stages[-1].masks_bnthw.new_zeros((), dtype=torch.float32)
        for stage in stages:
            logits_xthw = torch.cat([stage.masks_bnthw.flatten(0, 1), stage.background_bthw])
            bce, dice = self._masks(logits_xthw, truth_xthw, generator)
            total = total + self.weights.bce * bce + self.weights.dice * dice
        return {"loss": total, "object_bce": bce.detach(), "object_dice": dice.detach()}

    def _instances(
        self, stage: ClipPrediction, targets: Sequence[ClipTargets], generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """The loss of a set; pairs are found by tubes, and then each frame of a query is a query of its own.

        So masks are compared frame by frame, and divided by frames as often as by things; classes are the same on all
        frames, and so is their mean. Where a process has less than one thing, the authors divide by the frames of one.
        """
        frames = stage.masks_bqthw.shape[2]
        pairs = match(stage, targets, weights=self.weights, points=frames * self.points, generator=generator)
        criterion = SetCriterion(
            weights=self.weights,
            nothing=self.nothing,
            points=self.points,
            oversample=self.oversample,
            importance=self.importance,
        )
        return criterion(
            [
                ClipPrediction(
                    stage.classes_bqc.repeat_interleave(frames, 1),
                    stage.masks_bqthw.flatten(1, 2)[:, :, None],
                    stage.queries_bqc.repeat_interleave(frames, 1),
                )
            ],
            [
                ClipTargets(target.classes_n.repeat_interleave(frames), target.masks_nthw.flatten(0, 1)[:, None])
                for target in targets
            ],
            matching=_on_frames(pairs, frames),
            generator=generator,
        )

    def _pixels(
        self, logits_bkthw: Tensor, labels_bthw: Tensor, points: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of classes, and the length of logits: means over points whose class is known, and over all."""
        frames = logits_bkthw.shape[2]
        logits_fkhw, labels_fhw = logits_bkthw.transpose(1, 2).flatten(0, 1), labels_bthw.flatten(0, 1)
        where_fp2 = unsure_points(
            logits_fkhw,
            labels_fhw,
            points,
            oversample=self.oversample,
            importance=self.importance,
            generator=generator,
        )
        logits_fkp, labels_fp = _logits_at(logits_fkhw, where_fp2), _labels_at(labels_fhw, where_fp2)
        length = torch.linalg.vector_norm(logits_fkp, dim=1).mean()
        if self.only_present:
            present_bk = _present(logits_fkp, labels_fp, frames)
            logits_fkp = logits_fkp.masked_fill(~present_bk.repeat_interleave(frames, 0)[:, :, None], _LEAST)
        total = F.cross_entropy(logits_fkp, labels_fp, ignore_index=IGNORED, reduction="sum")
        return total / (labels_fp != IGNORED).sum().clamp(min=1), length

    def _masks(
        self, logits_xthw: Tensor, masks_xthw: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and dice, means over masks of frames."""
        logits_f1hw, masks_f1hw = (x.flatten(0, 1)[:, None] for x in (logits_xthw, masks_xthw))
        where_fp2 = uncertain_points(
            logits_f1hw, self.points, oversample=self.oversample, importance=self.importance, generator=generator
        )
        bce_f, dice_f = point_losses(
            sample_logits(logits_f1hw, where_fp2), sample_masks(masks_f1hw, where_fp2), smooth=self.weights.smooth
        )
        return bce_f.mean(), dice_f.mean()


def painted(targets: ClipTargets, *, nothing: int, first: int = 0) -> Tensor:
    """The class of every pixel, ``int64[T, H, W]``: targets are painted from large to small.

    Args:
        targets: of a clip.
        nothing: label of pixels that no target has.
        first: label of the first class.
    """
    labels_thw = torch.full(targets.masks_nthw.shape[1:], nothing, device=targets.masks_nthw.device)
    for n in targets.masks_nthw.flatten(1).sum(1).argsort(descending=True, stable=True).tolist():
        labels_thw[targets.masks_nthw[n]] = targets.classes_n[n] + first
    return labels_thw


@torch.no_grad()
def unsure_points(
    logits_fkhw: Tensor,
    labels_fhw: Tensor,
    count: int,
    *,
    oversample: float = 3.0,
    importance: float = 0.75,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Points mostly where the two best classes are nearest to each other; see `points.uncertain_points`.

    Args:
        logits_fkhw: ``float[F, K, h, w]``, of frames.
        labels_fhw: ``int64[F, H, W]``; what is `IGNORED` is taken where there is nothing else.
        count: P, of each frame.
        oversample: how many points to choose from, as a multiple of P, at least 1.
        importance: share of points that are chosen, in [0, 1].
        generator: chance; None: of torch.

    Returns:
        ``float32[F, P, 2]``, x and y as fractions.
    """
    frames, classes = logits_fkhw.shape[:2]
    device, chosen = logits_fkhw.device, int(importance * count)
    points_fp2 = uniform_points(int(oversample * count), masks=frames, device=device, generator=generator)
    best_f2p = _logits_at(logits_fkhw, points_fp2).topk(min(2, classes), dim=1).values
    uncertainty_fp = best_f2p[:, -1] - best_f2p[:, 0]
    uncertainty_fp[_labels_at(labels_fhw, points_fp2) == IGNORED] = _LEAST
    most_fk = uncertainty_fp.topk(chosen, dim=1, sorted=False).indices
    others_fk2 = uniform_points(count - chosen, masks=frames, device=device, generator=generator)
    return torch.cat([points_fp2.gather(1, most_fk[:, :, None].expand(-1, -1, 2)), others_fk2], 1)


def _on_frames(pairs: Matching, frames: int) -> Matching:
    """The same pairs on each frame, where those of a query or thing are side by side."""

    def all_of(which_n: Tensor) -> Tensor:
        return (which_n[:, None] * frames + torch.arange(frames, device=which_n.device)).flatten()

    return [(all_of(queries_n), all_of(objects_n)) for queries_n, objects_n in pairs]


def _present(logits_fkp: Tensor, labels_fp: Tensor, frames: int) -> Tensor:
    """``bool[B, K]``, classes that are there or found at points of each clip."""
    classes, found_fp = logits_fkp.shape[1], logits_fkp.argmax(1)
    rows = []
    for found_x, there_x in zip(torch.split(found_fp, frames), torch.split(labels_fp, frames), strict=True):
        seen_x = torch.cat([found_x.flatten(), there_x[there_x != IGNORED]])
        rows.append(torch.bincount(seen_x, minlength=classes) > 0)
    return torch.stack(rows)


def _logits_at(logits_fkhw: Tensor, points_fp2: Tensor) -> Tensor:
    """``float32[F, K, P]``, as `points.sample_logits` reads them, of all classes at the same points."""
    grid_f1p2 = (2 * points_fp2 - 1)[:, None]
    return F.grid_sample(logits_fkhw.float(), grid_f1p2, align_corners=False)[:, :, 0]


def _labels_at(labels_fhw: Tensor, points_fp2: Tensor) -> Tensor:
    """``int64[F, P]``, of the pixel that a point is in."""
    height, width = labels_fhw.shape[1:]
    x_fp, y_fp = ((points_fp2[..., n] * side).long().clamp(max=side - 1) for n, side in enumerate((width, height)))
    return labels_fhw.flatten(1).gather(1, y_fp * width + x_fp)
