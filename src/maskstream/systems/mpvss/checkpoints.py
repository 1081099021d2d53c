"""Checkpoints of MPVSS's authors, as they wrote them with detectron2, and of FlowNetS (specification §1 and §3).

file of MPVSS ─► read_core ─┬─► Mask2Former
                            └─► the rest: motion.encoder, motion.decoder ─► Motion
file of FlowNetS, as mmtracking has it ─► its contracting part ─► Motion.encoder
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from maskstream.mask2former.checkpoints import read_core
from maskstream.mask2former.network import with_classes
from maskstream.types import InputError
from maskstream.weight_files import check_fits, read_state, some

from .motion import Motion, MotionConfig
from .network import PART, motion_config, read_motion

if TYPE_CHECKING:
    from transformers import Mask2FormerForUniversalSegmentation

_FIRST = "conv1.0.conv.weight"
"""By which FlowNetS is found in a file."""


def read_authors(
    file: Path, *, names: Sequence[str] | None = None
) -> tuple[Mask2FormerForUniversalSegmentation, Motion]:
    """MPVSS from a checkpoint that its authors' program wrote. They have published none.

    Args:
        file: ``.pth`` with entries named as detectron2 does, and those of ``motion.``.
        names: of its classes, in their order; None: "class 0" and so on.

    Returns:
        The network of key frames and the motion module, in float32 on the CPU, in evaluation mode; both can be trained.

    Raises:
        InputError: the file is not there, is damaged, incomplete, of another network, or of other classes.
    """
    core, rest = read_core(file, family="detectron2")
    classes = int(core.config.num_labels or 0)
    if names is not None and len(names) != classes:
        raise InputError(f"{file} tells {classes} classes, but {len(names)} are named: name those it was trained on")
    if not rest:
        raise InputError(f"{file} is a Mask2Former without a motion module: load it as one, or give one of MPVSS")
    try:
        motion = Motion(_config(core, rest))
        motion.load_state_dict(_fitting(rest, motion, "motion."))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    return with_classes(core, names or [f"class {n}" for n in range(classes)]), motion.eval()


def read_flownet(file: Path, motion: Motion) -> None:
    """Put FlowNetS into the encoder of a motion module, which is then to be trained.

    The entries are ``conv1.0.conv.weight`` and so on, behind any prefix: the network by itself, or as a part of another
    one, such as a detector or MPVSS. What else the file has is left, the expanding part of FlowNetS included.

    Args:
        file: such as ``flownet_simple.pth`` of mmtracking, which was trained on Flying Chairs.
        motion: its encoder is changed, or all is as before if an error is raised.

    Raises:
        InputError: the file is not there, is damaged, or has no such network, or two, or one of other sizes.
    """
    state = read_state(file)
    begins = [name.removesuffix(_FIRST) for name in state if f".{name}".endswith(f".{_FIRST}")]
    if len(begins) != 1:
        raise InputError(
            f"{file} has {len(begins)} entries called {_FIRST} ({some(begins or list(state))}): give a file with one "
            "FlowNetS, such as flownet_simple.pth of mmtracking"
        )
    (begin,) = begins
    found = {name: tensor for name, tensor in state.items() if name.startswith(f"{begin}conv")}
    try:
        motion.encoder.load_state_dict(_fitting(found, motion.encoder, begin))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def take_flow(path: Path, motion: Motion) -> None:
    """Put what has learned flow into a motion module, which is then to be trained: its encoder, and where maps are used
    alike, by pixel flow alone or refined by queries, all else that both have.

    Args:
        path: a folder that training of flow wrote; or a file for `read_flownet`, of which the encoder alone is taken,
            because flow has another unit there.
        motion: is changed, or all is as before if an error is raised.

    Raises:
        InputError: there is nothing of the kind, it is damaged, or of other sizes.
    """
    if not path.is_dir():
        read_flownet(path, motion)
        return
    found = read_motion(path)
    if found is None:
        raise InputError(f"{path} has no {PART}.json: give a folder that training of flow wrote (flow-tiny), or a file")
    own = motion.state_dict()
    alike = motion.decoder.looks == found.decoder.looks
    taken = {n: t for n, t in found.state_dict().items() if n in own and (alike or n.startswith("encoder."))}
    try:
        check_fits(taken, {name: own[name].shape for name in taken}, what="the motion module")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    motion.load_state_dict(taken, strict=False)


def _config(core: Mask2FormerForUniversalSegmentation, rest: Mapping[str, Tensor]) -> MotionConfig:
    """Sizes, from shapes; whatever does not agree with them is found later.

    Raises:
        InputError: an entry that tells a size is missing.
    """

    def size(name: str, axis: int = 0) -> int:
        if name not in rest:
            raise InputError(f"{name} is missing: the checkpoint is incomplete, or of another motion module")
        if axis >= rest[name].dim():
            raise InputError(f"{name} is {list(rest[name].shape)}: the checkpoint is of another motion module")
        return rest[name].shape[axis]

    block = re.compile(r"motion\.decoder\.transformer_(?:self_attention|ffn)_layers\.(\d+)\..*")
    blocks = len({found[1] for name in rest if (found := block.fullmatch(name))})
    levels = MotionConfig().levels  # the authors' program knows no other
    return motion_config(
        core,
        widths=tuple(size(f"motion.encoder.conv{n}.0.conv.weight") for n in range(1, 7)),
        levels=levels,
        stages=max(1, blocks // levels),
        feedforward=size("motion.decoder.transformer_ffn_layers.0.linear1.weight"),
        motion_dim=size("motion.decoder.output_head.layers.2.weight"),
        decoder_widths=tuple(size(f"motion.decoder.deconv{n}.conv.weight", 1) for n in (5, 4, 3, 2)),
    )


def _fitting(state: Mapping[str, Tensor], module: nn.Module, begin: str) -> dict[str, Tensor]:
    """Entries as a module wants them.

    Args:
        state: all of them; they are called as the module's own, behind a prefix.
        module: for them.
        begin: the prefix.

    Raises:
        InputError: one is unknown, missing, of another shape, or not finite.
    """
    wanted = {f"{begin}{name}": tensor.shape for name, tensor in module.state_dict().items()}
    check_fits(state, wanted, what="the motion module")
    return {name.removeprefix(begin): tensor for name, tensor in state.items()}
