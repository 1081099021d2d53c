"""Several propagators as one: test-time augmentation by mirroring and by looking at several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskstream.types import Frame, InputError, Propagator, StateDict, resize_masks

States = tuple[Any, ...]


class AveragedPropagator:
    """A `Propagator` that answers the mean of what others find.

    Each of them carries the objects on by what it finds itself, as if it ran alone; published results with
    augmentation are sums over such runs (specification of DEVA, §3). For mirroring, average over a propagator with
    ``mirror=False`` and one with ``mirror=True``; for several sizes, over propagators with several values of ``size``.
    They may share a network.

    Args:
        propagators: at least one. Masks are of the size of the first one's.

    Raises:
        InputError: there is none.
    """

    def __init__(self, propagators: Sequence[Propagator[Any, Any]]) -> None:
        if not propagators:
            raise InputError("there is no propagator to average: give at least one")
        self.propagators = tuple(propagators)

    def start(self) -> States:
        """A state that follows no object."""
        return tuple(each.start() for each in self.propagators)

    def object_ids(self, state: States) -> tuple[int, ...]:
        """The objects a state follows, in the order of the channels that `read` returns."""
        return self.propagators[0].object_ids(state[0])

    def encode(self, frame: Frame) -> States:
        """What each of them needs to know of a frame."""
        return tuple(each.encode(frame) for each in self.propagators)

    def size_hw(self, features: States) -> tuple[int, int]:
        """Height and width of the masks of a frame."""
        return self.propagators[0].size_hw(features[0])

    def read(self, state: States, features: States, *, advance: bool = True) -> tuple[States, Tensor]:
        """Find the objects on a new frame; see `Propagator.read`."""
        together = zip(self.propagators, state, features, strict=True)
        states, found = zip(*(each.read(s, f, advance=advance) for each, s, f in together), strict=True)
        return states, self._mean(found, self.size_hw(features))

    def write(self, state: States, features: States, masks_nhw: Tensor, object_ids: Sequence[int]) -> States:
        """Memorise masks; see `Propagator.write`."""
        return tuple(
            each.write(s, f, resize_masks(masks_nhw, each.size_hw(f)), object_ids)
            for each, s, f in zip(self.propagators, state, features, strict=True)
        )

    def align(self, source: States, masks_nhw: Tensor, target: States) -> Tensor:
        """Carry masks from one frame to another; see `Propagator.align`."""
        found = [
            each.align(s, resize_masks(masks_nhw, each.size_hw(s)), t)
            for each, s, t in zip(self.propagators, source, target, strict=True)
        ]
        return self._mean(found, self.size_hw(target))

    def remove(self, state: States, object_ids: Sequence[int]) -> States:
        """Forget objects."""
        return tuple(each.remove(s, object_ids) for each, s in zip(self.propagators, state, strict=True))

    def state_dict(self, state: States) -> StateDict:
        """The state as plain data."""
        return {"states": [each.state_dict(s) for each, s in zip(self.propagators, state, strict=True)]}

    def load_state_dict(self, plain: StateDict) -> States:
        """The state again; undoes `state_dict`."""
        return tuple(each.load_state_dict(s) for each, s in zip(self.propagators, plain["states"], strict=True))

    @staticmethod
    def _mean(found: Sequence[Tensor], size_hw: tuple[int, int]) -> Tensor:
        return torch.stack([resize_masks(probabilities, size_hw) for probabilities in found]).mean(dim=0)
