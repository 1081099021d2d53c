"""A small project with masks, for tests."""

from pathlib import Path

import numpy as np

from maskstream.studio.editing import Editor
from maskstream.studio.project import Project
from maskstream.studio.records import Found, Mask, found_key, mask_key, soft_bytes
from maskstream.video import VideoWriter

FRAMES, SIZE = 6, (48, 64)


def write_video(path: Path, *, frames: int = FRAMES, size_hw: tuple[int, int] = SIZE) -> Path:
    """A white square on a grey ground that grows lighter; it moves right, two pixels a frame."""
    with VideoWriter(path, size_hw=size_hw, fps_hint=12) as writer:
        for n in range(frames):
            image = np.full((*size_hw, 3), 30 + 10 * n, np.uint8)
            image[square(n, size_hw)] = 250
            writer.write(image, n / 12)
    return path


def square(frame: int, size_hw: tuple[int, int] = SIZE) -> Mask:
    """``bool[H, W]``."""
    mask = np.zeros(size_hw, bool)
    mask[10:30, 4 + 2 * frame : 24 + 2 * frame] = True
    return mask


def strip(frame: int) -> Mask:
    """``bool[H, W]``: it touches no side of the square, and is nowhere on frame 0."""
    mask = np.zeros(SIZE, bool)
    mask[36:44, 8 : 8 + 6 * frame] = True
    return mask


def new_project(folder: Path, video: Path) -> Project:
    """Two objects that were brought in, on every frame but the last."""
    project = Project.create(folder, video)
    masks = [(n, {1: square(n), 2: strip(n)} if n else {1: square(n)}) for n in range(FRAMES - 1)]
    Editor(project).adopt(masks)
    return project


def make_soft(project: Project, object_id: int, frame: int) -> np.ndarray:
    """Give a mask of a project probabilities: 200 on it, 90 around it."""
    levels = np.where(project.label_map(frame) == object_id, 200, 90).astype(np.uint8)
    key = found_key(object_id, frame)
    with project.store.action("soften") as write:
        write.put(key, Found("test", 0.1).to_bytes())
        write.put(mask_key(key), soft_bytes(levels))
    return levels
