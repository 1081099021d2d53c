"""A clip: some labelled frames of a video, cut to one size. What training is made of.

source ─► Clip (numpy) ─► augmentation ─► choose_objects ─► collate ─► ClipBatch (tensors)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.types import InputError

_Id = TypeVar("_Id", np.int32, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One sample of T frames.

    Attributes:
        frames_thw3: ``uint8[T, H, W, 3]``, RGB.
        labels_thw: ``int32[T, H, W]``, ids of objects; 0 is background.
        number: of the sample, from 0 over the whole run.
        is_mirrored: whether what was on the left of the video is on the right.
    """

    frames_thw3: NDArray[np.uint8]
    labels_thw: NDArray[np.int32]
    number: int
    is_mirrored: bool = False

    def __post_init__(self) -> None:
        if self.frames_thw3.shape != (*self.labels_thw.shape, 3):
            raise ValueError(f"frames are {list(self.frames_thw3.shape)}, labels {list(self.labels_thw.shape)}")


@dataclass(frozen=True, slots=True, eq=False)
class ClipBatch:
    """B samples of T frames, on one device.

    Attributes:
        frames_bt3hw: ``uint8[B, T, 3, H, W]``, RGB.
        labels_bthw: ``int64[B, T, H, W]``, 1…n on the objects of the first frame, 0 elsewhere.
        number_b: ``int64[B]``, of the samples.
    """

    frames_bt3hw: Tensor
    labels_bthw: Tensor
    number_b: Tensor

    def __len__(self) -> int:
        return len(self.number_b)

    def to(self, device: torch.device | str) -> ClipBatch:
        """The same samples on another device."""
        return ClipBatch(
            *(tensor.to(device, non_blocking=True) for tensor in (self.frames_bt3hw, self.labels_bthw, self.number_b))
        )


def pick(objects_n: NDArray[_Id], most: int, rng: np.random.Generator) -> NDArray[_Id]:
    """All of some ids, or as many as may be kept, by chance; ascending if they were."""
    if len(objects_n) <= most:
        return objects_n
    return objects_n[np.sort(rng.permutation(len(objects_n))[:most])]


def choose_objects(labels_thw: NDArray[np.int32], most: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Number the objects of the first frame from 1; chance chooses among too many (DEVA, specification §15).

    Args:
        labels_thw: ``int32[T, H, W]``, ids of objects; 0 is background.
        most: objects to keep.
        rng: chance.

    Returns:
        ``int32[T, H, W]``: 1…n, in the order of their ids. Objects that come later or were not chosen are background.
    """
    objects = pick(np.unique(labels_thw[0][labels_thw[0] != 0]), most, rng)
    place = np.searchsorted(objects, labels_thw)
    known = np.append(objects, 0)[place] == labels_thw
    return np.where(known & (labels_thw != 0), place + 1, 0).astype(np.int32)


def collate(clips: Sequence[Clip]) -> ClipBatch:
    """Stack samples, as a batch of tensors.

    Raises:
        InputError: they have different numbers of frames or sizes, or there is none.
    """
    shapes = sorted({clip.labels_thw.shape for clip in clips})
    if len(shapes) != 1:
        found = " and ".join("×".join(map(str, shape)) for shape in shapes) or "no clip at all"
        raise InputError(f"a batch takes clips of one length and size, not {found}")
    frames_bthw3 = torch.from_numpy(np.stack([clip.frames_thw3 for clip in clips]))
    return ClipBatch(
        frames_bthw3.permute(0, 1, 4, 2, 3).contiguous(),
        torch.from_numpy(np.stack([clip.labels_thw for clip in clips])).long(),
        torch.tensor([clip.number for clip in clips]),
    )
