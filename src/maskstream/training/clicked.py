"""Training of the click network: pictures with one object, clicked by somebody who sees the network's mistakes.

    picture ─► object ─► a click, a box or a scribble ─► network ─► the largest mistake ─► a click ─► network … ─► loss
                                                └► GrabCut ─┘

RITM (Sofiiuk et al., ICIP 2022): the rounds before the last are made by the network itself, without gradient. As
GrabCut's cut is what the network is given to mend later, many samples begin with it; worker processes make it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.segmenters.click import ClickNetwork, click_inputs, clicked_mask, save_click_network
from maskstream.segmenters.grabcut import grab_cut
from maskstream.segmenters.prompted import Hints

from .augmentation import STRONG_JITTER, LargeScaleJitter
from .clips import Clip
from .sampling import Choice, Source

BoolMask = NDArray[np.bool_]

_LEAST_AREA = 0.005
"""Of the picture; less of an object is not clicked."""

MOST_ROUNDS = 4
"""Rounds of a sample, at most."""

_KINDS = ("click", "box", "scribble")
_CHANCES = (0.7, 0.2, 0.1)
_CUT = 0.5
"""Share of samples that begin with GrabCut's cut; the others with nothing."""
_CLICKS = 5
"""Of the validation."""


@dataclass(frozen=True, slots=True, eq=False)
class ClickBatch:
    """B pictures, each with one object.

    Attributes:
        pictures_bhw3: ``uint8[B, H, W, 3]``, RGB.
        masks_bhw: ``bool[B, H, W]``.
        cuts_bhw: ``bool[B, H, W]``, what GrabCut makes of the first hint; nothing where a sample begins without.
        number_b: ``int64[B]``, of the samples.
    """

    pictures_bhw3: Tensor
    masks_bhw: Tensor
    cuts_bhw: Tensor
    number_b: Tensor

    def to(self, device: torch.device | str) -> ClickBatch:
        """The same on another device."""
        return ClickBatch(*(getattr(self, name).to(device) for name in self.__slots__))


class ClickedPictures(torch.utils.data.Dataset[ClickBatch]):
    """Pictures of several sources, each with one of its objects.

    Args:
        sources: of clips of one frame, with their weights.
        seed: of the run.
    """

    def __init__(self, sources: Sequence[tuple[Source, float]], *, seed: int) -> None:
        self._sources = Choice(sources)
        self._seed = seed

    def __getitem__(self, number: int) -> ClickBatch:
        """A batch of one picture; one without an object is tried again."""
        rng = np.random.default_rng([self._seed, number])
        while True:
            clip = self._sources.draw(rng).clip(number, progress=0.0, rng=rng)
            ids = np.unique(clip.labels_thw[0])[1:]
            if len(ids):
                return _batch(clip, clip.labels_thw[0] == rng.choice(ids), with_cut=rng.random() < _CUT)


def _batch(clip: Clip, mask: BoolMask, *, with_cut: bool) -> ClickBatch:
    picture = np.ascontiguousarray(clip.frames_thw3[0])
    cut = grab_cut(picture, _clicker(mask, clip.number).begin()) if with_cut else np.zeros_like(mask)
    picture_hw3, mask_hw, cut_hw = (torch.from_numpy(array) for array in (picture, mask, cut))
    return ClickBatch(picture_hw3[None], mask_hw[None], cut_hw[None], torch.tensor([clip.number]))


def _clicker(mask: BoolMask, number: int) -> Clicker:
    """Who clicks in a sample: the same for whoever makes the sample and for whoever learns from it."""
    return Clicker(mask, np.random.default_rng([number, 1]))


def stacked_pictures(batches: Sequence[ClickBatch]) -> ClickBatch:
    """One batch of several."""
    return ClickBatch(*(torch.cat([getattr(b, name) for b in batches]) for name in ClickBatch.__slots__))


