"""What an image-level segmenter finds on one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """N proposals of one image. Per-proposal fields are empty tuples when nothing is known of any of them.

    Attributes:
        masks_nhw: ``bool[N, h, w]``, or soft ``float[N, h, w]`` in [0, 1]; may overlap, at any resolution.
        categories: category id of each, or None.
        scores: confidence of each in [0, 1], or None.
        is_thing: thing, stuff or unknown (None) for each.
        embeddings_nc: ``float[N, C]`` appearance, or None.
    """

    masks_nhw: Tensor = field(repr=False)
    categories: tuple[int | None, ...] = ()
    scores: tuple[float | None, ...] = ()
    is_thing: tuple[bool | None, ...] = ()
    embeddings_nc: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.masks_nhw.ndim != 3:
            raise InputError(f"proposal masks are [N, h, w], not {list(self.masks_nhw.shape)}")
        count = len(self.masks_nhw)
        for name in ("categories", "scores", "is_thing"):
            values = getattr(self, name) or (None,) * count
            if len(values) != count:
                raise InputError(f"there are {count} proposals but {len(values)} {name}")
            object.__setattr__(self, name, values)
        if self.embeddings_nc is not None and len(self.embeddings_nc) != count:
            raise InputError(f"there are {count} proposals but {len(self.embeddings_nc)} embeddings")

    def __len__(self) -> int:
        return len(self.masks_nhw)

    def keep(self, wanted: Sequence[bool]) -> Proposals:
        """Only the proposals that are wanted (one flag each), in the same order."""
        positions = [n for n, want in enumerate(wanted) if want]
        return Proposals(
            self.masks_nhw[positions],
            tuple(self.categories[n] for n in positions),
            tuple(self.scores[n] for n in positions),
            tuple(self.is_thing[n] for n in positions),
            None if self.embeddings_nc is None else self.embeddings_nc[positions],
        )

    @classmethod
    def none(cls, size_hw: tuple[int, int]) -> Proposals:
        """No proposal at all."""
        return cls(torch.zeros((0, *size_hw), dtype=torch.bool))
