"""Masks of a key frame, read where the flow points (specification §3.6)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(values_bqhw: Tensor, flow_bq2hw: Tensor, *, consistent: bool = False) -> Tensor:
    """Backward warp: the value at p is that of the key frame at p + F(p).

    Args:
        values_bqhw: ``float[B, Q, h, w]``, such as mask logits of the key frame.
        flow_bq2hw: ``float[B, Q, 2, h', w']``, x and y in pixels of its own size; it is brought to that of the values.
            Q may be 1: all are moved alike.
        consistent: read exactly there. Otherwise as the authors do, who divide by w and not by w - 1, so that without
            flow the value at column x is read at x (w - 1) / w; their networks have learned to live with that.

    Returns:
        ``float[B, Q, h, w]``; beyond the border it is that of the border.
    """
    batch, queries, height, width = values_bqhw.shape
    shared = flow_bq2hw.shape[1] == 1
    # Coordinates in half precision would be whole pixels beyond 1024.
    flow_n2hw = flow_bq2hw.flatten(0, 1).float()
    scale = width / flow_n2hw.shape[3]
    if flow_n2hw.shape[2:] != (height, width):
        flow_n2hw = F.interpolate(flow_n2hw, (height, width), mode="bilinear", align_corners=False)
    x_nhw = torch.arange(width, device=flow_n2hw.device) + scale * flow_n2hw[:, 0]
    y_nhw = torch.arange(height, device=flow_n2hw.device)[:, None] + scale * flow_n2hw[:, 1]
    last_x, last_y = (width - 1, height - 1) if consistent else (width, height)
    grid_nhw2 = torch.stack([2 * x_nhw / max(last_x, 1) - 1, 2 * y_nhw / max(last_y, 1) - 1], -1)
    values = values_bqhw.float() if shared else values_bqhw.float().flatten(0, 1)[:, None]
    found = F.grid_sample(values, grid_nhw2, mode="bilinear", padding_mode="border", align_corners=True)
    return found.view(batch, queries, height, width).to(values_bqhw)
