"""Referring expressions that are true of exactly one thing of a video, by construction.

    truth of T frames ─► observe ─► Appearance of every thing ─► refer ─► "the large striped kite moving left"

Every claim has three verdicts: it fits, it does not, or a person might argue. An expression refers to a thing only when
it fits that one and clearly fits none of all the others that ever appear. So margins need no care of their own: what
lies between two thresholds is never said, and never relied upon.

Grammar (nothing else is ever written)::

    expression = "the" [rank] [size] [colour] [pattern] noun [from] {clause}
    rank       = "largest" | "smallest" | "leftmost" | "rightmost" | "second" | "third"
    size       = "large" | "small"                                            within its category
    noun       = a category | "animal" | "vehicle" | "thing"
    from       = ["from the left" | "from the right"] ("at the start" | "at the end")     with a rank of places only
    clause     = "moving left" | … | "standing still" | "that leaves" | "that comes in" | "that turns around"
               | ("on the left" | … | "in the middle") ("at the start" | "at the end")
               | ("behind" | "in front of") expression                         noun and adjectives only

A rank is among all that the rest describes: "the largest red fish" is the largest of the red ones.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from maskstream.types import FrameAnnotation

from .scene import WORLD, Entity, Pattern, Scene

Verdict: TypeAlias = bool | None
"""Whether a claim fits; None when people might disagree."""

When: TypeAlias = Literal["start", "end"]
Act: TypeAlias = Literal["left", "right", "up", "down", "still", "leaves", "comes in", "turns"]
Side: TypeAlias = Literal["left", "right", "top", "bottom", "middle"]

ANIMALS = frozenset({"fish", "turtle", "octopus", "snake", "spider", "crab", "bird", "butterfly"})
VEHICLES = frozenset({"car", "boat"})
_ARGUABLE = {"animal": frozenset({"walker"}), "vehicle": frozenset({"balloon", "kite"})}

# Each claim has two thresholds. Ways are fractions of the width or height of the picture.
_FAR, _NEAR = 0.15, 0.06  # moved, did not
_BACK = 0.05  # one that moves left never goes back further
_ASIDE = 0.5  # nor further up or down than this part of its way
_STILL, _RESTLESS = 0.03, 0.10
_LARGER, _ALIKE = 1.4, 1.15  # ratios of lengths
_RANK_GAP = 0.06  # between neighbours in a row, of the width
_PRESENT = 0.3  # visible part, of the most that is ever visible, to count as there
_WHOLE = 0.75  # likewise, to count as not on its way out
_TOUCH, _TOUCHING = 0.3, 0.2  # common border in lengths of the smaller one, on this part of the frames
_DESCRIBABLE = 0.001  # of the picture; smaller things are spoken of by nobody

_NTH = ("", "second", "third")


@dataclass(frozen=True, slots=True)
class Sight:
    """A thing on one frame on which some of it is visible.

    Places are fractions of the width (x) and of the height (y) of the picture; (0, 0) is its top left corner.

    Attributes:
        area: what is visible, as a fraction of the picture.
        box_xyxy: around what is visible.
        place_xy: of a point that is fixed to the thing, whether hidden or not.
        step_xy: how far that point came since the sight before, less what the camera moved the ground beneath.
        touches: by id, every thing that it meets: the length of their common border, in lengths (square roots of the
            area) of the smaller of the two.
    """

    area: float
    box_xyxy: tuple[float, float, float, float]
    place_xy: tuple[float, float]
    step_xy: tuple[float, float] = (0.0, 0.0)
    touches: Mapping[int, float] = field(default_factory=dict)

    @property
    def centre_xy(self) -> tuple[float, float]:
        """Centre of the box."""
        x0, y0, x1, y1 = self.box_xyxy
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def at_border(self) -> bool:
        """Whether the border of the picture cuts it, or might."""
        x0, y0, x1, y1 = self.box_xyxy
        return x0 <= 0 or y0 <= 0 or x1 >= 1 or y1 >= 1


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """What a video shows of one thing: all that expressions are about, without a pixel.

    Attributes:
        id: of the entity.
        category: its name in `WORLD`.
        colour: name of its main colour, or None when it has none that could be named.
        pattern: or None, likewise.
        depth: larger is nearer to the camera.
        sights: one a frame, None where nothing of it is visible. On one at least there is something.
        has_cuts: whether the video is made of several shots, so that nothing can be said about movement.
    """

    id: int
    category: str
    colour: str | None
    pattern: Pattern | None
    depth: int
    sights: tuple[Sight | None, ...] = field(repr=False)
    has_cuts: bool = False

    @property
    def seen(self) -> list[Sight]:
        """Where it is visible, in order."""
        return [sight for sight in self.sights if sight is not None]

    @property
    def length(self) -> float:
        """How large it looks at most: the square root of its area."""
        return math.sqrt(max(sight.area for sight in self.seen))

    @property
    def is_ever_whole(self) -> bool:
        """Whether it is ever clear of the border, so that its size can be told."""
        return not all(sight.at_border for sight in self.seen)

    def presence(self, when: When) -> Verdict:
        """Whether it is there at the start or the end."""
        sights = self.sights if when == "start" else self.sights[::-1]
        around = sights[: max(2, len(sights) // 10)]
        if sights[0] is not None and sights[0].area >= _PRESENT * self.length**2:
            return True
        return None if any(around) else False

    def at(self, when: When) -> Sight | None:
        """The first or the last frame."""
        return self.sights[0 if when == "start" else -1]


# Claims about one thing.


@dataclass(frozen=True, slots=True)
class Noun:
    """What it is: a category, "animal", "vehicle" or "thing"."""

    text: str

    def holds(self, it: Appearance, everything: Sequence[Appearance]) -> Verdict:
        """Whether a person would call it so."""
        if self.text in _ARGUABLE and it.category in _ARGUABLE[self.text]:
            return None
        kinds: dict[str, frozenset[str]] = {"animal": ANIMALS, "vehicle": VEHICLES}
        return self.text == "thing" or it.category in kinds.get(self.text, frozenset({self.text}))


@dataclass(frozen=True, slots=True)
class Colour:
    """Its main colour."""

    text: str

    def holds(self, it: Appearance, everything: Sequence[Appearance]) -> Verdict:
        """Whether it has that colour."""
        return None if it.colour is None else it.colour == self.text


@dataclass(frozen=True, slots=True)
class Patterned:
    """Its pattern."""

    text: Pattern

    def holds(self, it: Appearance, everything: Sequence[Appearance]) -> Verdict:
        """Whether it has that pattern."""
        return None if it.pattern is None else it.pattern == self.text


@dataclass(frozen=True, slots=True)
class Size:
    """Its size among those of its category, which must have large and small ones."""

    text: Literal["large", "small"]

    def holds(self, it: Appearance, everything: Sequence[Appearance]) -> Verdict:
        """Whether it is one of the large, or of the small ones; a middling one is neither."""
        of_kind = [other for other in everything if other.category == it.category]
        smallest, largest = (extreme(other.length for other in of_kind) for extreme in (min, max))
        if largest < _LARGER * smallest or not all(other.is_ever_whole for other in of_kind):
            return None
        is_large, is_small = it.length * _ALIKE >= largest, it.length <= _ALIKE * smallest
        if is_large or is_small:
            return is_large == (self.text == "large")
        return None


@dataclass(frozen=True, slots=True)
class Motion:
    """What it does in the course of the video, seen against the frame and against the ground alike."""

    act: Act

    @property
    def text(self) -> str:
        """As it is said."""
        others = {"still": "standing still", "turns": "that turns around"}
        if self.act in ("leaves", "comes in"):
            return f"that {self.act}"
        return others.get(self.act, f"moving {self.act}")

    def holds(self, it: Appearance, everything: Sequence[Appearance]) -> Verdict:
        """Whether it does so."""
        if it.has_cuts:
            return None
        if self.act == "leaves":
            return _leaves(it.sights)
        if self.act == "comes in":
            return _leaves(it.sights[::-1])
        if len(it.seen) < 3:
            return None
        verdicts = {_moves(self.act, *path) for path in _paths(it)}
        return verdicts.pop() if len(verdicts) == 1 else None


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the picture it is at the start or the end."""

    side: Side
    when: When

    @property
    def text(self) -> str:
        """As it is said."""
        preposition = {"left": "on", "right": "on", "middle": "in"}.get(self.side, "at")
        return f"{preposition} the {self.side} at the {self.when}"

    def holds(self, it: Appearance, everything: Sequence[Appearance]) -> Verdict:
        """Whether it is there."""
        presence, sight = it.presence(self.when), it.at(self.when)
        if not presence or sight is None:
            return presence
        (x, y), (x0, y0, x1, y1) = sight.centre_xy, sight.box_xyxy
        if self.side == "middle":
            return _verdict(max(abs(x - 0.5) / 0.1, abs(y - 0.5) / 0.15), fits=1.0, does_not=2.0)
        centre, end = {"left": (x, x1), "right": (1 - x, 1 - x0), "top": (y, y1), "bottom": (1 - y, 1 - y0)}[self.side]
        fits = _verdict(centre, fits=0.3, does_not=0.45)
        return None if fits and end > 0.5 else fits


