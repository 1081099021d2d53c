"""What people do: each action is all there or not at all, and everything can be undone and done again."""

import contextlib
import itertools
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.segmenters import GrabCutSegmenter
from maskstream.studio.editing import KEPT_FEATURES, Editor
from maskstream.studio.project import Project
from maskstream.studio.records import Found, found_key, read_soft
from maskstream.types import InputError, MaskPrompt

from .parts import FRAMES, SIZE, Bench, pictures, rectangle

BOX = {"kind": "box", "box": [2, 3, 6, 8]}
BOXED = rectangle(2, 3, 6, 8)


def point(x: float, y: float, *, positive: bool = True) -> dict[str, object]:
    return {"kind": "point", "x": x, "y": y, "positive": positive}


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def shown(bench: Bench, frame: int) -> dict[int, list[tuple[int, int]]]:
    """The pixels of each object on a frame."""
    return {i: of(mask) for i, mask in bench.project.masks(frame).items()}


def of(mask: np.ndarray) -> list[tuple[int, int]]:
    return sorted((y, x) for y, x in np.argwhere(mask).tolist())


# ------------------------------------------------------------------------ pointing


def test_a_box_makes_an_object_that_clicks_refine_together(bench):
    first = bench.editor.prompt(3, None, [BOX])
    assert (first.frames, first.object_id, first.label, first.revision) == ((3,), 1, "box around object 1", 1)
    second = bench.editor.prompt(3, 1, [point(10, 9)])
    assert second.label == "click on object 1"
    third = bench.editor.prompt(3, 1, [point(2, 3, positive=False)])
    expected = BOXED.copy()
    expected[9, 10], expected[3, 2] = True, False
    assert shown(bench, 3) == {1: of(expected)}
    # all of them were asked together, with the mask so far
    kinds = [type(prompt).__name__ for prompt in bench.prompter.asked[-1]]
    assert kinds == ["MaskPrompt", "BoxPrompt", "PointPrompt", "PointPrompt"]
    said = [BOX | {"box": [2.0, 3.0, 6.0, 8.0]}, point(10, 9), point(2, 3, positive=False)]
    assert bench.project.prompts(3) == [{"object": 1, "prompts": said}]
    assert (third.revision, bench.project.prompts(2)) == (3, [])


def test_a_picture_is_encoded_once_for_all_clicks(bench):
    for x in range(5):
        bench.editor.prompt(3, None if x == 0 else 1, [point(x, 1)])
    bench.editor.prompt(4, 1, [point(1, 1)])
    assert bench.prompter.encoded == [3, 4]
    for frame in range(KEPT_FEATURES):  # 3 was given up for 2
        bench.editor.prompt(frame, 1, [point(9, 9)])
    bench.editor.prompt(0, 1, [point(8, 9)])
    assert bench.prompter.encoded == [3, 4, 0, 1, 2, 3]


def test_said_again_is_said_once(bench):
    bench.editor.prompt(3, None, [point(1, 1)])
    bench.editor.prompt(3, 1, [point(1, 1), point(2, 2)])
    assert [prompt["x"] for prompt in bench.project.prompts(3)[0]["prompts"]] == [1, 2]
    with pytest.raises(InputError, match="nothing new is pointed at"):
        bench.editor.prompt(3, 1, [point(2, 2)])


def test_a_new_box_begins_anew(bench):
    bench.editor.prompt(3, None, [point(10, 9), point(11, 9)])
    bench.editor.prompt(3, 1, [BOX])
    assert shown(bench, 3) == {1: of(BOXED)}
    assert [prompt["kind"] for prompt in bench.project.prompts(3)[0]["prompts"]] == ["box"]


def test_clicks_refine_what_was_found(bench):
    bench.editor.prompt(3, None, [BOX])
    bench.propagate()
    bench.editor.prompt(4, 1, [point(3, 3, positive=False)])
    moved = rectangle(3, 3, 7, 8)
    moved[3, 3] = False
    assert shown(bench, 4) == {1: of(moved)}
    assert isinstance(bench.prompter.asked[-1][0], MaskPrompt)


