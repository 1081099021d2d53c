"""Frames in, frames out: sources of every kind, decoding ahead, and the overlay's encoder (PyAV)."""

from .info import VideoInfo, probe
from .join import join_videos
from .open import VideoSource, open_video
from .prefetch import prefetch
from .sample import SampleVideo
from .writer import VideoWriter

__all__ = ["SampleVideo", "VideoInfo", "VideoSource", "VideoWriter", "join_videos", "open_video", "prefetch", "probe"]
