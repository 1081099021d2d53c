"""Readers of the benchmarks: one file per family, one lazy sample type (`maskstream.types.VideoSample`)."""

from .catalogue import DATASETS, find_dataset, open_dataset
from .dataset import Dataset, DatasetInfo, LazyVideos

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "LazyVideos", "find_dataset", "open_dataset"]
