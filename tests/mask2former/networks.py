"""Small networks with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig

CLASSES = 5


def small_network(seed: int = 0, *, classes: int = CLASSES, layers: int = 4) -> Mask2FormerForUniversalSegmentation:
    """A Mask2Former of 12 queries and 32 channels, for evaluation."""
    torch.manual_seed(seed)
    backbone: dict[str, Any] = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    other: dict[str, Any] = {"num_labels": classes}
    config = Mask2FormerConfig(
        backbone_config=ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic", **backbone
        ),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=layers + 1,
        dim_feedforward=48,
        num_queries=12,
        num_attention_heads=4,
        **other,
    )
    network = Mask2FormerForUniversalSegmentation(config)
    network.train(False)
    with torch.no_grad():  # as they come, masks are nearly empty or nearly full
        network.model.transformer_module.queries_features.weight.mul_(2)
    return network
