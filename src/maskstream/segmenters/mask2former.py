"""Mask2Former (Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022).

picture ─► backbone ─► deformable pixel decoder ─► masked-attention decoder ─► a class and a mask per query ─► proposals
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskstream.mask2former import use_fast_attention
from maskstream.mask2former.checkpoints import KINDS, USUAL
from maskstream.mask2former.network import ClipMask2Former
from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained

from .label_spaces import label_space
from .queries import Answers, QuerySegmenter, QueryTask, pyramid_pixels

if TYPE_CHECKING:
    from transformers import Mask2FormerForUniversalSegmentation


class Mask2FormerSegmenter(QuerySegmenter):
    """An `ImageSegmenter` around a Mask2Former, whose pictures go through the query core as clips of one frame.

    Args:
        network: of `transformers`, for inference.
        pixels: how it wants to see pictures.
        task: what is proposed: "panoptic", "instance" or "semantic".
        min_score: least score of a proposal; None: what suits the task.

    Raises:
        InputError: the network is of a kind that nobody published; see `ClipMask2Former`.
    """

    def __init__(
        self,
        network: Mask2FormerForUniversalSegmentation,
        pixels: Pixels,
        *,
        task: QueryTask = "panoptic",
        min_score: float | None = None,
    ) -> None:
        space = label_space(network.config.id2label)
        super().__init__(pixels, space, task=task, min_score=min_score, device=network.device)
        self.network = ClipMask2Former(network, time_code=False)

    def _answers(self, pixels_b3hw: Tensor) -> Answers:
        (found,) = self.network.decode(self.network.features(pixels_b3hw[:, None]))
        return Answers(found.classes_bqc, found.masks_bqthw[:, :, 0], found.queries_bqc)


def load_mask2former(
    name: str,
    *,
    task: QueryTask = "panoptic",
    min_score: float | None = None,
    short_side: int | None = None,
    device: torch.device | str = "cpu",
) -> Mask2FormerSegmenter:
    """A segmenter from a folder or a name on the hub.

    Args:
        name: of a folder, or a model of the hub.
        task: "panoptic", "instance" or "semantic". A model that was trained on instances only is asked for "panoptic"
            when they must not overlap.
        min_score: least score of a proposal; None: what suits the task.
        short_side: size of the short side of what the network sees, its long side at most 5/3 of it; None: what the
            folder says, which for many on the hub is a square of 384. The paper's numbers are of 800.
        device: where it runs.

    Raises:
        InputError: there is no such model, or its files are damaged or of another kind.
    """
    folder, _ = folder_of_kind(name, KINDS, usual=USUAL)
    from transformers import Mask2FormerForUniversalSegmentation

    network = use_fast_attention(load_pretrained(Mask2FormerForUniversalSegmentation, folder, device=device))
    pixels = pyramid_pixels(Pixels.of(folder), short_side)
    return Mask2FormerSegmenter(network, pixels, task=task, min_score=min_score)
