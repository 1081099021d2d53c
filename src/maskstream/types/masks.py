"""The two ways the masks of a frame are held, and run-length coding.

Disjoint masks are one label map; overlapping ones are bit-packed, one bit a pixel and segment. Neither ever becomes
a ``[N, H, W]`` float tensor on its way from a model to a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from .errors import InputError


class RLE(TypedDict):
    """A mask in COCO's compressed run-length code: runs down the columns, first run background."""

    size: list[int]
    counts: str


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Disjoint masks. ``values`` is ``int32[H, W]``: 0 where there is no segment, n on the n-th segment (from 1)."""

    values: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != torch.int32:
            raise InputError(f"a label map is int32[H, W], not {self.values.dtype}{list(self.values.shape)}")

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.values.shape[0], self.values.shape[1]

    def masks_nhw(self, count: int) -> Tensor:
        """``bool[N, H, W]``, one mask for each of the first ``count`` segments."""
        positions = torch.arange(1, count + 1, dtype=torch.int32, device=self.values.device)
        return self.values == positions[:, None, None]


@dataclass(frozen=True, slots=True, eq=False)
class PackedMasks:
    """Masks that may overlap. ``bits`` is ``uint8[N, H, ceil(W / 8)]``, the leftmost pixel in the highest bit."""

    bits: Tensor = field(repr=False)
    width: int

    def __post_init__(self) -> None:
        if self.bits.ndim != 3 or self.bits.dtype != torch.uint8 or self.bits.shape[2] != (self.width + 7) // 8:
            raise InputError(
                f"packed masks of width {self.width} are uint8[N, H, {(self.width + 7) // 8}], "
                f"not {self.bits.dtype}{list(self.bits.shape)}"
            )

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bits.shape[1], self.width


def pack_masks(masks_nhw: Tensor) -> PackedMasks:
    """Pack boolean masks eight pixels to a byte.

    Args:
        masks_nhw: ``bool[N, H, W]``.
    """
    on_cpu = masks_nhw.device.type == "cpu"
    bits = torch.from_numpy(np.packbits(masks_nhw.numpy(), axis=2)) if on_cpu else pack_bits(masks_nhw)
    return PackedMasks(bits, masks_nhw.shape[2])


def unpack_masks(packed: PackedMasks) -> Tensor:
    """The masks as ``bool[N, H, W]``; undoes `pack_masks`."""
    if packed.bits.device.type != "cpu":
        return unpack_bits(packed.bits, packed.width)
    return torch.from_numpy(np.unpackbits(packed.bits.numpy(), axis=2, count=packed.width)).bool()


def pack_bits(masks_nhw: Tensor) -> Tensor:
    """`pack_masks` in tensor arithmetic, for devices NumPy does not reach; ten times slower on a CPU.

    Returns:
        ``uint8[N, H, ceil(W / 8)]``.
    """
    padded = torch.nn.functional.pad(masks_nhw.to(torch.uint8), (0, -masks_nhw.shape[2] % 8))
    octets = padded.reshape(*padded.shape[:2], padded.shape[2] // 8, 8)
    bits = octets[..., 0] << 7
    for place in range(1, 8):
        bits = bits | (octets[..., place] << (7 - place))
    return bits


def unpack_bits(bits: Tensor, width: int) -> Tensor:
    """`unpack_masks` in tensor arithmetic: ``bool[N, H, width]``."""
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    octets = (bits[..., None] >> places) & 1
    return octets.flatten(2)[..., :width].bool()


def mask_boxes(masks_nhw: Tensor) -> Tensor:
    """``int64[N, 4]``, tight boxes ``x0, y0, x1, y1`` with x1 and y1 one past the last pixel; zeros when empty."""
    return torch.cat([_extent(masks_nhw.any(1)), _extent(masks_nhw.any(2))], dim=1)[:, [0, 2, 1, 3]]


def _extent(occupied_nl: Tensor) -> Tensor:
    """First and one past the last True of each row; 0, 0 for a row of False."""
    length = occupied_nl.shape[1]
    first = occupied_nl.int().argmax(1)
    end = length - occupied_nl.flip(1).int().argmax(1)
    return torch.stack([first, end], dim=1) * occupied_nl.any(1, keepdim=True)


def resize_masks(masks_nhw: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize masks or probabilities: bilinear, averaging over the pixels that shrink into one.

    Args:
        masks_nhw: ``bool[N, H, W]`` or ``float[N, H, W]``.
        size_hw: the height and width wanted.

    Returns:
        ``float32[N, h, w]``; values are untouched when the size already fits.
    """
    soft = masks_nhw.float()
    if soft.shape[1:] == size_hw or len(soft) == 0:
        return soft if len(soft) else soft.new_zeros((0, *size_hw))
    shrinks = size_hw[0] < soft.shape[1] or size_hw[1] < soft.shape[2]
    return torch.nn.functional.interpolate(
        soft[None], size_hw, mode="bilinear", align_corners=False, antialias=shrinks
    )[0]


