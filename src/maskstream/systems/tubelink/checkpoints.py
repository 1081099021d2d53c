"""Checkpoints of Tube-Link's authors, as they wrote them with mmdet 2 (specification §1, §3 and §7).

    file ─► read_core ─┬─► Mask2Former ──────────────────────────────┬─► TubeLinkNetwork
                       └─► the rest: link layer, embedding head ─────┘
                           nothing: a network for instances or classes, which has none

Which of the authors' programs a file is of is told by its entries alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from maskstream.mask2former.checkpoints import read_core
from maskstream.mask2former.network import with_classes
from maskstream.types import InputError
from maskstream.weight_files import check_fits

from .association import Association, LinkMode
from .network import TubeLinkConfig, TubeLinkNetwork

SHORT_SIDE = 720
"""Of the pictures of VIPSeg, on which networks with embeddings were trained."""

_STUFF = {124: 66}
"""By the number of classes, how many are stuff, in what the authors published with embeddings (specification §4)."""

_THEIRS = {
    "embed.layers.0": "embed_fcs.0",
    "embed.layers.1": "embed_fcs.1",
    "embed.layers.3": "fc_embed",
    "embed.layers.4": "track_head.fcs.0",
    "embed.layers.6": "track_head.fcs.1",
    "embed.layers.8": "track_head.fc_embed",
    "link.attention": "attention_previous_track.attn",
    "link.attention.out_proj": "attention_previous_track.attn.out_proj",
    "link.attention_norm": "attention_previous_norm_track",
    "link.expand": "link_ffn_track.layers.0.0",
    "link.contract": "link_ffn_track.layers.1",
    "link.norm": "link_ffn_norm_track",
}
"""Modules of `Association`, and what they are called in checkpoints."""


def read_authors(file: Path, *, names: Sequence[str] | None = None, stuff_slots: int | None = None) -> TubeLinkNetwork:
    """Tube-Link from a file of its authors.

    A Mask2Former for pictures that mmdet trained has the same entries as a network for instances or classes, and is
    taken for one.

    Args:
        file: ``.pth`` as they published it; or another that has their names.
        names: of its classes, in their order: things come first, and stuff last, where there are embeddings. None:
            "class 0" and so on.
        stuff_slots: see `TubeLinkConfig`; None: 66 of the 124 classes of VIPSeg, and none without embeddings.

    Returns:
        The network, for inference, in float32 on the CPU.

    Raises:
        InputError: the file is not there, is damaged, incomplete, of another network, or of other classes.
    """
    core, rest = read_core(file, family="mmdet")
    classes = int(core.config.num_labels or 0)
    if names is not None and len(names) != classes:
        raise InputError(f"{file} tells {classes} classes, but {len(names)} are named: name those it was trained on")
    if stuff_slots is None:
        stuff_slots = _STUFF.get(classes) if rest else 0
    if stuff_slots is None:
        raise InputError(f"{file} does not say how many of its {classes} classes are stuff: give stuff_slots")
    with_classes(core, names or [f"class {n}" for n in range(classes)])
    link: LinkMode = "slot" if rest else "attention"
    network = TubeLinkNetwork(core, TubeLinkConfig(stuff_slots=stuff_slots, association=bool(rest), link=link))
    if network.association is not None:
        try:
            network.association.load_state_dict(_converted(rest, network.association))
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
    return network.eval().requires_grad_(False)


def _converted(rest: Mapping[str, Tensor], association: Association) -> dict[str, Tensor]:
    """Entries beside the Mask2Former, as `Association` wants them.

    Raises:
        InputError: one is unknown, missing, of another shape, or not finite.
    """
    wanted = {_theirs(name): (name, tensor.shape) for name, tensor in association.state_dict().items()}
    check_fits(rest, {name: shape for name, (_, shape) in wanted.items()}, what="the link layer and the embedding head")
    return {ours: rest[name] for name, (ours, _) in wanted.items()}


def _theirs(name: str) -> str:
    module, _, part = name.rpartition(".")
    return f"{_THEIRS[module]}.{part}"
