"""The rule of 20: DAVIS takes at most so many objects a video (DEVA specification §12, DAVIS-17 unsupervised).

Objects are taken in the order they appear, on one frame the larger first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

LIMIT = 20
"""Objects a video."""


def first_objects(id_maps: Iterable[Tensor], *, limit: int = LIMIT) -> Iterator[Tensor]:
    """Keep the objects that appear first, frame by frame as they come (the paper's rule).

    Args:
        id_maps: ``int[H, W]`` of each frame, 0 for background.
        limit: most objects.

    Yields:
        The maps, with 0 in place of what is not kept.
    """
    kept: list[int] = []
    for id_map in id_maps:
        areas = _areas(id_map)
        new = [object_id for object_id in _by_area(areas) if object_id not in kept]
        kept += new[: limit - len(kept)]
        yield _mapped(id_map, {object_id: object_id for object_id in kept if object_id in areas})


def renumbered_first_objects(
    id_maps: Sequence[Tensor], *, limit: int = LIMIT, compat: bool = False
) -> Iterator[Tensor]:
    """As the authors' program does it: on finished maps, objects numbered from 1 as they were taken.

    Args:
        id_maps: as for `first_objects`; gone over twice.
        limit: most objects.
        compat: with that program's mistake: what is taken already is counted, and numbered, again on every frame, so
            that the limit is soon reached whatever appears.
    """
    numbers = taken_numbers((_areas(id_map) for id_map in id_maps), limit=limit, compat=compat)
    for id_map in id_maps:
        yield _mapped(id_map, numbers)


def taken_numbers(areas: Iterable[Mapping[int, int]], *, limit: int = LIMIT, compat: bool = False) -> dict[int, int]:
    """The number of each object that is taken; see `renumbered_first_objects`.

    Args:
        areas: for each frame the area of every object on it.
        limit: most objects.
        compat: count objects again on every frame.

    >>> taken_numbers([{7: 10, 3: 20}, {3: 20, 7: 10, 5: 90}], limit=3)
    {3: 1, 7: 2, 5: 3}
    """
    taken: list[int] = []
    for of_frame in areas:
        for object_id in _by_area(of_frame):
            if len(taken) < limit and (compat or object_id not in taken):
                taken.append(object_id)
    return {object_id: number for number, object_id in enumerate(taken, start=1)}


def _areas(id_map: Tensor) -> dict[int, int]:
    ids, counts = np.unique(id_map.cpu().numpy(), return_counts=True)
    return {object_id: area for object_id, area in zip(ids.tolist(), counts.tolist(), strict=True) if object_id}


def _by_area(areas: Mapping[int, int]) -> list[int]:
    """Larger first; of those that tie, the smaller id."""
    return sorted(areas, key=lambda object_id: (-areas[object_id], object_id))


def _mapped(id_map: Tensor, number_of_id: Mapping[int, int]) -> Tensor:
    mapped = torch.zeros_like(id_map)
    for object_id, number in number_of_id.items():
        mapped[id_map == object_id] = number
    return mapped
