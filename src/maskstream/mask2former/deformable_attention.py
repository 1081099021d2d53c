"""Multi-scale deformable attention (Zhu et al., "Deformable DETR", ICLR 2021, §4.1, eq. 3), fast on a CPU.

    value [B, S, H, D] ── L levels of h×w positions, one after the other ──┐
    locations [B, Q, H, L, P, 2] ─► four corners of each point ─► rows ────┴─► Σ weight · row ─► [B, Q, H·D]
    weights [B, Q, H, L, P] ──────► bilinear share of each ─────► weights ─────┘

Rows of D channels lie together in memory, so the sum over 4·L·P corners reads whole rows. The usual form, `grid_sample`
per level, reads channels one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _deformable_kernel

_HALF = (torch.float16, torch.bfloat16)


def deformable_attention(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sums of what lies at a few points of each level (eq. 3, between its two projections).

    Between positions it interpolates bilinearly, and all around a level there is zero. Without gradients a compiled
    loop does it where Numba is installed; the results are the same to about 1e-6 of the values.

    Args:
        value: ``float[B, S, H, D]``, of H heads at all S positions of all levels, row by row.
        shapes: height and width of each of the L levels.
        locations: ``float[B, Q, H, L, P, 2]``, x and y of P points; 0 … 1 is the whole of a level.
        weights: ``float[B, Q, H, L, P]``.

    Returns:
        ``float[B, Q, H·D]``, of the type of ``value``. Types of 16 bits are computed in 32.

    Raises:
        ValueError: sizes do not go together.
    """
    _check(value, shapes, locations, weights)
    if not len(value) or not locations.shape[1]:
        return value.new_zeros(len(value), locations.shape[1], value.shape[2] * value.shape[3])
    if value.dtype in _HALF:
        return deformable_attention(value.float(), shapes, locations, weights).to(value.dtype)
    locations, weights = locations.to(value.dtype), weights.to(value.dtype)
    if value.device.type != "cpu":
        return _by_grids(value, shapes, locations, weights)
    if _for_kernel(value, locations, weights):
        return _deformable_kernel.attend(value, shapes, locations, weights)
    return _by_rows(value, shapes, locations, weights)


def deformable_points(
    shapes: Sequence[tuple[int, int]], reference: Tensor, offsets: Tensor, logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Where a query looks and how much it counts, from what its projections say (eq. 3).

    Args:
        shapes: height and width of each of the L levels.
        reference: ``float[B, Q, L, 2]``, x and y that offsets count from; 0 … 1 is the whole of a level.
        offsets: ``float[B, Q, H, L, P, 2]``, x and y, in positions of the level.
        logits: ``float[B, Q, H, L, P]``.

    Returns:
        Locations, shaped as the offsets, and weights, shaped as the logits, whose sum over L and P is 1.
    """
    if _for_kernel(reference, offsets, logits):
        return _deformable_kernel.points(shapes, reference, offsets, logits)
    sizes_l2 = torch.tensor([(width, height) for height, width in shapes], device=offsets.device)
    locations = reference[:, :, None, :, None] + offsets / sizes_l2[:, None]
    return locations, logits.flatten(3).softmax(-1).view_as(logits)


def _check(value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> None:
    if value.ndim != 4 or locations.ndim != 6 or weights.ndim != 5:
        raise ValueError(
            "value is [B, S, H, D], locations [B, Q, H, L, P, 2] and weights [B, Q, H, L, P], not "
            f"{list(value.shape)}, {list(locations.shape)} and {list(weights.shape)}"
        )
    batch, positions, heads, _ = value.shape
    expected = (batch, locations.shape[1], heads, len(shapes), locations.shape[4], 2)
    if locations.shape != expected or weights.shape != expected[:-1]:
        raise ValueError(
            f"locations {list(locations.shape)} and weights {list(weights.shape)} do not go with value "
            f"{list(value.shape)} of {len(shapes)} levels"
        )
    if sum(height * width for height, width in shapes) != positions:
        raise ValueError(f"levels of {list(shapes)} do not make the {positions} positions of value")


def _for_kernel(*tensors: Tensor) -> bool:
    """Whether the compiled loop can do it, and is there."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        return False
    on_cpu = all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)
    return on_cpu and _deformable_kernel.load_kernels() is not None


