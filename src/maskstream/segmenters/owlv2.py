"""OWLv2 (Minderer et al., "Scaling Open-Vocabulary Object Detection", NeurIPS 2023): boxes of what phrases name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained, load_tokenizer
from maskstream.types import Frame, InputError

from .boxes import Boxes, chosen, finished

if TYPE_CHECKING:
    from transformers import Owlv2ForObjectDetection, PreTrainedTokenizerBase

USUAL = "google/owlv2-base-patch16-ensemble, Apache-2.0"


class Owlv2:
    """A `Detector`.

    Args:
        network: the network.
        tokenizer: its own.
        pixels: how the network wants to see pictures; they are made square before.
        min_score: lowest probability of a box.
        max_iou: highest overlap of two boxes, whatever they are of.
    """

    def __init__(
        self,
        network: Owlv2ForObjectDetection,
        tokenizer: PreTrainedTokenizerBase,
        pixels: Pixels,
        *,
        min_score: float = 0.1,
        max_iou: float = 0.8,
    ) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.min_score = min_score
        self.max_iou = max_iou

    @torch.no_grad()
    def detect(self, frame: Frame, phrases: Sequence[str]) -> Boxes:
        """All that any of the phrases names; see `Detector`."""
        empty = [phrase for phrase in phrases if not phrase.strip()]
        if empty:
            raise InputError(f"there is nothing to look for in the phrase {empty[0]!r}: give it words")
        height, width = frame.size_hw
        side = max(height, width)
        square = np.zeros((side, side, 3), np.uint8)
        square[:height, :width] = frame.image
        pixels = self.pixels([Frame(frame.index, frame.timestamp, square)])
        longest = self.network.owlv2.text_model.config.max_position_embeddings
        text = self.tokenizer(
            [phrase.strip() for phrase in phrases],
            padding="max_length",
            truncation=True,
            max_length=longest,
            return_tensors="pt",
        )
        found = self.network(
            pixel_values=pixels.to(self.network.device, self.network.dtype),
            input_ids=text["input_ids"].to(self.network.device),
            attention_mask=text["attention_mask"].to(self.network.device),
        )
        scores_n, phrases_n = found.logits[0].sigmoid().float().cpu().max(1)
        keep = scores_n > self.min_score
        xyxy_n4 = finished(found.pred_boxes[0].float().cpu()[keep], (side, side), frame.size_hw)
        return chosen(xyxy_n4, scores_n[keep], phrases_n[keep], max_iou=self.max_iou)


def load_owlv2(name: str, *, device: torch.device | str = "cpu") -> Owlv2:
    """From a folder or the hub, as google/owlv2-base-patch16-ensemble (Apache-2.0).

    Raises:
        InputError: there is no such model, it is another one, or files are missing or damaged.
    """
    folder, _ = folder_of_kind(name, ("owlv2",), usual=USUAL)
    from transformers import Owlv2ForObjectDetection

    network = load_pretrained(Owlv2ForObjectDetection, folder, device=device)
    return Owlv2(network, load_tokenizer(folder), Pixels.of(folder))
