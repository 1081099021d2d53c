"""Labelled frames of the past, and what they say about the present one.

A chain of frame-to-frame flow drifts: errors of a tenth of a pixel add up, and an outline that slipped is never
corrected. So a labelled frame stays in contact with the present: the chained flow is only where the search starts,
and flow between the *two frames themselves* corrects it on every frame (the idea of long-range flow chains, e.g.
Crivelli et al., "Robust optical flow integration", IEEE TIP 2015). Several references of different age then vote, each
where the picture it predicts looks like the picture that is there.

    reference (pixels, masks) ── sampling: where each pixel of the present lies on it ──► warped masks, warped pixels
                                                                                             │           │
                                        weighted mean over references ◄── resemblance to the present ────┘
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias, TypeVar, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.optical_flow import dense_flow
from maskstream.types import StateDict

from .colour import remember

FloatArray: TypeAlias = NDArray[np.float32]
ByteArray: TypeAlias = NDArray[np.uint8]
Pixels = TypeVar("Pixels", ByteArray, FloatArray)

Region: TypeAlias = tuple[slice, slice]
"""Rows and columns of a picture."""

RESEMBLANCE_SCALE = 4.0
"""A vote counts e times less for so much mean absolute difference of the pictures, in levels of 8-bit CIELAB."""

DOUBT = 0.1
"""Weight of not knowing: near an object, what resembles no reference, as if just uncovered, is left to colours."""

DOUBT_REACH = 32
"""How far from an object's pixels is near, in pixels."""

OWN_WEIGHT = 0.4
"""Weight of masks that were found beside that of masks that were given."""

ADVICE_WEIGHT = 1.0
"""Weight of what another propagator finds, where it is sure, beside that of references that fit the picture."""

FAMILIAR = 0.4
"""An object that resembles a frame on which it was given more than this, as a mean, is found without advice."""

ADVICE_MARGIN = 3
"""Another propagator may find an outline so many pixels beside where it is; there it is not heard."""

RESEMBLANCE_WINDOW = 9
"""Side of the square over which pictures are compared, in pixels."""

MARGIN = 0.25
"""How far around an object its outline may move, as a fraction of its sides; at least 24 pixels."""

SEARCH_STRIDE = 4
"""An object out of sight is looked for on a picture so many times smaller."""


@dataclass(frozen=True, slots=True, eq=False)
class FlowFeatures:
    """What flow needs to know of a frame.

    Attributes:
        lab_hwc: ``uint8[h, w, 3]``, CIELAB as OpenCV scales it, at internal resolution.
    """

    lab_hwc: Tensor = field(repr=False)

    @classmethod
    def of(cls, image_hw3: ByteArray, size_hw: tuple[int, int]) -> FlowFeatures:
        """Of a picture, ``uint8[H, W, 3]`` RGB, at another size."""
        (height, width), reduced = size_hw, min(image_hw3.shape[:2]) > min(size_hw)
        how = cv2.INTER_AREA if reduced else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image_hw3, (width, height), interpolation=how), dtype=np.uint8)
        return cls(torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_RGB2LAB)))

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width at internal resolution."""
        return self.lab_hwc.shape[0], self.lab_hwc.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A labelled frame of the past.

    Attributes:
        lab_hwc: the frame, as in `FlowFeatures`.
        masks_nhw: ``uint8[N, h, w]``, probability of each object in steps of 1/255.
        known: for each object whether this frame can tell where it is; it has no vote on the others.
        sampling_hwc: ``float32[h, w, 2]``, where each pixel of the present lies on this frame: column, row.
    """

    lab_hwc: Tensor = field(repr=False)
    masks_nhw: Tensor = field(repr=False)
    known: tuple[bool, ...]
    sampling_hwc: Tensor = field(repr=False)

    @classmethod
    def now(cls, features: FlowFeatures, probabilities_nhw: Tensor) -> Reference:
        """The present frame as a reference for later ones.

        Args:
            features: of the frame.
            probabilities_nhw: ``float[N, h, w]`` in [0, 1].
        """
        masks_nhw = (probabilities_nhw * 255).round().to(torch.uint8)
        grid = torch.from_numpy(_grid(features.size_hw))
        return cls(features.lab_hwc, masks_nhw, (True,) * len(masks_nhw), grid)

    def with_objects(self, count: int) -> Reference:
        """With channels for so many more objects that this frame knows nothing of."""
        masks_nhw = torch.nn.functional.pad(self.masks_nhw, (0, 0, 0, 0, 0, count))
        return replace(self, masks_nhw=masks_nhw, known=(*self.known, *[False] * count))

    def without_vote(self, positions: Sequence[int]) -> Reference:
        """With no vote on these objects."""
        return replace(self, known=tuple(knows and n not in positions for n, knows in enumerate(self.known)))

    def only(self, positions: Sequence[int]) -> Reference:
        """With these objects only."""
        return replace(self, masks_nhw=self.masks_nhw[list(positions)], known=tuple(self.known[n] for n in positions))

    def colours(self, position: int) -> Tensor:
        """What an object looks like on this frame, just labelled, and what is around it; see `colour.remember`."""
        mask = self.masks_nhw[position].numpy() > 127
        around = np.zeros_like(mask)
        (region,) = regions([self.only([position])])
        if region is not None:
            around[region] = True
        return torch.from_numpy(remember(self.lab_hwc.numpy(), mask, around & ~mask))

    def to_plain(self) -> StateDict:
        """As plain data."""
        return {
            "lab_hwc": self.lab_hwc,
            "masks_nhw": self.masks_nhw,
            "known": list(self.known),
            "sampling_hwc": self.sampling_hwc,
        }

    @classmethod
    def from_plain(cls, plain: StateDict) -> Reference:
        """Undo `to_plain`."""
        return cls(plain["lab_hwc"], plain["masks_nhw"], tuple(plain["known"]), plain["sampling_hwc"])


