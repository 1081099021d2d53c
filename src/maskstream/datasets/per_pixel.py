"""What the families with a label for every pixel share: two folders a video, of pictures and of masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from maskstream.types import FrameAnnotation, InputError, VideoSample

from .places import contents, frames_of, pictures

ReadMask: TypeAlias = Callable[[Path, int], FrameAnnotation]
"""Reads the mask of frame ``index``."""


def mask_folder_video(
    name: str, *, images: Path, masks: Path | None, read: ReadMask, suffix: str = ".jpg", fps: float | None = None
) -> VideoSample:
    """A video whose pictures and masks are two folders with files of the same names.

    A picture without a mask counts as labelled, so that a mask that is lost is an error and not a better score; a mask
    without a picture is a frame too.

    Args:
        name: of the video.
        images: folder of the pictures.
        masks: folder of the masks; None where the data set hides them.
        read: reads a mask.
        suffix: of the pictures.
        fps: frames a second.

    Raises:
        InputError: there is no mask, or no picture where masks are hidden.
    """
    labelled = {} if masks is None else pictures(masks)
    folder = images if masks is None else masks
    stems = pictures(images).keys() | labelled.keys()
    if not (labelled or (masks is None and stems)):
        raise InputError(f"the video {name} has no pictures in {folder}: {contents(folder)}")
    frames = frames_of(stems, images=images, suffix=suffix)
    if masks is None:
        return VideoSample(name, frames, fps=fps)

    def read_annotation(index: int) -> FrameAnnotation:
        return read(masks / f"{frames[index].stem}.png", index)

    return VideoSample(name, frames, read_annotation, fps=fps)
