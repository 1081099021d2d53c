"""The decoding loop: queries look where their masks are, at each other, and answer again (Mask2Former, §3.2).

    for each layer:   masked cross-attention to one level of all frames ─► self-attention ─► feed-forward ─► masks

The layers are those of `transformers`. The loop is ours, because theirs knows one picture and one set of queries: here
a level is all frames of a clip, and who calls it says what queries are, how masks are embedded, what happens between
layers, and which queries see which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers.models.mask2former.modeling_mask2former import (
        Mask2FormerAttention,
        Mask2FormerMaskedAttentionDecoder,
        Mask2FormerMaskedAttentionDecoderLayer,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """What queries look at: features of one size, of all frames.

    Attributes:
        content_bkc: ``float[B, T·h·w, C]``; frames outermost, then rows, then columns.
        code_bkc: ``float[B or 1, T·h·w, C]``, where and when each place is; added to keys, not to values.
        size_thw: T, h and w.
    """

    content_bkc: Tensor = field(repr=False)
    code_bkc: Tensor = field(repr=False)
    size_thw: tuple[int, int, int]

    @classmethod
    def of(cls, features_btchw: Tensor, codes_tchw: Tensor) -> Level:
        """From maps of features and their codes.

        Args:
            features_btchw: ``float[B, T, C, h, w]``.
            codes_tchw: ``float[T, C, h, w]``; see `positions.position_codes`.
        """
        _, frames, _, height, width = features_btchw.shape
        content_bkc = features_btchw.movedim(2, -1).flatten(1, 3)
        code_bkc = codes_tchw.movedim(1, -1).flatten(0, 2)[None].to(content_bkc)
        return cls(content_bkc, code_bkc, (frames, height, width))


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Queries after a layer, or before the first.

    Attributes:
        queries_bqc: ``float[B, Q, C]``.
        normed_bqc: the same after the decoder's normalisation: what classes and masks are told from.
        masks_bqthw: ``float[B, Q, T, h, w]``, logits at the size of the mask features; None where only the last was
            asked for.
    """

    queries_bqc: Tensor
    normed_bqc: Tensor
    masks_bqthw: Tensor | None


