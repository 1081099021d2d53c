"""DEVA: tracking anything with decoupled video segmentation (Cheng et al., ICCV 2023)."""

from .identity import ObjectRecord, ObjectTable
from .merge import Merge, merge, render_proposals
from .model import Deva
from .session import DevaSession, DevaSettings

__all__ = ["Deva", "DevaSession", "DevaSettings", "Merge", "ObjectRecord", "ObjectTable", "merge", "render_proposals"]
