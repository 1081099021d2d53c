"""OneFormer (Jain et al., "One Transformer to Rule Universal Image Segmentation", CVPR 2023).

"the task is panoptic" ─► tokens ─► task token ─┐
picture ─► backbone ─► pixel decoder ───────────┴─► decoder ─► a class and a mask per query ─► proposals
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskstream.mask2former import use_fast_attention
from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained, load_tokenizer, read_processor
from maskstream.types import CategorySet

from .label_spaces import label_space
from .queries import Answers, QuerySegmenter, QueryTask, pyramid_pixels

if TYPE_CHECKING:
    from transformers import OneFormerForUniversalSegmentation

KINDS = ("oneformer",)
"""What ``model_type`` is called in their folders."""

USUAL = "shi-labs/oneformer_coco_swin_large (the authors' code is MIT: see the model's page for its weights)"


class OneFormerSegmenter(QuerySegmenter):
    """An `ImageSegmenter` around a OneFormer; see `QuerySegmenter`.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        task_tokens: ``int64[L]``, the sentence that names the task, zeros after its end.
        space: what its outputs mean.
        task: what is proposed: "panoptic", "instance" or "semantic".
        min_score: least score of a proposal; None: what suits the task.
    """

    def __init__(
        self,
        network: OneFormerForUniversalSegmentation,
        pixels: Pixels,
        task_tokens: Tensor,
        space: CategorySet,
        *,
        task: QueryTask = "panoptic",
        min_score: float | None = None,
    ) -> None:
        super().__init__(pixels, space, task=task, min_score=min_score, device=network.device)
        self.network = network
        self.task_tokens = task_tokens.to(self.device)
        # What was saved as a model in training wants a sentence per object, and drops out whatever eval() says.
        for module in network.modules():
            if "is_training" in vars(module):
                vars(module)["is_training"] = False

    def _answers(self, pixels_b3hw: Tensor) -> Answers:
        found = self.network(pixels_b3hw, self.task_tokens.expand(len(pixels_b3hw), -1))
        return Answers(found.class_queries_logits, found.masks_queries_logits, found.transformer_decoder_object_queries)


def load_oneformer(
    name: str,
    *,
    task: QueryTask = "panoptic",
    min_score: float | None = None,
    short_side: int | None = None,
    device: torch.device | str = "cpu",
) -> OneFormerSegmenter:
    """A segmenter from a folder or a name on the hub.

    Args:
        name: of a folder, or a model of the hub.
        task: "panoptic", "instance" or "semantic"; one model does all three.
        min_score: least score of a proposal; None: what suits the task.
        short_side: size of the short side of what the network sees, its long side at most 5/3 of it; None: what the
            folder says.
        device: where it runs.

    Raises:
        InputError: there is no such model, or its files are damaged or of another kind.
    """
    folder, _ = folder_of_kind(name, KINDS, usual=USUAL)
    from transformers import OneFormerForUniversalSegmentation

    network = use_fast_attention(load_pretrained(OneFormerForUniversalSegmentation, folder, device=device))
    return OneFormerSegmenter(
        network,
        pyramid_pixels(Pixels.of(folder), short_side),
        _task_tokens(folder, task, network.config.task_seq_len),
        label_space(network.config.id2label, things=_things(folder)),
        task=task,
        min_score=min_score,
    )


def _task_tokens(folder: Path, task: QueryTask, length: int) -> Tensor:
    tokens = load_tokenizer(folder)(f"the task is {task}", padding="max_length", max_length=length, truncation=True)
    return torch.tensor(tokens["input_ids"]) * torch.tensor(tokens["attention_mask"])


def _things(folder: Path) -> list[int] | None:
    """Ids of the things, which its processor's file may list."""
    metadata = read_processor(folder).get("metadata")
    listed = metadata.get("thing_ids") if isinstance(metadata, dict) else None
    return [int(n) for n in listed] if listed else None