def step(last: Reference, features: FlowFeatures) -> Reference:
    """The reference of the frame just before, seen from the present one; its sampling must be the identity."""
    grid = _grid(features.size_hw)
    return replace(last, sampling_hwc=torch.from_numpy(grid + _flow(features, last, np.zeros_like(grid))))


def follow(reference: Reference, stepped: Reference, features: FlowFeatures) -> Reference:
    """An older reference, seen from the present frame: the chain, corrected by flow between the two frames."""
    chained = warp(reference.sampling_hwc.numpy(), stepped.sampling_hwc.numpy(), border=cv2.BORDER_REPLICATE)
    grid = _grid(features.size_hw)
    return replace(reference, sampling_hwc=torch.from_numpy(grid + _flow(features, reference, chained - grid)))


def find_again(reference: Reference, position: int, features: FlowFeatures) -> Reference | None:
    """Look for an object that is out of sight, and put the reference back in contact with it.

    The object's pixels are slid over the present frame. Elsewhere on its own frame, where it is known not to be, the
    best match says how well a wrong place can fit: a right one has to fit twice as well.

    Returns:
        The reference, its sampling corrected where the object is; None when it is not found.
    """
    mask = reference.masks_nhw[position].numpy()
    size_wh = (mask.shape[1] // SEARCH_STRIDE, mask.shape[0] // SEARCH_STRIDE)
    if min(size_wh) < 1:
        return None
    there, here = (_reduced(lab.numpy(), size_wh) for lab in (reference.lab_hwc, features.lab_hwc))
    small = _reduced(mask, size_wh) > 127
    rows, columns = np.flatnonzero(small.any(axis=1)), np.flatnonzero(small.any(axis=0))
    if np.count_nonzero(small) < 16:
        return None
    top, left, height, width = int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    window = np.s_[top : top + height, left : left + width]
    template = (there[window], small[window].astype(np.float32)[..., None].repeat(3, axis=2))
    elsewhere = cv2.matchTemplate(there, template[0], cv2.TM_SQDIFF, mask=template[1])
    elsewhere[max(top - height, 0) : top + height, max(left - width, 0) : left + width] = np.inf
    fits = cv2.matchTemplate(here, template[0], cv2.TM_SQDIFF, mask=template[1])
    best, _, (x, y), _ = cv2.minMaxLoc(fits)
    # Squared differences: twice as well is a quarter.
    if not best < 0.25 * float(elsewhere.min()) < np.inf:
        return None
    region = tuple(
        slice(max(first - 1, 0) * SEARCH_STRIDE, (first + length + 1) * SEARCH_STRIDE)
        for first, length in ((y, height), (x, width))
    )
    sampling = reference.sampling_hwc.numpy().copy()
    shift = np.array([x - left, y - top], dtype=np.float32) * SEARCH_STRIDE
    sampling[region] = _grid(features.size_hw)[region] - shift
    return replace(reference, sampling_hwc=torch.from_numpy(sampling))


def regions(references: Sequence[Reference], advice_nhw: FloatArray | None = None) -> list[Region | None]:
    """For each object the part of the present frame where it may be; None when nothing sees it.

    Args:
        references: seen from the present frame.
        advice_nhw: ``float32[N, h, w]``, where another propagator finds the objects.
    """
    stride = 4
    height, width = references[0].masks_nhw.shape[1:]
    seen = np.zeros((len(references[0].known), -(-height // stride), -(-width // stride)), dtype=bool)
    for reference in references:
        sampling = np.ascontiguousarray(reference.sampling_hwc.numpy()[::stride, ::stride])
        for n, knows in enumerate(reference.known):
            if knows:
                seen[n] |= warp(reference.masks_nhw[n].numpy(), sampling) > 0.3 * 255
    if advice_nhw is not None:
        seen |= advice_nhw[:, ::stride, ::stride] > 0.5
    return [_around(seen_hw, stride, (height, width)) for seen_hw in seen]


def vote(
    own: Sequence[Reference],
    given: Sequence[Reference],
    features: FlowFeatures,
    regions_n: Sequence[Region | None],
    advice_nhw: FloatArray | None = None,
) -> FloatArray:
    """Where the references, seen from the present frame, say the objects are.

    An object's probability is the mean over the references that know it, weighted by how much the picture each
    predicts resembles the present one around the pixel. Near the object, where none does, it is one half. Another
    propagator has a vote where it is sure of all that is around a pixel, unless the object looks as it did when it was
    given.

    Args:
        own: references with masks that were found, seen from the present frame.
        given: those with masks that somebody gave.
        features: of the present frame.
        regions_n: where to look for each object, as `regions` finds.
        advice_nhw: ``float32[N, h, w]``, where another propagator finds the objects.

    Returns:
        ``float32[1 + N, h, w]``, background first, summing to one.
    """
    objects_nhw = np.zeros((len(regions_n), *features.size_hw), dtype=np.float32)
    mass_nhw = np.full_like(objects_nhw, 1e-6)
    familiar_nhw = np.zeros_like(objects_nhw) if advice_nhw is not None else None
    union = enclosing(regions_n)
    for reference, is_given in [*((one, False) for one in own), *((one, True) for one in given)]:
        sampling = reference.sampling_hwc.numpy()
        confidence = np.zeros(features.size_hw, dtype=np.float32)
        confidence[union] = (1.0 if is_given else OWN_WEIGHT) * resemblance(reference, features, union)
        for n, region in enumerate(regions_n):
            if region is not None and reference.known[n]:
                there = warp(reference.masks_nhw[n].numpy(), np.ascontiguousarray(sampling[region]))
                objects_nhw[n][region] += confidence[region] * there
                mass_nhw[n][region] += confidence[region]
                if is_given and familiar_nhw is not None:
                    familiar_nhw[n][region] = np.maximum(familiar_nhw[n][region], confidence[region])
    for n, region in enumerate(regions_n):
        if region is not None:
            agreed, mass = objects_nhw[n][region] / 255, mass_nhw[n][region]
            if advice_nhw is not None and familiar_nhw is not None:
                found = agreed > 0.5 * mass
                if not found.any() or familiar_nhw[n][region][found].mean() < FAMILIAR:
                    weight_hw = ADVICE_WEIGHT * _surely(advice_nhw[n][region])
                    agreed, mass = agreed + weight_hw * advice_nhw[n][region], mass + weight_hw
            objects_nhw[n][region] = (agreed + DOUBT * 0.5 * _grown(agreed > 0.5 * mass, DOUBT_REACH)) / (mass + DOUBT)
    return with_background(objects_nhw)


def warp(picture: Pixels, sampling_hwc: FloatArray, *, border: int = cv2.BORDER_CONSTANT) -> Pixels:
    """Sample a picture bilinearly at the given columns and rows; zero outside it, or what ``border`` says."""
    no_second_map = cast(FloatArray, None)  # allowed by OpenCV, not by its type stubs
    return cast(Pixels, cv2.remap(picture, sampling_hwc, no_second_map, cv2.INTER_LINEAR, borderMode=border))


def with_background(objects_nhw: FloatArray) -> FloatArray:
    """``float32[1 + N, h, w]`` that sum to one, from object probabilities that may sum to more."""
    total = objects_nhw.sum(axis=0, keepdims=True)
    return np.concatenate([1 - np.minimum(total, 1), objects_nhw / np.maximum(total, 1)])


def enclosing(regions_n: Sequence[Region | None]) -> Region:
    """The smallest region that holds all of them; empty when there are none."""
    present = [region for region in regions_n if region is not None]
    if not present:
        return slice(0, 0), slice(0, 0)
    rows, columns = zip(*present, strict=True)
    return (
        slice(min(side.start for side in rows), max(side.stop for side in rows)),
        slice(min(side.start for side in columns), max(side.stop for side in columns)),
    )


def _flow(source: FlowFeatures, target: Reference, start: FloatArray) -> FloatArray:
    """Flow on lightness from the present to a reference, searched for from a first guess."""
    here, there = (np.ascontiguousarray(side.lab_hwc[..., 0].numpy()) for side in (source, target))
    return dense_flow(here, there, start=start)


def resemblance(reference: Reference, features: FlowFeatures, region: Region) -> FloatArray:
    """In (0, 1], how much the present looks as the reference predicts, within a region."""
    sampling = np.ascontiguousarray(reference.sampling_hwc.numpy()[region])
    if not sampling.size:
        return np.ones(sampling.shape[:2], dtype=np.float32)
    predicted = warp(reference.lab_hwc.numpy(), sampling)
    unlike = cv2.absdiff(predicted, features.lab_hwc.numpy()[region])
    mean = (np.add(unlike[..., 0], unlike[..., 1], dtype=np.float32) + unlike[..., 2]) / 3
    difference = cv2.blur(mean, (RESEMBLANCE_WINDOW, RESEMBLANCE_WINDOW))
    return np.asarray(np.exp(-difference / RESEMBLANCE_SCALE), dtype=np.float32)


def _around(seen_hw: NDArray[np.bool_], stride: int, size_hw: tuple[int, int]) -> Region | None:
    rows, columns = np.flatnonzero(seen_hw.any(axis=1)), np.flatnonzero(seen_hw.any(axis=0))
    if not len(rows):
        return None
    sides = []
    for hits, length in ((rows, size_hw[0]), (columns, size_hw[1])):
        first, end = int(hits[0]) * stride, int(hits[-1] + 1) * stride
        margin = max(24, int((end - first) * MARGIN))
        sides.append(slice(max(first - margin, 0), min(end + margin, length)))
    return sides[0], sides[1]


def _surely(advice_hw: FloatArray) -> FloatArray:
    """In [0, 1], how sure the advice is of the least sure pixel around each."""
    window = np.ones((2 * ADVICE_MARGIN + 1,) * 2, dtype=np.uint8)
    return np.asarray(cv2.erode(np.abs(2 * advice_hw - 1), window, borderType=cv2.BORDER_REPLICATE), dtype=np.float32)


def _grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """A mask and what is around it, in a square."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)) > 0


def _reduced(picture: ByteArray, size_wh: tuple[int, int]) -> FloatArray:
    return np.asarray(cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA), dtype=np.float32)


@lru_cache(maxsize=4)
def _grid(size_hw: tuple[int, int]) -> FloatArray:
    """``float32[h, w, 2]``, the column and row of each pixel. The next caller gets the same array."""
    columns_rows = np.meshgrid(np.arange(size_hw[1], dtype=np.float32), np.arange(size_hw[0], dtype=np.float32))
    return np.stack(columns_rows, axis=-1)
