"""The sample clip on disk: a video, and its truth in the layout of DAVIS-2017."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2

from maskstream.formats import write_label_png
from maskstream.types import Frame, FrameAnnotation, InputError, OutputError

from .sample import FPS, render_sample

_DAVIS_FOLDERS = frozenset({"JPEGImages", "Annotations", "ImageSets"})
_JPEG_QUALITY = 95
_CRF = 17  # x264's; the clip looks like the rendered one


def write_sample(
    path: Path,
    *,
    frames: int = 90,
    size_hw: tuple[int, int] = (480, 854),
    objects: int = 4,
    seed: int = 0,
    on_frame: Callable[[int], None] | None = None,
) -> Path:
    """Write the sample clip, and its ground truth beside it as a small DAVIS-2017.

    For ``clip.mp4`` the truth is the folder ``clip_davis`` with ``JPEGImages/480p/clip/00000.jpg`` …,
    ``Annotations/480p/clip/00000.png`` … and ``ImageSets/2017/val.txt``; "480p" is DAVIS's name for the folder, at
    whatever size. Both appear whole or not at all, and replace those of an earlier sample.

    Args:
        path: the video, ``.mp4``.
        frames: how many frames.
        size_hw: height and width of the picture.
        objects: how many objects.
        seed: which variant; see `render_sample`.
        on_frame: called with the number of frames written so far, after every frame.

    Returns:
        The folder of the ground truth.

    Raises:
        InputError: an argument is out of range, or the name does not end in ``.mp4``.
        OutputError: the place cannot be written, or the folder of the truth exists and is something else.
    """
    from maskstream.video import VideoWriter

    if path.suffix.lower() != ".mp4":
        raise InputError(f"the sample is an MP4 video: name it {path.stem or 'sample'}.mp4, not {path.name}")
    truth = path.with_name(f"{path.stem}_davis")
    if truth.exists() and not (truth.is_dir() and {entry.name for entry in truth.iterdir()} <= _DAVIS_FOLDERS):
        raise OutputError(
            f"{truth} exists and is not the ground truth of a sample: move it, or name the sample otherwise"
        )
    rendered = render_sample(frames=frames, size_hw=size_hw, objects=objects, seed=seed)
    building = path.with_name(f".{truth.name}.partial")
    try:
        _fresh_folder(building, sequence=path.stem)
        with VideoWriter(path, size_hw=size_hw, fps_hint=FPS, quality=_CRF) as video:
            for frame, annotation in rendered:
                video.write(frame.image, frame.timestamp)
                _write_truth(building, path.stem, frame, annotation)
                if on_frame is not None:
                    on_frame(frame.index + 1)
        if truth.exists():
            shutil.rmtree(truth)
        building.rename(truth)
    except OSError as error:
        raise OutputError(f"cannot write the sample {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return truth


def _fresh_folder(root: Path, *, sequence: str) -> None:
    if root.exists():  # left by a run that was killed
        shutil.rmtree(root)
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "480p" / sequence).mkdir(parents=True)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text(f"{sequence}\n", encoding="utf-8", newline="\n")


def _write_truth(root: Path, sequence: str, frame: Frame, annotation: FrameAnnotation) -> None:
    name = f"{frame.index:05d}"
    _, jpeg = cv2.imencode(".jpg", frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    (root / "JPEGImages" / "480p" / sequence / f"{name}.jpg").write_bytes(jpeg.tobytes())
    ids = annotation.segmentation.panoptic_map().numpy()
    write_label_png(root / "Annotations" / "480p" / sequence / f"{name}.png", ids)
