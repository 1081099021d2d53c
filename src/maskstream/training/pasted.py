"""Clips of cut-outs that move and bend over other pictures, drawn as they are needed.

    number ─► chance ─► T frames of moving cut-outs, drawn on the CPU ─► Clip

Textures and outlines are those of real pictures, which rendered scenes have not.
"""

from __future__ import annotations

import numpy as np

from maskstream.synthetic.cutouts import Cutouts, draw_cutouts
from maskstream.types import InputError

from .augmentation import STRONG_JITTER
from .clips import Clip
from .rendered import grainy

_TRIES = 6
MOST_NOISE = 8
"""Levels of deviation of the grain of the camera."""


class PastedClips:
    """Clips that nobody has seen before, of the same cut-outs: a `Source`.

    Args:
        cutouts: objects and backgrounds.
        frames: T.
        size: side of the picture in pixels.
        steps: fewest and most frames of the motion between two that are drawn.
        objects: fewest and most.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(
        self,
        cutouts: Cutouts,
        *,
        frames: int,
        size: int,
        steps: tuple[int, int] = (1, 5),
        objects: tuple[int, int] = (1, 4),
    ) -> None:
        if min(frames, size) < 1 or not 1 <= steps[0] <= steps[1]:
            raise InputError(f"frames, size and steps are 1 or more, not {frames}, {size} and {steps}")
        self._cutouts = cutouts
        self._frames = frames
        self._size = size
        self._steps = steps
        self._objects = objects

    def clip(self, number: int, *, progress: float, rng: np.random.Generator) -> Clip:
        """Draw a clip. After six without an object on their first frame, the last one is taken as it is."""
        del progress
        for _ in range(_TRIES):
            clip = self._draw(number, rng)
            if clip.labels_thw[0].any():
                break
        return clip

    def _draw(self, number: int, rng: np.random.Generator) -> Clip:
        drawn = draw_cutouts(
            self._cutouts,
            1,
            (self._size, self._size),
            frames=self._frames,
            seed=int(rng.integers(2**63)),
            objects=self._objects,
            step=int(rng.integers(self._steps[0], self._steps[1] + 1)),
            motion=False,
        )
        order = slice(None, None, -1 if rng.random() < 0.5 else 1)
        frames_t3hw = grainy(drawn.frames_bt3hw[0], int(rng.integers(MOST_NOISE + 1)), int(rng.integers(2**63)))
        frames_thw3 = frames_t3hw.permute(0, 2, 3, 1).numpy()[order]
        labels_thw = drawn.entity_bthw[0].int().numpy()[order]
        clip = Clip(np.ascontiguousarray(frames_thw3), np.ascontiguousarray(labels_thw), number)
        return STRONG_JITTER(clip, rng)
