"""MaskFormer (Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", NeurIPS 2021).

picture ─► backbone ─► pixel decoder ─► transformer decoder ─► a class and a mask per query ─► proposals
"""

from __future__ import annotations

import torch

from .pretrained import Pixels, folder_of_kind, load_pretrained
from .queries import MaskClassificationSegmenter, QueryTask, pyramid_pixels

KINDS = ("maskformer",)
"""What ``model_type`` is called in their folders."""

USUAL = "facebook/maskformer-swin-tiny-coco (the authors' code is CC BY-NC 4.0: see the model's page for its weights)"


class MaskFormerSegmenter(MaskClassificationSegmenter):
    """An `ImageSegmenter` around a MaskFormer."""


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
