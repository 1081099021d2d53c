"""Flickering masks become tracks, and the measure of flicker."""

import math
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from maskstream.engine.stabilize import (
    OUTSIDE,
    FlickerRow,
    carried,
    disagreement,
    flicker_chart,
    flicker_rows,
    mean_flicker,
    open_masks,
    read_flicker,
    renamed_alike,
    stabilize_to_folder,
    write_flicker,
)
from maskstream.formats import read_label_png, write_label_png
from maskstream.formats.journal import Journal, JournalWriter
from maskstream.propagation import FlowPropagator
from maskstream.sinks.folder import RunFolder
from maskstream.synthetic import render_sample
from maskstream.systems.deva import Deva, DevaSettings
from maskstream.types import Frame, FrameSegmentation, InputError, LabelMap, Segment
from maskstream.video import open_video

SIZE, FRAMES, OBJECTS = (96, 136), 40, 3
MISSED, MISTAKEN = 0.2, 0.05

Labels = NDArray[np.int32]


@dataclass
class World:
    """A video, what is true, and what a detector without memory made of it.

    Attributes:
        frames: of the video.
        truth: labels of each, an object is the same number throughout.
        masks: the folder of what was found: ids are other ones on every frame.
        mistakes: frame and mask of each region that is nothing.
    """

    frames: list[Frame]
    truth: list[Labels]
    masks: Path
    mistakes: list[tuple[int, NDArray[np.bool_]]]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    rng = np.random.default_rng(1)
    made = World([], [], tmp_path_factory.mktemp("masks"), [])
    for frame, annotation in render_sample(frames=FRAMES, size_hw=SIZE, objects=OBJECTS):
        true = annotation.segmentation.panoptic_map().numpy()
        ids, found = rng.permutation(np.arange(1, 99)).tolist(), np.zeros(SIZE, np.int32)
        for number in np.unique(true[true > 0]):
            if rng.random() >= MISSED:
                found[true == number] = ids.pop()
            if rng.random() < MISTAKEN:
                (h, w), mistake = rng.integers(10, 20, 2), np.zeros(SIZE, bool)
                y, x = rng.integers(0, (SIZE[0] - h, SIZE[1] - w))
                mistake[y : y + h, x : x + w] = True
                found[mistake] = ids.pop()
                made.mistakes.append((frame.index, mistake))
        write_label_png(made.masks / f"{frame.index:05d}.png", found)
        made.frames.append(frame)
        made.truth.append(true)
    return made


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))


@pytest.fixture(scope="module")
def stabilized(world, tmp_path_factory):
    """The summary and folder of a run with the settings of the command, at a small size."""
    video = open_video(world.frames)
    detector = open_masks(world.masks, video)
    model = Deva(FlowPropagator(size=SIZE[0]), detector=detector, settings=DevaSettings(schedule="semi-online"))
    folder = RunFolder(tmp_path_factory.mktemp("out"), {"command": "stabilize"})
    return stabilize_to_folder(video, detector, model, folder), folder


def test_mistakes_go_and_nobody_changes_names(world, stabilized):
    summary, folder = stabilized
    shown = [read_label_png(folder.masks / f"{index:05d}.png") for index in range(FRAMES)]
    assert len(world.mistakes) >= 5
    believed = sum(
        any(iou(shown[index] == number, mistake) > 0.5 for number in np.unique(shown[index]) if number)
        for index, mistake in world.mistakes
    )
    assert believed <= 0.05 * len(world.mistakes)
    for number in range(1, OBJECTS + 1):
        names = {
            int(name)
            for labels, true in zip(shown, world.truth, strict=True)
            for name in np.unique(labels)
            if name and iou(labels == name, true == number) > 0.5
        }
        assert len(names) == 1
    assert summary.tracks == OBJECTS


def test_the_result_flickers_less_than_half_as_much(stabilized):
    summary, folder = stabilized
    assert summary.flicker_before > 0.2
    assert summary.flicker_after < summary.flicker_before / 2
    rows = read_flicker(folder.path / "flicker.csv")
    assert [row.frame_index for row in rows] == list(range(1, FRAMES))
    assert mean_flicker(rows) == (summary.flicker_before, summary.flicker_after)
    assert f"before {summary.flicker_before:.3f}" in folder.report.read_text()


