"""MaskFormer (Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", NeurIPS 2021).

picture ─► backbone ─► pixel decoder ─► transformer decoder ─► a class and a mask per query ─► proposals
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained

from .label_spaces import label_space
from .queries import Answers, QuerySegmenter, QueryTask, pyramid_pixels

if TYPE_CHECKING:
    from transformers import MaskFormerForInstanceSegmentation

KINDS = ("maskformer",)
"""What ``model_type`` is called in their folders."""

USUAL = "facebook/maskformer-swin-tiny-coco (the authors' code is CC BY-NC 4.0: see the model's page for its weights)"


class MaskFormerSegmenter(QuerySegmenter):
    """An `ImageSegmenter` around a MaskFormer.

    Args:
        network: of `transformers`, for inference.
        pixels: how it wants to see pictures.
        task: what is proposed: "panoptic", "instance" or "semantic".
        min_score: least score of a proposal; None: what suits the task.
    """

    def __init__(
        self,
        network: MaskFormerForInstanceSegmentation,
        pixels: Pixels,
        *,
        task: QueryTask = "panoptic",
        min_score: float | None = None,
    ) -> None:
        space = label_space(network.config.id2label)
        super().__init__(pixels, space, task=task, min_score=min_score, device=network.device)
        self.network = network

    def _answers(self, pixels_b3hw: Tensor) -> Answers:
        found = self.network(pixels_b3hw)
        return Answers(
            found.class_queries_logits, found.masks_queries_logits, found.transformer_decoder_last_hidden_state
        )


def load_maskformer(
    name: str,
    *,
    task: QueryTask = "panoptic",
    min_score: float | None = None,
    short_side: int | None = None,
    device: torch.device | str = "cpu",
) -> MaskFormerSegmenter:
    """A segmenter from a folder or a name on the hub.

    Args:
        name: of a folder, or a model of the hub.
        task: "panoptic", "instance" or "semantic". A model that was trained on instances only is asked for "panoptic"
            when they must not overlap.
        min_score: least score of a proposal; None: what suits the task.
        short_side: size of the short side of what the network sees, its long side at most 5/3 of it; None: what the
            folder says.
        device: where it runs.

    Raises:
        InputError: there is no such model, or its files are damaged or of another kind.
    """
    folder, _ = folder_of_kind(name, KINDS, usual=USUAL)
    from transformers import MaskFormerForInstanceSegmentation

    network = load_pretrained(MaskFormerForInstanceSegmentation, folder, device=device)
    pixels = pyramid_pixels(Pixels.of(folder), short_side)
    return MaskFormerSegmenter(network, pixels, task=task, min_score=min_score)
