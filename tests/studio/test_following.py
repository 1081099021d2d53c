"""Masks that jobs find: as `OfflineDeva` does it, only where they must, and safe whatever happens meanwhile."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskstream.metrics import region_similarity
from maskstream.propagation import FlowPropagator
from maskstream.studio.editing import Editor
from maskstream.studio.following import Following
from maskstream.studio.jobs import BusyError, Event, Jobs
from maskstream.studio.project import Project
from maskstream.studio.records import Found, found_key
from maskstream.synthetic import render_sample
from maskstream.systems.deva import Deva, OfflineDeva
from maskstream.types import (
    OBJECT,
    CategorySet,
    FrameSegmentation,
    InputError,
    MaskPrompt,
    Segment,
    Task,
)
from maskstream.video import open_video

from .parts import FRAMES, SIZE, Bench, Propagator, rectangle

BOX = {"kind": "box", "box": [2, 3, 6, 8]}
SAMPLE = (64, 96)


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def boxed(frame: int, since: int) -> np.ndarray:
    """`BOX`, given on a frame, as the propagator moves it."""
    moved = np.zeros((SIZE[0], SIZE[1] + 40), bool)
    moved[3:8, 20 + 2 + frame - since : 20 + 6 + frame - since] = True
    return moved[:, 20 : 20 + SIZE[1]]


def about(bench: Bench, frame: int, object_id: int = 1) -> Found:
    value = bench.project.store.get(found_key(object_id, frame))
    assert value is not None
    return Found.from_bytes(value)


def summary(bench: Bench, object_id: int = 1) -> dict[str, object]:
    return next(it for it in bench.project.summary()["objects"] if it["id"] == object_id)


def looked_at(bench: Bench, work: Callable[[], object]) -> list[int]:
    """The frames that the propagator is shown meanwhile."""
    before = len(bench.propagator.looked_at)  # type: ignore[attr-defined]
    work()
    looked: list[int] = bench.propagator.looked_at[before:]  # type: ignore[attr-defined]
    return looked


# ------------------------------------------------------------------- propagation


@pytest.mark.parametrize(
    ("direction", "reached"),
    [("forward", [4, 5, 6, 7]), ("backward", [0, 1, 2]), ("both", [0, 1, 2, 4, 5, 6, 7])],
)
def test_an_object_is_carried_the_way_that_is_asked(bench, direction, reached):
    bench.editor.prompt(3, None, [BOX])
    assert bench.propagate(0, 7, direction)["outcome"] == "done"
    assert bench.project.annotated_frames() == sorted([3, *reached])
    for frame in reached:
        assert np.array_equal(bench.project.masks(frame)[1], boxed(frame, 3))
    assert bench.project.summary()["undo"] == ("propagate" if direction == "both" else f"propagate {direction}")


def test_a_range_is_kept_to_and_what_is_given_outside_counts(bench):
    bench.editor.prompt(0, None, [BOX])
    looked = looked_at(bench, lambda: bench.propagate(3, 5))
    assert looked == [0, 1, 2, 3, 4, 5]
    assert bench.project.annotated_frames() == [0, 3, 4, 5]
    assert np.array_equal(bench.project.masks(5)[1], boxed(5, 0))


def test_events_stream_while_it_runs(bench):
    bench.editor.prompt(3, None, [BOX])
    job = bench.following.propagate(None, 0, FRAMES - 1, "both")
    ended = bench.ended(job)
    assert (ended["outcome"], ended["message"], ended["what"]) == ("done", "", "propagate")
    progress = [event for event in bench.events if event["type"] == "job"]
    assert [event["done"] for event in progress] == list(range(1, 10))  # 4 backward, 5 forward
    assert {event["total"] for event in progress} == {9}
    frames = {frame for event in bench.events if event["type"] == "masks" for frame in event["frames"]}
    assert frames == {0, 1, 2, 4, 5, 6, 7}


def sample_project(folder: Path, frames: int) -> tuple[Project, list[FrameSegmentation]]:
    (folder / "video").mkdir(parents=True)
    truth = []
    for frame, annotation in render_sample(frames=frames, size_hw=SAMPLE, objects=2):
        Image.fromarray(frame.image).save(folder / "video" / f"{frame.index:03d}.png")
        truth.append(annotation.segmentation)
    return Project.create(folder / "project", folder / "video"), truth


def true_mask(truth: FrameSegmentation, object_id: int) -> np.ndarray:
    for segment, mask in zip(truth.segments, truth.masks_nhw(), strict=True):
        if segment.track_id == object_id:
            return np.asarray(mask)
    return np.zeros(SAMPLE, bool)


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
@pytest.mark.parametrize("given", [[4], [2, 9]], ids=["one frame", "two frames"])
def test_masks_are_those_of_offline_deva(tmp_path, given, direction):
    """Byte for byte, with the propagator of the package; frames of another size than it works at."""
    project, truth = sample_project(tmp_path, 12)
    propagator, jobs = FlowPropagator(size=48), Jobs()
    editor, following = Editor(project), Following(project, jobs, propagator=lambda: propagator)
    prompts = []
    for frame in given:
        for object_id in (1, 2):
            mask = true_mask(truth[frame], object_id)
            prompts.append(MaskPrompt(frame, object_id, torch.from_numpy(mask)))
    editor.adopt([(0, {1: np.ones(SAMPLE, bool), 2: np.ones(SAMPLE, bool)})])
    for object_id in (1, 2):
        editor.clear(0, object_id)
    editor.give({(prompt.object_id, prompt.frame_index): prompt.mask.numpy() for prompt in prompts})
    job = following.propagate(None, 0, 11, direction)
    assert job.wait(60)
    offline = OfflineDeva(Deva(propagator)).run(open_video(tmp_path / "video"), prompts, direction=direction)
    for result in offline:
        ids = np.array([0, *(segment.id for segment in result.segments)])
        assert np.array_equal(ids[result.label_map().numpy()], project.label_map(result.frame_index))
    if direction == "both":
        j = [
            region_similarity(project.masks(t).get(1, np.zeros(SAMPLE, bool)), true_mask(truth[t], 1))
            for t in range(12)
        ]
        assert np.mean(j) > 0.8  # and they are right
    project.close()


# ------------------------------------------------------------------- corrections


def test_nothing_is_done_twice(bench):
    bench.editor.prompt(3, None, [BOX])
    bench.propagate()
    revision = bench.project.revision
    assert looked_at(bench, bench.propagate) == []
    assert looked_at(bench, lambda: bench.propagate(direction="forward")) == []
    assert bench.project.revision == revision


def test_a_correction_is_carried_to_its_neighbours_and_no_further(tmp_path):
    bench = Bench(tmp_path, frames=30)
    bench.editor.prompt(5, None, [BOX])
    bench.editor.prompt(20, 1, [BOX])
    bench.propagate(0, 29)
    before = {frame: about(bench, frame) for frame in range(30) if frame not in (5, 12, 20)}
    bench.editor.brush(12, 1, [(9, 9)], 2)
    assert summary(bench)["outdated"] == [[6, 11], [13, 19]]
    looked = looked_at(bench, lambda: bench.propagate(0, 29))
    # Backward from 12 to 6 and from 20 to 13, forward from 5 to 11 and from 12 to 19.
    assert sorted(looked) == sorted([*range(6, 13), *range(13, 21), *range(5, 12), *range(12, 20)])
    assert summary(bench)["outdated"] == []
    for frame, earlier in before.items():
        assert (about(bench, frame) == earlier) == (frame < 5 or frame > 20)
    bench.close()


def test_a_correction_of_one_object_leaves_others_alone(bench):
    bench.editor.prompt(0, None, [BOX])
    bench.editor.prompt(7, None, [{"kind": "box", "box": [9, 1, 13, 4]}])
    bench.propagate()
    bench.editor.brush(7, 2, [(9, 9)], 2)
    assert (summary(bench)["outdated"], summary(bench, 2)["outdated"]) == ([], [[0, 6]])
    earlier = [about(bench, frame) for frame in range(1, 8)]
    looked = looked_at(bench, bench.propagate)
    assert sorted(looked) == list(range(8))  # backward only
    assert [about(bench, frame) for frame in range(1, 8)] == earlier


def test_undoing_a_correction_brings_back_what_was_up_to_date(bench):
    bench.editor.prompt(0, None, [BOX])
    bench.propagate()
    bench.editor.brush(4, 1, [(9, 9)], 2)
    assert summary(bench)["outdated"] == [[1, 3], [5, 7]]
    bench.editor.undo()
    assert summary(bench)["outdated"] == []
    assert looked_at(bench, bench.propagate) == []


def test_a_frame_that_was_cleared_is_found_again(bench):
    bench.editor.prompt(0, None, [BOX])
    bench.propagate()
    bench.editor.clear(4, 1)
    assert looked_at(bench, bench.propagate) == [0, 1, 2, 3, 4]
    assert np.array_equal(bench.project.masks(4)[1], boxed(4, 0))


def test_another_way_is_found_where_it_makes_a_difference(bench):
    bench.editor.prompt(0, None, [BOX])
    bench.editor.prompt(4, 1, [BOX])
    bench.propagate(direction="forward")
    assert [about(bench, frame).direction for frame in (1, 2, 3, 5, 6, 7)] == ["forward"] * 6
    looked = looked_at(bench, bench.propagate)
    assert sorted(looked) == sorted([*range(1, 5), *range(4)])  # behind 4 nothing would be another
    assert [about(bench, frame).direction for frame in (1, 2, 3, 5, 6, 7)] == ["both"] * 3 + ["forward"] * 3
    assert summary(bench)["outdated"] == []


def test_forward_and_backward_are_averaged_by_distance_and_compared(bench):
    bench.editor.prompt(0, None, [BOX])
    bench.editor.prompt(4, 1, [{"kind": "box", "box": [8, 3, 12, 8]}])
    bench.propagate()
    probability = bench.project.probability(1, 1)
    assert probability is not None
    # BOX is at 3…6 on frame 1, the other at 5…8: three quarters and one.
    assert probability[5, 3:9].tolist() == [191, 191, 255, 255, 64, 64]
    agreement = about(bench, 1).agreement
    assert agreement == pytest.approx(2 / 6)
    assert about(bench, 1).blur == 0
    assert about(bench, 5).agreement is None
    doubtful = [(place["frame"], place["why"]) for place in bench.project.summary()["doubtful"]]
    assert {(1, "forward and backward disagree"), (2, "forward and backward disagree")} <= set(doubtful)


@pytest.mark.parametrize("gone_first", [False, True])
def test_what_a_person_says_is_gone_is_carried_nowhere(bench, gone_first):
    """A click takes away the last pixel on frame 4: what is between it and the other given mask follows that alone."""
    at, side = (7, [5, 6]) if gone_first else (0, [1, 2, 3])
    bench.editor.brush(at, None, [(at + 3, 3)], 0.5)
    bench.propagate()
    bench.editor.prompt(4, 1, [{"kind": "point", "x": 7, "y": 3, "positive": False}])
    assert bench.project.masks(4) == {}
    assert summary(bench)["given"] == sorted([4, at])
    outdated = summary(bench)["outdated"]
    assert outdated == [[0, 3], [5, 6]] if gone_first else [[1, 3], [5, 7]]
    assert bench.propagate()["outcome"] == "done"
    assert {f: list(bench.project.masks(f)) for f in range(FRAMES)} == {
        f: [1] if f in [at, *side] else [] for f in range(FRAMES)
    }
    assert all(bench.project.masks(f)[1][3, f + 3] for f in side)
    assert (summary(bench)["found"], summary(bench)["outdated"]) == ([[side[0], side[-1]]], [])
    assert all(about(bench, f).agreement is None for f in side)
    assert looked_at(bench, bench.propagate) == []


def test_imported_masks_are_replaced_only_where_that_is_asked(bench):
    bench.editor.adopt([(frame, {1: rectangle(0, 0, 2, 2)}) for frame in range(FRAMES)])
    bench.editor.give({(1, 2): boxed(2, 2)})
    bench.propagate(1, 4)
    assert np.array_equal(bench.project.masks(4)[1], boxed(4, 2))
    assert np.array_equal(bench.project.masks(5)[1], rectangle(0, 0, 2, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: f.propagate(None, 0, 8, "both"), "no frame 8"),
        (lambda f: f.propagate(None, 5, 4, "both"), "ends before it begins"),
        (lambda f: f.propagate(None, 0, 7, "up"), "forward, backward or both"),
        (lambda f: f.propagate([9], 0, 7, "both"), "no object 9"),
        (lambda f: f.propagate([2], 0, 7, "both"), "object 2 is not given on any frame"),
        (lambda f: f.find(0, 7), "no segmenter that finds"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(bench, call, words):
    bench.editor.prompt(0, None, [BOX])
    bench.editor.adopt([(0, {1: rectangle(0, 0, 2, 2)})])
    with pytest.raises(InputError, match=words):
        call(bench.following)
    assert bench.jobs.current is None


def test_nothing_given_is_nothing_to_propagate(bench):
    with pytest.raises(InputError, match="no object is given on any frame"):
        bench.following.propagate(None, 0, 7, "both")


# ----------------------------------------------- stopped, killed, edited meanwhile


class Paused(Propagator):
    """Waits on one frame until it is told to go on."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.there, self.go_on = threading.Event(), threading.Event()

    def encode(self, frame):
        if frame.index == self.at and not self.there.is_set():
            self.there.set()
            assert self.go_on.wait(30)
        return super().encode(frame)


