"""ResNet up to stride 16 (He et al., CVPR 2016), in the widths and depths asked for.

    image [b, C, H, W] ─► conv 7×7 /2 ─► norm ─► pool /2 ─► stage 1 ─► stage 2 /2 ─► stage 3 /2
                                                            stride 4    stride 8      stride 16

The convolution of 3×3 carries a bottleneck's stride, as in torchvision. The parts have torchvision's names, so that
weights trained on ImageNet fit. An encoder owns the parts itself (`stem_conv`, `make_stages`), under the names that the
published checkpoints give them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneConfig:
    """Size of a ResNet without its last stage.

    Attributes:
        block: two convolutions of 3×3, or a bottleneck, which puts out four times its width.
        stem: channels after the first convolution.
        widths: of the blocks of the three stages.
        depths: blocks in each stage.
    """

    block: Literal["basic", "bottleneck"] = "basic"
    stem: int = 64
    widths: tuple[int, int, int] = (64, 128, 256)
    depths: tuple[int, int, int] = (2, 2, 2)

    @property
    def out_dims(self) -> tuple[int, int, int]:
        """Channels after each stage, at strides 4, 8 and 16."""
        first, second, third = (width * BLOCKS[self.block].expansion for width in self.widths)
        return first, second, third


RESNET18 = BackboneConfig()
RESNET50 = BackboneConfig(block="bottleneck", depths=(3, 4, 6))


def stem_conv(in_dim: int, out_dim: int) -> nn.Conv2d:
    """The first convolution, 7×7 of stride 2."""
    return initialised(nn.Conv2d(in_dim, out_dim, 7, stride=2, padding=3, bias=False))


def make_stages(config: BackboneConfig) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
    """The three stages, to strides 4, 8 and 16."""
    block = BLOCKS[config.block]
    stages, in_dim = [], config.stem
    for stride, width, depth in zip((1, 2, 2), config.widths, config.depths, strict=True):
        blocks: list[nn.Module] = [block(in_dim, width, stride=stride)]
        in_dim = width * block.expansion
        blocks += [block(in_dim, width) for _ in range(depth - 1)]
        stages.append(nn.Sequential(*blocks))
    first, second, third = stages
    return first, second, third


def initialised(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution with weights that keep the variance through rectifiers (He et al., ICCV 2015)."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def fold_normalisation_(module: nn.Module) -> None:
    """Fold every normalisation within into the convolution before it, in place."""
    for part in module.modules():
        children = dict(part.named_children())
        for name, norm in children.items():
            if isinstance(norm, nn.BatchNorm2d):
                before = "0" if name == "1" else name.replace("bn", "conv")
                conv = children[before]
                assert isinstance(conv, nn.Conv2d)
                setattr(part, before, fuse_conv_bn_eval(conv, norm))
                setattr(part, name, nn.Identity())


def _conv(in_dim: int, out_dim: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return initialised(nn.Conv2d(in_dim, out_dim, kernel, stride=stride, padding=kernel // 2, bias=False))


def _shortcut(in_dim: int, out_dim: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_dim == out_dim:
        return None
    return nn.Sequential(_conv(in_dim, out_dim, 1, stride), nn.BatchNorm2d(out_dim))


class BasicBlock(nn.Module):
    """Two convolutions of 3×3 with a shortcut: ``[b, in_dim, h, w]`` to ``[b, width, h/stride, w/stride]``."""

    expansion = 1

    def __init__(self, in_dim: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(in_dim, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_dim, width, stride)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Run the block."""
        y: Tensor = F.relu_(self.bn1(self.conv1(x_bchw)))
        y = self.bn2(self.conv2(y))
        return F.relu_(y.add_(x_bchw if self.downsample is None else self.downsample(x_bchw)))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 with a shortcut: ``[b, in_dim, h, w]`` to ``[b, 4 · width, h/stride, w/stride]``."""

    expansion = 4

    def __init__(self, in_dim: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        out_dim = width * self.expansion
        self.conv1, self.bn1 = _conv(in_dim, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, out_dim, 1), nn.BatchNorm2d(out_dim)
        self.downsample = _shortcut(in_dim, out_dim, stride)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Run the block."""
        y: Tensor = F.relu_(self.bn1(self.conv1(x_bchw)))
        y = F.relu_(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu_(y.add_(x_bchw if self.downsample is None else self.downsample(x_bchw)))


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}
