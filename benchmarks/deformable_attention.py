"""How much faster deformable attention is than that of `transformers`, on this CPU.

    OMP_NUM_THREADS=1 python benchmarks/deformable_attention.py [--runs 15]

Sizes are those of a layer of Mask2Former's pixel decoder for a picture of 480×864: levels at strides 32, 16 and 8, each
position of which is a query; 8 heads of 32 channels; 4 points. All ways take turns in one process, so that whatever
else the machine does slows down all of them; times are medians. The forms of plain torch are also timed with their
gradients. The last line is of the fastest way without them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import multi_scale_deformable_attention

from maskstream.mask2former import _deformable_kernel
from maskstream.mask2former.deformable_attention import _by_grids, _by_rows

LEVELS = [(15, 27), (30, 54), (60, 108)]
HEADS, CHANNELS, POINTS = 8, 32, 4
THEIRS = "transformers"

Way = Callable[..., Tensor]
Inputs = tuple[Tensor, list[tuple[int, int]], Tensor, Tensor]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    inputs = layer_inputs()
    plain = {
        THEIRS: multi_scale_deformable_attention,
        "rows (embedding_bag)": _by_rows,
        "grids (grid_sample)": _by_grids,
    }
    ways = dict(plain)
    if _deformable_kernel.load_kernels() is not None:
        ways["kernel (numba)"] = _deformable_kernel.attend
    print(f"{torch.get_num_threads()} threads, levels {LEVELS}, {HEADS} heads of {CHANNELS}, {POINTS} points")

    with torch.no_grad():
        forward = medians(ways, lambda way: way(*inputs), options.runs)
        expected = multi_scale_deformable_attention(*inputs)
        apart = {name: (way(*inputs) - expected).abs().max().item() for name, way in ways.items()}
    trained = medians(plain, lambda way: with_gradients(way, inputs), max(3, options.runs // 3))

    print(f"{'':24} {'ms':>7} {'speed-up':>9} {'difference':>11} {'ms with gradients':>18} {'speed-up':>9}")
    for name, seconds in forward.items():
        line = f"{name:24} {1000 * seconds:7.1f} {forward[THEIRS] / seconds:8.1f}x {apart[name]:11.0e}"
        if name in trained:
            line += f" {1000 * trained[name]:18.0f} {trained[THEIRS] / trained[name]:8.1f}x"
        print(line)
    best = min(forward, key=lambda name: forward[name])
    print(f"speed-up {forward[THEIRS] / forward[best]:.1f}x max difference {apart[best]:.0e}")


def layer_inputs() -> Inputs:
    """Every position looks around itself, a few positions of each level far."""
    draw = torch.Generator().manual_seed(0)
    positions = sum(height * width for height, width in LEVELS)
    value = torch.randn(1, positions, HEADS, CHANNELS, generator=draw)
    centres = torch.cat([centres_of(*shape) for shape in LEVELS])
    sizes_l2 = torch.tensor([(width, height) for height, width in LEVELS])
    offsets = 2 * torch.randn(1, positions, HEADS, len(LEVELS), POINTS, 2, generator=draw)
    weights = torch.rand(1, positions, HEADS, len(LEVELS), POINTS, generator=draw)
    return (
        value,
        LEVELS,
        centres[:, None, None, None] + offsets / sizes_l2[:, None],
        weights / weights.sum((3, 4), True),
    )


def centres_of(height: int, width: int) -> Tensor:
    """x and y of all positions of a level, row by row."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def with_gradients(way: Way, inputs: Inputs) -> None:
    """Forward and backward."""
    value, shapes, locations, weights = inputs
    value, locations, weights = (tensor.detach().requires_grad_() for tensor in (value, locations, weights))
    torch.autograd.grad(way(value, shapes, locations, weights).square().sum(), (value, locations, weights))


def medians(ways: dict[str, Way], work: Callable[[Way], object], runs: int) -> dict[str, float]:
    """Seconds of each, taking turns; the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            work(way)
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: median(seconds) for name, seconds in times.items()}


if __name__ == "__main__":
    main()
