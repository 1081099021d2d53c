"""Parts from which the mask encoder and the decoder are built.

DEVA (Cheng et al., "Tracking Anything with Decoupled Video Segmentation", ICCV 2023), appendix A; they come from XMem
(Cheng & Schwing, ECCV 2022, §3.4 and appendix), CBAM (Woo et al., ECCV 2018), and pre-activation residual blocks (He et
al., ECCV 2016).

    Fuser          image   [b, Ci, h, w] ─┐
                                          ├─► residual ─► x ─► x + CBAM(x) ─► residual ─► [m, Co, h, w]
                   objects [m, Cn, h, w] ─┘

    GatedUpdate    input   [m, Cx, h, w] ─┐              ┌─► forget, update: sigmoid ─┐
                                          ├─► conv 3×3 ──┤                            ├─► next state [m, Ch, h, w]
                   state   [m, Ch, h, w] ─┘              └─► candidate: tanh ─────────┘

Objects never meet in here. Batch and objects are one axis, m = b · n, as convolutions want it: `join_objects`,
`split_objects`. What comes from the image is computed once a frame and added to all objects in place (`add_shared_`),
which keeps the layout in memory, channels last or first, that convolutions chose.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def join_objects(x_bn: Tensor) -> Tensor:
    """``[b, n, …]`` to ``[b · n, …]``."""
    return x_bn.flatten(0, 1)


def split_objects(x_m: Tensor, batch: int) -> Tensor:
    """``[b · n, …]`` to ``[b, n, …]``."""
    return x_m.view(batch, -1, *x_m.shape[1:])


def add_shared_(x_mchw: Tensor, shared_bchw: Tensor) -> Tensor:
    """Add what all objects of an image have in common, in place; returns ``x_mchw``."""
    split_objects(x_mchw, len(shared_bchw)).add_(shared_bchw.unsqueeze(1))
    return x_mchw


def convolve_joined(conv: nn.Conv2d, image_bchw: Tensor, objects_mchw: Tensor) -> Tensor:
    """``conv`` of image and object channels joined, the image first; its share is computed once for all objects.

    A convolution of joined channels is the sum of the convolutions of its parts, so joining them is not needed.

    Args:
        conv: takes ``Ci + Cn`` channels.
        image_bchw: ``[b, Ci, h, w]``.
        objects_mchw: ``[m, Cn, h, w]``.

    Returns:
        ``[m, Co, h', w']``.
    """
    split = image_bchw.shape[1]
    shared = F.conv2d(image_bchw, conv.weight[:, :split], conv.bias, conv.stride, conv.padding)
    own = F.conv2d(objects_mchw, conv.weight[:, split:], None, conv.stride, conv.padding)
    return add_shared_(own, shared)


class ResidualBlock(nn.Module):
    """``conv2(relu(conv1(relu(x)))) + x``; where widths differ, x goes through ``downsample``, not activated.

    Args:
        in_dim: channels of x.
        out_dim: channels of the result.
        shortcut_kernel: of ``downsample``: 1 in DEVA, 3 in XMem.
    """

    def __init__(self, in_dim: int, out_dim: int, *, shortcut_kernel: int = 1) -> None:
        super().__init__()
        self.downsample = (
            None if in_dim == out_dim else nn.Conv2d(in_dim, out_dim, shortcut_kernel, padding=shortcut_kernel // 2)
        )
        self.conv1 = nn.Conv2d(in_dim, out_dim, 3, padding=1)
        self.conv2 = nn.Conv2d(out_dim, out_dim, 3, padding=1)

    def forward(self, x_mchw: Tensor) -> Tensor:
        """``[m, in_dim, h, w]`` to ``[m, out_dim, h, w]``."""
        shortcut = x_mchw if self.downsample is None else self.downsample(x_mchw)
        y: Tensor = self.conv2(F.relu_(self.conv1(F.relu(x_mchw))))
        return y.add_(shortcut)

    def joined(self, image_bchw: Tensor, objects_mchw: Tensor) -> Tensor:
        """The same of ``[b, Ci, h, w]`` and ``[m, Cn, h, w]``, channels joined, the image first."""
        joined = convolve_joined(self.conv1, F.relu(image_bchw), F.relu(objects_mchw))
        y: Tensor = self.conv2(F.relu_(joined))
        if self.downsample is not None:
            return y.add_(convolve_joined(self.downsample, image_bchw, objects_mchw))
        split = image_bchw.shape[1]
        add_shared_(y[:, :split], image_bchw)
        y[:, split:].add_(objects_mchw)
        return y


class ChannelGate(nn.Module):
    """CBAM's first half: a weight for each channel, from its mean and its maximum over the map."""

    def __init__(self, dim: int, reduction: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(dim, dim // reduction), nn.ReLU(), nn.Linear(dim // reduction, dim)
        )

    def forward(self, x_mchw: Tensor) -> Tensor:
        """The gate alone, ``[m, C, 1, 1]`` in (0, 1)."""
        mean, peak = x_mchw.mean(dim=(2, 3)), x_mchw.amax(dim=(2, 3))
        return torch.sigmoid(self.mlp(mean) + self.mlp(peak))[..., None, None]


class SpatialGate(nn.Module):
    """CBAM's second half: a weight for each place, from the maximum and the mean over channels."""

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.spatial = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 1, kernel, padding=kernel // 2)))

    def forward(self, x_mchw: Tensor) -> Tensor:
        """The gate alone, ``[m, 1, h, w]`` in (0, 1)."""
        peak_and_mean = torch.stack([x_mchw.amax(dim=1), x_mchw.mean(dim=1)], dim=1)
        return torch.sigmoid(self.spatial(peak_and_mean))


class CBAM(nn.Module):
    """Attention over channels, then over places (Woo et al., ECCV 2018). No normalisation.

    The names of the two gates are those of the checkpoint.
    """

    def __init__(self, dim: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(dim, reduction)
        self.SpatialGate = SpatialGate()

    def forward(self, x_mchw: Tensor) -> Tensor:
        """``[m, C, h, w]`` to the same, weighted."""
        x_mchw = x_mchw * self.ChannelGate(x_mchw)
        gated: Tensor = x_mchw * self.SpatialGate(x_mchw)
        return gated


class Fuser(nn.Module):
    """Bring what is known of the image to what is known of each object.

    Args:
        image_dim: channels of the image feature.
        object_dim: channels of each object.
        out_dim: channels of the result.
        shortcut_kernel: see `ResidualBlock`.
    """

    def __init__(self, image_dim: int, object_dim: int, out_dim: int, *, shortcut_kernel: int = 1) -> None:
        super().__init__()
        self.block1 = ResidualBlock(image_dim + object_dim, out_dim, shortcut_kernel=shortcut_kernel)
        self.attention = CBAM(out_dim)
        self.block2 = ResidualBlock(out_dim, out_dim)

    def forward(self, image_bchw: Tensor, objects_mchw: Tensor) -> Tensor:
        """``[b, image_dim, h, w]`` and ``[m, object_dim, h, w]`` to ``[m, out_dim, h, w]``."""
        x = self.block1.joined(image_bchw, objects_mchw)
        fused: Tensor = self.block2(x + self.attention(x))
        return fused


class GatedUpdate(nn.Module):
    """The recurrent cell of both sensory updates.

        forget, update, candidate = conv([x; h])
        h' = σ(forget) · h · (1 − σ(update)) + σ(update) · tanh(candidate)

    Not the usual GRU: its candidate does not see a gated state. The state is float32, whatever runs in lower precision.

    Args:
        in_dim: channels of x.
        sensory_dim: channels of the state h.
    """

    def __init__(self, in_dim: int, sensory_dim: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(in_dim + sensory_dim, 3 * sensory_dim, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, x_mchw: Tensor, sensory_mchw: Tensor) -> Tensor:
        """``[m, in_dim, h, w]`` and ``[m, sensory_dim, h, w]`` to the next state, float32."""
        gates = self.transform(torch.cat([x_mchw, sensory_mchw.to(x_mchw.dtype)], dim=1)).float()
        forget, update, candidate = gates.chunk(3, dim=1)
        forget, update, candidate = torch.sigmoid(forget), torch.sigmoid(update), torch.tanh(candidate)
        return forget * sensory_mchw * (1 - update) + update * candidate
