"""Readers of tracks in JSON and text: what was built is what is read, and what is wrong is said in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maskstream.datasets import Dataset, burst, coco, kitti_mots, youtube_vis
from maskstream.types import FrameAnnotation, InputError, MaskPrompt, PointPrompt, Task
from tests.datasets import trees_tracks as trees
from tests.datasets.trees_tracks import FRAMES, NAMES, SIZE, change_json, masks

INFOS = {
    info.name: info for family in (youtube_vis.INFOS, burst.INFOS, kitti_mots.INFOS, coco.INFOS) for info in family
}
TREES: dict[str, Callable[[Path], Path]] = {
    "ytvis-2019": trees.ytvis_2019,
    "ytvis-2021": trees.ytvis_2021,
    "ytvis-2022": trees.ytvis_2021,
    "ovis": trees.ovis,
    "uvo": trees.uvo,
    "burst": trees.burst,
    "kitti-mots": trees.kitti_mots,
    "coco": trees.coco,
    "lvis": trees.lvis,
    "sa1b": trees.sa1b,
}
TUBES = ("ytvis-2019", "ytvis-2021", "ytvis-2022", "ovis", "uvo")


def opened(name: str, root: Path, split: str | None = None) -> Dataset:
    return INFOS[name].open(root, split)


def read_masks(annotation: FrameAnnotation) -> dict[int, np.ndarray]:
    segmentation = annotation.segmentation
    assert segmentation.size_hw == SIZE
    return {
        segment.id: mask for segment, mask in zip(segmentation.segments, segmentation.masks_nhw().numpy(), strict=True)
    }


def assert_same(found: dict[int, np.ndarray], wanted: dict[int, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for number, mask in wanted.items():
        assert np.array_equal(found[number], mask), number


def test_every_data_set_of_the_family_has_a_tree():
    assert TREES.keys() == INFOS.keys()


@pytest.mark.parametrize("name", TREES)
def test_a_data_set_is_found_in_its_folder_and_in_the_one_above(tmp_path, name):
    root = TREES[name](tmp_path / "above" / "data")
    here, above = opened(name, root), opened(name, root.parent if name not in ("coco", "kitti-mots", "lvis") else root)
    assert here.name == above.name == name
    assert [video.name for video in here.videos] == [video.name for video in above.videos]


@pytest.mark.parametrize("name", TREES)
def test_an_empty_folder_is_refused_by_name(tmp_path, name):
    with pytest.raises(InputError, match=str(tmp_path)):
        opened(name, tmp_path)


# Tubes in one file


@pytest.mark.parametrize("name", TUBES)
def test_tubes_are_those_of_the_file(tmp_path, name):
    data = opened(name, TREES[name](tmp_path))
    assert [video.video_id for video in data.videos] == [7, 8]
    for video, wanted in zip(data.videos, map(masks, NAMES), strict=True):
        number = 10 * (video.video_id or 0)
        assert len(video) == FRAMES
        for index in range(FRAMES):
            annotation = video.annotation(index)
            here = {number + track: mask for track, of in wanted.items() if (mask := of[index]) is not None}
            assert_same(read_masks(annotation), here)
            assert annotation.crowd_ids == {number + 5} & here.keys()
            ids = set(data.categories.ids)
            assert all(s.category in ids and s.track_id == s.id for s in annotation.segmentation.segments)
        tracks = {track.track_id - number: track for track in video.tracks()}
        assert {n: (track.first, track.last) for n, track in tracks.items()} == {1: (0, 5), 2: (0, 5), 5: (2, 5)}


@pytest.mark.parametrize(
    "name, picture",
    [
        ("ytvis-2021", f"valid/JPEGImages/{NAMES[1]}/00010.jpg"),
        ("ovis", f"valid/{NAMES[1]}/img_0000003.jpg"),
        ("uvo", "uvo_videos_dense_frames/-0WTQWwJuzQ/92.png"),
    ],
)
def test_pictures_are_looked_for_where_the_data_set_has_them(tmp_path, name, picture):
    frame = opened(name, TREES[name](tmp_path)).videos[1].frames[2]
    assert frame.image == tmp_path / picture
    assert frame.stem == Path(picture).stem


def test_videos_are_named_by_their_folder_and_clips_of_one_video_by_their_number_too(tmp_path):
    assert [v.name for v in opened("ytvis-2019", trees.ytvis_2019(tmp_path / "a")).videos] == list(NAMES)
    assert [v.name for v in opened("uvo", trees.uvo(tmp_path / "b")).videos] == ["-0WTQWwJuzQ-7", "-0WTQWwJuzQ-8"]


def test_areas_come_as_the_file_states_them(tmp_path):
    root = trees.ytvis_2019(tmp_path)
    change_json(root / "valid.json", lambda plain: plain["annotations"][0].update(areas=[3.5] * FRAMES))
    data = opened("ytvis-2019", root)
    assert isinstance(data, youtube_vis.TubeDataset)
    assert data.tubes(data.videos[0])[0].areas == (3.5,) * FRAMES


@pytest.mark.parametrize("name, tree", [("ytvis-2019", trees.ytvis_2019), ("ytvis-2021", trees.ytvis_2021)])
def test_a_file_without_annotations_hides_its_labels(tmp_path, name, tree):
    video = opened(name, tree(tmp_path), "test").videos[0]
    with pytest.raises(InputError, match="does not show the labels"):
        video.annotation(0)


def test_ids_that_count_from_zero_are_raised_by_one(tmp_path):
    root = trees.ytvis_2019(tmp_path)

    def from_zero(plain):
        for one in plain["annotations"]:
            one["id"] -= 71

    change_json(root / "valid.json", from_zero)
    videos = opened("ytvis-2019", root).videos
    assert [s.id for s in videos[0].annotation(2).segmentation.segments] == [1, 2, 5]
    assert [s.id for s in videos[1].annotation(2).segmentation.segments] == [10, 11, 14]


def test_a_file_of_ones_own_brings_its_categories_and_any_name(tmp_path):
    file = trees.write_json(tmp_path / "mine.json", trees.instances(["sock", *(f"c{n}" for n in range(30))]))
    trees.write_json(tmp_path / "results.json", [])
    for root in (file, tmp_path):
        assert opened("ytvis-2021", root).categories.names[0] == "sock"


@pytest.mark.parametrize("name, names, title", [
    ("ytvis-2019", trees.YTVIS_2021, "YouTube-VIS 2021 or 2022"),
    ("ytvis-2021", trees.YTVIS_2019, "YouTube-VIS 2019"),
    ("ovis", trees.YTVIS_2019, "YouTube-VIS 2019"),
    ("ytvis-2022", trees.OVIS, "OVIS"),
])  # fmt: skip
def test_the_file_of_another_year_is_recognised(tmp_path, name, names, title):
    file = trees.write_json(tmp_path / "valid.json", trees.instances(names))
    with pytest.raises(InputError) as error:
        opened(name, tmp_path)
    assert str(file) in str(error.value)
    assert f"those of {title}, not of" in str(error.value)


def _cut(plain):
    plain["annotations"][0]["segmentations"].pop()


def _cut_areas(plain):
    plain["annotations"][0]["areas"].pop()


def _twice(plain):
    for one in plain["annotations"]:
        one["id"] = 70 if one["video_id"] == 7 else one["id"]


def _damage(plain):
    plain["annotations"][0]["segmentations"][0]["counts"] = "0z"


def _larger(plain):
    plain["annotations"][0]["segmentations"][0]["size"] = [40, 72]


def _uneven(plain):
    crowd = next(one for one in plain["annotations"] if one["iscrowd"])
    next(code for code in crowd["segmentations"] if code)["counts"][0] += 1


@pytest.mark.parametrize(
    "change, message",
    [
        (_cut, r"annotation 71 of 0b97736357: there are 5 segmentations .* has 6 frames"),
        (_cut_areas, "there are 5 areas, but 0b97736357 has 6 frames"),
        (_twice, "annotation 70 of 0b97736357: this id is used twice"),
        (_damage, r"0b97736357, frame 00000: a run-length code is damaged"),
        (_larger, "a mask is 40×72, but the picture 20×36"),
        (_uneven, "run lengths add up to 721, not to 20×36"),
        (lambda plain: plain["annotations"][0].update(category_id=77), "category 77 is none of 1, 2,"),
        (lambda plain: plain["annotations"][0].pop("segmentations"), "there is no 'segmentations'"),
        (lambda plain: plain["annotations"][0].update(video_id=99), "annotations for video 99, .* ids are 7 to 8"),
        (lambda plain: plain["videos"][1].update(id=7), "an id of a video is used twice"),
        (lambda plain: plain["videos"][1].pop("width"), "video 1: there is no 'width'"),
        (lambda plain: plain["videos"][1].update(length=9), "its length is 9, but it has 6 file names"),
        (lambda plain: plain["categories"].append({"id": 1, "name": "cow"}), "categories: an id is used twice"),
        (lambda plain: plain.pop("videos"), "there is no 'videos'"),
        (lambda plain: plain["annotations"].append(3), "entry 6 of annotations"),
    ],
)
def test_what_is_wrong_with_a_file_of_tubes_is_one_line_with_its_name(tmp_path, change, message):
    file = change_json(trees.ytvis_2019(tmp_path) / "valid.json", change)
    with pytest.raises(InputError, match=message) as error:
        for video in opened("ytvis-2019", tmp_path).videos:
            video.annotation(0)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_breaks_off_is_named(tmp_path):
    file = trees.ytvis_2019(tmp_path) / "valid.json"
    file.write_text(file.read_text()[:-300])
    with pytest.raises(InputError, match=r"valid\.json cannot be read as the annotations of YouTube-VIS"):
        opened("ytvis-2019", tmp_path)


# BURST


def test_burst_has_all_frames_of_which_some_are_annotated(tmp_path):
    data = opened("burst", trees.burst(tmp_path))
    assert data.categories.names == ("acorn", "alligator", "baby")
    assert [video.name for video in data.videos] == list(trees.BURST_NAMES)
    for video, name in zip(data.videos, NAMES, strict=True):
        assert [frame.stem for frame in video.frames] == [f"frame{1 + 3 * n:04d}" for n in range(FRAMES)]
        assert [frame.annotated for frame in video.frames] == [True, False] * 3
        assert video.fps == 30
        for index in range(FRAMES):
            annotation = video.annotation(index)
            assert annotation.annotated is (index % 2 == 0)
            wanted = trees.disjoint(name).items() if index % 2 == 0 else ()
            here = {t: mask for t, of in wanted if (mask := of[index]) is not None}
            assert_same(read_masks(annotation), here)
            assert {s.id: s.category for s in annotation.segmentation.segments} == {
                t: trees.ACORN if t == 2 else trees.BABY for t in here
            }


def test_burst_knows_what_is_absent_and_what_is_not_exhaustive(tmp_path):
    data = opened("burst", trees.burst(tmp_path))
    assert isinstance(data, burst.BurstDataset)
    assert data.common == frozenset({trees.BABY})
    first, second = (data.record(name) for name in trees.BURST_NAMES)
    assert (first.negative, first.not_exhaustive) == (frozenset({50}), frozenset({7}))
    assert second.not_exhaustive == frozenset()


def test_burst_gives_points_and_masks_of_the_frames_on_which_objects_appear(tmp_path):
    video = opened("burst", trees.burst(tmp_path)).videos[0]
    points = video.prompts(Task.PET)
    given = video.prompts(Task.VOS)
    assert [(p.frame_index, p.object_id) for p in points if isinstance(p, PointPrompt)] == [(0, 1), (0, 2), (2, 5)]
    for point, mask in zip(points, given, strict=True):
        assert isinstance(point, PointPrompt)
        assert isinstance(mask, MaskPrompt)
        assert (point.frame_index, point.object_id, point.category) == (mask.frame_index, mask.object_id, mask.category)
        wanted = trees.disjoint(NAMES[0])[point.object_id][point.frame_index]
        assert wanted is not None
        assert np.array_equal(mask.mask.numpy(), wanted)
        x, y = point.points_xy[0]
        assert wanted[int(y), int(x)]
    with pytest.raises(InputError, match="no exemplars for the task vis"):
        video.prompts(Task.VIS)


def test_burst_looks_for_pictures_in_the_folder_of_the_split(tmp_path):
    trees.burst(tmp_path)
    (tmp_path / "images" / "val").mkdir(parents=True)
    frame = opened("burst", tmp_path).videos[1].frames[1]
    assert frame.image == tmp_path / "images/val/ArgoVerse/side_camera/frame0004.jpg"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s["segmentations"].pop(), "there are 2 segmentations, but 3 annotated_image_paths"),
        (lambda s: s["track_category_ids"].pop("5"), "track 5 has masks, but is not in track_category_ids"),
        (lambda s: s.pop("height"), "YFCC100M/v_25685: there is no 'height'"),
        (
            lambda s: s.update(height=21),
            r"frame0001\.jpg: a run-length code is damaged: its runs do not make the 756 pixels",
        ),
        (lambda s: s["segmentations"][0]["1"].pop("rle"), "there is no 'rle'"),
        (lambda s: s.update(dataset="ArgoVerse", seq_name="side_camera"), "sequence ArgoVerse/side_camera 2 times"),
        (lambda s: s["track_category_ids"].update({"x": 1}), "this is not as it should be"),
    ],
)
def test_what_is_wrong_with_a_sequence_is_one_line_with_the_name_of_the_file(tmp_path, change, message):
    trees.burst(tmp_path)
    file = change_json(tmp_path / "annotations/val/all_classes.json", lambda plain: change(plain["sequences"][0]))
    with pytest.raises(InputError, match=message) as error:
        opened("burst", tmp_path).videos[0].annotation(0)
    assert str(file) in str(error.value)


def test_a_track_called_zero_gets_a_free_number(tmp_path):
    def rename(plain):
        for sequence in plain["sequences"]:
            sequence["track_category_ids"]["0"] = sequence["track_category_ids"].pop("2")
            for entries in sequence["segmentations"]:
                if "2" in entries:
                    entries["0"] = entries.pop("2")

    change_json(trees.burst(tmp_path) / "annotations/val/all_classes.json", rename)
    annotation = opened("burst", tmp_path).videos[0].annotation(0)
    assert {s.id for s in annotation.segmentation.segments} == {1, 6}


# KITTI-MOTS


@pytest.mark.parametrize("pictures", [False, True], ids=["text", "pictures"])
def test_kitti_mots_has_cars_pedestrians_and_regions_to_ignore(tmp_path, pictures):
    data = opened("kitti-mots", trees.kitti_mots(tmp_path, pictures=pictures))
    assert [video.name for video in data.videos] == list(trees.KITTI_NAMES)
    for video, name in zip(data.videos, NAMES, strict=True):
        assert [frame.stem for frame in video.frames] == [f"{n:06d}" for n in range(FRAMES)]
        for index in range(FRAMES):
            values, annotation = trees.kitti_values(name, index), video.annotation(index)
            here = {v: values == v for v in np.unique(values).tolist() if v not in (0, 10000)}
            assert_same(read_masks(annotation), here)
            assert {s.id: s.category for s in annotation.segmentation.segments} == {v: v // 1000 for v in here}
            assert (annotation.void is None) == (index < 2)
            if annotation.void is not None:
                assert np.array_equal(annotation.void.numpy(), values == 10000)


def test_without_a_seqmap_the_official_lists_count_and_pictures_tell_the_frames(tmp_path):
    root = trees.kitti_mots(tmp_path)
    (root / "evaluate_mots.seqmap.val").unlink()
    for name in ("0007", "0008", "0010", "0013", "0014", "0016", "0018"):
        (root / f"instances_txt/{name}.txt").write_text("")
    folder = root / "training/image_02/0007"
    for index in range(3):
        trees.png(folder / f"{index:06d}.png", np.zeros(SIZE, int))
    videos = {video.name: video for video in opened("kitti-mots", root).videos}
    assert list(videos) == ["0002", "0006", "0007", "0008", "0010", "0013", "0014", "0016", "0018"]
    assert len(videos["0002"]) == FRAMES
    assert len(videos["0007"]) == 3
    assert videos["0007"].annotation(1).segmentation.size_hw == SIZE  # an empty sequence asks the pictures


def test_the_test_set_of_kitti_mots_has_no_labels(tmp_path):
    video = opened("kitti-mots", trees.kitti_mots(tmp_path), "test").videos[0]
    with pytest.raises(InputError, match="does not show the labels"):
        video.annotation(0)


GOOD = f"0 1001 1 {SIZE[0]} {SIZE[1]} {trees.compressed(np.ones(SIZE, bool))['counts']}"


@pytest.mark.parametrize(
    "line, message",
    [
        ("0 1001 1 20 36", "line 2 is not 'frame id class height width run-lengths'"),
        ("0 car 1 20 36 1", "line 2 is not"),
        ("0 3001 3 20 36 1", "line 2 has the class 3; there are 1, 2, 10"),
        ("1 1001 1 20 37 1", "line 2 is 20×37"),
        (GOOD, "line 2 has the id 1001 for the second time on frame 0"),
        ("0 0 1 20 36 1", "line 2 has the id 0"),
        ("0 1002 1 20 36 1", r"0002\.txt, frame 0: a run-length code is damaged"),
        ("0 1002 1 20 36 é", "cannot be read as masks of KITTI-MOTS"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_with_its_number(tmp_path, line, message):
    file = trees.kitti_mots(tmp_path) / "instances_txt/0002.txt"
    file.write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        opened("kitti-mots", tmp_path).videos[0].annotation(0)
    assert str(file) in str(error.value)


def test_a_missing_sequence_a_broken_seqmap_and_an_unknown_class_are_named(tmp_path):
    root = trees.kitti_mots(tmp_path / "text")
    (root / "instances_txt/0006.txt").unlink()
    with pytest.raises(InputError, match=r"there is no .*0006\.txt"):
        opened("kitti-mots", root).videos[1].annotation(0)
    (root / "evaluate_mots.seqmap.val").write_text("0002 empty\n")
    with pytest.raises(InputError, match=r"seqmap\.val has the line '0002 empty'"):
        opened("kitti-mots", root)
    root = trees.kitti_mots(tmp_path / "pictures", pictures=True)
    trees.png(root / "instances/0002/000001.png", np.full(SIZE, 5003))
    with pytest.raises(InputError, match=r"000001\.png has the id 5003, of class 5"):
        opened("kitti-mots", root).videos[0].annotation(1)


# Images


@pytest.mark.parametrize("name", ["coco", "lvis"])
def test_images_of_coco_are_videos_of_one_frame(tmp_path, name):
    data = opened(name, TREES[name](tmp_path))
    assert data.categories.ids == (1, 90)
    assert data.categories.name == name
    assert [video.video_id for video in data.videos] == [139, 285]
    for index, video in enumerate(data.videos):
        folder = {"coco": "val2017", "lvis": "train2017"}[name]
        assert [frame.image for frame in video.frames] == [tmp_path / folder / f"{video.video_id:012d}.jpg"]
        annotation = video.annotation(0)
        wanted = {t: mask for t, of in masks(NAMES[0]).items() if (mask := of[index + 2]) is not None}
        if index == 0:  # two polygons, parts of one object
            wanted[2] = np.zeros(SIZE, bool)
            wanted[2][6:13, 5:15] = wanted[2][1:5, 28:33] = True
        number = 100 * (video.video_id or 0)
        assert_same(read_masks(annotation), {number + t: mask for t, mask in wanted.items()})
        assert annotation.crowd_ids == {number + 5}


def test_images_of_coco_agree_with_pycocotools(tmp_path, capsys):
    from pycocotools.coco import COCO

    trees.coco(tmp_path)
    official = COCO(str(tmp_path / trees.COCO_VAL))
    for video in opened("coco", tmp_path).videos:
        found = read_masks(video.annotation(0))
        wanted = {one["id"]: official.annToMask(one).astype(bool) for one in official.imgToAnns[video.video_id]}
        assert_same(found, wanted)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda plain: plain["annotations"][1].update(id=13901),
            "annotation 13901 of image 139: this id is used twice",
        ),
        (lambda plain: plain["annotations"][0].update(category_id=2), "category 2 is not listed"),
        (lambda plain: plain["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "a polygon is a list of three"),
        (lambda plain: plain["images"][1].update(id=139), "images: an id is used twice"),
        (lambda plain: plain["categories"].append({"id": 1, "name": "x"}), "uses the id 1 twice"),
        (lambda plain: plain.pop("images"), "there is no 'images'"),
    ],
)
def test_what_is_wrong_with_a_file_of_images_is_one_line_with_its_name(tmp_path, change, message):
    file = change_json(trees.coco(tmp_path) / trees.COCO_VAL, change)
    with pytest.raises(InputError, match=message) as error:
        opened("coco", tmp_path).videos[0].annotation(0)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
def test_sa_1b_has_masks_without_classes_in_folders_and_archives(tmp_path, packed):
    data = opened("sa1b", trees.sa1b(tmp_path, packed=packed))
    assert [video.name for video in data.videos] == ["sa_9", "sa_10"]
    for number, video in zip((9, 10), data.videos, strict=True):
        segmentation = video.annotation(0).segmentation
        wanted = [mask for of in masks(NAMES[0]).values() if (mask := of[number - 6]) is not None]
        assert np.array_equal(segmentation.masks_nhw().numpy(), np.stack(wanted))
        assert all(s.category == 1 and s.score is not None and s.score >= 0.9 for s in segmentation.segments)
        if packed:
            assert video.read_image is not None
            assert abs(video.read_image(0).astype(int) - 10 * number).max() <= 2
        else:
            assert video.frames[0].image == tmp_path / f"sa_{number}.jpg"


def test_a_broken_image_of_sa_1b_is_named(tmp_path):
    trees.sa1b(tmp_path / "folder")
    (tmp_path / "folder/sa_9.json").write_text("{")
    with pytest.raises(InputError, match=r"sa_9\.json, masks: this is not as it should be"):
        opened("sa1b", tmp_path / "folder").videos[0].annotation(0)
    archive = tmp_path / "sa_000000.tar"
    archive.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"sa_000000\.tar cannot be read as an archive"):
        opened("sa1b", archive)
