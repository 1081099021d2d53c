"""A TarViS that sees colours: what is painted in one is a thing, and grey is grass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.prediction import ClipPrediction
from maskstream.pretrained import Pixels
from maskstream.systems.tarvis.model import TarViS
from maskstream.systems.tarvis.network import CategoryAnswers, TarViSConfig
from maskstream.systems.tarvis.settings import TarViSSettings
from maskstream.types import Frame, FrameSegmentation, Session, Task

SIZE = (64, 128)
COLOURS = 6
FAR = 10.0
HEN, PIG, GRASS, WATER = range(4)
NAMES = ("hen*", "pig*", "grass", "water")
PIXELS = Pixels(scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)


class PaintedNetwork(nn.Module):
    """Query q of instances finds colour q + 1, and says the class that it is told.

    Args:
        labels: class of each colour; of "nothing" the number of classes.
        sureness: logit of that class.
    """

    def __init__(self, labels: Sequence[int], sureness: float = 8.0) -> None:
        super().__init__()
        self.somewhere = nn.Parameter(torch.zeros(1))
        self.labels = list(labels)
        self.sureness = sureness
        self.config = TarViSConfig(label_spaces=("farm",), classes=(len(NAMES),), frames=4, names=NAMES)
        self.encoded: list[int] = []
        self.clips: list[list[int]] = []

    def maps(self, pixels_13hw: Tensor) -> tuple[Tensor, ...]:
        self.encoded += pixels_13hw[:, 2, 0, 0].int().tolist()
        return (pixels_13hw[:, :, 2::4, 2::4],)

    def joined(self, maps: tuple[Tensor, ...], *, frames: int) -> ClipFeatures:
        self.clips.append(maps[0][:, 2, 0, 0].int().tolist())
        assert len(maps[0]) == frames
        return ClipFeatures((), maps[0][None])

    def categories(self, features: ClipFeatures, label_space: str) -> list[CategoryAnswers]:
        assert label_space == "farm"
        red_thw, green_thw = features.mask_features_btchw[0, :, :2].unbind(1)
        colours_q = torch.arange(1, len(self.labels) + 1)
        masks_qthw = torch.where(red_thw == colours_q[:, None, None, None], FAR, -FAR)
        classes_qc = torch.zeros(len(self.labels), len(NAMES) + 1)
        classes_qc[range(len(self.labels)), self.labels] = self.sureness
        queries_qc = torch.zeros(len(self.labels), 4)
        ground_kthw = torch.zeros(len(NAMES), *red_thw.shape)
        ground_kthw[GRASS] = torch.where(red_thw > 0, -1.0, 1.0)
        ground_kthw[WATER] = green_thw / 10  # shallow or deep
        ground_kthw[HEN] = torch.where(red_thw > 0, 2.0, -2.0)
        return [
            CategoryAnswers(
                ClipPrediction(classes_qc[None], masks_qthw[None], queries_qc[None]),
                ground_kthw[None],
                torch.zeros_like(red_thw)[None],
                torch.zeros(1, len(NAMES), 4),
            )
        ]


def system(labels: Sequence[int] = (HEN,) * COLOURS, *, sureness: float = 8.0, **settings: object) -> TarViS:
    """TarViS that sees colours."""
    return TarViS(
        PaintedNetwork(labels, sureness),  # type: ignore[arg-type]
        PIXELS,
        settings=TarViSSettings(**settings),  # type: ignore[arg-type]
    )


def network_of(made: TarViS) -> PaintedNetwork:
    """What it sees with."""
    return cast("PaintedNetwork", made.network)


def painted(index: int, *boxes: tuple[int, int, int, int, int], water: int = 0) -> Frame:
    """A frame with boxes (colour, x0, y0, x1, y1), the later ones on top; its blue channel says its index.

    Args:
        index: of it.
        boxes: things.
        water: how deep it is everywhere.
    """
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 1] = water
    image[..., 2] = index
    for colour, x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1, 0] = colour
    return Frame(index, index / 10, image)


def square(colour: int, x: int, y: int, side: int = 24) -> tuple[int, int, int, int, int]:
    return (colour, x, y, x + side, y + side)


def start(made: TarViS, task: Task, **options: object) -> Session:
    return made.start(task, size_hw=SIZE, **options)  # type: ignore[arg-type]


def watch(session: Session, frames: Sequence[Frame]) -> list[FrameSegmentation]:
    """All results of a video."""
    return [*(result for frame in frames for result in session.step(frame)), *session.finish()]


def colours(result: FrameSegmentation, frame: Frame) -> dict[int, set[int]]:
    """By track, the colours that its mask covers by more than a rim."""
    found = {}
    red_hw = torch.from_numpy(frame.image[..., 0])
    for segment, mask_hw in zip(result.segments, result.masks_nhw(), strict=True):
        counts = torch.bincount(red_hw[mask_hw].long(), minlength=COLOURS + 1)
        if int(mask_hw.sum()):
            found[segment.track_id] = {c for c, n in enumerate(counts.tolist()) if n > 0.3 * int(mask_hw.sum())}
    return found
