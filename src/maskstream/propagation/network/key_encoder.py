"""What is known of a frame before anything is known of its objects.

DEVA, appendix A.1; keys, shrinkage and selection are those of XMem (Cheng & Schwing, ECCV 2022, §3.2).

    image [b, 3, H, W] ─► ResNet ─┬─► f4 [b, C4, H/4, W/4]
                                  ├─► f8 [b, C8, H/8, W/8]
                                  └─► stride 16 ─┬─ proj1 ─► f16 [b, Cp, h, w], for the mask encoder and the decoder
                                                 └─ proj2 ─► key feature [b, Cp, h, w]
                                                                  │
                                                     KeyHead ─────┼─► key       k [b, Ck, h, w]
                                                                  ├─► shrinkage s [b, 1, h, w], at least 1
                                                                  └─► selection e [b, Ck, h, w] in (0, 1)

XMem has no projections: both are the feature at stride 16 itself.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbones import BackboneConfig, make_stages, stem_conv


class PixelFeatures(NamedTuple):
    """Features of an image at three strides, and what keys are made of."""

    f16_bchw: Tensor
    f8_bchw: Tensor
    f4_bchw: Tensor
    key_feature_bchw: Tensor


class PixelEncoder(nn.Module):
    """ResNet to stride 16, and two projections of its last feature.

    Args:
        backbone: its size.
        pixel_dim: channels of the projections; None for none (XMem).
    """

    def __init__(self, backbone: BackboneConfig, pixel_dim: int | None) -> None:
        super().__init__()
        self.conv1, self.bn1 = stem_conv(3, backbone.stem), nn.BatchNorm2d(backbone.stem)
        self.res2, self.layer2, self.layer3 = make_stages(backbone)
        deepest = backbone.out_dims[-1]
        self.proj1 = nn.Identity() if pixel_dim is None else nn.Conv2d(deepest, pixel_dim, 1)
        self.proj2 = nn.Identity() if pixel_dim is None else nn.Conv2d(deepest, pixel_dim, 1)

    def forward(self, image_b3hw: Tensor) -> PixelFeatures:
        """Features of ``[b, 3, H, W]``."""
        x = F.relu_(self.bn1(self.conv1(image_b3hw)))
        f4 = self.res2(F.max_pool2d(x, 3, stride=2, padding=1))
        f8 = self.layer2(f4)
        deepest = self.layer3(f8)
        return PixelFeatures(self.proj1(deepest), f8, f4, self.proj2(deepest))


class KeyHead(nn.Module):
    """Key, shrinkage and selection of every place (XMem, eq. 2).

    Args:
        in_dim: channels of the key feature.
        key_dim: channels of key and selection.
    """

    def __init__(self, in_dim: int, key_dim: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(in_dim, key_dim, 3, padding=1)
        self.d_proj = nn.Conv2d(in_dim, 1, 3, padding=1)
        self.e_proj = nn.Conv2d(in_dim, key_dim, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight)
        assert self.key_proj.bias is not None
        nn.init.zeros_(self.key_proj.bias)

    def forward(self, x_bchw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Key ``[b, Ck, h, w]``, shrinkage ``[b, 1, h, w]`` (float32, ≥ 1), selection ``[b, Ck, h, w]``."""
        shrinkage = self.d_proj(x_bchw).float().square() + 1
        return self.key_proj(x_bchw), shrinkage, torch.sigmoid(self.e_proj(x_bchw))
