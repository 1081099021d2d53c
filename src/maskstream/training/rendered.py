"""Clips of the synthetic world, drawn as they are needed; nothing is read from disk.

    number ─► scene ─► T of its frames ─► a window of the picture, perhaps mirrored ─► draw ─► objects ─► ClipBatch

Scenes are made with numpy and drawn on the device. A window is a change of the poses of the scene's parts, so that only
its pixels are drawn, and outlines are sharp however close it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.synthetic.batched import Clips, batch, draw
from maskstream.synthetic.exact import composed
from maskstream.synthetic.scene import Scene
from maskstream.synthetic.world import LEVELS, Level, make_scene
from maskstream.types import InputError

from .clips import Clip, ClipBatch, pick

_ASPECT = 16 / 9
_LATEST_START = 60
"""Frames of a scene that may pass before a clip begins: things have come and gone by then."""
_PHOTOS_OF_A_SCENE = 16
"""More than a scene has surfaces, and few, because every batch packs them anew."""
_TRIES = 6
MOST_GRAIN = max(rules.noise for rules in LEVELS.values())
"""Standard deviation of the strongest grain of a camera, levels of 255."""


class RenderedClips:
    """Clips of scenes that nobody has seen before: another one for every sample.

    Args:
        level: of the scenes.
        frames: T.
        times: the frames to draw, counted in steps from where the clip begins; None: 0 … T - 1.
        size: side of the picture in pixels.
        objects: that a clip has at most; things that can be seen on its first frame.
        seed: of the run.
        step: every so many-th frame of the scene is taken, so that more moves.
        stuff: whether sky, water and the like are objects, too.
        window: least and greatest side of what is seen, in heights of the scene's picture.
        least_area: what part of the first picture an object covers at least; others are background.
        photos: ``uint8[M, 64, 64, 3]``, tiles of a texture pack to paint with; each scene takes a few.
        device: where to draw.

    Raises:
        InputError: there is no such level, or a number is out of range.
    """

    def __init__(
        self,
        *,
        level: Level,
        frames: int,
        size: int,
        objects: int,
        seed: int,
        step: int = 1,
        stuff: bool = False,
        window: tuple[float, float] = (0.5, 1.0),
        least_area: float = 0.002,
        photos: NDArray[np.uint8] | None = None,
        device: torch.device | str = "cpu",
        times: Sequence[int] | None = None,
    ) -> None:
        if level not in LEVELS:
            raise InputError(f"there is no level {level!r}: choose one of {', '.join(LEVELS)}")
        if min(frames, size, objects, step) < 1:
            raise InputError(
                f"frames, size, objects and step are 1 or more, not {frames}, {size}, {objects} and {step}"
            )
        if not 0 < window[0] <= window[1] <= 1:
            raise InputError(f"a window is more than 0 and at most 1 heights of the picture, not {window}")
        self._level = level
        self._times = np.arange(frames) if times is None else np.asarray(times)
        self._size = size
        self._objects = objects
        self._seed = seed
        self.step = step
        self._stuff = stuff
        self._window = window
        self._least_area = least_area
        self._photos = photos
        self._device = torch.device(device)

    def batch(self, numbers: Sequence[int], *, progress: float = 0.0) -> ClipBatch:
        """Make samples, on the device.

        On a CPU each is drawn alone and does not depend on those beside it, to the last bit. On a GPU all are drawn at
        once, and a level may differ by 1.

        Args:
            numbers: of the samples, from 0 over the whole run.
            progress: how much of the run is done; changes nothing here.
        """
        del progress
        chances = [np.random.default_rng([self._seed, number]) for number in numbers]
        at_once = 1 if self._device.type == "cpu" else len(chances)
        drawn = [self._draw(chances[first : first + at_once]) for first in range(0, len(chances), at_once)]
        return ClipBatch(
            torch.cat([frames for frames, _ in drawn]),
            torch.cat([labels for _, labels in drawn]),
            torch.tensor(numbers, device=self._device),
        )

    def clip(self, number: int, *, progress: float, rng: np.random.Generator) -> Clip:
        """Make one sample, as a source of a mixture."""
        del progress
        frames_1t3hw, labels_1thw = self._draw([rng])
        return Clip(
            frames_1t3hw[0].permute(0, 2, 3, 1).contiguous().cpu().numpy(), labels_1thw[0].int().cpu().numpy(), number
        )

    def drawn(self, rng: np.random.Generator, *, motion: bool = True) -> Clips:
        """Draw one sample, with its flow if wanted, without grain, and without choosing objects."""
        return self.drawn_scene(rng, motion=motion)[0]

    def drawn_scene(self, rng: np.random.Generator, *, motion: bool = True) -> tuple[Clips, Scene]:
        """The same, and what was drawn."""
        scene = self._scene(rng)
        return draw(batch([scene]).to(self._device), (self._size, self._size), noise=False, motion=motion), scene

    def _draw(self, chances: Sequence[np.random.Generator]) -> tuple[Tensor, Tensor]:
        """Frames and labels as in `ClipBatch`; a clip without an object on its first frame is tried again."""
        frames, labels = self._attempt(chances)
        for _ in range(_TRIES - 1):
            empty = (~labels[:, 0].flatten(1).any(1)).nonzero()[:, 0]
            if not len(empty):
                break
            frames[empty], labels[empty] = self._attempt([chances[n] for n in empty.tolist()])
        return frames, labels

    def _attempt(self, chances: Sequence[np.random.Generator]) -> tuple[Tensor, Tensor]:
        scenes = [self._scene(rng) for rng in chances]
        clips = draw(batch(scenes).to(self._device), (self._size, self._size), noise=False, motion=False)
        frames = [
            grainy(frames_t3hw, scene.noise, int(rng.integers(2**63)))
            for frames_t3hw, scene, rng in zip(clips.frames_bt3hw, scenes, chances, strict=True)
        ]
        return torch.stack(frames), self._labels(clips, chances)

    def _scene(self, rng: np.random.Generator) -> Scene:
        """Some frames of a new scene, as a window shows them."""
        photos = self._photos
        if photos is not None and len(photos) > _PHOTOS_OF_A_SCENE:
            photos = photos[rng.choice(len(photos), _PHOTOS_OF_A_SCENE, replace=False)]
        start, seed = int(rng.integers(_LATEST_START + 1)), int(rng.integers(2**63))
        times = start + self.step * self._times
        scene = make_scene(level=self._level, seed=seed, frames=int(times.max()) + 1, aspect=_ASPECT, photos=photos)
        if rng.random() < 0.5:
            times = times.min() + times.max() - times  # backwards
        view = _look(scene, int(times[0]), self._window, rng)
        parts = replace(
            scene.parts,
            place_tp23=composed(view, scene.parts.place_tp23[times].astype(np.float64)).astype(np.float32),
            shown_tp=scene.parts.shown_tp[times],
        )
        return replace(scene, parts=parts, light_t3=scene.light_t3[times], cuts=())

    def _labels(self, clips: Clips, chances: Sequence[np.random.Generator]) -> Tensor:
        """``int64[B, T, H, W]``, 1…n on the objects that chance chooses."""
        first = clips.entity_bthw[:, 0].flatten(1)
        area_be = torch.zeros_like(clips.category_be).scatter_add_(1, first, torch.ones_like(first))
        is_object_be = (clips.category_be > 0) if self._stuff else clips.is_thing_be
        is_object_be = is_object_be & (area_be >= max(1, self._least_area * self._size**2))
        number_be = torch.zeros_like(area_be)
        for row, (is_object_e, rng) in enumerate(zip(is_object_be.cpu().numpy(), chances, strict=True)):
            chosen = pick(np.flatnonzero(is_object_e), self._objects, rng)
            number_be[row, torch.from_numpy(chosen)] = torch.arange(1, 1 + len(chosen), device=number_be.device)
        return number_be.gather(1, clips.entity_bthw.flatten(1)).view_as(clips.entity_bthw)


def _look(scene: Scene, index: int, window: tuple[float, float], rng: np.random.Generator) -> NDArray[np.float64]:
    """From the picture to a square window in it, ``float64[2, 3]``; the middle of a thing is seen on frame ``index``.

    Half of the windows are mirrored.
    """
    side = math.exp(rng.uniform(math.log(window[0]), math.log(window[1])))
    middles = _middles_of_things(scene, index)
    x, y = middles[int(rng.integers(len(middles)))] if middles else (_ASPECT / 2, 0.5)
    left = rng.uniform(max(0.0, x - side), min(_ASPECT - side, x))
    top = rng.uniform(max(0.0, y - side), min(1.0 - side, y))
    across = -1 if rng.random() < 0.5 else 1
    middle = left + side / 2
    return np.array([[across / side, 0, 0.5 - across * middle / side], [0, 1 / side, -top / side]])


def _middles_of_things(scene: Scene, index: int) -> list[tuple[float, float]]:
    """Of those in the picture on a frame; heights of the picture."""
    parts, found = scene.parts, []
    for entity in scene.entities:
        own = parts.shown_tp[index] & (parts.entity_p == entity.id)
        if entity.is_thing and own.any():
            x, y = parts.place_tp23[index, own, :, 2].mean(axis=0).tolist()
            if 0 < x < _ASPECT and 0 < y < 1:
                found.append((x, y))
    return found


def grainy(frames_t3hw: Tensor, noise: int, seed: int) -> Tensor:
    """Frames with the grain of the camera, ``uint8[T, 3, H, W]``; grey, with ``noise`` levels of deviation."""
    frames, _, height, width = frames_t3hw.shape
    generator = torch.Generator(frames_t3hw.device).manual_seed(seed)
    grain = torch.rand(frames, 1, height, width, generator=generator, device=frames_t3hw.device)
    grain = grain.sub_(0.5).mul_(12**0.5 * noise)
    return (frames_t3hw + grain).round_().clamp_(0, 255).to(torch.uint8)
