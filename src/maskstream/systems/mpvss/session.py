"""MPVSS on a video: key frames are segmented, the masks of the last one are carried to the others (specification §4).

frame ─► key frame? ─┬─ yes ─► Mask2Former ─► kept ───────────────┐
                     └─ no ──► flow ─► masks of the key frame ────┴─► classes of pixels

What the paper compares with: masks that stay; optical flow in one direction and in both (supplementary material, E);
features that are carried, and decoded anew, as in DFF (Zhu et al., CVPR 2017), and mended, as in Accel (Jain et al.,
CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskstream.mask2former.network import STRIDE
from maskstream.mask2former.postprocess import class_values, surest_class
from maskstream.optical_flow import dense_flow
from maskstream.pretrained import Pixels
from maskstream.prompt_queue import refuse_prompts
from maskstream.regions import ClassRegions
from maskstream.scene_cuts import change, small
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
from .network import KeyFrame, Maps, MpvssNetwork
from .warp import warp

Carrying: TypeAlias = Literal["motion", "flow", "copy", "bidirectional", "dff", "accel"]
"""How masks get to frames between key frames.

* By the "motion" module (the method), or by optical "flow", the same for all and found without weights (DIS); or they
  stay where they are ("copy").
* "bidirectional": from the key frames before and after, by the motion module where there is one, else by optical flow;
  results leave when the next key frame is there.
* "dff": not masks, but features of the backbone, by the motion module where it has one flow for all, else by optical
  flow; pixel decoder and queries work on every frame. "accel": these features, mended with those of the frame itself at
  half the size where flow does not explain it.
"""

_FLOW_STRIDE = 4
"""Of what is kept of optical flow, as of masks."""

_UNEXPLAINED = 32.0
"""Levels of 255 by which a frame differs from its key frame after flow, from where on nothing is left of the latter."""


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
    """The state of one video. Nothing is held back, unless masks come from both sides.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        shown: what each of its classes is called in results; others are not shown.
        size_hw: of the video.
        settings: see there.

    Raises:
        InputError: motion is asked of a network that has no motion module.
    """

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
        self.latency = settings.keys.interval - 1 if self._carrying == "bidirectional" else 0
        self._device = next(network.parameters()).device
        self._settings = settings
        self._policy = KeyPolicy(settings.keys)
        self._regions = ClassRegions(shown)
        self._last_index = -1
        self._key: KeyFrame | None = None
        self._maps: Maps = ()
        self._waiting: list[tuple[int, Tensor]] = []

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Nothing can be pointed at.

        Raises:
            InputError: something is.
        """
        refuse_prompts(prompts, "MPVSS")

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
        if not self._policy.is_key(frame.image, forced=force_key):
            assert self._key is not None
            if self._carrying == "bidirectional":
                self._waiting.append((frame.index, picture_13hw))
                return []
            here = self._here(frame, self._key, picture_13hw)
            return [self._result(frame.index, self._values(*here))]
        before, self._key = self._key, self._segmented(frame, picture_13hw)
        results = self._from_both_sides(before, self._key) if before is not None else []
        return [*results, self._result(frame.index, self._values(self._key.classes_bqc, self._key.masks_bqhw))]

    @torch.no_grad()
    def finish(self) -> Iterator[FrameSegmentation]:
        """What waits for a key frame that does not come any more is carried from the last one."""
        waiting, self._waiting = self._waiting, []
        for index, picture_13hw in waiting:
            assert self._key is not None
            yield self._result(index, self._values(self._key.classes_bqc, self._carried(self._key, picture_13hw)))

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
            "maps": list(self._maps),
            "waiting": [list(one) for one in self._waiting],
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._last_index = state["last_index"]
        self._policy.load_state_dict(state["policy"])
        self._regions.load_state_dict(state["regions"])
        self._key = state["key"] and KeyFrame(*(tensor.to(self._device) for tensor in state["key"]))
        self._maps = tuple(map_bchw.to(self._device) for map_bchw in state["maps"])
        self._waiting = [(index, picture_13hw.to(self._device)) for index, picture_13hw in state["waiting"]]

    def _picture(self, frame: Frame) -> Tensor:
        """``float[1, 3, H, W]``, RGB in 0 … 255, as large as the network sees it, without padding."""
        picture = torch.from_numpy(frame.image).permute(2, 0, 1)[None]
        size_hw = self._pixels.resized_hw(self._size_hw)
        if tuple(picture.shape[2:]) != size_hw:
            picture = F.interpolate(picture, size_hw, mode="bilinear", align_corners=False, antialias=True)
        return picture.float().to(self._device)

    def _segmented(self, frame: Frame, picture_13hw: Tensor) -> KeyFrame:
        """A key frame; what is carried of it besides masks is kept."""
        pixels_13hw = self._pixels([frame]).to(self._device)
        if self._carrying not in ("dff", "accel"):
            return self._network.key_frame(pixels_13hw, picture_13hw)
        self._maps = self._network.maps(pixels_13hw)
        return self._network.answered(self._maps, picture_13hw)

    def _here(self, frame: Frame, key: KeyFrame, picture_13hw: Tensor) -> tuple[Tensor, Tensor]:
        """Classes and masks of a frame that is no key frame, logits."""
        if self._carrying not in ("dff", "accel"):
            return key.classes_bqc, self._carried(key, picture_13hw)
        found = self._network.answered(self._maps_here(frame, key, picture_13hw), picture_13hw)
        return found.classes_bqc, found.masks_bqhw

    def _carried(self, key: KeyFrame, picture_13hw: Tensor) -> Tensor:
        """The masks of a key frame here, ``float[1, Q, h, w]``."""
        if self._carrying == "copy":
            return key.masks_bqhw
        if self._carrying != "flow" and self._network.motion is not None:
            return self._network.carried(key, picture_13hw)
        flow_112hw = pixel_flow(picture_13hw[0], key.picture_b3hw[0]).to(self._device)
        return warp(key.masks_bqhw, flow_112hw, consistent=True)

    def _maps_here(self, frame: Frame, key: KeyFrame, picture_13hw: Tensor) -> Maps:
        """The maps of the key frame here, perhaps mended with those of the frame itself."""
        network, exact = self._network, True
        if network.shares_flow:
            assert network.motion is not None
            flow_112hw, exact = network.shared_flow(key, picture_13hw), network.motion.config.consistent
        else:
            flow_112hw = pixel_flow(picture_13hw[0], key.picture_b3hw[0]).to(self._device)
        maps = tuple(warp(map_bchw, flow_112hw, consistent=exact) for map_bchw in self._maps)
        if self._carrying == "dff":
            return maps
        unlike_11hw = unexplained(picture_13hw, key.picture_b3hw, flow_112hw)
        return network.corrected(maps, unlike_11hw, self._pixels([frame]).to(self._device))

    def _from_both_sides(self, before: KeyFrame, after: KeyFrame) -> list[FrameSegmentation]:
        """Frames that waited between two key frames: the nearer one counts more, and none that shows something else."""
        waiting, self._waiting = self._waiting, []
        results = []
        for n, (index, picture_13hw) in enumerate(waiting, start=1):
            share = n / (len(waiting) + 1)
            shares = [(1 - share, before), (share, after)]
            akin = [one for one in shares if self._akin(one[1], picture_13hw)] or shares
            values_khw = sum(
                share * self._values(key.classes_bqc, self._carried(key, picture_13hw)) for share, key in akin
            )
            assert isinstance(values_khw, Tensor)
            results.append(self._result(index, values_khw))
        return results

    def _akin(self, key: KeyFrame, picture_13hw: Tensor) -> bool:
        """Whether optical flow explains a frame from a key frame; across a cut it does not."""
        key_hw, here_hw = (small(_image(one[0])) for one in (key.picture_b3hw, picture_13hw))
        return change(key_hw, here_hw)[0] <= self._settings.keys.error

    def _values(self, classes_1qc: Tensor, masks_1qhw: Tensor) -> Tensor:
        """``float[K, H, W]``, of the classes that are shown, as large as the network sees the picture."""
        height, width = self._pixels.resized_hw(self._size_hw)
        padded_hw = (4 * masks_1qhw.shape[2], 4 * masks_1qhw.shape[3])
        shown = self._regions.classes
        return class_values(classes_1qc[0], masks_1qhw[0], padded_hw, wanted=shown)[:, :height, :width]

    def _result(self, index: int, values_khw: Tensor) -> FrameSegmentation:
        labels_hw, _ = surest_class(values_khw, self._size_hw)
        return self._regions.result(index, labels_hw)