@dataclass(frozen=True, slots=True)
class Relation:
    """That it meets another thing in the picture, farther or nearer than that."""

    kind: Literal["behind", "in front of"]
    landmark: Expression

    @property
    def text(self) -> str:
        """As it is said."""
        return f"{self.kind} {self.landmark.text}"

    def holds(self, it: Appearance, everything: Sequence[Appearance]) -> Verdict:
        """Whether it is there, on a good part of the frames on which it is visible."""
        other = self.landmark.referent(everything)
        if other is None:
            return None
        if other is it or (it.depth < other.depth) != (self.kind == "behind"):
            return False
        touches = [sight.touches.get(other.id, 0.0) for sight in it.seen]
        if not any(touches):
            return False
        frames = sum(touch >= _TOUCH for touch in touches)
        return True if frames >= max(2.0, _TOUCHING * len(touches)) else None


Adjective: TypeAlias = Size | Colour | Patterned
Clause: TypeAlias = Motion | Position | Relation
Claim: TypeAlias = Noun | Adjective | Clause


# Ranks: which one of several.


@dataclass(frozen=True, slots=True)
class Superlative:
    """The largest or smallest of several."""

    text: Literal["largest", "smallest"]
    tail: str = field(default="", init=False)

    def choose(self, candidates: Sequence[Appearance]) -> list[Verdict]:
        """For each candidate whether it is the one."""
        lengths = [it.length for it in candidates]
        if len(candidates) < 2 or not all(it.is_ever_whole for it in candidates):
            return [None] * len(candidates)
        if self.text == "largest":
            behind = [max(lengths) / length for length in lengths]
        else:
            behind = [length / min(lengths) for length in lengths]
        close = [ratio < _LARGER for ratio in behind]
        return [(True if sum(close) == 1 else None) if near else False for near in close]


