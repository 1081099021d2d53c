"""Objects that somebody pointed out, as queries: the object encoder (specification §8).

masks ─► k parts of each, top to bottom ─► features there ─┐
what no mask covers ─► cells of a 4 × 4 grid ─► likewise ──┼─► queries (their mean) ─► 4 layers: queries look at each
points ─► features of four strides there ──────────────────┘                           other, each at its own features
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from maskstream.mask2former.decoder import attend
from maskstream.mask2former.positions import position_codes
from maskstream.types import InputError

STRIDE = 4
"""Of the features that masks are read from."""

GRID = (4, 4)
"""Rows and columns of background cells."""

MOST_TRAINING, MOST = 2048, 16384
"""Pixels of a part or cell that are read, in training and otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class PointTargets:
    """P objects, each pointed at with one point on a frame of its own.

    Attributes:
        points_p2: ``float[P, 2]``, y and x as fractions of the padded picture; see `padded_points`.
        maps_pchw: features at strides 32, 16, 8 and 4, each ``float[P, C, h, w]``, of the frame of each point.
    """

    points_p2: Tensor
    maps_pchw: tuple[Tensor, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ObjectQueries:
    """What the object encoder says.

    Attributes:
        background_gc: ``float[G, C]``, a query of each cell; G is 0 without a grid.
        objects_qc: ``float[Q, C]``, those of an object one after the other.
        counts: how many each object has: k of a mask, one of a point.
    """

    background_gc: Tensor
    objects_qc: Tensor
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What Q queries look at, up to L features each.

    Attributes:
        content_qlc: ``float[Q, L, C]``; zero where there is no more.
        codes_qlc: ``float[Q, L, C]``.
        length_q: ``int64[Q]``, how many there are.
    """

    content_qlc: Tensor
    codes_qlc: Tensor
    length_q: Tensor

    def since(self, first: int) -> Memory:
        """That of all queries from one on."""
        return Memory(self.content_qlc[first:], self.codes_qlc[first:], self.length_q[first:])

    def means(self) -> Tensor:
        """``float[Q, C]``: what queries begin with."""
        return self.content_qlc.sum(1) / self.length_q[:, None]


class EncoderLayer(nn.Module):
    """Queries see each other, then each its own features, with residuals and normalisations after.

    Args:
        channels: C.
        heads: of attention.
        hidden: width of the feed-forward part.
    """

    def __init__(self, channels: int, *, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.self_norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.contract = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries_qc: Tensor, codes_qc: Tensor, memory: Memory) -> Tensor:
        """``float[Q, C]``."""
        placed = (queries_qc + codes_qc)[None]
        queries_qc = self.self_norm(queries_qc + attend(self.self_attention, placed, placed, queries_qc[None])[0])
        longest = memory.content_qlc.shape[1]
        beyond_q1l = (torch.arange(longest, device=queries_qc.device) >= memory.length_q[:, None])[:, None]
        found_q1c = attend(
            self.attention,
            (queries_qc + codes_qc)[:, None],
            memory.content_qlc + memory.codes_qlc,
            memory.content_qlc,
            unseen=beyond_q1l,
        )
        queries_qc = self.attention_norm(queries_qc + found_q1c[:, 0])
        normed: Tensor = self.norm(queries_qc + self.contract(F.relu(self.expand(queries_qc))))
        return normed


class ObjectEncoder(nn.Module):
    """Queries of masks, points and what is around them.

    Args:
        channels: C.
        heads: of attention.
        hidden: width of the feed-forward parts.
        layers: how often queries look.
        grid: whether what no mask covers has queries.
    """

    def __init__(self, channels: int, *, heads: int, hidden: int, layers: int, grid: bool = True) -> None:
        super().__init__()
        self.grid = grid
        self.kinds = nn.ParameterDict(
            {kind: nn.Parameter(torch.randn(channels)) for kind in ("background", "mask", "point")}
        )
        self.layers = nn.ModuleList(EncoderLayer(channels, heads=heads, hidden=hidden) for _ in range(layers))
        self.scales = nn.ModuleList(nn.Linear(channels, channels) for _ in range(4))
        self.begin = nn.Sequential(
            nn.Linear(4 * channels, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
        )

    def forward(
        self, features_tchw: Tensor, masks_nthw: Tensor, points: PointTargets | None = None, *, parts: int
    ) -> ObjectQueries:
        """Encode objects of one clip.

        Args:
            features_tchw: ``float[T, C, h, w]``, mask features of the frames that masks are of; they get no gradient.
            masks_nthw: ``bool[N, T, 4h, 4w]``, at the size of the padded picture; N may be 0.
            points: of further objects, which come after those with masks; their features get a gradient.
            parts: k, queries of each mask.

        Raises:
            InputError: a mask is empty, or masks are of another size than features.
        """
        _check(features_tchw, masks_nthw)
        regions = torch.cat([background_cells(masks_nthw), mask_parts(masks_nthw, parts)])
        most = MOST_TRAINING if self.training else MOST
        memory = region_memory(features_tchw.detach(), regions, most=most)
        cells, objects = GRID[0] * GRID[1], len(masks_nthw)
        if not self.grid:
            memory, cells = memory.since(cells), 0
        contents = [memory.means()]
        codes = [self.kinds["background"].expand(cells, -1), self.kinds["mask"].expand(objects * parts, -1)]
        if points is not None:
            begun_pc, of_points = self._points(points)
            memory = _joined(memory, of_points)
            contents.append(begun_pc)
            codes.append(self.kinds["point"].expand(len(begun_pc), -1))
        queries_qc, codes_qc = torch.cat(contents), torch.cat(codes)
        for layer in self.layers:
            queries_qc = layer(queries_qc, codes_qc, memory)
        counts = (parts,) * objects + (1,) * (0 if points is None else len(points.points_p2))
        return ObjectQueries(queries_qc[:cells], queries_qc[cells:], counts)

    def _points(self, points: PointTargets) -> tuple[Tensor, Memory]:
        """What queries of points begin with, and what they look at."""
        found = [at_points(maps_pchw, points.points_p2) for maps_pchw in points.maps_pchw]
        content_p4c = torch.stack([project(x) for project, x in zip(self.scales, found, strict=True)], 1)
        finest_pchw = points.maps_pchw[-1]
        code_1chw = place_codes(finest_pchw)[None]
        code_pc = at_points(code_1chw.expand(len(finest_pchw), -1, -1, -1), points.points_p2)
        length_p = torch.full((len(content_p4c),), 4, device=content_p4c.device)
        begun_pc: Tensor = self.begin(torch.cat(found, 1))
        return begun_pc, Memory(content_p4c, code_pc[:, None].expand_as(content_p4c), length_p)


def mask_parts(masks_nthw: Tensor, parts: int) -> Tensor:
    """Split masks into k parts of nearly as many pixels, frame by frame, row by row (specification §8.1).

    Where a mask has fewer pixels than k, they are repeated first.

    Args:
        masks_nthw: ``bool[N, T, H, W]``, none empty.
        parts: k.

    Returns:
        ``bool[N·k, T, H, W]``.
    """
    found = masks_nthw.new_zeros((len(masks_nthw), parts, masks_nthw[:1].numel() or 1))
    for mask_x, parts_kx in zip(masks_nthw.flatten(1), found, strict=True):
        places = mask_x.nonzero()[:, 0]
        places = places.repeat(max(1, -(-parts // len(places))))
        for part_x, some in zip(parts_kx, places.tensor_split(parts), strict=True):
            part_x[some] = True
    return found.view(-1, *masks_nthw.shape[1:])


def background_cells(masks_nthw: Tensor) -> Tensor:
    """What no mask covers, by cells of a grid (specification §8.1).

    Args:
        masks_nthw: ``bool[N, T, H, W]``.

    Returns:
        ``bool[G, T, H, W]``, row by row; may be empty.
    """
    _, frames, height, width = masks_nthw.shape
    rows_h, columns_w = (
        torch.linspace(-0.499, cells - 0.501, side, device=masks_nthw.device).round().long()
        for cells, side in zip(GRID, (height, width), strict=True)
    )
    cell_hw = rows_h[:, None] * GRID[1] + columns_w
    inside_ghw = torch.arange(GRID[0] * GRID[1], device=masks_nthw.device)[:, None, None] == cell_hw
    return inside_ghw[:, None].expand(-1, frames, -1, -1) & ~masks_nthw.any(0)


def region_memory(features_tchw: Tensor, regions_qthw: Tensor, *, most: int) -> Memory:
    """The features of each pixel of regions, once for each pixel, and where they are.

    Args:
        features_tchw: ``float[T, C, h, w]`` at stride 4.
        regions_qthw: ``bool[Q, T, 4h, 4w]``; of an empty one there is a single feature that is zero, without a place.
        most: pixels of a region that are read. Of more, so many, as far from each other in their order as can be; the
            authors draw them by chance.
    """
    frames, _, height, width = features_tchw.shape
    content_xc = _flat_places(features_tchw)
    code_xc = _flat_places(place_codes(features_tchw)[None].expand(frames, -1, -1, -1))
    pixels, cells = [], torch.arange(frames * height * width, device=features_tchw.device)
    cell_x = cells.view(frames, height, width).repeat_interleave(STRIDE, 1).repeat_interleave(STRIDE, 2).flatten()
    for region_x in regions_qthw.flatten(1):
        places = region_x.nonzero()[:, 0]
        if len(places) > most:
            places = places[torch.arange(most, device=places.device) * len(places) // most]
        pixels.append(cell_x[places])
    lengths = torch.tensor([len(x) for x in pixels], device=features_tchw.device)
    longest = max(1, int(lengths.max()))
    chosen_ql = torch.stack([F.pad(x, (0, longest - len(x))) for x in pixels])
    there_ql1 = (torch.arange(longest, device=lengths.device) < lengths[:, None])[..., None]
    return Memory(content_xc[chosen_ql] * there_ql1, code_xc[chosen_ql] * there_ql1, lengths.clamp(min=1))


def place_codes(features_xchw: Tensor) -> Tensor:
    """Codes of the rows and columns of a map as they are counted, from one, not as fractions; ``float[C, h, w]``."""
    *_, channels, height, width = features_xchw.shape
    return position_codes((height, width), channels, as_fractions=False, device=features_xchw.device)[0].to(
        features_xchw
    )


def at_points(maps_pchw: Tensor, points_p2: Tensor) -> Tensor:
    """The nearest feature of each map at its point, ``float[P, C]``.

    Args:
        maps_pchw: ``float[P, C, h, w]``.
        points_p2: ``float[P, 2]``, y and x as fractions.
    """
    grid_p112 = 2 * points_p2.flip(1).to(maps_pchw)[:, None, None] - 1
    return F.grid_sample(maps_pchw, grid_p112, mode="nearest", align_corners=False)[:, :, 0, 0]


def padded_points(points_p2: Tensor, size_hw: tuple[int, int], padded_hw: tuple[int, int]) -> Tensor:
    """Points as fractions of the padded picture.

    Args:
        points_p2: ``float[P, 2]``, y and x as fractions of the picture.
        size_hw: of the picture.
        padded_hw: with what was added at the right and at the bottom.

    Raises:
        InputError: a point is outside.
    """
    if not bool(((points_p2 >= 0) & (points_p2 <= 1)).all()):
        raise InputError("a point lies outside the picture: give y and x as fractions, from 0 to 1")
    return points_p2 * (torch.tensor(size_hw).to(points_p2) / torch.tensor(padded_hw).to(points_p2))


def middle_points(masks_nhw: Tensor) -> Tensor:
    """The point that stands for a mask in training: deepest inside, then nearest to its centroid (§8.4).

    Args:
        masks_nhw: ``bool[N, H, W]``, none empty.

    Returns:
        ``float[N, 2]``, y and x of the pixel's middle, as fractions.
    """
    size = np.array(masks_nhw.shape[1:])
    found = np.zeros((len(masks_nhw), 2), dtype=np.float32)
    for n, mask_hw in enumerate(masks_nhw.cpu().numpy()):
        depth_hw = distance_transform_edt(mask_hw)
        deepest_d2 = np.argwhere(depth_hw == depth_hw.max())
        away_d = np.abs(deepest_d2 - np.argwhere(mask_hw).mean(0)).sum(1)
        found[n] = (deepest_d2[away_d.argmin()] + 0.5) / size
    return torch.from_numpy(found).to(masks_nhw.device)


def _check(features_tchw: Tensor, masks_nthw: Tensor) -> None:
    frames, _, height, width = features_tchw.shape
    if masks_nthw.shape[1:] != (frames, STRIDE * height, STRIDE * width):
        raise InputError(
            f"masks are {list(masks_nthw.shape[1:])} (frames, height, width) but features are of "
            f"{[frames, STRIDE * height, STRIDE * width]}: pad masks as pictures are"
        )
    if bool((empty_n := ~masks_nthw.flatten(1).any(1)).any()):
        raise InputError(f"mask {int(empty_n.nonzero()[0])} is empty on all frames: leave the object out")


def _joined(first: Memory, second: Memory) -> Memory:
    longest = max(first.content_qlc.shape[1], second.content_qlc.shape[1])
    content, codes = (
        torch.cat([F.pad(x, (0, 0, 0, longest - x.shape[1])) for x in pair])
        for pair in ((first.content_qlc, second.content_qlc), (first.codes_qlc, second.codes_qlc))
    )
    return Memory(content, codes, torch.cat([first.length_q, second.length_q]))


def _flat_places(maps_tchw: Tensor) -> Tensor:
    """``float[T·h·w, C]``."""
    return maps_tchw.movedim(1, -1).flatten(0, 2)


def largest_of_each(masks_bqthw: Tensor, counts: Sequence[int]) -> Tensor:
    """Masks of objects, the greatest logit of their queries; ``float[B, N, T, h, w]``."""
    if not counts:
        return masks_bqthw
    return torch.stack([part.amax(1) for part in torch.split(masks_bqthw, list(counts), dim=1)], 1)
