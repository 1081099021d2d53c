"""From what was read from memory to a mask for each object, and to the sensory memory of the next frame.

DEVA, appendix A.1; XMem (Cheng & Schwing, ECCV 2022, §3.4).

    sensory    [b, n, Ch, h, w] ─┐
                                 ├─► sensory_compress ─► + ─► Fuser with f16 ─► p16 [b, n, C16, h, w] ─────┐
    last masks [b, n, h, w] ─────┘                       ▲                       │ ×2, + skip8, residual   │
                                                         │                       ▼                         │
    readout    [b, n, Cv, h, w] ─────────────────────────┘                      p8 [b, n, C8, H/8, W/8] ───┤
                                                                                 │ ×2, + skip4, residual   │
                                                                                 ▼                         │
                                                                                p4 [b, n, C4, H/4, W/4] ───┤
                                                                                 │ pred                    │
                                                                                 ▼                         │
                                                                            logits [b, n, H/4, W/4] ───────┤
                                                                                                           ▼
                                     sensory [b, n, Ch, h, w] ◄── GatedUpdate ◄── all four, averaged to stride 16

skip8 and skip4 do not depend on objects: `MaskDecoder.skips` makes them once a frame. XMem's decoder joins read-out and
sensory memory instead of adding them, and does not see the last masks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..guide import CHANNELS
from .blocks import Fuser, GatedUpdate, ResidualBlock, add_shared_, join_objects, split_objects

_GUIDE_STRIDE = 4
_GUIDE_EPSILON = 0.05
"""The mask that flow carries is not taken to be surer than this."""


class SkipProjections(nn.Module):
    """Convolutions of f8 and f4 to the widths of the decoder, once a frame.

    Args:
        in_dims: channels of f8 and f4.
        out_dims: channels of the decoder before the block at stride 8, and before that at stride 4.
        kernel: 1 in DEVA, 3 in XMem.
    """

    def __init__(self, in_dims: tuple[int, int], out_dims: tuple[int, int], *, kernel: int) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(
            nn.Conv2d(i, o, kernel, padding=kernel // 2) for i, o in zip(in_dims, out_dims, strict=True)
        )

    def forward(self, f8_bchw: Tensor, f4_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """f8 and f4, projected."""
        return self.transforms[0](f8_bchw), self.transforms[1](f4_bchw)


class UpsampleBlock(nn.Module):
    """Twice the size, plus the image's detail: ``[m, in_dim, h, w]`` to ``[m, out_dim, 2h, 2w]``."""

    def __init__(self, in_dim: int, out_dim: int, *, shortcut_kernel: int) -> None:
        super().__init__()
        self.out_conv = ResidualBlock(in_dim, out_dim, shortcut_kernel=shortcut_kernel)

    def forward(self, x_mchw: Tensor, skip_bchw: Tensor, own_mchw: Tensor | None = None) -> Tensor:
        """``skip_bchw`` is ``[b, in_dim, 2h, 2w]``, for all objects; ``own_mchw``, of each, is added, too."""
        large = F.interpolate(x_mchw, scale_factor=2, mode="bilinear", align_corners=False)
        if own_mchw is not None:
            large = large.add_(own_mchw)
        out: Tensor = self.out_conv(add_shared_(large, skip_bchw))
        return out


class DecoderUpdate(GatedUpdate):
    """The sensory update of every frame, from three scales of the decoder.

    Args:
        dims: channels of p16, p8 and p4.
        update_dim: to which they are projected.
        sensory_dim: channels of sensory memory.
    """

    def __init__(self, dims: tuple[int, int, int], update_dim: int, sensory_dim: int) -> None:
        super().__init__(update_dim, sensory_dim)
        self.g16_conv = nn.Conv2d(dims[0], update_dim, 1)
        self.g8_conv = nn.Conv2d(dims[1], update_dim, 1)
        self.g4_conv = nn.Conv2d(dims[2] + 1, update_dim, 1)

    def scales(self, p16_mchw: Tensor, p8_mchw: Tensor, p4_mchw: Tensor, logits_m1hw: Tensor) -> Tensor:
        """The sum of all scales, averaged over areas, ``[m, update_dim, h, w]``; the logits join those at stride 4."""
        p8, p4, logits = F.avg_pool2d(p8_mchw, 2), F.avg_pool2d(p4_mchw, 4), F.avg_pool2d(logits_m1hw, 4)
        p4 = torch.cat([p4, logits.to(p4.dtype)], dim=1)
        total: Tensor = self.g16_conv(p16_mchw)
        return total.add_(self.g8_conv(p8)).add_(self.g4_conv(p4))


