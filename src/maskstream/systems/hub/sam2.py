"""SAM 2 (Ravi et al., ICLR 2025), EdgeTAM (Zhou et al., CVPR 2025) and SAM 3's tracker as a system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from maskstream.pretrained import Pixels, folder_of_kind, load_pretrained, read_config
from maskstream.types import OBJECT, CategorySet, InputError, Task, check_task

from .sam2_network import EdgeTamParts, Sam2Parts
from .sam2_objects import SamVideoSettings
from .sam2_session import SamVideoSession

if TYPE_CHECKING:
    from transformers import PreTrainedModel

USUAL = "facebook/sam2.1-hiera-tiny (Apache-2.0)"

_KINDS = ("sam2_video", "edgetam_video", "sam3_tracker_video", "sam3_video")


class SamVideo:
    """Objects that people point at, followed. Satisfies the `VideoSegmenter` contract.

    Args:
        parts: of the network.
        pixels: how it wants to see pictures; of the size only one is possible, the network's.
        settings: what is remembered of objects, and how many go through the network at a time.

    Raises:
        InputError: the policy reads more memories than the network can tell apart.
    """

    open_vocabulary = False
    tasks = frozenset({Task.VOS, Task.PVOS, Task.PET})
    label_spaces: Mapping[str, CategorySet] = {OBJECT.name: OBJECT}

    def __init__(self, parts: Sam2Parts, pixels: Pixels, *, settings: SamVideoSettings | None = None) -> None:
        self.parts = parts
        self.pixels = replace(
            pixels, shortest=None, longest=None, exact_hw=(parts.side, parts.side), pad_hw=None, divisor=1
        )
        self.settings = settings or SamVideoSettings()
        self.settings.check(parts)

    def start(
        self,
        task: Task,
        *,
        size_hw: tuple[int, int],
        fps: float | None = None,
        categories: CategorySet | str | None = None,
        soft: bool = False,
        seed: int = 0,
    ) -> SamVideoSession:
        """Begin a video; see `VideoSegmenter.start`. Nothing here is random, so ``seed`` changes nothing.

        Raises:
            InputError: the task is another one.
        """
        check_task(task, self.tasks)
        return SamVideoSession(self.parts, self.pixels, size_hw=size_hw, settings=self.settings, soft=soft)


def load_sam_video(
    name: str, *, settings: SamVideoSettings | None = None, device: torch.device | str = "cpu"
) -> SamVideo:
    """SAM 2 or 2.1, EdgeTAM or the tracker of SAM 3 from a folder or the hub, as facebook/sam2.1-hiera-tiny.

    Args:
        name: of a folder, or of a model of the hub.
        settings: see `SamVideo`.
        device: where it runs.

    Raises:
        InputError: there is no such model, it is another one, files are missing or damaged, or its encoder is one of
            timm (as that of yonigozlan/EdgeTAM-hf), which is not installed.
    """
    folder, kind = folder_of_kind(name, _KINDS, usual=USUAL)
    vision = read_config(folder).get("vision_config") or {}
    if (vision.get("backbone_config") or {}).get("model_type") == "timm_wrapper" and find_spec("timm") is None:
        raise InputError(f"the image encoder of {name} is one of timm, which is not installed: run 'pip install timm'")
    import transformers

    networks: dict[str, type[PreTrainedModel]] = {
        "sam2_video": transformers.Sam2VideoModel,
        "edgetam_video": transformers.EdgeTamVideoModel,
    }
    network: Any = load_pretrained(networks.get(kind, transformers.Sam3TrackerVideoModel), folder, device=device)
    parts = (EdgeTamParts if kind == "edgetam_video" else Sam2Parts)(network)
    return SamVideo(parts, Pixels.of(folder), settings=settings)
