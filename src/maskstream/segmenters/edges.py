"""Regions that motion found, grown or shrunk to the edges that colour shows.

Flow spills over the outline of what moves and misses its bare parts. Two classics mend both: colour histograms of a
region against its surroundings (the data term of GrabCut, Rother et al. 2004) and the guided filter (He, Sun and Tang,
PAMI 2013).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.segmenters.camera_motion import BoolArray, ByteArray, FloatArray

COLOUR_SHARE = 0.7  # of the log odds of a pixel; motion has the rest
PRIOR_LOG_ODDS = -0.3  # flow spills over the edge of what moves, so doubt goes to the background
COLOUR_BINS = 16  # of each Lab channel
REACH = 0.05  # how far colour may extend a seed, as a fraction of the short side
EDGE_RADIUS, EDGE_EPSILON = 8, 1e-3  # of the guided filter, in pixels and in intensity² of [0, 1]


def snapped_to_edges(image: ByteArray, evidence: FloatArray, seeds: list[BoolArray]) -> list[BoolArray]:
    """Seeds grown or shrunk to the edges of the picture; disjoint ``bool[h, w]`` in the order of the seeds."""
    best = np.full(evidence.shape, 0.5, np.float32)
    owner = np.zeros(evidence.shape, np.int32)
    lab = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), dtype=np.uint8)
    for number, seed in enumerate(seeds, start=1):
        window, soft = _soft_region(image, lab, evidence, seed)
        wins = soft > best[window]
        best[window][wins] = soft[wins]
        owner[window][wins] = number
    return [owner == number for number in range(1, len(seeds) + 1)]


def _soft_region(
    image: ByteArray, lab: ByteArray, evidence: FloatArray, seed: BoolArray
) -> tuple[tuple[slice, slice], FloatArray]:
    """Odds of motion and of colour, together, smoothed along edges; within a window around the seed."""
    reach = max(2, round(REACH * min(seed.shape)))
    window = _window(seed, 2 * reach)
    seed = seed[window]
    near = dilated(seed, reach)
    around = dilated(near, reach)
    # Slow objects reach lower evidence than fast ones: what counts is how it compares with the middle of the object.
    motion = np.minimum(evidence[window] / max(float(np.median(evidence[window][seed])), 1e-3), 1.0) * 0.95
    foreground = np.where(seed, motion, np.float32(0))
    background = (1 - motion) * (around & (motion < 0.5))
    colour = _colour_posterior(lab[window], foreground, background)
    log_odds = (1 - COLOUR_SHARE) * _logit(motion) + COLOUR_SHARE * _logit(colour) + PRIOR_LOG_ODDS
    probability = np.where(near, 1 / (1 + np.exp(-log_odds)), 0).astype(np.float32)
    guide = image[window].astype(np.float32) / np.float32(255)
    soft = guided_filter(guide, probability, EDGE_RADIUS, EDGE_EPSILON)
    return window, np.where(near, soft, 0).astype(np.float32)


def _colour_posterior(lab: ByteArray, foreground: FloatArray, background: FloatArray) -> FloatArray:
    """Probability that a pixel's colour is the foreground's, from two weighted, smoothed 3-D histograms."""
    bins = (lab // (256 // COLOUR_BINS)).astype(np.int64)
    index = ((bins[..., 0] * COLOUR_BINS + bins[..., 1]) * COLOUR_BINS + bins[..., 2]).ravel()

    def likelihood(weights: FloatArray) -> FloatArray:
        counts = np.bincount(index, weights=weights.ravel().astype(np.float64), minlength=COLOUR_BINS**3)
        histogram: NDArray[np.float64] = np.pad(counts.reshape((COLOUR_BINS,) * 3).astype(np.float64), 1)
        for axis in range(3):
            histogram = (np.roll(histogram, 1, axis) + 2 * histogram + np.roll(histogram, -1, axis)) / 4
        inner = histogram[1:-1, 1:-1, 1:-1].ravel()
        # a colour never seen is as likely on either side
        return np.asarray(inner / max(inner.sum(), 1e-6) + 0.01 / COLOUR_BINS**3, dtype=np.float32)

    inside, outside = likelihood(foreground), likelihood(background)
    return np.asarray((inside / (inside + outside))[index].reshape(lab.shape[:2]), dtype=np.float32)


def guided_filter(guide: FloatArray, values: FloatArray, radius: int, epsilon: float) -> FloatArray:
    """Smooth ``values[h, w]`` along the edges of ``guide[h, w, 3]`` (He, Sun and Tang, PAMI 2013, eqs. 19-21)."""

    def mean(array: FloatArray) -> FloatArray:
        return np.asarray(cv2.blur(array, (2 * radius + 1, 2 * radius + 1)), dtype=np.float32)

    guide_mean, value_mean = mean(guide), mean(values)
    covariance = mean(guide * values[..., None]) - guide_mean * value_mean[..., None]
    r, g, b = cv2.split(guide)
    products = mean(np.stack([r * r, r * g, r * b, g * g], axis=-1)), mean(np.stack([g * b, b * b], axis=-1))
    mr, mg, mb = cv2.split(guide_mean)
    rr, rg, rb, gg = (
        products[0][..., n] - m for n, m in enumerate((mr * mr - epsilon, mr * mg, mr * mb, mg * mg - epsilon))
    )
    gb, bb = products[1][..., 0] - mg * mb, products[1][..., 1] - mb * mb + epsilon
    # the inverse of the symmetric 3×3 matrix by cofactors: ten times faster than a batched solve
    c_rr, c_rg, c_rb = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    v_r, v_g, v_b = cv2.split(covariance)
    slope = (
        np.stack(
            [
                c_rr * v_r + c_rg * v_g + c_rb * v_b,
                c_rg * v_r + c_gg * v_g + c_gb * v_b,
                c_rb * v_r + c_gb * v_g + c_bb * v_b,
            ],
            axis=-1,
        )
        / np.maximum(determinant, 1e-12)[..., None]
    )
    offset = value_mean - np.einsum("hwc,hwc->hw", slope, guide_mean)
    return np.asarray(np.einsum("hwc,hwc->hw", mean(slope), guide) + mean(offset), dtype=np.float32)


def dilated(mask: BoolArray, reach: int) -> BoolArray:
    """Every pixel within ``reach`` of the mask."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)


def _window(mask: BoolArray, margin: int) -> tuple[slice, slice]:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)


def _logit(probability: FloatArray) -> FloatArray:
    return np.asarray(np.log((probability + 0.02) / (1.02 - probability)), dtype=np.float32)
