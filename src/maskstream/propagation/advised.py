"""Optical flow that is advised by a network.

Flow and colour find outlines to the pixel, but do not know what belongs together; a small network sees the object as
a whole, but on a small picture. So the network has a vote beside the frames that flow looks at, where it is sure, and
goes on from what flow makes of it.

    frame ─┬─► network ─► probabilities ─► advice ─┐                         ┌─► the next frame of flow
           └─► flow to earlier frames ─────────────┴─► votes ─► outlines ────┴─► the next frame of the network
"""

from __future__ import annotations

from torch import Tensor

from maskstream.types import resize_masks

from .averaged import AveragedPropagator, States
from .flow import FlowPropagator
from .network_propagator import NetworkPropagator


class AdvisedPropagator(AveragedPropagator):
    """A `Propagator` that follows objects by optical flow and hears a network.

    Args:
        flow: answers; masks are of its size.
        network: advises.
    """

    def __init__(self, flow: FlowPropagator, network: NetworkPropagator) -> None:
        super().__init__([flow, network])
        self._flow, self._network = flow, network

    def read(self, state: States, features: States, *, advance: bool = True) -> tuple[States, Tensor]:
        """Find the objects on a new frame; see `Propagator.read`."""
        (flow, network), (seen, pixels) = state, features
        network, advice = self._network.read(network, pixels, advance=advance)
        advice = resize_masks(advice, self._flow.size_hw(seen))
        flow, found = self._flow.read(flow, seen, advance=advance, advice=advice)
        if advance:
            network = self._network.corrected(network, resize_masks(found[1:], self._network.size_hw(pixels)))
        return (flow, network), found

    def align(self, source: States, masks_nhw: Tensor, target: States) -> Tensor:
        """Carry masks from one frame to another; see `Propagator.align`."""
        (seen, pixels), (seen_there, pixels_there) = source, target
        masks_small = resize_masks(masks_nhw, self._network.size_hw(pixels))
        advice = resize_masks(self._network.align(pixels, masks_small, pixels_there), self._flow.size_hw(seen_there))
        return self._flow.align(seen, masks_nhw, seen_there, advice=advice)
