"""Segmenters whose networks answer with queries: a class and a mask each (MaskFormer, Cheng et al., NeurIPS 2021).

    frames ─► network ─► class logits [Q, C + 1], mask logits [Q, h, w], embeddings [Q, D] ─► features
    features ─► panoptic: every pixel to the query that is surest of it, stuff of one class joined  ─┐
                instance: each query by itself, masks may overlap                                   ─┼─► proposals
                semantic: every pixel to the class that all queries together are surest of          ─┘

All three are the published inference of MaskFormer (§3.4, A.1) and Mask2Former (Cheng et al., CVPR 2022). Masks are
brought to the size of the network's input first, what was padded is cut off, and the rest is brought to the size of
the source.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.types import Category, CategorySet, Frame, InputError, ObjectPrompt, Proposals, resize_masks

from .label_spaces import label_space, shared_categories
from .pretrained import Pixels

if TYPE_CHECKING:
    from transformers import Mask2FormerForUniversalSegmentation, MaskFormerForInstanceSegmentation

NETWORK_STRIDE = 32
"""Pictures are padded to multiples of it for networks of four strided stages, as their authors do."""

LONG_SIDE = 5 / 3
"""Most that the long side may be of the short one where the caller chooses that: 1333 / 800, as published."""

QueryTask = Literal["panoptic", "instance", "semantic"]

MIN_SCORES: dict[str, float] = {"panoptic": 0.8, "instance": 0.5, "semantic": 0.0}
"""Least scores of proposals, where the caller does not say."""

MIN_VISIBLE = 0.8
"""A panoptic segment that keeps less than this share of its mask, the rest being others', is dropped."""

_AT_ONCE = 16
"""Masks that are brought to the size of the source at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a network says of B pictures.

    Attributes:
        classes_bqc: ``float[B, Q, C + 1]``, logits; the last class is "nothing".
        masks_bqhw: ``float[B, Q, h, w]``, logits, of the whole input.
        embeddings_bqd: ``float[B, Q, D]``, the queries after the last layer.
    """

    classes_bqc: Tensor
    masks_bqhw: Tensor
    embeddings_bqd: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class QueryFeatures:
    """What the network said of one picture, seen through W windows: most networks see all of it through one.

    Attributes:
        classes_wqc: ``float[W, Q, C + 1]``, logits.
        masks_wqhw: ``float[W, Q, h, w]``, logits, of all that is in a window.
        embeddings_wqd: ``float[W, Q, D]``.
        window_hw: size of a window.
        starts: where each begins along the longer side of the picture.
        content_hw: size of the picture as the network saw it, without padding.
        size_hw: size of the source.
    """

    classes_wqc: Tensor = field(repr=False)
    masks_wqhw: Tensor = field(repr=False)
    embeddings_wqd: Tensor = field(repr=False)
    window_hw: tuple[int, int]
    starts: tuple[int, ...]
    content_hw: tuple[int, int]
    size_hw: tuple[int, int]


