"""Cut-outs from one's own videos, without labels: what moves is cut out, to be pasted elsewhere for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.api import load
from maskstream.files import whole_folder
from maskstream.formats.pictures import write_indices, write_jpeg
from maskstream.types import FrameSegmentation, InputError, Task, VideoSegmenter
from maskstream.video import open_video, prefetch

SHARE = (0.005, 0.35)
"""Of the picture: what is smaller is noise, what is larger is no object."""


def write_cutouts(
    videos: Sequence[Path],
    folder: Path,
    *,
    every: int = 10,
    size: int = 480,
    model: VideoSegmenter | None = None,
    on_frame: Callable[[int], None] = lambda _: None,
) -> int:
    """Write pairs of a picture and the mask of one object, as `maskstream.synthetic.cutouts.read_cutouts` takes them.

    Args:
        videos: any that can be opened; frames of one are numbered by it.
        folder: to write; must not be there yet.
        every: objects are cut out of every so many-th frame.
        size: short side of the pictures.
        model: finds the objects; the default finds what moves.
        on_frame: called with the number of frames that are done, of all videos.

    Returns:
        How many pairs there are.

    Raises:
        InputError: the folder is there already, or nothing moves in any of the videos.
        VideoError: a video cannot be read.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already: name another folder, or remove it")
    model, pairs, done = model or load(), 0, 0
    with whole_folder(folder) as temporary:
        for video in videos:
            opened = open_video(video)
            session = model.start(Task.UVOS, size_hw=opened.size_hw, fps=opened.fps)
            kept: dict[int, NDArray[np.uint8]] = {}
            for frame in prefetch(opened):
                if frame.index % every == 0:
                    kept[frame.index] = frame.image
                for result in session.step(frame):
                    pairs += _cut_out(result, kept.pop(result.frame_index, None), temporary / video.stem, size)
                done += 1
                on_frame(done)
            for result in session.finish():
                pairs += _cut_out(result, kept.pop(result.frame_index, None), temporary / video.stem, size)
        if not pairs:
            raise InputError(f"nothing moves in {', '.join(map(str, videos))}, as far as can be seen")
    return pairs


def _cut_out(result: FrameSegmentation, image: NDArray[np.uint8] | None, stem: Path, size: int) -> int:
    """Write the objects of a frame that is kept; how many."""
    if image is None:
        return 0
    scale, pairs = size / min(image.shape[:2]), 0
    size_wh = round(scale * image.shape[1]), round(scale * image.shape[0])
    picture = np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    for segment, mask in zip(result.segments, result.masks_nhw().cpu().numpy(), strict=True):
        if SHARE[0] < mask.mean() < SHARE[1]:
            small = cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST)
            path = stem.with_name(f"{stem.name}-{result.frame_index:05d}-{segment.track_id}")
            write_jpeg(path.with_suffix(".jpg"), picture)
            write_indices(path.with_suffix(".png"), small.astype(np.int32) * 255, grey=True)
            pairs += 1
    return pairs
