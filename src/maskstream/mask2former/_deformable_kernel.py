"""Multi-scale deformable attention as loops, compiled by Numba where that is installed (extra ``fast``).

For ``float32`` on the CPU, without gradients. Every query is computed by one thread and in one order, so that the
number of threads does not change the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MIN_QUERIES = 256
"""Fewer of them are not worth a thread."""

_SIGNATURES = (
    "void(f4[:, :, ::1], f4[:, :, :, :, ::1], f4[:, :, :, ::1], i8[:, ::1], i8, i8)",
    "void(f4[::1], f4[:, :, :, :, ::1], f4[:, :, :, ::1], i8[:, ::1], f4[::1], i8, i8, i8, i8)",
)

# Indices are unsigned: of signed ones Numba would ask whether they count from the end, and the sums over channels would
# not become vector instructions.
_U = np.uint64

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int64]


class Kernels(NamedTuple):
    """The compiled loops, `_points` and `_attend`."""

    points: Callable[..., None]
    attend: Callable[..., None]


@cache
def load_kernels() -> Kernels | None:
    """The compiled loops, or None where Numba is not installed or does not go with the NumPy that is.

    They take seconds to compile. What comes out is kept in a folder for the next process, where one can be written to.
    """
    try:
        import numba
    except ImportError:
        return None
    # Only the fused multiply-add: sums keep their order, and NaN stays what it is.
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}

    def compiled(*, cached: bool) -> Kernels:
        jit: Callable[..., Any] = numba.njit
        loops = zip(_SIGNATURES, (_points, _attend), strict=True)
        return Kernels(*(jit(signature, cache=cached, **options)(loop) for signature, loop in loops))

    try:
        return compiled(cached=True)
    except Exception:  # nowhere to write, a full disk, a damaged file: it raises whatever its parts do
        return compiled(cached=False)


def attend(value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """See `deformable_attention`."""
    batch, positions, heads, channels = value.shape
    queries = locations.shape[1]
    out = torch.empty(batch, queries, heads * channels)
    arrays = _flat(value), _per_query(locations), _per_query(weights), _levels(shapes), _flat(out)

    def work(first: int, last: int) -> None:
        _loaded().attend(*arrays, queries, positions, first, last)

    _share_out(work, batch * queries)
    return out


def points(
    shapes: Sequence[tuple[int, int]], reference: Tensor, offsets: Tensor, logits: Tensor
) -> tuple[Tensor, Tensor]:
    """See `deformable_points`."""
    locations, weights = offsets.detach().clone(), logits.detach().clone()
    arrays = _per_query(reference), _per_query(locations), _per_query(weights), _levels(shapes)

    def work(first: int, last: int) -> None:
        _loaded().points(*arrays, first, last)

    _share_out(work, len(arrays[0]))
    return locations, weights


def _loaded() -> Kernels:
    kernels = load_kernels()
    if kernels is None:
        raise ModuleNotFoundError("numba is not installed: pip install 'maskstream[fast]'")
    return kernels


def _share_out(work: Callable[[int, int], None], queries: int) -> None:
    """Do ranges of queries in as many threads as torch uses.

    They are plain threads that end with the call: those of Numba's own do not survive a fork, as workers of data
    loaders are made, and not all of its kinds may be called from several threads at once.
    """
    parts = max(1, min(torch.get_num_threads(), queries // _MIN_QUERIES))
    if parts == 1:
        work(0, queries)
        return
    mine, *others = pairwise([queries * part // parts for part in range(parts + 1)])
    with ThreadPoolExecutor(len(others)) as pool:
        running = [pool.submit(work, *other) for other in others]
        work(*mine)
        for one in running:
            one.result()


def _levels(shapes: Sequence[tuple[int, int]]) -> _Integers:
    return np.array(shapes, np.int64).reshape(-1, 2)


def _per_query(tensor: Tensor) -> _Floats:
    """Of all pictures together."""
    array: _Floats = tensor.detach().contiguous().flatten(0, 1).numpy()
    return array


def _flat(tensor: Tensor) -> _Floats:
    array: _Floats = tensor.detach().contiguous().flatten().numpy()
    return array


# What follows is compiled. N queries of all pictures together; only those from first to last are done.


def _points(reference: _Floats, locations: _Floats, weights: _Floats, levels: _Integers, first: int, last: int) -> None:
    """In place: offsets ``[N, H, L, P, 2]`` become locations, and logits ``[N, H, L, P]`` weights."""
    _, heads, count, points, _ = locations.shape
    for n in range(first, last):
        for h in range(heads):
            highest = np.float32(-np.inf)
            for level in range(count):
                for p in range(points):
                    highest = max(highest, weights[n, h, level, p])
            total = np.float32(0)
            for level in range(count):
                height, width = np.float32(levels[level, 0]), np.float32(levels[level, 1])
                for p in range(points):
                    locations[n, h, level, p, 0] = reference[n, level, 0] + locations[n, h, level, p, 0] / width
                    locations[n, h, level, p, 1] = reference[n, level, 1] + locations[n, h, level, p, 1] / height
                    weight = np.exp(weights[n, h, level, p] - highest)
                    weights[n, h, level, p] = weight
                    total += weight
            for level in range(count):
                for p in range(points):
                    weights[n, h, level, p] /= total


def _attend(
    value: _Floats,
    locations: _Floats,
    weights: _Floats,
    levels: _Integers,
    out: _Floats,
    queries: int,
    positions: int,
    first: int,
    last: int,
) -> None:
    """Locations ``[N, H, L, P, 2]``, weights ``[N, H, L, P]``.

    Value and out are flat, ``[picture, position, head, channel]`` and ``[query, head, channel]``. Pictures have so many
    queries and positions each.
    """
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    _, heads, count, points, _ = locations.shape
    channels = _U(out.size // max(1, len(locations) * heads))
    right = _U(heads) * channels
    for n in range(first, last):
        for h in range(heads):
            o = (_U(n) * _U(heads) + _U(h)) * channels
            for d in range(channels):
                out[o + d] = zero
            start = _U(n // queries * positions) * right + _U(h) * channels
            for level in range(count):
                height, width = np.float32(levels[level, 0]), np.float32(levels[level, 1])
                down = _U(levels[level, 1]) * right
                for p in range(points):
                    x = locations[n, h, level, p, 0] * width - half
                    y = locations[n, h, level, p, 1] * height - half
                    weight = weights[n, h, level, p]
                    left, top = np.floor(x), np.floor(y)
                    bottom_weight = weight * (y - top)
                    top_weight = weight - bottom_weight
                    top_right, bottom_right = top_weight * (x - left), bottom_weight * (x - left)
                    top_left, bottom_left = top_weight - top_right, bottom_weight - bottom_right
                    if x >= zero and y >= zero and x < width - one and y < height - one:
                        i = start + _U(np.int64(top)) * down + _U(np.int64(left)) * right
                        j = i + down
                        for d in range(channels):
                            out[o + d] += (
                                top_left * value[i + d]
                                + top_right * value[i + right + d]
                                + bottom_left * value[j + d]
                                + bottom_right * value[j + right + d]
                            )
                    elif x > -one and y > -one and x < width and y < height:
                        for dy in range(2):
                            for dx in range(2):
                                row, column = top + np.float32(dy), left + np.float32(dx)
                                if row < zero or column < zero or row >= height or column >= width:
                                    continue
                                i = start + _U(np.int64(row)) * down + _U(np.int64(column)) * right
                                below, above = (bottom_left, bottom_right), (top_left, top_right)
                                share = below[dx] if dy else above[dx]
                                for d in range(channels):
                                    out[o + d] += share * value[i + d]
                    elif np.isnan(x) or np.isnan(y):  # the mark of a run that has gone wrong must not vanish here
                        for d in range(channels):
                            out[o + d] = np.float32(np.nan)
                start += _U(levels[level, 0]) * down
