"""Tube-Link: clips into tubes, tubes into a video (Li et al., ICCV 2023)."""

from .model import TubeLink, load_tubelink
from .network import TubeLinkConfig, TubeLinkNetwork, save_tubelink
from .session import Linking, TubeLinkSession, TubeLinkSettings

__all__ = [
    "Linking",
    "TubeLink",
    "TubeLinkConfig",
    "TubeLinkNetwork",
    "TubeLinkSession",
    "TubeLinkSettings",
    "load_tubelink",
    "save_tubelink",
]
