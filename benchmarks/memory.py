"""Does memory stay flat: resident memory over a long video through the real engine and the default model.

    python benchmarks/memory.py [--frames 3000] [--network deva|small [--objects N]]
    python benchmarks/memory.py --model tubelink|univs|tarvis --weights WEIGHTS [--task vps|vis|vss|vos] [--frames 2000]

Encodes a 240p clip of that many frames (a rendered scene, forth and back), follows its objects by the masks of the
first frame while discovering others, and prints resident memory every 300 frames. Ends with exit code 1 when the last
reading is more than 10 % above that of frame 300.

With another model everything of its categories is found, or, with ``--task vos``, the objects of the first frame are
followed. With a network, that carries the masks, and nothing is discovered. Its weights are random, which remembers as
much as trained ones; its long-term memory is cut to 1000 tokens, so that it is full at frame 300.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import chain, cycle, islice
from pathlib import Path

import psutil
import torch

from maskstream.api import load
from maskstream.engine import segment_to_folder
from maskstream.propagation.memory_policy import MemoryPolicy
from maskstream.propagation.network import NetworkConfig, PropagationNetwork
from maskstream.propagation.network_propagator import NetworkPropagator
from maskstream.sinks.folder import RunFolder
from maskstream.synthetic import render_sample
from maskstream.synthetic.scene import WORLD
from maskstream.systems.deva import Deva
from maskstream.types import OBJECT, MaskPrompt, Task, VideoSegmenter
from maskstream.video import VideoWriter, open_video

SIZE = (240, 428)
CONFIGS = {"deva": NetworkConfig.deva, "small": NetworkConfig.small}


def model(network: str | None) -> VideoSegmenter:
    """The default model, or one that follows masks with a network."""
    if network is None:
        return load(size=240)
    torch.manual_seed(0)
    random = PropagationNetwork(CONFIGS[network]()).eval().requires_grad_(False)
    return Deva(NetworkPropagator(random, policy=MemoryPolicy(long_term_tokens=1000), size=240))


def main() -> None:
    """Encode, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--network", choices=CONFIGS, help="instead of optical flow")
    parser.add_argument("--objects", type=int, help="follow so many at most, where masks are given")
    parser.add_argument("--model", default="deva", help="a system that needs weights, instead of DEVA")
    parser.add_argument("--weights", help="of it")
    parser.add_argument("--task", type=Task, default=Task.VPS, choices=[Task.VPS, Task.VIS, Task.VSS, Task.VOS])
    options = parser.parse_args()
    if options.model == "deva":
        system, task = model(options.network), Task.VOS if options.network else Task.UVOS
    else:
        system, task = load(options.model, weights=options.weights), options.task
    process = psutil.Process()
    readings: dict[int, float] = {}

    def read_memory(done: int) -> None:
        if done % 300 == 0:
            readings[done] = process.memory_info().rss / 2**20
            print(f"frame {done:6}: {readings[done]:7.1f} MiB", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = list(render_sample(frames=90, size_hw=SIZE))
        images = [frame.image for frame, _ in scene]
        forth_and_back = cycle(chain(images, images[-2:0:-1]))
        with VideoWriter(folder / "long.mp4", size_hw=SIZE) as writer:
            for number, image in enumerate(islice(forth_and_back, options.frames)):
                writer.write(image, number / 24)
        first = scene[0][1].segmentation
        prompts = [
            MaskPrompt(0, segment.id, mask)
            for segment, mask in zip(first.segments, first.masks_nhw(), strict=True)
            if mask.any()
        ][: options.objects]
        del scene, images, forth_and_back, first
        space = OBJECT if task.is_prompted or task is Task.UVOS else WORLD
        session = system.start(task, size_hw=SIZE, categories=None if space is OBJECT else space)
        if task in (Task.VOS, Task.UVOS):
            session.prompt(prompts)
        segment_to_folder(
            open_video(folder / "long.mp4"),
            session,
            RunFolder(folder / "out", {}),
            categories=space,
            on_frame=read_memory,
        )
    grown = readings[max(readings)] / readings[300] - 1
    print(f"frame {max(readings)} is {grown:+.1%} from frame 300 (at most +10 % is promised)")
    sys.exit(grown > 0.10)


if __name__ == "__main__":
    main()
