"""How much is remembered, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from maskstream.types import InputError

FLOAT32 = 4
"""Bytes of a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPolicy:
    """What memory keeps (XMem §3.3; DEVA, appendix A). The budget is for each bucket: objects that came together.

    Attributes:
        every: a frame in so many is memorised (r).
        top_k: each place reads from so many tokens.
        max_frames: with long-term memory, a bucket that has come to hold so many frames is consolidated (T_max);
            without, the most frames that are kept.
        min_frames: the frames that consolidation leaves, the first one included (T_min).
        prototypes: tokens of long-term memory that consolidated frames become (P).
        long_term_tokens: most tokens in long-term memory (LT_max); None: there is none, and the oldest frame but the
            first is forgotten.
    """

    every: int = 5
    top_k: int = 30
    max_frames: int = 10
    min_frames: int = 5
    prototypes: int = 128
    long_term_tokens: int | None = 10_000

    def __post_init__(self) -> None:
        for name in ("every", "top_k", "max_frames", "min_frames", "prototypes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of a memory policy is at least 1, not {getattr(self, name)}")
        if self.long_term_tokens is None:
            return
        if self.min_frames >= self.max_frames:
            raise InputError(
                f"consolidation leaves min_frames of max_frames, which must be more: not {self.min_frames} and "
                f"{self.max_frames}"
            )
        if self.long_term_tokens < self.prototypes:
            raise InputError(
                f"long_term_tokens must have room for {self.prototypes} prototypes, not for {self.long_term_tokens}"
            )

    @classmethod
    def fifo(cls, frames: int = 8, *, every: int = 5, top_k: int = 30) -> MemoryPolicy:
        """No long-term memory: the first frame and the newest, ``frames`` together."""
        return cls(every=every, top_k=top_k, max_frames=frames, long_term_tokens=None)

    @property
    def frames(self) -> int:
        """Most frames that a bucket holds between calls."""
        return self.max_frames if self.long_term_tokens is None else self.max_frames - 1

    def tokens(self, grid_hw: tuple[int, int]) -> int:
        """Most tokens that a bucket holds between calls.

        Args:
            grid_hw: places of a frame, down and across: the size of the padded image, divided by 16.
        """
        return (self.long_term_tokens or 0) + self.frames * grid_hw[0] * grid_hw[1]

    def bytes(
        self,
        *,
        objects: int,
        grid_hw: tuple[int, int],
        buckets: int = 1,
        key_dim: int = 64,
        value_dim: int = 512,
        itemsize: int = FLOAT32,
    ) -> int:
        """Most bytes of keys and values that are held between calls.

        Args:
            objects: that are followed.
            grid_hw: places of a frame, down and across.
            buckets: in how many goes the objects came.
            key_dim: channels of keys.
            value_dim: channels of values.
            itemsize: bytes of a number of keys and values; 2 in half precision.
        """
        area = grid_hw[0] * grid_hw[1]
        frames = buckets + self.frames - 1  # the newest ones are shared; the first ones are each bucket's own
        selection = key_dim * itemsize
        of_frame = area * (key_dim * itemsize + selection + FLOAT32)
        of_long_term = (self.long_term_tokens or 0) * (key_dim * itemsize + FLOAT32)
        counters = 2 * FLOAT32 * self.tokens(grid_hw)
        values = objects * self.tokens(grid_hw) * value_dim * itemsize
        return frames * of_frame + buckets * (of_long_term + counters) + values
