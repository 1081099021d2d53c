"""What comes out: the segments of a frame, and the tracks of a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .errors import InputError
from .events import Event
from .masks import RLE, LabelMap, PackedMasks, encode_label_rle, encode_rle, mask_boxes, pack_masks, unpack_masks


@dataclass(frozen=True, slots=True)
class Segment:
    """One region of one frame.

    Attributes:
        id: the number that is written out. A change of category may force a new one; stuff has one per class and video.
        track_id: the object, for ever; never used again in a video, not even after the object is gone.
        category: category id, or None when unknown. 0 is a category.
        score: confidence in [0, 1], or None.
        is_thing: thing (True), stuff (False) or unknown (None); only segments of one kind may merge.
        prompt_id: the prompt that asked for it, or None.
    """

    id: int
    track_id: int
    category: int | None = None
    score: float | None = None
    is_thing: bool | None = None
    prompt_id: str | None = None

    def __post_init__(self) -> None:
        if self.id < 1 or self.track_id < 1:
            raise InputError(f"segment ids are counted from 1, not {self.id} (track {self.track_id})")
        if self.is_thing not in (None, False, True):
            raise InputError(f"is_thing of segment {self.id} must be True, False or None, not {self.is_thing!r}")


@dataclass(frozen=True, slots=True, eq=False)
class FrameSegmentation:
    """The segments of one frame, at the resolution of the source, on whatever device made them.

    Attributes:
        frame_index: ``Frame.index``.
        size_hw: height and width of the source frame.
        segments: what is on the frame. A segment may be empty.
        masks: where it is; a `LabelMap` when segments are disjoint, `PackedMasks` when they may overlap.
        probabilities: ``float16[1 + N, h, w]``, background first, only when asked for.
        revision: more than 0 replaces an earlier result of this frame.
        events: why objects appeared, were confirmed or went on this frame, in the order it happened.
    """

    frame_index: int
    size_hw: tuple[int, int]
    segments: tuple[Segment, ...]
    masks: LabelMap | PackedMasks
    probabilities: Tensor | None = field(default=None, repr=False)
    revision: int = 0
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        if self.masks.size_hw != self.size_hw:
            raise InputError(f"the masks of frame {self.frame_index} are {self.masks.size_hw}, not {self.size_hw}")
        ids = [segment.id for segment in self.segments]
        if len(set(ids)) != len(ids):
            raise InputError(f"frame {self.frame_index} uses a segment id twice: {ids}")
        if isinstance(self.masks, PackedMasks) and len(self.masks.bits) != len(ids):
            raise InputError(f"frame {self.frame_index} has {len(ids)} segments but {len(self.masks.bits)} masks")
        if self.probabilities is not None and len(self.probabilities) != 1 + len(ids):
            raise InputError(
                f"frame {self.frame_index} has {len(ids)} segments but {len(self.probabilities)} probability "
                "channels; background and one each are needed"
            )

    @classmethod
    def from_masks(
        cls, frame_index: int, segments: tuple[Segment, ...], masks_nhw: Tensor, *, revision: int = 0
    ) -> FrameSegmentation:
        """Build from ``bool[N, H, W]`` masks that may overlap."""
        size_hw = (masks_nhw.shape[1], masks_nhw.shape[2])
        return cls(frame_index, size_hw, segments, pack_masks(masks_nhw), revision=revision)

    def selected(self, positions: Sequence[int], segments: tuple[Segment, ...]) -> FrameSegmentation:
        """Only some segments, described anew; the others are nothing.

        Args:
            positions: which to keep, ascending, from 0.
            segments: what to call them, one each.
        """
        if isinstance(self.masks, PackedMasks):
            masks: LabelMap | PackedMasks = PackedMasks(self.masks.bits[list(positions)], self.masks.width)
        else:
            number = torch.zeros(len(self.segments) + 1, dtype=torch.int32, device=self.masks.values.device)
            number[[n + 1 for n in positions]] = torch.arange(1, len(positions) + 1, dtype=torch.int32)
            masks = LabelMap(number[self.masks.values])
        return FrameSegmentation(self.frame_index, self.size_hw, segments, masks, revision=self.revision)

    @property
    def disjoint(self) -> bool:
        """Whether no pixel can belong to two segments."""
        return isinstance(self.masks, LabelMap)

    def label_map(self) -> Tensor:
        """``int32[H, W]``: 0, or n on the n-th segment (from 1).

        Where masks overlap the higher score is on top, then the smaller area, then the later segment.
        """
        if isinstance(self.masks, LabelMap):
            return self.masks.values
        masks_nhw, areas = unpack_masks(self.masks), self.areas().tolist()
        scores = [0.0 if segment.score is None else segment.score for segment in self.segments]
        label_map = torch.zeros(self.size_hw, dtype=torch.int32, device=masks_nhw.device)
        for position in sorted(range(len(scores)), key=lambda n: (scores[n], -areas[n])):
            label_map[masks_nhw[position]] = position + 1
        return label_map

    def panoptic_map(self) -> Tensor:
        """``int32[H, W]``: 0, or the ``Segment.id`` on top."""
        return self._painted([0, *(segment.id for segment in self.segments)])

    def semantic_map(self, void: int = 255) -> Tensor:
        """``int32[H, W]``: the category on top; ``void`` where there is no segment or its category is unknown."""
        categories = (void if segment.category is None else segment.category for segment in self.segments)
        return self._painted([void, *categories])

    def masks_nhw(self) -> Tensor:
        """``bool[N, H, W]``, one mask a segment."""
        if isinstance(self.masks, PackedMasks):
            return unpack_masks(self.masks)
        return self.masks.masks_nhw(len(self.segments))

    def areas(self) -> Tensor:
        """``int64[N]``, pixels of each segment."""
        if isinstance(self.masks, LabelMap):
            return torch.bincount(self.masks.values.flatten(), minlength=len(self.segments) + 1)[1:]
        return unpack_masks(self.masks).sum(dim=(1, 2))

    def boxes(self) -> Tensor:
        """``int64[N, 4]``, tight boxes ``x0, y0, x1, y1`` with x1 and y1 one past the last pixel; zeros when empty."""
        return mask_boxes(self.masks_nhw())

    def to_rle(self) -> list[RLE]:
        """COCO run-length codes, one a segment; lossless."""
        if isinstance(self.masks, LabelMap):
            return encode_label_rle(self.masks, len(self.segments))
        return encode_rle(unpack_masks(self.masks))

    def _painted(self, value_of_label: list[int]) -> Tensor:
        label_map = self.label_map()
        return torch.tensor(value_of_label, dtype=torch.int32, device=label_map.device)[label_map]


@dataclass(frozen=True, slots=True, eq=False)
class FrameAnnotation:
    """Ground truth of one frame.

    Attributes:
        segmentation: the true segments.
        void: ``bool[H, W]``, pixels that count for nothing, or None.
        crowd_ids: ids of segments that stand for an uncounted group.
        annotated: False when a person never labelled this frame, so that "nothing here" says nothing.
    """

    segmentation: FrameSegmentation
    void: Tensor | None = field(default=None, repr=False)
    crowd_ids: frozenset[int] = frozenset()
    annotated: bool = True

    def __post_init__(self) -> None:
        size_hw = self.segmentation.size_hw
        if self.void is not None and (self.void.dtype != torch.bool or tuple(self.void.shape) != size_hw):
            raise InputError(
                f"the void mask of frame {self.segmentation.frame_index} must be bool{list(size_hw)}, "
                f"not {self.void.dtype}{list(self.void.shape)}"
            )
        unknown = self.crowd_ids - {segment.id for segment in self.segmentation.segments}
        if unknown:
            raise InputError(f"frame {self.segmentation.frame_index} calls {sorted(unknown)} crowd, but has no such id")


@dataclass(frozen=True, slots=True)
class Track:
    """An object of a whole video, final once the session has finished.

    Attributes:
        track_id: as in `Segment`.
        category_scores: confidence of every category it was ever given; empty when it never had one.
        prompt_id: the prompt that asked for it, or None.
        first: ``Frame.index`` of the first frame it is visible on.
        last: ``Frame.index`` of the last frame it is visible on.
    """

    track_id: int
    category_scores: Mapping[int, float]
    prompt_id: str | None
    first: int
    last: int
