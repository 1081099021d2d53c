"""What colours say: outlines lie where colours change, and an object keeps the colours it was shown with.

Outlines: one step of mean-field inference (Krähenbühl & Koltun, NeurIPS 2011) with a bilateral grid (Chen et al.,
SIGGRAPH 2007; for video Märki et al., "Bilateral Space Video Segmentation", CVPR 2016). Pixels are gathered in cells
of lightness, chroma and place, the cells are blurred, and each pixel asks its cell how pixels of its colour nearby are
labelled.

Memory: histograms of the colours of an object, and of what was around it, on the frame it was prompted on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

FloatArray: TypeAlias = NDArray[np.float32]
ByteArray: TypeAlias = NDArray[np.uint8]
IntArray: TypeAlias = NDArray[np.int64]

LIGHTNESS_CELL, CHROMA_CELL = 12, 6
"""Side of a cell of the grid in levels of 8-bit CIELAB: lightness may differ by shading, chroma less."""

PLACE_CELL = 32
"""Side of a cell of the grid in pixels."""

REDUCTION = 2
"""Colours are gathered on a picture so many times smaller."""

CERTAINTY = 0.02
"""Neither flow nor colour is surer than this of a label, so that each can overrule the other."""

MEMORY_WEIGHT = 0.4
"""Weight, as an exponent, of remembered colours beside the colours of the present frame."""

UNSEEN = 1e-3
"""Fraction of pixels below which a colour is as good as never seen."""

_MEMORY_BINS = (8, 32, 32)

COLOURS = _MEMORY_BINS[0] * _MEMORY_BINS[1] * _MEMORY_BINS[2]
"""Colours that are told apart when remembered."""


def sharpen(
    probabilities_chw: FloatArray,
    lab_hwc: ByteArray,
    regions_n: Sequence[tuple[slice, slice] | None],
    colours_n: Sequence[FloatArray],
) -> FloatArray:
    """Move outlines to where colours change.

    Args:
        probabilities_chw: ``float32[1 + N, h, w]``, background first, summing to one.
        lab_hwc: ``uint8[h, w, 3]``, CIELAB.
        regions_n: for each object the part of the picture it may be in.
        colours_n: what each object is remembered to look like, from `remember`.

    Returns:
        ``float32[1 + N, h, w]``, summing to one.
    """
    evidence = np.zeros_like(probabilities_chw)
    for n, region in enumerate(regions_n):
        if region is not None:
            evidence[n + 1][region] = _evidence(probabilities_chw[n + 1][region], lab_hwc[region], colours_n[n])
    evidence[0] = 1 - evidence[1:].sum(axis=0)
    agreed = np.maximum(probabilities_chw, CERTAINTY) * np.maximum(evidence, CERTAINTY)
    for n, region in enumerate(regions_n):
        outside = np.ones(lab_hwc.shape[:2], dtype=bool)
        if region is not None:
            outside[region] = False
        agreed[n + 1][outside] = 0
    agreed /= agreed.sum(axis=0)
    return agreed


def remember(lab_hwc: ByteArray, mask_hw: NDArray[np.bool_], around_hw: NDArray[np.bool_]) -> FloatArray:
    """Colours of an object and of its surroundings.

    Returns:
        ``float32[2, 8192]``: fraction of the object's pixels in each bin of colour, and of the surroundings'.
    """
    bins = _memory_bin(lab_hwc)
    histograms = [
        np.bincount(bins[chosen], minlength=COLOURS) / max(chosen.sum(), 1) for chosen in (mask_hw, around_hw)
    ]
    return np.stack(histograms).astype(np.float32)


def likeness(colours: FloatArray, lab_hwc: ByteArray, mask_hw: NDArray[np.bool_]) -> float:
    """Intersection of the histograms of a region and of a remembered object, in [0, 1]; 0 for an empty region."""
    now = remember(lab_hwc, mask_hw, mask_hw)[0]
    return float(np.minimum(now, colours[0]).sum())


def evidence_of(colours: FloatArray, lab_hwc: ByteArray) -> FloatArray:
    """What remembered colours alone say: 1 if only the object has a pixel's colour, -1 if only its surroundings do.

    Args:
        colours: from `remember`.
        lab_hwc: ``uint8[h, w, 3]``, CIELAB.

    Returns:
        ``float32[h, w]``; 0 for a colour that neither has.
    """
    inside, around = (_smooth(histogram) for histogram in colours)
    table = (inside - around) / (inside + around + 2 * np.float32(UNSEEN))
    return np.asarray(table[_memory_bin(lab_hwc)], dtype=np.float32)


def _evidence(probability_hw: FloatArray, lab_hwc: ByteArray, colours: FloatArray) -> FloatArray:
    """``float32[h, w]``: how probable colour makes one object."""
    height, width = lab_hwc.shape[:2]
    small = (max(width // REDUCTION, 1), max(height // REDUCTION, 1))
    lab = np.asarray(cv2.resize(lab_hwc, small, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    coarse = np.asarray(cv2.resize(probability_hw, small, interpolation=cv2.INTER_AREA), dtype=np.float32)
    near = np.clip(_asked_of_cells(coarse, lab), CERTAINTY, 1 - CERTAINTY)
    inside, around = (_smooth(histogram)[_memory_bin(lab)] for histogram in colours)
    # A colour seen neither on the object nor around it says nothing.
    odds = near / (1 - near) * ((inside + UNSEEN) / (around + UNSEEN)) ** MEMORY_WEIGHT
    evidence = np.asarray(odds / (1 + odds), dtype=np.float32)
    return np.asarray(cv2.resize(evidence, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _asked_of_cells(probability_hw: FloatArray, lab_hwc: ByteArray) -> FloatArray:
    """``float32[h, w]``: mean probability of the pixels of this colour nearby."""
    axes = tuple(1 + _cells(lab_hwc[..., n], side) for n, side in enumerate((LIGHTNESS_CELL, CHROMA_CELL, CHROMA_CELL)))
    colours_hw, blur_cc = _colour_blur(axes)
    place = PLACE_CELL // REDUCTION
    rows, columns = (np.arange(side) // place for side in probability_hw.shape)
    shape = (blur_cc.shape[0], int(rows[-1]) + 1, int(columns[-1]) + 1)
    cell = np.ravel_multi_index((colours_hw, rows[:, None], columns), shape).ravel()
    labelled = np.bincount(cell, probability_hw.ravel(), math.prod(shape)).astype(np.float32)
    pixels = np.bincount(cell, minlength=labelled.size).astype(np.float32)
    grids = np.stack([labelled, pixels], axis=-1).reshape(*shape, 2)
    blurred = blur_cc @ _blur(grids, axes=(1, 2)).reshape(shape[0], -1)
    labelled, pixels = blurred.reshape(-1, 2).T
    # One pixel's worth of doubt keeps a cell that is all but empty from being certain.
    asked = ((labelled + 0.5) / (pixels + 1))[cell]
    return np.asarray(asked.reshape(probability_hw.shape), dtype=np.float32)


def _colour_blur(axes: tuple[IntArray, ...]) -> tuple[IntArray, csr_array]:
    """Blurring cells of colour, of which few of all that there could be occur.

    Args:
        axes: ``int64[h, w]`` each, the cell of each pixel by lightness and twice by chroma, from 1 on.

    Returns:
        ``int64[h, w]``, which of the C colours that occur each pixel has; and ``float32[C, C]``, what each colour gives
        to each: 1/4, 1/2, 1/4 along every axis.
    """
    shape = tuple(int(axis.max()) + 2 for axis in axes)  # nothing occurs in the outermost cells
    colour_hw = np.ravel_multi_index(axes, shape)
    number = np.full(math.prod(shape), -1)
    present = np.flatnonzero(np.bincount(colour_hw.ravel(), minlength=number.size))
    number[present] = np.arange(len(present))
    near = np.meshgrid(*[(-1, 0, 1)] * 3)
    # Along an axis with one cell there is nothing to blur, as in `_blur`.
    weights = np.meshgrid(*[(0.25, 0.5 if side > 3 else 1.0, 0.25) for side in shape])
    steps = np.ravel_multi_index([1 + each.ravel() for each in near], shape) - np.ravel_multi_index((1, 1, 1), shape)
    neighbours = number[present[:, None] + steps]
    to, which = np.nonzero(neighbours >= 0)
    values = np.prod([each.ravel() for each in weights], axis=0).astype(np.float32)[which]
    blur = csr_array((values, (to, neighbours[to, which])), shape=(len(present),) * 2)
    return number[colour_hw], blur


def _cells(values_hw: ByteArray, side: int) -> IntArray:
    """``int64[h, w]``: the cell of each value, the lowest that occurs being 0."""
    cells = np.arange(256) // side  # a table is quicker than to divide every pixel
    found: IntArray = (cells - cells[values_hw.min()])[values_hw]
    return found


def _memory_bin(lab_hwc: ByteArray) -> NDArray[np.int32]:
    # Of each value its part of the index: tables are quicker than to divide and multiply every pixel.
    steps = (_MEMORY_BINS[1] * _MEMORY_BINS[2], _MEMORY_BINS[2], 1)
    lightness, a, b = (
        (np.arange(256) * count // 256 * step).astype(np.int32)[lab_hwc[..., n]]
        for n, (count, step) in enumerate(zip(_MEMORY_BINS, steps, strict=True))
    )
    lightness += a
    lightness += b
    return lightness


def _smooth(histogram: FloatArray) -> FloatArray:
    return _blur(histogram.reshape(_MEMORY_BINS), axes=(0, 1, 2)).ravel()


def _blur(grid: FloatArray, *, axes: Sequence[int]) -> FloatArray:
    """Weights 1/4, 1/2, 1/4 along these axes; nothing comes from outside."""
    shape = grid.shape
    for axis in axes:
        quarter = grid.reshape(-1, shape[axis], math.prod(shape[axis + 1 :])) / np.float32(4)
        mixed = quarter + quarter
        mixed[:, 1:] += quarter[:, :-1]
        mixed[:, :-1] += quarter[:, 1:]
        grid = mixed if shape[axis] > 1 else grid
    return grid.reshape(shape)
