"""Tokens: what a prompt points at, as the features there (UniVS, §3.2; specification §5).

mask, box ─► places of stride 8 inside ─► R of them ─┐
point ─► the feature there, R times ─────────────────┴─► content and code of R tokens ─┬─► queries (their mean)
                                                                                       └─► what queries look at (ProCA)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.mask2former.positions import point_codes

STRIDE = 8
"""Of the features that visual prompts are read from."""

Choose = Callable[[int, int], Tensor]
"""From how many places there are and how many are wanted, fewer, to ``int64[wanted]``, their positions."""


@dataclass(frozen=True, slots=True, eq=False)
class PromptMap:
    """The features of one frame that visual prompts are read from.

    Attributes:
        content_chw: ``float[C, h, w]``, at stride 8, with the level's embedding.
        code_chw: ``float[C, h, w]``, where and when each place is.
        angle: when the frame is; see `positions.position_codes`.
    """

    content_chw: Tensor = field(repr=False)
    code_chw: Tensor = field(repr=False)
    angle: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """What N prompts point at on one frame.

    Attributes:
        content_nrc: ``float[N, R, C]``; all zero for what is not there.
        code_nrc: ``float[N, R, C]``.
    """

    content_nrc: Tensor
    code_nrc: Tensor

    def means(self) -> tuple[Tensor, Tensor]:
        """Content and code of the query that each prompt begins with, ``float[N, C]``: the mean of what is not zero."""
        count_n1 = (self.content_nrc != 0).any(2).sum(1, keepdim=True).clamp(min=1)
        return self.content_nrc.sum(1) / count_n1, self.code_nrc.sum(1) / count_n1


def evenly(places: int, wanted: int) -> Tensor:
    """Places as far from each other as can be, in the order of rows: the same ones every time."""
    return torch.arange(wanted) * places // wanted


def at_random(generator: torch.Generator | None = None) -> Choose:
    """Places drawn by chance, as published."""
    return lambda places, wanted: torch.randperm(places, generator=generator)[:wanted]


def mask_tokens(
    where: PromptMap, masks_nhw: Tensor, count: int, *, choose: Choose = evenly, extremes: bool = False
) -> Tokens:
    """Tokens of what masks cover (specification §5.1).

    Args:
        where: the frame.
        masks_nhw: ``[N, H, W]``, bool or in [0, 1], at the size of the padded input, 8 times that of the map. Scribbles
            are masks, too.
        count: R. Where there are fewer places they are repeated.
        choose: which ones where there are more.
        extremes: whether the first four are the places that lie furthest left, up, right and down, as in training;
            where there are as many as are wanted.
    """
    masks_nhw = masks_nhw.to(where.content_chw)
    small_nhw = F.interpolate(masks_nhw[:, None], where.content_chw.shape[1:], mode="nearest")[:, 0]
    least = min(0.5, float(small_nhw.max())) if small_nhw.numel() else 0.5
    inside_nhw = (small_nhw >= least) & (small_nhw > 0)
    there_n = (masks_nhw > 0.5).flatten(1).any(1)
    return _picked(
        where, inside_nhw, there_n, count, middle=lambda n: _middle(masks_nhw[n]), choose=choose, extremes=extremes
    )


def box_tokens(where: PromptMap, boxes_n4: Tensor, count: int, *, choose: Choose = evenly) -> Tokens:
    """Tokens of what boxes hold (specification §5.2).

    Args:
        where: the frame.
        boxes_n4: ``float[N, 4]``, left, top, right and bottom as fractions of the padded input; of no size: not there.
        count: R.
        choose: which places where there are more.
    """
    height, width = where.content_chw.shape[1:]
    rows_h, columns_w = (torch.arange(n, device=boxes_n4.device) for n in (height, width))
    left, top, right, bottom = (side[:, None] for side in boxes_n4.T)
    # The authors leave out the first row and column; the last one that a box touches is in.
    in_rows_nh = (rows_h > (top * height).floor()) & (rows_h <= (bottom * height).ceil())
    in_columns_nw = (columns_w > (left * width).floor()) & (columns_w <= (right * width).ceil())
    inside_nhw = in_rows_nh[:, :, None] & in_columns_nw[:, None]
    there_n = ((right > left) & (bottom > top)).flatten()
    middles_n2 = ((boxes_n4[:, :2] + boxes_n4[:, 2:]) / 2).clamp(0, 1)
    return _picked(where, inside_nhw, there_n, count, middle=lambda n: middles_n2[n], choose=choose)


def point_tokens(where: PromptMap, points_n2: Tensor, count: int) -> Tokens:
    """Tokens of points (specification §5.3).

    Args:
        where: the frame.
        points_n2: ``float[N, 2]``, x and y as fractions of the padded input; outside of it: not there.
        count: R; all of them are the same.
    """
    points_n2 = points_n2.to(where.content_chw)
    there_n = ((points_n2 >= 0) & (points_n2 <= 1)).all(1)
    found_cn = F.grid_sample(where.content_chw[None], 2 * points_n2[None, None] - 1, align_corners=False)[0, :, 0]
    content_nc = torch.where(there_n[:, None], found_cn.T, 0)
    code_nc = torch.where(there_n[:, None], point_codes(points_n2, where.content_chw.shape[0], where.angle), 0)
    return Tokens(*(x_nc[:, None].expand(-1, count, -1) for x_nc in (content_nc, code_nc)))


def joined(parts: list[Tokens]) -> Tokens:
    """Prompts of several kinds as one."""
    return Tokens(torch.cat([part.content_nrc for part in parts]), torch.cat([part.code_nrc for part in parts]))


def _picked(
    where: PromptMap,
    inside_nhw: Tensor,
    there_n: Tensor,
    count: int,
    *,
    middle: Callable[[int], Tensor],
    choose: Choose,
    extremes: bool = False,
) -> Tokens:
    """Content and code of R places of each prompt; of what has no place of this stride, of its middle."""
    inside_nk = inside_nhw.flatten(1)
    places_n = inside_nk.sum(1)
    ranks_nr = torch.zeros((len(places_n), count), dtype=torch.int64)
    for ranks_r, places in zip(ranks_nr, places_n.tolist(), strict=True):
        ranks_r[:] = _ranks(places, count, choose)
    # The place with a rank is where so many places are counted.
    chosen_nr = torch.searchsorted(inside_nk.cumsum(1), ranks_nr.to(places_n) + 1).clamp(max=inside_nk.shape[1] - 1)
    if extremes:
        with_ends_nr = torch.cat([_ends(inside_nhw), chosen_nr[:, 4:]], 1)[:, :count]
        chosen_nr = torch.where((places_n >= count)[:, None], with_ends_nr, chosen_nr)  # otherwise all are there
    content_nrc, code_nrc = (x_chw.flatten(1).T[chosen_nr] for x_chw in (where.content_chw, where.code_chw))
    if bool((lost_n := there_n & (places_n == 0)).any()):
        middles_n2 = torch.stack([middle(n) for n in lost_n.nonzero()[:, 0].tolist()])
        found = point_tokens(where, middles_n2, count)
        content_nrc[lost_n], code_nrc[lost_n] = found.content_nrc, found.code_nrc
    there_n11 = there_n[:, None, None]
    return Tokens(content_nrc * there_n11, code_nrc * there_n11)


def _ranks(places: int, count: int, choose: Choose) -> Tensor:
    """Which of the places of a prompt are its tokens, ``int64[count]``."""
    return choose(places, count) if places > count else torch.arange(count) % max(places, 1)


def _ends(inside_nhw: Tensor) -> Tensor:
    """``int64[N, 4]``: the places that lie furthest left, up, right and down."""
    rows, columns = (torch.arange(side, device=inside_nhw.device) for side in inside_nhw.shape[1:])
    rows_nk, columns_nk = (
        grid_hw.flatten().float().expand(len(inside_nhw), -1)
        for grid_hw in torch.meshgrid(rows, columns, indexing="ij")
    )
    outside_nk = ~inside_nhw.flatten(1)
    far = float("inf")
    return torch.stack(
        [
            columns_nk.masked_fill(outside_nk, far).argmin(1),
            rows_nk.masked_fill(outside_nk, far).argmin(1),
            columns_nk.masked_fill(outside_nk, -far).argmax(1),
            rows_nk.masked_fill(outside_nk, -far).argmax(1),
        ],
        1,
    )


def _middle(weights_hw: Tensor) -> Tensor:
    """``float[2]``: x and y of the centre of mass, as fractions."""
    rows_h, columns_w = ((torch.arange(side, device=weights_hw.device) + 0.5) / side for side in weights_hw.shape)
    total = weights_hw.sum().clamp(min=1e-6)
    return torch.stack([(weights_hw.sum(0) * columns_w).sum() / total, (weights_hw.sum(1) * rows_h).sum() / total])
