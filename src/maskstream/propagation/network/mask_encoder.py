"""What is remembered of each object on a frame: its value.

DEVA, appendix A.1; XMem (Cheng & Schwing, ECCV 2022, §3.4).

    image [b, 3, H, W] ──┐
                         ├─► ResNet-18, own stem ─► [b, n, C16, h, w] ─► Fuser with f16 ─┬─► value [b, n, Cv, h, w]
    masks [b, n, H, W] ──┘                                                               │
                                                       sensory [b, n, Ch, h, w] ─► GatedUpdate ─► sensory (deep update)

XMem shows the encoder the other objects too: the sum of their masks is another input channel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbones import BackboneConfig, make_stages, stem_conv
from .blocks import Fuser, GatedUpdate, convolve_joined, join_objects, split_objects


class MaskEncoder(nn.Module):
    """The value of every object, and the deep update of its sensory memory.

    Args:
        backbone: its size.
        image_dim: channels of f16.
        value_dim: channels of the value.
        sensory_dim: channels of sensory memory.
        other_masks: whether each object is shown the sum of the other masks (XMem).
        shortcut_kernel: see `ResidualBlock`.
    """

    def __init__(
        self,
        backbone: BackboneConfig,
        *,
        image_dim: int,
        value_dim: int,
        sensory_dim: int,
        other_masks: bool,
        shortcut_kernel: int,
    ) -> None:
        super().__init__()
        self.other_masks = other_masks
        self.conv1, self.bn1 = stem_conv(5 if other_masks else 4, backbone.stem), nn.BatchNorm2d(backbone.stem)
        with torch.no_grad():  # channels that no image encoder knows
            nn.init.orthogonal_(self.conv1.weight[:, 3:])
        self.layer1, self.layer2, self.layer3 = make_stages(backbone)
        self.fuser = Fuser(image_dim, backbone.out_dims[-1], value_dim, shortcut_kernel=shortcut_kernel)
        self.sensory_update = GatedUpdate(value_dim, sensory_dim)

    def inputs(self, masks_bnhw: Tensor) -> Tensor:
        """The channels that belong to an object, ``[b, n, 1 or 2, H, W]``. All objects have to be there."""
        if not self.other_masks:
            return masks_bnhw.unsqueeze(2)
        return torch.stack([masks_bnhw, masks_bnhw.sum(dim=1, keepdim=True) - masks_bnhw], dim=2)

    def forward(
        self, image_b3hw: Tensor, f16_bchw: Tensor, inputs_bnchw: Tensor, sensory_bnchw: Tensor, *, deep_update: bool
    ) -> tuple[Tensor, Tensor]:
        """Encode objects given by `inputs`.

        Returns:
            Values ``[b, n, Cv, h, w]``, and sensory memory, as it was if there is no deep update.
        """
        x = convolve_joined(self.conv1, image_b3hw, join_objects(inputs_bnchw))
        x = F.relu_(F.max_pool2d(self.bn1(x), 3, stride=2, padding=1))
        x = self.fuser(f16_bchw, self.layer3(self.layer2(self.layer1(x))))
        batch = len(image_b3hw)
        if deep_update:
            sensory_bnchw = split_objects(self.sensory_update(x, join_objects(sensory_bnchw)), batch)
        return split_objects(x, batch), sensory_bnchw
