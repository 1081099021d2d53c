"""Which frames are key frames: every so many, or when what is seen has changed too much to be carried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from maskstream.scene_cuts import change, small
from maskstream.types import InputError, StateDict


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """When a frame is a key frame.

    Attributes:
        interval: frames from one key frame to the next; when ``adaptive``, at most so many.
        adaptive: make a frame a key frame earlier when it is unlike the last one.
        error: mean difference, of 255, between a frame and the key frame after optical flow has moved it, above which
            it is. What comes into view, what leaves it, and cuts.
        motion: mean flow, as a part of the picture's long side, above which it is.
    """

    interval: int = 5
    adaptive: bool = False
    error: float = 12.0
    motion: float = 0.06

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise InputError(f"there is a key frame every 1 frame or more, not every {self.interval}")


class KeyPolicy:
    """Decides frame by frame.

    Args:
        settings: see there.
    """

    def __init__(self, settings: KeySettings) -> None:
        self._settings = settings
        self._since = -1
        self._key_hw: NDArray[np.uint8] | None = None

    def is_key(self, image_hw3: NDArray[np.uint8], *, forced: bool = False) -> bool:
        """Whether the next frame of the video is one. The first always is.

        Args:
            image_hw3: ``uint8[H, W, 3]``, RGB.
            forced: somebody wants it to be.
        """
        settings = self._settings
        self._since += 1
        grey_hw = small(image_hw3) if settings.adaptive else None
        due = forced or self._since in (0, settings.interval)
        if not due and grey_hw is not None:
            assert self._key_hw is not None
            error, motion = change(self._key_hw, grey_hw)
            due = error > settings.error or motion > settings.motion
        if due:
            self._since, self._key_hw = 0, grey_hw
        return due

    def state_dict(self) -> StateDict:
        """Everything as plain data."""
        return {"since": self._since, "key": None if self._key_hw is None else torch.from_numpy(self._key_hw)}

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._since = state["since"]
        self._key_hw = None if state["key"] is None else state["key"].numpy()