class AuxiliaryHead(nn.Module):
    """A linear classifier of f16 whose weights come from the sensory memory of each object and place; for training.

    Args:
        sensory_dim: channels of sensory memory.
        image_dim: channels of f16.
    """

    def __init__(self, sensory_dim: int, image_dim: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(sensory_dim, image_dim + 1, 1)

    def forward(self, f16_bchw: Tensor, sensory_bnchw: Tensor) -> Tensor:
        """Logits ``[b, n, h, w]`` at stride 16."""
        weights = split_objects(self.projection(join_objects(sensory_bnchw)), len(f16_bchw))
        return (f16_bchw.unsqueeze(1) * weights[:, :, :-1]).sum(dim=2) + weights[:, :, -1]


class GuideEncoder(nn.Module):
    """What flow and colour say of each object, brought to the scales of the decoder; not in the publications.

    Args:
        in_dim: channels of the guide.
        dim: channels inside.
        out_dims: channels of the decoder at stride 16, before the block at stride 8, and before that at stride 4.
    """

    def __init__(self, in_dim: int, dim: int, out_dims: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(_GUIDE_STRIDE**2 * in_dim, dim, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(dim, dim, 3, stride=stride, padding=1) for stride in (1, 2, 2))
        self.project = nn.ModuleList(nn.Conv2d(dim, out_dim, 1) for out_dim in reversed(out_dims))
        self.trust = nn.Parameter(torch.ones(()))

    def forward(self, guide_mchw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``[m, in_dim, H, W]`` to what is added at strides 16, 8 and 4, and to the logits ``[m, 1, H/4, W/4]``."""
        x, scales = F.relu(self.stem(F.pixel_unshuffle(guide_mchw, _GUIDE_STRIDE))), []
        for down, project in zip(self.down, self.project, strict=True):
            x = F.relu(down(x))
            scales.append(project(x))
        carried = F.avg_pool2d(guide_mchw[:, :1].float(), _GUIDE_STRIDE)
        return scales[2], scales[1], scales[0], self.trust.float() * torch.logit(carried, eps=_GUIDE_EPSILON)


class MaskDecoder(nn.Module):
    """Logits of every object at stride 4.

    Args:
        image_dims: channels of f16, f8 and f4.
        value_dim: channels of the read-out.
        sensory_dim: channels of sensory memory.
        dims: channels of p16, p8 and p4.
        update_dim: see `DecoderUpdate`.
        compress_sensory: whether sensory memory and the last mask are compressed and added to the read-out (DEVA);
            otherwise sensory memory is joined to it, and the last mask not seen (XMem).
        auxiliary: whether there is a head for the auxiliary loss.
        skip_kernel: see `SkipProjections`.
        shortcut_kernel: see `ResidualBlock`.
        guide_dim: see `GuideEncoder`; 0: there is no guide.
    """

    def __init__(
        self,
        image_dims: tuple[int, int, int],
        *,
        value_dim: int,
        sensory_dim: int,
        dims: tuple[int, int, int],
        update_dim: int,
        compress_sensory: bool,
        auxiliary: bool,
        skip_kernel: int,
        shortcut_kernel: int,
        guide_dim: int = 0,
    ) -> None:
        super().__init__()
        f16_dim, f8_dim, f4_dim = image_dims
        p16_dim, p8_dim, p4_dim = dims
        object_dim = value_dim if compress_sensory else value_dim + sensory_dim
        self.fuser = Fuser(f16_dim, object_dim, p16_dim, shortcut_kernel=shortcut_kernel)
        self.sensory_compress = nn.Conv2d(sensory_dim + 1, value_dim, 1) if compress_sensory else None
        self.sensory_update = DecoderUpdate(dims, update_dim, sensory_dim)
        self.decoder_feat_proc = SkipProjections((f8_dim, f4_dim), (p16_dim, p8_dim), kernel=skip_kernel)
        self.up_16_8 = UpsampleBlock(p16_dim, p8_dim, shortcut_kernel=shortcut_kernel)
        self.up_8_4 = UpsampleBlock(p8_dim, p4_dim, shortcut_kernel=shortcut_kernel)
        self.pred = nn.Conv2d(p4_dim, 1, 3, padding=1)
        self.sensory_linear_pred = AuxiliaryHead(sensory_dim, f16_dim) if auxiliary else None
        guided_dims = (object_dim, p16_dim, p8_dim)
        self.guide = GuideEncoder(CHANNELS, guide_dim, guided_dims) if guide_dim else None

    def skips(self, f8_bchw: Tensor, f4_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """What p8 and p4 get from the image: ``[b, Cp16, H/8, W/8]`` and ``[b, Cp8, H/4, W/4]``."""
        skip8, skip4 = self.decoder_feat_proc(f8_bchw, f4_bchw)
        return skip8, skip4

    def forward(
        self,
        image_bchw: tuple[Tensor, Tensor, Tensor],
        readout_bnchw: Tensor,
        sensory_bnchw: Tensor,
        last_masks_bnhw: Tensor,
        guide_bnchw: Tensor | None = None,
        *,
        update_sensory: bool,
    ) -> tuple[Tensor, Tensor]:
        """Segment a frame.

        Args:
            image_bchw: f16, and what `skips` made of f8 and f4.
            readout_bnchw: ``[b, n, Cv, h, w]``.
            sensory_bnchw: ``[b, n, Ch, h, w]``.
            last_masks_bnhw: ``[b, n, h, w]``, the masks of the frame before, at stride 16.
            guide_bnchw: ``[b, n, CHANNELS, H, W]``, for decoders that have a guide.
            update_sensory: whether sensory memory moves on; otherwise it comes back as it was.

        Returns:
            Logits ``float32[b, n, H/4, W/4]`` and sensory memory.
        """
        f16, skip8, skip4 = image_bchw
        sensory, batch = join_objects(sensory_bnchw), len(f16)
        informed = self._inform(join_objects(readout_bnchw), sensory, join_objects(last_masks_bnhw))
        if self.guide is None or guide_bnchw is None:
            p16 = self.fuser(f16, informed)
            p8 = self.up_16_8(p16, skip8)
            p4 = self.up_8_4(p8, skip4)
            logits = self._predict(p4)
        else:
            guide16, guide8, guide4, carried = self.guide(join_objects(guide_bnchw))
            p16 = self.fuser(f16, informed + guide16)
            p8 = self.up_16_8(p16, skip8, guide8)
            p4 = self.up_8_4(p8, skip4, guide4)
            logits = self._predict(p4) + carried
        if update_sensory:
            scales = self.sensory_update.scales(p16, p8, p4, logits)
            sensory_bnchw = split_objects(self.sensory_update(scales, sensory), batch)
        return split_objects(logits.squeeze(1), batch), sensory_bnchw

    def _inform(self, readout_mchw: Tensor, sensory_mchw: Tensor, last_masks_mhw: Tensor) -> Tensor:
        """The read-out with what sensory memory and the last mask add to it."""
        sensory = sensory_mchw.to(readout_mchw.dtype)
        if self.sensory_compress is None:
            return torch.cat([readout_mchw, sensory], dim=1)
        last = last_masks_mhw.to(readout_mchw.dtype).unsqueeze(1)
        compressed: Tensor = self.sensory_compress(torch.cat([sensory, last], dim=1))
        return compressed + readout_mchw

    def _predict(self, p4_mchw: Tensor) -> Tensor:
        """The last convolution, ``float32[m, 1, H/4, W/4]`` whatever the rest is."""
        with torch.autocast(p4_mchw.device.type, enabled=False):
            assert self.pred.bias is not None
            return F.conv2d(F.relu(p4_mchw.float()), self.pred.weight.float(), self.pred.bias.float(), padding=1)
