"""TarViS as a system (Athar et al., "TarViS: A Unified Approach for Target-based Video Segmentation", CVPR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from maskstream.mask2former import use_fast_attention
from maskstream.mask2former.checkpoints import is_file_of_weights
from maskstream.pretrained import Pixels, pretrained_folder
from maskstream.segmenters.label_spaces import shown_categories
from maskstream.segmenters.queries import pyramid_pixels
from maskstream.types import CategorySet, ImageSegmenter, InputError, Task, check_task

from .categories import CategorySession
from .checkpoints import SHORT_SIDE, read_authors
from .label_spaces import chosen, spaces_of
from .network import PADDING, STRIDE, TarViSNetwork, read_tarvis
from .objects import ObjectSession
from .settings import TarViSSettings

_LONG_SIDE = 1333
"""Most of the long side, as published."""


class TarViS:
    """Targets as queries, for instances, regions, classes, masks and points. Satisfies the `VideoSegmenter` contract.

    Args:
        network: for inference.
        pixels: how it wants to see pictures, whatever they are padded to.
        space: the label space in which categories are asked for, by name, or what its classes are called. None: all
            that the network knows, and whoever asks says in which.
        settings: how a video is cut into clips, and how clips are joined.
        prompter: turns boxes into masks; without it none are taken.

    Raises:
        InputError: the network does not know the label space.
    """

    open_vocabulary = False

    def __init__(
        self,
        network: TarViSNetwork,
        pixels: Pixels,
        *,
        space: CategorySet | str | None = None,
        settings: TarViSSettings | None = None,
        prompter: ImageSegmenter[Any] | None = None,
    ) -> None:
        self.network = network
        self.pixels = replace(pixels, divisor=STRIDE, pad_hw=None, padding=float(PADDING))
        self.settings = settings or TarViSSettings()
        self.prompter = prompter
        spaces = spaces_of(network.config)
        self.label_spaces: Mapping[str, CategorySet] = (
            spaces if space is None else dict([chosen(network.config, spaces, space)])
        )
        kinds = {category.is_thing for one in self.label_spaces.values() for category in one.categories}
        tasks = {Task.VOS, Task.PVOS, Task.PET}
        if network.config.label_spaces:
            tasks |= {Task.VPS, Task.VSS} | (set() if kinds == {False} else {Task.VIS})
        self.tasks = frozenset(tasks)

    def start(
        self,
        task: Task,
        *,
        size_hw: tuple[int, int],
        fps: float | None = None,
        categories: CategorySet | str | None = None,
        soft: bool = False,
        seed: int = 0,
    ) -> CategorySession | ObjectSession:
        """Begin a video; see `VideoSegmenter.start`. Nothing here is random, so ``seed`` changes nothing.

        Raises:
            InputError: the network cannot do the task, it is not said in which of several label spaces, none of the
                categories is known, or probabilities are asked for.
        """
        check_task(task, self.tasks)
        if soft:
            raise InputError("TarViS gives no probabilities of regions: leave out what asks for them")
        if task.is_prompted:
            return ObjectSession(
                self.network, self.pixels, size_hw=size_hw, settings=self.settings, prompter=self.prompter
            )
        name, own = chosen(self.network.config, self.label_spaces, categories)
        return CategorySession(
            self.network,
            self.pixels,
            task=task,
            label_space=name,
            own=own,
            shown=shown_categories(own, None if isinstance(categories, str) else categories),
            size_hw=size_hw,
            settings=self.settings,
        )


def load_tarvis(
    name: str,
    *,
    settings: TarViSSettings | None = None,
    space: CategorySet | str | None = None,
    prompter: ImageSegmenter[Any] | None = None,
    short_side: int | None = None,
    device: torch.device | str = "cpu",
) -> TarViS:
    """TarViS from a folder, or from a file of its authors.

    Args:
        name: a folder that training wrote, on this machine or on the hub; or a file for `checkpoints.read_authors`.
        settings: see `TarViS`.
        space: see `TarViS`.
        prompter: see `TarViS`.
        short_side: of what the network sees; None: what the folder says, and 576 for a file.
        device: where it runs.

    Raises:
        InputError: there is no such model, its files are damaged or of another kind, or it does not know the label
            space.
    """
    file = Path(name).expanduser()
    if is_file_of_weights(file):
        network, pixels = read_authors(file), Pixels(shortest=SHORT_SIDE, longest=_LONG_SIDE)
    else:
        folder = pretrained_folder(name)
        network, pixels = read_tarvis(folder), Pixels.of(folder)
    use_fast_attention(network.core)
    return TarViS(
        network.to(device), pyramid_pixels(pixels, short_side), space=space, settings=settings, prompter=prompter
    )
