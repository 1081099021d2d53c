"""Warnings, also those that arise in a thread of ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextvars import ContextVar

from maskstream.types import MaskstreamWarning

deliver: ContextVar[Callable[[str], None] | None] = ContextVar("deliver", default=None)
"""Where a background thread hands its warnings over; None everywhere else."""


def warn(message: str) -> None:
    """Issue a `MaskstreamWarning`, in the thread that consumes the frames."""
    hand_over = deliver.get()
    if hand_over is None:
        warnings.warn(message, MaskstreamWarning, stacklevel=3)
    else:
        hand_over(message)
