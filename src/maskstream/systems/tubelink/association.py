"""From queries of two tubes to embeddings that tell who is who (Tube-Link, §3.2; specification §3).

queries of this tube ───┐
                        ├─► link ─► embed ─► compared with what was seen before
queries of the last ────┘
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from maskstream.mask2former.decoder import attend

LinkMode: TypeAlias = Literal["attention", "slot", "none"]
"""How queries look at those of the tube before: all at all (the paper's equation 4), each at the one in its own place
(what the authors' program computes when it is tested: softmax over a single key), or not at all. Weights are the same.
"""


class LinkLayer(nn.Module):
    """Cross-tube linking (§3.2, equation 4): attention, residual, normalisation, and a feed-forward network.

    Args:
        channels: C.
        heads: of attention.
        hidden: width of the feed-forward network.
    """

    def __init__(self, channels: int = 256, *, heads: int = 8, hidden: int = 1024) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.contract = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries_bqc: Tensor, others_bkc: Tensor, *, mode: LinkMode = "attention") -> Tensor:
        """Let queries know of others.

        Args:
            queries_bqc: ``float[B, Q, C]``, of a tube.
            others_bkc: ``float[B, K, C]``, of another tube; K is Q for "slot".
            mode: see `LinkMode`.

        Returns:
            ``float[B, Q, C]``.
        """
        if mode == "none":
            return queries_bqc
        if mode == "slot":
            values_bqc = F.linear(
                others_bkc, self.attention.in_proj_weight.chunk(3)[2], self.attention.in_proj_bias.chunk(3)[2]
            )
            seen_bqc = self.attention.out_proj(values_bqc)
        else:
            seen_bqc = attend(self.attention, queries_bqc, others_bkc, others_bkc)
        linked_bqc = self.attention_norm(queries_bqc + seen_bqc)
        found: Tensor = self.norm(linked_bqc + self.contract(F.relu(self.expand(linked_bqc))))
        return found


class EmbeddingHead(nn.Module):
    """``Emb`` of §3.2: fully connected layers; what comes out is compared by dot products and is not normalised.

    Args:
        channels: C.
    """

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, channels, bias=False),
            nn.LayerNorm(channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
        )

    def forward(self, queries_nc: Tensor) -> Tensor:
        """``float[…, C]`` of as many queries."""
        found: Tensor = self.layers(queries_nc)
        return found


class Association(nn.Module):
    """What only networks for video panoptic segmentation have: the link layer and the embedding head.

    Args:
        channels: C.
        heads: of attention.
        hidden: width of the link's feed-forward network.
    """

    def __init__(self, channels: int = 256, *, heads: int = 8, hidden: int = 1024) -> None:
        super().__init__()
        self.link = LinkLayer(channels, heads=heads, hidden=hidden)
        self.embed = EmbeddingHead(channels)
