"""Merging runs with probabilities, and writing them while a run is under way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskstream.engine.merge_scores import merge_runs
from maskstream.formats import read_label_png
from maskstream.formats.soft_png import read_soft, write_soft
from maskstream.sinks.folder import RunFolder
from maskstream.sinks.frames import ScoreSink
from maskstream.types import (
    Frame,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    LabelMap,
    Segment,
    VideoSample,
)

SIZE = (5, 7)


def result(index: int, values: NDArray[np.uint8], ids: tuple[int, ...], size_hw: tuple[int, int] = SIZE):
    """A frame whose probabilities are these of 255."""
    labels = LabelMap(torch.zeros(size_hw, dtype=torch.int32))
    segments = tuple(Segment(number, number) for number in ids)
    return FrameSegmentation(index, size_hw, segments, labels, torch.from_numpy(values / 255).half())


def run(root: Path, *results: FrameSegmentation, name: str = "v", stems: tuple[str, ...] = ()) -> Path:
    refs = tuple(map(FrameRef, stems or tuple(f"{r.frame_index:05d}" for r in results)))
    write_soft(root, [VideoSample(name, refs, lambda index: FrameAnnotation(results[index]))])
    return root


def values(seed: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (channels, *SIZE)).astype(np.uint8)


def test_the_sum_of_all_runs_decides_and_ids_are_written(tmp_path):
    """As of uint8 maps, summed; a tie may go either way."""
    maps = [values(seed) for seed in range(3)]
    runs = [run(tmp_path / str(n), result(0, one, (4, 900))) for n, one in enumerate(maps)]
    summary = merge_runs(runs, tmp_path / "out")
    assert (summary.runs, summary.videos, summary.frames) == (3, 1, 1)
    total = np.sum(maps, axis=0, dtype=np.int64)
    merged = read_label_png(tmp_path / "out" / "v" / "00000.png")
    channel = np.select([merged == 4, merged == 900], [1, 2], 0)
    assert set(np.unique(merged)) == {0, 4, 900}
    assert np.array_equal(np.take_along_axis(total, channel[None], axis=0)[0], total.max(axis=0))
    assert not np.array_equal(channel, maps[0].argmax(axis=0))


def other_size(root: Path) -> Path:
    return run(root, result(0, values(1), (1, 2), (10, 14)))


def one_frame(root: Path, ids: tuple[int, ...], **options: object) -> Path:
    return run(root, result(0, values(1, 1 + len(ids)), ids), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        pytest.param(lambda p: one_frame(p, (1, 3)), r"b and .*a differ on frame 00000 of v: \[1, 3\]", id="ids"),
        pytest.param(lambda p: one_frame(p, (1,)), r"differ on frame 00000 of v: \[1\]", id="fewer"),
        pytest.param(lambda p: one_frame(p, (1, 2), stems=("7",)), "frames of v, such as 00000", id="frames"),
        pytest.param(other_size, "differ on frame 00000 of v: 10×14 and 5×7 pixels", id="size"),
        pytest.param(lambda p: one_frame(p, (1, 2), name="w"), "has the video v, which .*b has not", id="video"),
        pytest.param(lambda p: p, "holds no soft masks", id="no scores"),
    ],
)
def test_runs_that_disagree_are_refused_in_one_line_and_nothing_is_left(tmp_path, other, message):
    first = run(tmp_path / "a", result(0, values(0), (1, 2)))
    with pytest.raises(InputError, match=message) as refusal:
        merge_runs([first, other(tmp_path / "b")], tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_one_run_is_nothing_to_merge(tmp_path):
    first = run(tmp_path / "a", result(0, values(0), (1, 2)))
    with pytest.raises(InputError, match="nothing to merge"):
        merge_runs([first], tmp_path / "out")
    with pytest.raises(InputError, match="named twice"):
        merge_runs([first, first], tmp_path / "out")


def test_scores_of_a_run_that_is_continued_are_those_of_one_that_was_not(tmp_path):
    folder = RunFolder(tmp_path / "run", {"command": "segment"})
    results = [result(index, values(index), (1, 2)) for index in (3, 4, 5)]
    frames = [Frame(r.frame_index, 0.0, np.zeros((*SIZE, 3), np.uint8)) for r in results]
    sink = ScoreSink(folder, "v", None)
    sink.write(frames[0], results[0])
    state = sink.checkpoint()
    sink.write(frames[1], results[1])  # lost: the run was killed before the next checkpoint
    again = ScoreSink(folder, "v", state)
    for frame, one in zip(frames[1:], results[1:], strict=True):
        again.write(frame, one)
    again.write_listing(SIZE)
    video = read_soft(folder.scores)["v"]
    assert [frame.stem for frame in video.frames] == ["00003", "00004", "00005"]
    for index in range(3):
        found = video.annotation(index).segmentation.probabilities
        assert found is not None
        assert np.array_equal((found.float() * 255).round().numpy(), values(index + 3))
