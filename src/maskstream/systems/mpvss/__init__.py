"""MPVSS: masks of key frames, carried by query-based flow (Weng et al., NeurIPS 2023)."""

from .keys import KeySettings
from .model import Mpvss, load_mpvss
from .motion import Motion, MotionConfig
from .network import MpvssNetwork, save_mpvss
from .session import Carrying, MpvssSession, MpvssSettings

__all__ = [
    "Carrying",
    "KeySettings",
    "Motion",
    "MotionConfig",
    "Mpvss",
    "MpvssNetwork",
    "MpvssSession",
    "MpvssSettings",
    "load_mpvss",
    "save_mpvss",
]
