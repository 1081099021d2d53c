"""DEVA: tracking anything with decoupled video segmentation (Cheng et al., ICCV 2023)."""

from .alignment import Alignment, align
from .association import AssociationSession
from .consensus import Consensus, consensus, pairwise_iou
from .detections import Detections, agreed, render_proposals
from .first_objects import first_objects, renumbered_first_objects
from .merge import Merge, merge
from .model import Deva
from .offline import OfflineDeva, OfflineRun
from .session import DevaSession, DevaSettings

__all__ = [
    "Alignment",
    "AssociationSession",
    "Consensus",
    "Detections",
    "Deva",
    "DevaSession",
    "DevaSettings",
    "Merge",
    "OfflineDeva",
    "OfflineRun",
    "agreed",
    "align",
    "consensus",
    "first_objects",
    "merge",
    "pairwise_iou",
    "render_proposals",
    "renumbered_first_objects",
]