def paused(folder: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Bench, Paused]:
    """A project, and a propagator that has come to a frame when it waits; everything before is written."""
    monkeypatch.setattr("maskstream.studio.following.EVERY_SECONDS", 0.0)
    propagator = Paused(at)
    return Bench(folder, propagator=propagator), propagator


def test_what_was_found_stays_when_it_is_stopped(tmp_path, monkeypatch):
    bench, propagator = paused(tmp_path, 5, monkeypatch)
    bench.editor.prompt(0, None, [BOX])
    job = bench.following.propagate(None, 0, 7, "both")
    assert propagator.there.wait(30)
    assert bench.project.annotated_frames() == [0, 1, 2, 3, 4]  # it streams
    with pytest.raises(BusyError, match="propagate is under way"):
        bench.following.propagate(None, 0, 7, "both")
    bench.jobs.stop(wait=False)
    propagator.go_on.set()
    assert bench.ended(job)["outcome"] == "stopped"
    assert bench.project.annotated_frames() == [0, 1, 2, 3, 4, 5]
    bench.propagate()
    assert bench.project.annotated_frames() == list(range(8))
    bench.editor.undo()
    bench.editor.undo()
    assert bench.project.annotated_frames() == [0]
    bench.close()


def test_stopped_before_the_pass_forward_an_object_is_not_gone_too_early(tmp_path, monkeypatch):
    bench, propagator = paused(tmp_path, 2, monkeypatch)
    bench.editor.brush(0, None, [(3, 3)], 0.5)
    bench.editor.give({(1, 7): np.zeros(SIZE, bool)})
    job = bench.following.propagate(None, 0, 7, "both")
    assert propagator.there.wait(30)
    bench.jobs.stop(wait=False)
    propagator.go_on.set()
    assert bench.ended(job)["outcome"] == "stopped"
    assert bench.project.annotated_frames() == [0, 7]
    bench.propagate()
    assert summary(bench)["found"] == [[1, 6]]
    bench.close()


