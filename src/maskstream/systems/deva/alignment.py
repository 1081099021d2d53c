"""Bringing what was found on one frame to another (DEVA §3.2.1; specification §5.3, §7, step 2)."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from maskstream.propagation import FlowPropagator
from maskstream.propagation.references import FlowFeatures
from maskstream.types import Frame, Propagator

Alignment: TypeAlias = Literal["auto", "network", "flow", "none"]


def align(
    how: Alignment,
    propagator: Propagator[Any, Any],
    source: tuple[Frame, Any],
    masks_nhw: Tensor,
    target: tuple[Frame, Any],
) -> Tensor:
    """Carry masks from one frame to another, apart from any state.

    Through the network each object costs as much as to propagate it, for every pair of frames. Optical flow is found
    once for all of them.

    Args:
        how: "network" as published, by the propagator itself; "flow" by optical flow, whatever the propagator; "auto"
            is "flow" on a CPU and "network" elsewhere; "none" leaves masks where they are, as in Table 5 of the paper.
        propagator: gives the resolution, and aligns.
        source: the frame that is left, and its features for the propagator.
        masks_nhw: ``float[N, h, w]`` in [0, 1] on it, at the propagator's resolution.
        target: the frame that is reached, and its features.

    Returns:
        ``float[1 + N, h, w]`` probabilities on the target frame, background first.
    """
    if how == "none":
        return torch.cat([1 - masks_nhw.float().sum(0, keepdim=True).clamp_max(1), masks_nhw.float()])
    if how == "network" or (how == "auto" and _device(propagator).type != "cpu"):
        return propagator.align(source[1], masks_nhw, target[1])
    size_hw = propagator.size_hw(target[1])
    seen = [FlowFeatures.of(frame.image, size_hw) for frame, _ in (source, target)]
    return FlowPropagator(size=min(size_hw)).align(seen[0], masks_nhw, seen[1]).to(masks_nhw.device)


def _device(propagator: Propagator[Any, Any]) -> torch.device:
    """Where a propagator computes; those that do not say compute on the CPU."""
    return torch.device(getattr(propagator, "device", "cpu"))
