"""What published weights are called, and of which shapes they are.

The lists in ``names`` were read from the authors' own modules: Mask2Former (commit 9b0651c) for those of detectron2,
Tube-Link (commit 524ecd7) for those of mmdet, each as configured for COCO panoptic, with 133 classes. Lists of whole
systems lie in other folders.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from ..propagation.hashed import hashed_weights

FOLDER = Path(__file__).with_name("names")
CLASSES = 133


def published(name: str, folder: Path = FOLDER) -> dict[str, torch.Size]:
    """Names and shapes. In the lists, ``a.{b,c}.d 2×3`` stands for two of them."""
    found = {}
    for line in (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        folded, shape = line.split()
        sizes = torch.Size([] if shape == "scalar" else map(int, shape.split("×")))
        parts = (part.strip("{}").split(",") for part in re.split(r"(\{.*?\})", folded))
        found.update({"".join(chosen): sizes for chosen in product(*parts)})
    return found


def without_values(name: str, **changed: tuple[int, ...]) -> dict[str, Tensor]:
    """A checkpoint without memory for its numbers."""
    shapes = {**published(name), **changed}
    return {entry: torch.empty(shape, device="meta") for entry, shape in shapes.items()}


def with_values(name: str) -> dict[str, Tensor]:
    """A checkpoint with numbers made from names."""
    return _filled(published(name))


def small() -> dict[str, Tensor]:
    """As `with_values`, of Tube-Link with STDC1 and one layer of each kind: 10 million numbers."""
    return _filled(
        {k: v for k, v in published("mmdet-stdc1").items() if not re.search(r"\.layers\.[1-8]\.(?!weight|bias)", k)}
    )


def _filled(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    index = {k: torch.zeros(v, dtype=torch.int64) for k, v in shapes.items() if k.endswith("relative_position_index")}
    return index | hashed_weights({k: v for k, v in shapes.items() if k not in index})
