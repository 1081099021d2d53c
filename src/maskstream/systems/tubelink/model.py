"""Tube-Link as a system (Li et al., "Tube-Link: A Flexible Cross Tube Framework for Universal Video Segmentation",
ICCV 2023)."""

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

from .checkpoints import SHORT_SIDE, read_authors
from .network import TubeLinkNetwork, read_tubelink
from .session import TubeLinkSession, TubeLinkSettings


class TubeLink:
    """Clips into tubes, tubes into a video. Satisfies the `VideoSegmenter` contract.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        space: what its classes mean; ids are theirs. None: what its names say.
        settings: how a video is cut into tubes, and tubes are linked.
    """

    open_vocabulary = False

    def __init__(
        self,
        network: TubeLinkNetwork,
        pixels: Pixels,
        *,
        space: CategorySet | None = None,
        settings: TubeLinkSettings | None = None,
    ) -> None:
        classes, stuff = network.core.classes, network.config.stuff_slots
        self.network = network
        self.pixels = pixels
        self.settings = settings or TubeLinkSettings()
        things = range(classes - stuff) if stuff else None
        self.label_space = space_of(network.names, space, classes=classes, things=things)
        self.label_spaces: Mapping[str, CategorySet] = {self.label_space.name: self.label_space}
        kinds = {category.is_thing for category in self.label_space.categories}
        tasks = {Task.VPS, Task.VSS} | (set() if kinds == {False} else {Task.VIS})
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
    ) -> TubeLinkSession:
        """Begin a video; see `VideoSegmenter.start`. Nothing here is random, so ``seed`` changes nothing.

        Raises:
            InputError: the network cannot do the task, knows none of the categories, or probabilities are asked for.
        """
        check_task(task, self.tasks)
        if soft:
            raise InputError("Tube-Link gives no probabilities of regions: leave out what asks for them")
        return TubeLinkSession(
            self.network,
            self.pixels,
            task=task,
            own=self.label_space,
            shown=shown_categories(self.label_space, categories),
            size_hw=size_hw,
            settings=self.settings,
        )


def load_tubelink(
    name: str,
    *,
    settings: TubeLinkSettings | None = None,
    space: CategorySet | None = None,
    short_side: int | None = None,
    device: torch.device | str = "cpu",
) -> TubeLink:
    """Tube-Link from a folder, from a file of its authors, or around any Mask2Former.

    A network that was trained on single pictures decodes tubes all the same, and is followed by its queries ("tube
    matching", Table 1 of the paper).

    Args:
        name: a folder that training wrote; a file for `read_authors`; or a Mask2Former of `transformers`, a folder or a
            name on the hub.
        settings: see `TubeLink`.
        space: see `TubeLink`; taken things first where the network has slots for stuff. None: what the folder says.
        short_side: of what the network sees; None: what the folder says, and 720 for a file.
        device: where it runs.

    Raises:
        InputError: there is no such model, its files are damaged or of another kind, or it has other classes.
    """
    from transformers import Mask2FormerForUniversalSegmentation

    from maskstream.mask2former import stdc  # noqa: F401  # makes itself known to `transformers`

    file = Path(name).expanduser()
    if is_file_of_weights(file):
        network, pixels = read_authors(file), Pixels(shortest=SHORT_SIDE)
    else:
        folder, _ = folder_of_kind(name, KINDS, usual=USUAL)
        core = load_pretrained(Mask2FormerForUniversalSegmentation, folder)
        network, pixels = read_tubelink(core, folder), Pixels.of(folder)
    use_fast_attention(network.core)
    slots = network.config.stuff_slots
    if space is not None and slots:
        space = space.things_first()
        if (stuff := sum(category.is_thing is False for category in space.categories)) != slots:
            raise InputError(
                f"{slots} classes of the network are stuff, but {stuff} of {space.name}: name the label space "
                "that it was trained on"
            )
    return TubeLink(network.to(device), pyramid_pixels(pixels, short_side), space=space, settings=settings)
