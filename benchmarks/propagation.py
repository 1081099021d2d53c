"""How long the propagation network takes a frame, part by part, and how much memory.

    python benchmarks/propagation.py --objects 1 3 10 [--mode exact|fast] [--network deva|small] [--precision …]

A noise video of 480×854 is followed with random weights, which takes as long as with trained ones. Memory is filled
first, so that frames cost what they cost for ever. Parts: *encode* is once a frame, *read* and *decode* once for all
objects of a frame, *memorise* is spread over the frames of a round. The last line is the total for the last number of
objects.

Objects are rectangles of ``--extent``, 160×200 pixels or 8 % of the frame each. Random weights do not find them again,
so in fast mode the windows are those of the rectangles, on every frame. With ``--mode both``, exact and fast mode take
turns, round by round, and the last column is how many times as fast as the first one each is. With ``--authors
CHECKOUT`` (of hkchengrex/Tracking-Anything-with-DEVA) the authors' inference core takes its turn, too, with the same
weights on the same frames.
"""

from __future__ import annotations

import argparse
import copy
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar, get_args

import numpy as np
import torch

from maskstream.propagation import windows
from maskstream.propagation.memory_policy import MemoryPolicy
from maskstream.propagation.network import NetworkConfig, PropagationNetwork
from maskstream.propagation.network_features import padded
from maskstream.propagation.network_propagator import Mode, NetworkPropagator, NetworkState, Precision
from maskstream.types import Frame

CONFIGS = {"deva": NetworkConfig.deva, "small": NetworkConfig.small}
ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


