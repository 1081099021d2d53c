"""What one set of weights makes of a video when it is asked for each of its tasks: a strip of frames for each.

    python benchmarks/strips.py tarvis WEIGHTS OUT.jpg [--level medium] [--video 0] [--shown 5]
    python benchmarks/strips.py univs WEIGHTS OUT.jpg

The video is one of those that the tables are measured on, and was seen by nobody in training. The first strip is the
truth. Of masks and points, those of the first frame on which an object is seen are given; a ring shows a point.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.api import load
from maskstream.files import atomic_path
from maskstream.sinks.draw import draw_overlay
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.world import LEVELS
from maskstream.types import FrameSegmentation, PointPrompt, Prompt, Task, TextPrompt, VideoSegmenter
from tasks import Known, given_masks, given_points, segmented, videos

Picture = NDArray[np.uint8]

FRAMES, GAP, HEAD = 24, 4, 18
"""Frames of a video; pixels between pictures; height of what stands above a strip."""

TASKS = {
    "tarvis": (Task.VIS, Task.VPS, Task.VSS, Task.VOS, Task.PET),
    "univs": (Task.VIS, Task.VPS, Task.VSS, Task.VOS, Task.PVOS, Task.REFVOS),
}


def answers(system: VideoSegmenter, video: Known, task: Task) -> tuple[str, list[FrameSegmentation], list[Prompt]]:
    """What is said above the strip, what is found, and what was given."""
    if task is Task.REFVOS:
        said = video.said[0].text
        return f'refvos: "{said}"', segmented(system, video, task, [TextPrompt(said, "expression", "0")]), []
    given: Mapping[int, Prompt] = {}
    if task.is_prompted:
        given = given_points(video, task) if task is Task.PET else given_masks(video, task)
    prompts = list(given.values())
    asked = Task.VOS if task is Task.PET else task
    return str(task.value), segmented(system, video, asked, prompts), prompts


def strip(title: str, video: Known, found: Sequence[FrameSegmentation], shown: int, given: Sequence[Prompt]) -> Picture:
    """Some frames side by side, below a title."""
    categories = WORLD if any(s.category is not None for result in found for s in result.segments) else None
    pictures = []
    for index in np.linspace(0, len(video.frames) - 1, shown).round().astype(int).tolist():
        drawn = draw_overlay(video.frames[index].image, found[index], labels=False, categories=categories)
        for prompt in given:
            if isinstance(prompt, PointPrompt) and prompt.frame_index == index:
                ((x, y),) = prompt.points_xy
                cv2.circle(drawn, (round(x), round(y)), 4, (255, 255, 255), 1, cv2.LINE_AA)
        pictures += [drawn, np.full((drawn.shape[0], GAP, 3), 255, np.uint8)]
    beside = np.concatenate(pictures[:-1], axis=1)
    head = np.full((HEAD, beside.shape[1], 3), 255, np.uint8)
    cv2.putText(head, title, (2, HEAD - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (20, 20, 20), 1, cv2.LINE_AA)
    return np.concatenate([head, beside])


def main() -> None:
    """Ask, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=list(TASKS))
    parser.add_argument("weights")
    parser.add_argument("output", type=Path)
    parser.add_argument("--level", default="medium", choices=LEVELS)
    parser.add_argument("--video", type=int, default=0, help="which of those that are measured")
    parser.add_argument("--shown", type=int, default=5, help="frames of a strip")
    options = parser.parse_args()
    video = videos(options.video + 1, options.level, FRAMES)[options.video]
    system = load(options.model, weights=options.weights)
    rows = [strip("truth", video, [one.segmentation for one in video.truth], options.shown, [])]
    for task in TASKS[options.model]:
        title, found, given = answers(system, video, task)
        rows.append(strip(title, video, found, options.shown, given))
    sheet = np.concatenate(rows)
    with atomic_path(options.output) as path:
        done, code = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 72])
        assert done
        path.write_bytes(code.tobytes())
    print(f"{options.output}: {sheet.shape[1]}×{sheet.shape[0]}, {options.output.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
