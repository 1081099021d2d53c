"""How fast synthetic video is drawn: frames a second by engine, device and size.

    python benchmarks/synthetic.py [--frames 8] [--clips 4] [--levels easy medium hard] [--textures PACK.npz]

Makes scenes of each level and draws them with the exact renderer, which has one frame at a time on one core, and with
the batched one on the CPU and on a GPU where there is one. Motion blur and compression are left out of both. Prints
frames a second by the clock, and the milliseconds of CPU that a frame costs, which tell more where a machine is shared.
The batched renderer should draw 100 frames/s at 128×224 on 2 cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from maskstream.synthetic.batched import batch, draw
from maskstream.synthetic.render import render
from maskstream.synthetic.scene import Scene
from maskstream.synthetic.textures_pack import load_textures
from maskstream.synthetic.world import LEVELS, make_scene

SIZES = ((128, 224), (240, 424), (480, 854))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8, help="of a clip")
    parser.add_argument("--clips", type=int, default=4, help="drawn at once on a CPU; eight times as many on a GPU")
    parser.add_argument("--levels", nargs="+", choices=list(LEVELS), default=list(LEVELS))
    parser.add_argument("--textures", type=Path, default=None, help="a texture pack to paint with")
    options = parser.parse_args()
    photos = load_textures(options.textures) if options.textures else None
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.clips} clips of {options.frames}")
    print(f"{'level':8}{'size':>9}  {'engine':28}{'frames/s':>9}{'CPU ms/frame':>14}")
    for level in options.levels:
        for size_hw in SIZES:
            aspect = size_hw[1] / size_hw[0]
            scenes = [
                replace(
                    make_scene(level=level, seed=seed, frames=options.frames, aspect=aspect, photos=photos), shutter=0
                )
                for seed in range(options.clips)
            ]
            for engine, run, times in _engines(scenes, size_hw):
                wall, cpu = _fastest(run)
                frames = times * len(scenes) * options.frames
                size = f"{size_hw[0]}×{size_hw[1]}"
                print(f"{level:8}{size:>9}  {engine:28}{frames / wall:9.1f}{1e3 * cpu / frames:14.2f}", flush=True)


def _engines(scenes: Sequence[Scene], size_hw: tuple[int, int]) -> Iterator[tuple[str, Callable[[], None], int]]:
    """Name, what draws, and how often it draws the scenes."""
    yield "exact, cpu", lambda: _render(scenes, size_hw), 1
    yield "batched, cpu", _drawer(scenes, size_hw, "cpu"), 1
    yield "batched, cpu, with stacking", lambda: _stack_and_draw(scenes, size_hw), 1
    if torch.cuda.is_available():
        yield "batched, cuda", _drawer([*scenes] * 8, size_hw, "cuda"), 8


def _render(scenes: Sequence[Scene], size_hw: tuple[int, int]) -> None:
    for scene in scenes:
        for _ in render(scene, size_hw):
            pass


def _drawer(scenes: Sequence[Scene], size_hw: tuple[int, int], device: str) -> Callable[[], None]:
    stacked = batch(scenes).to(device)

    def run() -> None:
        draw(stacked, size_hw)
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def _stack_and_draw(scenes: Sequence[Scene], size_hw: tuple[int, int]) -> None:
    draw(batch(scenes), size_hw)


def _fastest(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock and of CPU of the fastest of some runs after a first."""
    run()
    measured = []
    for _ in range(3):
        began, cpu_began = time.perf_counter(), time.process_time()
        run()
        measured.append((time.perf_counter() - began, time.process_time() - cpu_began))
    return min(wall for wall, _ in measured), min(cpu for _, cpu in measured)


if __name__ == "__main__":
    main()
