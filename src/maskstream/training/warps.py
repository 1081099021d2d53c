"""Geometry of augmentation: one map from a new picture back to its source, and one sampling of it.

    mirror ─► affine ─► crop, resize        3×3 matrices, source → new picture, multiplied
                             │
               inverse (+ thin-plate spline) ─► Warp ─► picture (antialiased), labels (nearest)

Positions are continuous: pixel n covers n … n + 1 and its centre is n + ½. Everything turns and scales about the centre
of the picture, as in torchvision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]  # [3, 3]; acts on columns (x, y, 1)
Picture = NDArray[np.uint8]  # [H, W, 3]

FloatT = TypeVar("FloatT", np.float32, np.float64)
PixelT = TypeVar("PixelT", np.uint8, np.int32)

FILL = (124, 116, 104)  # mean colour of ImageNet: where a picture has nothing to show
TENT = 1 / 6  # variance of a triangle filter of half-width 1: what one bilinear sampling or antialiased resize blurs


class Box(NamedTuple):
    """A part of a picture, in whole pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def shifted(right: float, down: float) -> Matrix:
    """Move by whole or broken pixels."""
    return np.array([[1.0, 0, right], [0, 1, down], [0, 0, 1]])


def scaled(across: float, down: float) -> Matrix:
    """Stretch, with the top left corner at rest."""
    return np.diag([across, down, 1.0])


def mirrored(width: int) -> Matrix:
    """Exchange left and right."""
    return np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]])


def affine(size_hw: tuple[int, int], *, degrees: float = 0.0, scale: float = 1.0, shear: float = 0.0) -> Matrix:
    """Turn, scale and shear about the centre (torchvision's ``RandomAffine`` with a shear of one number: along x).

    Args:
        size_hw: of the picture, which keeps it.
        degrees: clockwise as one sees it.
        scale: of lengths.
        shear: degrees by which the vertical leans.
    """
    turn, lean = math.radians(degrees), math.tan(math.radians(shear))
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    about = shifted(size_hw[1] / 2, size_hw[0] / 2)
    linear = np.array([[cos, -cos * lean - sin, 0], [sin, -sin * lean + cos, 0], [0, 0, 1]])
    return cast("Matrix", about @ linear @ np.linalg.inv(about))


def resized_crop(box: Box, size: int) -> Matrix:
    """Make a part of the picture a square of ``size`` pixels."""
    return scaled(size / box.width, size / box.height) @ shifted(-box.left, -box.top)


