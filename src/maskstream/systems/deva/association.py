"""Tracking by detection: what Table 6 of the paper compares DEVA with.

frame ─► proposals ─┬─► those of the frame before that overlap, or resemble, keep their id ─► FrameSegmentation
                    └─► the rest is new; what was not found again is gone
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from maskstream.identity import ObjectTable
from maskstream.types import (
    CategorySet,
    Event,
    Frame,
    FrameSegmentation,
    ImageSegmenter,
    InputError,
    LabelMap,
    Prompt,
    Propagator,
    StateDict,
    Track,
    check_arrival,
    mask_overlaps,
    resize_masks,
)

from .detections import Detections
from .session import most_probable

Association: TypeAlias = Literal["mask-iou", "mask-iou-flow", "query"]

MIN_IOU = 0.5
MIN_SIMILARITY = 0.5
"""Cosine of two embeddings below which they are of two objects."""


@dataclass(slots=True, eq=False)
class _Previous:
    """The frame before: M detections, the objects they are of, and how they look."""

    frame: Frame
    detections: Detections
    track_ids: tuple[int, ...]
    embeddings_mc: Tensor | None = field(repr=False)


class AssociationSession:
    """Every frame is segmented by the detector, and segments of adjacent frames are associated.

    Args:
        propagator: gives the resolution, and aligns masks for "mask-iou-flow".
        detector: finds objects; needs embeddings for "query".
        size_hw: height and width of the video.
        association: how: "mask-iou" by overlap with the frame before, "mask-iou-flow" with it aligned to the present
            one, "query" by resemblance of embeddings.
        categories: what the detector looks for.
        min_score: detections below this score are ignored; those without a score are not.
    """

    latency = 0

    def __init__(
        self,
        propagator: Propagator[Any, Any],
        detector: ImageSegmenter[Any],
        *,
        size_hw: tuple[int, int],
        association: Association,
        categories: CategorySet | None = None,
        min_score: float = 0.0,
    ) -> None:
        self._propagator = propagator
        self._detector = detector
        self._size_hw = size_hw
        self._association = association
        self._categories = categories
        self._min_score = min_score
        self._objects = ObjectTable()
        self._context: list[Any] = []
        self._previous: _Previous | None = None
        self._last_index = -1

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Tracking by detection takes no prompts."""
        if prompts:
            raise InputError("tracking by detection follows what the detector finds and takes no prompts")

    def remove(self, object_ids: Sequence[int]) -> None:
        """Stop following objects; the detector may find them again, as new ones."""
        self._objects.remove(object_ids)

    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        """Segment the next frame; every one is a key frame.

        Raises:
            InputError: the frame is of another size or comes out of order, or embeddings are needed and missing.
        """
        check_arrival(frame, self._size_hw, self._last_index)
        self._last_index = frame.index
        (seen,) = self._detector.encode([frame])
        proposals = self._detector.segment(seen, context=self._context, categories=self._categories)
        self._context = [*self._context, seen][-self._detector.context :] if self._detector.context else []
        proposals = proposals.keep([s is None or s >= self._min_score for s in proposals.scores])
        features = self._propagator.encode(frame)
        size_hw = self._propagator.size_hw(features)
        painted = torch.unique(Detections.of_frame(proposals, size_hw).label_map).tolist()
        proposals = proposals.keep([label in painted for label in range(1, len(proposals) + 1)])
        found = Detections.of_frame(proposals, size_hw)
        if self._association == "query" and proposals.embeddings_nc is None and len(proposals):
            raise InputError("query association needs a detector that gives embeddings; this one gives none")
        position_of = self._associate(features, found, proposals.embeddings_nc)
        return [self._result(frame, found, position_of, proposals.embeddings_nc)]

    def finish(self) -> Iterator[FrameSegmentation]:
        """Nothing is held back."""
        yield from ()

    def tracks(self) -> list[Track]:
        """Every object that was ever visible."""
        return self._objects.tracks()

    def state_dict(self) -> StateDict:
        """Everything the next step depends on."""
        previous = self._previous
        return {
            "objects": self._objects.state_dict(),
            "context": list(self._context),
            "last_index": self._last_index,
            "previous": previous
            and {
                "index": previous.frame.index,
                "timestamp": previous.frame.timestamp,
                "image": torch.from_numpy(previous.frame.image),
                "label_map": previous.detections.label_map,
                "groups": list(previous.detections.groups),
                "track_ids": list(previous.track_ids),
                "embeddings": previous.embeddings_mc,
            },
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._objects.load_state_dict(state["objects"])
        self._context = list(state["context"])
        self._last_index = state["last_index"]
        plain = state["previous"]
        self._previous = plain and _Previous(
            Frame(plain["index"], plain["timestamp"], plain["image"].numpy()),
            Detections(plain["label_map"], tuple(plain["groups"]), ((),) * len(plain["groups"])),
            tuple(plain["track_ids"]),
            plain["embeddings"],
        )

    def _associate(self, features: Any, found: Detections, embeddings_mc: Tensor | None) -> dict[int, int]:
        """For each detection that was there before its position among those of the frame before."""
        previous = self._previous
        if previous is None or not len(found) or not len(previous.detections):
            return {}
        affinity_pm, least = self._affinity(previous, features, found, embeddings_mc)
        same_group = np.array([[a == b for b in found.groups] for a in previous.detections.groups])
        alive = np.array([track_id in self._objects for track_id in previous.track_ids])
        # Pairs below the threshold must not outweigh one above it.
        affinity_pm = np.where(same_group & alive[:, None] & (affinity_pm > least), affinity_pm, 0.0)
        rows, columns = linear_sum_assignment(affinity_pm, maximize=True)
        return {int(m): int(p) for p, m in zip(rows, columns, strict=True) if affinity_pm[p, m] > 0}

    def _affinity(
        self, previous: _Previous, features: Any, found: Detections, embeddings_mc: Tensor | None
    ) -> tuple[NDArray[np.float64], float]:
        if self._association == "query":
            assert previous.embeddings_mc is not None
            assert embeddings_mc is not None
            normalized = [
                torch.nn.functional.normalize(e.double(), dim=1) for e in (previous.embeddings_mc, embeddings_mc)
            ]
            return (normalized[0] @ normalized[1].T).cpu().numpy(), MIN_SIMILARITY
        before_hw = previous.detections.label_map
        if self._association == "mask-iou-flow":
            masks_nhw = LabelMap(before_hw).masks_nhw(len(previous.detections))
            before_hw = most_probable(
                self._propagator.align(self._propagator.encode(previous.frame), masks_nhw, features)
            )
        overlaps = mask_overlaps(LabelMap(before_hw), len(previous.detections), LabelMap(found.label_map), len(found))
        return overlaps.iou_gp(), MIN_IOU

    def _result(
        self, frame: Frame, found: Detections, position_of: dict[int, int], embeddings_mc: Tensor | None
    ) -> FrameSegmentation:
        before = () if self._previous is None else self._previous.track_ids
        matched = {before[p] for p in position_of.values()}
        events = [Event("removed", i, "a person took it away") for i in before if i not in self._objects]
        lost = [track_id for track_id in self._objects.ids if track_id not in matched]
        self._objects.remove(lost)
        events += [Event("deleted", track_id, "no detection continues it") for track_id in lost]
        track_ids = []
        label_map = most_probable(_one_hot(found, self._size_hw))
        visible = torch.bincount(label_map.flatten(), minlength=len(found) + 1)[1:].tolist()
        for m in range(len(found)):
            if m in position_of:
                record = self._objects[before[position_of[m]]]
                events.append(Event("matched", record.track_id, self._association))
            else:
                record = self._objects.add(is_thing=found.groups[m])
                events.append(Event("born", record.track_id, "detected, continues no object"))
            record.vote_all(found.votes[m])
            if visible[m]:
                record.seen(frame.index)
            track_ids.append(record.track_id)
        segments, label_of, renamed = self._objects.segments(track_ids)
        label_map = torch.tensor(label_of, dtype=torch.int32, device=label_map.device)[label_map]
        self._previous = _Previous(frame, found, tuple(track_ids), embeddings_mc)
        return FrameSegmentation(frame.index, self._size_hw, segments, LabelMap(label_map), events=(*events, *renamed))


def _one_hot(found: Detections, size_hw: tuple[int, int]) -> Tensor:
    """``float32[1 + M, H, W]`` at another size, background first."""
    masks_nhw = resize_masks(LabelMap(found.label_map).masks_nhw(len(found)), size_hw)
    return torch.cat([1 - masks_nhw.sum(0, keepdim=True), masks_nhw])
