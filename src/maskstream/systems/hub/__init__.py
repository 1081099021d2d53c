"""Video models of `transformers` behind the session of the house."""

from .memory import DistractorAware, HypothesisTree, MemoryPolicy, RecentFrames
from .sam2 import SamVideo, load_sam_video
from .sam2_network import EdgeTamParts, Sam2Parts
from .sam2_session import SamVideoSession, SamVideoSettings
from .videomt import Videomt, load_videomt
from .videomt_session import VideomtSession, VideomtSettings

__all__ = [
    "DistractorAware",
    "EdgeTamParts",
    "HypothesisTree",
    "MemoryPolicy",
    "RecentFrames",
    "Sam2Parts",
    "SamVideo",
    "SamVideoSession",
    "SamVideoSettings",
    "Videomt",
    "VideomtSession",
    "VideomtSettings",
    "load_sam_video",
    "load_videomt",
]