def _by_rows(value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """By `embedding_bag`: a table of rows, of which each query and head sums 4·L·P."""
    batch, _, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    # A ring of zeros around each level stands for all that is outside.
    table_bshd = torch.cat(
        [
            F.pad(level.reshape(batch, *shape, heads, channels), (0, 0, 0, 0, 1, 1, 1, 1)).flatten(1, 2)
            for level, shape in zip(torch.split(value, [h * w for h, w in shapes], dim=1), shapes, strict=True)
        ],
        dim=1,
    )
    starts = list(accumulate(((height + 2) * (width + 2) for height, width in shapes), initial=0))[:-1]

    def per_point(numbers: Sequence[int], dtype: torch.dtype) -> Tensor:
        """One number per level, as ``[H·L·P]``: with anything shorter, broadcasting is slow."""
        return torch.tensor(numbers, dtype=dtype)[:, None].expand(heads, -1, points).flatten()

    height, width = (per_point(sides, value.dtype) for sides in zip(*shapes, strict=True))
    row = per_point([width + 2 for _, width in shapes], torch.int32)
    x, y = locations.flatten(2, 4).unbind(-1)
    x, y = (x * width - 0.5).clamp_min(-1).minimum(width), (y * height - 0.5).clamp_min(-1).minimum(height)
    # NaN has no position; its shares, which are NaN as well, mark the result.
    left, top = x.detach().nan_to_num(0).floor(), y.detach().nan_to_num(0).floor()
    left, top = left.minimum(width - 1), top.minimum(height - 1)
    weights = weights.flatten(2)
    bottom_weight = weights * (y - top)
    top_weight = weights - bottom_weight
    top_right, bottom_right = top_weight * (x - left), bottom_weight * (x - left)
    shares = (top_weight - top_right, top_right, bottom_weight - bottom_right, bottom_right)

    def per_bag(tensors: Sequence[Tensor]) -> Tensor:
        """``[B·Q·H, 4·L·P]``."""
        return torch.cat([tensor.reshape(batch * queries * heads, len(shapes) * points) for tensor in tensors], dim=1)

    first = per_point(starts, torch.int32) + row + 1
    position = top.to(torch.int32) * row + left.to(torch.int32) + first
    position = position + torch.arange(batch, dtype=torch.int32)[:, None, None] * table_bshd.shape[1]
    head = torch.arange(heads, dtype=torch.int32).repeat_interleave(len(shapes) * points)
    index = position * heads + head
    below = index + row * heads
    corners = (index, index + heads, below, below + heads)
    summed = F.embedding_bag(
        per_bag(corners), table_bshd.reshape(-1, channels), per_sample_weights=per_bag(shares), mode="sum"
    )
    return summed.view(batch, queries, heads * channels)


def _by_grids(value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """By `grid_sample`, which accelerators are fast at, level by level."""
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    total = value.new_zeros(batch * heads, channels, queries)
    for number, (level, shape) in enumerate(
        zip(torch.split(value, [h * w for h, w in shapes], dim=1), shapes, strict=True)
    ):
        picture = level.permute(0, 2, 3, 1).reshape(batch * heads, channels, *shape)
        grid = 2 * locations[:, :, :, number].transpose(1, 2).flatten(0, 1) - 1
        weight = weights[:, :, :, number].transpose(1, 2).flatten(0, 1)
        sampled = F.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        total = total + (sampled * weight[:, None]).sum(-1)
    return total.view(batch, heads * channels, queries).transpose(1, 2)
