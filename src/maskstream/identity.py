"""Who is who: the objects of one video (DEVA specification §6, and the other systems).

Ids are given out once. An object that is gone keeps its record, and its id is never used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from maskstream.types import Event, InputError, Segment, StateDict, Track


@dataclass(slots=True)
class ObjectRecord:
    """What is known of one object.

    Attributes:
        track_id: its number, for ever.
        is_thing: thing, stuff or unknown; fixed when it is created.
        prompt_id: the prompt that asked for it, or None.
        category_votes: how often each category was seen on it.
        score_sum: sum of all scores seen on it.
        score_count: how many there were.
        missed: detections in a row that did not confirm it.
        first: first frame it was visible on, or None.
        last: last frame it was visible on, or None.
        written_id: the ``Segment.id`` it was written under last, or None.
    """

    track_id: int
    is_thing: bool | None = None
    prompt_id: str | None = None
    category_votes: dict[int, int] = field(default_factory=dict)
    score_sum: float = 0.0
    score_count: int = 0
    missed: int = 0
    first: int | None = None
    last: int | None = None
    written_id: int | None = None

    def vote(self, category: int | None, score: float | None) -> None:
        """Count one observation; None says nothing."""
        if category is not None:
            self.category_votes[category] = self.category_votes.get(category, 0) + 1
        if score is not None:
            self.score_sum += score
            self.score_count += 1

    def vote_all(self, votes: Sequence[tuple[int | None, float | None]]) -> None:
        """Count several observations, each a category and a score."""
        for category, score in votes:
            self.vote(category, score)

    @property
    def category(self) -> int | None:
        """The category seen most often; the smallest of those that tie; None without a vote."""
        return min(self.category_votes, key=lambda c: (-self.category_votes[c], c), default=None)

    @property
    def score(self) -> float | None:
        """Mean of all scores; None without one."""
        return self.score_sum / self.score_count if self.score_count else None

    def seen(self, frame_index: int) -> None:
        """Note that the object is visible on a frame."""
        self.first = frame_index if self.first is None else self.first
        self.last = frame_index


class ObjectTable:
    """The objects of one video, in the order they came, and the ids that may not be used again."""

    def __init__(self) -> None:
        self._live: dict[int, ObjectRecord] = {}
        self._gone: dict[int, ObjectRecord] = {}
        self._reserved: set[int] = set()
        self._written: dict[tuple[int | None, int | None], int] = {}  # by object (None: stuff) and category

    def __contains__(self, track_id: int) -> bool:
        return track_id in self._live

    def __getitem__(self, track_id: int) -> ObjectRecord:
        return self._live[track_id]

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the objects that are followed, oldest first."""
        return tuple(self._live)

    def was_removed(self, track_id: int) -> bool:
        """Whether this id belonged to an object that is gone."""
        return track_id in self._gone

    def reserve(self, track_id: int) -> None:
        """Keep an id for an object that somebody has announced; it is not given out by itself."""
        self._reserved.add(track_id)

    def is_reserved(self, track_id: int) -> bool:
        """Whether somebody has announced this object, before it was found or after."""
        return track_id in self._reserved

    def add(
        self, track_id: int | None = None, *, is_thing: bool | None = None, prompt_id: str | None = None
    ) -> ObjectRecord:
        """Begin an object, under the next free id when none is given.

        Raises:
            InputError: the id was used before.
        """
        if track_id is None:
            track_id = self._free_id()
        elif track_id in self._live or track_id in self._gone:
            raise InputError(f"object {track_id} was used before: ids are never reused, give a new one")
        self._live[track_id] = ObjectRecord(track_id, is_thing, prompt_id)
        return self._live[track_id]

    def remove(self, track_ids: Sequence[int]) -> None:
        """Stop following objects.

        Raises:
            InputError: an object is not being followed; none is removed then.
        """
        for track_id in track_ids:
            if track_id not in self._live:
                known = ", ".join(map(str, self._live)) or "none"
                raise InputError(f"object {track_id} cannot be removed: it is not followed (followed: {known})")
        for track_id in dict.fromkeys(track_ids):
            self._gone[track_id] = self._live.pop(track_id)

    def segments(self, track_ids: Sequence[int]) -> tuple[tuple[Segment, ...], list[int], list[Event]]:
        """How objects are written on a frame, by their categories of now.

        A track has one category where results are evaluated: an object whose category changes gets a new written id,
        and gets the old one back when it changes back. Stuff has one id a category and video, so that several regions
        of it are one segment (specification §12).

        Returns:
            The segments; for background and each object the label of its segment (0, then from 1); what changed.
        """
        segments: dict[int, Segment] = {}
        labels, renamed = [0], []
        for track_id in track_ids:
            record = self._live[track_id]
            before, record.written_id = record.written_id, self._id_for(record)
            if before not in (None, record.written_id):
                reason = f"its category is {record.category} now, so it is written as {record.written_id}"
                renamed.append(Event("renamed", track_id, reason))
            if record.written_id not in segments:
                segments[record.written_id] = Segment(
                    record.written_id, track_id, record.category, record.score, record.is_thing, record.prompt_id
                )
            labels.append(list(segments).index(record.written_id) + 1)
        return tuple(segments.values()), labels, renamed

    def tracks(self) -> list[Track]:
        """Every object that was ever visible, by id."""
        records = sorted([*self._live.values(), *self._gone.values()], key=lambda record: record.track_id)
        return [
            Track(record.track_id, _shares(record.category_votes), record.prompt_id, record.first, record.last)
            for record in records
            if record.first is not None and record.last is not None
        ]

    def state_dict(self) -> StateDict:
        """All records as plain data."""
        records = {name: [asdict(r) for r in store.values()] for name, store in self._stores().items()}
        written = [[*key, written_id] for key, written_id in self._written.items()]
        return {**records, "reserved": sorted(self._reserved), "written": written}

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        for name, store in self._stores().items():
            store.clear()
            for plain in state[name]:
                store[plain["track_id"]] = ObjectRecord(**plain | {"category_votes": dict(plain["category_votes"])})
        self._reserved = set(state["reserved"])
        self._written = {(track_id, category): written for track_id, category, written in state["written"]}

    def _id_for(self, record: ObjectRecord) -> int:
        """The written id of an object of this category; made when there is none."""
        is_stuff = record.is_thing is False and record.category is not None
        key = (None if is_stuff else record.track_id, record.category)
        if key not in self._written:
            unnamed = self._written.pop((record.track_id, None), None)
            own = self._free_id() if record.track_id in self._written.values() else record.track_id
            self._written[key] = unnamed or own
        return self._written[key]

    def _free_id(self) -> int:
        return max((*self._live, *self._gone, *self._reserved, *self._written.values()), default=0) + 1

    def _stores(self) -> dict[str, dict[int, ObjectRecord]]:
        return {"live": self._live, "gone": self._gone}


def _shares(votes: dict[int, int]) -> dict[int, float]:
    return {category: count / sum(votes.values()) for category, count in votes.items()}