class Stopwatch:
    """Adds up how long calls take, by what they do."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, what: str, function: Callable[ParamsT, ResultT]) -> Callable[ParamsT, ResultT]:
        """The function, with its time taken."""

        def call(*args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ResultT:
            began = time.perf_counter()
            result = function(*args, **kwargs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds[what] += time.perf_counter() - began
            return result

        return call


class Following:
    """A propagator that follows objects through noise, and the time it takes.

    Args:
        propagator: with random weights.
        objects: how many.
        size_hw: of the frames.
        extent_hw: of the objects.
    """

    def __init__(
        self, propagator: NetworkPropagator, objects: int, size_hw: tuple[int, int], extent_hw: tuple[int, int]
    ) -> None:
        rng = np.random.default_rng(0)
        self.frames = [Frame(n, n / 24, rng.integers(0, 256, (*size_hw, 3), np.uint8)) for n in range(4)]
        features = propagator.encode(self.frames[0])
        masks = rectangles(objects, propagator.size_hw(features), extent_hw)
        self.windows = windows.windows_around(padded(masks))
        state = propagator.write(propagator.start(), features, masks / masks.sum(0).clamp(min=1), range(1, objects + 1))
        policy = propagator.policy
        propagator.policy = replace(policy, every=1)  # fills memory faster
        self.propagator, self.state = propagator, state
        self._windowed(lambda: self._step(policy.frames + 1))
        propagator.policy = policy
        self.steps, self.watch = 0, Stopwatch()
        propagator.network.decode = self.watch.timed("decode", propagator.network.decode)  # type: ignore[method-assign]
        memorised = self.watch.timed("memorise", propagator._memorised)
        propagator._memorised = memorised  # type: ignore[method-assign]

    def round(self) -> None:
        """Follow them as long as frames take to cost the same again."""
        self._windowed(lambda: self._step(self.propagator.policy.every))

    def milliseconds(self) -> dict[str, float]:
        """A frame, of each part."""
        seconds = dict(self.watch.seconds)
        seconds["read"] -= seconds["decode"] + seconds["memorise"]
        return {what: 1000 * each / self.steps for what, each in seconds.items()}

    def _step(self, frames: int) -> None:
        timed = hasattr(self, "watch")
        encode, read = self.propagator.encode, self.propagator.read
        if timed:
            self.steps += frames
            encode, read = self.watch.timed("encode", encode), self.watch.timed("read", read)
        for n in range(frames):
            self.state, _ = read(self.state, encode(self.frames[n % len(self.frames)]))

    def _windowed(self, work: Callable[[], None]) -> None:
        """Do it with the windows of the objects as they were drawn."""
        found = windows.windows_around
        windows.windows_around = lambda *_: self.windows
        work()
        windows.windows_around = found


class Authors:
    """DEVA's inference core as its authors wrote it, with the weights and frames of ours.

    Args:
        checkout: of their repository.
        ours: to compare with.
        objects: how many.
        extent_hw: of the objects.
    """

    def __init__(self, checkout: Path, ours: Following, objects: int, extent_hw: tuple[int, int]) -> None:
        from propagation_golden import deva_network
        from propagation_golden_memory import core_module, their_config

        network = deva_network(checkout).eval()
        network.load_state_dict(ours.propagator.network.state_dict())
        features = [ours.propagator.encode(frame) for frame in ours.frames]
        self.images = [each.crop(each.image_b3hw)[0] for each in features]
        size_hw, policy = features[0].size_hw, ours.propagator.policy
        self.core = core_module().DEVAInferenceCore(
            network, their_config(replace(policy, every=1), frames=1)
        )  # fills memory faster
        numbers = torch.arange(1, objects + 1)
        labels = (rectangles(objects, size_hw, extent_hw).long() * numbers[:, None, None]).amax(dim=0)
        self.seconds, self.steps, self.every = 0.0, 0, policy.every
        with torch.inference_mode():
            self.core.step(self.images[0], labels, numbers.tolist())
        for _ in range(policy.frames + 1):
            self.step(0)
        self.core.mem_every = policy.every
        self.seconds, self.steps = 0.0, 0

    @torch.inference_mode()
    def step(self, index: int) -> None:
        """A frame."""
        began = time.perf_counter()
        self.core.step(self.images[index % len(self.images)])
        self.seconds += time.perf_counter() - began
        self.steps += 1

    def round(self) -> None:
        """As `Following.round`."""
        for index in range(self.every):
            self.step(index)

    def milliseconds(self) -> dict[str, float]:
        """A frame, all together."""
        return {"total": 1000 * self.seconds / self.steps}


def rectangles(objects: int, size_hw: tuple[int, int], extent_hw: tuple[int, int]) -> torch.Tensor:
    """Masks in a row from top left to bottom right, ``float32[N, H, W]``; they may overlap."""
    masks = torch.zeros(objects, *size_hw)
    for n in range(objects):
        top, left = (
            (side - extent) * (n + 1) // (objects + 1) for side, extent in zip(size_hw, extent_hw, strict=True)
        )
        masks[n, top : top + extent_hw[0], left : left + extent_hw[1]] = 1
    return masks


def parse_size(text: str) -> tuple[int, int]:
    """``480x854`` as height and width."""
    height, width = map(int, text.split("x"))
    return height, width


def report_state(propagator: NetworkPropagator, state: NetworkState, size_hw: tuple[int, int], objects: int) -> None:
    """What the state has come to, and what it may."""
    budget = propagator.state_bytes(size_hw, objects=objects)
    print(f"{objects} objects: state {state.nbytes / 1e6:.0f} MB of at most {budget / 1e6:.0f} MB", file=sys.stderr)


def main() -> None:
    """Measure every number of objects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--mode", choices=(*get_args(Mode), "both"), default="both")
    parser.add_argument("--network", choices=CONFIGS, default="deva")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument("--authors", type=Path, metavar="CHECKOUT", help="measure their code, too")
    parser.add_argument("--compiled", action="store_true", help="torch.compile")
    parser.add_argument("--size", default="480x854", help="height x width")
    parser.add_argument("--extent", default="160x200", help="of the objects, height x width")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of memory, five frames each")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size_hw, extent_hw = parse_size(options.size), parse_size(options.extent)
    modes: Sequence[Mode] = ["exact", "fast"] if options.mode == "both" else [options.mode]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    total = 0.0
    print(
        f"{'objects':>8} {'mode':>8} {'encode':>8} {'read':>8} {'decode':>8} {'memorise':>9} {'total':>8}   ms a frame"
    )
    for objects in options.objects:
        torch.manual_seed(0)
        network = PropagationNetwork(CONFIGS[options.network]()).eval().requires_grad_(False).to(device)
        followings: dict[str, Following | Authors] = {}
        for mode in modes:
            propagator = NetworkPropagator(
                copy.copy(network),  # the same weights, whose methods are timed apart
                mode=mode,
                policy=MemoryPolicy(long_term_tokens=2000),
                precision=options.precision,
                compiled=options.compiled,
            )
            followings[mode] = ours = Following(propagator, objects, size_hw, extent_hw)
        if options.authors:
            theirs = Authors(options.authors, ours, objects, extent_hw)
            followings = {"authors": theirs, **followings}
        for _ in range(options.rounds):
            for following in followings.values():
                following.round()
        report_state(ours.propagator, ours.state, size_hw, objects)
        totals = []
        for name, following in followings.items():
            parts = following.milliseconds()
            total = sum(parts.values())
            totals.append(total)
            cells = " ".join(
                f"{parts[what]:{width}.0f}" if what in parts else " " * (width - 1) + "-"
                for what, width in (("encode", 8), ("read", 8), ("decode", 8), ("memorise", 9))
            )
            print(f"{objects:8} {name:>8} {cells} {total:8.0f}   {totals[0] / total:.2f}×", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process {peak:.0f} MB")
    print(f"total {total:.0f} ms/frame")


if __name__ == "__main__":
    main()
