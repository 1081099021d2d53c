"""Query-based flow: where the masks of a key frame are now (Weng et al., "Mask Propagation for Efficient Video Semantic
Segmentation", NeurIPS 2023; specification §3).

    frame, key frame ─► motion encoder ─► f0 … f4, at strides 8 … 128
    queries of the key frame ─┬─ blocks: attention among queries and a map, coarse to fine ─► queries, refined maps
                              │                     refined maps, f1, f0 ─► pixel flow PF, the same for all
                              └─► one vector each · motion map of f0 ─► query flow QF
    PF, QF ─► fused ─► one flow for each query, at stride 8, from the frame to the key frame

Modules are named as the authors name them, so that their weights load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstream.mask2former.decoder import attend
from maskstream.mask2former.network import STRIDE
from maskstream.mask2former.positions import position_codes

FlowKind: TypeAlias = Literal["fused", "query", "pixel", "refined"]
"""What moves masks: pixel and query flow fused (the method); query flow by itself; pixel flow of the encoder alone, as
in FlowNet ("optical flow" of the paper's tables); or pixel flow of maps that queries refined ("query for PF").
"""

QueryKind: TypeAlias = Literal["key", "learned", "random"]
"""Where queries come from: the key frame's own (the method), learned ones, or none: noise that is drawn once."""

MEAN = (0.411, 0.432, 0.450)
"""Of RGB in 0 … 1, subtracted from both pictures."""

_NEGATIVE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionConfig:
    """Sizes; as published unless said otherwise.

    Attributes:
        dim: C, of queries.
        queries: Q.
        widths: channels of the encoder at strides 4 … 128, of the full picture.
        levels: maps that queries look at, the coarsest first.
        stages: how often they look at each (S).
        heads: of attention.
        feedforward: width of the feed-forward networks.
        motion_dim: channels of the motion map for each of x and y, as many as of a query's vector.
        decoder_widths: channels that the expanding part has, at strides 64, 32, 16 and 8.
        flow: see `FlowKind`.
        query: see `QueryKind`.
        consistent: how masks were warped in training; see `warp.warp`.
    """

    dim: int = 256
    queries: int = 100
    widths: tuple[int, int, int, int, int, int] = (64, 128, 256, 512, 512, 1024)
    levels: int = 3
    stages: int = 3
    heads: int = 8
    feedforward: int = 2048
    motion_dim: int = 256
    decoder_widths: tuple[int, int, int, int] = (128, 128, 128, 64)
    flow: FlowKind = "fused"
    query: QueryKind = "key"
    consistent: bool = False


class _Conv(nn.Module):
    """A convolution, as ``….conv``."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int, *, stride: int = 1, bias: bool, active: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, kernel, stride=stride, padding=kernel // 2, bias=bias)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x)
        return F.leaky_relu(found, _NEGATIVE) if self.active else found


class _Deconv(nn.Module):
    """A transposed convolution that doubles the size, as ``….conv``."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_dim, out_dim, 4, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor, size_hw: Sequence[int]) -> Tensor:
        """At twice the size, cut off at the right and at the bottom."""
        found: Tensor = self.conv(x)
        return found[..., : size_hw[0], : size_hw[1]]


class MotionEncoder(nn.Module):
    """The contracting part of FlowNetS (Dosovitskiy et al., ICCV 2015), on two pictures at half size (§3.1, 3.2)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        kernels = (7, 5, 5, 3, 3, 3)
        before = 6
        for n, (width, kernel) in enumerate(zip(widths, kernels, strict=True), start=1):
            convs = [_Conv(before, width, kernel, stride=2, bias=True, active=True)]
            if n > 2:
                convs.append(_Conv(width, width, 3, bias=True, active=True))
            self.add_module(f"conv{n}", nn.Sequential(*convs))
            before = width

    def forward(self, current_b3hw: Tensor, key_b3hw: Tensor) -> list[Tensor]:
        """Features of a frame with its key frame.

        Args:
            current_b3hw: ``float[B, 3, H, W]``, RGB in 0 … 255.
            key_b3hw: the same of the key frame.

        Returns:
            Five maps, at strides 8, 16, 32, 64 and 128 of pictures padded to multiples of 32.
        """
        mean = torch.tensor(MEAN * 2, device=current_b3hw.device)[:, None, None]
        x = torch.cat([current_b3hw, key_b3hw], 1) / 255 - mean
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE))
        x = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
        maps = []
        for module in self.children():
            x = module(x)
            maps.append(x)
        return maps[1:]


class _SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_bnc: Tensor) -> Tensor:
        found: Tensor = self.norm(x_bnc + attend(self.self_attn, x_bnc, x_bnc, x_bnc))
        return found


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_bnc: Tensor) -> Tensor:
        found: Tensor = self.norm(x_bnc + self.linear2(F.relu(self.linear1(x_bnc))))
        return found


class _Mlp(nn.Module):
    """Linear maps with rectifiers between, as ``layers.#``."""

    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        found: Tensor = self.layers[-1](x)
        return found


class MotionDecoder(nn.Module):
    """From features of two pictures and queries to flow (§3.3 to 3.5).

    Args:
        config: sizes.
    """

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.config = config
        dim, levels, widths = config.dim, config.levels, config.widths
        blocks = config.stages * levels if self.looks else 0
        refined = widths[: -levels - 1 : -1]  # of the levels, the coarsest first
        if self.looks:
            self.input_proj = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in refined)
            self.level_embed = nn.Embedding(levels, dim)
            self.query_embed = nn.Embedding(config.queries, dim)
        if config.query != "key" and self.looks:
            start = nn.Embedding(config.queries, dim)
            start.requires_grad_(config.query == "learned")
            self.query_feat = start
        self.transformer_self_attention_layers = nn.ModuleList(_SelfAttention(dim, config.heads) for _ in range(blocks))
        self.transformer_ffn_layers = nn.ModuleList(_FeedForward(dim, config.feedforward) for _ in range(blocks))
        if config.flow != "query":
            self._add_expanding_part()
        if config.flow in ("fused", "query"):
            vector = config.motion_dim
            self.scale_layer = _Mlp(widths[1], 2 * vector, 2 * vector, 2 * vector)
            self.decoder_norm = nn.LayerNorm(dim)
            self.output_head = _Mlp(dim, 2 * vector, 2 * vector, vector)
        if config.flow == "fused":
            self.fuse_layer = _Conv(4, 2, 3, bias=True, active=False)
            self._begin_fusion()

    def _begin_fusion(self) -> None:
        """As published, everything moves by (1, 1) at first.

        Where warps are exact, everything stays: pixel and query flow are added and both are nothing, so that both learn
        from the first step on.
        """
        fuse, exact = self.fuse_layer.conv, self.config.consistent
        nn.init.zeros_(fuse.weight)
        assert fuse.bias is not None
        nn.init.constant_(fuse.bias, 0.0 if exact else 1.0)
        if exact:
            with torch.no_grad():
                for n in range(4):  # x and y of pixel flow, then of query flow
                    fuse.weight[n % 2, n, 1, 1] = 1.0
            nn.init.zeros_(self.get_parameter("predict_flow.conv.weight"))
            for weight in self.output_head.layers[-1].parameters():
                nn.init.zeros_(weight)

    @property
    def shared(self) -> bool:
        """Whether all queries have one flow."""
        return self.config.flow in ("pixel", "refined")

    @property
    def looks(self) -> bool:
        """Whether queries and maps look at each other."""
        return self.config.flow != "pixel"

    def _add_expanding_part(self) -> None:
        config = self.config
        own = [config.dim if self.looks and n < config.levels else width for n, width in enumerate(config.widths[::-1])]
        before = own[0]
        self.predict_flow6 = _Conv(before, 2, 3, bias=False, active=False)
        for number, width, skip in zip((5, 4, 3, 2), config.decoder_widths, own[1:5], strict=True):
            self.add_module(f"deconv{number}", _Deconv(before, width))
            self.add_module(f"upsample_flow{number}", _Deconv(2, 2))
            before = skip + width + 2
            name = "predict_flow" if number == 2 else f"predict_flow{number}"
            self.add_module(name, _Conv(before, 2, 3, bias=False, active=False))

    def forward(self, maps: Sequence[Tensor], queries_bqc: Tensor) -> Tensor:
        """Flow of every query.

        Args:
            maps: of `MotionEncoder`.
            queries_bqc: ``float[B, Q, C]``, of the key frame, after the last normalisation.

        Returns:
            ``float[B, Q, 2, H/8, W/8]``: x and y from the frame to the key frame, in pixels of this size. Where there
            is pixel flow alone, ``[B, 1, …]``.
        """
        config = self.config
        queries_bqc, pyramid = self._refined(maps, queries_bqc) if self.looks else (queries_bqc, list(maps))
        pixel_b2hw = None if config.flow == "query" else self._expanded(pyramid)[-1]
        if self.shared:
            assert pixel_b2hw is not None
            return pixel_b2hw[:, None]
        query_bq2hw = self._query_flow(maps[0], queries_bqc)
        if pixel_b2hw is None:
            return query_bq2hw
        pixel_bq2hw = pixel_b2hw[:, None].expand_as(query_bq2hw)
        both = torch.cat([pixel_bq2hw, query_bq2hw], 2)
        fused: Tensor = self.fuse_layer(both.flatten(0, 1))
        return fused.view_as(query_bq2hw)

    def pixel_flows(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Pixel flow at every size; of a module without the queries of a key frame.

        Args:
            maps: of `MotionEncoder`.

        Returns:
            Five of ``float[B, 2, h, w]``, at strides 128, 64, 32, 16 and 8; the last is the answer, and those before
            are what it is made from, in the same pixels.
        """
        return self._expanded(self._refined(maps)[1] if self.looks else maps)

    def _refined(self, maps: Sequence[Tensor], queries_bqc: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Queries and the pyramid after the blocks. Codes are added to contents, each time (§3.3)."""
        config = self.config
        if config.query != "key":
            queries_bqc = self.query_feat.weight[None].expand(len(maps[0]), -1, -1)
        assert queries_bqc is not None
        sizes = [(one.shape[2], one.shape[3]) for one in maps[: -config.levels - 1 : -1]]
        states, codes = [], []
        for level, (project, size_hw) in enumerate(zip(self.input_proj, sizes, strict=True)):
            projected = project(maps[-1 - level]) + self.level_embed.weight[level][:, None, None]
            states.append(projected.flatten(2).transpose(1, 2))
            code_chw = position_codes(size_hw, config.dim, device=projected.device)[0]
            codes.append(code_chw.flatten(1).T.to(projected))
        count = queries_bqc.shape[1]
        for i, (attention, feed_forward) in enumerate(
            zip(self.transformer_self_attention_layers, self.transformer_ffn_layers, strict=True)
        ):
            level = i % config.levels
            together = torch.cat([queries_bqc + self.query_embed.weight, states[level] + codes[level]], 1)
            together = feed_forward(attention(together))
            queries_bqc, states[level] = together[:, :count], together[:, count:]
        pyramid = list(maps)
        for level, (state, size_hw) in enumerate(zip(states, sizes, strict=True)):
            pyramid[-1 - level] = state.transpose(1, 2).unflatten(2, size_hw)
        return queries_bqc, pyramid

    def _expanded(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pixel flow, as `pixel_flows` gives it, by the expanding part of FlowNetS (§3.4)."""
        features = pyramid[-1]
        flows: list[Tensor] = [self.predict_flow6(features)]
        for number, skip in zip((5, 4, 3, 2), pyramid[-2::-1], strict=True):
            size_hw = skip.shape[2:]
            larger = F.leaky_relu(self.get_submodule(f"deconv{number}")(features, size_hw), _NEGATIVE)
            larger_flow = self.get_submodule(f"upsample_flow{number}")(flows[-1], size_hw)
            features = torch.cat([skip, larger, larger_flow], 1)
            flows.append(self.get_submodule("predict_flow" if number == 2 else f"predict_flow{number}")(features))
        return flows

    def _query_flow(self, finest_bchw: Tensor, queries_bqc: Tensor) -> Tensor:
        """``[B, Q, 2, H/8, W/8]``: products of a vector of each query with the motion map (§3.5)."""
        motion_bhwd = self.scale_layer(finest_bchw.movedim(1, -1))
        vectors_bqd = self.output_head(self.decoder_norm(queries_bqc))
        half_y, half_x = motion_bhwd.chunk(2, dim=-1)  # x is the second half in the authors' weights
        return torch.stack([torch.einsum("bqd,bhwd->bqhw", vectors_bqd, half) for half in (half_x, half_y)], 2)


class Motion(nn.Module):
    """Encoder and decoder: the flow of every query between two pictures.

    Args:
        config: sizes.
    """

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MotionEncoder(config.widths)
        self.decoder = MotionDecoder(config)

    def forward(self, current_b3hw: Tensor, key_b3hw: Tensor, queries_bqc: Tensor) -> Tensor:
        """See `MotionEncoder` and `MotionDecoder`."""
        found: Tensor = self.decoder(self.encoder(current_b3hw, key_b3hw), queries_bqc)
        return found