@dataclass(frozen=True, slots=True)
class Ordinal:
    """The nth of several from one side, counted from 1, at the start or the end."""

    nth: Literal[1, 2, 3]
    side: Literal["left", "right"]
    when: When

    @property
    def text(self) -> str:
        """What stands before the noun."""
        return f"{self.side}most" if self.nth == 1 else _NTH[self.nth - 1]

    @property
    def tail(self) -> str:
        """What stands after it."""
        return f"at the {self.when}" if self.nth == 1 else f"from the {self.side} at the {self.when}"

    def choose(self, candidates: Sequence[Appearance]) -> list[Verdict]:
        """For each candidate whether it is the one. Those that are not there at that time are not counted."""
        presence = [it.presence(self.when) for it in candidates]
        if None in presence or sum(map(bool, presence)) < 2:
            return [None] * len(candidates)
        place: dict[int, float] = {}
        for it in candidates:
            sight = it.at(self.when)
            if it.presence(self.when) and sight is not None:
                place[it.id] = sight.centre_xy[0] if self.side == "left" else 1 - sight.centre_xy[0]
        row = sorted(place, key=lambda number: (place[number], number))
        gaps = [place[after] - place[before] for before, after in pairwise(row)]
        if any(gap < _RANK_GAP for gap in gaps[max(0, self.nth - 2) : self.nth]):
            return [None] * len(candidates)
        return [it.id in place and row.index(it.id) == self.nth - 1 for it in candidates]


Rank: TypeAlias = Superlative | Ordinal
Memo: TypeAlias = "dict[Claim, list[Verdict]]"


