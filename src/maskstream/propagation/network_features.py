"""A frame as the propagation network sees it: resized, normalised, padded, encoded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.types import StateDict

from .attention import Keys
from .network import ImageFeatures
from .references import FlowFeatures

STRIDE = 16
"""Of keys, values and sensory memory: images are padded to multiples of it."""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in what the published networks were trained on."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkFeatures:
    """A frame as the network sees it.

    Attributes:
        frame_index: of the frame.
        size_hw: of the frame at internal resolution.
        image_b3hw: ``float32[1, 3, H, W]``, normalised, and padded on all sides to multiples of 16.
        image: what the network makes of it.
        flow: what the guide needs to know of it, without padding; None for networks without a guide.
    """

    frame_index: int
    size_hw: tuple[int, int]
    image_b3hw: Tensor = field(repr=False)
    image: ImageFeatures = field(repr=False)
    flow: FlowFeatures | None = field(default=None, repr=False)

    @property
    def keys(self) -> Keys:
        """Of the places of the frame."""
        return Keys.of_frame(self.image.key_bchw, self.image.shrinkage_b1hw, self.image.selection_bchw)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """How many places there are, down and across."""
        return self.image.key_bchw.shape[2], self.image.key_bchw.shape[3]

    @property
    def padded_hw(self) -> tuple[int, int]:
        """Size of the padded image."""
        return self.image_b3hw.shape[2], self.image_b3hw.shape[3]

    def crop(self, padded: Tensor) -> Tensor:
        """Of ``[..., H, W]``, what is not padding."""
        (top, left), (height, width) = _offset(self.size_hw), self.size_hw
        return padded[..., top : top + height, left : left + width]

    def without_skips(self) -> NetworkFeatures:
        """What memorising the frame needs: without the large maps for the decoder, and without the guide's."""
        nothing = self.image.f16_bchw.new_empty(0)
        return replace(self, image=replace(self.image, f8_bchw=nothing, f4_bchw=nothing), flow=None)

    def to_plain(self) -> StateDict:
        """What is left by `without_skips`, as plain data."""
        return {
            "frame_index": self.frame_index,
            "size_hw": list(self.size_hw),
            "image": self.image_b3hw,
            "f16": self.image.f16_bchw,
            "key": self.image.key_bchw,
            "shrinkage": self.image.shrinkage_b1hw,
            "selection": self.image.selection_bchw,
        }

    @classmethod
    def from_plain(cls, plain: StateDict, device: torch.device) -> NetworkFeatures:
        """Undo `to_plain`."""
        f16, key, shrinkage, selection = (plain[name].to(device) for name in ("f16", "key", "shrinkage", "selection"))
        nothing = f16.new_empty(0)
        image = ImageFeatures(f16, nothing, nothing, key, shrinkage, selection)
        height, width = plain["size_hw"]
        return cls(plain["frame_index"], (height, width), plain["image"].to(device), image)

    @property
    def nbytes(self) -> int:
        """Bytes of what `to_plain` has."""
        return sum(value.nbytes for value in self.to_plain().values() if isinstance(value, Tensor))


def prepare(image_hw3: Tensor, size_hw: tuple[int, int], *, antialias: bool) -> Tensor:
    """An image for the network, but for padding.

    Args:
        image_hw3: ``uint8[H, W, 3]``, red, green, blue.
        size_hw: height and width wanted.
        antialias: when it is reduced.

    Returns:
        ``float32[1, 3, *size_hw]``, normalised.
    """
    mean, deviation = (torch.tensor(rgb, device=image_hw3.device)[:, None, None] for rgb in (MEAN, DEVIATION))
    image = (image_hw3.movedim(2, 0)[None].float() / 255 - mean) / deviation
    if tuple(image.shape[2:]) != size_hw:
        image = F.interpolate(image, size_hw, mode="bilinear", align_corners=False, antialias=antialias)
    return image


def padded(x_chw: Tensor) -> Tensor:
    """``[..., h, w]`` with zeros around it, to multiples of `STRIDE`; the odd row or column is at the end."""
    height, width = x_chw.shape[-2:]
    top, left = _offset((height, width))
    return F.pad(x_chw, (left, -width % STRIDE - left, top, -height % STRIDE - top))


def _offset(size_hw: tuple[int, int]) -> tuple[int, int]:
    return (-size_hw[0] % STRIDE) // 2, (-size_hw[1] % STRIDE) // 2
