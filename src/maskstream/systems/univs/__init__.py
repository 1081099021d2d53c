"""UniVS: prompts as queries (Li et al., CVPR 2024)."""

from .categories import CategorySession
from .model import UniVS, load_univs
from .network import UniVSConfig, UniVSNetwork, save_univs
from .prompted import PromptedSession
from .settings import Tracking, UniVSSettings

__all__ = [
    "CategorySession",
    "PromptedSession",
    "Tracking",
    "UniVS",
    "UniVSConfig",
    "UniVSNetwork",
    "UniVSSettings",
    "load_univs",
    "save_univs",
]
