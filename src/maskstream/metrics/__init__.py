"""How good a result is: pure functions and streaming accumulators, one file per metric family.

Every accumulator takes frames (`update`), closes sequences (`end_sequence`), merges what other processes found and
gives a `Report`; the numbers are those of the official tools. See ``docs/metrics.md``.
"""

from .accumulator import Accumulator, Report, Scores
from .boundaries import boundary_radius
from .burst import BurstGuided, BurstOpenWorld, BurstSequence
from .davis_unsupervised import DavisUnsupervised
from .flicker import Flicker, Motion
from .jf import boundary_f, region_similarity, sequence_mean
from .lvos import Lvos, LvosObject, LvosUnsupervised
from .mose import MoseV2
from .mots import KITTI_MOTS, Mots
from .pairing import paired_names
from .referring import Mevis, RefCoco, RefDavis, RefYoutubeVos
from .semantic import ForegroundJ, SemanticQuality, VideoConsistency
from .stq import SegmentationTrackingQuality
from .viposeg import Viposeg, ViposegObject
from .vis_ap import PredictedTube, TrueTube, VideoInstanceAP
from .vos import Davis2016, DavisSemiSupervised, GenericVos, SaV
from .vpq import CITYSCAPES_VPS_WINDOWS, DEVA_WINDOWS, VIPSEG_WINDOWS, VideoPanopticQuality
from .ytvos import YoutubeObject, YoutubeVos

__all__ = [
    "CITYSCAPES_VPS_WINDOWS",
    "DEVA_WINDOWS",
    "KITTI_MOTS",
    "VIPSEG_WINDOWS",
    "Accumulator",
    "BurstGuided",
    "BurstOpenWorld",
    "BurstSequence",
    "Davis2016",
    "DavisSemiSupervised",
    "DavisUnsupervised",
    "Flicker",
    "ForegroundJ",
    "GenericVos",
    "Lvos",
    "LvosObject",
    "LvosUnsupervised",
    "Mevis",
    "MoseV2",
    "Motion",
    "Mots",
    "PredictedTube",
    "RefCoco",
    "RefDavis",
    "RefYoutubeVos",
    "Report",
    "SaV",
    "Scores",
    "SegmentationTrackingQuality",
    "SemanticQuality",
    "TrueTube",
    "VideoConsistency",
    "VideoInstanceAP",
    "VideoPanopticQuality",
    "Viposeg",
    "ViposegObject",
    "YoutubeObject",
    "YoutubeVos",
    "boundary_f",
    "boundary_radius",
    "paired_names",
    "region_similarity",
    "sequence_mean",
]
