"""Segmenters whose networks answer with queries: a class and a mask each (MaskFormer, Cheng et al., NeurIPS 2021).

    frames ─► network ─► class logits [Q, C + 1], mask logits [Q, h, w], embeddings [Q, D] ─► features
    features ─► panoptic: every pixel to the query that is surest of it, stuff of one class joined  ─┐
                instance: each query by itself, masks may overlap                                   ─┼─► proposals
                semantic: every pixel to the class that all queries together are surest of          ─┘

All three are the published inference of MaskFormer (§3.4, A.1) and Mask2Former (Cheng et al., CVPR 2022): that of
`maskstream.mask2former.postprocess`, for a clip of one frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from maskstream.mask2former.network import STRIDE
from maskstream.mask2former.postprocess import (
    MIN_SCORE,
    MIN_VISIBLE,
    FrameSizes,
    by_score,
    class_values,
    instances,
    panoptic,
    surest_class,
)
from maskstream.pretrained import Pixels
from maskstream.types import Category, CategorySet, Frame, InputError, ObjectPrompt, Proposals, resize_masks

from .label_spaces import shared_categories

LONG_SIDE = 5 / 3
"""Most that the long side may be of the short one where the caller chooses that: 1333 / 800, as published."""

QueryTask = Literal["panoptic", "instance", "semantic"]

MIN_SCORES: dict[str, float] = {"panoptic": MIN_SCORE, "instance": 0.5, "semantic": 0.0}
"""Least scores of proposals, where the caller does not say."""


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

    @property
    def sizes(self) -> FrameSizes:
        """Of the picture, where it is seen through one window."""
        return FrameSizes(self.size_hw, self.content_hw, self.window_hw)


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


def pyramid_pixels(pixels: Pixels, short_side: int | None) -> Pixels:
    """How a network with a pyramid of features is to see pictures.

    Args:
        pixels: as its folder says.
        short_side: size of the short side instead of the one the folder says.

    Raises:
        InputError: the side is too small.
    """
    pixels = replace(pixels, divisor=max(pixels.divisor, STRIDE))
    if short_side is None:
        return pixels
    if short_side < STRIDE:
        raise InputError(f"short_side is at least {STRIDE} pixels, not {short_side}")
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
    found = panoptic(
        features.classes_wqc[0],
        features.masks_wqhw[0][:, None],
        features.sizes,
        stuff_k=torch.tensor([category.is_thing is False for category in space.categories]),
        min_score=min_score,
        min_visible=min_visible,
    )
    regions = [found.segments_thw[0] == n for n in range(1, 1 + len(found.queries_s))]
    return _proposals(features, space, regions, found.queries_s.tolist(), found.classes_s, found.scores_s)


def instance_proposals(features: QueryFeatures, space: CategorySet, min_score: float) -> Proposals:
    """Things, which may overlap (Mask2Former's instance inference).

    The score is that of the class times the mean probability inside the mask. One query may stand for several classes
    when none of them is sure.

    Args:
        features: of the picture.
        space: what the classes mean; its stuff is left out.
        min_score: least score.
    """
    found = instances(
        features.classes_wqc[0],
        features.masks_wqhw[0][:, None],
        features.sizes,
        things_k=torch.tensor([c.is_thing is not False for c in space.categories], device=features.classes_wqc.device),
        min_score=min_score,
    )
    regions = found.masks_nthw[:, 0].unbind()
    return _proposals(features, space, regions, found.queries_n.tolist(), found.classes_n, found.scores_n)


def semantic_proposals(features: QueryFeatures, space: CategorySet, min_score: float) -> Proposals:
    """One region of each class, together the whole picture (MaskFormer, §3.4, "semantic inference").

    The score of a region is the mean over its pixels of Σ over queries of class probability times mask probability.

    Args:
        features: of the picture.
        space: what the classes mean.
        min_score: least score of a region.
    """
    labels_hw, best_hw = surest_class(_class_values(features), features.size_hw)
    labels = torch.bincount(labels_hw.flatten()).nonzero()[:, 0]
    regions = [labels_hw == label for label in labels]
    scores = torch.stack([best_hw[region].mean().clamp(0, 1) for region in regions])
    order = by_score(scores, scores >= min_score)
    return _proposals(features, space, [regions[n] for n in order.tolist()], None, labels[order], scores[order])


_PROPOSE = {"panoptic": panoptic_proposals, "instance": instance_proposals, "semantic": semantic_proposals}


def _class_values(features: QueryFeatures) -> Tensor:
    """``float[C, h, w]`` at the size of the content: Σ over queries, the mean where windows overlap."""
    height, width = features.content_hw
    classes = features.classes_wqc.shape[2] - 1
    total_chw = features.masks_wqhw.new_zeros((classes, height, width), dtype=torch.float32)
    seen_hw = total_chw.new_zeros((height, width))
    for start, classes_qc, masks_qhw in zip(features.starts, features.classes_wqc, features.masks_wqhw, strict=True):
        values_chw = class_values(classes_qc, masks_qhw, features.window_hw)
        top, left = (start, 0) if height > width else (0, start)
        values_chw = values_chw[:, : height - top, : width - left]
        rows, columns = slice(top, top + values_chw.shape[1]), slice(left, left + values_chw.shape[2])
        total_chw[:, rows, columns] += values_chw
        seen_hw[rows, columns] += 1
    return total_chw / seen_hw


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
