"""STDC, a small and fast backbone (Fan et al., "Rethinking BiSeNet For Real-time Semantic Segmentation", CVPR 2021).

    picture ─► x2 ─► x4 ─► x8 ─► x16 ─► x32       strides 2, 4, 8, 16, 32
               32    64    256   512    1024      channels; stages "stem", "stage1" … "stage4"

A block (§3.1) halves its width with every convolution and joins what all of them saw:

    x ─► 1×1 ─► a [O/2] ─► 3×3 ─► b [O/4] ─► 3×3 ─► c [O/8] ─► 3×3 ─► d [O/8]        out = a, b, c, d

With stride 2, a depthwise 3×3 lies between a and b, and a is averaged over 3×3. Parts are called as in the authors'
weights, and as in those of Tube-Link, which has no other such backbone. Importing this makes it known to
`transformers`, so that ``Mask2FormerConfig(backbone_config=StdcConfig(…))`` builds, saves and loads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel, initialization
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from maskstream.types import InputError

STDC1, STDC2 = (2, 2, 2), (4, 5, 3)
"""Blocks at strides 8, 16 and 32."""


class StdcConfig(BackboneConfigMixin, PreTrainedConfig):
    """Size of an STDC.

    Attributes:
        num_channels: of a picture.
        embedding_size: width at stride 4; the others are 1/2, 4, 8 and 16 times it. A multiple of 2.
        depths: blocks at strides 8, 16 and 32: `STDC1` or `STDC2`.
        out_features: which of "stem", "stage1" … "stage4" come out; the last if not said.

    Raises:
        InputError: there are no such depths or widths.
    """

    model_type = "stdc"

    num_channels: int = 3
    embedding_size: int = 64
    depths: list[int] | tuple[int, ...] = STDC1

    def __post_init__(
        self, out_features: list[str] | None = None, out_indices: list[int] | None = None, **kwargs: object
    ) -> None:
        """Check, and agree on what comes out, as all backbones of `transformers` do."""
        self.depths = list(self.depths)
        if len(self.depths) != 3 or min(self.depths) < 1:
            raise InputError(f"depths of an STDC are blocks at strides 8, 16 and 32, as {STDC1}, not {self.depths}")
        if self.embedding_size < 2 or self.embedding_size % 2:
            raise InputError(f"embedding_size of an STDC is {self.embedding_size}: give a multiple of 2")
        self.stage_names = ["stem", "stage1", "stage2", "stage3", "stage4"]
        self.set_output_features_output_indices(out_features, out_indices)  # type: ignore[no-untyped-call]
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]


class StdcBackbone(BackboneMixin, PreTrainedModel):
    """Features at strides 2 ("stem"), 4, 8, 16 and 32 ("stage1" … "stage4")."""

    config_class = StdcConfig
    base_model_prefix = "stdc"
    main_input_name = "pixel_values"
    has_attentions = False

    def __init__(self, config: StdcConfig) -> None:
        super().__init__(config)
        width = config.embedding_size
        self.num_features = [width // 2, width, 4 * width, 8 * width, 16 * width]
        at_8, at_16, at_32 = config.depths
        self.x2 = _numbered([_ConvNormRelu(config.num_channels, width // 2, 3, stride=2)], first=0)
        self.x4 = _numbered([_ConvNormRelu(width // 2, width, 3, stride=2)], first=1)
        self.x8 = _numbered(_blocks(width, 4 * width, at_8), first=2)
        self.x16 = _numbered(_blocks(4 * width, 8 * width, at_16), first=2 + at_8)
        self.x32 = _numbered(_blocks(8 * width, 16 * width, at_32), first=2 + at_8 + at_16)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **_: object,
    ) -> BackboneOutput:
        """Features of the stages asked for.

        Args:
            pixel_values: ``float[B, 3, H, W]``.
            output_hidden_states: whether those of all stages come out too.
            output_attentions: without effect.
            return_dict: without effect.

        Returns:
            ``feature_maps``: of each stage, ``float[B, C, ⌈H / s⌉, ⌈W / s⌉]``.
        """
        states = [pixel_values]
        for part in (self.x2, self.x4, self.x8, self.x16, self.x32):
            states.append(part(states[-1]))
        del states[0]
        chosen = tuple(x for x, stage in zip(states, self.stage_names, strict=True) if stage in self.out_features)
        return BackboneOutput(
            feature_maps=chosen,  # type: ignore[arg-type]  # theirs is said to be of one
            hidden_states=tuple(states) if output_hidden_states else None,
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, nn.Conv2d):
            initialization.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class _ConvNormRelu(nn.Module):
    def __init__(self, before: int, after: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.bn(self.conv(x))
        return F.relu(normed)


class _Block(nn.Module):
    """A block of the paper's §3.1, of four convolutions."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        half, quarter, eighth = after // 2, after // 4, after // 8
        self.conv_list = nn.ModuleList(
            [
                _ConvNormRelu(before, half, 1),
                _ConvNormRelu(half, quarter, 3),
                _ConvNormRelu(quarter, eighth, 3),
                _ConvNormRelu(eighth, eighth, 3),
            ]
        )
        self.avd_layer: nn.Sequential | None = None
        if stride == 2:
            shrink = nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half, bias=False)
            self.avd_layer = nn.Sequential(shrink, nn.BatchNorm2d(half))

    def forward(self, x: Tensor) -> Tensor:
        a = x = self.conv_list[0](x)
        if self.avd_layer is not None:
            a, x = F.avg_pool2d(x, 3, stride=2, padding=1), self.avd_layer(x)
        seen = [a]
        for conv in list(self.conv_list)[1:]:
            x = conv(x)
            seen.append(x)
        return torch.cat(seen, dim=1)


def _blocks(before: int, after: int, depth: int) -> list[_Block]:
    return [_Block(before, after, stride=2), *(_Block(after, after, stride=1) for _ in range(depth - 1))]


def _numbered(parts: Sequence[nn.Module], *, first: int) -> nn.Sequential:
    """Parts of a stage, called ``0.FIRST``, ``0.FIRST+1`` …: the authors number them through all stages."""
    stage = nn.Sequential()
    for n, part in enumerate(parts, start=first):
        stage.add_module(str(n), part)
    return nn.Sequential(stage)


AutoConfig.register("stdc", StdcConfig)
AutoBackbone.register(StdcConfig, StdcBackbone)
