"""What moves by itself, learned: from optical flow over several gaps and the picture.

    per gap: flow minus camera, in tolerances │
             flow minus its median, in pixels │─► U-Net ─► does it move?
             consistent, contrast, in view    │
    picture ──────────────────────────────────┘

Trained on rendered flow alone such networks are known to transfer to real video (Lamdouar et al., "Segmenting
Invisible Moving Objects", BMVC 2021; Xie et al., "Segmenting Moving Objects via an Object-Centric Layered
Representation", NeurIPS 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .camera_motion import ByteArray, FloatArray, Residual
from .unet import UNet, filled, read_config, save_folder

CHANNELS_OF_GAP = 7
SCHEMA = "maskstream/motion-network"


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionConfig:
    """What the network looks at, and its widths.

    Attributes:
        gaps: frames back, ascending.
        widths: channels at strides 2, 4, 8, 16 and 32.
    """

    gaps: tuple[int, ...] = (1, 6, 10)
    widths: tuple[int, ...] = (32, 48, 96, 160, 192)

    @property
    def in_dim(self) -> int:
        """Channels of the input."""
        return 3 + CHANNELS_OF_GAP * len(self.gaps)


class MotionNetwork(UNet):
    """The network; see the module. It takes what `motion_inputs` gives.

    Args:
        config: what it looks at, and its widths.
    """

    def __init__(self, config: MotionConfig) -> None:
        super().__init__(config.in_dim, config.widths)
        self.config = config


def motion_inputs(image_hw3: ByteArray, residuals: Mapping[int, Residual], gaps: Sequence[int]) -> FloatArray:
    """What the network sees.

    Args:
        image_hw3: ``uint8[h, w, 3]``, RGB.
        residuals: by their gaps; those that are missing were too far back, or of another scene.
        gaps: of the network.

    Returns:
        ``float32[3 + CHANNELS_OF_GAP * gaps, h, w]``.
    """
    height, width = image_hw3.shape[:2]
    out = np.zeros((3 + CHANNELS_OF_GAP * len(gaps), height, width), np.float32)
    out[:3] = (image_hw3.astype(np.float32) / 128 - 1).transpose(2, 0, 1)
    for number, gap in enumerate(gaps):
        residual = residuals.get(gap)
        if residual is None:
            continue
        of_gap = out[3 + CHANNELS_OF_GAP * number :][:CHANNELS_OF_GAP]
        of_gap[:2] = (residual.flow / residual.tolerance[..., None]).transpose(2, 0, 1)
        raw = residual.flow + residual.camera
        of_gap[2:4] = (raw - np.median(raw[::4, ::4], axis=(0, 1))).transpose(2, 0, 1)
        np.arcsinh(of_gap[:4], out=of_gap[:4])
        of_gap[:4] /= 2
        of_gap[4], of_gap[5], of_gap[6] = residual.consistent, residual.contrast, residual.in_view
    return out


def save_motion_network(network: MotionNetwork, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors``; the same network gives the same bytes."""
    save_folder(network, asdict(network.config), folder, schema=SCHEMA)


def load_motion_network(folder: Path) -> MotionNetwork:
    """Load what `save_motion_network` wrote, for evaluation.

    Raises:
        InputError: a file is missing or damaged.
    """
    config = read_config(folder, MotionConfig, schema=SCHEMA)
    return filled(MotionNetwork(config), folder)
