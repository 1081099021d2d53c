"""SAM 3 as a system: all that some words name, found and followed (Carion et al., 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained, load_tokenizer
from maskstream.types import OBJECT, CategorySet, InputError, Task, check_task

from .sam3_network import Sam3Parts
from .sam3_session import Sam3Session, Sam3Settings

USUAL = "facebook/sam3 (SAM License)"


class Sam3:
    """Everything that words name, found and followed. Satisfies the `VideoSegmenter` contract.

    Args:
        parts: of the network.
        pixels: how it wants to see pictures; of the size only one is possible, the network's.
        settings: how concepts are followed.
        space: what is looked for where nobody says; of "object" alone, somebody has to.

    Raises:
        InputError: the policy reads more memories than the network can tell apart, or the network is one whose detector
            redraws what its tracker follows.
    """

    open_vocabulary = True
    tasks = frozenset({Task.VIS})

    def __init__(
        self,
        parts: Sam3Parts,
        pixels: Pixels,
        *,
        settings: Sam3Settings | None = None,
        space: CategorySet = OBJECT,
    ) -> None:
        self.parts = parts
        self.pixels = replace(
            pixels, shortest=None, longest=None, exact_hw=(parts.side, parts.side), pad_hw=None, divisor=1
        )
        self.settings = settings or Sam3Settings()
        self.settings.following.check(parts)
        self.label_spaces: Mapping[str, CategorySet] = {space.name: space}
        if not parts.whole.recondition_on_trk_masks:
            raise InputError("this SAM 3 remembers detections (recondition_on_trk_masks is false), and none known does")

    def start(
        self,
        task: Task,
        *,
        size_hw: tuple[int, int],
        fps: float | None = None,
        categories: CategorySet | str | None = None,
        soft: bool = False,
        seed: int = 0,
    ) -> Sam3Session:
        """Begin a video; see `VideoSegmenter.start`. Nothing here is random, so ``seed`` changes nothing.

        Args:
            task: "vis".
            size_hw: of the video.
            fps: does not matter.
            categories: what to look for, by their names; None: what text prompts will say.
            soft: is refused.
            seed: does not matter.

        Raises:
            InputError: the task is another one, a name is too long, or probabilities are asked for.
        """
        check_task(task, self.tasks)
        if soft:
            raise InputError("SAM 3 gives no probabilities of what words name: leave out what asks for them")
        if isinstance(categories, str):
            if categories not in self.label_spaces:
                raise InputError(f"unknown label space {categories!r}; this model finds what it is told: name classes")
            categories = self.label_spaces[categories]
        return Sam3Session(self.parts, self.pixels, size_hw=size_hw, settings=self.settings, categories=categories)


def load_sam3(
    name: str,
    *,
    settings: Sam3Settings | None = None,
    space: CategorySet = OBJECT,
    device: torch.device | str = "cpu",
) -> Sam3:
    """SAM 3 from a folder, or from the hub, as facebook/sam3.

    Args:
        name: of a folder, or of a model of the hub.
        settings: see `Sam3`.
        space: see `Sam3`.
        device: where it runs.

    Raises:
        InputError: there is no such model, it is another one, or files are missing or damaged.
    """
    folder, _ = folder_of_kind(name, ("sam3_video",), usual=USUAL)
    from transformers import Sam3VideoModel

    network = load_pretrained(Sam3VideoModel, folder, device=device)
    return Sam3(Sam3Parts(network, load_tokenizer(folder)), Pixels.of(folder), settings=settings, space=space)
