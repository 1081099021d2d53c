"""A network that sees colours: what is painted in one is an object of a known class, and looks like that colour."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.prediction import ClipPrediction
from maskstream.pretrained import Pixels
from maskstream.systems.tubelink import TubeLink, TubeLinkConfig, TubeLinkNetwork, TubeLinkSession, TubeLinkSettings
from maskstream.systems.tubelink.association import Association
from maskstream.types import Category, CategorySet, Frame, FrameSegmentation, Task

SIZE = (8, 12)
CLASSES = CategorySet("farm", (Category(10, "hen", True), Category(20, "pig", True), Category(30, "grass", False)))
HEN, PIG, GRASS = 0, 1, 2
PIXELS = Pixels(scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)


class PaintedCore(nn.Module):
    """Query q finds what has colour q + 1 in the red channel, and says the class that it is told.

    Args:
        labels: class of each query.
        order: of queries in each tube that is decoded, or None: always the same.
    """

    def __init__(self, labels: Sequence[int], order: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__()
        self.labels = list(labels)
        self.order = order
        self.tubes = 0
        self.lengths: list[int] = []
        self.seen: list[int] = []
        self.sureness = 20.0
        self.network = SimpleNamespace(config=SimpleNamespace(id2label=None))

    @property
    def classes(self) -> int:
        return len(CLASSES)

    def features(self, pixels_bt3hw: Tensor) -> ClipFeatures:
        self.seen += pixels_bt3hw[0, :, 2, 0, 0].int().tolist()
        return ClipFeatures((), pixels_bt3hw[:, :, :1])

    def decode(self, features: ClipFeatures, *, every_stage: bool = False) -> list[ClipPrediction]:
        red_bthw = features.mask_features_btchw[:, :, 0]
        self.lengths.append(red_bthw.shape[1])
        colours = torch.arange(1, len(self.labels) + 1)
        masks = 40.0 * (red_bthw[:, None] == colours[:, None, None, None]) - 20
        there = (masks > 0).flatten(2).any(2)
        classes = torch.full((1, len(self.labels), self.classes + 1), -self.sureness)
        for q, label in enumerate(self.labels):
            classes[0, q, label if there[0, q] else -1] = self.sureness
        queries = 4 * torch.eye(len(self.labels))[None]
        order = list(range(len(self.labels))) if self.order is None else list(self.order[self.tubes])
        self.tubes += 1
        return [ClipPrediction(classes[:, order], masks[:, order], queries[:, order])]


class _Untouched(nn.Module):
    def forward(self, queries: Tensor) -> Tensor:
        return queries


def system(
    labels: Sequence[int], *, order: Sequence[Sequence[int]] | None = None, learned: bool = True, **settings: object
) -> tuple[TubeLink, PaintedCore]:
    """Tube-Link that sees colours, and what it sees with."""
    network = TubeLinkNetwork.__new__(TubeLinkNetwork)
    nn.Module.__init__(network)
    core = PaintedCore(labels, order)
    network.core = core  # type: ignore[assignment]
    network.config = TubeLinkConfig(association=learned)
    network.association = Association(len(labels), heads=1, hidden=4) if learned else None
    if network.association is not None:
        network.association.embed = _Untouched()  # type: ignore[assignment]
    network.register_parameter("somewhere", nn.Parameter(torch.zeros(1)))
    options = {"link": "none", **settings}
    made = TubeLink(network, PIXELS, space=CLASSES, settings=TubeLinkSettings(**options))  # type: ignore[arg-type]
    return made, core


def painted(index: int, *strips: tuple[int, int, int]) -> Frame:
    """A frame with columns x0 … x1 - 1 in a colour for each strip (colour, x0, x1); its blue channel says its index."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 2] = index
    for colour, x0, x1 in strips:
        image[:, x0:x1, 0] = colour
    return Frame(index, index / 10, image)


def watch(session: TubeLinkSession, frames: Sequence[Frame]) -> list[FrameSegmentation]:
    """All results of a video."""
    return [*(result for frame in frames for result in session.step(frame)), *session.finish()]


def start(made: TubeLink, task: Task = Task.VPS, **options: object) -> TubeLinkSession:
    return made.start(task, size_hw=SIZE, **options)  # type: ignore[arg-type]


def columns(result: FrameSegmentation) -> dict[int, tuple[int, int]]:
    """By track, the columns that it covers in the first row."""
    found = {}
    for segment, mask in zip(result.segments, result.masks_nhw(), strict=True):
        there = mask[0].nonzero()[:, 0].tolist()
        if there:
            found[segment.track_id] = (there[0], there[-1] + 1)
    return found
