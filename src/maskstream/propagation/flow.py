"""Propagation without weights: optical flow carries masks, colour draws their outlines.

    frame ─► flow to the last frame, to the prompted frames and to a recent one ─► votes ─► outlines ─► probabilities
                              ▲                                                                              │
                              └───────────── the last frame, and every few frames the recent one ◄───────────┘

Prompted frames (`FlowPropagator.write`) are trusted more than the propagator's own results, which lead through what
the prompted ones no longer resemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from maskstream.types import Frame, InputError, StateDict

from .colour import likeness, sharpen
from .references import (
    FlowFeatures,
    Reference,
    Region,
    enclosing,
    find_again,
    follow,
    regions,
    step,
    vote,
    with_background,
)

MAX_PROMPTED = 2
"""So many prompted frames are kept, the newest."""

RECENT_EVERY = 8
"""The recent reference is renewed after so many frames."""

STRANGER = 0.3
"""A region whose histogram of colours intersects its object's by less is not the object."""


@dataclass(frozen=True, slots=True, eq=False)
class FlowState:
    """What is carried from frame to frame.

    Attributes:
        object_ids: N ids, in the order of the channels.
        last: the last frame with the masks found on it; None while nothing is followed.
        recent: a frame some time ago with the masks found on it.
        prompted: frames whose masks were given, oldest first.
        colours: ``float32[2, C]`` for each object, what it looked like when prompted; see `colour.remember`.
        reads: frames read since objects are followed.
    """

    object_ids: tuple[int, ...] = ()
    last: Reference | None = field(default=None, repr=False)
    recent: Reference | None = field(default=None, repr=False)
    prompted: tuple[Reference, ...] = field(default=(), repr=False)
    colours: tuple[Tensor, ...] = field(default=(), repr=False)
    reads: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Contact:
    """Earlier frames, seen from the present one; see `FlowState`."""

    last: Reference = field(repr=False)
    recent: Reference | None = field(repr=False)
    prompted: tuple[Reference, ...] = field(repr=False)


