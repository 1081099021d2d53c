"""Interactive segmentation without weights: boxes, clicks and scribbles to masks.

    box ───────────────────────────────► GrabCut inside the box ─────────────────┐
    clicks, scribbles ─► geodesic growth ► the size with the clearest outline ► GrabCut around it ─► mask
    mask + clicks ─────► geodesic growth ► added to the mask, or cut out of it ──┘

GrabCut: Rother, Kolmogorov & Blake, SIGGRAPH 2004. Geodesic growth: Bai & Sapiro, "A geodesic framework for fast
interactive image and video segmentation", ICCV 2007.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from maskstream.types import ObjectPrompt

from .prompted import BoolMask, ByteArray, FloatArray, Hints, PromptedFeatures, PromptedSegmenter, hints_of

ITERATIONS = 3
"""Rounds of GrabCut."""

GROWTH_SIZE = 160
"""Short side at which a region is grown from clicks; GrabCut then finds its outline."""

SIZES = np.geomspace(0.002, 0.4, 24)
"""Sizes that a clicked region may have, as fractions of the picture."""


class GrabCutSegmenter(PromptedSegmenter):
    """An `ImageSegmenter` for prompts: one proposal for each object, none without prompts.

    Args:
        size: short side of the working resolution in pixels; smaller pictures are not enlarged.
    """

    def __init__(self, *, size: int = 320) -> None:
        super().__init__(size=size)

    def _segment(self, features: PromptedFeatures, prompts: Sequence[ObjectPrompt]) -> BoolMask:
        return grab_cut(features.image_hwc.numpy(), hints_of(features, prompts))


def grab_cut(image_hw3: ByteArray, hints: Hints) -> BoolMask:
    """The object that hints mean.

    Args:
        image_hw3: ``uint8[h, w, 3]``, RGB.
        hints: at its size, of one object.

    Returns:
        ``bool[h, w]``.
    """
    if hints.mask is not None:
        found = _refine(image_hw3, hints.mask, hints)
    elif hints.box is not None:
        found = _cut_in_box(image_hw3, hints.box, hints)
    else:
        found = _cut_around(image_hw3, _grow(image_hw3, hints.object, hints.background), hints)
    return (found | hints.object) & ~hints.background


# ------------------------------------------------------------------------- cuts


def _cut_in_box(image: ByteArray, box: BoolMask, hints: Hints) -> BoolMask:
    """The object that fills a box, of which nothing is outside."""
    if box.all() and not hints.background.any():
        return box
    labels = np.where(box, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    found = _graph_cut(image, _with_clicks(labels, hints), _surroundings(box, 0.5))
    # Where colours cannot tell object from background, the box says more than the cut.
    return found if np.count_nonzero(found & box) > 0.05 * np.count_nonzero(box) else box & ~hints.background


def _cut_around(image: ByteArray, region: BoolMask, hints: Hints) -> BoolMask:
    """The object whose rough extent is known; only what hangs together with a positive hint stays."""
    depth = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    outside = cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    labels = np.where(region, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    # The growth chose the size: the cut may move the outline by half the region's thickness, but not start again.
    labels[depth > 0.5 * depth.max()] = cv2.GC_FGD
    labels[outside > 0.5 * depth.max() + 4] = cv2.GC_BGD
    found = _graph_cut(image, _with_clicks(labels, hints), _surroundings(region, 1.0))
    return _holding(found | hints.object, hints.object)


def _refine(image: ByteArray, mask: BoolMask, hints: Hints) -> BoolMask:
    """Correct a mask where it was clicked: add what positive hints miss, cut out what negative ones mean."""
    missing, surplus = hints.object & ~mask, hints.background & mask
    refined = mask
    if missing.any():
        refined = refined | _patch(image, missing, ~mask, hints.background)
    if surplus.any():
        refined = refined & ~_patch(image, surplus, mask, hints.object)
    return refined


def _patch(image: ByteArray, seeds: BoolMask, wrong: BoolMask, barrier: BoolMask) -> BoolMask:
    """The part of a wrongly labelled area that hints mean.

    People click in the middle of a mistake, so it reaches from the hint to the outline, and as far to the other side.
    Within that reach the hint competes with the rest of the area by geodesic distance.
    """
    depth = cv2.distanceTransform(wrong.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    away = cv2.distanceTransform((~seeds).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    # What fills the picture has no outline, so its depth is endless.
    reach = min(float(depth[seeds].max()), sum(wrong.shape))
    within = wrong & (away <= 2 * reach + 4)
    rest = (wrong & ~within) | barrier
    if not rest.any():
        return within
    lab, small = _reduced_lab(image)
    nearer = _geodesic(lab, _shrink(seeds, small)) < _geodesic(lab, _shrink(rest, small))
    return within & _enlarge(nearer, seeds)


def _with_clicks(labels: ByteArray, hints: Hints) -> ByteArray:
    labels[hints.object] = cv2.GC_FGD
    labels[hints.background] = cv2.GC_BGD
    return labels


def _graph_cut(image: ByteArray, labels: ByteArray, within: tuple[slice, slice]) -> BoolMask:
    """GrabCut in a part of the picture; what is possible foreground before stays so when a side has no pixel."""
    inside = np.ascontiguousarray(labels[within])
    foreground = inside & 1
    found = np.zeros(labels.shape, dtype=bool)
    if foreground.any() and not foreground.all():
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        picture = np.ascontiguousarray(image[within])
        cv2.grabCut(picture, inside, (0, 0, 1, 1), *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
    found[within] = (inside & 1) == 1
    return found


def _surroundings(region: BoolMask, margin: float) -> tuple[slice, slice]:
    """The bounding box of a region, enlarged on every side by a fraction of its own sides and 8 pixels."""
    sides = []
    for axis, length in enumerate(region.shape):
        hits = np.flatnonzero(region.any(axis=1 - axis))
        first, end = (int(hits[0]), int(hits[-1]) + 1) if len(hits) else (0, length)
        around = int((end - first) * margin) + 8
        sides.append(slice(max(first - around, 0), min(end + around, length)))
    return sides[0], sides[1]


def _holding(mask: BoolMask, seeds: BoolMask) -> BoolMask:
    """The connected parts of a mask that a seed touches."""
    parts, _ = ndimage.label(mask)
    held = np.unique(parts[seeds & mask])
    return np.isin(parts, held[held > 0])


# ----------------------------------------------------------------------- growth


def _grow(image: ByteArray, seeds: BoolMask, barrier: BoolMask) -> BoolMask:
    """The region around the seeds with the clearest outline.

    Regions are the sets of pixels nearer to the seeds than to the barrier, up to a distance; distances are lengths of
    paths that pay for every change of colour. Of a range of sizes the region is taken whose outline has the largest
    mean contrast.
    """
    lab, small = _reduced_lab(image)
    from_seeds = _geodesic(lab, _shrink(seeds, small))
    allowed = np.ones(from_seeds.shape, dtype=bool)
    if barrier.any():
        allowed = from_seeds < _geodesic(lab, _shrink(barrier, small))
    best, best_contrast = _shrink(seeds, small), -1.0
    reach = np.where(allowed, from_seeds, np.inf)
    ordered = np.sort(reach[np.isfinite(reach)])
    contrast_hw = _contrast(lab)
    for size in np.unique((SIZES * reach.size).astype(int)):
        if size >= len(ordered):
            break
        region = reach <= ordered[size]
        outline = region & ~ndimage.binary_erosion(region, border_value=1)
        contrast = float(contrast_hw[outline].mean()) if outline.any() else 0.0
        if contrast > best_contrast:
            best, best_contrast = region, contrast
    return _enlarge(ndimage.binary_fill_holes(best), seeds)


def _reduced_lab(image: ByteArray) -> tuple[FloatArray, tuple[int, int]]:
    """``float32[h, w, 3]``, CIELAB at the resolution of growth, noise smoothed away; and its width and height."""
    height, width = image.shape[:2]
    reduction = max(1.0, min(height, width) / GROWTH_SIZE)
    small = (max(int(width / reduction), 1), max(int(height / reduction), 1))
    lab = cv2.cvtColor(cv2.resize(image, small, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    return np.asarray(cv2.bilateralFilter(lab, 5, 20, 3), dtype=np.float32), small


def _enlarge(region: BoolMask, seeds: BoolMask) -> BoolMask:
    """A region at the resolution of the seeds, and the seeds."""
    height, width = seeds.shape
    soft = cv2.resize(region.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return (np.asarray(soft) >= 0.5) | seeds


def _shrink(mask: BoolMask, size_wh: tuple[int, int]) -> BoolMask:
    """Every pixel that any part of the mask falls into."""
    return np.asarray(cv2.resize(mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)) > 0


def _contrast(lab: FloatArray) -> FloatArray:
    """Largest change of colour to a neighbour two pixels on, at each pixel."""
    change = np.zeros(lab.shape[:2], dtype=np.float32)
    for axis in (0, 1):
        for shift in (-2, 2):
            change = np.maximum(change, np.abs(lab - np.roll(lab, shift, axis)).sum(axis=2))
    return change


def _geodesic(lab: FloatArray, seeds: BoolMask) -> FloatArray:
    """``float32[h, w]``: length of the cheapest path to a seed, a step costing 1 and the change of colour it makes."""
    height, width = seeds.shape
    node = np.arange(height * width).reshape(height, width)
    starts, ends, costs = [], [], []
    for rows, columns, length in ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 2**0.5), (1, -1, 2**0.5)):
        here = np.s_[: height - rows, max(-columns, 0) : width - max(columns, 0)]
        there = np.s_[rows:, max(columns, 0) : width + min(columns, 0)]
        starts.append(node[here].ravel())
        ends.append(node[there].ravel())
        costs.append(length + np.abs(lab[here] - lab[there]).sum(axis=2).ravel())
    edges = (np.concatenate(costs), (np.concatenate(starts), np.concatenate(ends)))
    graph = sparse.csr_matrix(edges, shape=(node.size, node.size))
    distance = dijkstra(graph, directed=False, indices=node[seeds], min_only=True)
    return np.asarray(distance, dtype=np.float32).reshape(height, width)