class QuerySegmenter(ABC):
    """An `ImageSegmenter` that proposes what it knows the classes of; it takes no prompts.

    Args:
        pixels: how the network wants to see pictures.
        label_space: what its outputs mean.
        task: "panoptic": disjoint things and stuff. "instance": things, which may overlap. "semantic": one region of
            each class, disjoint, without embeddings.
        min_score: least score of a proposal; None: 0.8 for panoptic, 0.5 for instance, 0 for semantic.
        device: where the network is.

    Attributes:
        context: 0, it looks at one picture at a time.
        label_space: categories of proposals.
    """

    context = 0

    def __init__(
        self,
        pixels: Pixels,
        label_space: CategorySet,
        *,
        task: QueryTask = "panoptic",
        min_score: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if task not in get_args(QueryTask):
            raise InputError(f"task is one of {', '.join(get_args(QueryTask))}, not {task!r}")
        self.task = task
        self.min_score = MIN_SCORES[task] if min_score is None else min_score
        self.label_space = label_space
        self.pixels = pixels
        self.device = torch.device(device)

    @abstractmethod
    def _answers(self, pixels_b3hw: Tensor) -> Answers:
        """The network's, of pictures as it wants them."""

    @torch.no_grad()
    def encode(self, frames: Sequence[Frame]) -> list[QueryFeatures]:
        """What the network says of each frame; they are of one size and go through it together.

        Raises:
            InputError: they differ in size.
        """
        if not frames:
            return []
        size_hw = one_size(frames)
        pixels_b3hw = self.pixels(frames).to(self.device)
        answers = self._answers(pixels_b3hw)
        return [
            QueryFeatures(
                answers.classes_bqc[n, None],
                answers.masks_bqhw[n, None],
                answers.embeddings_bqd[n, None],
                (pixels_b3hw.shape[2], pixels_b3hw.shape[3]),
                (0,),
                self.pixels.resized_hw(size_hw),
                size_hw,
            )
            for n in range(len(frames))
        ]

    @torch.no_grad()
    def segment(
        self,
        features: QueryFeatures,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[QueryFeatures] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        """Propose regions of known classes, the surest first, as ``bool`` masks at the size of the source.

        Args:
            features: of the picture, from `encode`.
            prompts: none.
            context: ignored.
            categories: propose only what has a name in this label space, with its ids. None: all, with the model's.
            exclude: ``bool[H, W]`` at any resolution; proposals that are mostly in it are dropped.

        Raises:
            InputError: there are prompts, or none of the categories is known to the model.
        """
        if prompts:
            raise InputError("this segmenter finds what it knows and takes no prompts: use one that does, such as sam")
        shared = None if categories is None else shared_categories(self.label_space, categories)
        found = _PROPOSE[self.task](features, self.label_space, self.min_score)
        if shared is not None:
            found = _renamed(found, shared)
        return found if exclude is None else _outside(found, exclude)


class MaskClassificationSegmenter(QuerySegmenter):
    """A `QuerySegmenter` around a network whose outputs are named as those of MaskFormer.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        task: what is proposed: "panoptic", "instance" or "semantic".
        min_score: least score of a proposal; None: what suits the task.
    """

    def __init__(
        self,
        network: MaskFormerForInstanceSegmentation | Mask2FormerForUniversalSegmentation,
        pixels: Pixels,
        *,
        task: QueryTask = "panoptic",
        min_score: float | None = None,
    ) -> None:
        space = label_space(network.config.id2label)
        super().__init__(pixels, space, task=task, min_score=min_score, device=network.device)
        self.network = network

    def _answers(self, pixels_b3hw: Tensor) -> Answers:
        found = self.network(pixels_b3hw)
        return Answers(
            found.class_queries_logits, found.masks_queries_logits, found.transformer_decoder_last_hidden_state
        )


def pyramid_pixels(pixels: Pixels, short_side: int | None) -> Pixels:
    """How a network with a pyramid of features is to see pictures.

    Args:
        pixels: as its folder says.
        short_side: size of the short side instead of the one the folder says.

    Raises:
        InputError: the side is too small.
    """
    pixels = replace(pixels, divisor=max(pixels.divisor, NETWORK_STRIDE))
    if short_side is None:
        return pixels
    if short_side < NETWORK_STRIDE:
        raise InputError(f"short_side is at least {NETWORK_STRIDE} pixels, not {short_side}")
    return replace(pixels, exact_hw=None, pad_hw=None, shortest=short_side, longest=round(short_side * LONG_SIDE))


def one_size(frames: Sequence[Frame]) -> tuple[int, int]:
    """Height and width of all frames.

    Raises:
        InputError: they differ.
    """
    sizes = sorted({frame.size_hw for frame in frames})
    if len(sizes) > 1:
        raise InputError(
            f"frames of {' and '.join(f'{h}×{w}' for h, w in sizes)} came together: give one size at a time"
        )
    return sizes[0]


def panoptic_proposals(
    features: QueryFeatures, space: CategorySet, min_score: float, *, min_visible: float = MIN_VISIBLE
) -> Proposals:
    """Disjoint regions (MaskFormer, §3.4, "general inference", and A.1).

    Queries that are sure of a class compete for every pixel by class score times mask probability. What a query wins is
    its region where its own mask says so too, unless it lost too much of that mask. Regions of one class of stuff are
    one; they have the score and the embedding of the surest.

    Args:
        features: of the picture.
        space: what the classes mean. Where it does not say what is stuff nothing is joined.
        min_score: class score that a query must exceed.
        min_visible: least area won, as a share of the query's own mask.
    """
    scores_q, labels_q = features.classes_wqc[0].float().softmax(-1).max(-1)
    queries = _by_score(scores_q, (labels_q < len(space)) & (scores_q > min_score))
    best_hw = torch.zeros(features.size_hw, device=scores_q.device)
    owner_hw = torch.full(features.size_hw, -1, device=scores_q.device)
    masks: list[Tensor] = []
    for first, logits_nhw in _logits_at_source(features, queries):
        probability_nhw = logits_nhw.sigmoid()
        masks += (probability_nhw >= 0.5).unbind()
        weights_n = scores_q[queries[first : first + len(logits_nhw)]]
        value_hw, winner_hw = (weights_n[:, None, None] * probability_nhw).max(0)
        wins = value_hw > best_hw
        best_hw = torch.where(wins, value_hw, best_hw)
        owner_hw = torch.where(wins, winner_hw + first, owner_hw)
    regions: list[Tensor] = []
    chosen: list[int] = []
    stuff: dict[int, int] = {}
    for n, query in enumerate(queries.tolist()):
        won = owner_hw == n
        region = won & masks[n]
        if not region.any() or won.sum() < min_visible * masks[n].sum():
            continue
        label = int(labels_q[query])
        if label in stuff:
            regions[stuff[label]] = regions[stuff[label]] | region
            continue
        if space.categories[label].is_thing is False:
            stuff[label] = len(regions)
        regions.append(region)
        chosen.append(query)
    return _proposals(features, space, regions, chosen, labels_q[chosen], scores_q[chosen])


def instance_proposals(features: QueryFeatures, space: CategorySet, min_score: float) -> Proposals:
    """Things, which may overlap (Mask2Former's instance inference).

    The score is that of the class times the mean probability inside the mask. One query may stand for several classes
    when none of them is sure.

    Args:
        features: of the picture.
        space: what the classes mean; its stuff is left out.
        min_score: least score.
    """
    scores_qc = features.classes_wqc[0].float().softmax(-1)[:, :-1]
    count, classes = scores_qc.shape
    scores_k, flat_k = scores_qc.flatten().topk(min(count, scores_qc.numel()))
    is_thing_c = torch.tensor([c.is_thing is not False for c in space.categories], device=scores_k.device)
    # A mask's mean probability is at most 1: what its class alone rules out need not be brought to full size.
    possible = is_thing_c[flat_k % classes] & (scores_k >= min_score)
    scores_k, flat_k = scores_k[possible], flat_k[possible]
    queries_k, labels_k = flat_k // classes, flat_k % classes
    masks: list[Tensor] = []
    final_k = torch.zeros_like(scores_k)
    for first, logits_nhw in _logits_at_source(features, queries_k):
        masks_nhw = logits_nhw > 0
        area_n = masks_nhw.sum((1, 2))
        inside_n = (logits_nhw.sigmoid() * masks_nhw).sum((1, 2)) / area_n.clamp_min(1)
        part = slice(first, first + len(logits_nhw))
        final_k[part] = torch.where(area_n > 0, scores_k[part] * inside_n, -1)
        masks += masks_nhw.unbind()
    order_k = _by_score(final_k, (final_k >= min_score) & (final_k >= 0))
    return _proposals(
        features,
        space,
        [masks[n] for n in order_k.tolist()],
        queries_k[order_k].tolist(),
        labels_k[order_k],
        final_k[order_k],
    )


def semantic_proposals(features: QueryFeatures, space: CategorySet, min_score: float) -> Proposals:
    """One region of each class, together the whole picture (MaskFormer, §3.4, "semantic inference").

    The score of a region is the mean over its pixels of Σ over queries of class probability times mask probability.

    Args:
        features: of the picture.
        space: what the classes mean.
        min_score: least score of a region.
    """
    values_chw = _class_values(features)
    best_hw = torch.full(features.size_hw, -1.0, device=values_chw.device)
    labels_hw = torch.zeros(features.size_hw, dtype=torch.long, device=values_chw.device)
    for first in range(0, len(values_chw), _AT_ONCE):
        value_hw, label_hw = _resized(values_chw[first : first + _AT_ONCE], features.size_hw).max(0)
        wins = value_hw > best_hw
        best_hw = torch.where(wins, value_hw, best_hw)
        labels_hw = torch.where(wins, label_hw + first, labels_hw)
    labels = torch.bincount(labels_hw.flatten()).nonzero()[:, 0]
    regions = [labels_hw == label for label in labels]
    scores = torch.stack([best_hw[region].mean().clamp(0, 1) for region in regions])
    order = _by_score(scores, scores >= min_score)
    return _proposals(features, space, [regions[n] for n in order.tolist()], None, labels[order], scores[order])


_PROPOSE = {"panoptic": panoptic_proposals, "instance": instance_proposals, "semantic": semantic_proposals}


def _class_values(features: QueryFeatures) -> Tensor:
    """``float[C, h, w]`` at the size of the content: Σ over queries, the mean where windows overlap."""
    height, width = features.content_hw
    classes = features.classes_wqc.shape[2] - 1
    total_chw = features.masks_wqhw.new_zeros((classes, height, width), dtype=torch.float32)
    seen_hw = total_chw.new_zeros((height, width))
    for start, classes_qc, masks_qhw in zip(
        features.starts, features.classes_wqc.float(), features.masks_wqhw.float(), strict=True
    ):
        probability_qhw = _resized(masks_qhw, features.window_hw).sigmoid()
        values_chw = torch.einsum("qc,qhw->chw", classes_qc.softmax(-1)[:, :-1], probability_qhw)
        top, left = (start, 0) if height > width else (0, start)
        values_chw = values_chw[:, : height - top, : width - left]
        rows, columns = slice(top, top + values_chw.shape[1]), slice(left, left + values_chw.shape[2])
        total_chw[:, rows, columns] += values_chw
        seen_hw[rows, columns] += 1
    return total_chw / seen_hw


def _logits_at_source(features: QueryFeatures, queries: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Mask logits ``float[n, H, W]`` of some queries, a few at a time, each time with the position of the first."""
    height, width = features.content_hw
    for first in range(0, len(queries), _AT_ONCE):
        logits_nhw = features.masks_wqhw[0][queries[first : first + _AT_ONCE]].float()
        content_nhw = _resized(logits_nhw, features.window_hw)[:, :height, :width]
        yield first, _resized(content_nhw, features.size_hw)


def _resized(values_nhw: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Bilinear without averaging where it shrinks, as published."""
    return F.interpolate(values_nhw[None], size_hw, mode="bilinear", align_corners=False)[0]


def _by_score(scores_n: Tensor, wanted_n: Tensor) -> Tensor:
    """Positions of those that are wanted, the highest score first; of equal ones the first."""
    order = scores_n.argsort(descending=True, stable=True)
    return order[wanted_n[order]]


def _proposals(
    features: QueryFeatures,
    space: CategorySet,
    masks: Sequence[Tensor],
    queries: Sequence[int] | None,
    labels_n: Tensor,
    scores_n: Tensor,
) -> Proposals:
    if not masks:
        return Proposals.none(features.size_hw)
    categories = [space.categories[label] for label in labels_n.tolist()]
    return Proposals(
        torch.stack(list(masks)),
        tuple(category.id for category in categories),
        tuple(scores_n.tolist()),
        tuple(category.is_thing for category in categories),
        None if queries is None else features.embeddings_wqd[0][list(queries)],
    )


def _renamed(found: Proposals, shared: dict[int, Category]) -> Proposals:
    """Only what has a category in another label space, with the ids of that."""
    found = found.keep([category in shared for category in found.categories])
    theirs = [shared[category] for category in found.categories if category is not None]
    return Proposals(
        found.masks_nhw,
        tuple(category.id for category in theirs),
        found.scores,
        tuple(
            own if category.is_thing is None else category.is_thing
            for own, category in zip(found.is_thing, theirs, strict=True)
        ),
        found.embeddings_nc,
    )


def _outside(found: Proposals, exclude: Tensor) -> Proposals:
    """Only what is not mostly inside."""
    _, height, width = found.masks_nhw.shape
    excluded_hw = resize_masks(exclude[None].to(found.masks_nhw.device), (height, width))[0] >= 0.5
    inside_n = (found.masks_nhw & excluded_hw).sum((1, 2))
    return found.keep((2 * inside_n <= found.masks_nhw.sum((1, 2))).tolist())
