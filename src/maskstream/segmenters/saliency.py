"""What stands out in a picture: any function of a picture to a soft mask, a network of `transformers` among them.

Saliency networks that are not in `transformers` come in as a function: see `SoftSegmenter`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.pretrained import Pixels, load_pretrained, pretrained_folder, read_config
from maskstream.types import CategorySet, Frame, InputError, ObjectPrompt, Proposals

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, eq=False)
class SoftMask:
    """A soft mask of a picture: ``float32[h, w]`` in [0, 1], at any resolution."""

    mask_hw: Tensor = field(repr=False)


class SoftSegmenter:
    """An `ImageSegmenter` from a function: one soft proposal, or none where nothing stands out.

    Args:
        function: ``uint8[H, W, 3]``, RGB, to ``float[h, w]`` in [0, 1], at any resolution.
        min_score: a mask that is nowhere above this is none.
    """

    context = 0
    salient = True

    def __init__(
        self, function: Callable[[NDArray[np.uint8]], NDArray[np.floating]], *, min_score: float = 0.5
    ) -> None:
        self.function = function
        self.min_score = min_score

    def encode(self, frames: Sequence[Frame]) -> list[SoftMask]:
        """Call the function.

        Raises:
            InputError: what it returns is no soft mask.
        """
        return [SoftMask(_checked(self.function(frame.image))) for frame in frames]

    def segment(
        self,
        features: SoftMask,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[SoftMask] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        """What stands out.

        Args:
            features: of the picture.
            prompts: cannot be used.
            context: not used.
            categories: not used.
            exclude: not used.

        Returns:
            At most one ``float32`` mask; its score is its highest value.

        Raises:
            InputError: objects are prompted.
        """
        if prompts:
            raise InputError("a saliency segmenter chooses by itself: it takes no boxes, clicks or masks")
        score = float(features.mask_hw.max())
        return Proposals(features.mask_hw[None], scores=(score,)).keep([score > self.min_score])


def _checked(mask: NDArray[np.floating]) -> Tensor:
    array = np.asarray(mask)
    if array.ndim != 2 or not array.size or not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"a soft mask is float[H, W], but the function returned {array.dtype}{list(array.shape)}")
    if not (array.min() >= 0 and array.max() <= 1):  # not a number is neither
        raise InputError(
            f"a soft mask has values from 0 to 1, but the function returned {array.min():g} to {array.max():g}"
        )
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def load_saliency(name: str, *, device: torch.device | str = "cpu", min_score: float = 0.5) -> SoftSegmenter:
    """A semantic-segmentation network of `transformers` with one class, from a folder or the hub.

    Raises:
        InputError: there is no such model, it has several classes, or files are missing or damaged.
    """
    folder = pretrained_folder(name)
    kind = read_config(folder)["model_type"]
    from transformers import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING, AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        of_kind = cast("type[PreTrainedModel]", MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING[type(config)])
    except (OSError, ValueError, KeyError):
        raise InputError(
            f"{name} is a model of kind {kind}, not one of those that give every pixel a class: "
            "call it in a function of your own, and give that to SoftSegmenter"
        ) from None
    if config.num_labels != 1:
        raise InputError(f"{name} tells {config.num_labels} classes apart: a saliency model has one")
    network = load_pretrained(of_kind, folder, device=device)
    return SoftSegmenter(_function(network, Pixels.of(folder)), min_score=min_score)


def _function(network: nn.Module, pixels: Pixels) -> Callable[[NDArray[np.uint8]], NDArray[np.floating]]:
    """A network with logits ``float[1, 1, h, w]`` as a function."""

    @torch.no_grad()
    def saliency(image: NDArray[np.uint8]) -> NDArray[np.floating]:
        where = next(network.parameters())
        seen = pixels([Frame(0, 0.0, image)]).to(where.device, where.dtype)
        logits: Tensor = network(seen).logits
        height, width = pixels.resized_hw((image.shape[0], image.shape[1]))
        rows, columns = (
            round(side * small / large)
            for side, small, large in zip((height, width), logits.shape[2:], seen.shape[2:], strict=True)
        )
        found: NDArray[np.floating] = logits[0, 0, : max(1, rows), : max(1, columns)].sigmoid().float().cpu().numpy()
        return found

    return saliency
