"""The memory pool: tokens of what is followed (UniVS, §3.2 and 4.2; specification §8).

    frame a target was pointed out on ─► its tokens, pinned ─┐
    the last M frames, each with the target's own mask ──────┴─► what the target's query looks at

The authors keep the tokens of all frames and read these. What is read is the same, and what is kept does not grow.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maskstream.types import StateDict

from .prompts import Tokens


class MemoryPool:
    """Tokens of N targets.

    Args:
        frames: M, the last ones that are remembered.
        tokens: R, of a target on a frame.
        channels: C.
        device: of all tensors.
    """

    def __init__(self, frames: int, *, tokens: int, channels: int, device: torch.device) -> None:
        self._frames = frames
        self._content_nmrc = torch.zeros((0, 0, tokens, channels), device=device)
        self._code_nmrc = torch.zeros_like(self._content_nmrc)
        self._pinned = Tokens(*(torch.zeros((0, tokens, channels), device=device) for _ in range(2)))
        self._pinned_at: list[int] = []
        self._stop = 0

    def __len__(self) -> int:
        """N."""
        return len(self._pinned_at)

    @property
    def _first(self) -> int:
        """Position of the earliest frame of the last M."""
        return self._stop - self._content_nmrc.shape[1]

    def advance(self, stop: int) -> None:
        """Go on to a clip that ends before ``stop``: its new frames have nothing yet."""
        self._pin()
        new = stop - self._stop
        for name in ("_content_nmrc", "_code_nmrc"):
            old_nmrc: Tensor = getattr(self, name)
            shape = (len(old_nmrc), new, *old_nmrc.shape[2:])
            setattr(self, name, torch.cat([old_nmrc, old_nmrc.new_zeros(shape)], 1)[:, -self._frames :])
        self._stop = stop

    def add(self, of_frames: Sequence[Tokens], pinned_at: Sequence[int]) -> None:
        """Begin targets.

        Args:
            of_frames: of them, on the last frames, as many as there are; before, they have nothing.
            pinned_at: position of the frame that each was pointed out on.
        """
        for name, part in (("_content_nmrc", "content_nrc"), ("_code_nmrc", "code_nrc")):
            old_nmrc: Tensor = getattr(self, name)
            new_nmrc = old_nmrc.new_zeros((len(pinned_at), *old_nmrc.shape[1:]))
            new_nmrc[:, new_nmrc.shape[1] - len(of_frames) :] = torch.stack([getattr(t, part) for t in of_frames], 1)
            setattr(self, name, torch.cat([old_nmrc, new_nmrc]))
        nothing = self._content_nmrc.new_zeros((len(pinned_at), *self._content_nmrc.shape[2:]))
        self._pinned = Tokens(*(torch.cat([x, nothing]) for x in (self._pinned.content_nrc, self._pinned.code_nrc)))
        self._pinned_at += pinned_at

    def write(self, position: int, tokens: Tokens, which_n: Tensor) -> None:
        """Put tokens of some targets on a frame and all later ones.

        Args:
            position: of the frame.
            tokens: of all N targets.
            which_n: ``bool[N]``; others keep what they have.
        """
        later = slice(position - self._first, None)
        self._content_nmrc[which_n, later] = tokens.content_nrc[which_n][:, None]
        self._code_nmrc[which_n, later] = tokens.code_nrc[which_n][:, None]

    def restart(self, tokens: Tokens, which_n: Tensor) -> None:
        """Put tokens of some targets on all of the last frames, as `write` does."""
        self.write(self._first, tokens, which_n)

    def pin(self, positions: dict[int, int]) -> None:
        """Say of targets anew on which frame, one of the last, they were pointed out."""
        for n, position in positions.items():
            self._pinned_at[n] = position

    def on_frame(self, position: int) -> Tokens:
        """What is remembered of one of the last frames."""
        m = position - self._first
        return Tokens(self._content_nmrc[:, m], self._code_nmrc[:, m])

    def remembered(self) -> list[Tokens]:
        """What targets look at: tokens of the frame they were pointed out on, and of the last M."""
        self._pin()
        return [self._pinned, *(self.on_frame(position) for position in range(self._first, self._stop))]

    def keep(self, which: Sequence[int]) -> None:
        """Forget all targets but these positions."""
        kept = list(which)
        self._content_nmrc, self._code_nmrc = self._content_nmrc[kept], self._code_nmrc[kept]
        self._pinned = Tokens(self._pinned.content_nrc[kept], self._pinned.code_nrc[kept])
        self._pinned_at = [self._pinned_at[n] for n in kept]

    def state_dict(self) -> StateDict:
        """Everything as plain data."""
        kept = (self._content_nmrc, self._code_nmrc, self._pinned.content_nrc, self._pinned.code_nrc)
        copies = [x.clone() for x in kept]  # tokens are written in place
        return {
            "tokens": copies[:2],
            "pinned": copies[2:],
            "pinned_at": list(self._pinned_at),
            "stop": self._stop,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        device = self._content_nmrc.device
        self._content_nmrc, self._code_nmrc = (x.to(device).clone() for x in state["tokens"])
        self._pinned = Tokens(*(x.to(device).clone() for x in state["pinned"]))
        self._pinned_at, self._stop = list(state["pinned_at"]), state["stop"]

    def _pin(self) -> None:
        """Take over tokens of the frames that targets were pointed out on, as long as these are among the last."""
        there = [n for n, position in enumerate(self._pinned_at) if position >= self._first]
        if there:
            frames = [self._pinned_at[n] - self._first for n in there]
            self._pinned.content_nrc[there] = self._content_nmrc[there, frames]
            self._pinned.code_nrc[there] = self._code_nmrc[there, frames]
