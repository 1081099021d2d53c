"""Tube-Link's network: the query core over a few frames, and what tells its queries of two tubes apart.

frames of a tube ─► ClipMask2Former ─► a class and a tube of each query ─┬─► segments
                                                   └─► queries ─► Association ─► embeddings ─► tracks
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maskstream.mask2former.checkpoints import save_core
from maskstream.mask2former.network import ClipMask2Former
from maskstream.mask2former.parts import fill, read_settings, write_part
from maskstream.types import InputError

from .association import Association, LinkMode

if TYPE_CHECKING:
    from transformers import Mask2FormerForUniversalSegmentation

PART = "tubelink"
"""What files are called that hold what is added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TubeLinkConfig:
    """What a Tube-Link has beside its query core.

    Attributes:
        stuff_slots: the last so many queries stand for the last so many classes, which are stuff, each for one; only
            the others are matched (specification §4). 0: all are matched.
        association: whether there is a link layer and an embedding head.
        link_hidden: width of the link's feed-forward network.
        link: how it was trained to link, or how its published numbers were measured.
        window: frames of a tube that it is meant for; None: nobody said.
        time_code: whether it was trained on clips, and its keys say of which frame they are. A network that was
            trained on pictures has never seen that.
    """

    stuff_slots: int = 0
    association: bool = True
    link_hidden: int = 1024
    link: LinkMode = "attention"
    window: int | None = None
    time_code: bool = True


class TubeLinkNetwork(nn.Module):
    """A query core with an `Association`, or without.

    Args:
        core: of `transformers`; its parameters are this one's.
        config: what else there is.

    Raises:
        InputError: there are more slots for stuff than queries or classes.
    """

    def __init__(self, core: Mask2FormerForUniversalSegmentation, config: TubeLinkConfig) -> None:
        super().__init__()
        width, queries = core.config.hidden_dim, core.config.num_queries
        self.core = ClipMask2Former(core, time_code=config.time_code)
        if not 0 <= config.stuff_slots <= min(queries, self.core.classes):
            raise InputError(
                f"{config.stuff_slots} slots for stuff do not fit among {queries} queries and {self.core.classes} "
                "classes"
            )
        self.config = config
        self.association = (
            Association(width, heads=core.config.num_attention_heads, hidden=config.link_hidden)
            if config.association
            else None
        )

    @property
    def names(self) -> dict[int, str]:
        """What classes are called."""
        return {int(n): str(name) for n, name in (self.core.network.config.id2label or {}).items()}

    def linked(self, queries_bqc: Tensor, others_bkc: Tensor | None, mode: LinkMode) -> Tensor:
        """Queries that know of those of the tube before; as they were where there is none; see `LinkLayer`."""
        if self.association is None or others_bkc is None:
            return queries_bqc
        found: Tensor = self.association.link(queries_bqc, others_bkc, mode=mode)
        return found


def save_tubelink(network: TubeLinkNetwork, folder: Path, *, short_side: int) -> None:
    """Write a network: the core as `transformers` takes it, and beside it what Tube-Link adds.

    Args:
        network: to write.
        folder: is made.
        short_side: of pictures that it is meant for.
    """
    save_core(network.core.network, folder, short_side=short_side)
    write_part(folder, PART, network.config, network.association)


def read_tubelink(core: Mask2FormerForUniversalSegmentation, folder: Path) -> TubeLinkNetwork:
    """A network around a core that was read from a folder; without what Tube-Link adds if that is not there.

    Raises:
        InputError: what is added is damaged or of another network.
    """
    config = read_settings(folder, PART, TubeLinkConfig) or TubeLinkConfig(association=False, time_code=False)
    network = TubeLinkNetwork(core, config)
    if network.association is not None:
        fill(network.association, folder, PART)
    return network.eval().requires_grad_(False)


def take_association(network: TubeLinkNetwork, folder: Path) -> None:
    """Let a network begin from the association that a folder has, if it has one.

    Raises:
        InputError: it is damaged or of another size.
    """
    begun = read_settings(folder, PART, TubeLinkConfig)
    if network.association is not None and begun is not None and begun.association:
        fill(network.association, folder, PART)


@torch.no_grad()
def cosine(first_nc: Tensor, second_mc: Tensor) -> Tensor:
    """``float32[N, M]``: the cosine of each with each."""
    first, second = (nn.functional.normalize(x.float(), dim=-1) for x in (first_nc, second_mc))
    return first @ second.T
