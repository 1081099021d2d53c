"""Why a system did what it did with its objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

EventKind: TypeAlias = Literal[
    "born", "matched", "joined", "missed", "deleted", "corrected", "removed", "renamed", "refused"
]
"""What can happen to an object.

born: it is new, from a detection or a prompt. matched: a detection confirmed it. joined: a detection turned out to be
a part of it. missed: no detection confirmed it. deleted: missed too often. corrected: a person gave its mask anew.
removed: a person took it away. renamed: its category changed, so it is written under another id. refused: a detection
that would have been new, but there was no room.
"""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an object on a frame.

    Attributes:
        kind: what.
        track_id: to which object; None when there is none (``refused``).
        reason: why, for people.
    """

    kind: EventKind
    track_id: int | None
    reason: str
