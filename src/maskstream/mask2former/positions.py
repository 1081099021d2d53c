"""Where and when a place of a clip is, as sines: the code of Mask2Former's keys, with time added to it.

For an axis of d channels, channel k has the frequency 10000^(-2⌊k/2⌋/d); even channels are sines, odd ones cosines. The
first half of the channels is for rows, the second for columns; time takes all of them and is added (Tube-Link,
specification §2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EPSILON = 1e-6
_TEMPERATURE = 10_000.0


def clip_angles(frames: int, *, device: torch.device | str | None = None) -> Tensor:
    """Angles of the frames of a clip, ``float32[T]``: 2π (t + 1) / T, so they depend on how long the clip is."""
    return 2 * math.pi * torch.arange(1, frames + 1, device=device) / (frames + _EPSILON)


def position_codes(
    size_hw: tuple[int, int],
    channels: int,
    *,
    angles_t: Tensor | None = None,
    as_fractions: bool = True,
    device: torch.device | str | None = None,
) -> Tensor:
    """Codes of all places of a clip.

    Args:
        size_hw: of the map of features.
        channels: C, a multiple of 4.
        angles_t: ``float[T]``, when each frame is, such as `clip_angles`; None: of one picture, without time.
        as_fractions: whether a whole side is a full turn; otherwise places are one radian apart (TarViS, specification
            §5).
        device: of the result.

    Returns:
        ``float32[T, C, h, w]``; T = 1 without time.
    """
    counted = (torch.arange(1, side + 1, device=device) for side in size_hw)
    rows_h, columns_w = (2 * math.pi * x / (len(x) + _EPSILON) if as_fractions else x for x in counted)
    half = channels // 2
    rows_chw = _sines(rows_h, half).T[:, :, None].expand(half, *size_hw)
    columns_chw = _sines(columns_w, half).T[:, None, :].expand(half, *size_hw)
    codes_1chw = torch.cat([rows_chw, columns_chw])[None]
    if angles_t is None:
        return codes_1chw
    return codes_1chw + _sines(angles_t.to(codes_1chw), channels)[:, :, None, None]


def point_codes(points_n2: Tensor, channels: int, angle: Tensor) -> Tensor:
    """Codes of points rather than of places of a map: their angles are 2π x and 2π y (UniVS, specification §4).

    Args:
        points_n2: ``float[N, 2]``, x and y in [0, 1].
        channels: C, a multiple of 4.
        angle: a number, when the frame is.

    Returns:
        ``float32[N, C]``.
    """
    columns_n, rows_n = (2 * math.pi * points_n2.float()).unbind(1)
    half = channels // 2
    return torch.cat([_sines(rows_n, half), _sines(columns_n, half)], 1) + _sines(angle.reshape(1), channels)


def _sines(angles_x: Tensor, channels: int) -> Tensor:
    """``float32[X, channels]``."""
    pair_k = torch.arange(channels, device=angles_x.device).div(2, rounding_mode="floor")
    turned_xk = angles_x[:, None].float() / _TEMPERATURE ** (2 * pair_k / channels)
    return torch.where(torch.arange(channels, device=angles_x.device) % 2 == 0, turned_xk.sin(), turned_xk.cos())
