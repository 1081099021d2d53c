"""How a video goes through UniVS, with what was published for each task (specification §9 and 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias

from maskstream.types import Task

from .network import Separation

Tracking: TypeAlias = Literal["prompt", "similarity"]
"""How objects that were found are followed (Table 3b): each becomes a prompt for the next frames, as UniVS does; or
what is found anew is compared with them.
"""

FEW_SCORES = 0.005
"""Score from which a class of a track is told; below, it is nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Numbers that differ between tasks.

    Attributes:
        tokens: R, of a target on a frame.
        min_score: from which something that is found is an object.
        double: IoU of boxes from which of two that are found the less sure one goes.
        match: affinity above which what is found is an object that is known.
        similarity: with itself before, above which an object is still there.
        candidates: most that are found on a clip.
        share: of its own mask that an object must win against the others.
    """

    tokens: int
    min_score: float = 0.0
    double: float = 0.85
    match: float = 0.1
    similarity: float = 0.5
    candidates: int = 50
    share: float = 0.25


PUBLISHED: Mapping[Task, Rules] = {
    Task.VIS: Rules(tokens=128, min_score=0.25, similarity=0.25, candidates=35, share=0.5),
    Task.VPS: Rules(tokens=64, min_score=0.15, double=0.75, match=0.05, similarity=0.05, candidates=100, share=0.6),
    Task.VSS: Rules(tokens=128),
    Task.VOS: Rules(tokens=256),
    Task.PVOS: Rules(tokens=256),
    Task.REFVOS: Rules(tokens=32),
}
"""By task; the numbers of YouTube-VIS where those of benchmarks differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UniVSSettings:
    """How a video is cut into clips, and what is followed through them. None is what was published for the task.

    Attributes:
        frames: T, of a clip; None: what the network is meant for. 1: frame by frame, without latency.
        overlap: frames that a clip shares with the one before; None: all but one, and none for classes of pixels.
        memory: M, frames whose tokens are remembered; at least T.
        tokens: see `Rules`, as the next six.
        min_score: see there.
        double: see there.
        match: see there.
        similarity: see there.
        candidates: see there.
        share: see there.
        sharp: quality of its mask that an instance must exceed to be found (`tracking.quality`).
        tracking: how objects that were found are followed.
        detect_every: new objects are looked for every so many frames.
        most: objects that are followed at once; of more, those that were not seen longest are forgotten. The authors
            forget nobody.
        separation: who sees whom; None: as the network was trained.
        average: whether masks of expressions are averaged with those of learnable queries that resemble them.
        contest: who has a pixel that masks of several targets claim (vos, pvos): the one that is surest of it; or, as
            published and with ``compat``, weighted by how much each target resembles itself and how sharp its mask is.
            Then a target that is less sure loses all of itself to one whose mask goes too far.
        sampling: which places of a mask are tokens: evenly spaced ones, or drawn by chance, as published.
        rival: whether what is found may also be like none of the objects; otherwise, as published, what is new takes
            the place of an object that is gone.
        compat: as the authors' program does where it is wrong: what resembles a known instance but not clearly may be a
            new one as well (specification, T9).
    """

    frames: int | None = None
    overlap: int | None = None
    memory: int = 5
    tokens: int | None = None
    min_score: float | None = None
    double: float | None = None
    match: float | None = None
    similarity: float | None = None
    candidates: int | None = None
    share: float | None = None
    sharp: float = 0.25
    tracking: Tracking = "prompt"
    detect_every: int = 1
    most: int = 200
    separation: Separation | None = None
    average: bool = True
    contest: Literal["probability", "weighted"] = "probability"
    sampling: Literal["even", "random"] = "even"
    rival: bool = True
    compat: bool = False

    def rules(self, task: Task) -> Rules:
        """The numbers for a task."""
        given = {field.name: getattr(self, field.name) for field in fields(Rules)}
        return replace(PUBLISHED[task], **{name: value for name, value in given.items() if value is not None})
