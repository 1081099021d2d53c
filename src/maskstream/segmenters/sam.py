"""SAM (Kirillov et al., "Segment Anything", ICCV 2023) and SAM 2 (Ravi et al., ICLR 2025) on single pictures.

    picture ─► image encoder ─► features, kept between clicks ─┐
    boxes, clicks, strokes, mask so far of each object ────────┴─► mask decoder ─► three masks and their quality
                                                                                   the best one is the answer
    no prompts: a grid of clicks ─► … ─► good and stable ones ─► one of each thing ─► made disjoint

Without prompts this is what DEVA detects with (specification §10.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained
from maskstream.types import (
    BoxPrompt,
    CategorySet,
    Frame,
    InputError,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    Proposals,
    ScribblePrompt,
    mask_boxes,
    resize_masks,
)

from .boxes import box_nms
from .prompted import given_mask, grouped, last_given

if TYPE_CHECKING:
    from transformers import Sam2Model, SamModel

USUAL = "facebook/sam-vit-base or facebook/sam2.1-hiera-tiny, both Apache-2.0"

CLICKS_OF_STROKE = 5
"""Clicks that a stroke becomes, evenly spread along it."""

EXCLUSION_STRIDE = 16
EXCLUSION_LIMIT = 0.01
"""Where the exclusion, this many times smaller, reaches this value, no click is tried."""

_STABILITY_OFFSET = 1.0
_SURE = 10.0
"""Logit of a pixel of a mask that is given."""

_UPSAMPLED_AT_ONCE = 16


@dataclass(frozen=True, slots=True, eq=False)
class SamFeatures:
    """What the image encoder says of a picture.

    Attributes:
        levels: ``float[C, h, w]`` each, the coarsest last; SAM has one, SAM 2 three.
        size_hw: height and width of the source.
        content_hw: height and width of the picture in the square that the network saw.
    """

    levels: tuple[Tensor, ...] = field(repr=False)
    size_hw: tuple[int, int]
    content_hw: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Hints:
    """Prompts of one object, in the square that the network sees.

    Attributes:
        points_p2: ``float32[P, 2]``, x and y.
        positive_p: ``int64[P]``, 1 on the object, 0 off it.
        box_4: ``float32[4]``, x0, y0, x1, y1, or None.
        mask_1hw: ``float32[1, h, w]``, logits as the decoder gives them, or None.
    """

    points_p2: Tensor
    positive_p: Tensor
    box_4: Tensor | None = None
    mask_1hw: Tensor | None = None

    @property
    def shape(self) -> tuple[int, bool, bool]:
        """Only objects of one shape go through the decoder together: what pads the others would be attended to."""
        return len(self.points_p2), self.box_4 is not None, self.mask_1hw is not None


class SamSegmenter:
    """An `ImageSegmenter`: one proposal for each object that is prompted; everything there is without prompts.

    Args:
        network: SAM or SAM 2.
        pixels: how it wants to see pictures.
        size: short side of proposals that are made without prompts; smaller pictures are not enlarged.
        points_per_side: clicks of the grid along each side of the picture.
        batch: objects that go through the decoder at a time.
        min_quality: lowest intersection over union, as the network predicts it, of a proposal without prompts.
        min_stability: lowest intersection over union of a proposal with itself at a higher and a lower threshold.
        max_box_iou: highest overlap of the boxes of two proposals, before they are made disjoint.
        suppress_small_objects: see `make_disjoint`.
        min_visible: see `make_disjoint`.

    Raises:
        InputError: a number makes no sense.
    """

    context = 0

    def __init__(
        self,
        network: SamModel | Sam2Model,
        pixels: Pixels,
        *,
        size: int = 480,
        points_per_side: int = 64,
        batch: int = 64,
        min_quality: float = 0.88,
        min_stability: float = 0.95,
        max_box_iou: float = 0.7,
        suppress_small_objects: bool = False,
        min_visible: float = 0.8,
    ) -> None:
        if min(size, points_per_side, batch) < 1:
            raise InputError("size, points per side and batch of SAM must all be at least 1")
        square_hw = pixels.exact_hw or pixels.pad_hw
        if square_hw is None or square_hw[0] != square_hw[1]:
            raise InputError("SAM sees squares, but its processor does not say how large: copy the model again")
        self._side = square_hw[0]
        self.network = network
        self.pixels = pixels
        self.size = size
        self.points_per_side = points_per_side
        self.batch = batch
        self.min_quality = min_quality
        self.min_stability = min_stability
        self.max_box_iou = max_box_iou
        self.suppress_small_objects = suppress_small_objects
        self.min_visible = min_visible

    def encode(self, frames: Sequence[Frame]) -> list[SamFeatures]:
        """Run the image encoder, on frames of one size together."""
        if not frames:
            return []
        if len({frame.size_hw for frame in frames}) > 1:
            return [features for frame in frames for features in self.encode([frame])]
        seen = self.pixels(frames).to(self.network.device, self.network.dtype)
        levels = self.network.get_image_embeddings(seen)
        by_level = [levels] if isinstance(levels, Tensor) else list(levels)
        size_hw = frames[0].size_hw
        content_hw = self.pixels.resized_hw(size_hw)
        return [SamFeatures(of_frame, size_hw, content_hw) for of_frame in zip(*by_level, strict=True)]

    def segment(
        self,
        features: SamFeatures,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[SamFeatures] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        """Segment the prompted objects, each on its own; without prompts, everything.

        Args:
            features: of the picture.
            prompts: prompts of one object act together. Of several boxes or masks the last one counts. A `MaskPrompt`
                alone is returned as it is.
            context: not used.
            categories: not used; a proposal has the category its prompts name.
            exclude: ``bool[H, W]``, at any resolution; without prompts, nothing is looked for there.

        Returns:
            With prompts ``bool`` masks at the size of the source, which may overlap, one an object in order of first
            mention. Without, disjoint ``bool`` masks, the best first. Scores are the predicted quality.

        Raises:
            InputError: a prompt reaches outside the picture, or a mask is of another size.
        """
        return self._prompted(features, prompts) if prompts else self._everything(features, exclude)

    def masks_in_boxes(self, features: SamFeatures, boxes_n4: Tensor) -> Tensor:
        """The object in each box.

        Args:
            features: of the picture.
            boxes_n4: ``float[N, 4]``, left, top, right and bottom edges in pixels of the source.

        Returns:
            ``bool[N, H, W]`` at the size of the source.
        """
        scale_xy = self._scale_xy(features)
        none = torch.zeros((0, 2)), torch.zeros(0, dtype=torch.int64)
        hints = [_Hints(*none, box_4=box_4.cpu().float() * scale_xy.repeat(2)) for box_4 in boxes_n4]
        return self._best(features, hints)[0]

    # --------------------------------------------------------------- prompts

    def _prompted(self, features: SamFeatures, prompts: Sequence[ObjectPrompt]) -> Proposals:
        by_object = grouped(prompts, features.size_hw)
        masks: dict[int, Tensor] = {}
        scores: dict[int, float] = {}
        by_shape: dict[tuple[int, bool, bool], dict[int, _Hints]] = {}
        for object_id, own in by_object.items():
            mask = given_mask(own)
            if mask is not None and all(isinstance(prompt, MaskPrompt) for prompt in own):
                masks[object_id] = mask.to(self.network.device)
            else:
                hints = self._hints(features, own)
                by_shape.setdefault(hints.shape, {})[object_id] = hints
        for alike in by_shape.values():
            masks_nhw, qualities = self._best(features, list(alike.values()))
            masks.update(zip(alike, masks_nhw, strict=True))
            scores.update(zip(alike, qualities, strict=True))
        return Proposals(
            torch.stack([masks[object_id] for object_id in by_object]),
            categories=tuple(last_given(prompt.category for prompt in own) for own in by_object.values()),
            scores=tuple(scores.get(object_id) for object_id in by_object),
            is_thing=tuple(last_given(prompt.is_thing for prompt in own) for own in by_object.values()),
        )

    def _hints(self, features: SamFeatures, prompts: Sequence[ObjectPrompt]) -> _Hints:
        """The authors scale coordinates, whole numbers for pixel centres, as they are (and add half a pixel within)."""
        scale_xy = self._scale_xy(features)
        clicks: list[tuple[float, float]] = []
        positive: list[bool] = []
        box_4 = None
        for prompt in prompts:
            if isinstance(prompt, BoxPrompt):
                box_4 = torch.tensor(prompt.box_xyxy) * scale_xy.repeat(2)
            elif isinstance(prompt, PointPrompt):
                clicks += prompt.points_xy
                positive += prompt.positive
            elif isinstance(prompt, ScribblePrompt):
                dots = clicks_of_stroke(prompt.stroke_xy)
                clicks += dots
                positive += [prompt.positive] * len(dots)
        mask = given_mask(prompts)
        return _Hints(
            torch.tensor(clicks, dtype=torch.float32).reshape(-1, 2) * scale_xy,
            torch.tensor(positive, dtype=torch.int64),
            box_4,
            None if mask is None else self._as_logits(features, mask),
        )

    def _as_logits(self, features: SamFeatures, mask: Tensor) -> Tensor:
        """A mask as the decoder would have given it, ``float32[1, h, w]``."""
        height, width = features.content_hw
        side, low_side = self._sides(features)
        content = resize_masks(mask.cpu()[None], features.content_hw)
        soft = resize_masks(F.pad(content, (0, side - width, 0, side - height)), (low_side, low_side))
        return (2 * soft - 1) * _SURE

    # ------------------------------------------------------------ everything

    def _everything(self, features: SamFeatures, exclude: Tensor | None) -> Proposals:
        """A grid of clicks (specification §10.2)."""
        short = min(features.size_hw)
        reduced = min(short, self.size)
        size_hw = (features.size_hw[0] * reduced // short, features.size_hw[1] * reduced // short)
        masks, boxes, scores = [], [], []
        points_n2 = grid_of_points(self.points_per_side)
        if exclude is not None:
            points_n2 = points_n2[is_free(points_n2, exclude, size_hw)]
        content_xy = torch.tensor((features.content_hw[1], features.content_hw[0]), dtype=torch.float32)
        hints = [_Hints(point[None], torch.ones(1, dtype=torch.int64)) for point in points_n2 * content_xy]
        for start in range(0, len(hints), self.batch):
            logits_nmhw, quality_nm = self._decode(features, hints[start : start + self.batch])
            good = quality_nm > self.min_quality
            if not good.any():
                continue
            for logits_nhw, quality_n in zip(
                *(torch.split(tensor[good], _UPSAMPLED_AT_ONCE) for tensor in (logits_nmhw, quality_nm)), strict=True
            ):
                large = self._upsampled(features, logits_nhw, size_hw)
                stable = is_stable(large, self.min_stability)
                masks.append(large[stable] > 0)
                boxes.append(mask_boxes(masks[-1]).float())
                scores.append(quality_n[stable])
        if not sum(map(len, masks)):
            return Proposals.none(size_hw)
        kept = box_nms(torch.cat(boxes), torch.cat(scores), self.max_box_iou)
        visible = make_disjoint(
            torch.cat(masks)[kept], suppress_small_objects=self.suppress_small_objects, min_visible=self.min_visible
        )
        proposals = Proposals(visible, scores=_as_scores(torch.cat(scores)[kept]))
        return proposals.keep(visible.any(2).any(1).tolist())

    # --------------------------------------------------------------- decoder

    def _best(self, features: SamFeatures, hints: Sequence[_Hints]) -> tuple[Tensor, tuple[float, ...]]:
        """Of the three masks of each object the one that the network thinks best of.

        Returns:
            ``bool[N, H, W]`` at the size of the source, and the quality of each.
        """
        masks = [torch.zeros((0, *features.size_hw), dtype=torch.bool, device=self.network.device)]
        scores: tuple[float, ...] = ()
        for start in range(0, len(hints), self.batch):
            logits_nmhw, quality_nm = self._decode(features, hints[start : start + self.batch])
            quality_n, best_n = quality_nm.max(1)
            logits_nhw = logits_nmhw[torch.arange(len(best_n), device=best_n.device), best_n]
            parts = torch.split(logits_nhw, _UPSAMPLED_AT_ONCE)
            masks += [self._upsampled(features, part, features.size_hw) > 0 for part in parts]
            scores += _as_scores(quality_n)
        return torch.cat(masks), scores

    @torch.no_grad()
    def _decode(self, features: SamFeatures, hints: Sequence[_Hints]) -> tuple[Tensor, Tensor]:
        """Run the decoder on N objects of one shape.

        Returns:
            ``float32[N, 3, h, w]`` logits in the square, and ``float32[N, 3]`` predicted quality.
        """
        device, dtype, first = self.network.device, self.network.dtype, hints[0]
        levels = [level.expand(len(hints), -1, -1, -1) for level in features.levels]
        found = self.network(
            image_embeddings=levels[0] if len(levels) == 1 else levels,
            input_points=_stacked([each.points_p2 for each in hints])[:, None].to(device, dtype)
            if len(first.points_p2)
            else None,
            input_labels=_stacked([each.positive_p for each in hints])[:, None].to(device)
            if len(first.points_p2)
            else None,
            input_boxes=_stacked([each.box_4 for each in hints])[:, None].to(device, dtype)
            if first.box_4 is not None
            else None,
            input_masks=_stacked([each.mask_1hw for each in hints]).to(device, dtype)
            if first.mask_1hw is not None
            else None,
            multimask_output=True,
        )
        return found.pred_masks[:, 0].float(), found.iou_scores[:, 0].float()

    def _upsampled(self, features: SamFeatures, logits_nhw: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Logits of the square as logits of the picture, ``float32[N, H, W]``."""
        logits = logits_nhw[:, None]
        if self.pixels.exact_hw is None:  # the picture was padded
            side, _ = self._sides(features)
            logits = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
            logits = logits[..., : features.content_hw[0], : features.content_hw[1]]
        return F.interpolate(logits, size_hw, mode="bilinear", align_corners=False)[:, 0]

    def _sides(self, features: SamFeatures) -> tuple[int, int]:
        """Of the square that the network sees, and of the one that its masks have."""
        return self._side, 4 * features.levels[-1].shape[-1]

    def _scale_xy(self, features: SamFeatures) -> Tensor:
        height, width = (content / size for content, size in zip(features.content_hw, features.size_hw, strict=True))
        return torch.tensor((width, height), dtype=torch.float32)


