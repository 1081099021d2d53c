"""The network on windows of a frame: each object is encoded and decoded only around where it is.

    last masks [N, H, W] ──┐
                           ├─► occupied [N, h, w] ─► a window for each object ─► windows of one size are a batch ─┐
    presence   [N, h, w] ──┘                                                                                      │
                                                logits, sensory memory ◄── put back where they were cut ◄── decode ◄─┘

*Presence* is an object's mask at stride 16, remembered with its values and read from memory together with them: where
the read-out says that the object is. What is outside of a window is as if the object were not there. An object that is
found nowhere, or is large, has the whole frame for a window; if all have, nothing is cut, and nothing differs from the
network on whole frames.

Windows are counted in places of the stride-16 grid, h × w.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from .network import ImageFeatures, PropagationNetwork
from .network_features import STRIDE

VISIBLE: Final = 0.05
"""A place is occupied if a pixel of it is the object's with this probability."""
PRESENT: Final = 0.2
"""A place is occupied if so much of what is remembered there is the object's."""
MARGIN: Final = 3
"""Places around what is occupied: 48 pixels."""
ROUNDING: Final = 4
"""Heights and widths of windows are multiples of it, so that many are of one size."""
LARGE: Final = 0.6
"""Windows of more than this share of the frame are the whole frame."""
ABSENT: Final = -30.0
"""Logit outside of windows; the probability is below the smallest that aggregation knows."""


