"""Moving objects as proposals, without weights: what the camera's own motion does not explain, snapped to edges.

    frame, frames 1, 6, … back ─► flow ─► minus camera ─► evidence [h, w]      camera_motion.py
    evidence ─► hysteresis ─► seeds ─► colour and edges ─► regions                              edges.py
    regions ─► split and join by motion ─► proposals

Every step is a classic; here they are hysteresis thresholding (Canny 1986) and the clustering of two motions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.segmenters.camera_motion import (
    BoolArray,
    ByteArray,
    FloatArray,
    Residual,
    motion_evidence,
    reduced,
    residual_motion,
    squared_length,
)
from maskstream.segmenters.edges import REACH, dilated, snapped_to_edges
from maskstream.segmenters.motion_network import MotionNetwork, motion_inputs
from maskstream.types import CategorySet, Frame, InputError, ObjectPrompt, Proposals

WEAK_EVIDENCE, STRONG_EVIDENCE = 0.3, 0.5  # a seed is connected weak evidence that is strong somewhere
MAX_AREA = 0.5  # of the picture, for one proposal


@dataclass(frozen=True, slots=True, eq=False)
class _Region:
    """One candidate: ``bool[h, w]`` and its median motion against the background, a step per frame."""

    mask: BoolArray
    motion: FloatArray


class MotionSegmenter:
    """Proposes independently moving objects, seen by a still or a moving camera.

    Features are the frame itself, reduced: ``uint8[h, w, 3]``. Proposals are disjoint ``bool`` masks at that
    resolution, the largest and surest first, of kind unknown (``is_thing`` None): what moves may be half an object,
    or water. The score of a proposal is its mean motion evidence. Nothing is random and nothing is remembered, so
    the same frame and context always give the same proposals.

    Args:
        size: the shorter side that frames are reduced to, in pixels; smaller frames stay as they are.
        gaps: how many frames back to compare with. The gap of one frame draws outlines, a long one finds slow objects.
        max_proposals: keep at most this many.
        min_area: smallest proposal, as a fraction of the picture.
        min_score: least score of a proposal; less finds more, and more of it is shadow, water and parallax.

    Attributes:
        context: how many frames before the current one are looked at; with fewer, only the gaps they allow.
    """

    def __init__(
        self,
        *,
        size: int = 240,
        gaps: Sequence[int] = (1, 6, 10),
        max_proposals: int = 12,
        min_area: float = 0.002,
        min_score: float = 0.5,
    ) -> None:
        if size < 32 or not gaps or min(gaps) < 1:
            raise InputError(f"size must be at least 32 and every gap at least 1, not {size} and {list(gaps)}")
        if max_proposals < 1 or not 0 <= min_area < 1:
            raise InputError(
                f"max_proposals must be at least 1 and min_area in [0, 1), not {max_proposals} and {min_area}"
            )
        self.size = size
        self.gaps = tuple(sorted(set(gaps)))
        self.max_proposals = max_proposals
        self.min_area = min_area
        self.min_score = min_score
        self.context = self.gaps[-1]

    def encode(self, frames: Sequence[Frame]) -> list[Tensor]:
        """Each frame reduced, ``uint8[h, w, 3]``."""
        return [torch.from_numpy(reduced(frame.image, self.size)) for frame in frames]

    def segment(
        self,
        features: Tensor,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[Tensor] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        """Propose what moves against the background.

        Args:
            features: ``uint8[h, w, 3]`` of the frame, from `encode`.
            prompts: none; this segmenter finds objects by itself.
            context: features of the frames just before, oldest first. Without any nothing is proposed.
            categories: ignored; motion knows none.
            exclude: ``bool[H, W]`` at any resolution, regions that need no proposal.

        Raises:
            InputError: there are prompts, or the context is of another size than the frame.
        """
        if prompts:
            raise InputError("the motion segmenter takes no prompts: use one that does, such as grabcut")
        sizes = {tuple(past.shape) for past in context} - {tuple(features.shape)}
        if sizes:
            raise InputError(f"the frame's features are {list(features.shape)} but its context has {sorted(sizes)}")
        image: ByteArray = features.cpu().numpy()
        residuals = self._residuals(image, context)
        if not residuals:
            return Proposals.none((image.shape[0], image.shape[1]))
        evidence = self._evidence(image, residuals)
        if exclude is not None:
            excluded = exclude.cpu().numpy().astype(np.uint8)
            evidence[cv2.resize(excluded, image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0] = 0
        regions = [
            part
            for mask in snapped_to_edges(image, evidence, self._seeds(evidence))
            for part in self._parts(mask & (evidence > 0), residuals)
        ]
        return self._proposals(_joined(regions, evidence.shape), evidence)

    def _evidence(self, image: ByteArray, residuals: dict[int, Residual]) -> FloatArray:
        """``float32[h, w]`` in [0, 1], how sure it is of each pixel that it moves."""
        return _blurred(motion_evidence(list(residuals.values())))

    def _residuals(self, image: ByteArray, context: Sequence[Tensor]) -> dict[int, Residual]:
        residuals = {}
        for gap in self.gaps:
            if gap <= len(context):
                residual = residual_motion(image, context[-gap].cpu().numpy())
                if residual is not None:
                    residuals[gap] = residual
        return residuals

    def _seeds(self, evidence: FloatArray) -> list[BoolArray]:
        """Connected regions of weak evidence, strong somewhere: the largest and surest, disjoint."""
        count, labels, stats, _ = cv2.connectedComponentsWithStats((evidence > WEAK_EVIDENCE).astype(np.uint8))
        peaks = np.zeros(count, np.float32)
        np.maximum.at(peaks, labels.ravel().astype(np.intp), evidence.ravel())
        strength = np.bincount(labels.ravel(), weights=evidence.ravel(), minlength=count)
        enough = (peaks > STRONG_EVIDENCE) & (stats[:, cv2.CC_STAT_AREA] >= self.min_area * evidence.size)
        candidates = [label for label in range(1, count) if enough[label]]
        candidates.sort(key=lambda label: -float(strength[label]))
        return [labels == label for label in candidates[: self.max_proposals]]

    def _parts(self, mask: BoolArray, residuals: dict[int, Residual]) -> list[_Region]:
        """The region cleaned, and cut in two where its halves move differently."""
        regions = []
        for piece in _pieces(mask, self.min_area * mask.size):
            gap, residual = _telling(piece, residuals)
            halves = [
                half for part in _split_by_motion(piece, residual) for half in _pieces(part, self.min_area * mask.size)
            ]
            regions += [_Region(half, _median_motion(half, residual) / np.float32(gap)) for half in halves]
        return regions

    def _proposals(self, masks: list[BoolArray], evidence: FloatArray) -> Proposals:
        # what fills more than half of the picture is the background of a camera model that went wrong
        found = [(float(evidence[mask].mean()), mask) for mask in masks if mask.mean() <= MAX_AREA]
        found = [(score, mask) for score, mask in found if score >= self.min_score]
        found.sort(key=lambda item: -item[0] * float(item[1].sum()))
        found = found[: self.max_proposals]
        if not found:
            return Proposals.none((evidence.shape[0], evidence.shape[1]))
        masks_nhw = torch.from_numpy(np.stack([mask for _, mask in found]))
        return Proposals(masks_nhw, scores=tuple(min(1.0, score) for score, _ in found))


class LearnedMotionSegmenter(MotionSegmenter):
    """The same with a network beside it, which has learned what flow of moving objects, and of still ones, looks like.

    Evidence is the mean of both: the network knows objects, and the formula has no idea of what it was trained on.

    Args:
        network: on the CPU.
        size: the shorter side that frames are reduced to, in pixels.
        max_proposals: keep at most this many.
        min_area: smallest proposal, as a fraction of the picture.
        min_score: least score of a proposal.
    """

    def __init__(
        self,
        network: MotionNetwork,
        *,
        size: int = 240,
        max_proposals: int = 12,
        min_area: float = 0.002,
        min_score: float = 0.5,
    ) -> None:
        gaps = network.config.gaps
        super().__init__(size=size, gaps=gaps, max_proposals=max_proposals, min_area=min_area, min_score=min_score)
        self.network = network.eval()

    @torch.inference_mode()
    def _evidence(self, image: ByteArray, residuals: dict[int, Residual]) -> FloatArray:
        logits = self.network(torch.from_numpy(motion_inputs(image, residuals, self.gaps))[None])
        learned = torch.sigmoid(logits[0]).numpy()
        return np.asarray((super()._evidence(image, residuals) + learned) / 2, dtype=np.float32)


def _telling(mask: BoolArray, residuals: dict[int, Residual]) -> tuple[int, Residual]:
    """The gap, and its residual, that knows most of a region: consistent flow that is clearly above its tolerance."""

    def worth(gap: int) -> float:
        residual = residuals[gap]
        return float((residual.consistent[mask] * np.minimum(residual.significance[mask], 4)).mean())

    gap = max(residuals, key=worth)
    return gap, residuals[gap]


def _median_motion(mask: BoolArray, residual: Residual) -> FloatArray:
    chosen = mask & residual.consistent
    flow = residual.flow[chosen if chosen.any() else mask]
    return np.asarray(np.median(flow, axis=0), dtype=np.float32)


def _split_by_motion(mask: BoolArray, residual: Residual) -> list[BoolArray]:
    """Cut a region in two where two motions explain it much better than one rotating, growing body would.

    Two motions count as different when they differ by more than the faster of them, 0.8 of it to be precise: legs
    and wheels stay with their owner, objects that cross or meet do not.
    """
    chosen = mask & residual.consistent
    if chosen.sum() < 64:
        return [mask]
    y, x = np.nonzero(chosen)
    flow = residual.flow[chosen].astype(np.float64)
    centred = flow - flow.mean(0)
    axis = np.linalg.svd(centred.T @ centred)[0][:, 0]
    along = centred @ axis
    centres = np.stack([flow[along <= np.median(along)].mean(0), flow[along > np.median(along)].mean(0)])
    for _ in range(10):
        second = np.square(flow - centres[1]).sum(1) < np.square(flow - centres[0]).sum(1)
        if second.all() or not second.any():
            return [mask]
        centres = np.stack([np.median(flow[~second], axis=0), np.median(flow[second], axis=0)])
    difference = float(np.linalg.norm(centres[1] - centres[0]))
    speed = float(np.linalg.norm(centres, axis=1).max())
    affine = np.stack([x, y, np.ones_like(x)], axis=1).astype(np.float64)
    one_body = flow - affine @ np.linalg.lstsq(affine, flow, rcond=None)[0]
    two_bodies = flow - centres[second.astype(int)]
    if difference < max(0.8 * speed, 4 * float(np.median(residual.tolerance[chosen]))):
        return [mask]
    if np.square(two_bodies).sum() > 0.5 * np.square(one_body).sum():
        return [mask]
    return _two_parts(mask, residual.flow, centres)


def _two_parts(mask: BoolArray, flow: FloatArray, centres: NDArray[np.float64]) -> list[BoolArray]:
    """Give every pixel to the nearer of two motions; undone unless both are compact and large enough."""
    distance = [squared_length(flow - centre.astype(np.float32)) for centre in centres]
    nearer = cv2.medianBlur((mask & (distance[1] < distance[0])).astype(np.uint8), 7) > 0
    parts = [mask & ~nearer, mask & nearer]
    for part in parts:
        largest = max((int(piece.sum()) for piece in _pieces(part, 1)), default=0)
        if part.sum() < 0.1 * mask.sum() or largest < 0.7 * part.sum():
            return [mask]
    return parts


def _joined(regions: list[_Region], size_hw: tuple[int, ...]) -> list[BoolArray]:
    """Join fragments of one object: neighbours that move alike, less than a reach apart."""
    reach = max(2, round(REACH * min(size_hw)))
    masks, motions = [region.mask for region in regions], [region.motion for region in regions]
    n = 0
    while n < len(masks):
        near = dilated(masks[n], reach)
        for other in range(n + 1, len(masks)):
            speed = max(float(np.linalg.norm(motions[n])), float(np.linalg.norm(motions[other])))
            alike = float(np.linalg.norm(motions[n] - motions[other])) < 0.3 * speed
            if alike and (near & masks[other]).any():
                a, b = int(masks[n].sum()), int(masks[other].sum())
                motions[n] = (a * motions[n] + b * motions[other]) / np.float32(a + b)
                masks[n] = masks[n] | masks.pop(other)
                motions.pop(other)
                break
        else:
            n += 1
    return masks


def _pieces(mask: BoolArray, min_area: float) -> list[BoolArray]:
    """Connected pieces of at least this area, without specks and with small holes filled."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    clean = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - clean, connectivity=4)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    holes = (stats[:, cv2.CC_STAT_AREA] < 0.1 * clean.sum()) & ~np.isin(np.arange(count), border)
    clean[holes[labels] & (clean == 0)] = 1
    count, labels, stats, _ = cv2.connectedComponentsWithStats(clean, connectivity=8)
    return [labels == n for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] >= max(min_area, 1)]


def _blurred(evidence: FloatArray) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(evidence, (0, 0), 1.5), dtype=np.float32)
