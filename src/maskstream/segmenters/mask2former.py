"""Mask2Former (Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022).

picture ─► backbone ─► deformable pixel decoder ─► masked-attention decoder ─► a class and a mask per query ─► proposals
"""

from __future__ import annotations

import torch

from .pretrained import Pixels, folder_of_kind, load_pretrained
from .queries import MaskClassificationSegmenter, QueryTask, pyramid_pixels

KINDS = ("mask2former",)
"""What ``model_type`` is called in their folders."""

USUAL = (
    "facebook/mask2former-swin-tiny-coco-panoptic (the authors' code is MIT, and was CC BY-NC 4.0 at first: see the "
    "model's page for its weights)"
)


class Mask2FormerSegmenter(MaskClassificationSegmenter):
    """An `ImageSegmenter` around a Mask2Former."""


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

    network = load_pretrained(Mask2FormerForUniversalSegmentation, folder, device=device)
    pixels = pyramid_pixels(Pixels.of(folder), short_side)
    return Mask2FormerSegmenter(network, pixels, task=task, min_score=min_score)