@dataclass(frozen=True, slots=True)
class Expression:
    """A noun phrase.

    Attributes:
        noun: what it is.
        adjectives: in the order they are said: size, colour, pattern.
        clauses: what follows the noun; a relation comes last.
        rank: which of all that the rest describes; None where that is one already.
    """

    noun: Noun
    adjectives: tuple[Adjective, ...] = ()
    clauses: tuple[Clause, ...] = ()
    rank: Rank | None = None

    @property
    def text(self) -> str:
        """The English of it."""
        rank = [] if self.rank is None else [self.rank.text]
        tail = [] if self.rank is None or not self.rank.tail else [self.rank.tail]
        adjectives, clauses = ([claim.text for claim in claims] for claims in (self.adjectives, self.clauses))
        return " ".join(["the", *rank, *adjectives, self.noun.text, *tail, *clauses])

    @property
    def claims(self) -> tuple[Claim, ...]:
        """All that must fit, without the rank."""
        return (self.noun, *self.adjectives, *self.clauses)

    def verdicts(self, everything: Sequence[Appearance], *, memo: Memo | None = None) -> list[Verdict]:
        """For each thing whether the expression fits it.

        Args:
            everything: all things that ever appear in the video.
            memo: verdicts on single claims about the same things, to be looked up and added to.
        """
        memo = {} if memo is None else memo
        for claim in self.claims:
            if claim not in memo:
                memo[claim] = [claim.holds(it, everything) for it in everything]
        verdicts = [_all_of(column) for column in zip(*(memo[claim] for claim in self.claims), strict=True)]
        if self.rank is None:
            return verdicts
        if None in verdicts:
            return [verdict if verdict is False else None for verdict in verdicts]
        candidates = [it for it, verdict in zip(everything, verdicts, strict=True) if verdict]
        chosen = iter(self.rank.choose(candidates))
        return [next(chosen) if verdict else False for verdict in verdicts]

    def holds(self, it: Appearance, everything: Sequence[Appearance]) -> Verdict:
        """Whether it fits one of the things."""
        return self.verdicts(everything)[[other.id for other in everything].index(it.id)]

    def referent(self, everything: Sequence[Appearance], *, memo: Memo | None = None) -> Appearance | None:
        """The one thing it fits, if it clearly fits none of the others."""
        verdicts = self.verdicts(everything, memo=memo)
        if None in verdicts or verdicts.count(True) != 1:
            return None
        return everything[verdicts.index(True)]


# Choosing what to say.

_ACTS: tuple[Act, ...] = ("left", "right", "up", "down", "still", "leaves", "comes in", "turns")
_WHENS: tuple[When, ...] = ("start", "end")
_SIDES: tuple[Side, ...] = ("left", "right", "top", "bottom", "middle")
_ROW_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_NTHS: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
_POSITIONS = tuple(Position(side, when) for side in _SIDES for when in _WHENS)
_ORDINALS = tuple(Ordinal(nth, side, when) for nth in _NTHS for side in _ROW_SIDES for when in _WHENS)
_SUPERLATIVES = (Superlative("largest"), Superlative("smallest"))


def refer(appearances: Sequence[Appearance], seed: int, *, per_object: int = 2) -> list[tuple[int, Expression]]:
    """Say of each thing, in several ways, which one it is.

    Short expressions are preferred, and kinds of claims that were not used yet. The choice is the same on every
    machine.

    Args:
        appearances: all things that ever appear.
        seed: another seed prefers other expressions.
        per_object: how many for each thing at most. There are fewer for one that resembles another in all respects,
            and none for one that is hardly visible.

    Returns:
        Pairs of id and expression, by id; no text twice.
    """
    memo: Memo = {}
    used: Counter[str] = Counter()
    said: list[tuple[int, Expression]] = []
    for it in sorted(appearances, key=lambda one: one.id):
        if it.length**2 < _DESCRIBABLE:
            continue
        fitting = [
            expression
            for expression in _sayings(it, appearances, memo)
            if expression.referent(appearances, memo=memo) is it
        ]
        for _ in range(min(per_object, len(fitting))):
            best = min(fitting, key=lambda one: (_cost(one, used) + _whim(seed, it.id, one.text), one.text))
            used.update(_kinds(best))
            fitting.remove(best)
            said.append((it.id, best))
    return said


