"""How a video goes through TarViS, with what was published (specification §9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from maskstream.types import Task

MIN_SCORE = {Task.VIS: 0.1, Task.VPS: 0.5}
"""Of a thing that is shown. The authors show instances whatever their score."""

SAME = 0.5
"""Overlap of masks of two clips above which they are of one thing."""

MOST = 10
"""Instances of a clip."""

Carry: TypeAlias = Literal["masks", "queries", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TarViSSettings:
    """How a video is cut into clips, and how clips are joined.

    Attributes:
        frames: L, of a clip; None: what the network is meant for. 1: frame by frame, without latency.
        overlap: frames that a clip shares with the one before; None: half of them, as published.
        last: the last clip begins where it would and is cut where the video ends ("cut", as published), or is as long
            as the others and begins earlier ("full"): codes of time depend on the length (specification, T20).
        min_score: from which a thing is shown; None: 0.5 for regions, as published, for instances 0.1, and 0 with
            ``compat``.
        most: instances of a clip that are followed.
        average: whether masks of a thing are averaged where two clips see it; the authors mean to, but their program
            keeps those of the earlier clip (T3).
        void: whether a pixel of a thing that is not sure is nobody's, rather than of the surest stuff (T15).
        carry: what carries objects that were pointed at to the next clip: the masks that were found of them, encoded
            anew on the frames that both clips have ("masks", as published), the queries that they had when somebody
            last pointed at them ("queries"), or both. None: masks with ``compat``, otherwise queries: errors of masks
            add up from clip to clip, and who is hidden for a clip is lost.
        compat: as the authors' program does where it is wrong and published numbers depend on it: two things that have
            both left are the same (T4), things that a clip finds are not shown on frames that the clip before had
            (T14), and an object that was pointed at with a point is there twice where clips overlap (T6).
    """

    frames: int | None = None
    overlap: int | None = None
    last: Literal["cut", "full"] = "cut"
    min_score: float | None = None
    most: int = MOST
    average: bool = False
    void: bool = False
    carry: Carry | None = None
    compat: bool = False

    @property
    def carries(self) -> Carry:
        """What carries objects."""
        return self.carry or ("masks" if self.compat else "queries")

    def least(self, task: Task) -> float:
        """Score from which a thing is shown."""
        if self.min_score is not None:
            return self.min_score
        return 0.0 if self.compat and task is Task.VIS else MIN_SCORE.get(task, 0.0)
