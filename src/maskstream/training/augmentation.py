"""Augmentation of clips: what is done alike to all frames, and what to each frame for itself.

    Stable          flip, turn, crop, colour: once per clip, so that the camera's and the objects' motion stays true
    Aggressive      crop once per clip, then turn every frame for itself (XMem)
    Static          copies of one image become a video: every frame scaled, turned, cropped and bent for itself
    LargeScaleJitter, CopyPaste, ColourJitter

Each takes a clip and a generator and gives a clip; the same generator state gives the same bytes. Every frame is
sampled once, however many warps the publication chains (``warps``); masks at the same places, the nearest pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.training.clips import Clip
from maskstream.training.warps import (
    TENT,
    Box,
    Picture,
    Warp,
    affine,
    mirrored,
    random_box,
    resized_crop,
    scaled,
    shifted,
    thin_plate,
)

Recolour = Callable[[Picture], Picture]


@dataclass(frozen=True, slots=True)
class ColourJitter:
    """Change brightness, contrast, saturation and hue a little, in random order (torchvision's ``ColorJitter``).

    Attributes:
        brightness: the factor is even in ``[max(0, 1 - brightness), 1 + brightness]``; so for the next two.
        contrast: about the mean grey of a frame, so that copies stay copies.
        saturation: about every pixel's grey.
        hue: turned by at most this fraction of the circle.
        grey: probability that all colour goes, at the end.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """Change all frames alike."""
        recolour = self.draw(rng)
        return replace(clip, frames_thw3=np.stack([recolour(frame) for frame in clip.frames_thw3]))

    def draw(self, rng: np.random.Generator) -> Recolour:
        """Choose one change, to apply to as many pictures as wanted."""
        order = rng.permutation(4)
        brightness, contrast, saturation = (
            rng.uniform(max(0.0, 1 - most), 1 + most) for most in (self.brightness, self.contrast, self.saturation)
        )
        changes: list[Recolour] = [
            partial(_brighten, factor=brightness),
            partial(_contrast, factor=contrast),
            partial(_saturate, factor=saturation),
            partial(_turn_hue, turn=rng.uniform(-self.hue, self.hue)),
        ]
        wanted = [amount > 0 for amount in (self.brightness, self.contrast, self.saturation, self.hue)]
        chosen = [changes[n] for n in order if wanted[n]]
        if rng.random() < self.grey:
            chosen.append(_grey)
        return partial(_each_in_turn, changes=chosen)


STRONG_JITTER = ColourJitter(brightness=0.3, contrast=0.3, saturation=0.4, hue=0.1, grey=0.05)
"""For pictures that are made up of few."""


@dataclass(frozen=True, slots=True)
class Stable:
    """DEVA's augmentation of videos: one change for all frames of a clip (specification §15).

    The publication samples bilinearly twice: to turn, then to cut and resize. Here the two are one, and the softness of
    the other is put back.

    Attributes:
        size: side of the result.
        degrees: most rotation, either way.
        shear: most degrees along x, either way.
        area: of the crop, as a fraction of the frame.
        colour: drawn once per clip.
        colour_again: meant by the authors for every frame apart. But their generator starts again from the clip's seed
            before it, so it is alike for all frames and repeats the draws of ``colour`` in its own range.
    """

    size: int = 384
    degrees: float = 25.0
    shear: float = 20.0
    area: tuple[float, float] = (0.16, 2.0)
    colour: ColourJitter = ColourJitter(brightness=0.1, contrast=0.03, saturation=0.03, grey=0.05)
    colour_again: ColourJitter = ColourJitter(brightness=0.1, contrast=0.05, saturation=0.05)

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """Cut, turn and recolour all frames alike, to ``size`` × ``size``."""
        size_hw = _size_hw(clip)
        is_mirrored = rng.random() < 0.5
        matrix = mirrored(size_hw[1]) if is_mirrored else np.eye(3)
        matrix = affine(size_hw, degrees=_either(self.degrees, rng), shear=_either(self.shear, rng)) @ matrix
        matrix = resized_crop(random_box(size_hw, area=self.area, rng=rng), self.size) @ matrix
        warp = Warp.of(matrix, (self.size, self.size))
        draws = int(rng.integers(2**63))
        once, again = (jitter.draw(np.random.default_rng(draws)) for jitter in (self.colour, self.colour_again))
        frames = [again(once(warp.picture(frame, softness=TENT))) for frame in clip.frames_thw3]
        return _clip(clip, frames, [warp.labels(labels) for labels in clip.labels_thw], is_mirrored)


@dataclass(frozen=True, slots=True)
class Aggressive:
    """XMem's augmentation of videos: one crop per clip, and every frame of it turned for itself.

    Attributes:
        size: side of the result.
        degrees: most rotation of a frame, either way.
        shear: most degrees of a frame along x, either way.
        area: of the crop, as a fraction of the frame.
        colour: drawn once per clip.
        frame_colour: drawn for every frame.
    """

    size: int = 384
    degrees: float = 15.0
    shear: float = 10.0
    area: tuple[float, float] = (0.36, 1.0)
    colour: ColourJitter = ColourJitter(brightness=0.1, contrast=0.03, saturation=0.03, grey=0.05)
    frame_colour: ColourJitter = ColourJitter(brightness=0.01, contrast=0.01, saturation=0.01)

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """Cut all frames alike to ``size`` × ``size``, then turn each."""
        box = random_box(_size_hw(clip), area=self.area, rng=rng)
        crop = resized_crop(Box(0, 0, box.height, box.width), self.size)
        is_mirrored = rng.random() < 0.5
        if is_mirrored:
            crop = crop @ mirrored(box.width)
        recolour = self.colour.draw(rng)
        frames, labels = [], []
        for frame, ids in zip(clip.frames_thw3, clip.labels_thw, strict=True):
            turn = affine((self.size, self.size), degrees=_either(self.degrees, rng), shear=_either(self.shear, rng))
            warp = Warp.of(turn @ crop, (self.size, self.size))
            recolour_frame = self.frame_colour.draw(rng)
            # The window alone is sampled: what a turn brings in from outside the crop is blank, as published.
            frames.append(recolour_frame(recolour(warp.picture(frame[box.window], softness=TENT))))
            labels.append(warp.labels(ids[box.window]))
        return _clip(clip, frames, labels, is_mirrored)


@dataclass(frozen=True, slots=True)
class Static:
    """Make a video of copies of one image (specification §15): every frame is moved, cut and bent for itself.

    Attributes:
        size: side of the result.
        clip_scale: scale of the image on its canvas, drawn once per clip, with a flip.
        degrees: most rotation of a frame, either way.
        scale: of a frame.
        shear: most degrees of a frame along x, either way.
        colour: drawn once per clip.
        frame_colour: drawn for every frame.
        bent: probability that a frame is bent by a thin-plate spline.
        bend: standard deviation of its control points' displacement, as a fraction of ``size``.
        control_points: their number.
    """

    size: int = 384
    clip_scale: tuple[float, float] = (0.5, 2.0)
    degrees: float = 20.0
    scale: tuple[float, float] = (0.5, 2.0)
    shear: float = 10.0
    colour: ColourJitter = ColourJitter(brightness=0.1, contrast=0.05, saturation=0.05, hue=0.05, grey=0.05)
    frame_colour: ColourJitter = ColourJitter(brightness=0.1, contrast=0.05, saturation=0.05)
    bent: float = 0.33
    bend: float = 0.02
    control_points: int = 12

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """Scale all frames alike, then move each; ``size`` × ``size``."""
        height, width = _size_hw(clip)
        scale = rng.uniform(*self.clip_scale)
        seen = _visible((height, width), scale)
        matrix = affine((height, width), scale=scale) @ shifted(seen.left, seen.top)
        is_mirrored = rng.random() < 0.5
        if is_mirrored:
            matrix = mirrored(width) @ matrix
        recolour = self.colour.draw(rng)
        frames, labels = [], []
        for frame, ids in zip(clip.frames_thw3, clip.labels_thw, strict=True):
            warp = self._frame_warp(matrix, (height, width), rng)
            recolour_frame = self.frame_colour.draw(rng)
            frames.append(recolour_frame(recolour(warp.picture(frame[seen.window], cubic=True))))
            labels.append(warp.labels(ids[seen.window]))
        return _clip(clip, frames, labels, is_mirrored)

    def _frame_warp(self, matrix: NDArray[np.float64], size_hw: tuple[int, int], rng: np.random.Generator) -> Warp:
        """Turn, make the short side ``size``, cut a square out of the long one, and perhaps bend."""
        turn = affine(
            size_hw, degrees=_either(self.degrees, rng), scale=rng.uniform(*self.scale), shear=_either(self.shear, rng)
        )
        short = min(size_hw)
        ratio = self.size / short
        down, across = (int(rng.integers(self.size * side // short - self.size + 1)) for side in size_hw)
        bend = self._bend(rng) if rng.random() < self.bent else None
        matrix = shifted(-across, -down) @ scaled(ratio, ratio) @ turn @ matrix
        return Warp.of(matrix, (self.size, self.size), bend_2hw=bend)

    def _bend(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Move random points, no two of them in one column or row."""
        columns, rows = (rng.choice(self.size, self.control_points, replace=False) for _ in range(2))
        points = np.stack([columns, rows], axis=1) / self.size
        return thin_plate(points, points + rng.normal(scale=self.bend, size=points.shape), self.size)


@dataclass(frozen=True, slots=True)
class LargeScaleJitter:
    """Scale all frames alike by much, and cut or pad them to a square (Ghiasi et al., Copy-Paste, CVPR 2021).

    Attributes:
        size: side of the result.
        scale: 1 makes the long side of a frame ``size``.
        colour: drawn once per clip.
    """

    size: int = 384
    scale: tuple[float, float] = (0.1, 2.0)
    colour: ColourJitter = ColourJitter()

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """Flip, scale and place all frames alike, to ``size`` × ``size``."""
        height, width = _size_hw(clip)
        ratio = rng.uniform(*self.scale) * self.size / max(height, width)
        matrix = scaled(ratio, ratio)
        is_mirrored = rng.random() < 0.5
        if is_mirrored:
            matrix = matrix @ mirrored(width)
        spare = [self.size - round(ratio * side) for side in (width, height)]
        right, down = (int(rng.integers(min(room, 0), max(room, 0) + 1)) for room in spare)
        warp = Warp.of(shifted(right, down) @ matrix, (self.size, self.size))
        recolour = self.colour.draw(rng)
        frames = [recolour(warp.picture(frame)) for frame in clip.frames_thw3]
        return _clip(clip, frames, [warp.labels(labels) for labels in clip.labels_thw], is_mirrored)


@dataclass(frozen=True, slots=True)
class CopyPaste:
    """Paste objects of another clip over a clip, moving in a straight line (after Ghiasi et al., CVPR 2021).

    Attributes:
        most: objects to paste, of those in the other clip's first frame; chance chooses how many (1 or more) and which.
        scale: of the pasted clip; 1 is the largest at which it fits whole.
        reach: how far from the centre the pasted clip may begin and end, as a fraction of the sides.
    """

    most: int = 3
    scale: tuple[float, float] = (0.5, 1.5)
    reach: float = 0.25

    def __call__(self, clip: Clip, rng: np.random.Generator, *, other: Clip) -> Clip:
        """Paste over frames and labels.

        Args:
            clip: T frames.
            rng: chance.
            other: T frames of any size.

        Returns:
            The clip's size. Pasted objects have ids above all of the clip's, in the order of their own.

        Raises:
            ValueError: the clips have different numbers of frames.
        """
        length = len(clip.frames_thw3)
        if len(other.frames_thw3) != length:
            raise ValueError(f"a clip of {len(other.frames_thw3)} frames to paste over one of {length}")
        objects = np.unique(other.labels_thw[0])
        objects = objects[objects != 0]
        number = 1 + rng.integers(max(1, min(self.most, len(objects))))
        chosen = np.sort(rng.permutation(objects)[:number])  # none if the other clip begins with none
        above = int(clip.labels_thw.max()) + 1
        frames, labels = clip.frames_thw3.copy(), clip.labels_thw.copy()
        for t, matrix in enumerate(self._path(_size_hw(clip), _size_hw(other), length, rng)):
            warp = Warp.of(matrix, _size_hw(clip))
            ids = warp.labels(other.labels_thw[t])
            pasted = np.isin(ids, chosen)
            frames[t][pasted] = warp.picture(other.frames_thw3[t])[pasted]
            labels[t][pasted] = above + np.searchsorted(chosen, ids[pasted])
        return replace(clip, frames_thw3=frames, labels_thw=labels)

    def _path(
        self, size_hw: tuple[int, int], other_hw: tuple[int, int], length: int, rng: np.random.Generator
    ) -> list[NDArray[np.float64]]:
        """Where the other clip lies in each frame."""
        (height, width), (other_height, other_width) = size_hw, other_hw
        ratio = rng.uniform(*self.scale) * min(height / other_height, width / other_width)
        matrix = scaled(ratio, ratio) @ shifted(-other_width / 2, -other_height / 2)
        if rng.random() < 0.5:
            matrix = matrix @ mirrored(other_width)
        begin, end = rng.uniform(0.5 - self.reach, 0.5 + self.reach, (2, 2)) * (width, height)
        return [shifted(*middle) @ matrix for middle in np.linspace(begin, end, length)]


def _size_hw(clip: Clip) -> tuple[int, int]:
    _, height, width = clip.labels_thw.shape
    return height, width


def _either(most: float, rng: np.random.Generator) -> float:
    return float(rng.uniform(-most, most))


def _clip(clip: Clip, frames: list[Picture], labels: list[NDArray[np.int32]], is_mirrored: bool) -> Clip:
    return replace(clip, frames_thw3=np.stack(frames), labels_thw=np.stack(labels), is_mirrored=is_mirrored)


def _visible(size_hw: tuple[int, int], scale: float) -> Box:
    """What a canvas of the picture's own size still shows of it, scaled about its centre."""
    height, width = (round(side / max(scale, 1.0)) for side in size_hw)
    return Box((size_hw[0] - height) // 2, (size_hw[1] - width) // 2, height, width)


def _each_in_turn(picture: Picture, changes: Sequence[Recolour]) -> Picture:
    for change in changes:
        picture = change(picture)
    return picture


def _brighten(picture: Picture, factor: float) -> Picture:
    return _through(picture, np.arange(256) * factor)


def _contrast(picture: Picture, factor: float) -> Picture:
    mean = float(np.mean(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)))
    return _through(picture, mean + (np.arange(256) - mean) * factor)


def _through(picture: Picture, levels: NDArray[np.floating]) -> Picture:
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(picture, table), dtype=np.uint8)


def _saturate(picture: Picture, factor: float) -> Picture:
    return np.asarray(cv2.addWeighted(picture, factor, _grey(picture), 1 - factor, 0), dtype=np.uint8)


def _turn_hue(picture: Picture, turn: float) -> Picture:
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(turn * 256) % 256)  # a byte wraps where the circle does
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), dtype=np.uint8)


def _grey(picture: Picture) -> Picture:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
