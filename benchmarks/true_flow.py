"""MPVSS with the flow that rendered scenes truly have, instead of one that is learned: what flow can do at best."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Literal, TypeAlias

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskstream.segmenters.label_spaces import shown_categories
from maskstream.synthetic.render import flow_of, nearest_part
from maskstream.synthetic.scene import WORLD, Scene
from maskstream.systems.mpvss import Mpvss
from maskstream.systems.mpvss.network import KeyFrame
from maskstream.systems.mpvss.session import MpvssSession
from maskstream.systems.mpvss.warp import warp
from maskstream.types import Frame

STRIDE = 8
"""Of flow, as of the motion module."""

Whose: TypeAlias = Literal["pixels", "objects"]
"""Whose flow moves masks.

* "pixels": one for all, of what is seen at each pixel.
* "objects": one for each query, of the object that it has on the key frame; where something else is seen, that of the
  object's nearest pixel. No query flow can know more.
"""


class TrueFlowSession(MpvssSession):
    """A video whose masks are carried by true flow.

    Args:
        system: whose core segments key frames; it copies masks.
        scene: that is shown.
        size_hw: of the video.
        whose: see `Whose`.
    """

    def __init__(self, system: Mpvss, scene: Scene, *, size_hw: tuple[int, int], whose: Whose) -> None:
        shown = shown_categories(system.label_space, WORLD)
        super().__init__(system.network, system.pixels, shown=shown, size_hw=size_hw, settings=system.settings)
        self._scene, self._whose = scene, whose
        self._key_index = 0
        height, width = size_hw
        y, x = (np.mgrid[:height, :width] + 0.5) / height
        self._points_xy = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)
        self._parts = lru_cache(2)(self._parts_of)

    def _parts_of(self, index: int) -> NDArray[np.int64]:
        """``int64[H · W]``, what is seen at every pixel."""
        return nearest_part(self._scene, index, self._points_xy)

    def _entities(self, index: int) -> NDArray[np.int64]:
        """``int64[H, W]``; 0 for void."""
        parts = self._parts(index)
        return np.where(parts < 0, 0, self._scene.parts.entity_p[parts]).reshape(self._size_hw)

    def _segmented(self, frame: Frame, picture_13hw: Tensor) -> KeyFrame:
        self._key_index = frame.index
        return super()._segmented(frame, picture_13hw)

    def _carried(self, key: KeyFrame, picture_13hw: Tensor) -> Tensor:
        del picture_13hw
        flow_hw2 = self._flow()
        if self._whose == "pixels":
            return warp(key.masks_bqhw, _small(flow_hw2), consistent=True)
        seen_hw, own_q = self._entities(self._last_index), self._own(key)
        flows = {entity: _small(_extended(flow_hw2, seen_hw == entity)) for entity in np.unique(own_q).tolist()}
        return warp(key.masks_bqhw, torch.cat([flows[entity] for entity in own_q.tolist()], 1), consistent=True)

    def _flow(self) -> NDArray[np.float32]:
        """``float32[H, W, 2]``, from the last frame to its key frame, in pixels."""
        scene, both = self._scene, [self._last_index, self._key_index]
        parts = replace(scene.parts, place_tp23=scene.parts.place_tp23[both], shown_tp=scene.parts.shown_tp[both])
        is_cut = any(self._key_index < cut <= self._last_index for cut in scene.cuts)
        pair = replace(scene, parts=parts, light_t3=scene.light_t3[both], cuts=(1,) if is_cut else ())
        moved = flow_of(pair, 0, self._points_xy, self._parts(self._last_index))
        return (self._size_hw[0] * moved).reshape(*self._size_hw, 2)

    def _own(self, key: KeyFrame) -> NDArray[np.int64]:
        """``int64[Q]``, the entity that each query shows most of."""
        seen_hw = self._entities(self._key_index)
        masks_qhw = F.interpolate(key.masks_bqhw.sigmoid(), self._size_hw, mode="bilinear", align_corners=False)[0]
        entities = np.unique(seen_hw)
        areas_qe = [masks_qhw[:, torch.from_numpy(seen_hw == entity)].sum(1) for entity in entities]
        return np.asarray(entities[torch.stack(areas_qe, 1).argmax(1).numpy()])


def _extended(flow_hw2: NDArray[np.float32], inside_hw: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Flow of the inside, and outside that of its nearest pixel; all as it is where there is no inside."""
    if not inside_hw.any():
        return flow_hw2
    outside = (~inside_hw).astype(np.uint8)
    _, nearest_hw = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    flow_n2 = np.zeros((nearest_hw.max() + 1, 2), np.float32)
    flow_n2[nearest_hw[inside_hw]] = flow_hw2[inside_hw]
    return np.asarray(flow_n2[nearest_hw])


def _small(flow_hw2: NDArray[np.float32]) -> Tensor:
    """``float[1, 1, 2, h, w]``, as `warp` wants it."""
    flow_12hw = torch.from_numpy(flow_hw2).permute(2, 0, 1)[None]
    return F.avg_pool2d(flow_12hw, STRIDE)[:, None] / STRIDE
