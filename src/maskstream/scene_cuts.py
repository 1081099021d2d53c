"""Where one scene ends and another begins: how unlike two pictures are once optical flow has explained what it can."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.optical_flow import dense_flow
from maskstream.types import Frame

CUT = 18.0
"""Mean difference, of 255, between a frame and the one before it after flow, above which they are of two scenes.

In fourteen filmed clips it is 11 at most within a scene and 35 at least between two; in rendered ones, 9 and 22.
"""

_SIDE = 96
"""Long side, in pixels, at which pictures are compared: enough to tell, and nearly free."""


def find_cuts(frames: Iterable[Frame]) -> Iterator[int]:
    """Yield ``Frame.index`` of every frame that begins a new scene, the first frame aside.

    A hard cut is found, a slow cross-fade is not; a flash that fills the picture begins a scene, and its end another.
    """
    before_hw: NDArray[np.uint8] | None = None
    for frame in frames:
        here_hw = small(frame.image)
        if before_hw is not None and change(before_hw, here_hw)[0] > CUT:
            yield frame.index
        before_hw = here_hw


def small(image_hw3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey picture of 96 pixels' length.

    Args:
        image_hw3: ``uint8[H, W, 3]``, RGB.
    """
    scale = _SIDE / max(image_hw3.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image_hw3.shape[:2])
    grey = cv2.cvtColor(cv2.resize(image_hw3, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, np.uint8)


def change(before_hw: NDArray[np.uint8], here_hw: NDArray[np.uint8]) -> tuple[float, float]:
    """How unlike a picture is an earlier one.

    Args:
        before_hw: of `small`.
        here_hw: of `small`, of the same size.

    Returns:
        Mean difference after flow, in levels of 255; and mean length of the flow, in lengths of the picture.
    """
    flow_hw2 = dense_flow(here_hw, before_hw)
    height, width = here_hw.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(
        before_hw,
        columns + flow_hw2[..., 0],
        rows + flow_hw2[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    error = float(cv2.absdiff(moved, here_hw).mean())
    motion = float(np.linalg.norm(flow_hw2, axis=2).mean()) / max(height, width)
    return error, motion