class FlowPropagator:
    """A `Propagator` that follows objects by dense optical flow; deterministic, on the CPU.

    Args:
        size: short side of the internal resolution in pixels. Smaller frames are enlarged to it: windows and cells are
            counted in pixels of that size, and on a small picture whole objects would be lost in one of them.
    """

    def __init__(self, *, size: int = 480) -> None:
        if size < 16:
            raise InputError(f"the size of a flow propagator must be at least 16 pixels, not {size}")
        self.size = size

    def start(self) -> FlowState:
        """A state that follows no object."""
        return FlowState()

    def object_ids(self, state: FlowState) -> tuple[int, ...]:
        """The objects a state follows, in the order of the channels that `read` returns."""
        return state.object_ids

    def encode(self, frame: Frame) -> FlowFeatures:
        """The frame at internal resolution: short side `size`, long side rounded down."""
        height, width = frame.size_hw
        short = min(height, width)
        return FlowFeatures.of(frame.image, (height * self.size // short, width * self.size // short))

    def size_hw(self, features: FlowFeatures) -> tuple[int, int]:
        """The internal resolution of a frame."""
        return features.size_hw

    def contact(self, state: FlowState, features: FlowFeatures) -> Contact | None:
        """What `read` begins with: flow from a new frame to those of the state; None while nothing is followed.

        Raises:
            InputError: the frame is of another size than the last.
        """
        if not state.object_ids or state.last is None:
            return None
        _check_size(features, state.last)
        last = step(state.last, features)
        recent = None if state.recent is None else follow(state.recent, last, features)
        return Contact(last, recent, tuple(follow(reference, last, features) for reference in state.prompted))

    def read(
        self,
        state: FlowState,
        features: FlowFeatures,
        *,
        advance: bool = True,
        advice: Tensor | None = None,
        contact: Contact | None = None,
    ) -> tuple[FlowState, Tensor]:
        """Find the objects on a new frame.

        Args:
            state: see `Propagator.read`.
            features: of the frame.
            advance: see there.
            advice: ``float32[1 + N, h, w]``, what another propagator finds; it is heard, but not believed.
            contact: of the state and the frame, if whoever asks has it already.

        Returns:
            The state and ``float32[1 + N, h, w]`` probabilities, background first, summing to one.

        Raises:
            InputError: the frame is of another size than the last.
        """
        contact = contact or self.contact(state, features)
        if contact is None:
            return state, torch.ones((1, *features.size_hw))
        last, recent, prompted = contact.last, contact.recent, contact.prompted
        own = [last] if recent is None else [last, recent]
        for n in _out_of_sight(last):
            own, prompted = _search(n, own, prompted, features)
        found = _look(own, prompted, features, state.colours, advice)
        probabilities = _without_strangers(found, features, state.colours)
        if advance:
            now = Reference.now(features, probabilities[1:])
            reads = state.reads + 1
            recent = now if reads % RECENT_EVERY == 0 else recent
            state = replace(state, last=now, recent=recent, prompted=prompted, reads=reads)
        return state, probabilities

    def write(
        self, state: FlowState, features: FlowFeatures, masks_nhw: Tensor, object_ids: Sequence[int]
    ) -> FlowState:
        """Memorise masks of the frame that was read last (or of the first one).

        They are taken as given by someone who knows: do not write back what `read` returned.

        Raises:
            InputError: the masks are not one for each id, at the resolution of the frame.
        """
        size_hw = features.size_hw
        if tuple(masks_nhw.shape) != (len(object_ids), *size_hw):
            raise InputError(
                f"{len(object_ids)} masks of {size_hw[0]}×{size_hw[1]} are needed, not {list(masks_nhw.shape)}"
            )
        if not len(object_ids):
            return state
        ids = (*state.object_ids, *(object_id for object_id in object_ids if object_id not in state.object_ids))
        positions = [ids.index(object_id) for object_id in object_ids]
        given_nhw = masks_nhw.float().cpu()
        objects_nhw = torch.zeros((len(ids), *size_hw))
        if state.last is not None:
            objects_nhw[: len(state.object_ids)] = state.last.masks_nhw.float() / 255
        objects_nhw *= 1 - given_nhw.amax(dim=0)
        objects_nhw[positions] = given_nhw
        given = Reference.now(features, torch.from_numpy(with_background(objects_nhw.numpy()))[1:])

        added = len(ids) - len(state.object_ids)
        recent = None if state.recent is None else state.recent.with_objects(added).without_vote(positions)
        prompted = (*(reference.with_objects(added) for reference in state.prompted), given)
        colours = dict(zip(state.object_ids, state.colours, strict=True))
        for position, object_id in zip(positions, object_ids, strict=True):
            if object_id not in colours or given.masks_nhw[position].any():
                colours[object_id] = given.colours(position)
        return FlowState(
            ids,
            given,
            recent if recent is not None and any(recent.known) else None,
            prompted[-MAX_PROMPTED:],
            tuple(colours[object_id] for object_id in ids),
            state.reads,
        )

    def align(
        self, source: FlowFeatures, masks_nhw: Tensor, target: FlowFeatures, *, advice: Tensor | None = None
    ) -> Tensor:
        """Carry masks from one frame to another, apart from any state; ``advice`` as for `read`."""
        if not len(masks_nhw):
            return torch.ones((1, *target.size_hw))
        given = torch.from_numpy(with_background(masks_nhw.float().cpu().numpy()))[1:]
        reference = Reference.now(source, given)
        colours = [reference.colours(n) for n in range(len(given))]
        return _look([], [step(reference, target)], target, colours, advice)

    def remove(self, state: FlowState, object_ids: Sequence[int]) -> FlowState:
        """Forget objects."""
        keep = [n for n, object_id in enumerate(state.object_ids) if object_id not in set(object_ids)]
        if not keep or state.last is None:
            return self.start()
        return FlowState(
            tuple(state.object_ids[n] for n in keep),
            state.last.only(keep),
            None if state.recent is None else state.recent.only(keep),
            tuple(reference.only(keep) for reference in state.prompted),
            tuple(state.colours[n] for n in keep),
            state.reads,
        )

    def state_dict(self, state: FlowState) -> StateDict:
        """The state as plain data."""
        return {
            "object_ids": list(state.object_ids),
            "last": None if state.last is None else state.last.to_plain(),
            "recent": None if state.recent is None else state.recent.to_plain(),
            "prompted": [reference.to_plain() for reference in state.prompted],
            "colours": list(state.colours),
            "reads": state.reads,
        }

    def load_state_dict(self, plain: StateDict) -> FlowState:
        """The state again; undoes `state_dict`."""
        last, recent = plain["last"], plain["recent"]
        return FlowState(
            tuple(plain["object_ids"]),
            None if last is None else Reference.from_plain(last),
            None if recent is None else Reference.from_plain(recent),
            tuple(Reference.from_plain(reference) for reference in plain["prompted"]),
            tuple(plain["colours"]),
            plain["reads"],
        )


def _look(
    own: Sequence[Reference],
    prompted: Sequence[Reference],
    features: FlowFeatures,
    colours: Sequence[Tensor],
    advice: Tensor | None,
) -> Tensor:
    """``float32[1 + N, h, w]`` on the present frame, by flow, colour and advice."""
    advice_nhw = None if advice is None else np.asarray(advice[1:].float().cpu().numpy())
    found = regions([*own, *prompted], advice_nhw)
    votes = vote(own, prompted, features, found, advice_nhw)
    probabilities = np.zeros_like(votes)
    probabilities[0] = 1
    union = enclosing(found)
    inside = [None if region is None else _relative(region, union) for region in found]
    everywhere = (slice(None), *union)
    lab = features.lab_hwc.numpy()
    probabilities[everywhere] = sharpen(votes[everywhere], lab[union], inside, [table.numpy() for table in colours])
    return torch.from_numpy(probabilities)


def _out_of_sight(last: Reference) -> list[int]:
    return [n for n, visible in enumerate((last.masks_nhw > 127).flatten(1).any(dim=1).tolist()) if not visible]


def _search(
    position: int, own: list[Reference], prompted: tuple[Reference, ...], features: FlowFeatures
) -> tuple[list[Reference], tuple[Reference, ...]]:
    """Look for an object that is out of sight. Once found, what did not see it has no vote on it."""
    for k in reversed(range(len(prompted))):
        found = find_again(prompted[k], position, features) if prompted[k].known[position] else None
        if found is not None:
            own = [reference.without_vote([position]) for reference in own]
            return own, (*prompted[:k], found, *prompted[k + 1 :])
    return own, prompted


def _without_strangers(probabilities_chw: Tensor, features: FlowFeatures, colours: Sequence[Tensor]) -> Tensor:
    """Take regions back that do not have the colours of their object: it is covered, or has left the picture."""
    labels = probabilities_chw.max(dim=0).indices.numpy()
    lab = features.lab_hwc.numpy()
    for n, table in enumerate(colours):
        mask = labels == n + 1
        if mask.any() and likeness(table.numpy(), lab, mask) < STRANGER:
            probabilities_chw[0] += probabilities_chw[n + 1]
            probabilities_chw[n + 1] = 0
    return probabilities_chw


def _relative(region: Region, origin: Region) -> Region:
    rows, columns = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, origin, strict=True))
    return rows, columns


def _check_size(features: FlowFeatures, last: Reference) -> None:
    if features.lab_hwc.shape != last.lab_hwc.shape:
        sizes = [f"{tensor.shape[0]}×{tensor.shape[1]}" for tensor in (features.lab_hwc, last.lab_hwc)]
        raise InputError(f"a frame is {sizes[0]} but the one before was {sizes[1]}: frames must be of one size")