class PairClips:
    """Pictures with the masks of one object each, as they are: clips of one frame, a `Source`.

    Args:
        folder: of pairs ``dog.jpg`` and ``dog.png``, as for cut-outs; random shapes among them are left out.
        size: side of the result in pixels.

    Raises:
        InputError: there is no pair.
    """

    def __init__(self, folder: Path, *, size: int) -> None:
        from maskstream.synthetic.cutouts import pairs_in

        self._pairs = [(picture, mask) for picture, mask in pairs_in(folder) if "-shape" not in picture.name]
        self._augment = LargeScaleJitter(size=size, scale=(0.8, 2.5))

    def clip(self, number: int, *, progress: float, rng: np.random.Generator) -> Clip:
        """A pair, cut and scaled by chance."""
        from maskstream.video.images import read_image

        del progress
        # Read anew each time: that is fast, and thousands of pairs fill gigabytes.
        paths = self._pairs[int(rng.integers(len(self._pairs)))]
        picture, mask = read_image(paths[0]), read_image(paths[1]).max(axis=2) > 127
        clip = STRONG_JITTER(self._augment(Clip(picture[None], mask[None].astype(np.int32), number), rng), rng)
        enough = clip.labels_thw.mean() > _LEAST_AREA
        return clip if enough else Clip(clip.frames_thw3, np.zeros_like(clip.labels_thw), number)


class Clicker:
    """Somebody who has one object in mind.

    Args:
        mask_hw: ``bool[h, w]`` of the object.
        rng: chance.
        exact: click in the middle of mistakes; otherwise somewhere well inside.
    """

    def __init__(self, mask_hw: BoolMask, rng: np.random.Generator, *, exact: bool = False) -> None:
        self._truth = mask_hw
        self._rng = rng
        self._exact = exact
        nothing = np.zeros(mask_hw.shape, np.uint8)
        self._dots = {True: nothing, False: nothing.copy()}
        self._box: BoolMask | None = None

    def begin(self) -> Hints:
        """A first hint: a click, a box or a scribble."""
        kind = "click" if self._exact else _KINDS[int(self._rng.choice(len(_KINDS), p=_CHANCES))]
        if kind == "click":
            return self.correct(None)
        rows, columns = np.flatnonzero(self._truth.any(1)), np.flatnonzero(self._truth.any(0))
        if kind == "box":
            jitter = 0.05 * np.array([np.ptp(rows), np.ptp(columns)]) * self._rng.standard_normal((2, 2))
            (top, left), (bottom, right) = np.rint(
                np.array([[rows[0], columns[0]], [rows[-1] + 1, columns[-1] + 1]]) + jitter
            ).astype(int)
            self._box = np.zeros_like(self._truth)
            self._box[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1)] = True
        else:
            inside = np.argwhere(_depth(self._truth) > 2)
            inside = inside if len(inside) else np.argwhere(self._truth)
            ends = inside[self._rng.choice(len(inside), 3)]
            drawn = np.zeros(self._truth.shape, np.uint8)
            points = [np.ascontiguousarray(ends[:, ::-1]).astype(np.int32)]
            cv2.polylines(drawn, points, False, 1, 3)
            self._dots[True] |= drawn & self._truth
        return self._hints(None)

    def correct(self, found_hw: BoolMask | None) -> Hints:
        """A click on the largest mistake; nothing new where there is none."""
        found = np.zeros_like(self._truth) if found_hw is None else found_hw
        depth, positive = largest_mistake(self._truth, found)
        if depth.max() > 0:
            near = np.argwhere(depth >= (1.0 if self._exact else 0.5) * depth.max())
            row, column = near[0 if self._exact else int(self._rng.integers(len(near)))]
            cv2.line(self._dots[positive], (int(column), int(row)), (int(column), int(row)), 1, 3)
        return self._hints(found_hw)

    def _hints(self, found: BoolMask | None) -> Hints:
        on, off = self._dots[True] > 0, self._dots[False] > 0
        return Hints(on & ~off, off, self._box, found)


def largest_mistake(truth_hw: BoolMask, found_hw: BoolMask) -> tuple[NDArray[np.float32], bool]:
    """What somebody would mend first: what is missing or what is too much, whichever is thicker.

    Returns:
        ``float32[h, w]``, how far each pixel of it is from its outline, and whether it is missing.
    """
    missing, surplus = _depth(truth_hw & ~found_hw), _depth(found_hw & ~truth_hw)
    positive = bool(missing.max() >= surplus.max())
    return (missing if positive else surplus), positive


def _depth(mask: BoolMask) -> NDArray[np.float32]:
    padded = np.pad(mask.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1], dtype=np.float32)


