"""Put fast deformable attention into networks of `transformers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from .deformable_attention import deformable_attention, deformable_points

NetworkT = TypeVar("NetworkT", bound=nn.Module)

_CORE = "MultiScaleDeformableAttention"
"""A module without weights, of that name in the files of Deformable DETR, Grounding DINO, RT-DETR …"""

_WHOLE = (
    "Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention",
    "OneFormerPixelDecoderEncoderMultiscaleDeformableAttention",
)
"""These call a function instead, so that they have to be replaced with their weights."""


def use_fast_attention(network: NetworkT) -> NetworkT:
    """Replace deformable attention in a network, in place; and let rectifiers write over what they read.

    Weights and their names stay as they are. What is not known is left alone, and another call changes nothing.

    Args:
        network: of `transformers`: Mask2Former, OneFormer, Deformable DETR, Grounding DINO and others with modules of
            their names.

    Returns:
        The network.
    """
    for parent in list(network.modules()):
        if getattr(parent, "activation_fn", None) is F.relu:
            # Of what a linear layer made, which needs it for nothing else.
            parent.activation_fn = F.relu_  # type: ignore[assignment]
        for name, child in list(parent.named_children()):
            if type(child).__name__ == _CORE and not isinstance(parent, FastCore):
                parent.add_module(name, FastCore(child))
            elif type(child).__name__ in _WHOLE:
                parent.add_module(name, FastAttention(child))
    return network


class FastCore(nn.Module):
    """In place of a ``MultiScaleDeformableAttention``, which goes on doing what is not on the CPU.

    Args:
        original: the module; it has no weights.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original

    def forward(
        self,
        value: Tensor,
        value_spatial_shapes: Tensor,
        value_spatial_shapes_list: Sequence[tuple[int, int]],
        level_start_index: Tensor,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: int,
    ) -> Tensor:
        """With the arguments of the original; ``float[B, Q, H·D]``."""
        if value.device.type == "cpu":
            return deformable_attention(value, value_spatial_shapes_list, sampling_locations, attention_weights)
        result: Tensor = self.original(
            value,
            value_spatial_shapes,
            value_spatial_shapes_list,
            level_start_index,
            sampling_locations,
            attention_weights,
            im2col_step,
        )
        return result


class FastAttention(nn.Module):
    """In place of the deformable attention of Mask2Former's and OneFormer's pixel decoders (Deformable DETR, eq. 3).

    Args:
        original: the module; its weights are taken over.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.n_heads, self.n_levels, self.n_points = (
            int(vars(original)[name]) for name in ("n_heads", "n_levels", "n_points")
        )
        self.sampling_offsets = original.get_submodule("sampling_offsets")
        self.attention_weights = original.get_submodule("attention_weights")
        self.value_proj = original.get_submodule("value_proj")
        self.output_proj = original.get_submodule("output_proj")
        self.train(original.training)

    def forward(
        self,
        hidden_states: Tensor,
        *,
        encoder_hidden_states: Tensor,
        reference_points: Tensor,
        spatial_shapes_list: Sequence[tuple[int, int]],
        attention_mask: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        **_: object,
    ) -> tuple[Tensor, Tensor]:
        """With the arguments of the original.

        Args:
            hidden_states: ``float[B, Q, D]``, the queries.
            encoder_hidden_states: ``float[B, S, D]``, positions of all levels, row by row.
            reference_points: ``float[B, Q, L, 2]``, x and y that offsets count from, 0 … 1.
            spatial_shapes_list: height and width of each level.
            attention_mask: ``bool[B, S]``, true where a position is none of the picture's.
            position_embeddings: ``float[B, Q, D]``, added to the queries.

        Returns:
            ``float[B, Q, D]``, and the weights of the points, ``float[B, Q, H, L, P]``.
        """
        queries = hidden_states if position_embeddings is None else hidden_states + position_embeddings
        value = self.value_proj(encoder_hidden_states)
        # Both networks always come with one. On the device of shapes alone nobody knows what is in it.
        if attention_mask is not None and (attention_mask.is_meta or attention_mask.any()):
            value = value.masked_fill(attention_mask[..., None], 0)
        offsets = self.sampling_offsets(queries).unflatten(-1, (self.n_heads, self.n_levels, self.n_points, 2))
        logits = self.attention_weights(queries).unflatten(-1, (self.n_heads, self.n_levels, self.n_points))
        locations, weights = deformable_points(spatial_shapes_list, reference_points, offsets, logits)
        value = value.unflatten(-1, (self.n_heads, -1))
        out: Tensor = self.output_proj(deformable_attention(value, spatial_shapes_list, locations, weights))
        return out, weights