def test_a_brush_paints_and_erases(bench):
    bench.editor.brush(0, None, [(2, 5), (9, 5)], 0.5)
    assert shown(bench, 0) == {1: [(5, x) for x in range(2, 10)]}
    bench.editor.brush(0, 1, [(4, 5)], 1, erase=True)
    left = shown(bench, 0)[1]
    assert (5, 4) not in left
    assert {(5, 2), (5, 7)} <= set(left)
    bench.editor.brush(0, 1, [(5, 5)], 100, erase=True)
    assert (shown(bench, 0), bench.project.annotated_frames()) == ({}, [0])  # it is said to be nowhere
    with pytest.raises(InputError, match="nothing to erase"):
        bench.editor.brush(0, 1, [(5, 5)], 3, erase=True)


def test_a_wide_brush_is_a_disc():
    with tempfile.TemporaryDirectory() as folder:
        project = Project.create(Path(folder) / "p", pictures(Path(folder) / "v", 1, (100, 120)))
        Editor(project).brush(0, None, [(60, 50)], 20)
        y, x = np.mgrid[:100, :120]
        disc = np.hypot(x - 60, y - 50) <= 20
        found = project.masks(0)[1]
        assert np.array_equal(found, disc)
        project.close()


def test_a_brush_beside_the_picture_reaches_into_it(bench):
    bench.editor.brush(0, None, [(-3, 5), (-3, 1e9)], 4)
    assert (5, 0) in shown(bench, 0)[1]
    assert (5, 2) not in shown(bench, 0)[1]


def test_clicks_after_a_brush_refine_what_was_painted(bench):
    bench.editor.prompt(0, None, [point(1, 1)])
    bench.editor.brush(0, 1, [(5, 5)], 0.5)
    assert bench.project.prompts(0) == []
    bench.editor.prompt(0, 1, [point(8, 8)])
    assert shown(bench, 0) == {1: [(1, 1), (5, 5), (8, 8)]}


