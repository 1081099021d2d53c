"""J, F and boundary IoU read literally from their definitions, pixel by pixel. Slow, obvious, for tiny pictures.

Only `whole_picture_f` is for large ones: the same definition by distances of whole pictures.
"""

import math

import numpy as np
from scipy.ndimage import distance_transform_edt


def literal_j(pred, truth) -> float:
    both = sum(bool(p and g) for p, g in zip(pred.flat, truth.flat, strict=True))
    either = sum(bool(p or g) for p, g in zip(pred.flat, truth.flat, strict=True))
    return both / either if either else 1.0


def literal_contour(mask) -> set[tuple[int, int]]:
    """Pixels that differ from their east, south or south-east neighbour, of those that exist."""
    height, width = mask.shape
    contour = set()
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [(v, u) for v, u in neighbours if v < height and u < width]
            if any(mask[v, u] != mask[y, x] for v, u in inside):
                contour.add((y, x))
    return contour


def literal_f(pred, truth, near=None) -> float:
    """F; ``near(dy, dx)`` says whether a contour reaches a pixel that lies so far from one of its own."""
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    near = near or (lambda dy, dx: dy * dy + dx * dx <= radius * radius)
    p, g = literal_contour(pred), literal_contour(truth)
    if not p or not g:
        return float(not p and not g)
    precision = sum(any(near(y - v, x - u) for v, u in g) for y, x in p) / len(p)
    recall = sum(any(near(y - v, x - u) for v, u in p) for y, x in g) / len(g)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def whole_picture_f(pred, truth) -> float:
    """F by the distance of every pixel to the other contour."""
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    p, g = _contour(pred), _contour(truth)
    if not p.any() or not g.any():
        return float(p.any() == g.any())
    precision = (distance_transform_edt(~g)[p] <= radius).sum() / p.sum()
    recall = (distance_transform_edt(~p)[g] <= radius).sum() / g.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _contour(mask):
    contour = np.zeros(mask.shape, bool)
    contour[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    contour[:-1] |= mask[:-1] != mask[1:]
    contour[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return contour


def literal_band(mask, width: int):
    """Pixels of the mask with a pixel outside the mask, or outside the picture, at most ``width`` king's moves away."""
    padded = np.pad(mask, width)
    side = 2 * width + 1
    inside = [[padded[y : y + side, x : x + side].all() for x in range(mask.shape[1])] for y in range(mask.shape[0])]
    return mask & ~np.array(inside)


def literal_boundary_iou(pred, truth, width: int) -> float:
    p, g = literal_band(pred, width), literal_band(truth, width)
    return (p & g).sum() / (p | g).sum() if (p | g).any() else 0.0
