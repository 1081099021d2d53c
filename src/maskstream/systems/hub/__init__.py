"""Video models of `transformers` behind the session of the house."""

from .memory import POLICIES, DistractorAware, HypothesisTree, MemoryPolicy, RecentFrames, policy_named
from .sam2 import SamVideo, load_sam_video
from .sam2_network import EdgeTamParts, Sam2Parts
from .sam2_objects import SamVideoSettings
from .sam2_session import SamVideoSession
from .sam3 import Sam3, load_sam3
from .sam3_network import Sam3Parts
from .sam3_session import Sam3Session, Sam3Settings
from .videomt import Videomt, load_videomt
from .videomt_session import VideomtSession, VideomtSettings

__all__ = [
    "POLICIES",
    "DistractorAware",
    "EdgeTamParts",
    "HypothesisTree",
    "MemoryPolicy",
    "RecentFrames",
    "Sam2Parts",
    "Sam3",
    "Sam3Parts",
    "Sam3Session",
    "Sam3Settings",
    "SamVideo",
    "SamVideoSession",
    "SamVideoSettings",
    "Videomt",
    "VideomtSession",
    "VideomtSettings",
    "load_sam3",
    "load_sam_video",
    "load_videomt",
    "policy_named",
]