def _sayings(it: Appearance, everything: Sequence[Appearance], memo: Memo) -> Iterator[Expression]:
    """Expressions whose every claim fits; each once."""
    nouns = [noun for noun in map(Noun, (it.category, "animal", "vehicle", "thing")) if noun.holds(it, everything)]
    motions = [motion for motion in map(Motion, _ACTS) if motion.holds(it, everything)]
    positions = [place for place in _POSITIONS if place.holds(it, everything)]
    relations = _relations(it, everything, memo)
    tails: list[tuple[Clause, ...]] = [(), *((m,) for m in motions), *((p,) for p in positions)]
    tails += [(r,) for r in relations]
    # "That leaves behind the boat" would say something else.
    tails += [(m, r) for m in motions for r in relations if m.text.startswith(("moving", "standing"))]
    ordinals = [rank for rank in _ORDINALS if it.presence(rank.when)]
    for noun in nouns:
        for adjectives in _adjectives(it, everything, with_size=noun.text == it.category):
            yield from (Expression(noun, adjectives, tail) for tail in tails)
            yield from (Expression(noun, adjectives, (), rank) for rank in ordinals)
            if not any(isinstance(adjective, Size) for adjective in adjectives):
                alone_or_moving: list[tuple[Clause, ...]] = [(), *((m,) for m in motions)]
                yield from (Expression(noun, adjectives, tail, s) for tail in alone_or_moving for s in _SUPERLATIVES)


def _adjectives(it: Appearance, everything: Sequence[Appearance], *, with_size: bool) -> list[tuple[Adjective, ...]]:
    """Up to two adjectives that fit; sizes compare within a category, so they need its name."""
    sizes: list[Adjective] = [Size("large"), Size("small")]
    fitting = [size for size in sizes if with_size and size.holds(it, everything)]
    if it.colour is not None:
        fitting.append(Colour(it.colour))
    if it.pattern is not None:
        fitting.append(Patterned(it.pattern))
    pairs = [(first, second) for n, first in enumerate(fitting) for second in fitting[n + 1 :]]
    return [(), *((one,) for one in fitting), *pairs]


def _relations(it: Appearance, everything: Sequence[Appearance], memo: Memo) -> list[Relation]:
    """What it is behind or in front of, each said in one way."""
    relations = []
    met = {number for sight in it.seen for number in sight.touches}
    for other in everything:
        if other.id not in met or other is it:
            continue
        names = [
            Expression(Noun(other.category), adjectives)
            for adjectives in _adjectives(other, everything, with_size=True)
            if len(adjectives) < 2
        ]
        landmark = next((name for name in names if name.referent(everything, memo=memo) is other), None)
        if landmark is not None:
            relation = Relation("behind" if it.depth < other.depth else "in front of", landmark)
            if relation.holds(it, everything):
                relations.append(relation)
    return relations


def _cost(expression: Expression, used: Counter[str]) -> float:
    """Words, and two more for every time that its kinds of claims were used on average; few say "plain"."""
    kinds = _kinds(expression)
    words = len(expression.text.split()) + 3 * (Patterned("plain") in expression.adjectives)
    return words + 2.0 * sum(used[kind] for kind in kinds) / len(kinds)


def _kinds(expression: Expression) -> list[str]:
    """What an expression relies on, beside its noun."""
    parts = [*expression.adjectives, *expression.clauses, *([] if expression.rank is None else [expression.rank])]
    return [type(part).__name__ for part in parts] or ["Noun"]


def _whim(seed: int, number: int, text: str) -> float:
    """A number in [0, 6) that is the same on every machine."""
    digest = hashlib.sha256(f"{seed} {number} {text}".encode()).digest()
    return int.from_bytes(digest[:4], "big") * 6 / 2**32


# Verdicts.


def _all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """False if one is, else None if one is, else True."""
    found = set(verdicts)
    return False if False in found else None if None in found else True


def _verdict(value: float, *, fits: float, does_not: float) -> Verdict:
    """By two thresholds, the one that fits being the smaller."""
    return True if value <= fits else False if value >= does_not else None


