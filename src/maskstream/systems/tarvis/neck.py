"""The temporal neck: places of a frame, then times of a window, in turn (specification §6).

maps of the backbone ─► levels ─► for each layer: deformable, each frame alone ─► temporal, each window alone ─► levels
              └─ stride 4 ────────────────────────────────────────────────────► added ─► mask features

A window is 2 × 2 places of stride 32 and what lies there at strides 16 and 8, on all frames: 84 places of each. Windows
do not overlap and never move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstream.mask2former.decoder import attend
from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.positions import clip_angles, position_codes
from maskstream.types import InputError

if TYPE_CHECKING:
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerPixelDecoder

LEVELS = 3
"""At strides 32, 16 and 8."""

SIDE = 2
"""Of a window, in places of stride 32; so pictures are padded to multiples of 64."""


class TemporalLayer(nn.Module):
    """Attention within windows, over all levels and frames, and a feed-forward part.

    Args:
        channels: C.
        heads: of attention.
        hidden: width of the feed-forward part.
    """

    def __init__(self, channels: int, *, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.contract = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens_btkc: Tensor, codes_tkc: Tensor, windows_wn: Tensor) -> Tensor:
        """``float[B, T, K, C]``.

        Args:
            tokens_btkc: ``float[B, T, K, C]``, places of all levels.
            codes_tkc: ``float[T, K, C]``, where and when each is.
            windows_wn: ``int64[W, N]``, from `windows`.
        """
        batch, frames, _, channels = tokens_btkc.shape
        inside, codes = (x[:, :, windows_wn].transpose(1, 2) for x in (tokens_btkc, codes_tkc[None]))  # [B, W, T, N, C]
        values = inside.reshape(-1, frames * windows_wn.shape[1], channels)
        placed = (inside + codes).reshape(values.shape)
        found = attend(self.attention, placed, placed, values).view(batch, len(windows_wn), frames, -1, channels)
        back_k = windows_wn.flatten().argsort()
        found_btkc = found.transpose(1, 2).flatten(2, 3)[:, :, back_k]
        tokens_btkc = self.attention_norm(tokens_btkc + found_btkc)
        normed: Tensor = self.norm(tokens_btkc + self.contract(F.relu(self.expand(tokens_btkc))))
        return normed


class TemporalNeck(nn.Module):
    """What the neck has beside the pixel decoder of Mask2Former.

    Args:
        channels: C.
        heads: of attention.
        hidden: width of the feed-forward parts.
        layers: as many as the pixel decoder has.
    """

    def __init__(self, channels: int, *, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.level_codes = nn.Parameter(torch.randn(LEVELS, channels))
        self.layers = nn.ModuleList(TemporalLayer(channels, heads=heads, hidden=hidden) for _ in range(layers))


def neck_features(
    decoder: Mask2FormerPixelDecoder, neck: TemporalNeck, maps_xchw: Sequence[Tensor], *, frames: int
) -> ClipFeatures:
    """The temporal neck alone.

    Args:
        decoder: of `transformers`; its layers are gone through one by one.
        neck: what is added to it.
        maps_xchw: ``float[B·T, C', h, w]`` at strides 4, 8, 16 and 32.
        frames: T.
    """
    projected = [
        project(x) for project, x in zip(decoder.input_projections, reversed(list(maps_xchw)), strict=False)
    ]  # the map of stride 4 is left over
    sizes = [(int(x.shape[2]), int(x.shape[3])) for x in projected]
    tokens_xkc = torch.cat([_flat(x) for x in projected], 1)
    codes_1kc = _codes(sizes, decoder.level_embed, None)
    codes_tkc = _codes(sizes, neck.level_codes, clip_angles(frames, device=tokens_xkc.device))
    windows_wn = windows(sizes, device=tokens_xkc.device)
    whole = tokens_xkc.new_ones((len(tokens_xkc), LEVELS, 2), dtype=torch.float32)  # nothing counts as padding
    points = decoder.encoder.get_reference_points(sizes, whole, tokens_xkc.device)  # type: ignore[no-untyped-call]
    for layer, temporal in zip(decoder.encoder.layers, neck.layers, strict=True):
        with torch.autocast(tokens_xkc.device.type, enabled=False):  # places between pixels need all digits
            tokens_xkc = layer(
                tokens_xkc.float(),
                attention_mask=None,
                position_embeddings=codes_1kc.expand(len(tokens_xkc), -1, -1),
                reference_points=points,
                spatial_shapes_list=sizes,
            )[0]
        tokens_xkc = temporal(tokens_xkc.unflatten(0, (-1, frames)), codes_tkc, windows_wn).flatten(0, 1)
    parts = torch.split(tokens_xkc, [height * width for height, width in sizes], dim=1)
    levels = [part.transpose(1, 2).reshape(len(part), -1, *size_hw) for part, size_hw in zip(parts, sizes, strict=True)]
    finest = maps_xchw[0]
    upsampled = F.interpolate(levels[-1], finest.shape[2:], mode="bilinear", align_corners=False)
    adapt, smooth = (decoder.get_submodule(name) for name in ("adapter_1", "layer_1"))
    masks = decoder.mask_projection(smooth(adapt(finest) + upsampled))
    in_clips = [x.view(-1, frames, *x.shape[1:]) for x in (*levels, masks)]
    return ClipFeatures(tuple(in_clips[:-1]), in_clips[-1])


def windows(sizes_hw: Sequence[tuple[int, int]], *, device: torch.device | str = "cpu") -> Tensor:
    """Which places of all levels, one level after the other, are in each window.

    Args:
        sizes_hw: of the levels, coarsest first, each twice as large as the one before.
        device: of the result.

    Returns:
        ``int64[W, N]``; every place is in exactly one.

    Raises:
        InputError: a side of the coarsest level is odd.
    """
    rows, columns = sizes_hw[0]
    if rows % SIDE or columns % SIDE:
        raise InputError(f"the coarsest level is {rows}×{columns}, but its sides have to be even: pad to 64 pixels")
    found, before = [], 0
    for n, (height, width) in enumerate(sizes_hw):
        side = SIDE * 2**n
        places_hw = before + torch.arange(height * width, device=device).view(height, width)
        cells = places_hw.view(height // side, side, width // side, side).transpose(1, 2)
        found.append(cells.reshape(-1, side * side))
        before += height * width
    return torch.cat(found, 1)


def _codes(sizes_hw: Sequence[tuple[int, int]], embeddings_lc: Tensor, angles_t: Tensor | None) -> Tensor:
    """``float[T or 1, K, C]``, of places of all levels."""
    device, channels = embeddings_lc.device, embeddings_lc.shape[1]
    codes = [position_codes(size_hw, channels, angles_t=angles_t, device=device) for size_hw in sizes_hw]
    return torch.cat([_flat(code) + level_c for code, level_c in zip(codes, embeddings_lc, strict=True)], 1)


def _flat(x_xchw: Tensor) -> Tensor:
    return x_xchw.flatten(2).transpose(1, 2)
