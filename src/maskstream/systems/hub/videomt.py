"""VidEoMT as a system ("Your ViT is Secretly Also a Video Segmentation Model", Norouzi et al., CVPR 2026)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained
from maskstream.segmenters.label_spaces import shown_categories, space_of
from maskstream.types import CategorySet, InputError, Task, check_task

from .videomt_session import VideomtSession, VideomtSettings

if TYPE_CHECKING:
    from transformers import VideomtForUniversalSegmentation

USUAL = "tue-mps/videomt-dinov2-small-ytvis2019 (see its page for its licence)"


class Videomt:
    """What a network knows, found and followed online. Satisfies the `VideoSegmenter` contract.

    Args:
        network: for inference.
        pixels: how it wants to see pictures; of the size only one is possible, the network's.
        space: what its classes mean, in their order; ids are theirs. None: what its names say.
        settings: how answers become objects.

    Raises:
        InputError: the label space has another number of classes.
    """

    open_vocabulary = False

    def __init__(
        self,
        network: VideomtForUniversalSegmentation,
        pixels: Pixels,
        *,
        space: CategorySet | None = None,
        settings: VideomtSettings | None = None,
    ) -> None:
        side = network.config.image_size
        assert isinstance(side, int)  # the library builds no other network
        self.network = network
        self.pixels = replace(pixels, shortest=None, longest=None, exact_hw=(side, side), pad_hw=None, divisor=1)
        self.settings = settings or VideomtSettings()
        names = {int(n): name for n, name in (network.config.id2label or {}).items()}
        self.label_space = space_of(names, space, classes=network.class_predictor.out_features - 1)
        self.label_spaces: Mapping[str, CategorySet] = {self.label_space.name: self.label_space}
        kinds = {category.is_thing for category in self.label_space.categories}
        self.tasks = frozenset({Task.VPS, Task.VSS} | (set() if kinds == {False} else {Task.VIS}))

    def start(
        self,
        task: Task,
        *,
        size_hw: tuple[int, int],
        fps: float | None = None,
        categories: CategorySet | str | None = None,
        soft: bool = False,
        seed: int = 0,
    ) -> VideomtSession:
        """Begin a video; see `VideoSegmenter.start`. Nothing here is random, so ``seed`` changes nothing.

        Raises:
            InputError: the network cannot do the task, knows none of the categories, or probabilities are asked for.
        """
        check_task(task, self.tasks)
        if soft:
            raise InputError("VidEoMT gives no probabilities of regions: leave out what asks for them")
        return VideomtSession(
            self.network,
            self.pixels,
            task=task,
            own=self.label_space,
            shown=shown_categories(self.label_space, categories),
            size_hw=size_hw,
            settings=self.settings,
        )


def load_videomt(
    name: str,
    *,
    settings: VideomtSettings | None = None,
    space: CategorySet | None = None,
    device: torch.device | str = "cpu",
) -> Videomt:
    """VidEoMT from a folder, or from the hub, as tue-mps/videomt-dinov2-small-ytvis2019.

    Args:
        name: of a folder, or of a model of the hub.
        settings: see `Videomt`.
        space: see `Videomt`; models of the hub do not name their classes, so say what they were trained on.
        device: where it runs.

    Raises:
        InputError: there is no such model, its files are damaged or of another kind, or it has other classes.
    """
    folder, _ = folder_of_kind(name, ("videomt",), usual=USUAL)
    from transformers import VideomtForUniversalSegmentation

    network = load_pretrained(VideomtForUniversalSegmentation, folder, device=device)
    return Videomt(network, Pixels.of(folder), space=space, settings=settings)
