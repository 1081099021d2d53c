"""Semantic segmentation of video as results: one region for each class of a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from maskstream.types import (
    Category,
    Event,
    FrameSegmentation,
    LabelMap,
    StateDict,
    Track,
)

from .identity import ObjectTable


class ClassRegions:
    """The regions of a video; things of one class are one, and what nobody counts is neither thing nor stuff.

    Args:
        shown: what each class that is shown is called, by its number in the network.
    """

    def __init__(self, shown: Mapping[int, Category]) -> None:
        self._shown = dict(sorted(shown.items()))
        self._objects = ObjectTable()
        self._track_of: dict[int, int] = {}
        self._removed: set[int] = set()

    @property
    def classes(self) -> list[int]:
        """Classes that are shown, ascending."""
        return list(self._shown)

    def result(self, frame_index: int, labels_hw: Tensor) -> FrameSegmentation:
        """The regions of a frame.

        Args:
            frame_index: of it.
            labels_hw: ``int64[H, W]``, positions in ``classes``.
        """
        there = torch.bincount(labels_hw.flatten(), minlength=len(self._shown)).nonzero()[:, 0].tolist()
        events: list[Event] = []
        kept: list[tuple[int, int]] = []
        for position in there:
            track_id = self._track(self.classes[position], events)
            if track_id not in self._removed:
                self._objects[track_id].seen(frame_index)
                kept.append((position, track_id))
        segments, labels, renamed = self._objects.segments([track_id for _, track_id in kept])
        number_k = torch.zeros(len(self._shown), dtype=torch.int32, device=labels_hw.device)
        number_k[[position for position, _ in kept]] = torch.tensor(
            labels[1:], dtype=torch.int32, device=labels_hw.device
        )
        size_hw = (labels_hw.shape[0], labels_hw.shape[1])
        masks = LabelMap(number_k[labels_hw])
        return FrameSegmentation(frame_index, size_hw, segments, masks, events=(*events, *renamed))

    def remove(self, object_ids: Sequence[int]) -> None:
        """Show regions no more.

        Raises:
            InputError: one is not followed.
        """
        self._objects.remove(object_ids)
        self._removed |= set(object_ids)

    def tracks(self) -> list[Track]:
        """Every region that was ever visible."""
        return self._objects.tracks()

    def state_dict(self) -> StateDict:
        """Everything as plain data."""
        return {
            "objects": self._objects.state_dict(),
            "track_of": [list(pair) for pair in self._track_of.items()],
            "removed": sorted(self._removed),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._objects.load_state_dict(state["objects"])
        self._track_of = dict(state["track_of"])
        self._removed = set(state["removed"])

    def _track(self, label: int, events: list[Event]) -> int:
        if label not in self._track_of:
            record = self._objects.add()
            record.vote(self._shown[label].id, None)
            self._track_of[label] = record.track_id
            events.append(Event("born", record.track_id, "the first pixel of its class"))
        return self._track_of[label]