def joint_histogram(first_hw: Tensor, first_count: int, second_hw: Tensor, second_count: int) -> Tensor:
    """How many pixels every label of one map shares with every label of another.

    All areas, intersections and unions of disjoint masks follow from it (metrics specification §0.1).

    Args:
        first_hw: ``int32[H, W]``, labels 0…N.
        first_count: N.
        second_hw: ``int32[H, W]``, labels 0…M.
        second_count: M.

    Returns:
        ``int64[1 + N, 1 + M]``; its sums along an axis are the areas.

    Raises:
        InputError: the maps differ in size.
    """
    if first_hw.shape != second_hw.shape:
        raise InputError(f"label maps differ in size: {list(first_hw.shape)} and {list(second_hw.shape)}")
    pairs = (first_hw.int() * (second_count + 1) + second_hw).flatten()
    histogram = torch.bincount(pairs, minlength=(first_count + 1) * (second_count + 1))
    return histogram.view(first_count + 1, second_count + 1)


def encode_rle(masks_nhw: Tensor) -> list[RLE]:
    """COCO run-length codes of masks that may overlap.

    Args:
        masks_nhw: ``bool[N, H, W]``.
    """
    fortran_hwn = np.asfortranarray(masks_nhw.cpu().numpy().astype(np.uint8).transpose(1, 2, 0))
    return [_rle(code) for code in coco_mask.encode(fortran_hwn)] if len(masks_nhw) else []


def encode_label_rle(label_map: LabelMap, segment_count: int) -> list[RLE]:
    """COCO run-length codes of all segments of a label map, found in one pass over the picture.

    Equal to `encode_rle` of the masks one by one; the work does not grow with the number of segments.
    """
    height, width = label_map.size_hw
    columns: NDArray[np.int32] = label_map.values.cpu().numpy().T.ravel()
    starts = np.concatenate([[0], np.flatnonzero(columns[1:] != columns[:-1]) + 1, [columns.size]])
    run_labels, run_starts, run_ends = columns[starts[:-1]], starts[:-1], starts[1:]
    order = np.argsort(run_labels, kind="stable")
    bounds = np.searchsorted(run_labels[order], np.arange(1, segment_count + 2))
    uncompressed = []
    for first, last in pairwise(bounds.tolist()):
        runs = order[first:last]
        # Ends of the background and foreground runs in turn; two runs of one segment never touch.
        edges = np.stack([run_starts[runs], run_ends[runs]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=columns.size)
        counts = counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts
        uncompressed.append({"size": [height, width], "counts": counts.tolist()})
    return [_rle(code) for code in coco_mask.frPyObjects(uncompressed, height, width)] if uncompressed else []


def decode_rle(codes: Sequence[RLE], size_hw: tuple[int, int]) -> Tensor:
    """Masks of run-length codes.

    Args:
        codes: N codes.
        size_hw: height and width they must have.

    Returns:
        ``bool[N, H, W]``.

    Raises:
        InputError: a code is of another size.
    """
    for position, code in enumerate(codes):
        if tuple(code["size"]) != size_hw:
            raise InputError(
                f"run-length code {position} is {code['size'][0]}×{code['size'][1]}, "
                f"but the frame is {size_hw[0]}×{size_hw[1]}"
            )
    if not codes:
        return torch.zeros((0, *size_hw), dtype=torch.bool)
    decoded: NDArray[np.uint8] = coco_mask.decode(list(codes))
    return torch.from_numpy(np.ascontiguousarray(decoded.transpose(2, 0, 1))).bool()


def rle_area(code: RLE) -> int:
    """Number of pixels of the mask."""
    return int(coco_mask.area(code))


def rle_box_xywh(code: RLE) -> tuple[int, int, int, int]:
    """Tight box of the mask: left, top, width, height; all zero when the mask is empty."""
    x, y, width, height = (int(value) for value in coco_mask.toBbox(code))
    return (x, y, width, height) if width and height else (0, 0, 0, 0)


def _rle(code: dict[str, object]) -> RLE:
    counts = code["counts"]
    assert isinstance(counts, bytes)
    size = code["size"]
    assert isinstance(size, list)
    return RLE(size=[int(side) for side in size], counts=counts.decode("ascii"))
