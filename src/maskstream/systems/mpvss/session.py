"""MPVSS on a video: key frames are segmented, the masks of the last one are carried to the others (specification §4).

frame ─► key frame? ─┬─ yes ─► Mask2Former ─► kept ───────────────┐
                     └─ no ──► flow ─► masks of the key frame ────┴─► classes of pixels
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.mask2former.postprocess import class_values, surest_class
from maskstream.optical_flow import dense_flow
from maskstream.pretrained import Pixels
from maskstream.regions import ClassRegions
from maskstream.types import (
    Category,
    Frame,
    FrameSegmentation,
    InputError,
    Prompt,
    StateDict,
    Track,
    check_arrival,
)

from .keys import KeyPolicy, KeySettings
from .network import KeyFrame, MpvssNetwork
from .warp import warp

Carrying: TypeAlias = Literal["motion", "flow", "copy"]
"""How masks get to frames between key frames: by the motion module (the method); by optical flow, the same for all,
found without weights (DIS); or they stay where they are.
"""

_FLOW_STRIDE = 4
"""Of what is kept of optical flow, as of masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MpvssSettings:
    """How frames between key frames are segmented.

    Attributes:
        keys: which frames are key frames.
        carrying: see `Carrying`; None: by the motion module where there is one, else by flow.
    """

    keys: KeySettings = field(default_factory=KeySettings)
    carrying: Carrying | None = None


class MpvssSession:
    """The state of one video. Nothing is held back.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        shown: what each of its classes is called in results; others are not shown.
        size_hw: of the video.
        settings: see there.

    Raises:
        InputError: motion is asked of a network that has no motion module.
    """

    latency = 0

    def __init__(
        self,
        network: MpvssNetwork,
        pixels: Pixels,
        *,
        shown: Mapping[int, Category],
        size_hw: tuple[int, int],
        settings: MpvssSettings,
    ) -> None:
        self._network = network
        self._pixels = pixels
        self._size_hw = size_hw
        learned = network.motion is not None
        self._carrying: Carrying = settings.carrying or ("motion" if learned else "flow")
        if self._carrying == "motion" and not learned:
            raise InputError("this network has no motion module: carry masks by flow or copy instead")
        self._device = next(network.parameters()).device
        self._policy = KeyPolicy(settings.keys)
        self._regions = ClassRegions(shown)
        self._last_index = -1
        self._key: KeyFrame | None = None

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Nothing can be pointed at.

        Raises:
            InputError: something is.
        """
        if prompts:
            raise InputError("MPVSS segments what it knows and takes no prompts: use the model deva for these")

    def remove(self, object_ids: Sequence[int]) -> None:
        """Show regions no more.

        Raises:
            InputError: one is not followed.
        """
        self._regions.remove(object_ids)

    @torch.no_grad()
    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        """Segment the next frame.

        Raises:
            InputError: the frame is of another size, or comes out of order.
        """
        check_arrival(frame, self._size_hw, self._last_index)
        self._last_index = frame.index
        picture_13hw = self._picture(frame)
        if self._policy.is_key(frame.image, forced=force_key):
            pixels_13hw = self._pixels([frame]).to(self._device)
            self._key = self._network.key_frame(pixels_13hw, picture_13hw)
            masks_qhw = self._key.masks_bqhw[0]
        else:
            assert self._key is not None
            masks_qhw = self._carried(self._key, picture_13hw)[0]
        height, width = self._pixels.resized_hw(self._size_hw)
        padded_hw = (4 * masks_qhw.shape[1], 4 * masks_qhw.shape[2])
        values_khw = class_values(self._key.classes_bqc[0], masks_qhw, padded_hw)
        labels_hw, _ = surest_class(values_khw[self._regions.classes, :height, :width], self._size_hw)
        return [self._regions.result(frame.index, labels_hw)]

    def finish(self) -> Iterator[FrameSegmentation]:
        """Nothing is held back."""
        yield from ()

    def tracks(self) -> list[Track]:
        """Every region that was ever visible."""
        return self._regions.tracks()

    def state_dict(self) -> StateDict:
        """Everything the next step depends on."""
        key = self._key
        return {
            "last_index": self._last_index,
            "policy": self._policy.state_dict(),
            "regions": self._regions.state_dict(),
            "key": key and [key.classes_bqc, key.masks_bqhw, key.queries_bqc, key.picture_b3hw],
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._last_index = state["last_index"]
        self._policy.load_state_dict(state["policy"])
        self._regions.load_state_dict(state["regions"])
        self._key = state["key"] and KeyFrame(*(tensor.to(self._device) for tensor in state["key"]))

    def _picture(self, frame: Frame) -> Tensor:
        """``float[1, 3, H, W]``, RGB in 0 … 255, as large as the network sees it, without padding."""
        picture = torch.from_numpy(frame.image).permute(2, 0, 1)[None]
        size_hw = self._pixels.resized_hw(self._size_hw)
        if tuple(picture.shape[2:]) != size_hw:
            picture = F.interpolate(picture, size_hw, mode="bilinear", align_corners=False, antialias=True)
        return picture.float().to(self._device)

    def _carried(self, key: KeyFrame, picture_13hw: Tensor) -> Tensor:
        """The masks of the key frame here, ``float[1, Q, h, w]``."""
        if self._carrying == "motion":
            return self._network.carried(key, picture_13hw)
        if self._carrying == "copy":
            return key.masks_bqhw
        flow_112hw = pixel_flow(picture_13hw[0], key.picture_b3hw[0]).to(self._device)
        return warp(key.masks_bqhw, flow_112hw, consistent=True)


def pixel_flow(current_3hw: Tensor, key_3hw: Tensor) -> Tensor:
    """Optical flow from a frame to its key frame without weights, as `warp` wants it.

    Args:
        current_3hw: ``float[3, H, W]``, RGB in 0 … 255.
        key_3hw: the same of the key frame.

    Returns:
        ``float[1, 1, 2, h, w]``, in pixels of a quarter of the size of pictures padded to multiples of 32.
    """
    bottom, right = (-side % 32 for side in current_3hw.shape[1:])
    greys = []
    for picture_3hw in (current_3hw, key_3hw):
        image = picture_3hw.permute(1, 2, 0).round().clamp(0, 255).byte().cpu().numpy()
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        greys.append(np.pad(np.asarray(grey, np.uint8), ((0, bottom), (0, right)), mode="edge"))
    flow_12hw = torch.from_numpy(dense_flow(greys[0], greys[1])).permute(2, 0, 1)[None]
    return F.avg_pool2d(flow_12hw, _FLOW_STRIDE)[:, None] / _FLOW_STRIDE
