"""Running videos into output folders."""

from .offline import OfflineSession
from .request import library_versions, source_identity, weight_digests
from .run import RunSummary, segment_to_folder

__all__ = [
    "OfflineSession",
    "RunSummary",
    "library_versions",
    "segment_to_folder",
    "source_identity",
    "weight_digests",
]
