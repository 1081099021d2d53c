"""Does memory stay flat: resident memory over a long video through the real engine and the default model.

    python benchmarks/memory.py [--frames 3000]

Encodes a 240p clip of that many frames (a rendered scene, forth and back), follows its objects by the masks of the
first frame while discovering others, and prints resident memory every 300 frames. Ends with exit code 1 when the last
reading is more than 10 % above that of frame 300.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import chain, cycle, islice
from pathlib import Path

import psutil

from maskstream.api import load
from maskstream.engine import segment_to_folder
from maskstream.sinks.folder import RunFolder
from maskstream.synthetic import render_sample
from maskstream.types import MaskPrompt, Task
from maskstream.video import VideoWriter, open_video

SIZE = (240, 428)


def main() -> None:
    """Encode, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3000)
    options = parser.parse_args()
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
        ]
        del scene, images, forth_and_back, first
        session = load(size=240).start(Task.UVOS, size_hw=SIZE)
        session.prompt(prompts)
        segment_to_folder(open_video(folder / "long.mp4"), session, RunFolder(folder / "out", {}), on_frame=read_memory)
    grown = readings[max(readings)] / readings[300] - 1
    print(f"frame {max(readings)} is {grown:+.1%} from frame 300 (at most +10 % is promised)")
    sys.exit(grown > 0.10)


if __name__ == "__main__":
    main()