def load_sam(
    name: str,
    *,
    device: torch.device | str = "cpu",
    size: int = 480,
    points_per_side: int = 64,
    batch: int = 64,
    suppress_small_objects: bool = False,
) -> SamSegmenter:
    """SAM or SAM 2 from a folder or the hub, as facebook/sam-vit-base or facebook/sam2.1-hiera-tiny (Apache-2.0).

    Args:
        name: of a folder, or of a model of the hub.
        device: where it runs.
        size: see `SamSegmenter`.
        points_per_side: see `SamSegmenter`.
        batch: see `SamSegmenter`; 64 take about four gigabytes.
        suppress_small_objects: see `SamSegmenter`.

    Raises:
        InputError: there is no such model, it is another one, or files are missing or damaged.
    """
    folder, kind = folder_of_kind(name, ("sam", "sam2", "sam2_video"), usual=USUAL)
    pixels = Pixels.of(folder)
    network: SamModel | Sam2Model
    if kind == "sam":
        from transformers import SamModel

        network = load_pretrained(SamModel, folder, device=device)
    else:
        from transformers import Sam2Model

        network = load_pretrained(Sam2Model, folder, device=device)
    return SamSegmenter(
        network,
        pixels,
        size=size,
        points_per_side=points_per_side,
        batch=batch,
        suppress_small_objects=suppress_small_objects,
    )