def test_a_scribble_is_taken(bench):
    stroke = {"kind": "scribble", "stroke": [[1, 1], [2, 2]], "positive": True}
    assert bench.editor.prompt(0, None, [stroke]).label == "scribble on object 1"
    assert shown(bench, 0) == {1: [(1, 1), (2, 2)]}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda e: e.prompt(8, None, [BOX]), "no frame 8"),
        (lambda e: e.prompt(0, 5, [BOX]), "no object 5; there are: 1"),
        (lambda e: e.prompt(0, None, []), "nothing new is pointed at"),
        (lambda e: e.prompt(0, None, "box"), "prompts is a list"),
        (lambda e: e.prompt(0, None, ["box"]), "a prompt is a point, a box or a scribble"),
        (lambda e: e.prompt(0, None, [{"kind": "text"}]), "not 'text'"),
        (lambda e: e.prompt(0, None, [point(16, 3)]), "outside the video, which is 16 wide"),
        (lambda e: e.prompt(0, None, [point(float("nan"), 3)]), "a point is two numbers"),
        (lambda e: e.prompt(0, None, [{"kind": "point", "x": 1}]), "a point is two numbers"),
        (lambda e: e.prompt(0, None, [{"kind": "point", "x": 1, "y": 1, "positive": "no"}]), "true or false"),
        (lambda e: e.prompt(0, None, [{"kind": "box", "box": [5, 5, 2, 2]}]), "box of object 2 is empty"),
        (lambda e: e.prompt(0, None, [{"kind": "box", "box": [1, 2, 3]}]), "a box is four numbers"),
        (lambda e: e.prompt(0, None, [{"kind": "scribble", "stroke": [[1, 2], [3]]}]), "a point is two numbers"),
        (lambda e: e.prompt(0, None, [point(1, 1, positive=False)]), "give one that is on it"),
        (lambda e: e.prompt(0, None, [{"kind": "box", "box": [0, 0, 0.5, 0.5]}]), "nothing is there"),
        (lambda e: e.brush(0, None, [], 3), "the stroke has no point"),
        (lambda e: e.brush(0, None, [(1, 1)], 0), "radius of the brush"),
        (lambda e: e.brush(0, None, [(1, 1)], float("inf")), "radius of the brush"),
        (lambda e: e.brush(0, None, [(500, 500)], 3), "nothing is there"),
        (lambda e: e.brush(0, None, [(1, 1)], 3, erase=True), "nothing to erase"),
        (lambda e: e.brush(0, None, [(0, 0)] * 10_001, 3), "10000 are the most"),
        (lambda e: e.give({(2, 0): BOXED}), "no object 2"),
        (lambda e: e.give({(1, 0): BOXED, (1, 1): BOXED[:3]}), "but the video needs"),
        (lambda e: e.adopt([(0, {1: BOXED}), (9, {1: BOXED})]), "no frame 9"),
        (lambda e: e.adopt([(0, {1: BOXED.astype(np.uint8)})]), "is uint8"),
        (lambda e: e.adopt([(0, {1: ~BOXED & BOXED})]), "every frame is empty"),
        (lambda e: e.clear(0, 1), "neither given nor found on frame 0"),
        (lambda e: e.describe(1, name=" "), "name of an object is empty"),
        (lambda e: e.describe(1, name="x" * 201), "longer than 200"),
        (lambda e: e.describe(1, colour="red"), "'red' is no colour"),
        (lambda e: e.describe(2, name="x"), "no object 2"),
        (lambda e: e.delete(2), "no object 2"),
        (lambda e: e.merge(1, []), "two different objects"),
        (lambda e: e.merge(1, [1]), "two different objects"),
        (lambda e: e.merge(1, [2]), "no object 2"),
        (lambda e: e.split(1, 3, "half"), "by time or by regions"),
        (lambda e: e.split(1, 3, "time"), "known on frames 3 to 3, so it cannot be split at 3"),
        (lambda e: e.split(1, 3, "regions"), "not in several parts on frame 3"),
        (lambda e: e.redo(), "nothing to do again"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(bench, call, words):
    bench.editor.prompt(3, None, [BOX])
    before = bench.content(), bench.project.summary()
    with pytest.raises(InputError, match=words):
        call(bench.editor)
    assert (bench.content(), bench.project.summary()) == before


def test_without_a_prompter_people_paint(bench):
    editor = Editor(bench.project)
    with pytest.raises(InputError, match="no prompter"):
        editor.prompt(0, None, [BOX])
    editor.brush(0, None, [(1, 1)], 2)


# ------------------------------------------------------------------------- objects


def test_what_an_object_is_called_can_be_changed(bench):
    bench.editor.brush(0, None, [(1, 1)], 2)
    change = bench.editor.describe(1, name=" dog ", category="animal", colour="#AABBCC")
    assert (change.frames, change.label) == ((), "describe dog")
    assert bench.editor.describe(1, visible=False).label == "hide dog"
    (it,) = bench.project.summary()["objects"]
    assert (it["name"], it["category"], it["colour"], it["visible"]) == ("dog", "animal", "#aabbcc", False)
    assert bench.project.masks(0).keys() == {1}  # hidden ones are there, too
    revision = bench.project.revision
    assert bench.editor.describe(1, name="dog").revision == revision
    assert bench.project.summary()["undo"] == "hide dog"


def test_a_deleted_object_leaves_nothing_behind_and_its_number_is_not_used_again(bench):
    bench.editor.prompt(0, None, [BOX])
    bench.propagate()
    change = bench.editor.delete(1)
    assert change.frames == tuple(range(FRAMES))
    assert [key for key, _ in bench.content()] == ["next_id"]
    assert bench.editor.brush(0, None, [(1, 1)], 2).object_id == 2
    bench.editor.undo()
    bench.editor.undo()
    assert len(bench.project.summary()["objects"]) == 1
    assert bench.project.masks(5).keys() == {1}


def test_an_object_that_is_made_again_has_the_same_number(bench):
    bench.editor.brush(0, None, [(1, 1)], 2)
    bench.editor.undo()
    assert bench.editor.redo().label == "paint object 1"
    assert bench.project.masks(0).keys() == {1}


def test_clearing_a_frame_takes_all_away_there(bench):
    bench.editor.prompt(0, None, [BOX])
    bench.propagate()
    bench.editor.clear(4, 1)
    assert bench.project.masks(4) == {}
    assert bench.project.summary()["objects"][0]["found"] == [[1, 3], [5, 7]]
    bench.editor.clear(0, 1)
    assert bench.project.prompts(0) == []
    assert bench.project.summary()["objects"][0]["given"] == []


def test_given_masks_are_taken_as_they_are(bench):
    bench.editor.brush(0, None, [(1, 1)], 2)
    masks = {(1, 2): BOXED, (1, 5): ~BOXED}
    change = bench.editor.give(masks, "import")
    assert (change.frames, change.label, bench.project.summary()["undo"]) == ((2, 5), "import", "import")
    assert all(np.array_equal(bench.project.masks(frame)[1], mask) for (_, frame), mask in masks.items())


def test_imported_masks_are_new_objects_that_are_found(bench):
    bench.editor.brush(0, None, [(1, 1)], 2)
    dog, cat = rectangle(0, 0, 5, 5), rectangle(8, 8, 12, 12)
    frames = iter([(1, {70: dog}), (2, {70: dog, 9: cat}), (3, {9: cat, 70: dog & False})])
    change = bench.editor.adopt(frames, {70: ("rex", "dog"), 9: (None, "cat")})
    assert (change.frames, change.label) == ((1, 2, 3), "import")
    _, rex, other = bench.project.summary()["objects"]
    assert (rex["id"], rex["name"], rex["category"], rex["found"]) == (2, "rex", "dog", [[1, 2]])
    assert (other["id"], other["name"], other["category"], other["found"]) == (3, "object 3", "cat", [[2, 3]])
    assert (rex["outdated"], rex["given"]) == ([], [])
    assert np.array_equal(bench.project.masks(2)[2], dog)
    bench.editor.prompt(2, 2, [point(7, 7)])  # to be corrected
    assert bench.project.summary()["objects"][1]["outdated"] == []


def test_importing_ten_thousand_masks_does_not_hold_them(tmp_path):
    """A generator that is read to the end before anything is written: nothing is there until all of it is good."""
    bench = Bench(tmp_path, frames=200)
    seen = []

    def frames():
        for frame in range(200):
            seen.append(bench.project.revision)
            yield frame, {n: rectangle(n % 8, 0, n % 8 + 2, 9) for n in range(1, 51)}

    bench.editor.adopt(frames())
    assert set(seen) == {0}
    assert bench.project.revision == 1
    assert len(bench.project.store.keys("found/")) == 10_000
    bench.close()


def test_merged_objects_are_one_wherever_one_of_them_was(bench):
    bench.editor.prompt(0, None, [BOX])
    bench.editor.brush(7, None, [(12, 10)], 1)
    bench.propagate(0, 3, "forward", objects=[1])
    bench.propagate(2, 7, "backward", objects=[2])
    bench.editor.brush(3, 2, [(1, 1)], 0.5)
    before = [bench.project.label_map(frame) > 0 for frame in range(FRAMES)]
    change = bench.editor.merge(1, [2])
    assert change.label == "merge object 2 into object 1"
    assert change.frames == tuple(range(FRAMES))
    for frame in range(FRAMES):
        assert np.array_equal(bench.project.label_map(frame) == 1, before[frame])
    (it,) = bench.project.summary()["objects"]
    assert (it["given"], it["outdated"]) == ([0, 3, 7], [])
    assert it["found"] == [[1, 2], [4, 6]]


def test_probabilities_stay_probabilities_when_merged(bench):
    bench.editor.prompt(0, None, [BOX])
    bench.editor.brush(0, None, [(12, 10)], 1)
    bench.propagate()
    first, second = (read_soft(bench.project.stored(2)[i].mask) for i in (1, 2))
    bench.editor.merge(2, [1])
    assert np.array_equal(read_soft(bench.project.stored(2)[2].mask), np.maximum(first, second))


def test_an_object_is_split_in_time(bench):
    bench.editor.prompt(0, None, [BOX])
    bench.editor.prompt(6, 1, [BOX])
    bench.editor.describe(1, category="dog")
    bench.propagate()
    before = [bench.project.label_map(frame) > 0 for frame in range(FRAMES)]
    change = bench.editor.split(1, 4, "time")
    assert (change.object_id, change.frames) == (2, (1, 2, 3, 4, 5, 6, 7))
    old, new = bench.project.summary()["objects"]
    assert (old["given"], old["found"], old["outdated"]) == ([0], [[1, 3]], [])
    assert (new["given"], new["found"], new["outdated"]) == ([6], [[4, 5], [7, 7]], [])
    assert (new["category"], bench.project.prompts(6)[0]["object"]) == ("dog", 2)
    for frame in range(FRAMES):
        assert np.array_equal(bench.project.label_map(frame) == (1 if frame < 4 else 2), before[frame])


def test_a_split_off_object_is_given_where_it_begins(bench):
    """Else nobody could propagate it."""
    bench.editor.prompt(0, None, [BOX])
    bench.propagate()
    found = bench.project.masks(3)[1]
    bench.editor.split(1, 3, "time")
    new = bench.project.summary()["objects"][1]
    assert (new["given"], new["found"]) == ([3], [[4, 7]])
    assert np.array_equal(bench.project.masks(3)[2], found)


def test_an_object_is_split_into_its_parts(bench):
    bench.editor.brush(2, None, [(2, 2), (4, 2)], 1.5)
    bench.editor.brush(2, 1, [(10, 9)], 1)
    bench.editor.brush(2, 1, [(14, 2)], 0.5)
    whole = bench.project.label_map(2) == 1
    change = bench.editor.split(1, 2, "regions")
    assert (change.object_id, change.frames) == (2, (2,))
    labels = bench.project.label_map(2)
    assert np.array_equal(labels > 0, whole)
    assert (labels[2, 3], labels[9, 10], labels[2, 14]) == (1, 2, 3)
    assert [it["given"] for it in bench.project.summary()["objects"]] == [[2], [2], [2]]


def test_specks_stay_with_the_object(bench):
    mask = rectangle(0, 0, 10, 12)
    mask[5, 14] = True  # one of 121 pixels
    bench.editor.brush(0, None, [(1, 1)], 2)
    bench.editor.give({(1, 0): mask})
    with pytest.raises(InputError, match="not in several parts"):
        bench.editor.split(1, 0, "regions")
    mask[9:11, 13:15] = True
    bench.editor.give({(1, 0): mask})
    bench.editor.split(1, 0, "regions")
    labels = bench.project.label_map(0)
    assert (labels[5, 14], labels[9, 13]) == (1, 2)


# ------------------------------------------------------------------------- history


def test_undo_says_what_it_did_and_where(bench):
    bench.editor.prompt(3, None, [BOX])
    bench.editor.describe(1, name="dog")
    change = bench.editor.undo()
    assert (change.label, change.frames, change.revision) == ("describe dog", (), 3)
    change = bench.editor.undo()
    assert (change.label, change.frames) == ("box around object 1", (3,))
    with pytest.raises(InputError, match="nothing to undo"):
        bench.editor.undo()


class Busy:
    """A job that holds still until it is stopped."""

    def __init__(self, bench: Bench) -> None:
        self.began = threading.Event()
        self.job = bench.jobs.start("wait", self.work)
        assert self.began.wait(10)

    def work(self, job):
        self.began.set()
        while True:
            time.sleep(0.001)
            job.check()


def test_undo_stops_the_job_first(bench):
    bench.editor.brush(0, None, [(1, 1)], 2)
    busy = Busy(bench)
    bench.editor.undo()
    assert bench.jobs.current is None
    assert bench.ended(busy.job)["outcome"] == "stopped"
    assert bench.project.summary()["objects"] == []


def test_an_import_within_a_job_and_undo_do_not_wait_for_each_other(bench):
    bench.editor.brush(0, None, [(1, 1)], 2)
    began = threading.Event()

    def frames():
        began.set()
        for frame in range(FRAMES):
            time.sleep(0.01)
            yield frame, {1: BOXED}

    job = bench.jobs.start("import", lambda job: (bench.editor.adopt(frames()), None)[1])
    assert began.wait(10)
    assert bench.editor.undo().label == "import"
    assert bench.ended(job)["outcome"] == "done"


def test_many_threads_edit_without_losing_anything(bench):
    def work(x: int) -> None:
        made = bench.editor.brush(0, None, [(x, 3)], 0.5).object_id
        for frame in range(1, FRAMES):
            bench.editor.brush(frame, made, [(x, 3)], 0.5)
            bench.project.summary()
            bench.project.label_map(frame)
            bench.editor.describe(made, name=f"{x} on {frame}")

    threads = [threading.Thread(target=work, args=(x,)) for x in (1, 5, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [it["given"] for it in bench.project.summary()["objects"]] == [list(range(FRAMES))] * 3
    assert {len(bench.project.masks(frame)) for frame in range(FRAMES)} == {3}


def random_action(bench: Bench, kind: int, rng: np.random.Generator) -> None:
    """One of everything that can be done; what does not fit is refused."""
    editor, ids = bench.editor, [it["id"] for it in bench.project.summary()["objects"]]
    frame, x, y = (int(rng.integers(end)) for end in (FRAMES, SIZE[1] - 4, SIZE[0] - 4))
    one = int(rng.choice(ids)) if ids else None
    other = int(rng.choice(ids)) if ids else None
    first = int(rng.integers(frame + 1))
    mask = rectangle(x, y, x + 3, y + 4)
    actions = [
        lambda: editor.prompt(frame, None, [{"kind": "box", "box": [x, y, x + 3, y + 3]}]),
        lambda: editor.prompt(frame, one, [point(x, y, positive=bool(rng.random() < 0.7))]),
        lambda: editor.brush(frame, one, [(x, y), (x + 3, y)], 1.5, erase=bool(rng.random() < 0.3)),
        lambda: editor.give({(one or 1, frame): mask, (one or 1, first): mask}),
        lambda: editor.adopt([(frame, {5: mask}), (first, {5: mask, 6: ~mask})]),
        lambda: editor.clear(frame, one or 1),
        lambda: editor.describe(one or 1, name=f"name {x}", visible=bool(rng.random() < 0.5)),
        lambda: editor.delete(one or 1),
        lambda: editor.merge(one or 1, [other or 1]),
        lambda: editor.split(one or 1, frame, "time"),
        lambda: editor.split(one or 1, frame, "regions"),
        lambda: bench.propagate(first, frame, ("forward", "backward", "both")[int(rng.integers(3))]),
        lambda: bench.ended(bench.following.find(first, frame)),
        editor.undo,
        editor.redo,
    ]
    with contextlib.suppress(InputError):
        actions[kind]()


def reading(bench: Bench) -> tuple[object, ...]:
    """Everything that somebody can see of a project."""
    summary = bench.project.summary()
    maps = tuple(bench.project.label_map(frame).tobytes() for frame in range(FRAMES))
    prompts = json.dumps([bench.project.prompts(frame) for frame in range(FRAMES)])
    return maps, prompts, json.dumps([summary["objects"], summary["doubtful"]])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 14), max_size=20), st.integers(0, 2**32 - 1))
