"""A picture of ids as runs along its rows, so that finding and renaming ids is cheaper than a look at every pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.types import FrameSegmentation, LabelMap, Segment

from .pictures import Ids


class IdPicture:
    """The ids of a picture and where they are.

    Args:
        ids_hw: ``int[H, W]``.
    """

    def __init__(self, ids_hw: NDArray[np.integer]) -> None:
        values = ids_hw.reshape(-1)
        starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
        distinct, self._id_of_run = np.unique(values[starts], return_inverse=True)
        self._lengths = np.diff(starts, append=values.size)
        self._shape = ids_hw.shape
        self.ids: list[int] = distinct.tolist()
        """Every id that is there, ascending."""

    def renamed(self, new: Mapping[int, int]) -> Ids:
        """``int32[H, W]``: what each id becomes; 0 if nothing is said of it."""
        numbers = np.array([new.get(number, 0) for number in self.ids], np.int32)
        picture: Ids = np.repeat(numbers[self._id_of_run], self._lengths).reshape(self._shape)
        return picture

    def where(self, ids: Sequence[int]) -> Tensor | None:
        """``bool[H, W]``: the pixels of some ids, or None if there are none."""
        found = {number: 1 for number in ids if number in self.ids}
        return torch.from_numpy(self.renamed(found)).bool() if found else None

    def segmentation(self, frame_index: int, segments: Mapping[int, Segment]) -> FrameSegmentation:
        """What the ids mean: segments by id, in the order given, several ids may be one; other ids are nothing."""
        position_of = {segment: position for position, segment in enumerate(dict.fromkeys(segments.values()), 1)}
        labels = self.renamed({number: position_of[segment] for number, segment in segments.items()})
        label_map = LabelMap(torch.from_numpy(labels))
        return FrameSegmentation(frame_index, label_map.size_hw, tuple(position_of), label_map)
