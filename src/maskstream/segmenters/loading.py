"""Segmenters of `transformers` by the kind of model that a folder, or a name on the hub, holds."""

from __future__ import annotations

from typing import Any

import torch

from maskstream.pretrained import AND, parts_of, pretrained_folder, read_config
from maskstream.types import ImageSegmenter, InputError

from .boxes import Detector
from .queries import QueryTask
from .sam import load_sam

POINTS = {"cpu": 16, "cuda": 64}
"""Clicks along each side of a picture where SAM finds everything; 64, as published, takes many minutes on a CPU."""

KINDS = (
    "mask2former",
    "maskformer",
    "oneformer",
    "eomt",
    "eomt_dinov3",
    "sam",
    "sam2",
    "sam2_video",
    "clipseg",
)


def load_segmenter(
    name: str, *, task: QueryTask = "panoptic", min_score: float | None = None, device: torch.device | str = "cpu"
) -> ImageSegmenter[Any]:
    """An image-level segmenter, of whatever family.

    Args:
        name: the folder of a model, or its name on the hub; or two of them, "DETECTOR+SAM", which together find what
            words say, as "IDEA-Research/grounding-dino-tiny+facebook/sam-vit-base".
        task: what networks that know several give: see `QuerySegmenter`.
        min_score: least score of what networks of known classes propose; None: what suits the task.
        device: where the network is to be.

    Raises:
        InputError: there is no such model, it is of a kind that finds no objects by itself, or files are missing.
    """
    if len(parts_of(name)) == 2:
        boxes, masks = parts_of(name)
        from .text import TextSegmenter

        return TextSegmenter(_load_detector(boxes, device), load_sam(masks, device=device))
    kind = _kind(name)
    if kind == "mask2former":
        from .mask2former import load_mask2former

        return load_mask2former(name, task=task, min_score=min_score, device=device)
    if kind == "maskformer":
        from .maskformer import load_maskformer

        return load_maskformer(name, task=task, min_score=min_score, device=device)
    if kind == "oneformer":
        from .oneformer import load_oneformer

        return load_oneformer(name, task=task, min_score=min_score, device=device)
    if kind in ("eomt", "eomt_dinov3"):
        from .eomt import load_eomt

        return load_eomt(name, task=task, min_score=min_score, device=device)
    if kind in ("sam", "sam2", "sam2_video"):
        return load_sam(name, device=device, points_per_side=POINTS.get(torch.device(device).type, POINTS["cuda"]))
    if kind == "clipseg":
        from .clipseg import load_clipseg

        return load_clipseg(name, device=device)
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

    if kind in MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES:
        from .saliency import load_saliency

        return load_saliency(name, device=device)
    if kind in ("grounding-dino", "owlv2"):
        raise InputError(f"{name} finds boxes, not masks: give a SAM for them too, as --segmenter {name}{AND}SAM")
    raise InputError(
        f"{name} is a model of kind {kind}; segmenters are {', '.join(KINDS)}, a network of saliency, or "
        f"DETECTOR{AND}SAM"
    )


def _load_detector(name: str, device: torch.device | str) -> Detector:
    kind = _kind(name)
    if kind == "grounding-dino":
        from .grounding_dino import load_grounding_dino

        return load_grounding_dino(name, device=device)
    if kind == "owlv2":
        from .owlv2 import load_owlv2

        return load_owlv2(name, device=device)
    raise InputError(f"{name} is a model of kind {kind}; what finds boxes of words is grounding-dino or owlv2")


def _kind(name: str) -> str:
    return str(read_config(pretrained_folder(name))["model_type"])