def _leaves(sights: Sequence[Sight | None]) -> Verdict:
    """Whether it goes out over the border for good; with the frames in reverse, whether it comes in."""
    seen = [n for n, sight in enumerate(sights) if sight is not None]
    last = sights[seen[-1]]
    assert last is not None
    if seen[-1] < len(sights) - 2 and last.at_border:
        return True
    most = max(sights[n].area for n in seen)  # type: ignore[union-attr]
    is_there = seen[-1] == len(sights) - 1 and (not last.at_border or last.area >= _WHOLE * most)
    return False if is_there and len(seen) == seen[-1] - seen[0] + 1 else None


def _paths(it: Appearance) -> list[tuple[list[float], list[float]]]:
    """Its way in the picture, and over the ground: x and y of each sight."""
    seen = it.seen
    over_ground: tuple[list[float], list[float]] = ([0.0], [0.0])
    for sight in seen[1:]:
        for axis in (0, 1):
            over_ground[axis].append(over_ground[axis][-1] + sight.step_xy[axis])
    return [([s.place_xy[0] for s in seen], [s.place_xy[1] for s in seen]), over_ground]


def _moves(act: Act, xs: Sequence[float], ys: Sequence[float]) -> Verdict:
    """Whether a path goes a way, stays, or turns around sideways."""
    if act == "still":
        return _verdict(max(_rise(way) for way in _four_ways(xs, ys).values()), fits=_STILL, does_not=_RESTLESS)
    if act == "turns":
        bend = max(_bend(xs), _bend([-x for x in xs]))
        return True if bend >= _FAR else False if bend <= _NEAR else None
    forward, across = _four_ways(xs, ys)[act], ys if act in ("left", "right") else xs
    net, aside = forward[-1] - forward[0], abs(across[-1] - across[0])
    if net >= _FAR and _rise([-value for value in forward]) <= _BACK and aside <= _ASIDE * net:
        return True
    return False if _rise(forward) <= _NEAR else None


def _four_ways(xs: Sequence[float], ys: Sequence[float]) -> dict[str, list[float]]:
    """A path as progress in each direction."""
    return {"left": [-x for x in xs], "right": [*xs], "up": [-y for y in ys], "down": [*ys]}


def _rise(values: Sequence[float]) -> float:
    """The most that a later value is above an earlier one."""
    lowest, most = values[0], 0.0
    for value in values:
        lowest = min(lowest, value)
        most = max(most, value - lowest)
    return most


def _bend(values: Sequence[float]) -> float:
    """The most that values rise by and then fall by."""
    return max(min(v - min(values[: n + 1]), v - min(values[n:])) for n, v in enumerate(values))


# What a video shows.


