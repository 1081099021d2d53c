"""Optical flow that is advised by a network.

Flow and colour find outlines to the pixel, but do not know what belongs together; a small network sees the object as
a whole, but on a small picture. So the network has a vote beside the frames that flow looks at, where it is sure, and
goes on from what flow makes of it.

    frame ─┬─► network ─► probabilities ─► advice ─┐                         ┌─► the next frame of flow
           └─► flow to earlier frames ─────────────┴─► votes ─► outlines ────┴─► the next frame of the network
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor

from maskstream.types import Frame, StateDict, resize_masks

from .flow import FlowPropagator, FlowState
from .network_features import NetworkFeatures
from .network_propagator import NetworkPropagator, NetworkState
from .references import FlowFeatures

AdvisedState: TypeAlias = tuple[FlowState, NetworkState]


@dataclass(frozen=True, slots=True, eq=False)
class AdvisedFeatures:
    """What both need to know of a frame.

    Attributes:
        flow: what flow does.
        network: what the network does, as soon as that is made.
    """

    flow: FlowFeatures
    network: Future[NetworkFeatures] = field(repr=False)


class AdvisedPropagator:
    """A `Propagator` that follows objects by optical flow and hears a network.

    Until it is heard, the network works beside flow, on a thread of its own.

    Args:
        flow: answers; masks are of its size.
        network: advises.
    """

    def __init__(self, flow: FlowPropagator, network: NetworkPropagator) -> None:
        self.flow, self.network = flow, network
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="advice")

    def start(self) -> AdvisedState:
        """A state that follows no object."""
        return self.flow.start(), self.network.start()

    def object_ids(self, state: AdvisedState) -> tuple[int, ...]:
        """The objects a state follows, in the order of the channels that `read` returns."""
        return self.flow.object_ids(state[0])

    def encode(self, frame: Frame) -> AdvisedFeatures:
        """What both need to know of a frame."""
        encoded = self._beside.submit(self.network.encode, frame)
        return AdvisedFeatures(self.flow.encode(frame), encoded)

    def size_hw(self, features: AdvisedFeatures) -> tuple[int, int]:
        """Height and width of the masks of a frame."""
        return self.flow.size_hw(features.flow)

    def read(
        self, state: AdvisedState, features: AdvisedFeatures, *, advance: bool = True
    ) -> tuple[AdvisedState, Tensor]:
        """Find the objects on a new frame; see `Propagator.read`."""
        flow, network = state
        pixels = features.network.result
        advising = self._beside.submit(lambda: self.network.read(network, pixels(), advance=advance))
        contact = self.flow.contact(flow, features.flow)
        network_after, advice = advising.result()
        advice = resize_masks(advice, self.size_hw(features))
        flow, found = self.flow.read(flow, features.flow, advance=advance, advice=advice, contact=contact)
        if advance:
            masks_small = resize_masks(found[1:], self.network.size_hw(pixels()))
            network_after = self.network.corrected(network_after, masks_small)
        return (flow, network_after), found

    def write(
        self, state: AdvisedState, features: AdvisedFeatures, masks_nhw: Tensor, object_ids: Sequence[int]
    ) -> AdvisedState:
        """Memorise masks; see `Propagator.write`."""
        pixels = features.network.result()
        masks_small = resize_masks(masks_nhw, self.network.size_hw(pixels))
        return (
            self.flow.write(state[0], features.flow, masks_nhw, object_ids),
            self.network.write(state[1], pixels, masks_small, object_ids),
        )

    def align(self, source: AdvisedFeatures, masks_nhw: Tensor, target: AdvisedFeatures) -> Tensor:
        """Carry masks from one frame to another; see `Propagator.align`."""
        pixels, pixels_there = source.network.result(), target.network.result()
        masks_small = resize_masks(masks_nhw, self.network.size_hw(pixels))
        advice = resize_masks(self.network.align(pixels, masks_small, pixels_there), self.size_hw(target))
        return self.flow.align(source.flow, masks_nhw, target.flow, advice=advice)

    def remove(self, state: AdvisedState, object_ids: Sequence[int]) -> AdvisedState:
        """Forget objects."""
        return self.flow.remove(state[0], object_ids), self.network.remove(state[1], object_ids)

    def state_dict(self, state: AdvisedState) -> StateDict:
        """The state as plain data."""
        return {"flow": self.flow.state_dict(state[0]), "network": self.network.state_dict(state[1])}

    def load_state_dict(self, plain: StateDict) -> AdvisedState:
        """The state again; undoes `state_dict`."""
        return self.flow.load_state_dict(plain["flow"]), self.network.load_state_dict(plain["network"])
