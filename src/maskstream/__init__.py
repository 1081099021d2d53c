"""Video segmentation: one package, one command, every task.

    import maskstream

    for result in maskstream.segment("clip.mp4"):
        print(result.frame_index, result.areas())

Names are imported when first used, so that ``import maskstream`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .api import evaluate, load, segment, step_many
    from .datasets import open_dataset
    from .types import (
        BoxPrompt,
        CategorySet,
        Frame,
        FrameSegmentation,
        MaskPrompt,
        MaskstreamError,
        PointPrompt,
        ScribblePrompt,
        Segment,
        Task,
        TextPrompt,
        Track,
        Video,
        VideoSample,
    )
    from .video import open_video

_HOME = {
    "evaluate": "api",
    "load": "api",
    "open_dataset": "datasets",
    "open_video": "video",
    "segment": "api",
    "step_many": "api",
}

__all__ = [
    "BoxPrompt",
    "CategorySet",
    "Frame",
    "FrameSegmentation",
    "MaskPrompt",
    "MaskstreamError",
    "PointPrompt",
    "ScribblePrompt",
    "Segment",
    "Task",
    "TextPrompt",
    "Track",
    "Video",
    "VideoSample",
    "__version__",
    "evaluate",
    "load",
    "open_dataset",
    "open_video",
    "segment",
    "step_many",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'maskstream' has no attribute {name!r}")
    return getattr(import_module(f"maskstream.{_HOME.get(name, 'types')}"), name)


def __dir__() -> list[str]:
    return __all__
