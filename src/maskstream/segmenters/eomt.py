"""EoMT (Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", CVPR 2025).

    panoptic, instance: picture ─► padded to a square ─┐
    semantic: picture ─► overlapping squares ──────────┴─► ViT, queries in its last blocks ─► a class and a mask each

A ViT knows one size of input only. Pictures are made ready for it as by its authors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained, read_processor
from maskstream.types import Frame, InputError

from .label_spaces import label_space
from .queries import Answers, QueryFeatures, QuerySegmenter, QueryTask, one_size

if TYPE_CHECKING:
    from transformers import EomtDinov3ForUniversalSegmentation, EomtForUniversalSegmentation

KINDS = ("eomt", "eomt_dinov3")
"""What ``model_type`` is called in their folders."""

USUAL = (
    "tue-mps/coco_panoptic_eomt_large_640 (the authors' code is MIT, weights over DINOv3 are under the DINOv3 License: "
    "see the model's page)"
)


class EomtSegmenter(QuerySegmenter):
    """An `ImageSegmenter` around an EoMT; see `QuerySegmenter`.

    Args:
        network: for inference.
        pixels: how it wants to see pictures; what it says of padding is not used.
        windows: show overlapping squares instead of the whole picture, as semantic models are trained.
        task: what is proposed: "panoptic", "instance" or "semantic".
        min_score: least score of a proposal; None: what suits the task.

    Raises:
        InputError: windows are for semantic segmentation only.
    """

    def __init__(
        self,
        network: EomtForUniversalSegmentation | EomtDinov3ForUniversalSegmentation,
        pixels: Pixels,
        *,
        windows: bool = False,
        task: QueryTask = "panoptic",
        min_score: float | None = None,
    ) -> None:
        if windows and task != "semantic":
            raise InputError(
                f"this model is for semantic segmentation, not {task}: give task=semantic or another model"
            )
        size = network.config.image_size
        side = size if isinstance(size, int) else min(size)
        shortest, longest = (side, None) if windows else (None, side)
        pixels = replace(pixels, shortest=shortest, longest=longest, exact_hw=None, pad_hw=None, divisor=1)
        space = label_space(network.config.id2label)
        super().__init__(pixels, space, task=task, min_score=min_score, device=network.device)
        self.network = network
        self.side = side

    @torch.no_grad()
    def encode(self, frames: Sequence[Frame]) -> list[QueryFeatures]:
        """What the network says of each frame; they are of one size and go through it together.

        Raises:
            InputError: they differ in size.
        """
        if not frames:
            return []
        size_hw = one_size(frames)
        content_b3hw = self.pixels(frames)
        height, width = content_b3hw.shape[2:]
        starts = window_starts(max(height, width), self.side)
        windows = [
            self._square(content_b3hw[:, :, start:] if height > width else content_b3hw[..., start:])
            for start in starts
        ]
        answers = self._answers(torch.cat(windows).to(self.device))
        return [
            QueryFeatures(
                answers.classes_bqc[n :: len(frames)],
                answers.masks_bqhw[n :: len(frames)],
                answers.embeddings_bqd[n :: len(frames)],
                (self.side, self.side),
                starts,
                (height, width),
                size_hw,
            )
            for n in range(len(frames))
        ]

    def _answers(self, pixels_b3hw: Tensor) -> Answers:
        found = self.network(pixels_b3hw)
        queries_bqd = found.last_hidden_state[:, : found.class_queries_logits.shape[1]]
        return Answers(found.class_queries_logits, found.masks_queries_logits, queries_bqd)

    def _square(self, content_b3hw: Tensor) -> Tensor:
        """The square at the top left; black, not grey, where the picture ends."""
        black = -torch.tensor(self.pixels.mean) / torch.tensor(self.pixels.std)
        square = black[None, :, None, None].repeat(len(content_b3hw), 1, self.side, self.side)
        part = content_b3hw[..., : self.side, : self.side]
        square[..., : part.shape[2], : part.shape[3]] = part
        return square


def window_starts(length: int, side: int) -> tuple[int, ...]:
    """Where the fewest windows of a size begin that cover a length, evenly spread."""
    count = math.ceil(length / side)
    return tuple(n * (length - side) // max(1, count - 1) for n in range(count))


def load_eomt(
    name: str,
    *,
    task: QueryTask = "panoptic",
    min_score: float | None = None,
    device: torch.device | str = "cpu",
) -> EomtSegmenter:
    """A segmenter from a folder or a name on the hub; EoMT over DINOv3, too.

    Args:
        name: of a folder, or a model of the hub.
        task: "panoptic", "instance" or "semantic". A model that was trained on instances only is asked for "panoptic"
            when they must not overlap.
        min_score: least score of a proposal; None: what suits the task.
        device: where it runs.

    Raises:
        InputError: there is no such model, its files are damaged or of another kind, or it cannot do the task.
    """
    folder, kind = folder_of_kind(name, KINDS, usual=USUAL)
    from transformers import EomtDinov3ForUniversalSegmentation, EomtForUniversalSegmentation

    pixels = Pixels.of(folder)
    windows = bool(read_processor(folder).get("do_split_image", False))
    network = (
        load_pretrained(EomtForUniversalSegmentation, folder, device=device)
        if kind == "eomt"
        else load_pretrained(EomtDinov3ForUniversalSegmentation, folder, device=device)
    )
    return EomtSegmenter(network, pixels, windows=windows, task=task, min_score=min_score)
