"""Grounding DINO (Liu et al., ECCV 2024): boxes of what phrases name.

picture ───────────────────────┐
"a cat. a remote control." ────┴─► network ─► boxes, and how well each goes with every token of the text
                                              the phrase whose tokens go best with a box names it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskstream.mask2former import use_fast_attention
from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained, load_tokenizer
from maskstream.types import Frame, InputError

from .boxes import Boxes, chosen, finished

if TYPE_CHECKING:
    from transformers import GroundingDinoForObjectDetection, PreTrainedTokenizerBase

USUAL = "IDEA-Research/grounding-dino-tiny, Apache-2.0"


class GroundingDino:
    """A `Detector`.

    Args:
        network: the network.
        tokenizer: its own; it must be a fast one.
        pixels: how the network wants to see pictures.
        min_score: lowest probability of the token that goes best with a box.
        min_word_score: lowest probability of a token that counts as named; a phrase with none is a box's only where
            no phrase has any.
        max_iou: highest overlap of two boxes, whatever they are of.
    """

    def __init__(
        self,
        network: GroundingDinoForObjectDetection,
        tokenizer: PreTrainedTokenizerBase,
        pixels: Pixels,
        *,
        min_score: float = 0.35,
        min_word_score: float = 0.35,
        max_iou: float = 0.8,
    ) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.min_score = min_score
        self.min_word_score = min_word_score
        self.max_iou = max_iou

    @torch.no_grad()
    def detect(self, frame: Frame, phrases: Sequence[str]) -> Boxes:
        """All that any of the phrases names; see `Detector`.

        Phrases that do not fit into one text of the network are looked for in several.
        """
        pixels = self.pixels([frame]).to(self.network.device, self.network.dtype)
        boxes, scores, named = [], [], []
        for start, part in self._texts(phrases):
            text, tokens_pt = self.text_of(part)
            found = self.network(
                pixel_values=pixels,
                input_ids=text.to(pixels.device)[None],
                token_type_ids=torch.zeros_like(text, device=pixels.device)[None],
                attention_mask=torch.ones_like(text, device=pixels.device)[None],
            )
            probability_nt = found.logits[0, :, : len(text)].sigmoid().float().cpu()
            best_n = probability_nt.max(1).values
            keep = best_n > self.min_score
            boxes.append(found.pred_boxes[0].float().cpu()[keep])
            scores.append(best_n[keep])
            named.append(start + phrase_of_boxes(probability_nt[keep], tokens_pt, self.min_word_score))
        height, width = frame.size_hw
        xyxy_n4 = finished(torch.cat(boxes), (width, height), frame.size_hw)
        return chosen(xyxy_n4, torch.cat(scores), torch.cat(named), max_iou=self.max_iou)

    def text_of(self, phrases: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The text of some phrases, and which of its tokens are whose.

        Returns:
            ``int64[T]`` token ids, and ``bool[P, T]``.

        Raises:
            InputError: a phrase is empty, or too long.
        """
        # To the network these two marks end a phrase, so there may be none within.
        plain = [" ".join(phrase.lower().replace(".", " ").replace("?", " ").split()) for phrase in phrases]
        encoded = self.tokenizer(" ".join(f"{phrase}." for phrase in plain), return_offsets_mapping=True)
        spans = encoded["offset_mapping"]
        tokens_pt = torch.zeros((len(plain), len(spans)), dtype=torch.bool)
        start = 0
        for number, phrase in enumerate(plain):
            end = start + len(phrase)
            tokens_pt[number] = torch.tensor([start <= first < last <= end for first, last in spans])
            if not tokens_pt[number].any():
                raise InputError(f"there is nothing to look for in the phrase {phrases[number]!r}: give it words")
            start = end + len(". ")
        limit = self.network.config.max_text_len
        if len(plain) == 1 and len(spans) > limit:
            raise InputError(f"the phrase {phrases[0]!r} has more than the {limit} tokens that are allowed: shorten it")
        return torch.tensor(encoded["input_ids"]), tokens_pt

    def _texts(self, phrases: Sequence[str]) -> list[tuple[int, Sequence[str]]]:
        """The phrases, as few texts as they fit into, each with the position of its first phrase."""
        start, texts = 0, []
        lengths = [len(self.text_of([phrase])[0]) - 2 for phrase in phrases]
        for stop in range(1, len(phrases) + 1):
            following = sum(lengths[start : stop + 1]) + 2
            if stop == len(phrases) or following > self.network.config.max_text_len:
                texts.append((start, phrases[start:stop]))
                start = stop
        return texts


def phrase_of_boxes(probability_nt: Tensor, tokens_pt: Tensor, min_word_score: float) -> Tensor:
    """Which phrase each box is an answer to.

    The one whose tokens go best with it on average, as the authors score categories on COCO; among those with a token
    that counts as named, if there are any.

    Args:
        probability_nt: ``float[N, T]`` of every box and token.
        tokens_pt: ``bool[P, T]``, the tokens of each phrase.
        min_word_score: lowest probability of a token that counts as named.

    Returns:
        ``int64[N]``.
    """
    mean_np = probability_nt @ tokens_pt.T.float() / tokens_pt.sum(1)
    highest_np = (probability_nt[:, None] * tokens_pt).amax(2)
    return (mean_np + (highest_np > min_word_score).float()).argmax(1)


def load_grounding_dino(name: str, *, device: torch.device | str = "cpu") -> GroundingDino:
    """From a folder or the hub, as IDEA-Research/grounding-dino-tiny (Apache-2.0).

    Raises:
        InputError: there is no such model, it is another one, or files are missing or damaged.
    """
    folder, _ = folder_of_kind(name, ("grounding-dino",), usual=USUAL)
    from transformers import GroundingDinoForObjectDetection

    network = use_fast_attention(load_pretrained(GroundingDinoForObjectDetection, folder, device=device))
    return GroundingDino(network, load_tokenizer(folder), Pixels.of(folder))
