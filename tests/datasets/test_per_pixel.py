"""The readers of the data sets with a label for every pixel, on miniature trees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskstream.datasets.classes import ADE20K, CAMVID, CITYSCAPES, CITYSCAPES_VPS, KITTI_STEP, VIPSEG, VSPW
from maskstream.types import InputError, VideoSample

from .trees_per_pixel import (
    CAR_GROUP,
    INFOS,
    TREES,
    VOID,
    Tree,
    camvid,
    cityscapes,
    cityscapes_vps,
    kitti_step,
    mapillary,
    save,
    touch,
    vipseg_720p,
    vipseg_raw,
    vspw,
)


def check(sample: VideoSample, tree: Tree) -> None:
    """Every labelled frame of a video is what was built."""
    frames = tree.videos[sample.name]
    assert [frame.stem for frame in sample.frames if frame.annotated] == list(frames)
    for index, frame in enumerate(sample.frames):
        if not frame.annotated:
            continue
        codes, annotation = frames[frame.stem], sample.annotation(index)
        shown = {code: region for code, region in tree.regions.items() if (codes == code).any()}
        expected = np.select([codes == code for code in shown], [region.id for region in shown.values()], 0)
        assert np.array_equal(annotation.segmentation.panoptic_map().numpy(), expected)
        segments = annotation.segmentation.segments
        assert {s.id: s.category for s in segments} == {r.id: r.category for r in shown.values()}
        assert all(s.track_id == s.id for s in segments)
        assert annotation.crowd_ids == {r.id for r in shown.values() if r.crowd}
        void = ~np.isin(codes, [*tree.regions, *tree.nothing])
        assert np.array_equal(np.zeros_like(void) if annotation.void is None else annotation.void.numpy(), void)
        assert annotation.segmentation.frame_index == index


@pytest.mark.parametrize("name", TREES)
def test_what_is_read_is_what_was_built(tmp_path, name):
    tree = TREES[name](tmp_path)
    dataset = tree.open()
    assert [video.name for video in dataset.videos] == sorted(tree.videos)
    for video in dataset.videos:
        check(video, tree)
        kinds = {category.id: category.is_thing for category in dataset.categories.categories}
        segments = [
            s for n, f in enumerate(video.frames) if f.annotated for s in video.annotation(n).segmentation.segments
        ]
        assert segments and all(segment.is_thing == kinds[segment.category or 0] for segment in segments)


def test_every_split_and_task_is_told():
    for info in INFOS.values():
        assert info.tasks and info.splits
        assert all((info.home, info.licence, info.about, info.layout, info.results, info.notes))


def test_the_class_lists_are_those_of_the_data_sets():
    sizes = [
        (c.name, len(c), sum(k.is_thing is True for k in c.categories)) for c in (VIPSEG, VSPW, CITYSCAPES, ADE20K)
    ]
    assert sizes == [("vipseg", 124, 58), ("vspw", 124, 58), ("cityscapes", 19, 8), ("ade20k", 150, 100)]
    assert (VIPSEG[98].name, VSPW[99].name, VIPSEG[60].name) == ("other_machine", "other_machine", "person")
    assert CITYSCAPES.ids == (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
    assert CITYSCAPES.names == CITYSCAPES_VPS.names == KITTI_STEP.names
    assert [c.id for c in KITTI_STEP.categories if c.is_thing] == [11, 13]
    assert CAMVID.ids == tuple(range(11))
    # The first and the last things of the instance task are bed, 8, and flag, 150.
    things = [c.id for c in ADE20K.categories if c.is_thing]
    assert (things[:5], things[-1]) == ([8, 9, 11, 13, 15], 150)


# Roots and splits.


@pytest.mark.parametrize(
    ("build", "inside"),
    [
        (vipseg_720p, "VIPSeg_720P"),
        (vipseg_720p, "VIPSeg_720P/panoptic_gt_VIPSeg_val.json"),
        (vspw, "VSPW_480p"),
        (cityscapes_vps, "cityscapes_vps"),
        (cityscapes_vps, "cityscapes_vps/panpotic_gt_val_city_vps.json"),
        (camvid, "CamVid"),
    ],
)
def test_the_root_may_be_the_folder_itself_or_its_annotation(tmp_path, build, inside):
    tree = build(tmp_path)
    dataset = INFOS[tree.name].open(tmp_path / inside)
    for video in dataset.videos:
        check(video, tree)


@pytest.mark.parametrize(
    ("build", "split", "videos"),
    [
        (vipseg_raw, "test", ["99_hidden"]),
        (vspw, "test", ["5_hidden"]),
        (kitti_step, "test", ["0000"]),
        (cityscapes, "test", ["berlin_000000_000019"]),
        (cityscapes_vps, "test", ["0005", "0010"]),
        (mapillary, "testing", ["x"]),
    ],
)
def test_test_splits_have_frames_but_no_labels(tmp_path, build, split, videos):
    dataset = build(tmp_path).open(split)
    assert [video.name for video in dataset.videos] == videos
    assert len(dataset.videos[0]) >= 1
    with pytest.raises(InputError, match="does not show the labels"):
        dataset.videos[0].annotation(0)


def test_labels_come_from_the_snippet_where_it_is_there(tmp_path):
    video = cityscapes(tmp_path).open().videos[1]
    assert len(video) == 30
    assert [n for n, frame in enumerate(video.frames) if frame.annotated] == [19]
    assert [video.frames[n].stem for n in (0, 19, 29)] == [f"frankfurt_000000_{n:06d}" for n in (275, 294, 304)]
    assert all(
        frame.image and frame.image.parent.parts[-3:] == ("leftImg8bit_sequence", "val", "frankfurt")
        for frame in video.frames
    )


def test_label_ids_alone_make_things_groups(tmp_path):
    tree = cityscapes(tmp_path)
    for path in tmp_path.glob("gtFine/val/*/*_instanceIds.png"):
        path.unlink()
    annotation = tree.open().videos[0].annotation(19)
    assert {s.id for s in annotation.segmentation.segments} == {7, 23, 24, 26}
    assert annotation.crowd_ids == {24, 26}


def test_every_frame_of_cityscapes_vps_is_there_and_every_fifth_is_labelled(tmp_path):
    video = cityscapes_vps(tmp_path).open().videos[1]
    assert len(video) == 30
    assert [n for n, frame in enumerate(video.frames) if frame.annotated] == [4, 9, 14, 19, 24, 29]
    with pytest.raises(InputError, match="0010: there are no labels of the frame 0010_0030_frankfurt_000000_002996"):
        video.annotation(0)


def test_frames_whose_picture_is_lost_stay(tmp_path):
    video = vspw(tmp_path).open().videos[1]
    assert video.name == "988_f_Xvy_DCPt8" and len(video) == 18
    assert video.frames[0].image == tmp_path / "VSPW_480p/data/988_f_Xvy_DCPt8/origin/00000003.jpg"


def test_vspw_tells_others_from_void(tmp_path):
    tree = vspw(tmp_path)
    annotation, codes = tree.open().videos[0].annotation(0), tree.videos["1001_aaa"]["00000003"]
    assert annotation.void is not None
    assert np.array_equal(annotation.void.numpy(), codes == VOID)
    assert (annotation.segmentation.panoptic_map().numpy()[codes == CAR_GROUP] == 0).all()


def test_vspw_takes_its_classes_from_their_file(tmp_path):
    tree = vspw(tmp_path)
    listing = tmp_path / "VSPW_480p/label_num_dic_final.json"
    # As published, numbers are texts.
    listing.write_text(json.dumps({"person": "61", "others": "0", "heaven": "29", "road": "19", "car": "49"}))
    categories = tree.open().categories
    assert (categories.ids, categories[29].name) == ((19, 29, 49, 61), "heaven")
    assert [c.is_thing for c in categories.categories] == [False, None, True, True]


def test_vipseg_keeps_the_order_in_which_segments_are_listed(tmp_path):
    tree = vipseg_720p(tmp_path)
    segments = tree.open().videos[0].annotation(0).segmentation.segments
    rows = json.loads(tree.paths["json"].read_text())["annotations"][0]["annotations"][0]["segments_info"]
    assert [s.id for s in segments] == [row["id"] for row in rows]


def test_a_segment_that_is_listed_twice_is_one_with_both_areas(tmp_path):
    tree = vipseg_720p(tmp_path)
    edit(tree, lambda plain: first_row(plain)["segments_info"].append(dict(first_row(plain)["segments_info"][0])))
    dataset: Any = tree.open()
    video = dataset.videos[0]
    check(video, tree)
    first = video.annotation(0).segmentation.segments[0].id
    pixels = int((video.annotation(0).segmentation.panoptic_map() == first).sum())
    assert dataset.areas(video, 0)[first] == 2 * pixels


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    tree = vipseg_720p(tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    assert [len(video) for video in tree.open().videos] == [8, 8]


# Bad input: one line that names the file.


def edit(tree: Tree, change: Callable[[Any], object]) -> None:
    plain = json.loads(tree.paths["json"].read_text())
    change(plain)
    tree.paths["json"].write_text(json.dumps(plain))


def first_row(plain: Any) -> Any:
    row = plain["annotations"][0]
    return row["annotations"][0] if "annotations" in row else row


def read_all(tree: Tree) -> None:
    for video in tree.open().videos:
        for index, frame in enumerate(video.frames):
            if frame.annotated:
                video.annotation(index)


@pytest.mark.parametrize("name", [name for name in INFOS if name != "mapillary-2.0"])
def test_a_wrong_root_is_told_with_what_is_there(tmp_path, name):
    touch(tmp_path / "something_else" / "x")
    with pytest.raises(InputError, match=r"it has something_else/$"):
        INFOS[name].open(tmp_path)


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def one_png(root: Path, pattern: str) -> Path:
    return sorted(p for p in root.glob(pattern) if not p.name.startswith("."))[0]


@pytest.mark.parametrize(
    ("build", "pattern"),
    [
        (vipseg_raw, "panomasks/0_aaa/*.png"),
        (vipseg_720p, "VIPSeg_720P/panomasksRGB/0_aaa/*.png"),
        (kitti_step, "panoptic_maps/val/0002/*.png"),
        (vspw, "VSPW_480p/data/1001_aaa/mask/*.png"),
        (cityscapes, "gtFine/val/aachen/*_instanceIds.png"),
        (cityscapes_vps, "cityscapes_vps/val/panoptic_video/*.png"),
        (camvid, "CamVid/valannot/*.png"),
        (TREES["ade20k"], "ADEChallengeData2016/annotations/validation/*.png"),
        (TREES["ade20k"], "ADEChallengeData2016/annotations_instance/validation/*.png"),
        (mapillary, "validation/instances/*.png"),
    ],
)
def test_a_damaged_mask_is_named(tmp_path, build, pattern):
    tree = build(tmp_path)
    path = one_png(tmp_path, pattern)
    damaged(path)
    with pytest.raises(InputError, match=f"{path.name} cannot be read as a PNG mask"):
        read_all(tree)


@pytest.mark.parametrize(
    ("build", "pattern"),
    [
        (vipseg_720p, "VIPSeg_720P/panomasksRGB/0_aaa/*.png"),
        (vspw, "VSPW_480p/data/1001_aaa/mask/*.png"),
        (cityscapes_vps, "cityscapes_vps/val/panoptic_video/*.png"),
        (camvid, "CamVid/valannot/*.png"),
    ],
)
def test_a_lost_mask_is_named(tmp_path, build, pattern):
    tree = build(tmp_path)
    path = one_png(tmp_path, pattern)
    path.unlink()
    with pytest.raises(InputError, match=f"there is no mask .*{path.name}"):
        read_all(tree)


def test_a_video_that_is_listed_but_not_there_is_named(tmp_path):
    tree = vspw(tmp_path)
    (tmp_path / "VSPW_480p/val.txt").write_text("1001_aaa\n7_lost\n")
    with pytest.raises(InputError, match=r"the video 7_lost has no pictures in .*mask: it does not exist"):
        list(tree.open().videos)


@pytest.mark.parametrize(
    ("build", "path", "mode", "value", "message"),
    [
        (vipseg_raw, "panomasks/0_aaa/00000003.png", "I;16", 12500, "value 12500, of class 124, which vipseg has not"),
        (kitti_step, "panoptic_maps/val/0002/000000.png", "RGB", 19, "class 19 in its red channel, which kitti-step"),
        (vspw, "VSPW_480p/data/1001_aaa/mask/00000003.png", "L", 125, "value 125, which is no class of vspw"),
        (camvid, "CamVid/valannot/0016E5_07959.png", "L", 12, "value 12, which is no class of camvid"),
        (mapillary, "validation/instances/-Aa_1.png", "I;16", 1280, "label 5, but 5 are named"),
    ],
)
def test_a_class_that_is_not_known_is_named_with_its_file(tmp_path, build, path, mode, value, message):
    tree = build(tmp_path)
    save(tmp_path / path, np.full((12, 20), value), mode=mode)
    with pytest.raises(InputError, match=f"{Path(path).name} has the {message}"):
        read_all(tree)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("annotations"), 'json is not the annotation of VIPSeg: it has no list "annotations"'),
        (lambda p: p["annotations"][0].pop("video_id"), "json is not a list of videos .* an entry lacks 'video_id'"),
        (lambda p: p["annotations"].append(p["annotations"][0]), "json lists the video 0_aaa twice"),
        (lambda p: p["annotations"].pop(), "json lists the video 12_bbb, but no annotations of it"),
        (lambda p: p["annotations"][0]["annotations"].append(first_row(p)), "lists the frame 00000003 of 0_aaa twice"),
        (lambda p: p.pop("videos"), "json is not a list of videos .* an entry lacks 'videos'"),
        (lambda p: p["categories"][0].pop("name"), "json is not a list of categories: an entry lacks 'name'"),
        (lambda p: p["categories"].append(p["categories"][0]), "json: label space 'vipseg' uses the id 0 twice"),
        (lambda p: first_row(p)["segments_info"].pop(), "00000003.png has the id 9, which panoptic_gt_VIPSeg_val.json"),
        (lambda p: first_row(p)["segments_info"][0].pop("id"), "not the segments of 00000003: an entry lacks 'id'"),
        (
            lambda p: first_row(p)["segments_info"][0].update(category_id=124),
            "segment 300 of 00000003 has the category 124, which vipseg has not",
        ),
    ],
)
def test_a_json_file_of_another_kind_is_named_with_what_it_lacks(tmp_path, change, message):
    tree = vipseg_720p(tmp_path)
    edit(tree, change)
    with pytest.raises(InputError, match=message):
        read_all(tree)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("images"), "json is not a list of pictures as Cityscapes-VPS has it: an entry lacks 'images'"),
        (
            lambda p: p.update(annotations=p["annotations"][:6]),
            "json lists pictures of the video 0010, but no annotations",
        ),
        (lambda p: p["annotations"].append(p["annotations"][0]), "lists 0005_0000_frankfurt_000000_001736 twice"),
    ],
)
def test_a_json_file_of_cityscapes_vps_is_checked_too(tmp_path, change, message):
    tree = cityscapes_vps(tmp_path)
    edit(tree, change)
    with pytest.raises(InputError, match=message):
        tree.open()


def test_a_json_file_that_is_none_is_named(tmp_path):
    tree = vipseg_720p(tmp_path)
    tree.paths["json"].write_text("{")
    with pytest.raises(InputError, match=r"panoptic_gt_VIPSeg_val.json cannot be read as the annotation of VIPSeg"):
        tree.open()


def test_pictures_of_ade20k_that_do_not_fit_each_other_are_named(tmp_path):
    tree = TREES["ade20k"](tmp_path)
    path = one_png(tmp_path, "ADEChallengeData2016/annotations_instance/validation/*.png")
    with Image.open(path) as image:
        image.crop((0, 0, 5, 5)).save(path)
    with pytest.raises(InputError, match=r"ADE_val_00000001.png differ in size"):
        read_all(tree)
