"""Readers of the benchmarks of video object segmentation, against trees built as the specification says."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from maskstream.datasets import Dataset, DatasetInfo, davis, lvos, mask_folders, mose, sav, viposeg, ytvos
from maskstream.datasets.classes import VIPSEG
from maskstream.types import OBJECT, FrameAnnotation, InputError, MaskPrompt, Task

from . import trees_vos as trees
from .trees_vos import FRAMES, NAMES, SIZE, truth

INFOS: dict[str, DatasetInfo] = {
    info.name: info for family in (davis, lvos, mask_folders, mose, sav, viposeg, ytvos) for info in family.INFOS
}

TREES: dict[str, tuple[Callable[[Path], Path], dict[str, int]]] = {
    "davis-2017": (trees.davis, {}),
    "ytvos-2018": (trees.ytvos, {"step": 5}),
    "ytvos-2019": (trees.ytvos, {"step": 5}),
    "mose": (trees.mose, {}),
    "lvos": (trees.lvos, {"first": 1, "step": 5, "digits": 8}),
    "viposeg": (trees.viposeg, {"step": 11, "digits": 8}),
}
"""What builds a tree, and how its frames are numbered; DAVIS-2016, SA-V and the plain folder have their own tests."""

EVERY_TREE = {
    **{name: build for name, (build, _) in TREES.items()},
    "davis-2017-unsupervised": trees.davis,
    "davis-2016": trees.davis16,
    "sav": trees.sav,
    "vos": trees.folder,
}


def ids_of(annotation: FrameAnnotation) -> np.ndarray:
    return annotation.segmentation.panoptic_map().numpy()


def prompts(dataset: Dataset, name: str, task: Task = Task.VOS) -> dict[int, MaskPrompt]:
    video = next(video for video in dataset.videos if video.name == name)
    found = {}
    for prompt in video.prompts(task):
        assert isinstance(prompt, MaskPrompt)
        found[prompt.object_id] = prompt
    return found


def info(name: str) -> DatasetInfo:
    return INFOS[name]


# What is read is what was built.


@pytest.mark.parametrize("name", TREES)
def test_frames_sizes_and_ids_are_those_of_the_tree(tmp_path, name):
    build, numbering = TREES[name]
    dataset = info(name).open(build(tmp_path))
    assert [video.name for video in dataset.videos] == list(NAMES)
    assert dataset.split == info(name).splits[0]
    for video in dataset.videos:
        expected = truth(video.name, **numbering)
        assert [frame.stem for frame in video.frames] == list(expected)
        assert all(frame.annotated for frame in video.frames)
        for index, ids in enumerate(expected.values()):
            annotation = video.annotation(index)
            assert annotation.segmentation.size_hw == SIZE
            assert annotation.segmentation.frame_index == index
            assert annotation.void is None
            assert all(segment.id == segment.track_id for segment in annotation.segmentation.segments)
            # In DAVIS the third object is 255 and therefore nothing.
            expected_ids = np.where(ids == 4, 0, ids) if name == "davis-2017" else ids
            np.testing.assert_array_equal(ids_of(annotation), expected_ids)


@pytest.mark.parametrize("name", EVERY_TREE)
def test_opening_a_data_set_and_its_videos_reads_no_mask(tmp_path, name):
    root = EVERY_TREE[name](tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"damaged")
    dataset = info(name).open(root)
    video = dataset.videos[0]
    with pytest.raises(InputError, match=r"\.png is not a PNG picture"):
        video.annotation(0)


@pytest.mark.parametrize(
    "name, root",
    [
        ("davis-2017", "inner/DAVIS"),
        ("davis-2017-unsupervised", "inner/DAVIS"),
        ("sav", "inner/sav_val"),
        *((name, root) for name in ("ytvos-2019", "mose", "lvos", "viposeg") for root in (".", "inner/valid")),
    ],
)
def test_the_root_may_be_the_folder_or_the_one_it_is_in(tmp_path, name, root):
    EVERY_TREE[name](tmp_path / "inner")
    names = [video.name for video in info(name).open(tmp_path / "inner").videos]
    assert [video.name for video in info(name).open(tmp_path / root).videos] == names == list(NAMES)


@pytest.mark.parametrize("name", [name for name in EVERY_TREE if name != "davis-2016"])
def test_pictures_are_named_whether_they_are_there_or_not(tmp_path, name):
    root = EVERY_TREE[name](tmp_path)
    with_images = [frame.image for frame in info(name).open(root).videos[0].frames if frame.annotated]
    for folder in [*tmp_path.rglob("JPEGImages"), *tmp_path.rglob("JPEGImages_24fps")]:
        shutil.rmtree(folder)
    without = [frame.image for frame in info(name).open(root).videos[0].frames if frame.annotated]
    assert without == with_images
    assert all(path is not None and path.suffix == ".jpg" for path in without)


def test_davis_2016_merges_objects_and_takes_both_zeros_and_ones_and_255(tmp_path):
    trees.davis16(tmp_path)
    trees.masks(tmp_path / "Annotations/480p/ant", truth("ant"))  # several objects, as in the release of 2017
    for video in info("davis-2016").open(tmp_path).videos:
        for index, ids in enumerate(truth(video.name).values()):
            np.testing.assert_array_equal(ids_of(video.annotation(index)), ids > 0)


def test_unsupervised_davis_has_void(tmp_path):
    for video in info("davis-2017-unsupervised").open(trees.davis(tmp_path)).videos:
        for index, ids in enumerate(truth(video.name).values()):
            annotation = video.annotation(index)
            np.testing.assert_array_equal(ids_of(annotation), np.where(ids == 4, 0, ids))
            assert (annotation.void is not None) == bool((ids == 4).any())
            if annotation.void is not None:
                np.testing.assert_array_equal(annotation.void.numpy(), ids == 4)


def test_objects_of_sa_v_may_overlap_and_are_annotated_every_fourth_frame(tmp_path):
    for video in info("sav").open(trees.sav(tmp_path)).videos:
        objects = trees.sav_truth(video.name)
        assert len(video) == 4 * FRAMES
        assert [n for n, frame in enumerate(video.frames) if frame.annotated] == list(range(0, 4 * FRAMES, 4))
        for index in range(0, 4 * FRAMES, 4):
            segmentation = video.annotation(index).segmentation
            expected = {o: masks[f"{index:05d}"] for o, masks in objects.items() if f"{index:05d}" in masks}
            assert [segment.id for segment in segmentation.segments] == list(expected)
            np.testing.assert_array_equal(segmentation.masks_nhw().numpy(), np.stack(list(expected.values())))
        assert video.annotation(12).segmentation.areas().tolist()[1] == 0  # listed, but gone


def test_a_folder_of_masks_may_be_sparse_and_have_large_ids(tmp_path):
    for video in info("vos").open(trees.folder(tmp_path)).videos:
        assert [frame.annotated for frame in video.frames] == [True, False] * 3
        np.testing.assert_array_equal(ids_of(video.annotation(2)), 100 * truth(video.name)["00002"].astype(int))


@pytest.mark.parametrize("images", ["masks/JPEGImages", "JPEGImages"])
def test_a_folder_of_masks_may_have_its_pictures_in_it_or_beside(tmp_path, images):
    trees.masks(tmp_path / "masks/clip", truth("ant"))
    (video,) = info("vos").open(tmp_path / "masks").videos
    assert (video.name, len(video)) == ("clip", FRAMES)
    trees.jpegs(tmp_path / images / "clip", [f"{n:05d}" for n in range(2 * FRAMES)])
    (video,) = info("vos").open(tmp_path / "masks").videos
    assert (video.name, len(video)) == ("clip", 2 * FRAMES)


# Categories.


def test_categories_of_youtube_vos_are_those_of_its_meta_file(tmp_path):
    dataset = info("ytvos-2019").open(trees.ytvos(tmp_path))
    assert dataset.categories.names == ("cat", "dog", "whale")
    segments = dataset.videos[0].annotation(3).segmentation.segments
    assert {s.id: dataset.categories[s.category or 0].name for s in segments} == {1: "dog", 4: "whale"}


def test_youtube_vos_has_seen_what_is_in_the_training_set_or_in_a_list(tmp_path):
    dataset = info("ytvos-2019").open(trees.ytvos(tmp_path))
    assert isinstance(dataset, ytvos.YoutubeVosDataset)
    assert dataset.seen_categories() == ["cat", "dog"]
    trees.write_json(tmp_path / "seen_categories.json", ["whale"])
    assert dataset.seen_categories() == ["whale"]


def test_classes_of_vi_p_o_seg_tell_things_from_stuff(tmp_path):
    dataset = info("viposeg").open(trees.viposeg(tmp_path))
    assert dataset.categories is VIPSEG
    segments = next(v for v in dataset.videos if v.name == "ant").annotation(2).segmentation.segments
    assert {s.id: (s.category, s.is_thing) for s in segments} == {1: (74, True), 2: (28, False), 4: (47, True)}


def test_a_list_of_categories_beside_vi_p_o_seg_names_other_classes(tmp_path):
    trees.viposeg(tmp_path)
    entries = [{"id": n, "name": f"kind {n}", "isthing": n % 2, "color": [0, 0, 0]} for n in range(75)]
    trees.write_json(tmp_path / "panoVIPSeg_categories.json", entries)
    dataset = info("viposeg").open(tmp_path)
    assert dataset.categories[74].name == "kind 74"
    assert dataset.videos[0].annotation(0).segmentation.segments[0].is_thing is False


@pytest.mark.parametrize("name", ["davis-2017", "mose", "lvos", "sav", "vos"])
def test_where_there_are_no_categories_everything_is_an_object(tmp_path, name):
    dataset = info(name).open(EVERY_TREE[name](tmp_path))
    assert dataset.categories is OBJECT
    assert {(s.category, s.is_thing) for s in dataset.videos[0].annotation(0).segmentation.segments} == {(1, True)}


# What a model may be given.


@pytest.mark.parametrize("name", ["ytvos-2019", "mose", "lvos", "viposeg"])
def test_every_object_is_given_on_the_frame_on_which_it_comes_in(tmp_path, name):
    build, numbering = TREES[name]
    dataset = info(name).open(build(tmp_path))
    task = info(name).tasks[0]
    for video in NAMES:
        found = prompts(dataset, video, task)
        assert {o: prompt.frame_index for o, prompt in found.items()} == {1: 0, 2: 0, 4: 2}
        for o, prompt in found.items():
            ids = list(truth(video, **numbering).values())[prompt.frame_index]
            np.testing.assert_array_equal(prompt.mask.numpy(), ids == o)
    if name == "viposeg":
        assert {o: (prompt.category, prompt.is_thing) for o, prompt in prompts(dataset, "bee", task).items()} == {
            1: (74, True),
            2: (5, False),
            4: (47, True),
        }


def test_objects_that_share_a_frame_with_given_ones_are_not_given_again(tmp_path):
    trees.ytvos(tmp_path)
    # A reference picture with an old object beside the new one.
    trees.png(tmp_path / "valid/Annotations/ant/00010.png", truth("ant")["00002"])
    assert {o: p.frame_index for o, p in prompts(info("ytvos-2019").open(tmp_path), "ant").items()} == {
        1: 0,
        2: 0,
        4: 2,
    }


def test_davis_gives_the_first_frame_only(tmp_path):
    root = trees.davis(tmp_path)
    trees.masks(root / "Annotations/480p/ant", truth("ant"))
    assert sorted(prompts(info("davis-2017").open(root), "ant")) == [1, 2]


def test_unsupervised_davis_gives_nothing(tmp_path):
    video = info("davis-2017-unsupervised").open(trees.davis(tmp_path)).videos[0]
    with pytest.raises(InputError, match="bee: this data set has no prompts for the task vos"):
        video.prompts(Task.VOS)


def test_other_tasks_are_given_nothing(tmp_path):
    for name in ("mose", "sav"):
        video = info(name).open(EVERY_TREE[name](tmp_path / name)).videos[0]
        with pytest.raises(InputError, match="bee: this data set has no prompts for the task pet"):
            video.prompts(Task.PET)


def test_an_object_of_sa_v_is_given_where_it_is_first_annotated(tmp_path):
    found = prompts(info("sav").open(trees.sav(tmp_path)), "bee")
    assert {o: prompt.frame_index for o, prompt in found.items()} == {1: 0, 2: 0, 3: 4}


def test_prompts_are_found_without_reading_the_rest_of_a_video_whose_objects_are_known(tmp_path):
    trees.mose(tmp_path)
    for stem in ("00003", "00004", "00005"):
        (tmp_path / f"valid/Annotations/ant/{stem}.png").write_bytes(b"damaged")
    assert sorted(prompts(info("mose").open(tmp_path), "ant")) == [1, 2, 4]


# Hidden labels.


def only_first_masks(root: Path) -> Path:
    trees.mose(root)
    for name in NAMES:
        for stem in list(truth(name))[1:]:
            (root / f"valid/Annotations/{name}/{stem}.png").unlink()
    return root


@pytest.mark.parametrize(
    "name, build, split, given",
    [
        pytest.param("davis-2017", trees.davis, "test-dev", [1, 2], id="DAVIS test-dev"),
        pytest.param("mose", only_first_masks, "valid", [1, 2], id="MOSE valid as released"),
        pytest.param("lvos", trees.lvos, "test", [1, 2, 4], id="LVOS test"),
        pytest.param(
            "ytvos-2019", lambda root: trees.ytvos(root, with_truth=False), "valid", [1, 2, 4], id="YouTube-VOS"
        ),
    ],
)
def test_where_labels_are_hidden_the_masks_that_are_given_still_are(tmp_path, name, build, split, given):
    dataset = info(name).open(build(tmp_path), split)
    video = dataset.videos[0]
    assert (video.read_annotation, len(video)) == (None, FRAMES)
    assert sorted(prompts(dataset, video.name)) == given


def test_unsupervised_test_videos_have_pictures_only(tmp_path):
    (video,) = info("davis-2017-unsupervised").open(trees.davis(tmp_path), "test-dev").videos
    assert (video.name, video.read_annotation, len(video)) == ("other", None, FRAMES)


def test_a_folder_with_one_mask_a_video_can_be_predicted(tmp_path):
    trees.masks(tmp_path / "Annotations/ant", {"00000": truth("ant")["00000"]})
    trees.jpegs(tmp_path / "JPEGImages/ant", truth("ant"))
    dataset = info("vos").open(tmp_path)
    assert dataset.videos[0].read_annotation is None
    assert sorted(prompts(dataset, "ant")) == [1, 2]


# Frames.


def test_youtube_vos_takes_all_frames_where_they_are(tmp_path):
    trees.ytvos(tmp_path)
    for name in NAMES:
        trees.jpegs(tmp_path / "valid_all_frames/JPEGImages" / name, [f"{n:05d}" for n in range(5 * FRAMES)])
    dataset = info("ytvos-2019").open(tmp_path)
    video = dataset.videos[0]
    assert (len(video), video.fps) == (5 * FRAMES, 30)
    assert [n for n, frame in enumerate(video.frames) if frame.annotated] == list(range(0, 5 * FRAMES, 5))
    np.testing.assert_array_equal(ids_of(video.annotation(10)), truth("bee")["00002"])
    assert {o: p.frame_index for o, p in prompts(dataset, "bee").items()} == {1: 0, 2: 0, 4: 10}


def test_empty_pictures_are_no_frames(tmp_path):
    trees.folder(tmp_path)
    (tmp_path / "JPEGImages/480p/ant/00001.jpg").write_bytes(b"")
    video = next(v for v in info("vos").open(tmp_path).videos if v.name == "ant")
    assert [frame.stem for frame in video.frames] == ["00000", "00002", "00003", "00004", "00005"]


# Lists.


def test_davis_takes_any_list_there_is(tmp_path):
    (video,) = info("davis-2016").open(trees.davis16(tmp_path), "dev").videos
    assert video.name == "ant"


def test_davis_without_lists_takes_every_video(tmp_path):
    shutil.rmtree(trees.davis16(tmp_path) / "ImageSets")
    assert [video.name for video in info("davis-2016").open(tmp_path).videos] == ["ant", "bee"]


def test_a_list_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path):
    root = trees.davis(tmp_path)
    with pytest.raises(InputError, match=r"ImageSets has no list 2017/train.txt; it has test-dev, val"):
        info("davis-2017").open(root, "train")


def test_other_data_sets_have_no_other_splits(tmp_path):
    with pytest.raises(InputError, match="mose has no split 'val'; it has valid, test, train"):
        info("mose").open(trees.mose(tmp_path), "val")


# Trees that are wrong.


@pytest.mark.parametrize("name", EVERY_TREE)
def test_an_empty_folder_is_refused_by_name(tmp_path, name):
    with pytest.raises(InputError, match=str(tmp_path)) as caught:
        info(name).open(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, file, content, message",
    [
        pytest.param("ytvos-2019", "valid/meta.json", "[]", "meta.json is not a meta.json of YouTube-VOS", id="a list"),
        pytest.param(
            "ytvos-2019",
            "valid/meta.json",
            '{"videos": {"ant": {"objects": {"1": {"frames": []}}}}}',
            "meta.json of YouTube-VOS: an entry lacks 'category'",
            id="an object without category",
        ),
        pytest.param(
            "mose", "meta_valid.json", '{"videos": {"ant": {}}}', "of MOSE: an entry lacks 'objects'", id="MOSE"
        ),
        pytest.param(
            "lvos",
            "valid/valid_meta.json",
            '{"videos": {"ant": {"objects": {"1": {"frame_range": {"start": "one"}}}}}}',
            "not a meta file of LVOS: invalid literal",
            id="a range that is no number",
        ),
        pytest.param("viposeg", "valid/obj_class.json", "{", "cannot be read as the classes", id="half a file"),
        pytest.param(
            "viposeg",
            "valid/obj_class.json",
            '{"ant": {"1": 124}}',
            "object 1 of ant has the class 124, which vipseg has not",
            id="a class too many",
        ),
    ],
)
def test_a_meta_file_of_another_kind_is_refused_by_name(tmp_path, name, file, content, message):
    root = EVERY_TREE[name](tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        info(name).open(root)
    assert file in str(caught.value)


def test_two_folders_that_could_be_the_split_are_refused(tmp_path):
    trees.mose(tmp_path / "mose")
    trees.lvos(tmp_path / "lvos")
    with pytest.raises(InputError, match=r"lvos/valid and .*mose/valid could both be the valid split of MOSE"):
        info("mose").open(tmp_path)


def test_a_mask_without_picture_is_refused_by_name(tmp_path):
    trees.mose(tmp_path)
    (tmp_path / "valid/JPEGImages/bee/00003.jpg").unlink()
    with pytest.raises(
        InputError, match=r"valid/Annotations/bee/00003.png belongs to no picture: there is no .*00003.jpg"
    ):
        info("mose").open(tmp_path).videos[0]


def test_a_missing_mask_of_a_video_that_has_all_is_refused_by_name(tmp_path):
    trees.mose(tmp_path)
    (tmp_path / "valid/Annotations/bee/00003.png").unlink()
    video = info("mose").open(tmp_path).videos[0]
    with pytest.raises(InputError, match=r"there is no mask .*valid/Annotations/bee/00003.png"):
        video.annotation(3)


def test_a_listed_video_that_is_not_there_is_refused_by_name(tmp_path):
    root = trees.davis(tmp_path)
    trees.lines(root / "ImageSets/2017/val.txt", ["wasp"])
    with pytest.raises(InputError, match=r"wasp has no pictures in .*JPEGImages/480p/wasp and no masks in .*/wasp"):
        info("davis-2017").open(root).videos[0]
    sav_root = trees.sav(tmp_path)
    trees.lines(sav_root / "sav_val/sav_val.txt", ["wasp"])
    with pytest.raises(InputError, match=r"wasp is listed, but there is no folder .*Annotations_6fps/wasp"):
        info("sav").open(sav_root).videos[0]


def test_categories_that_cannot_be_told_seen_from_unseen_are_refused(tmp_path):
    shutil.rmtree(trees.ytvos(tmp_path) / "train")
    dataset = info("ytvos-2019").open(tmp_path)
    assert isinstance(dataset, ytvos.YoutubeVosDataset)
    with pytest.raises(InputError, match=r"has neither train/meta\.json nor seen_categories\.json"):
        dataset.seen_categories()


# Facts.


def test_fifty_one_videos_of_lvos_are_unseen_unless_a_list_says_otherwise(tmp_path):
    trees.lvos(tmp_path)
    dataset = info("lvos").open(tmp_path)
    assert isinstance(dataset, lvos.LvosDataset)
    assert dataset.unseen_videos == {"ant"}
    (tmp_path / "unseen_videos.txt").unlink()
    official = info("lvos").open(tmp_path)
    assert isinstance(official, lvos.LvosDataset)
    assert len(official.unseen_videos) == 51


def test_vi_p_o_seg_without_meta_file_finds_the_same_frames_in_the_given_masks(tmp_path):
    dataset = info("viposeg").open(trees.viposeg(tmp_path))
    assert isinstance(dataset, viposeg.ViposegDataset)
    listed = dataset.given()
    (tmp_path / "valid/meta.json").unlink()
    assert dataset.given() == listed == {name: {1: "00000000", 2: "00000000", 4: "00000022"} for name in NAMES}


@pytest.mark.skipif("MASKSTREAM_DATA" not in os.environ, reason="set MASKSTREAM_DATA to the folder of real data")
def test_real_davis_sequences_are_read():
    dataset = info("davis-2016").open(Path(os.environ["MASKSTREAM_DATA"]) / "davis16-dev", "dev")
    assert sum(len(video) for video in dataset.videos) == 836
    video = dataset.videos[0]
    assert (video.name, video.annotation(0).segmentation.size_hw) == ("bear", (480, 854))
    (prompt,) = video.prompts(Task.VOS)
    assert isinstance(prompt, MaskPrompt)
    assert torch.equal(prompt.mask, video.annotation(0).segmentation.masks_nhw()[0])