def written(path: Path, labels: list[Labels]) -> Journal:
    """A run that left these labels."""
    with JournalWriter(path, size_hw=SIZE) as journal:
        for index, ids in enumerate(labels):
            numbers = [int(number) for number in np.unique(ids) if number]
            positions = sum((n * (ids == number) for n, number in enumerate(numbers, 1)), np.zeros(SIZE, np.int32))
            segments = tuple(Segment(number, number) for number in numbers)
            values = LabelMap(torch.from_numpy(positions.astype(np.int32)))
            journal.write(FrameSegmentation(index, SIZE, segments, values), index / 24)
    return Journal(path)


def test_perfect_tracks_hardly_flicker_and_ids_left_as_they_were_do(world, tmp_path):
    video = open_video(world.frames)
    detector = open_masks(world.masks, video)
    true = written(tmp_path / "true.jsonl", world.truth)
    left = written(tmp_path / "left.jsonl", [read_label_png(path) for path in sorted(world.masks.glob("*.png"))])
    before, perfect = mean_flicker(list(flicker_rows(video, detector, true)))
    _, unchanged = mean_flicker(list(flicker_rows(video, detector, left)))
    assert perfect < 0.15
    assert perfect < before / 2
    assert unchanged > 0.95
    assert unchanged > before


def test_a_video_that_can_be_read_only_once_is_refused(world, tmp_path):
    video = open_video(world.frames)
    detector = open_masks(world.masks, video)
    once = open_video(iter(world.frames))
    folder = RunFolder(tmp_path / "out", {"command": "stabilize"})
    with pytest.raises(InputError, match="can be read only once: save it to a file first"):
        stabilize_to_folder(once, detector, Deva(FlowPropagator(), detector=detector), folder)


# -------------------------------------------------------------- the measure


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param([1, 1, 0, 0], [1, 1, 0, 0], 0.0, id="nothing changes"),
        pytest.param([1, 1, 0, 0], [2, 2, 0, 0], 1.0, id="another id"),
        pytest.param([1, 1, 0, 0], [0, 0, 0, 0], 1.0, id="it vanishes"),
        pytest.param([1, 1, 0, 0], [1, 0, 0, 0], 0.5, id="half of it vanishes"),
        pytest.param([1, 1, 0, 0], [1, 1, 2, 2], 0.5, id="another appears"),
        pytest.param([1, OUTSIDE, 0, 0], [1, 2, 0, 0], 0.0, id="what comes into the picture does not count"),
        pytest.param([0, 0, 0, 0], [0, 0, 0, 0], math.nan, id="nothing is there"),
    ],
)
def test_disagreement_is_the_fraction_of_objects_that_changed(before, after, expected):
    value = disagreement(np.array([before], np.int32), np.array([after], np.int32))
    assert value == pytest.approx(expected, nan_ok=True)


def test_labels_are_carried_along_the_flow():
    labels = np.arange(12, dtype=np.int32).reshape(3, 4)
    flow = np.zeros((3, 4, 2), np.float32)
    flow[..., 0], flow[..., 1] = -1.2, 0.9
    expected = [[OUTSIDE, 4, 5, 6], [OUTSIDE, 8, 9, 10], [OUTSIDE] * 4]
    assert carried(labels, flow).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.int32, (3, 4), elements=st.integers(OUTSIDE, 3)),
    hnp.arrays(np.int32, (3, 4), elements=st.integers(0, 3)),
)
def test_regions_are_named_after_the_partners_they_overlap_best(before, after):
    """Every way to name three regions after three or none is tried."""
    renamed = renamed_alike(before, after)
    known = before != OUTSIDE
    assert np.array_equal(renamed == OUTSIDE, ~known)
    assert np.array_equal(renamed == 0, before == 0)

    def total(name_of: tuple[int, ...]) -> float:
        return sum(
            iou((before == n) & known, (after == name) & known)
            for n, name in enumerate(name_of, 1)
            if (before == n).any()
        )

    name_of = tuple(int(renamed[before == n][0]) if (before == n).any() else 90 + n for n in (1, 2, 3))
    assert len(set(name_of)) == 3
    assert total(name_of) == pytest.approx(max(total(names) for names in permutations((1, 2, 3))))


def test_the_table_is_read_as_it_was_written(tmp_path):
    rows = [FlickerRow(1, 0.25, math.nan), FlickerRow(2, math.nan, 0.125)]
    write_flicker(tmp_path / "flicker.csv", rows)
    assert (tmp_path / "flicker.csv").read_text() == "frame,before,after\n1,0.250000,\n2,,0.125000\n"
    assert repr(read_flicker(tmp_path / "flicker.csv")) == repr(rows)
    assert mean_flicker(rows) == (0.25, 0.125)
    assert "before 0.250" in flicker_chart(rows)
