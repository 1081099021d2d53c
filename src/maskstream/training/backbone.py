"""Training of a backbone: to tell things apart, each cut out of a rendered picture. It is what ImageNet is to others.

scene ─► draw ─► a square around every thing ─► backbone ─► mean over places ─► class
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.mask2former.network import normalised
from maskstream.synthetic.scene import THINGS

from .rendered import MOST_GRAIN, RenderedClips, grainy
from .sampling import Choice

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.backbone_utils import BackboneMixin

_LEAST_AREA = 0.004
"""Of the picture; nobody could tell what is smaller."""

_MARGIN = (1.0, 1.6)
"""Least and greatest side of a square, as a multiple of the longer side of what is in it."""


@dataclass(frozen=True, slots=True, eq=False)
class CropBatch:
    """N things.

    Attributes:
        crops_n3hw: ``uint8[N, 3, S, S]``, RGB.
        classes_n: ``int64[N]``, positions in `scene.THINGS`.
    """

    crops_n3hw: Tensor
    classes_n: Tensor

    def to(self, device: torch.device | str) -> CropBatch:
        """The same on another device."""
        return CropBatch(self.crops_n3hw.to(device), self.classes_n.to(device))


class ThingCrops(torch.utils.data.Dataset[CropBatch]):
    """The things of scenes that nobody has seen before: each number gives another scene, always the same.

    Args:
        sources: of scenes, with their weights.
        size: S.
        seed: of the run.
    """

    def __init__(self, sources: Sequence[tuple[RenderedClips, float]], *, size: int, seed: int) -> None:
        self._sources = Choice(sources)
        self._size = size
        self._seed = seed

    def __getitem__(self, number: int) -> CropBatch:
        """All things of the pictures of one scene; one with none is drawn again."""
        rng = np.random.default_rng([self._seed, number])
        crops: list[NDArray[np.uint8]] = []
        classes: list[int] = []
        while not crops:
            drawn = self._sources.draw(rng).drawn(rng, motion=False)
            noise, grain = int(rng.integers(MOST_GRAIN + 1)), int(rng.integers(2**63))
            pictures = grainy(drawn.frames_bt3hw[0], noise, grain).permute(0, 2, 3, 1).contiguous().numpy()
            is_thing_e, category_e = drawn.is_thing_be[0].numpy(), drawn.category_be[0].tolist()
            for picture, entity_hw in zip(pictures, drawn.entity_bthw[0].numpy(), strict=True):
                areas = np.bincount(entity_hw.ravel(), minlength=len(is_thing_e))
                for thing in np.flatnonzero(is_thing_e & (areas >= _LEAST_AREA * entity_hw.size)):
                    crops.append(square_around(picture, entity_hw == thing, self._size, rng))
                    classes.append(category_e[thing] - 1)
        crops_n3hw = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
        return CropBatch(crops_n3hw, torch.tensor(classes))


def square_around(
    picture_hw3: NDArray[np.uint8], mask_hw: NDArray[np.bool_], size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A square around what a mask covers, not always in its middle, ``uint8[size, size, 3]``; mirrored at borders."""
    rows, columns = np.flatnonzero(mask_hw.any(1)), np.flatnonzero(mask_hw.any(0))
    longer = max(np.ptp(rows), np.ptp(columns)) + 1
    side = longer * rng.uniform(*_MARGIN)
    x, y = (side_of.mean() + rng.uniform(-0.5, 0.5) * (side - longer) for side_of in (columns, rows))
    scale = size / side
    into = np.array([[scale, 0, size / 2 - scale * x], [0, scale, size / 2 - scale * y]])
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(
        cv2.warpAffine(picture_hw3, into, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )


def stacked_crops(batches: Sequence[CropBatch]) -> CropBatch:
    """One batch of several."""
    return CropBatch(torch.cat([b.crops_n3hw for b in batches]), torch.cat([b.classes_n for b in batches]))


class BackboneLearner(nn.Module):
    """A backbone with what tells things apart.

    Args:
        backbone: of `transformers`.
        validation: the things on which `validate` measures.
    """

    def __init__(self, backbone: BackboneMixin, validation: Sequence[CropBatch] = ()) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.channels[-1], len(THINGS))
        self.validation = validation

    def forward(self, batch: CropBatch, *, iteration: int, seed: int) -> dict[str, Tensor]:
        """The loss of a batch: cross-entropy.

        Args:
            batch: things.
            iteration: of the run; changes nothing.
            seed: of the run; changes nothing.

        Returns:
            ``loss``, to be differentiated, and ``accuracy``.
        """
        del iteration, seed
        logits_nk = self._logits(batch)
        return {
            "loss": F.cross_entropy(logits_nk, batch.classes_n),
            "accuracy": (logits_nk.argmax(1) == batch.classes_n).float().mean().detach(),
        }

    def save(self, folder: Path) -> None:
        """Write the backbone as `transformers` takes it."""
        cast("PreTrainedModel", self.backbone).save_pretrained(folder)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """How many things that are not trained on are told right: ``accuracy``; nothing without any."""
        right = [self._logits(batch).argmax(1) == batch.classes_n for batch in self.validation]
        return {"accuracy": float(torch.cat(right).float().mean())} if right else {}

    @torch.no_grad()
    def strip(self, batch: CropBatch) -> NDArray[np.uint8]:
        """The first 32 things, those that are told wrong darker, ``uint8[H, W, 3]`` RGB."""
        wrong_n = (self._logits(batch).argmax(1) != batch.classes_n).cpu().numpy()
        crops = batch.crops_n3hw.permute(0, 2, 3, 1).cpu().numpy()
        shown = np.where(wrong_n[:, None, None, None], crops // 3, crops)[:32]
        return np.concatenate(list(shown), axis=1)

    def _logits(self, batch: CropBatch) -> Tensor:
        """``float32[N, K]``."""
        features = self.backbone(normalised(batch.crops_n3hw[:, None])[:, 0]).feature_maps[-1]  # type: ignore[operator]
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits
