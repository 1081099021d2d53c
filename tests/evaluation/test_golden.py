"""Every protocol on rendered videos and spoilt answers, against numbers that were stored once.

The golden values of the official programs need a folder of fixtures; these are ours, and keep what was equal to them
from changing unnoticed where that folder is not. ``python -m tests.evaluation.test_golden`` writes them anew.
"""

import json
import math
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from maskstream.datasets import open_dataset
from maskstream.datasets.synthetic import BENCHMARK_OF
from maskstream.evaluation.benchmarks import protocol_for
from maskstream.evaluation.protocol import Options
from maskstream.evaluation.run import Request, evaluate
from maskstream.synthetic.layouts import write_dataset
from maskstream.synthetic.videos import synthetic_videos
from maskstream.types import FrameAnnotation, FrameSegmentation, Task, VideoSample

GOLDEN = Path(__file__).with_name("golden.json")
SHIFT = (2, -3)


def spoilt(video: VideoSample) -> VideoSample:
    """Everything two pixels lower and three to the left; on every fourth frame the last segment is lost."""

    def read(index: int) -> FrameAnnotation:
        truth = video.annotation(index).segmentation
        count = len(truth.segments) - (index % 4 == 3 and len(truth.segments) > 0)
        masks_nhw = torch.roll(truth.masks_nhw(), SHIFT, dims=(1, 2))[:count]
        return FrameAnnotation(FrameSegmentation.from_masks(index, truth.segments[:count], masks_nhw))

    return VideoSample(
        video.name,
        video.frames,
        read,
        read_expressions=video.read_expressions,
        video_id=video.video_id,
        fps=video.fps,
    )


def measured(task: Task, folder: Path) -> dict[str, float | None]:
    """Every value of every metric, by ``metric/value``."""
    videos = synthetic_videos(level="medium", seed=11, videos=2, frames=8, size_hw=(64, 114))
    write_dataset(folder / "truth", task, videos)
    dataset = open_dataset(BENCHMARK_OF[task], folder / "truth")
    protocol = protocol_for(dataset, task, Options())
    (folder / "results").mkdir()
    protocol.write_results(folder / "results", (spoilt(protocol.answers(video)) for video in dataset.videos))
    reports = evaluate(Request(dataset.name, folder / "truth", folder / "results", task=task)).reports
    return {
        f"{name}/{value}": None if math.isnan(score) else score
        for name, report in reports.items()
        for value, score in report.values.items()
    }


@pytest.mark.parametrize("task", Task, ids=lambda task: task.value)
def test_scores_of_spoilt_answers_stay_what_they_were(task, tmp_path):
    golden = json.loads(GOLDEN.read_text())[task.value]
    found = measured(task, tmp_path)
    assert found.keys() == golden.keys()
    assert {k: v for k, v in found.items() if v is None} == {k: v for k, v in golden.items() if v is None}
    numbers = {k: v for k, v in golden.items() if v is not None}
    assert {k: found[k] for k in numbers} == pytest.approx(numbers, abs=1e-9)
    assert any(0 < number < 1 for number in numbers.values())


if __name__ == "__main__":
    values = {}
    for one in Task:
        with tempfile.TemporaryDirectory() as folder:
            values[one.value] = measured(one, Path(folder))
    GOLDEN.write_text(json.dumps(values, indent=1) + "\n")
    sys.stdout.write(f"wrote {GOLDEN}\n")
