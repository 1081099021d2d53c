"""Readers of the benchmarks: one file per family, one lazy sample type (`maskstream.types.VideoSample`)."""

from .catalogue import DATASETS, open_dataset
from .dataset import Dataset, DatasetInfo, LazyVideos

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "LazyVideos", "open_dataset"]
