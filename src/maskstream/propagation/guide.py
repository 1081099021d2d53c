"""What flow and colour say of where objects are, as a guide to a network.

A small network that has seen little cannot tell by itself what belongs together over time; classic vision can, but for
outlines and where things uncover each other. So the guide shows the network, for each object and pixel:

    0  the mask of the frame before, carried by flow          2  how much the picture carried along looks as it should
    1  the mask of the frame that was given, carried by flow  3  the same for that frame
    4  how much the colour is the object's, and not that of what was around it

Flow is that between the present frame and each of the two themselves; see `references`. Networks are guided if they
were trained to be (`NetworkConfig.guide_dim`); the published ones are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.types import StateDict

from .colour import COLOURS, evidence_of
from .references import FlowFeatures, Reference, follow, resemblance, step

CHANNELS = 5


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """How the present frame sees an earlier one.

    Attributes:
        sampling_hw2: ``float32[..., h, w, 2]``, where each pixel of the present lies on it: column, row.
        resemblance_hw: ``float32[..., h, w]`` in (0, 1], how much the present looks as it predicts.
    """

    sampling_hw2: Tensor
    resemblance_hw: Tensor

    def __getitem__(self, some: tuple[slice, int]) -> View:
        """A part of many."""
        return View(self.sampling_hw2[some], self.resemblance_hw[some])

    def to(self, device: torch.device | str) -> View:
        """The same on another device."""
        return View(self.sampling_hw2.to(device), self.resemblance_hw.to(device))

    @classmethod
    def of(cls, reference: Reference, features: FlowFeatures) -> View:
        """From a reference as seen from the present frame."""
        height, width = features.size_hw
        everywhere = (slice(0, height), slice(0, width))
        return cls(reference.sampling_hwc, torch.from_numpy(resemblance(reference, features, everywhere)))


@dataclass(frozen=True, slots=True, eq=False)
class GuideState:
    """What the guide carries from frame to frame.

    Attributes:
        last: the last frame.
        given: the last frame whose masks were given, with the masks of all objects on it.
        colours: ``float32[2, C]`` for each object, what it looked like there; see `colour.remember`.
    """

    last: FlowFeatures = field(repr=False)
    given: Reference = field(repr=False)
    colours: tuple[Tensor, ...] = field(repr=False)

    def only(self, keep: Sequence[int]) -> GuideState:
        """With these objects only."""
        return replace(self, given=self.given.only(keep), colours=tuple(self.colours[n] for n in keep))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        given = (self.given.lab_hwc, self.given.masks_nhw, self.given.sampling_hwc)
        return sum(tensor.nbytes for tensor in (self.last.lab_hwc, *given, *self.colours))

    def to_plain(self) -> StateDict:
        """As plain data."""
        return {"last": self.last.lab_hwc, "given": self.given.to_plain(), "colours": list(self.colours)}

    @classmethod
    def from_plain(cls, plain: StateDict) -> GuideState:
        """Undo `to_plain`."""
        return cls(FlowFeatures(plain["last"]), Reference.from_plain(plain["given"]), tuple(plain["colours"]))


def guide_bytes(size_hw: tuple[int, int], *, objects: int) -> int:
    """Bytes of the state of a guide."""
    pixels, colours = size_hw[0] * size_hw[1], 2 * 4 * COLOURS
    return pixels * (3 + 3 + 8 + objects) + objects * colours


def begin(features: FlowFeatures, masks_nhw: Tensor) -> GuideState:
    """Masks are given on a frame.

    Args:
        features: of the frame.
        masks_nhw: ``float32[N, h, w]`` of all objects.
    """
    given = Reference.now(features, masks_nhw.cpu())
    return GuideState(features, given, tuple(given.colours(n) for n in range(len(masks_nhw))))


def given_to(
    state: GuideState | None,
    features: FlowFeatures,
    masks_nhw: Tensor,
    known: Sequence[int],
    object_ids: Sequence[int],
    given: Sequence[int],
) -> GuideState:
    """Masks of some objects are given on the present frame.

    Args:
        state: of the objects that are known; None if none is.
        features: of the frame.
        masks_nhw: ``float32[N, h, w]`` of all objects on it.
        known: ids of the objects of the state.
        object_ids: ids of the N objects; known ones come first.
        given: ids of the objects whose masks were given. Of the others the state knows better what they look like.
    """
    begun = begin(features, masks_nhw)
    if state is None:
        return begun
    kept = {n: table for n, table in zip(known, state.colours, strict=True) if n not in given}
    colours = (kept.get(n, table) for n, table in zip(object_ids, begun.colours, strict=True))
    return replace(begun, colours=tuple(colours))


def look(state: GuideState, features: FlowFeatures, last_masks_nhw: Tensor) -> tuple[GuideState, Tensor]:
    """Look at the next frame.

    Args:
        state: from the frame before.
        features: of the next frame.
        last_masks_nhw: ``float32[N, h, w]``, soft masks of the frame before.

    Returns:
        The state, and ``float32[N, CHANNELS, h, w]`` on the device of the masks.
    """
    state, last, given, colour_nhw = views(state, features)
    device = last_masks_nhw.device
    seen = assembled(
        last_masks_nhw[None],
        stacked([last]).to(device),
        state.given.masks_nhw[None].to(device).float() / 255,
        stacked([given]).to(device),
        colour_nhw[None].to(device),
    )
    return state, seen[0]


def views(state: GuideState, features: FlowFeatures) -> tuple[GuideState, View, View, Tensor]:
    """What does not depend on the masks of the frame before.

    Returns:
        The state, the next frame's views of the frame before and of the given one, and what colours say,
        ``float32[N, h, w]`` in [-1, 1].
    """
    stepped = step(Reference.now(state.last, torch.empty(0, *features.size_hw)), features)
    given = follow(state.given, stepped, features)
    lab = features.lab_hwc.numpy()
    colour_nhw = torch.stack([torch.from_numpy(evidence_of(table.numpy(), lab)) for table in state.colours])
    return replace(state, last=features, given=given), View.of(stepped, features), View.of(given, features), colour_nhw


def stacked(many: Sequence[View]) -> View:
    """Several views, with an axis before the others."""
    return View(torch.stack([view.sampling_hw2 for view in many]), torch.stack([view.resemblance_hw for view in many]))


def assembled(last_bnhw: Tensor, last_view: View, given_bnhw: Tensor, given_view: View, colour_bnhw: Tensor) -> Tensor:
    """The guide of some frames.

    Args:
        last_bnhw: ``float32[b, n, h, w]``, masks of the frames before.
        last_view: of these, with an axis b.
        given_bnhw: ``float32[b, n, h, w]``, masks of the frames that were given.
        given_view: of these, with an axis b.
        colour_bnhw: ``float32[b, n, h, w]`` in [-1, 1].

    Returns:
        ``float32[b, n, CHANNELS, h, w]``.
    """
    shape = last_bnhw.shape
    alike = (view.resemblance_hw[:, None].expand(shape) for view in (last_view, given_view))
    last, given = carried(last_bnhw, last_view.sampling_hw2), carried(given_bnhw, given_view.sampling_hw2)
    return torch.stack([last, given, *alike, colour_bnhw], dim=2)


def carried(masks_bnhw: Tensor, sampling_bhw2: Tensor) -> Tensor:
    """Masks as they are found at columns and rows of their frame, ``[b, n, h, w]``; zero outside of it."""
    height, width = masks_bnhw.shape[-2:]
    last = masks_bnhw.new_tensor([max(width - 1, 1), max(height - 1, 1)])
    return F.grid_sample(masks_bnhw, 2 * sampling_bhw2 / last - 1, align_corners=True)
