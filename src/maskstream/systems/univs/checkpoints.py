"""Checkpoints of UniVS's authors, as they wrote them with detectron2 (specification §2 and 3).

    file ─► of the student, or of the teacher ─► core_in ─┬─► Mask2Former ─────────────┬─► UniVSNetwork
                                                          └─► the rest: PromptModules ─┘

The text tower and the names of classes lie in files of their own: see `text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from maskstream.mask2former.checkpoints import core_in, read_floats
from maskstream.types import InputError
from maskstream.weight_files import check_fits

from .network import PromptModules, UniVSConfig, UniVSNetwork

SHORT_SIDE = 640
"""Of the pictures that most of the published numbers are of."""

_HEAD = "sem_seg_head.predictor."

_KINDS = {"visual": "prompt_sot", "category": "prompt_detection", "expression": "prompt_grounding"}

_THEIRS = {
    "to_text": "vis2text_projection",
    "text_norm": "text_norm",
    "from_text": "text2vis_projection",
    "look": "lang2vision_cross_attention_layer.multihead_attn",
    "look_norm": "lang2vision_cross_attention_layer.norm",
}
"""Modules of `PromptModules`, and what they are called in checkpoints; see `_theirs` for the others."""

_UNUSED = f"{_HEAD}reid_temp.weight"
"""Is in every file, and in no computation."""


def read_authors(file: Path, *, weights: Literal["student", "ema"] = "student") -> UniVSNetwork:
    """UniVS from a file of its authors.

    Nothing in a file says how time was counted and who saw whom; the network has what they trained all with. Set
    another ``config`` for what they tested otherwise.

    Args:
        file: ``.pth`` as they published it.
        weights: of the network itself, as their benchmarks have it, or of the moving average of it that is beside it in
            files of the third stage ("ema"), as their programs for own videos do.

    Returns:
        The network, for inference, in float32 on the CPU.

    Raises:
        InputError: the file is not there, is damaged, incomplete or of another network, or has no moving average.
    """
    state = read_floats(file)
    try:
        core, rest = core_in(_chosen(state, weights), family="detectron2", tells_classes=False)
        network = UniVSNetwork(core, _config(rest))
        network.prompting.load_state_dict(_converted(rest, network.prompting))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    return network.eval().requires_grad_(False)


def _chosen(state: Mapping[str, Tensor], weights: Literal["student", "ema"]) -> dict[str, Tensor]:
    """Entries of one of both networks, under the names of the student.

    Raises:
        InputError: there is no such network.
    """
    teacher = {}
    student = {}
    for name, tensor in state.items():
        module, _, part = name.partition(".")
        if module.endswith("_t"):
            teacher[f"{module.removesuffix('_t')}.{part}"] = tensor
        else:
            student[name] = tensor
    if weights == "student":
        return student
    if not teacher:
        raise InputError("there is no moving average (backbone_t, sem_seg_head_t): ask for the student's weights")
    return student | teacher


def _config(rest: Mapping[str, Tensor]) -> UniVSConfig:
    if (name := f"{_HEAD}vis2text_projection.weight") not in rest:
        raise InputError(f"{name} is missing: this is a Mask2Former without prompts, or the checkpoint is incomplete")
    begin = f"{_HEAD}lang2vision_cross_attention_layer."
    return UniVSConfig(text_dim=len(rest[name]), text_to_image=any(known.startswith(begin) for known in rest))


def _converted(rest: Mapping[str, Tensor], modules: PromptModules) -> dict[str, Tensor]:
    """Entries beside the Mask2Former, as `PromptModules` wants them.

    Raises:
        InputError: one is unknown, missing, of another shape, or not finite.
    """
    ours = modules.state_dict()
    wanted = {_theirs(name): _their_shape(name, tensor) for name, tensor in ours.items()}
    check_fits({name: x for name, x in rest.items() if name != _UNUSED}, wanted, what="what prompts need")
    return {name: rest[_theirs(name)].reshape(tensor.shape) for name, tensor in ours.items()}


def _theirs(ours: str) -> str:
    module, _, part = ours.partition(".")
    if module == "proca":
        layer, part = part.split(".", 1)
        part = part.replace("attention.", "multihead_attn.")
        return f"{_HEAD}transformer_prompt_self_attention_layers.{layer}.{part}"
    if module == "log_scale":
        return f"{_HEAD}cls_temp.weight"
    if module == "kinds":
        return f"{_HEAD}{_KINDS[part]}.weight"
    return f"{_HEAD}{_THEIRS[module]}.{part}"


def _their_shape(ours: str, tensor: Tensor) -> torch.Size:
    """Single vectors and numbers are tables with one row there."""
    if ours == "log_scale" or ours.startswith("kinds."):
        return torch.Size([1, tensor.numel()])
    return tensor.shape
