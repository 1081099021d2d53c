"""MPVSS as a system (Weng et al., "Mask Propagation for Efficient Video Semantic Segmentation", NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from maskstream.mask2former import use_fast_attention
from maskstream.mask2former.checkpoints import KINDS, USUAL, is_file_of_weights
from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained
from maskstream.segmenters.label_spaces import shown_categories, space_of
from maskstream.segmenters.queries import pyramid_pixels
from maskstream.types import CategorySet, InputError, Task, check_task

from .checkpoints import read_authors
from .network import MpvssNetwork, read_mpvss
from .session import MpvssSession, MpvssSettings

SHORT_SIDE = 480
"""Of the pictures of VSPW, on which networks of the authors were trained."""


class Mpvss:
    """Semantic segmentation at a fraction of the cost. Satisfies the `VideoSegmenter` contract.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        space: what its classes mean; ids are theirs. None: what its names say.
        settings: how frames between key frames are segmented.
    """

    open_vocabulary = False
    tasks = frozenset({Task.VSS})

    def __init__(
        self,
        network: MpvssNetwork,
        pixels: Pixels,
        *,
        space: CategorySet | None = None,
        settings: MpvssSettings | None = None,
    ) -> None:
        self.network = network
        self.pixels = pixels
        self.settings = settings or MpvssSettings()
        self.label_space = space_of(network.names, space, classes=network.core.classes)
        self.label_spaces: Mapping[str, CategorySet] = {self.label_space.name: self.label_space}

    def start(
        self,
        task: Task,
        *,
        size_hw: tuple[int, int],
        fps: float | None = None,
        categories: CategorySet | str | None = None,
        soft: bool = False,
        seed: int = 0,
    ) -> MpvssSession:
        """Begin a video; see `VideoSegmenter.start`. Nothing here is random, so ``seed`` changes nothing.

        Raises:
            InputError: the task is another, the network knows none of the categories, or probabilities are asked for.
        """
        check_task(task, self.tasks)
        if soft:
            raise InputError("MPVSS gives no probabilities of regions: leave out what asks for them")
        shown = shown_categories(self.label_space, categories)
        return MpvssSession(self.network, self.pixels, shown=shown, size_hw=size_hw, settings=self.settings)


def load_mpvss(
    name: str,
    *,
    settings: MpvssSettings | None = None,
    space: CategorySet | None = None,
    short_side: int | None = None,
    device: torch.device | str = "cpu",
) -> Mpvss:
    """MPVSS from a folder, from a file of its authors, or around any Mask2Former; masks of that are carried by flow.

    Args:
        name: a folder that training wrote; a file for `read_authors`; or a Mask2Former of `transformers`, a folder or a
            name on the hub.
        settings: see `Mpvss`.
        space: see `Mpvss`.
        short_side: of what the network sees; None: what the folder says, and 480 for a file.
        device: where it runs.

    Raises:
        InputError: there is no such model, or its files are damaged or of another kind.
    """
    from transformers import Mask2FormerForUniversalSegmentation

    from maskstream.mask2former import stdc  # noqa: F401  # makes itself known to `transformers`

    file = Path(name).expanduser()
    if is_file_of_weights(file):
        network = MpvssNetwork(*read_authors(file)).eval().requires_grad_(False)
        pixels = Pixels(shortest=SHORT_SIDE)
    else:
        folder, _ = folder_of_kind(name, KINDS, usual=USUAL)
        network = read_mpvss(load_pretrained(Mask2FormerForUniversalSegmentation, folder), folder)
        pixels = Pixels.of(folder)
    use_fast_attention(network.core)
    return Mpvss(network.to(device), pyramid_pixels(pixels, short_side), space=space, settings=settings)