def test_a_stopped_pass_backward_is_not_done_again(tmp_path, monkeypatch):
    bench, propagator = paused(tmp_path, 2, monkeypatch)
    bench.editor.prompt(0, None, [BOX])
    bench.editor.prompt(7, 1, [BOX])
    job = bench.following.propagate(None, 0, 7, "both")
    assert propagator.there.wait(30)
    assert [about(bench, frame).direction for frame in (3, 4, 5, 6)] == ["backward"] * 4  # shown at once
    bench.jobs.stop(wait=False)
    propagator.go_on.set()
    bench.ended(job)
    assert summary(bench)["outdated"] == []
    looked = looked_at(bench, bench.propagate)
    assert sorted(looked) == sorted([*range(1, 8), *range(7)])  # backward for the sake of 1
    whole = Bench(tmp_path / "whole") if (tmp_path / "whole").mkdir() is None else None
    assert whole is not None
    whole.editor.prompt(0, None, [BOX])
    whole.editor.prompt(7, 1, [BOX])
    whole.propagate()
    for frame in range(8):
        assert np.array_equal(whole.project.label_map(frame), bench.project.label_map(frame))
        assert frame in (0, 7) or about(whole, frame) == about(bench, frame)
    whole.close()
    bench.close()


def test_people_go_on_while_a_job_runs(tmp_path, monkeypatch):
    bench, propagator = paused(tmp_path, 3, monkeypatch)
    bench.editor.prompt(0, None, [BOX])
    bench.editor.prompt(0, None, [{"kind": "box", "box": [9, 9, 12, 12]}])
    bench.editor.prompt(0, None, [{"kind": "box", "box": [1, 9, 3, 12]}])
    job = bench.following.propagate(None, 0, 7, "forward")
    assert propagator.there.wait(30)
    bench.editor.brush(5, 1, [(1, 1)], 1)  # given on a frame that is still to come
    bench.editor.clear(2, 1)  # taken away behind it
    bench.editor.delete(2)
    bench.editor.brush(0, 3, [(14, 1)], 1)  # what it started from
    made = bench.editor.brush(6, None, [(14, 10)], 1).object_id
    propagator.go_on.set()
    assert bench.ended(job)["outcome"] == "done"
    first, third, fourth = bench.project.summary()["objects"]
    assert (first["given"], first["found"]) == ([0, 5], [[1, 1], [3, 4], [6, 7]])
    assert first["outdated"] == [[6, 7]]
    assert (third["found"], third["outdated"]) == ([[1, 7]], [[1, 7]])
    assert (fourth["id"], made, fourth["given"]) == (4, 4, [6])
    assert not [key for key, _ in bench.content() if "/2/" in key and key.split("/")[-2] == "2"]
    while bench.project.summary()["undo"]:
        bench.editor.undo()
    assert bench.content() == []
    while bench.project.summary()["redo"]:
        bench.editor.redo()
    assert bench.project.summary()["objects"] == [first, third, fourth]
    bench.close()


