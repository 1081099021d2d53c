"""How a video is cut into tubes (Tube-Link, §3.1; specification §6)."""

from __future__ import annotations

import math

from maskstream.types import InputError


def check_window(window: int, overlap: int) -> None:
    """See that windows go on.

    Raises:
        InputError: there is no frame in a window, or none that is new.
    """
    if window < 1:
        raise InputError(f"a window has at least one frame, not {window}")
    if not 0 <= overlap < window:
        raise InputError(f"windows of {window} frames overlap by 0 to {window - 1}, not {overlap}")


def tube_ends(frames: int, window: int, overlap: int = 0) -> list[int]:
    """Where tubes end, so that no frame is there twice: the last tubes share what is missing (specification §6, VIS).

    Args:
        frames: N, of a video or a part of it.
        window: W, frames of a tube at most.
        overlap: frames that a tube sees again.

    Returns:
        Ends, each one past the last frame; a tube begins ``overlap`` before the end of the one before.

    Raises:
        InputError: see `check_window`.
    """
    check_window(window, overlap)
    step = window - overlap
    tubes = max(math.ceil((frames - overlap) / step), 1)
    missing = tubes * step + overlap - frames
    ends = [n * step + overlap for n in range(1, tubes + 1)]
    if missing >= tubes:  # too few frames for every tube to give one away: the last is short
        return [min(end, frames) for end in ends]
    shorter = [max(0, missing - (tubes - n)) for n in range(1, tubes + 1)]
    return [end - less for end, less in zip(ends, shorter, strict=True)]