def random_box(size_hw: tuple[int, int], *, area: tuple[float, float], rng: np.random.Generator) -> Box:
    """Choose a part of a picture (torchvision's ``RandomResizedCrop``): 10 attempts, then the centre.

    Args:
        size_hw: of the picture.
        area: least and most of the picture's area; above 1 most attempts fail.
        rng: chance.

    Returns:
        A box of an aspect (width : height) from 3:4 to 4:3, even in its logarithm.
    """
    height, width = size_hw
    narrow, wide = 3 / 4, 4 / 3
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(narrow), math.log(wide)))
        h, w = round(math.sqrt(pixels / aspect)), round(math.sqrt(pixels * aspect))
        if 0 < h <= height and 0 < w <= width:
            return Box(int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)
    h, w = min(height, round(width / narrow)), min(width, round(height * wide))
    return Box((height - h) // 2, (width - w) // 2, h, w)


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """Where in its source every pixel of a new picture is.

    Attributes:
        positions_hw2: ``float32[h, w, 2]``, column and row, in OpenCV's count: whole numbers at the centres of pixels.
        reduction_xy: source pixels that one new pixel covers, along the source's rows and columns.
    """

    positions_hw2: NDArray[np.float32]
    reduction_xy: tuple[float, float]

    @classmethod
    def of(cls, matrix: Matrix, size_hw: tuple[int, int], *, bend_2hw: NDArray[np.float32] | None = None) -> Warp:
        """Invert a matrix for every pixel.

        Args:
            matrix: from the source to the new picture.
            size_hw: of the new picture.
            bend_2hw: ``float32[2, h, w]``, across and down: what moves in the new picture before (see ``thin_plate``).
        """
        (xx, xy, x0), (yx, yy, y0), _ = np.linalg.inv(matrix).tolist()
        across, down = np.arange(size_hw[1]) + 0.5, np.arange(size_hw[0])[:, None] + 0.5
        positions = np.empty((*size_hw, 2), dtype=np.float32)
        for axis, (by_x, by_y, start) in enumerate(((xx, xy, x0), (yx, yy, y0))):
            np.add(by_x * across, by_y * down + (start - 0.5), out=positions[..., axis], casting="same_kind")
            if bend_2hw is not None:
                positions[..., axis] += by_x * bend_2hw[0] + by_y * bend_2hw[1]
        return cls(positions, (math.hypot(xx, xy), math.hypot(yx, yy)))

    def picture(self, source_hw3: Picture, *, cubic: bool = False, softness: float = 0.0) -> Picture:
        """Sample a picture once; ``FILL`` outside it.

        A picture that shrinks is blurred first. An antialiased resize weighs the source with a triangle as wide as
        two new pixels, of variance s²/6 at a reduction s; bilinear sampling has 1/6 of that already. So the rest is
        (s² - 1)/6, along rows and columns apart, as much as the warp reduces each. That is one quick separable filter,
        where sampling s² times as densely and averaging costs more and gives a worse likeness of the resize.

        Args:
            source_hw3: ``uint8[H, W, 3]``.
            cubic: rather than bilinear.
            softness: variance of a further blur, in source pixels squared.
        """
        across, down = (max(reduction**2 - 1, 0.0) * TENT + softness for reduction in self.reduction_xy)
        source = np.ascontiguousarray(source_hw3)
        if max(across, down) > 0:
            source = np.asarray(cv2.sepFilter2D(source, -1, _kernel(across), _kernel(down)), dtype=np.uint8)
        how = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
        return _remapped(source, self.positions_hw2, how=how, fill=FILL)

    def labels(self, source_hw: NDArray[np.int32]) -> NDArray[np.int32]:
        """Sample ids where the picture is sampled: the nearest; 0 outside."""
        return _remapped(np.ascontiguousarray(source_hw), self.positions_hw2, how=cv2.INTER_NEAREST, fill=(0,))


def thin_plate(from_p2: NDArray[np.float64], to_p2: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Bend a square so that P points move and the rest follows with the least bending energy (Bookstein 1989).

    The spline is solved exactly: f(x) = a₀ + A x + Σ wₚ U(|x - toₚ|), U = r² log r, with f(toₚ) = fromₚ - toₚ and
    Σ wₚ = Σ wₚ toₚ = 0.

    Args:
        from_p2: ``float64[P, 2]``, column and row, as fractions of the side.
        to_p2: ``float64[P, 2]``, where the points go; at least 3, not in one line.
        size: side in pixels.

    Returns:
        ``float32[2, size, size]``: what to add to a pixel of the bent square to be where its content was, in pixels,
        across and down.
    """
    points = len(to_p2)
    radius_pp = np.square(to_p2[:, None] - to_p2[None]).sum(-1)
    plane_p3 = np.hstack([np.ones((points, 1)), to_p2])
    system = np.block([[_bending(radius_pp), plane_p3], [plane_p3.T, np.zeros((3, 3))]])
    solved = np.linalg.solve(system, np.vstack([from_p2 - to_p2, np.zeros((3, 2))])).astype(np.float32)
    weights_p2, (constant, by_column, by_row) = solved[:points], solved[points:]

    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    bent_2hw = np.empty((2, size, size), dtype=np.float32)
    bent_2hw[:] = (by_column[:, None] * centres + constant[:, None])[:, None] + by_row[:, None, None] * centres[:, None]
    for (column, row), weight in zip(to_p2.astype(np.float32), weights_p2, strict=True):
        bending_hw = _bending(np.square(centres - column) + np.square(centres - row)[:, None])
        bent_2hw += weight[:, None, None] * bending_hw
    bent_2hw *= size
    return bent_2hw


def _bending(squared: NDArray[FloatT]) -> NDArray[FloatT]:
    """U = r² log r of squared distances, 0 at 0."""
    logarithm = np.log(np.maximum(squared, np.finfo(np.float32).tiny))
    return cast("NDArray[FloatT]", squared * logarithm / 2)


def _kernel(variance: float) -> NDArray[np.float64]:
    """A blur of exactly this variance if it is small, where a sampled Gaussian would have far less; else a Gaussian."""
    if variance < 0.5:
        return np.array([variance / 2, 1 - variance, variance / 2])
    deviation = math.sqrt(variance)
    return np.asarray(cv2.getGaussianKernel(2 * math.ceil(3 * deviation) + 1, deviation), dtype=np.float64)


def _remapped(
    source: NDArray[PixelT], positions_hw2: NDArray[np.float32], *, how: int, fill: tuple[int, ...]
) -> NDArray[PixelT]:
    no_second_map = cast("NDArray[np.float32]", None)  # allowed by OpenCV, not by its type stubs
    sampled = cv2.remap(source, positions_hw2, no_second_map, how, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)
    return cast("NDArray[PixelT]", sampled)