def test_undo_stops_a_propagation_and_takes_it_away(tmp_path, monkeypatch):
    bench, propagator = paused(tmp_path, 4, monkeypatch)
    bench.editor.prompt(0, None, [BOX])
    job = bench.following.propagate(None, 0, 7, "forward")
    assert propagator.there.wait(30)
    threading.Timer(0.05, propagator.go_on.set).start()
    change = bench.editor.undo()
    assert (change.label, bench.ended(job)["outcome"]) == ("propagate forward", "stopped")
    assert (bench.project.annotated_frames(), change.frames) == ([0], (1, 2, 3, 4))
    bench.close()


def test_a_model_that_fails_says_so_and_leaves_what_was_found(bench, monkeypatch):
    bench.editor.prompt(0, None, [BOX])
    looked = bench.propagator.encode

    def encode(frame):
        if frame.index == 4:
            raise RuntimeError("out of memory")
        return looked(frame)

    monkeypatch.setattr(bench.propagator, "encode", encode)
    ended = bench.propagate()
    assert (ended["outcome"], ended["message"]) == ("failed", "propagate failed: out of memory")
    assert bench.project.annotated_frames() == [0, 1, 2, 3]
    assert bench.jobs.current is None


def test_parts_that_cannot_be_loaded_fail_the_job(bench):
    def missing():
        raise InputError("there is no propagator 'x'")

    following = Following(bench.project, bench.jobs, propagator=missing)
    bench.editor.prompt(0, None, [BOX])
    ended = bench.ended(following.propagate(None, 0, 7, "both"))
    assert (ended["outcome"], ended["message"]) == ("failed", "there is no propagator 'x'")


