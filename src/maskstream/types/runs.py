"""The runs of many COCO run-length codes at once, as arrays.

A compressed code is a string of counts: of background and foreground pixels in turn, down the columns. A count is
written five bits a character, the lowest first, in two's complement; 32 marks that another character follows, and 48
is added to make it printable. From the fourth count on, what is written is the difference to the one two before.

pycocotools decodes one code at a time and does not check it: compared with a mask of another number of pixels, it may
never return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Octets = NDArray[np.uint8]
Integers = NDArray[np.int32] | NDArray[np.int64]

_MORE = 32


class RunLengthError(InputError):
    """A string that is no run-length code of a mask; ``position`` says which of those that were given."""

    def __init__(self, position: int, what: str) -> None:
        super().__init__(f"a run-length code is damaged: {what}")
        self.position = position


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """The foreground of N masks.

    Attributes:
        edges_r2: ``int[R, 2]``, the first pixel of every run and the one after its last; ascending within a mask. Runs
            may be empty, and may touch.
        first_n: ``int64[N + 1]``: the runs of mask n are those from ``first_n[n]`` up to ``first_n[n + 1]``, at least
            one.
        areas_n: ``int64[N]``, pixels.
    """

    edges_r2: Integers = field(repr=False)
    first_n: IntArray
    areas_n: IntArray


def decode_runs(codes: Sequence[str | None], origins_n: IntArray, *, pixels: int) -> Runs:
    """The foreground runs of masks of one size, laid out on an axis.

    Args:
        codes: N compressed codes; None is a mask of nothing.
        origins_n: ``int64[N]``, where the first pixel of each mask lies on the axis, from 0.
        pixels: height times width.

    Raises:
        RunLengthError: a code is damaged, or of more or fewer pixels.
    """
    if not codes:
        return Runs(np.zeros((0, 2), np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64))
    dtype = np.int32 if int(origins_n.max()) + pixels < 2**31 else np.int64
    numbers, first_n = _numbers(["0" if code is None else code for code in codes], dtype)
    # Every code is filled up to an even length, by the 0 after it or by one more.
    is_odd_n = (first_n[1:] - first_n[:-1]) & 1 > 0
    if is_odd_n.any():
        numbers = np.insert(numbers, first_n[1:][is_odd_n], 0).astype(dtype, copy=False)
        first_n[1:] += is_odd_n.cumsum()
    first_n >>= 1
    begin_n, last_n = first_n[:-1], first_n[1:] - 1

    # Background in the first column, foreground in the second: sums of differences, less those of the codes before.
    # The third count of a code is no difference, and is made one; what was filled up is no count.
    differences_r2 = numbers.reshape(-1, 2)
    third = begin_n[last_n > begin_n] + 1
    differences_r2[third, 0] -= differences_r2[third - 1, 0]
    counts_r2 = differences_r2.cumsum(axis=0, dtype=dtype)
    counts_r2[first_n[1] :] -= np.repeat(counts_r2[last_n[:-1]], last_n[1:] - last_n[:-1], axis=0)
    counts_r2[last_n, 1] = 0
    counts_r2[last_n[is_odd_n], 0] = 0

    # Each end is the sum of all counts so far, and each mask begins at its origin.
    stops_n = origins_n + [0 if code is None else pixels for code in codes]
    edges_r2 = np.empty_like(counts_r2)
    ends_r = edges_r2[:, 1]
    np.add(counts_r2[:, 0], counts_r2[:, 1], out=ends_r)
    ends_r[0] += origins_n[0]
    ends_r[begin_n[1:]] += (origins_n[1:] - stops_n[:-1]).astype(dtype)
    ends_r.cumsum(out=ends_r, dtype=dtype)
    np.subtract(ends_r, counts_r2[:, 1], out=edges_r2[:, 0])
    # A sum that overflows is negative on its way.
    if counts_r2.min() < 0 or edges_r2.min() < 0 or (ends_r[last_n] != stops_n).any():
        is_wrong_n = ends_r[last_n] != stops_n
        is_wrong_n |= np.logical_or.reduceat((np.minimum(counts_r2, edges_r2) < 0).any(axis=1), begin_n)
        position = int(is_wrong_n.argmax())
        raise RunLengthError(position, f"its runs do not make the {pixels} pixels of the mask")
    return Runs(edges_r2, first_n, np.add.reduceat(counts_r2[:, 1], begin_n).astype(np.int64))


def _numbers(codes: Sequence[str], dtype: type[np.int32] | type[np.int64]) -> tuple[Integers, IntArray]:
    """What the codes write, and a 0 after each; and where each begins, ``int64[N + 1]``."""
    try:
        text = "0".join([*codes, ""])
    except TypeError:
        position = next(n for n, code in enumerate(codes) if not isinstance(code, str))
        what = f"it is of type {type(codes[position]).__name__}, but a compressed one is a string"
        raise RunLengthError(position, what) from None
    chars = np.frombuffer(text.encode("ascii", "replace"), np.uint8) - np.uint8(48)
    if chars.max() > 63 or not text.isascii():
        position, char = next((n, c) for n, code in enumerate(codes) for c in code if not "0" <= c <= "o")
        raise RunLengthError(position, f"it holds {char!r}")
    first_n = np.zeros(len(codes) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, codes), np.int64, len(codes)) + 1, out=first_n[1:])
    is_last = chars < _MORE
    is_cut_n = ~is_last[first_n[1:] - 2]
    if is_cut_n.any():
        raise RunLengthError(int(is_cut_n.argmax()), "it ends within a number")
    numbers: Integers = ((chars[is_last] ^ 16) - np.uint8(16)).view(np.int8).astype(dtype)
    more = np.flatnonzero(~is_last)
    _add_lower_bits(numbers, chars, more, is_last)
    return numbers, first_n - more.searchsorted(first_n)


def _add_lower_bits(numbers: Integers, chars: Octets, more: IntArray, is_last: BoolArray) -> None:
    """Complete the numbers that are longer than one character; they hold the last, which has the highest bits."""
    is_next_last = is_last[more + 1]
    place, number = more[is_next_last], (more - np.arange(len(more)))[is_next_last]
    while len(place):
        numbers[number] = numbers[number] * 32 + (chars[place] & 31)
        goes_on = chars[place - 1] >= _MORE
        place, number = place[goes_on] - 1, number[goes_on]