@dataclass(frozen=True, slots=True)
class Windows:
    """A window for each of N objects.

    Attributes:
        grid_hw: places of the frame.
        boxes: top, left, height and width of each.
    """

    grid_hw: tuple[int, int]
    boxes: tuple[tuple[int, int, int, int], ...]

    @property
    def frames(self) -> float:
        """How many whole frames have as many places as all windows together."""
        height, width = self.grid_hw
        return sum(tall * wide for _, _, tall, wide in self.boxes) / (height * width)

    def by_size(self, places: int) -> Iterator[_Group]:
        """Objects whose windows are of one size, at most so many places at a time."""
        sizes: dict[tuple[int, int], list[int]] = {}
        for n, (_, _, height, width) in enumerate(self.boxes):
            sizes.setdefault((height, width), []).append(n)
        for size_hw, members in sizes.items():
            at_once = max(places // (size_hw[0] * size_hw[1]), 1)
            for first in range(0, len(members), at_once):
                some = members[first : first + at_once]
                corners = torch.tensor([self.boxes[n][:2] for n in some])
                yield _Group(torch.tensor(some), corners, size_hw, size_hw == self.grid_hw)


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """M objects whose windows are of one size.

    Attributes:
        object_m: ``int64[M]``, which objects.
        corner_m2: ``int64[M, 2]``, top and left.
        size_hw: of the windows.
        whole: whether they are the whole frame.
    """

    object_m: Tensor
    corner_m2: Tensor
    size_hw: tuple[int, int]
    whole: bool

    def _places(self, factor: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rows ``[M, h, 1]`` and columns ``[M, 1, w]`` of a map that has ``factor`` pixels for each place."""
        (height, width), (top_m, left_m) = self.size_hw, factor * self.corner_m2.T
        rows, columns = torch.arange(factor * height), torch.arange(factor * width)
        return (top_m[:, None, None] + rows[:, None]).to(device), (left_m[:, None, None] + columns).to(device)

    def shared(self, x_1chw: Tensor, factor: int) -> Tensor:
        """What is in the windows of a map that all objects share, ``[b, C, h, w]``, channels last.

        b is M, or 1 where every window is the whole frame.
        """
        if self.whole:
            return x_1chw
        rows, columns = self._places(factor, x_1chw.device)
        return x_1chw[0].permute(1, 2, 0)[rows, columns].permute(0, 3, 1, 2)

    def own(self, x_nchw: Tensor, factor: int = 1) -> Tensor:
        """What is in each object's window of its own map, ``[b, m, C, h, w]`` with b as in `shared`, and b m = M."""
        objects = self.object_m.to(x_nchw.device)
        if self.whole:
            return x_nchw[objects][None]
        rows, columns = self._places(factor, x_nchw.device)
        return x_nchw.permute(0, 2, 3, 1)[objects[:, None, None], rows, columns].permute(0, 3, 1, 2)[:, None]

    def put_(self, x_nchw: Tensor, windows_bmchw: Tensor, factor: int = 1) -> None:
        """Write what is in the windows where it belongs, in place; undoes `own`."""
        windows_mchw = windows_bmchw.flatten(0, 1).to(x_nchw.dtype)
        objects = self.object_m.to(x_nchw.device)
        if self.whole:
            x_nchw[objects] = windows_mchw
            return
        rows, columns = self._places(factor, x_nchw.device)
        x_nchw.permute(0, 2, 3, 1)[objects[:, None, None], rows, columns] = windows_mchw.permute(0, 2, 3, 1)


def presence(masks_nhw: Tensor) -> Tensor:
    """How much of each place is an object's: ``[N, H, W]`` to ``[N, h, w]``."""
    return F.avg_pool2d(masks_nhw[:, None], STRIDE)[:, 0]


def windows_around(masks_nhw: Tensor, presence_nhw: Tensor | None = None) -> Windows:
    """Where to look for objects.

    Args:
        masks_nhw: ``float[N, H, W]``, where each object was.
        presence_nhw: ``float[N, h, w]``, where it is remembered to be, if that is known.
    """
    occupied_nhw = F.max_pool2d(masks_nhw[:, None].float(), STRIDE)[:, 0] > VISIBLE
    if presence_nhw is not None:
        occupied_nhw |= presence_nhw > PRESENT
    _, height, width = occupied_nhw.shape
    rows, columns = occupied_nhw.any(2), occupied_nhw.any(1)
    ends = torch.stack([*_extent(rows), *_extent(columns)], dim=1).tolist()
    boxes = []
    for (top, bottom, left, right), found in zip(ends, rows.any(1).tolist(), strict=True):
        (y, tall), (x, wide) = _widened(top, bottom, height), _widened(left, right, width)
        small = found and tall * wide <= LARGE * height * width
        boxes.append((y, x, tall, wide) if small else (0, 0, height, width))
    return Windows((height, width), tuple(boxes))


def _extent(occupied_nl: Tensor) -> tuple[Tensor, Tensor]:
    """First, and one past the last, True of each row."""
    return occupied_nl.int().argmax(1), occupied_nl.shape[1] - occupied_nl.flip(1).int().argmax(1)


def _widened(first: int, end: int, length: int) -> tuple[int, int]:
    """Start and length of an interval with a margin, of a rounded length, within ``length``."""
    size = min(-(-(end - first + 2 * MARGIN) // ROUNDING) * ROUNDING, length)
    return min(max((first + end - size) // 2, 0), length - size), size


def encode_masks(
    network: PropagationNetwork,
    image_b3hw: Tensor,
    features: ImageFeatures,
    masks_nhw: Tensor,
    sensory_nchw: Tensor,
    windows: Windows,
    *,
    places: int,
) -> tuple[Tensor, Tensor]:
    """Values and the deep update, in windows; elsewhere the value is that of an empty mask, and nothing is updated.

    The empty mask is encoded once for all, on the whole frame.

    Args:
        network: one that looks at each object alone.
        image_b3hw: ``[1, 3, H, W]``.
        features: of the image.
        masks_nhw: ``[N, H, W]``.
        sensory_nchw: ``[N, Ch, h, w]``.
        windows: of the objects.
        places: as many as may be worked on at a time.

    Returns:
        Values ``[N, Cv, h, w]`` and sensory memory ``[N, Ch, h, w]``.
    """
    empty, _ = network.encode_masks(
        image_b3hw, features, torch.zeros_like(masks_nhw[None, :1]), sensory_nchw[None, :1], deep_update=False
    )
    values_nchw = empty[0].repeat(len(masks_nhw), 1, 1, 1)
    sensory_out = sensory_nchw.clone()
    for group in windows.by_size(places):
        values_bmchw, sensory_bmchw = network.encode_masks(
            group.shared(image_b3hw, STRIDE),
            replace(features, f16_bchw=group.shared(features.f16_bchw, 1)),
            group.own(masks_nhw[:, None], STRIDE).squeeze(2),
            group.own(sensory_nchw),
            deep_update=True,
        )
        group.put_(values_nchw, values_bmchw)
        group.put_(sensory_out, sensory_bmchw)
    return values_nchw, sensory_out


def decode(
    network: PropagationNetwork,
    features: ImageFeatures,
    readout_nchw: Tensor,
    sensory_nchw: Tensor,
    last_masks_nhw: Tensor,
    windows: Windows,
    *,
    update_sensory: bool,
    places: int,
    guide_nchw: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Segment objects in windows; elsewhere they are not, and their sensory memory stays as it was.

    Args:
        network: the network.
        features: of the frame.
        readout_nchw: ``[N, Cv, h, w]``.
        sensory_nchw: ``[N, Ch, h, w]``.
        last_masks_nhw: ``[N, H, W]``.
        windows: of the objects.
        update_sensory: whether sensory memory moves on.
        places: as many as may be worked on at a time.
        guide_nchw: ``[N, CHANNELS, H, W]``, for networks with a guide.

    Returns:
        Logits ``float32[N, H/4, W/4]`` and sensory memory ``[N, Ch, h, w]``.
    """
    height, width = windows.grid_hw
    logits_nhw = readout_nchw.new_full((len(readout_nchw), 4 * height, 4 * width), ABSENT, dtype=torch.float32)
    sensory_out = sensory_nchw.clone() if update_sensory else sensory_nchw
    for group in windows.by_size(places):
        f16, f8, f4 = (
            group.shared(f, factor)
            for f, factor in ((features.f16_bchw, 1), (features.f8_bchw, 2), (features.f4_bchw, 4))
        )
        logits_bmhw, sensory_bmchw = network.decode(
            replace(features, f16_bchw=f16, f8_bchw=f8, f4_bchw=f4),
            group.own(readout_nchw),
            group.own(sensory_nchw),
            group.own(last_masks_nhw[:, None], STRIDE).squeeze(2),
            update_sensory=update_sensory,
            guide_bnchw=None if guide_nchw is None else group.own(guide_nchw, STRIDE),
        )
        group.put_(logits_nhw[:, None], logits_bmhw.unsqueeze(2), 4)
        if update_sensory:
            group.put_(sensory_out, sensory_bmchw)
    return logits_nhw, sensory_out