class ClickLearner(nn.Module):
    """The click network with its loss.

    Args:
        network: to be trained.
        validation: the pictures on which `validate` measures.
    """

    def __init__(self, network: ClickNetwork, validation: Sequence[ClickBatch] = ()) -> None:
        super().__init__()
        self.network: ClickNetwork = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.validation = validation

    def forward(self, batch: ClickBatch, *, iteration: int, seed: int) -> dict[str, Tensor]:
        """The loss of a batch: cross-entropy and dice after 1 … `MOST_ROUNDS` rounds.

        Args:
            batch: pictures.
            iteration: of the run.
            seed: of the run.

        Returns:
            ``loss``, to be differentiated, and its parts ``ce`` and ``dice``.
        """
        rounds = int(np.random.default_rng([seed, iteration]).integers(1, MOST_ROUNDS + 1))
        masks, cuts = batch.masks_bhw.cpu().numpy(), batch.cuts_bhw.cpu().numpy()
        clickers = [_clicker(mask, int(number)) for mask, number in zip(masks, batch.number_b, strict=True)]
        hints = [replace(clicker.begin(), mask=cut) for clicker, cut in zip(clickers, cuts, strict=True)]
        was_training = self.training
        self.eval()
        for _ in range(rounds - 1):
            with torch.no_grad():
                found = (self.network(self._inputs(batch, hints)) > 0).cpu().numpy()
            hints = [clicker.correct(one) for clicker, one in zip(clickers, found, strict=True)]
        self.train(was_training)
        logits, truth = self.network(self._inputs(batch, hints)), batch.masks_bhw.float()
        # The outline of a large object is not worth more than a small object.
        weight = 1 / truth.mean((1, 2), keepdim=True).clamp(min=0.02).sqrt()
        ce = (weight * F.binary_cross_entropy_with_logits(logits, truth, reduction="none")).mean()
        found_bhw = torch.sigmoid(logits)
        shared, both = (found_bhw * truth).sum((1, 2)), found_bhw.sum((1, 2)) + truth.sum((1, 2))
        dice = (1 - (2 * shared + 1) / (both + 1)).mean()
        return {"loss": ce + dice, "ce": ce.detach(), "dice": dice.detach()}

    def _inputs(self, batch: ClickBatch, hints: Sequence[Hints]) -> Tensor:
        pictures = batch.pictures_bhw3.cpu().numpy()
        inputs = np.stack([click_inputs(picture, hint) for picture, hint in zip(pictures, hints, strict=True)])
        return torch.from_numpy(inputs).to(batch.pictures_bhw3.device)

    def rounds(self, batch: ClickBatch, clicks: int) -> NDArray[np.bool_]:
        """What network and GrabCut find after each click in the middle of the largest mistake, ``bool[K, B, H, W]``."""
        was_training = self.training
        self.eval()
        found_bkhw = []
        for picture, truth in zip(batch.pictures_bhw3.cpu().numpy(), batch.masks_bhw.cpu().numpy(), strict=True):
            clicker = Clicker(truth, np.random.default_rng(0), exact=True)
            hints, found_khw = clicker.begin(), []
            for _ in range(clicks):
                found_khw.append(clicked_mask(self.network, picture, hints))
                hints = clicker.correct(found_khw[-1])
            found_bkhw.append(found_khw)
        self.train(was_training)
        found_kbhw: NDArray[np.bool_] = np.array(found_bkhw).swapaxes(0, 1)
        return found_kbhw

    def save(self, folder: Path) -> None:
        """Write the network, as commands take it."""
        save_click_network(self.network, folder)

    def validate(self) -> dict[str, float]:
        """Intersection over union after 1, 3 and 5 clicks on pictures that are not trained on, means."""
        scores: dict[str, list[float]] = {"iou_1": [], "iou_3": [], "iou_5": []}
        for batch in self.validation:
            found_kbhw, truth = self.rounds(batch, _CLICKS), batch.masks_bhw.cpu().numpy()
            for name, values in scores.items():
                found = found_kbhw[int(name[-1]) - 1]
                values.extend(((found & truth).sum((1, 2)) / (found | truth).sum((1, 2))).tolist())
        return {name: float(np.mean(values)) for name, values in scores.items() if values}

    def strip(self, batch: ClickBatch) -> NDArray[np.uint8]:
        """Rows of pictures, objects, and what is found after 1 and 3 clicks.

        Returns:
            ``uint8[4 · H, B · W, 3]``, RGB.
        """
        found_kbhw = self.rounds(batch, 3)
        pictures = batch.pictures_bhw3.cpu().numpy()
        maps = (batch.masks_bhw.cpu().numpy(), found_kbhw[0], found_kbhw[2])
        rows = [pictures, *(np.where(map_bhw[..., None], pictures, pictures // 4) for map_bhw in maps)]
        return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
