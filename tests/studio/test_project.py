"""Projects: folders with a video, and masks that are composed of what was given and found."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from maskstream.studio.editing import Editor
from maskstream.studio.history import Store
from maskstream.studio.index import Index, runs
from maskstream.studio.project import Project
from maskstream.studio.records import (
    Found,
    Object,
    Origin,
    found_key,
    given_values,
    mask_key,
    object_key,
    read_hard,
    read_soft,
    soft_bytes,
)
from maskstream.studio.studio import recorded_video
from maskstream.types import InputError, VideoError

from .parts import FRAMES, SIZE, pictures, rectangle


@pytest.fixture
def project(tmp_path):
    project = Project.create(tmp_path / "project", pictures(tmp_path / "video"))
    yield project
    project.close()


def set_objects(project: Project, *ids: int) -> None:
    with project.store.action("objects") as write:
        for object_id in ids:
            write.put(object_key(object_id), Object.new(object_id).to_bytes())


def give(project: Project, object_id: int, frame: int, mask: np.ndarray) -> None:
    with project.store.action("give") as write:
        for key, value in given_values(object_id, frame, mask, action=write.action).items():
            write.put(key, value)


def find(project: Project, object_id: int, frame: int, soft: np.ndarray, **about: object) -> None:
    key = found_key(object_id, frame)
    with project.store.action("find") as write:
        write.put(key, Found("model", float((soft > 127).mean()), **about).to_bytes())  # type: ignore[arg-type]
        write.put(mask_key(key), soft_bytes(soft.astype(np.uint8)))


# ------------------------------------------------------------------- the folder


def test_a_project_is_found_again_as_it_was_left(tmp_path):
    video = pictures(tmp_path / "video")
    project = Project.create(tmp_path / "project", video)
    change = Editor(project).brush(2, None, [(3, 4)], 2)
    before = project.summary(), project.label_map(2).tolist(), project.annotated_frames()
    project.close()
    again = Project.open(tmp_path / "project")
    assert (again.summary(), again.label_map(2).tolist(), again.annotated_frames()) == before
    assert (again.frames, again.size_hw, again.fps, again.name) == (FRAMES, SIZE, 24.0, "project")
    assert (again.revision, change.revision, again.annotated_frames()) == (1, 1, [2])
    again.close()


def test_a_video_inside_goes_where_the_folder_goes(tmp_path):
    (tmp_path / "old").mkdir()
    video = pictures(tmp_path / "old" / "video")
    Project.create(tmp_path / "old", video).close()
    shutil.move(tmp_path / "old", tmp_path / "new")
    project = Project.open(tmp_path / "new")
    assert project.video[3].image[0, 0, 0] == 3
    project.close()


def test_what_is_no_project_is_refused(tmp_path):
    video = pictures(tmp_path / "video")
    with pytest.raises(InputError, match="is not a project"):
        Project.open(tmp_path)
    with pytest.raises(InputError, match="is not there"):
        Project.create(tmp_path / "project", tmp_path / "nowhere.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError):
        Project.create(tmp_path / "project", tmp_path / "text.mp4")
    assert not (tmp_path / "project").exists()
    Project.create(tmp_path / "project", video).close()
    with pytest.raises(InputError, match="is a project already"):
        Project.create(tmp_path / "project", video)
    Project.open(tmp_path / "project").close()  # the lock was let go of


def test_a_project_that_was_not_finished_is_said_to_have_no_video(tmp_path):
    (tmp_path / "studio.sqlite").touch()
    with pytest.raises(InputError, match="does not say which video"):
        Project.open(tmp_path)
    Project.create(tmp_path, pictures(tmp_path / "video")).close()


def test_a_project_whose_record_is_of_another_kind_is_told_in_a_line(tmp_path):
    Project.create(tmp_path, pictures(tmp_path / "video")).close()
    store = Store(tmp_path / "studio.sqlite")
    store.note("video", b'{"path": "video"}')
    store.close()
    with pytest.raises(InputError, match="does not say which video"):
        Project.open(tmp_path)
    with pytest.raises(InputError, match="does not say which video"):
        recorded_video(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("object/1", b"{}"),
        ("object/one", b'{"name": "x", "category": "", "colour": "#000000"}'),
        ("given/1/0", b"\xff"),
        ("given/1/0", b"[]"),
        ("found/1/8", Found("model", 0.1).to_bytes()),
        ("found/1/0", b"[]"),
        ("found/1/0", b'{"before": null}'),
    ],
)
def test_a_damaged_record_is_told_in_a_line_and_the_folder_is_let_go_of(tmp_path, key, value):
    project = Project.create(tmp_path, pictures(tmp_path / "video"))
    project.close()
    store = Store(tmp_path / "studio.sqlite")
    with store.action("harm") as write:
        write.put(key, value)
    store.close()
    with pytest.raises(InputError, match=r"studio\.sqlite is damaged, or of another version"):
        Project.open(tmp_path)
    store = Store(tmp_path / "studio.sqlite")
    store.undo()
    store.close()
    Project.open(tmp_path).close()


def test_another_or_missing_video_is_refused(tmp_path):
    video = pictures(tmp_path / "video")
    Project.create(tmp_path / "project", video).close()
    (video / "00007.png").unlink()
    with pytest.raises(InputError, match=r"is not the one .* frames are 7, they were 8"):
        Project.open(tmp_path / "project")
    shutil.rmtree(video)
    with pytest.raises(InputError, match="video is not there: put it back"):
        Project.open(tmp_path / "project")
    pictures(video, size_hw=(10, 10))
    with pytest.raises(InputError, match=r"height and width are \[10, 10\]"):
        Project.open(tmp_path / "project")


OPEN = """
import sys
from pathlib import Path
from maskstream.studio.project import Project
Project.open(Path(sys.argv[1]))
"""


def test_a_second_process_is_refused_and_nothing_is_left_locked_by_one_that_ended(project):
    arguments = [sys.executable, "-c", OPEN, str(project.folder)]
    second = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert "is open in another maskstream studio" in second.stderr
    with pytest.raises(InputError, match="is open in another"):
        Project.open(project.folder)
    project.close()
    assert subprocess.run(arguments, check=False).returncode == 0
    Project.open(project.folder).close()


# ------------------------------------------------------------------------ masks


def test_a_lone_object_is_where_it_is_more_likely_than_not(project):
    set_objects(project, 1)
    soft = np.zeros(SIZE)
    soft[2:4, 2:6] = [100, 127, 128, 255]
    find(project, 1, 3, soft)
    assert np.array_equal(project.label_map(3), np.where(soft > 127, 1, 0))
    assert np.array_equal(project.masks(3)[1], soft > 127)
    probability = project.probability(1, 3)
    assert probability is not None
    assert np.array_equal(probability, soft)
    assert (project.masks(4), project.probability(1, 4)) == ({}, None)


def test_probabilities_compete_at_their_own_size(project):
    """At half the size of the video; the picture is enlarged after that."""
    set_objects(project, 1, 2)
    half = SIZE[0] // 2, SIZE[1] // 2
    first, second = np.zeros(half), np.zeros(half)
    first[:, :5], second[:, 3:] = 200, 150
    find(project, 1, 0, first)
    find(project, 2, 0, second)
    labels = project.label_map(0)
    assert (labels[:, :9] == 1).all()
    assert (labels[:, 11:] == 2).all()


def test_given_masks_are_on_top_and_the_last_one_uppermost(project):
    set_objects(project, 1, 2, 3)
    everywhere = np.full(SIZE, 255)
    find(project, 3, 0, everywhere)
    give(project, 1, 0, rectangle(0, 0, 8, 12))
    give(project, 2, 0, rectangle(4, 0, 12, 12))
    columns = project.label_map(0)[5]
    assert columns.tolist() == [1] * 4 + [2] * 8 + [3] * 4
    give(project, 1, 0, rectangle(0, 0, 8, 12))
    assert project.label_map(0)[5].tolist() == [1] * 8 + [2] * 4 + [3] * 4


def test_masks_of_different_propagators_can_be_on_one_frame(project):
    set_objects(project, 1, 2)
    left, right = np.zeros(SIZE), np.zeros((6, 8))
    left[:, :8], right[:, 4:] = 255, 255
    find(project, 1, 0, left)
    find(project, 2, 0, right)
    labels = project.label_map(0)
    assert (labels[:, :7] == 1).all()
    assert (labels[:, 9:] == 2).all()


def test_masks_come_back_as_they_were():
    rng = np.random.default_rng(0)
    soft = rng.integers(0, 256, (7, 5), dtype=np.uint8)
    assert np.array_equal(read_soft(soft_bytes(soft)), soft)
    mask = rng.random((7, 5)) > 0.5
    (about, value) = given_values(1, 2, mask, action=3).values()
    assert about != value
    assert np.array_equal(read_hard(value), mask)


def test_a_frame_or_object_that_is_not_there_is_refused(project):
    for ask in (project.label_map, project.masks, project.prompts, lambda frame: project.probability(1, frame)):
        with pytest.raises(InputError, match="there is no frame 8: video has frames 0 to 7"):
            ask(8)
        with pytest.raises(InputError, match="there is no frame -1"):
            ask(-1)
    with pytest.raises(InputError, match="there is no object 1; there are: none yet"):
        project.check_object(1)


# --------------------------------------------------------------------- the index


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("", []), ("0000", []), ("1", [[0, 0]]), ("0110", [[1, 2]]), ("11011", [[0, 1], [3, 4]])],
)
def test_runs_are_first_and_last(flags, expected):
    assert runs(np.array([flag == "1" for flag in flags], bool)) == expected


def test_a_found_mask_is_outdated_when_the_given_ones_around_it_are_others(project):
    set_objects(project, 1)
    give(project, 1, 0, rectangle(0, 0, 4, 4))
    give(project, 1, 6, rectangle(4, 4, 8, 8))
    before, after = project.index.origins(1, 3)
    assert before is not None
    assert after is not None
    nothing, seen = np.zeros(SIZE), np.full(SIZE, 255)
    find(project, 1, 2, seen, direction="both", before=before, after=after)
    find(project, 1, 3, nothing, direction="forward", before=before)
    find(project, 1, 4, nothing, direction="backward", after=after)
    find(project, 1, 5, seen)  # imported

    def outdated() -> list[list[int]]:
        listed: list[list[int]] = project.summary()["objects"][0]["outdated"]
        return listed

    assert outdated() == []
    give(project, 1, 6, rectangle(4, 4, 9, 9))  # the later one changes
    assert outdated() == [[2, 2], [4, 4]]
    project.store.undo()
    assert outdated() == []
    give(project, 1, 1, rectangle(0, 0, 4, 4))  # a nearer one before all of them
    assert outdated() == [[2, 3]]
    project.store.undo()
    give(project, 1, 3, rectangle(0, 0, 4, 4))  # in between: what is given is not outdated, and 4 came from 6
    assert outdated() == [[2, 2]]
    assert project.summary()["objects"][0]["found"] == [[2, 2], [5, 5]]  # on 4 it was looked for in vain


def brute_force(project: Project, object_id: int) -> list[int]:
    """Outdated frames, one by one."""
    index, outdated = project.index, []
    for frame in index.found_frames(object_id):
        about = Found.from_bytes(project.store.get(found_key(object_id, frame)) or b"")
        before, after = index.origins(object_id, frame)
        wrong = (about.direction in ("forward", "both") and about.before != before) or (
            about.direction in ("backward", "both") and about.after != after
        )
        if wrong and frame not in index.track(object_id).given:
            outdated.append(frame)
    return outdated


def test_what_is_outdated_agrees_with_brute_force(project):
    rng = np.random.default_rng(1)
    set_objects(project, 1)
    for _ in range(60):
        frame = int(rng.integers(FRAMES))
        if rng.random() < 0.5:
            before, after = project.index.origins(1, frame)
            direction = ("forward", "backward", "both")[int(rng.integers(3))]
            keeps = {"before": None if direction == "backward" else before}
            keeps |= {"after": None if direction == "forward" else after}
            find(project, 1, frame, np.zeros(SIZE), direction=direction, **keeps)
        else:
            give(project, 1, frame, rectangle(0, 0, int(rng.integers(1, 9)), 3))
        if rng.random() < 0.2:
            project.store.undo()
        expected = brute_force(project, 1)
        assert np.flatnonzero(project.index.outdated(1)).tolist() == expected


def test_the_summary_of_a_long_video_is_quick():
    frames, objects = 2000, 20
    index = Index(frames)
    for object_id in range(1, objects + 1):
        index.update({object_key(object_id): Object.new(object_id).to_bytes()})
        for at in (0, 700):
            values = given_values(object_id, at, rectangle(0, 0, 4, 4), action=at + 1)
            index.update({key: value for key, value in values.items() if key.startswith("given/")})
        first, second = index.origins(object_id, 1)
        about = Found("model", 0.1, "both", first, second, 0.2, 0.3).to_bytes()
        index.update({found_key(object_id, frame): about for frame in range(1, 700)})
        lost = Found("model", 0.1, "both", Origin(3, 1), None, 0.2).to_bytes()
        index.update({found_key(object_id, frame): lost for frame in range(701, frames)})
    took = []
    for _ in range(3):
        for object_id in range(1, objects + 1):
            index.track(object_id).about = None  # as if all of them had changed
        began = time.perf_counter()
        described, doubtful = index.summary()
        took.append(time.perf_counter() - began)
    assert described[0]["found"] == [[1, 699], [701, 1999]]
    assert described[0]["outdated"] == [[701, 1999]]
    assert (len(doubtful), doubtful[0]["frame"], doubtful[0]["why"]) == (500, 1, "forward and backward disagree")
    assert min(took) < 0.15  # 15 ms where nothing else runs
