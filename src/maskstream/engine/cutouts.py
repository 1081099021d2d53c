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

from .clipart import clipart_in, paste_clipart, read_clipart

SHARE = (0.005, 0.35)
"""Of the picture: what is smaller is noise, what is larger is no object."""


def write_cutouts(
    videos: Sequence[Path],
    folder: Path,
    *,
    every: int = 10,
    size: int = 480,
    shapes: int = 0,
    clipart: Path | None = None,
    seed: int = 0,
    model: VideoSegmenter | None = None,
    on_frame: Callable[[int], None] = lambda _: None,
) -> int:
    """Write pairs of a picture and the mask of one object, as `maskstream.synthetic.cutouts.read_cutouts` takes them.

    Args:
        videos: any that can be opened; frames of one are numbered by it.
        folder: to write; must not be there yet.
        every: objects are cut out of every so many-th frame.
        size: short side of the pictures, and at which the default model follows objects.
        shapes: so many pieces of the picture, of random shape, are cut out of these frames, too.
        clipart: a folder of pictures, searched to its bottom; from each that is transparent around one object, this
            is pasted on one of these frames.
        seed: of the shapes, and of where clip art is pasted.
        model: finds the objects; the default finds what moves, without weights.
        on_frame: called with the number of frames that are done, of all videos.

    Returns:
        How many pairs there are.

    Raises:
        InputError: the folder is there already, nothing moves in any of the videos, or there is no clip art.
        VideoError: a video cannot be read.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already: name another folder, or remove it")
    pairs, done = 0, 0
    # What training begins with must not depend on what was trained.
    model = model or load(segmenter="motion", propagator="flow", size=size)
    rng = np.random.default_rng(seed)
    drawn = clipart_in(clipart) if clipart is not None else []
    frames: list[NDArray[np.uint8]] = []
    with whole_folder(folder) as temporary:
        for video in videos:
            opened = open_video(video)
            session = model.start(Task.UVOS, size_hw=opened.size_hw, fps=opened.fps)
            kept: dict[int, NDArray[np.uint8]] = {}
            for frame in prefetch(opened):
                if frame.index % every == 0:
                    kept[frame.index] = _resized(frame.image, size)
                    if drawn:
                        frames.append(kept[frame.index])
                    for number in range(shapes):
                        mask = random_shape(kept[frame.index].shape[:2], rng)
                        _write(kept[frame.index], mask, temporary / f"{video.stem}-{frame.index:05d}-shape{number}")
                    pairs += shapes
                for result in session.step(frame):
                    pairs += _cut_out(result, kept.pop(result.frame_index, None), temporary / video.stem)
                done += 1
                on_frame(done)
            for result in session.finish():
                pairs += _cut_out(result, kept.pop(result.frame_index, None), temporary / video.stem)
        if not pairs:
            raise InputError(f"nothing moves in {', '.join(map(str, videos))}, as far as can be seen")
        for number, path in enumerate(drawn):
            art = read_clipart(path)
            if art is not None:
                _write(*paste_clipart(art, frames, rng), temporary / f"clipart-{number:05d}")
                pairs += 1
    return pairs


def random_shape(size_hw: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A smooth blob somewhere in a picture, ``bool[h, w]``: an ellipse whose radius waves.

    It covers at least `SHARE` of the picture, as what is cut out otherwise.
    """
    height, width = size_hw
    rows, columns = np.mgrid[:height, :width]
    while True:
        radius = height * np.exp(rng.uniform(np.log(0.08), np.log(0.45)))
        slim, turn = np.exp(rng.uniform(-0.5, 0.5)), rng.uniform(0, np.pi)
        x, y = columns - rng.uniform(0, width), rows - rng.uniform(0, height)
        x, y = (x * np.cos(turn) + y * np.sin(turn)) * slim, (y * np.cos(turn) - x * np.sin(turn)) / slim
        angle = np.arctan2(y, x)
        waves = [rng.uniform(0, 0.7 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 7)]
        mask: NDArray[np.bool_] = np.hypot(x, y) < radius * (1 + np.sum(waves, axis=0))
        if SHARE[0] < mask.mean() < SHARE[1]:
            return mask


def _cut_out(result: FrameSegmentation, picture: NDArray[np.uint8] | None, stem: Path) -> int:
    """Write the objects of a frame that is kept; how many."""
    if picture is None:
        return 0
    pairs, size_wh = 0, picture.shape[1::-1]
    for segment, mask in zip(result.segments, result.masks_nhw().cpu().numpy(), strict=True):
        if SHARE[0] < mask.mean() < SHARE[1]:
            small = cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST) > 0
            _write(picture, small, stem.with_name(f"{stem.name}-{result.frame_index:05d}-{segment.track_id}"))
            pairs += 1
    return pairs


def _resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    scale = size / min(image.shape[:2])
    size_wh = round(scale * image.shape[1]), round(scale * image.shape[0])
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _write(picture: NDArray[np.uint8], mask: NDArray[np.bool_], path: Path) -> None:
    write_jpeg(path.with_name(path.name + ".jpg"), picture)
    write_indices(path.with_name(path.name + ".png"), mask.astype(np.int32) * 255, grey=True)
