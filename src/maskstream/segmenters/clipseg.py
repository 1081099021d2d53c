"""CLIPSeg (Lüddecke & Ecker, "Image Segmentation Using Text and Image Prompts", CVPR 2022): words to soft masks.

picture ─► CLIP's image encoder ─► activations, kept ─┐
name of a category ─► CLIP's text encoder ────────────┴─► decoder ─► probability of each pixel
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained, load_tokenizer
from maskstream.types import CategorySet, Frame, InputError, ObjectPrompt, Proposals

from .text import wanted

if TYPE_CHECKING:
    from transformers import CLIPSegForImageSegmentation, PreTrainedTokenizerBase

USUAL = "CIDAS/clipseg-rd64-refined (see its page for its licence)"

_BATCH = 16
"""Categories at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipSegFeatures:
    """What CLIP's image encoder says of a picture.

    Attributes:
        layers: ``float[1 + h * w, C]``, activations of the layers that the decoder reads.
        size_hw: height and width of the source.
    """

    layers: tuple[Tensor, ...] = field(repr=False)
    size_hw: tuple[int, int]


class ClipSegSegmenter:
    """An `ImageSegmenter` that finds where the names of the categories fit: one soft mask a category.

    Args:
        network: the network.
        tokenizer: its own.
        pixels: how the network wants to see pictures.
        min_score: categories that are nowhere more probable than this are not proposed.
    """

    context = 0
    open_vocabulary = True

    def __init__(
        self,
        network: CLIPSegForImageSegmentation,
        tokenizer: PreTrainedTokenizerBase,
        pixels: Pixels,
        *,
        min_score: float = 0.5,
    ) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.min_score = min_score

    @torch.no_grad()
    def encode(self, frames: Sequence[Frame]) -> list[ClipSegFeatures]:
        """Run the image encoder."""
        features = []
        for frame in frames:
            seen = self.pixels([frame]).to(self.network.device, self.network.dtype)
            activations = self.network.clip.get_image_features(seen, output_hidden_states=True).hidden_states
            layers = tuple(activations[layer + 1][0] for layer in self.network.extract_layers)
            features.append(ClipSegFeatures(layers, frame.size_hw))
        return features

    @torch.no_grad()
    def segment(
        self,
        features: ClipSegFeatures,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[ClipSegFeatures] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        """Find where some categories are.

        Args:
            features: of the picture.
            prompts: cannot be used.
            context: not used.
            categories: what to look for, by name. They have to be given.
            exclude: not used.

        Returns:
            ``float32`` masks in [0, 1] at the resolution of the network, one for each category that is somewhere, in
            their order. The score is the highest probability.

        Raises:
            InputError: it is not said what to look for, or objects are prompted.
        """
        if prompts:
            raise InputError("CLIPSeg is told what to look for in words, not by boxes, clicks or masks")
        asked = wanted(categories)
        text = self.tokenizer(list(asked.names), padding=True, truncation=True, return_tensors="pt")
        masks = [
            self._masks(features, ids, attended)
            for ids, attended in zip(text["input_ids"].split(_BATCH), text["attention_mask"].split(_BATCH), strict=True)
        ]
        masks_nhw = torch.cat(masks)
        scores = masks_nhw.amax((1, 2)).tolist()
        return Proposals(masks_nhw, categories=asked.ids, scores=tuple(scores)).keep(
            [score > self.min_score for score in scores]
        )

    def _masks(self, features: ClipSegFeatures, ids_nt: Tensor, attended_nt: Tensor) -> Tensor:
        device = self.network.device
        meaning = self.network.get_conditional_embeddings(
            batch_size=len(ids_nt), input_ids=ids_nt.to(device), attention_mask=attended_nt.to(device)
        )
        layers = [layer.expand(len(ids_nt), -1, -1) for layer in features.layers]
        probabilities: Tensor = self.network.decoder(layers, meaning).logits.sigmoid().float()
        return probabilities


def load_clipseg(name: str, *, device: torch.device | str = "cpu", min_score: float = 0.5) -> ClipSegSegmenter:
    """From a folder or the hub, as CIDAS/clipseg-rd64-refined.

    Raises:
        InputError: there is no such model, it is another one, or files are missing or damaged.
    """
    folder, _ = folder_of_kind(name, ("clipseg",), usual=USUAL)
    from transformers import CLIPSegForImageSegmentation

    network = load_pretrained(CLIPSegForImageSegmentation, folder, device=device)
    return ClipSegSegmenter(network, load_tokenizer(folder), Pixels.of(folder), min_score=min_score)