KILLED = """
import sys
from pathlib import Path
from maskstream.studio import following
from tests.studio.parts import Bench, Propagator
following.EVERY_SECONDS = 0.0
class Endless(Propagator):
    def encode(self, frame):
        print(frame.index, flush=True)
        if frame.index == 5:
            sys.stdin.read()
        return super().encode(frame)
bench = Bench(Path(sys.argv[1]), propagator=Endless())
bench.editor.prompt(0, None, [{"kind": "box", "box": [2, 3, 6, 8]}])
bench.following.propagate(None, 0, 7, "forward").wait()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not killed that way")
def test_a_process_that_is_killed_in_a_job_leaves_what_was_found(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert [int(process.stdout.readline()) for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    bench = Bench(tmp_path)
    assert bench.project.annotated_frames() == [0, 1, 2, 3, 4]
    assert bench.project.summary()["undo"] == "propagate forward"
    for frame in range(5):
        assert np.array_equal(bench.project.masks(frame)[1], boxed(frame, 0))
    bench.propagate(direction="forward")
    assert bench.project.annotated_frames() == list(range(8))
    for _ in range(2):
        bench.editor.undo()
    assert bench.project.annotated_frames() == [0]
    bench.editor.undo()
    assert bench.content() == []
    bench.close()


# ------------------------------------------------------------------------ finding


class Scripted:
    """Finds what a script says: for each frame masks and categories by track."""

    open_vocabulary = False

    def __init__(
        self,
        script: dict[int, dict[int, tuple[np.ndarray, int | None]]],
        *,
        tasks: frozenset[Task] = frozenset({Task.UVOS}),
        space: CategorySet = OBJECT,
    ) -> None:
        self.tasks = tasks
        self.label_spaces: Mapping[str, CategorySet] = {space.name: space}
        self.script = script
        self.asked: list[tuple[Any, ...]] = []
        self.prompts: list[object] = []

    def start(self, task, *, size_hw, fps=None, categories=None, soft=False, seed=0):
        self.asked.append((task, size_hw, fps, categories))
        return self

    latency = 1

    def prompt(self, prompts):
        self.prompts += prompts
        self.held: list[FrameSegmentation] = []

    def step(self, frame, *, force_key=False):
        self.held.append(self._result(frame.index))
        return [self.held.pop(0)] if len(self.held) > 1 else []

    def finish(self):
        yield from self.held

    def _result(self, index: int) -> FrameSegmentation:
        found = self.script.get(index, {})
        segments = tuple(Segment(track, track, category) for track, (_, category) in found.items())
        masks = [torch.from_numpy(mask) for mask, _ in found.values()]
        nothing = torch.zeros((0, *SIZE), dtype=torch.bool)
        return FrameSegmentation.from_masks(index, segments, torch.stack(masks) if masks else nothing)


LEFT, RIGHT = rectangle(0, 2, 5, 9), rectangle(9, 2, 14, 9)


def blinking() -> Scripted:
    """Two objects, on some frames."""
    script = {frame: {3: (LEFT, None)} if frame % 2 else {3: (LEFT, None), 8: (RIGHT, None)} for frame in range(FRAMES)}
    return Scripted(script)  # type: ignore[arg-type]


def test_everything_is_found(tmp_path):
    animals = CategorySet.from_names(["cat", "dog"])
    script = {1: {5: (LEFT, 2)}, 2: {5: (LEFT, 2), 6: (RIGHT, 1)}, 3: {6: (RIGHT, 1), 7: (LEFT & RIGHT, 1)}}
    finder = Scripted(script, tasks=frozenset({Task.VPS, Task.VSS}), space=animals)  # type: ignore[arg-type]
    bench = Bench(tmp_path, segmenter=finder)
    ended = bench.ended(bench.following.find(1, 3))
    assert (ended["outcome"], ended["what"]) == ("done", "find everything")
    assert finder.asked == [(Task.VPS, SIZE, 24.0, animals)]
    dog, cat = bench.project.summary()["objects"]
    assert (dog["id"], dog["category"], dog["found"], dog["outdated"]) == (1, "dog", [[1, 2]], [])
    assert (cat["id"], cat["category"], cat["found"]) == (2, "cat", [[2, 3]])
    assert np.array_equal(bench.project.masks(2)[2], RIGHT)
    assert bench.project.summary()["undo"] == "find everything"
    bench.editor.undo()
    assert bench.content() == []
    bench.close()


def test_what_is_there_already_is_not_found_again(tmp_path):
    bench = Bench(tmp_path, segmenter=blinking())
    bench.editor.brush(0, None, [(11, 5)], 3)
    bench.editor.give({(1, 0): RIGHT})
    bench.ended(bench.following.find(0, 7))
    assert [(it["id"], it["found"]) for it in bench.project.summary()["objects"]] == [(1, []), (2, [[0, 7]])]
    bench.close()


def test_numbers_of_found_objects_and_those_that_people_make_meanwhile_differ(tmp_path):
    finder = blinking()
    bench = Bench(tmp_path, segmenter=finder)
    step, made = finder.step, []

    def step_and_make(frame, *, force_key=False):
        if frame.index in (1, 3):
            made.append(bench.editor.brush(7, None, [(3 * frame.index, 1)], 1).object_id)
        return step(frame, force_key=force_key)

    finder.step = step_and_make  # type: ignore[method-assign]
    finder.script[0] = {3: (LEFT, None)}  # the other comes on frame 2
    bench.ended(bench.following.find(0, 6))
    ids = [it["id"] for it in bench.project.summary()["objects"]]
    assert (len(ids), len(set(made))) == (4, 2)
    assert {it["id"]: bool(it["given"]) for it in bench.project.summary()["objects"]} == {i: i in made for i in ids}
    while bench.project.summary()["undo"]:
        bench.editor.undo()
    assert bench.content() == []
    bench.close()


ANIMALS = CategorySet.from_names(["cat", "dog"])


@pytest.mark.parametrize(
    ("text", "tasks", "space", "open_vocabulary", "expected"),
    [
        pytest.param("dog", {Task.VPS}, ANIMALS, False, (Task.VPS, ["dog"], []), id="a class that it knows"),
        pytest.param("dog, cat", {Task.VPS}, ANIMALS, False, (Task.VPS, ["cat", "dog"], []), id="two"),
        pytest.param("fox", {Task.UVOS}, OBJECT, True, (Task.UVOS, ["fox"], []), id="it reads"),
        pytest.param(
            "the fox", {Task.VPS, Task.REFVOS}, ANIMALS, False, (Task.REFVOS, None, ["the fox"]), id="a sentence"
        ),
        pytest.param(None, {Task.UVOS}, OBJECT, False, (Task.UVOS, None, []), id="anything"),
        pytest.param("fox", {Task.VPS}, ANIMALS, False, "does not know 'fox'; it knows cat, dog", id="unknown"),
        pytest.param("fox", {Task.UVOS}, OBJECT, False, "it knows nothing by name", id="no names"),
        pytest.param(None, {Task.OWVS}, OBJECT, True, "finds what it is told", id="has to be told"),
        pytest.param(None, {Task.VOS}, OBJECT, False, "finds nothing by itself", id="follows only"),
    ],
)
def test_words_are_classes_or_sentences(tmp_path, text, tasks, space, open_vocabulary, expected):
    finder = Scripted({0: {1: (LEFT, None)}}, tasks=frozenset(tasks), space=space)
    finder.open_vocabulary = open_vocabulary
    bench = Bench(tmp_path, segmenter=finder)
    ended = bench.ended(bench.following.find(0, 2, text))
    if isinstance(expected, str):
        assert ended["outcome"] == "failed"
        assert expected in ended["message"]
    else:
        assert ended["outcome"] == "done"
        ((task, _, _, categories),) = finder.asked
        names = None if categories is None else list(categories.names)
        assert (task, names, [prompt.text for prompt in finder.prompts]) == expected  # type: ignore[attr-defined]
        (it,) = bench.project.summary()["objects"]
        assert it["category"] == ("the fox" if text == "the fox" else "")
    bench.close()


def test_an_empty_text_is_refused(tmp_path):
    bench = Bench(tmp_path, segmenter=blinking())
    with pytest.raises(InputError, match="text is empty"):
        bench.following.find(0, 2, "  ")
    bench.close()


def test_the_model_of_the_package_finds_what_moves(tmp_path):
    """End to end, with the propagator and the segmenter that need no weights; pictures are too small for others."""
    from maskstream.api import load

    project, truth = sample_project(tmp_path, 10)
    jobs = Jobs()
    events: list[Event] = []
    jobs.listen(events.append)
    following = Following(
        project,
        jobs,
        propagator=lambda: FlowPropagator(size=48),
        segmenter=lambda: load(segmenter="motion", size=48),
    )
    began = time.monotonic()
    assert following.find(0, 9).wait(120)
    assert events[-1]["outcome"] == "done", events[-1]
    assert time.monotonic() - began < 120
    objects = project.summary()["objects"]
    best = max(
        region_similarity(mask, true_mask(truth[5], object_id))
        for mask in project.masks(5).values()
        for object_id in (1, 2)
    )
    assert objects
    assert best > 0.5
    project.close()
