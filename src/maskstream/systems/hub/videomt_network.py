"""VidEoMT, one frame at a time ("Your ViT is Secretly Also a Video Segmentation Model", Norouzi et al., CVPR 2026).

    picture [3, S, S] ─► first blocks of a ViT ─┐
    learned queries [Q, D] ─────────────┬─► + ──┴─► last blocks ─┬─► class logits [Q, K + 1], mask logits [Q, h, w]
    queries of the frame before ─► linear ┘                      └─► queries, carried to the next frame

What is carried is all that a frame knows of those before, whether they were in the same clip or not. `transformers`
begins anew with every clip; its modules are used here, without its loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import VideomtForUniversalSegmentation


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the network says of a frame.

    Attributes:
        classes_qc: ``float[Q, K + 1]``, logits; the last class is "nothing".
        masks_qhw: ``float[Q, h, w]``, logits, of the whole picture.
        carried_1qd: ``float[1, Q, D]``, the queries after the last block, for the next frame.
    """

    classes_qc: Tensor
    masks_qhw: Tensor = field(repr=False)
    carried_1qd: Tensor = field(repr=False)


@torch.no_grad()
def answer(network: VideomtForUniversalSegmentation, pixels_13hw: Tensor, carried_1qd: Tensor | None) -> Answer:
    """Classes and masks of all queries on a frame (query propagation and query fusion).

    Args:
        network: for inference.
        pixels_13hw: ``float[1, 3, S, S]``, as the network wants it.
        carried_1qd: of the frame before; None on the first.
    """
    first = network.config.num_hidden_layers - network.config.num_blocks
    tokens_1nd = network.embeddings(pixels_13hw)
    for layer in network.layers[:first]:
        tokens_1nd = layer(tokens_1nd)
    queries_1qd = network.query.weight[None]
    if carried_1qd is not None:
        queries_1qd = network.query_updater(carried_1qd) + queries_1qd
    tokens_1nd = torch.cat([queries_1qd, tokens_1nd], 1)
    for layer in network.layers[first:]:
        tokens_1nd = layer(tokens_1nd)
    masks_1qhw, classes_1qc = network.predict(network.layernorm(tokens_1nd))
    # A copy: a view would keep the tokens of the whole picture.
    return Answer(classes_1qc[0], masks_1qhw[0], tokens_1nd[:, : queries_1qd.shape[1]].clone())