class Observer:
    """Turns the truth of a video into appearances, frame by frame; keeps a few numbers a thing and frame.

    Args:
        scene: what the truth was rendered from; segments have the ids of its entities.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._things = {entity.id: entity for entity in scene.entities if entity.is_thing}
        self._body = {number: _parts_of(scene, number) for number in self._things}
        self._ground = {number: _ground_of(scene, number) for number in self._things}
        self._sights: dict[int, list[Sight | None]] = {number: [] for number in self._things}
        self._last: dict[int, tuple[int, tuple[float, float]]] = {}
        self._frames = 0

    def add(self, annotation: FrameAnnotation) -> None:
        """Take the truth of the next frame."""
        segmentation = annotation.segmentation
        height, width = segmentation.size_hw
        labels_hw = segmentation.label_map().cpu().numpy()
        count = len(segmentation.segments)
        areas = np.bincount(labels_hw.reshape(-1), minlength=count + 1)[1:].tolist()
        boxes = find_objects(labels_hw, count)
        touches = _touches(labels_hw, count)
        at = {segment.id: n for n, segment in enumerate(segmentation.segments) if areas[n]}
        for number, sights in self._sights.items():
            n = at.get(number)
            if n is None:
                sights.append(None)
                continue
            rows, columns = boxes[n]
            met = {
                other: touches[n, m] / math.sqrt(min(areas[n], areas[m]))
                for other, m in at.items()
                if other in self._things and touches[n, m]
            }
            place = self._place(number)
            step = self._step(number, place)
            aspect = width / height
            box = (columns.start / width, rows.start / height, columns.stop / width, rows.stop / height)
            where, way = (place[0] / aspect, place[1]), (step[0] / aspect, step[1])
            sights.append(Sight(areas[n] / (height * width), box, where, way, met))
            self._last[number] = (self._frames, place)
        self._frames += 1

    def appearances(self) -> list[Appearance]:
        """All things that were visible so far, by id."""
        cut = any(0 < frame < self._frames for frame in self._scene.cuts)
        depth = {entity.id: n for n, entity in enumerate(self._scene.entities)}
        return [
            self._appearance(self._things[number], depth[number], sights, cut)
            for number, sights in sorted(self._sights.items())
            if any(sights)
        ]

    def _appearance(self, entity: Entity, depth: int, sights: Sequence[Sight | None], cut: bool) -> Appearance:
        is_painted = (self._scene.parts.photo_p[self._body[entity.id]] >= 0).any()
        colour, pattern = (None, None) if is_painted else (entity.colour, entity.pattern)
        name = WORLD[entity.category].name
        return Appearance(entity.id, name, colour, pattern, depth, tuple(sights), has_cuts=cut)

    def _place(self, number: int) -> tuple[float, float]:
        """Mean of where the origins of its parts are, on this frame, in heights of the picture."""
        body = self._body[number]
        origins = self._scene.parts.place_tp23[self._frames, body, :, 2].tolist()
        return math.fsum(x for x, _ in origins) / len(origins), math.fsum(y for _, y in origins) / len(origins)

    def _step(self, number: int, place: tuple[float, float]) -> tuple[float, float]:
        """The way since the sight before, less that of the ground which was there."""
        if number not in self._last:
            return 0.0, 0.0
        frame, before = self._last[number]
        ground = self._ground[number]
        if ground is not None:
            poses = self._scene.parts.place_tp23[:, ground].astype(np.float64)
            before = _carried(before, poses[frame], poses[self._frames])
        return place[0] - before[0], place[1] - before[1]


def observe(annotations: Iterable[FrameAnnotation], scene: Scene) -> list[Appearance]:
    """What a video shows of its things. Frames come in order, from the first, and are not kept.

    Args:
        annotations: the truth of each frame.
        scene: what it was rendered from.

    Returns:
        The things that are ever visible, by id.
    """
    observer = Observer(scene)
    for annotation in annotations:
        observer.add(annotation)
    return observer.appearances()


def _parts_of(scene: Scene, number: int) -> NDArray[np.intp]:
    """Rows of the parts of an entity, without its shadow."""
    return np.flatnonzero((scene.parts.entity_p == number) & ~scene.parts.shadow_p)


def _ground_of(scene: Scene, number: int) -> int | None:
    """A part of the stuff that is next behind a thing: it moves as the camera makes it, or None."""
    ids = [entity.id for entity in scene.entities]
    farther = scene.entities[: ids.index(number)]
    return next((int(_parts_of(scene, stuff.id)[0]) for stuff in reversed(farther) if not stuff.is_thing), None)


def _carried(
    point: tuple[float, float], before_23: NDArray[np.float64], after_23: NDArray[np.float64]
) -> tuple[float, float]:
    """Where a point of a part goes when its pose changes."""
    (a, b, e), (c, d, f) = before_23.tolist()
    x, y, det = point[0] - e, point[1] - f, a * d - b * c
    if not det:
        return point
    u, v = (d * x - b * y) / det, (a * y - c * x) / det
    (a, b, e), (c, d, f) = after_23.tolist()
    return a * u + b * v + e, c * u + d * v + f


def _touches(labels_hw: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """How many pairs of neighbouring pixels every two segments share: ``int64[N, N]``, symmetric."""
    shared = np.zeros((count + 1) ** 2, np.int64)
    for first, second in ((labels_hw[:, 1:], labels_hw[:, :-1]), (labels_hw[1:], labels_hw[:-1])):
        differs = (first != second) & (first > 0) & (second > 0)
        codes = first[differs].astype(np.int64) * (count + 1) + second[differs]
        shared += np.bincount(codes, minlength=len(shared))
    table = shared.reshape(count + 1, count + 1)[1:, 1:]
    both: NDArray[np.int64] = table + table.T
    return both
