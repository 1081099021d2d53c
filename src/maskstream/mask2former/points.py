"""Points at which masks are compared, not at every pixel (PointRend, Kirillov et al., CVPR 2020; Mask2Former, §3.3).

A mask of a clip is one plane: its frames under each other, ``T·H`` rows of ``W`` pixels (Tube-Link, specification §4).
So a clip has as many points as a picture has, wherever in time, and for one frame all is as for Mask2Former. Points
between the last row of a frame and the first of the next see both; prediction and truth are read alike.

Coordinates are (x, y) in [0, 1] of that plane, whatever its resolution; between pixels masks are bilinear, and beyond
the plane they are 0.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def uniform_points(
    count: int, *, masks: int = 1, device: torch.device | str | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Points anywhere, with equal chance.

    Args:
        count: P, of each mask.
        masks: N.
        device: where they are wanted; they are drawn where the generator is.
        generator: chance; None: of torch.

    Returns:
        ``float32[N, P, 2]``.
    """
    drawn_at = device if generator is None else generator.device
    return torch.rand(masks, count, 2, generator=generator, device=drawn_at).to(device)


@torch.no_grad()
def uncertain_points(
    logits_nthw: Tensor,
    count: int,
    *,
    oversample: float = 3.0,
    importance: float = 0.75,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Points mostly where masks are least sure: logits near 0.

    Of ``oversample · P`` points anywhere the ``importance · P`` least sure are taken; the others are new, and anywhere.

    Args:
        logits_nthw: ``float[N, T, h, w]``.
        count: P, of each mask.
        oversample: how many points to choose from, as a multiple of P, at least 1.
        importance: share of points that are chosen, in [0, 1].
        generator: chance; None: of torch.

    Returns:
        ``float32[N, P, 2]``, each mask with points of its own.
    """
    masks, chosen = len(logits_nthw), int(importance * count)
    device = logits_nthw.device
    points_np2 = uniform_points(int(oversample * count), masks=masks, device=device, generator=generator)
    sureness_np = sample_logits(logits_nthw, points_np2).abs()
    least_nk = _least(sureness_np, chosen)
    chosen_nk2 = points_np2.gather(1, least_nk[:, :, None].expand(-1, -1, 2))
    others_nk2 = uniform_points(count - chosen, masks=masks, device=device, generator=generator)
    return torch.cat([chosen_nk2, others_nk2], 1)


def sample_logits(logits_nthw: Tensor, points_np2: Tensor) -> Tensor:
    """Masks at points; gradients reach the masks.

    Args:
        logits_nthw: ``float[N, T, h, w]``.
        points_np2: ``float32[N, P, 2]``, or ``float32[1, P, 2]``: the same of all masks.

    Returns:
        ``float32[N, P]``.
    """
    planes_nhw = logits_nthw.flatten(1, 2).float()
    grid_np2 = 2 * points_np2 - 1
    if len(points_np2) == 1:
        return F.grid_sample(planes_nhw[None], grid_np2[:, None], align_corners=False)[0, :, 0]
    return F.grid_sample(planes_nhw[:, None], grid_np2[:, None], align_corners=False)[:, 0, 0]


def sample_masks(masks_nthw: Tensor, points_mp2: Tensor, objects_m: Tensor | None = None) -> Tensor:
    """The same of ``bool`` masks, without making floats of all their pixels.

    Args:
        masks_nthw: ``bool[N, T, H, W]``.
        points_mp2: ``float32[M, P, 2]``, or ``float32[1, P, 2]``: the same of all masks.
        objects_m: ``int64[M]``, the mask that each row is about; None: all in order, M is N.

    Returns:
        ``float32[M, P]`` in [0, 1].
    """
    masks, frames, height, width = masks_nthw.shape
    rows = frames * height
    if objects_m is None:
        objects_m = torch.arange(masks, device=masks_nthw.device)
    column, right, keep_x = _between(points_mp2[..., 0], width)
    row, down, keep_y = _between(points_mp2[..., 1], rows)
    flat_x = masks_nthw.reshape(-1)
    corner_mp = (objects_m * rows * width)[:, None] + row * width + column

    def at(offset: int) -> Tensor:
        # What lies beyond the last column or row has no weight: anything may be read there.
        return flat_x.take((corner_mp + offset).clamp_(max=len(flat_x) - 1)).float()

    above_mp = torch.lerp(at(0), at(1), right)
    below_mp = torch.lerp(at(width), at(width + 1), right)
    return torch.lerp(above_mp, below_mp, down) * (keep_x * keep_y)


def _between(values: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """On an axis: the pixel before, the part of the way to the next, and what is left of values so near to the edge."""
    place = values * size - 0.5
    inside = place.clamp(0, size - 1)
    before = inside.long()
    return before, inside - before, 1 - (place - inside).abs()


def _least(values_np: Tensor, count: int) -> Tensor:
    """Positions ``int64[N, count]`` of the least values of each row, in any order."""
    if values_np.device.type == "cpu":  # where torch's topk takes 25 times as long
        return torch.from_numpy(np.argpartition(values_np.numpy(), count - 1, axis=1)[:, :count])
    return values_np.topk(count, dim=1, largest=False, sorted=False).indices
