"""YAML into dataclasses, strictly: an unknown key or a value of another type is an error that says what is right."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import Annotated, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from maskstream.types import InputError

T = TypeVar("T")

Plain: TypeAlias = Union[bool, int, float, str, list["Plain"], dict[str, "Plain"], None]  # noqa: UP007 - recursive
"""What YAML says."""

_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a number, beside its type in ``Annotated``.

    Attributes:
        expected: in words.
        least: it is at least this.
        most: it is at most this.
        without_least: it is more than ``least``.
    """

    expected: str
    least: float
    most: float = math.inf
    without_least: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is within them."""
        return self.least <= value <= self.most and not (self.without_least and value == self.least)


Count: TypeAlias = Annotated[int, Bounds("1 or more", 1)]
AtLeastThree: TypeAlias = Annotated[int, Bounds("3 or more", 3)]
Natural: TypeAlias = Annotated[int, Bounds("0 or more", 0)]
Positive: TypeAlias = Annotated[float, Bounds("more than 0", 0, without_least=True)]
NotNegative: TypeAlias = Annotated[float, Bounds("0 or more", 0)]
Fraction: TypeAlias = Annotated[float, Bounds("0 to 1", 0, 1)]


def parse(text: str, *, where: str) -> Plain:
    """What a YAML text says.

    Raises:
        InputError: it is no YAML.
    """
    import yaml

    try:
        return cast(Plain, yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(f"{where} is no YAML: {' '.join(str(error).split())}") from error


def read(kind: type[T], values: Plain, *, where: str) -> T:
    """Build a dataclass, and those in it, from plain values. What is not given has its default.

    Args:
        kind: the dataclass. A name of its fields may end in an underscore that keys do not have: ``as_``.
        values: by key.
        where: they come from, for messages: "in deva-video.yaml".

    Raises:
        InputError: a key is unknown or missing, or a value of the wrong type. The message names the key with those it
            is under, and the nearest known key or what was expected.
    """
    return _build(kind, values, "", where, _all_keys(kind))


def with_override(values: Plain, assignment: str) -> Plain:
    """Plain values with one changed, as in ``train.steps=200``. An entry of a list goes by its ``as`` or ``name``.

    Raises:
        InputError: the assignment has no ``=``, its value is no YAML, or a list has no such entry.
    """
    path, equals, text = assignment.partition("=")
    if not equals:
        raise InputError(f"{assignment!r} is no setting: write KEY=VALUE, such as train.steps=200")
    return _assign(values, path.strip().split("."), parse(text, where=f"the value of {path}"), path)


def to_plain(value: object) -> Plain:
    """A dataclass as plain values, every field of it: what `read` takes."""
    if is_dataclass(value):
        return {_key(field.name): to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(inner) for inner in value]
    return cast(Plain, value)


def _key(field_name: str) -> str:
    return field_name.rstrip("_")


def _build(kind: type[T], values: Plain, place: str, where: str, all_keys: Sequence[str]) -> T:
    if not isinstance(values, dict):
        raise InputError(f"{place.rstrip('.') or 'all'} {where} is {_shown(values)}: keys with values are expected")
    hints = get_type_hints(kind, include_extras=True)
    known = {_key(field.name): field for field in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            nearest = _nearest(f"{place}{key}", [place + other for other in known], all_keys)
            raise InputError(f"unknown key {place}{key} {where}: did you mean {nearest}?")
    for key, field in known.items():
        if key not in values and field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"{place}{key} is missing {where}")
    given = {
        known[key].name: _value(hints[known[key].name], value, place + key, where, all_keys)
        for key, value in values.items()
    }
    return kind(**given)


def _value(hint: object, value: Plain, place: str, where: str, all_keys: Sequence[str]) -> object:
    """A value, if it is what a field with this type takes."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        (kind,) = (one for one in inner if one is not type(None))
        return None if value is None else _value(kind, value, place, where, all_keys)
    if origin is Annotated:
        number = cast(float, _value(inner[0], value, place, where, all_keys))
        if not inner[1].holds(number):
            raise InputError(f"{place} {where} is {number}: {inner[1].expected} is expected")
        return number
    if origin is Literal:
        if value not in inner:
            raise InputError(f"{place} {where} is {_shown(value)}: it is one of {', '.join(map(str, inner))}")
        return value
    if origin is tuple:
        return _sequence(inner, value, place, where, all_keys)
    if origin is not None and issubclass(cast(type, origin), Mapping):
        if not isinstance(value, dict):
            raise InputError(f"{place} {where} is {_shown(value)}: names with values are expected")
        return {str(key): _value(inner[1], one, f"{place}.{key}", where, all_keys) for key, one in value.items()}
    if is_dataclass(hint):
        return _build(cast(type, hint), value, f"{place}.", where, all_keys)
    return _scalar(cast(type, hint), value, place, where)


def _sequence(
    inner: tuple[object, ...], value: Plain, place: str, where: str, all_keys: Sequence[str]
) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise InputError(f"{place} {where} is {_shown(value)}: a list is expected")
    if inner[-1] is Ellipsis:
        inner = (inner[0],) * len(value)
    if len(inner) != len(value):
        raise InputError(f"{place} {where} has {len(value)} entries: {len(inner)} are expected")
    return tuple(
        _value(kind, one, f"{place}.{_name(one) or n}", where, all_keys)
        for n, (kind, one) in enumerate(zip(inner, value, strict=True))
    )


def _scalar(kind: type, value: Plain, place: str, where: str) -> object:
    if kind is float and not isinstance(value, bool):
        try:  # YAML takes 1e-5 for a word
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            pass
    if type(value) is not kind:
        raise InputError(f"{place} {where} is {_shown(value)}: {_EXPECTED.get(kind, 'another type')} is expected")
    return value


def _name(entry: Plain) -> str:
    """By which an entry of a list goes."""
    return str(entry.get("as") or entry.get("name") or "") if isinstance(entry, dict) else ""


def _shown(value: Plain) -> str:
    return "empty" if value is None else repr(value)


def _nearest(path: str, here: Sequence[str], everywhere: Sequence[str]) -> str:
    """The known key that looks most like an unknown one: at its place, by its whole path, or by its last word."""
    last = {key.rsplit(".", 1)[-1]: key for key in everywhere}
    for names in (here, everywhere):
        if close := get_close_matches(path, names, n=1, cutoff=0.75):
            return close[0]
    if close := get_close_matches(path.rsplit(".", 1)[-1], list(last), n=1, cutoff=0.75):
        return last[close[0]]
    return get_close_matches(path, here, n=1, cutoff=0)[0]


def _all_keys(kind: type, place: str = "") -> list[str]:
    """The paths of all keys that are not in lists."""
    keys = []
    for field in fields(kind):
        hint, path = get_type_hints(kind)[field.name], place + _key(field.name)
        keys.append(path)
        if is_dataclass(hint):
            keys += _all_keys(cast(type, hint), f"{path}.")
    return keys


def _assign(values: Plain, path: Sequence[str], value: Plain, whole: str) -> Plain:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(values, list):
        names = [_name(one) for one in values]
        if first not in names:
            raise InputError(f"{whole}: there is no {first!r}; there is {', '.join(names)}")
        at = names.index(first)
        return [*values[:at], _assign(values[at], rest, value, whole), *values[at + 1 :]]
    inner = values if isinstance(values, dict) else {}
    return {**inner, first: _assign(inner.get(first), rest, value, whole)}
