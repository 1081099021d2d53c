import pytest
from hypothesis import HealthCheck, given, settings

from maskstream.formats.yolo_seg import read_yolo, write_yolo
from maskstream.types import CategorySet, InputError

from .clips import ANIMALS, box, clip, content, masks


def pixels(video):
    """For each frame where objects are; ids say nothing in this layout."""
    return [sorted(objects.values()) for objects in content(video)]


@given(first=masks(), second=masks())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_masks_come_back_with_holes_and_parts(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("yolo")
    video = clip([{3: first, 8: second}], pictures=folder / "in")
    write_yolo(folder / "out", [video], ANIMALS)
    _, (read,) = read_yolo(folder / "out")
    assert pixels(read) == pixels(video)


def test_classes_names_of_frames_and_pictures_come_back(tmp_path):
    frames = [{2: box(0, 0, 2, 2)}, {}]
    stems = ["00005", "00010"]
    first = clip(frames, pictures=tmp_path / "in", stems=stems, name="set/a", categories={2: 2})
    second = clip([{1: box(1, 1, 3, 3)}], pictures=tmp_path / "in2", name="set/b")
    write_yolo(tmp_path / "out", [first, second], ANIMALS)
    categories, videos = read_yolo(tmp_path / "out")
    assert [(c.id, c.name) for c in categories.categories] == [(1, "cat"), (2, 'a "big" dog & co')]
    assert [(video.name, len(video)) for video in videos] == [("set/a", 2), ("set/b", 1)]
    assert [frame.stem for frame in videos[0].frames] == stems
    assert videos[0].annotation(0).segmentation.segments[0].category == 2
    assert content(videos[0])[1] == {}


def test_lines_are_a_class_from_zero_and_fractions_of_the_picture(tmp_path):
    video = clip([{3: box(0, 0, 4, 2, (4, 8))}], size_hw=(4, 8), pictures=tmp_path / "in", categories={3: 2})
    write_yolo(tmp_path / "out", [video], ANIMALS)
    number, *values = (tmp_path / "out" / "labels" / "clip" / "00000.txt").read_text().split()
    assert number == "1"
    corners = {(float(x), float(y)) for x, y in zip(values[::2], values[1::2], strict=True)}
    assert corners == {(0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5)}
    assert (tmp_path / "out" / "data.yaml").read_text().splitlines()[:3] == ["train: images", "val: images", "names:"]


def tree(root, label, *, names="names: [cat, dog]"):
    """One picture of 4×8 pixels with this label."""
    clip([{}], size_hw=(4, 8), pictures=root / "images" / "train")
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "00000.txt").write_text(label)
    (root / "data.yaml").write_text(names)
    return root


@pytest.mark.parametrize(
    "line, track_id, score",
    [
        pytest.param("1 0 0 0.25 0 0.25 0.5 0 0.5", 1, None, id="a label"),
        pytest.param("1 0 0 0.25 0 0.25 0.5 0 0.5 17", 17, None, id="a track"),
        pytest.param("1 0 0 0.25 0 0.25 0.5 0 0.5 0.75", 1, 0.75, id="a confidence"),
    ],
)
def test_what_yolo_track_appends_is_understood(tmp_path, line, track_id, score):
    _, (video,) = read_yolo(tree(tmp_path, line + "\n"))
    (segment,) = video.annotation(0).segmentation.segments
    assert (segment.track_id, segment.category, segment.score) == (track_id, 2, score)
    assert content(video)[0] == {track_id: [(0, 0), (0, 1), (1, 0), (1, 1)]}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param("nc: 2\nnames: ['it''s', \"a b\"]\n", id="a list on a line"),
        pytest.param('names: {1: "a b", 0: it\'s}\n', id="a map on a line"),
        pytest.param("names:\n  - it's # the first\n  - a b\nnc: 2\n", id="a list"),
        pytest.param("train: images\nnames:\n  0: it's\n  1: 'a b'\n\n# download\nurl: x\n", id="a map"),
        pytest.param("names: [\n  it's,\n  a b ]\n", id="a list over lines"),
    ],
)
def test_names_are_read_in_every_form_in_use(tmp_path, names):
    assert read_yolo(tree(tmp_path, "", names=names))[0].names == ("it's", "a b")


@pytest.mark.parametrize(
    "line, message",
    [
        pytest.param("0 0 0 1 1", "is not a class and three points", id="two points"),
        pytest.param("0 0 0 1 0 1 1.5", "x and y from 0 to 1", id="beyond the picture"),
        pytest.param("0 0 0 1 0 nan 1", "x and y from 0 to 1", id="no number"),
        pytest.param("2 0 0 1 0 1 1", "has class 2, but data.yaml has 2, from 0", id="class"),
        pytest.param("cat 0 0 1 0 1 1", "could not convert string to float: 'cat'", id="a name"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    _, (video,) = read_yolo(tree(tmp_path, f"0 0 0 1 0 1 1\n{line}\n"))
    with pytest.raises(InputError, match=r"train/00000\.txt, line 2") as caught:
        video.annotation(0)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "names, message",
    [
        pytest.param("train: images\n", 'has no list "names"', id="none"),
        pytest.param("names:\n  1: cat\n  2: dog\n", r"numbers its classes \[1, 2\]", id="counted from 1"),
    ],
)
def test_a_description_without_classes_is_refused(tmp_path, names, message):
    with pytest.raises(InputError, match=rf"data\.yaml {message}"):
        read_yolo(tree(tmp_path, "", names=names))


def test_labels_without_a_picture_are_refused(tmp_path):
    tree(tmp_path, "")
    (tmp_path / "labels" / "train" / "00001.txt").write_text("")
    with pytest.raises(InputError, match=r"labels/train/00001\.txt has no picture .*images/train/00001\.jpg"):
        read_yolo(tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no .*data\.yaml"):
        read_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text("names: [a]")
    with pytest.raises(InputError, match="has no folder images"):
        read_yolo(tmp_path)


@pytest.mark.parametrize(
    "picture, category, message",
    [
        pytest.param(False, 1, "frame 00000 of clip has no picture", id="no picture"),
        pytest.param(True, None, "object 3 of clip has category None, which animals has not", id="no category"),
        pytest.param(True, 7, "object 3 of clip has category 7, which animals has not", id="a foreign category"),
    ],
)
def test_what_a_line_needs_must_be_there(tmp_path, picture, category, message):
    folder = tmp_path / "in" if picture else None
    video = clip([{3: box(0, 0, 1, 1)}], categories={3: category}, pictures=folder)
    with pytest.raises(InputError, match=message):
        write_yolo(tmp_path / "out", [video], ANIMALS)


def test_no_video_gives_only_the_description(tmp_path):
    write_yolo(tmp_path, [], CategorySet.from_names(["ä"]))
    assert (tmp_path / "data.yaml").read_text(encoding="utf-8").endswith('names:\n  0: "ä"\n')