BetweenLayers = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Number of the layer that comes, queries ``[B, Q, C]`` and their codes ``[B, Q, C]``, to both as they shall be."""


def decode(
    decoder: Mask2FormerMaskedAttentionDecoder,
    queries_bqc: Tensor,
    codes_bqc: Tensor,
    levels: Sequence[Level],
    mask_features_btchw: Tensor,
    *,
    embed_masks: Callable[[Tensor], Tensor] | None = None,
    before_layer: BetweenLayers | None = None,
    unseen: Callable[[int], Tensor | None] | None = None,
    frames_together: int = 1,
    every_stage: bool = True,
) -> list[Stage]:
    """Decode clips.

    Args:
        decoder: layers, normalisation and embedding of masks.
        queries_bqc: ``float[B, Q, C]``, what queries begin with.
        codes_bqc: ``float[B, Q, C]``, added to queries wherever they attend.
        levels: coarsest first; layer i looks at the (i mod L)-th.
        mask_features_btchw: ``float[B, T, C, h, w]``.
        embed_masks: from normalised queries to what is multiplied with mask features; None: the decoder's own. Several
            kinds of queries may be embedded by several networks.
        before_layer: called before each layer, when its masks are found; may change queries and codes.
        unseen: called with the number of each layer; ``bool[S, S]`` for self-attention of S queries, True where one
            does not see the other, or None. A query has to see at least one.
        frames_together: F, for queries of single frames: B counts frames, F after each other are of one clip, and the
            F·Q queries of a clip attend to each other, those of a frame side by side; so S is F·Q, otherwise Q.
        every_stage: find the masks of every stage, as training wants them; otherwise of the last one alone, and within
            attention at the size of the levels, which is faster and the same but for rounding.

    Returns:
        Layers + 1 stages, the first before any layer.
    """
    embed = embed_masks or decoder.mask_predictor.mask_embedder
    layers = cast("Sequence[Mask2FormerMaskedAttentionDecoderLayer]", decoder.layers)
    masks = _Masks(mask_features_btchw, [level.size_thw[1:] for level in levels], every_stage)
    stages: list[Stage] = []

    def look(number: int) -> Tensor | None:
        """Note a stage; where the layer that comes may not look, if there is one."""
        normed_bqc = decoder.layernorm(queries_bqc)
        last = number == len(layers)
        embedded_bqc = embed(normed_bqc)
        masks_bqthw = masks.whole(embedded_bqc) if every_stage or last else None
        stages.append(Stage(queries_bqc, normed_bqc, masks_bqthw))
        return None if last else masks.outside(embedded_bqc, masks_bqthw, number % len(levels))

    for i, layer in enumerate(layers):
        outside_bqk = look(i)
        if before_layer is not None:
            queries_bqc, codes_bqc = before_layer(i, queries_bqc, codes_bqc)
        queries_bqc = cross_attend(layer, queries_bqc, codes_bqc, levels[i % len(levels)], outside_bqk)
        unseen_ss = None if unseen is None else unseen(i)
        joint, codes = (_together(x, frames_together) for x in (queries_bqc, codes_bqc))
        queries_bqc = _apart(self_attend(layer, joint, codes, unseen_ss), frames_together)
        queries_bqc = feed_forward(layer, queries_bqc)
    look(len(layers))
    return stages


class _Masks:
    """Mask features, to be multiplied with what queries embed."""

    def __init__(self, features_btchw: Tensor, sizes: Sequence[tuple[int, int]], every_stage: bool) -> None:
        self._features = features_btchw
        self._sizes = sizes
        # To resize features is to resize all masks at once: both are linear.
        self._reduced = [] if every_stage else [_resized(features_btchw, size_hw) for size_hw in sizes]

    def whole(self, embedded_bqc: Tensor) -> Tensor:
        return _product(embedded_bqc, self._features)

    def outside(self, embedded_bqc: Tensor, masks_bqthw: Tensor | None, level: int) -> Tensor:
        """``bool[B, Q, T·h·w]``, True where a mask is not; all False for masks that are nowhere in the clip."""
        with torch.no_grad():
            if masks_bqthw is None:
                reduced_bqthw = _product(embedded_bqc, self._reduced[level])
            else:
                reduced_bqthw = _resized(masks_bqthw, self._sizes[level])
            outside_bqk = (reduced_bqthw.sigmoid() < 0.5).flatten(2)
            return outside_bqk & ~outside_bqk.all(2, keepdim=True)


def _product(embedded_bqc: Tensor, features_btchw: Tensor) -> Tensor:
    return torch.einsum("bqc,btchw->bqthw", embedded_bqc, features_btchw)


def _resized(maps: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """``[B, X, Y, h, w]`` at another size."""
    flat = F.interpolate(maps.flatten(0, 1), size_hw, mode="bilinear", align_corners=False)
    return flat.view(*maps.shape[:3], *size_hw)


def cross_attend(
    layer: Mask2FormerMaskedAttentionDecoderLayer,
    queries_bqc: Tensor,
    codes_bqc: Tensor,
    level: Level,
    outside_bqk: Tensor | None,
) -> Tensor:
    """Masked attention to a level, with the residual and its normalisation (Mask2Former, eq. 2).

    Args:
        layer: of the decoder.
        queries_bqc: ``float[B, Q, C]``.
        codes_bqc: ``float[B, Q, C]``.
        level: K places.
        outside_bqk: ``bool[B, Q, K]``, True where a query does not look.
    """
    keys_bkc = level.content_bkc + level.code_bkc
    found_bqc = attend(layer.cross_attn, queries_bqc + codes_bqc, keys_bkc, level.content_bkc, unseen=outside_bqk)
    normed: Tensor = layer.cross_attn_layer_norm(queries_bqc + found_bqc)
    return normed


def self_attend(
    layer: Mask2FormerMaskedAttentionDecoderLayer, queries_bqc: Tensor, codes_bqc: Tensor, unseen_qq: Tensor | None
) -> Tensor:
    """Attention of queries to each other, with the residual and its normalisation.

    Args:
        layer: of the decoder.
        queries_bqc: ``float[B, Q, C]``.
        codes_bqc: ``float[B, Q, C]``.
        unseen_qq: ``bool[Q, Q]``, True where a query does not see another.
    """
    attention: Mask2FormerAttention = layer.self_attn
    placed_bqc = queries_bqc + codes_bqc
    found_bqc = attention.out_proj(
        _attention(
            attention.q_proj(placed_bqc),
            attention.k_proj(placed_bqc),
            attention.v_proj(queries_bqc),
            heads=attention.num_heads,
            unseen=unseen_qq,
        )
    )
    normed: Tensor = layer.self_attn_layer_norm(queries_bqc + found_bqc)
    return normed


def feed_forward(layer: Mask2FormerMaskedAttentionDecoderLayer, queries_bqc: Tensor) -> Tensor:
    """The feed-forward part, with the residual and its normalisation."""
    normed: Tensor = layer.final_layer_norm(queries_bqc + layer.fc2(layer.activation_fn(layer.fc1(queries_bqc))))
    return normed


def attend(
    attention: nn.MultiheadAttention,
    queries_bqc: Tensor,
    keys_bkc: Tensor,
    values_bkc: Tensor,
    *,
    unseen: Tensor | None = None,
) -> Tensor:
    """What `torch.nn.MultiheadAttention` computes, batch first and without the attention weights.

    Args:
        attention: with packed projections.
        queries_bqc: ``float[B, Q, C]``.
        keys_bkc: ``float[B, K, C]``.
        values_bkc: ``float[B, K, C]``.
        unseen: ``bool[Q, K]`` or ``bool[B, Q, K]``, True where a query does not look.

    Returns:
        ``float[B, Q, C]``.
    """
    weights, biases = (x.chunk(3) for x in (attention.in_proj_weight, attention.in_proj_bias))
    projected = (
        F.linear(x, weight, bias)
        for x, weight, bias in zip((queries_bqc, keys_bkc, values_bkc), weights, biases, strict=True)
    )
    found: Tensor = attention.out_proj(_attention(*projected, heads=attention.num_heads, unseen=unseen))
    return found


def _attention(queries: Tensor, keys: Tensor, values: Tensor, *, heads: int, unseen: Tensor | None) -> Tensor:
    """Scaled dot products, ``[B, Q, C]``, of projected queries, keys and values."""
    queries, keys, values = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (queries, keys, values))
    seen = None if unseen is None else ~(unseen if unseen.dim() == 2 else unseen[:, None])
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen).transpose(1, 2).flatten(2)


def _together(x_bqc: Tensor, frames: int) -> Tensor:
    """From queries of frames to those of clips: ``[B / F, Q · F, C]``, the frames of a query side by side."""
    if frames == 1:
        return x_bqc
    batch, queries, channels = x_bqc.shape
    return x_bqc.view(batch // frames, frames, queries, channels).transpose(1, 2).flatten(1, 2)


def _apart(x_bqc: Tensor, frames: int) -> Tensor:
    """Undo `_together`."""
    if frames == 1:
        return x_bqc
    batch, queries, channels = x_bqc.shape
    return x_bqc.view(batch, queries // frames, frames, channels).transpose(1, 2).flatten(0, 1)