def unexplained(picture_b3hw: Tensor, key_b3hw: Tensor, flow_b12hw: Tensor) -> Tensor:
    """``float[B, 1, H, W]``, 0 where a key frame that flow has moved is as the frame … 1 where it is quite another.

    Args:
        picture_b3hw: ``float[B, 3, H, W]``, RGB in 0 … 255.
        key_b3hw: the same of the key frame.
        flow_b12hw: ``float[B, 1, 2, h, w]``, from the frame to the key frame, of padded pictures.
    """
    padded = [F.pad(one, (0, -one.shape[3] % STRIDE, 0, -one.shape[2] % STRIDE)) for one in (picture_b3hw, key_b3hw)]
    moved_b3hw = warp(padded[1], flow_b12hw, consistent=True)
    return ((moved_b3hw - padded[0]).abs().mean(1, keepdim=True) / _UNEXPLAINED).clamp(max=1)


def pixel_flow(current_3hw: Tensor, key_3hw: Tensor) -> Tensor:
    """Optical flow from a frame to its key frame without weights, as `warp` wants it.

    Args:
        current_3hw: ``float[3, H, W]``, RGB in 0 … 255.
        key_3hw: the same of the key frame.

    Returns:
        ``float[1, 1, 2, h, w]``, in pixels of a quarter of the size of pictures padded to multiples of 32.
    """
    bottom, right = (-side % STRIDE for side in current_3hw.shape[1:])
    greys = []
    for picture_3hw in (current_3hw, key_3hw):
        grey = cv2.cvtColor(_image(picture_3hw), cv2.COLOR_RGB2GRAY)
        greys.append(np.pad(np.asarray(grey, np.uint8), ((0, bottom), (0, right)), mode="edge"))
    flow_12hw = torch.from_numpy(dense_flow(greys[0], greys[1])).permute(2, 0, 1)[None]
    return F.avg_pool2d(flow_12hw, _FLOW_STRIDE)[:, None] / _FLOW_STRIDE


def _image(picture_3hw: Tensor) -> NDArray[np.uint8]:
    """``uint8[H, W, 3]``."""
    return np.ascontiguousarray(picture_3hw.permute(1, 2, 0).round().clamp(0, 255).byte().cpu().numpy())