def _as_scores(quality_n: Tensor) -> tuple[float, ...]:
    """SAM predicts an intersection over union above one now and then."""
    return tuple(quality_n.clamp(0, 1).tolist())


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor:
    return torch.stack([tensor for tensor in tensors if tensor is not None])


# ------------------------------------------------------------------- geometry


def clicks_of_stroke(stroke_xy: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """`CLICKS_OF_STROKE` points at equal distances along a stroke, from one end to the other; one for a dot."""
    corners = np.array(stroke_xy, dtype=np.float64)
    along = np.concatenate([[0.0], np.linalg.norm(np.diff(corners, axis=0), axis=1).cumsum()])
    if along[-1] == 0:
        return [(float(corners[0, 0]), float(corners[0, 1]))]
    wanted = np.linspace(0, along[-1], CLICKS_OF_STROKE)
    x, y = (np.interp(wanted, along, corners[:, axis]) for axis in (0, 1))
    return list(zip(x.tolist(), y.tolist(), strict=True))


def grid_of_points(points_per_side: int) -> Tensor:
    """Centres of n × n cells, ``float32[n * n, 2]``, x and y as fractions of the picture, row by row."""
    centres = (torch.arange(points_per_side) + 0.5) / points_per_side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def is_free(points_n2: Tensor, exclude: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Which points are away from all that is excluded (specification §10.2).

    Args:
        points_n2: ``float32[N, 2]``, x and y as fractions of the picture.
        exclude: ``bool[H, W]``, at any resolution.
        size_hw: the resolution that `EXCLUSION_STRIDE` counts pixels of.

    Returns:
        ``bool[N]``.
    """
    coarse_hw = (max(1, size_hw[0] // EXCLUSION_STRIDE), max(1, size_hw[1] // EXCLUSION_STRIDE))
    coarse = resize_masks(exclude[None].cpu(), coarse_hw)
    where = 2 * points_n2[None, None] - 1
    values = F.grid_sample(coarse[None], where, mode="bilinear", padding_mode="border", align_corners=False)
    return values[0, 0, 0] < EXCLUSION_LIMIT


def is_stable(logits_nhw: Tensor, min_stability: float) -> Tensor:
    """Which masks hardly depend on the threshold, ``bool[N]``; empty ones do."""
    inner = (logits_nhw > _STABILITY_OFFSET).sum((1, 2))
    outer = (logits_nhw > -_STABILITY_OFFSET).sum((1, 2))
    return (inner / outer.clamp_min(1) >= min_stability) & (inner > 0)


def make_disjoint(masks_nhw: Tensor, *, suppress_small_objects: bool = False, min_visible: float = 0.8) -> Tensor:
    """Give every pixel to one mask (DEVA; specification §10.2).

    By default the smallest mask on a pixel has it. With ``suppress_small_objects`` the largest has it, and a mask of
    which too little is left to see is dropped. Of masks of one size the first counts as winner.

    Args:
        masks_nhw: ``bool[N, H, W]``.
        suppress_small_objects: large ones win.
        min_visible: share of a mask that must be visible, where large ones win.

    Returns:
        ``bool[N, H, W]``, what is left of each, in the same order; empty where nothing is.
    """
    areas = masks_nhw.sum((1, 2)).tolist()
    sign = 1 if suppress_small_objects else -1
    owner = torch.full(masks_nhw.shape[1:], -1, device=masks_nhw.device)
    for n in sorted(range(len(areas)), key=lambda n: (sign * areas[n], -n)):  # who comes later, paints over
        owner[masks_nhw[n]] = n
    visible = owner == torch.arange(len(areas), device=masks_nhw.device)[:, None, None]
    if suppress_small_objects:
        enough = visible.sum((1, 2)) >= min_visible * masks_nhw.sum((1, 2))
        visible &= enough[:, None, None]
    return visible