def test_whatever_was_done_can_be_undone_to_nothing_and_done_again(kinds, seed):
    from .test_following import blinking

    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), segmenter=blinking())
        for kind in kinds:
            random_action(bench, kind, rng)
        while bench.project.summary()["redo"]:
            bench.editor.redo()
        states = [(bench.content(), reading(bench))]
        while bench.project.summary()["undo"]:
            bench.editor.undo()
            states.append((bench.content(), reading(bench)))
        assert states[-1][0] == []
        assert bench.project.summary()["objects"] == []
        for state in itertools.islice(reversed(states), 1, None):
            bench.editor.redo()
            assert (bench.content(), reading(bench)) == state
        before = reading(bench)
        bench.close()
        again = Bench(Path(folder))  # what is in memory is what is on disk
        assert (again.content(), reading(again)) == (states[0][0], before)
        again.close()


def test_real_clicks_are_quick_after_the_first(tmp_path):
    """The model that needs no weights, on a picture of 480 lines: 0.7 s where nothing else runs."""
    rng = np.random.default_rng(0)
    project = Project.create(tmp_path / "project", pictures(tmp_path / "video", 2, (480, 854)))
    editor = Editor(project, GrabCutSegmenter(size=160))
    editor.brush(0, None, [(100, 100)], 30)
    took = []
    for _ in range(3):
        x, y = rng.uniform(100, 400, 2)
        began = time.perf_counter()
        editor.prompt(0, 1, [point(x, y)])
        took.append(time.perf_counter() - began)
    assert min(took) < 2
    about = project.store.get(found_key(1, 0))
    assert about is None or Found.from_bytes(about)
    project.close()
