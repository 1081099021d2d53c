"""How long the propagation network takes a frame, part by part, and how much memory.

    python benchmarks/propagation.py --objects 1 3 10 [--network deva|small] [--precision fp32|bf16|fp16]

A noise video of 480×854 is followed with random weights, which takes as long as with trained ones. Memory is filled
first, so that frames cost what they cost for ever. Parts: *encode* is once a frame, *read* and *decode* once for all
objects of a frame, *memorise* is spread over the frames of a round. The last line is the total for the last number of
objects.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec, TypeVar, get_args

import numpy as np
import torch

from maskstream.propagation.memory_policy import MemoryPolicy
from maskstream.propagation.network import NetworkConfig, PropagationNetwork
from maskstream.propagation.network_propagator import NetworkPropagator, NetworkState, Precision
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


def measure(propagator: NetworkPropagator, objects: int, size_hw: tuple[int, int], rounds: int) -> dict[str, float]:
    """Milliseconds a frame of each part, over whole rounds of memory."""
    rng = np.random.default_rng(0)
    frames = [Frame(n, n / 24, rng.integers(0, 256, (*size_hw, 3), np.uint8)) for n in range(4)]
    features = propagator.encode(frames[0])
    masks = torch.zeros((objects, *propagator.size_hw(features)))
    for n in range(objects):
        masks[n, 10 + 9 * n : 90 + 9 * n, 10 + 17 * n : 110 + 17 * n] = 1
    state = propagator.write(propagator.start(), features, masks / masks.sum(0).clamp(min=1), range(1, objects + 1))
    policy, every = propagator.policy, propagator.policy.every
    propagator.policy = replace(policy, every=1)  # fills memory faster
    for n in range(policy.frames + 1):
        state, _ = propagator.read(state, propagator.encode(frames[n % len(frames)]))
    propagator.policy = policy
    watch = Stopwatch()
    propagator.network.decode = watch.timed("decode", propagator.network.decode)  # type: ignore[method-assign]
    memorised = watch.timed("memorise", propagator._memorised)
    propagator._memorised = memorised  # type: ignore[method-assign]
    encode, read = watch.timed("encode", propagator.encode), watch.timed("read", propagator.read)
    for n in range(every * rounds):
        state, _ = read(state, encode(frames[n % len(frames)]))
    watch.seconds["read"] -= watch.seconds["decode"] + watch.seconds["memorise"]
    report_state(propagator, state, size_hw, objects)
    return {what: 1000 * seconds / (every * rounds) for what, seconds in watch.seconds.items()}


def report_state(propagator: NetworkPropagator, state: NetworkState, size_hw: tuple[int, int], objects: int) -> None:
    """What the state has come to, and what it may."""
    budget = propagator.state_bytes(size_hw, objects=objects)
    print(f"{objects} objects: state {state.nbytes / 1e6:.0f} MB of at most {budget / 1e6:.0f} MB", file=sys.stderr)


def main() -> None:
    """Measure every number of objects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--network", choices=CONFIGS, default="deva")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument("--size", default="480x854", help="height x width")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of memory, five frames each")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    height, width = map(int, options.size.split("x"))
    total = 0.0
    print(f"{'objects':>8} {'encode':>8} {'read':>8} {'decode':>8} {'memorise':>9} {'total':>8}   ms a frame")
    for objects in options.objects:
        torch.manual_seed(0)
        network = PropagationNetwork(CONFIGS[options.network]()).eval().requires_grad_(False)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        propagator = NetworkPropagator(
            network.to(device), policy=MemoryPolicy(long_term_tokens=2000), precision=options.precision
        )
        parts = measure(propagator, objects, (height, width), options.rounds)
        total = sum(parts.values())
        cells = " ".join(
            f"{parts[what]:{8 + (what == 'memorise')}.0f}" for what in ("encode", "read", "decode", "memorise")
        )
        print(f"{objects:8} {cells} {total:8.0f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process {peak:.0f} MB")
    print(f"total {total:.0f} ms/frame")


if __name__ == "__main__":
    main()
