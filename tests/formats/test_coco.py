"""COCO with videos: what is written is read again, here and by pycocotools."""

import numpy as np
import pytest
from pycocotools.coco import COCO

from maskstream.formats.coco import CocoFile, write_coco
from maskstream.types import InputError
from tests.datasets import trees_tracks as trees
from tests.datasets.trees_tracks import FRAMES, NAMES, change_json, masks

from .track_samples import CATEGORIES, CROWD, video

FILE = "annotations/instances_val.json"


@pytest.fixture
def root(tmp_path):
    write_coco(tmp_path, [video(video_id=40), video(NAMES[1], unlabelled=(0,))], CATEGORIES)
    return tmp_path


def test_videos_are_read_as_they_were_written(root):
    file = CocoFile(root / FILE)
    assert file.names == list(NAMES)
    assert file.categories.names == ("car", "pedestrian")
    for name, first, video_id in ((NAMES[0], 0, 40), (NAMES[1], 1, 2)):
        sample = file.sample(name, root / "val")
        assert sample.video_id == video_id
        assert [frame.stem for frame in sample.frames] == [f"{5 * n:05d}" for n in range(first, FRAMES)]
        assert all(frame.image is not None and frame.image.is_file() for frame in sample.frames)
        for index in range(len(sample)):
            annotation = sample.annotation(index)
            here = {t: mask for t, of in masks(name).items() if (mask := of[index + first]) is not None}
            assert {s.track_id: s.category for s in annotation.segmentation.segments} == {
                t: {1: 1, 2: 2, 5: 1}[t] for t in here
            }
            assert np.array_equal(annotation.segmentation.masks_nhw().numpy(), np.stack(list(here.values())))
            assert annotation.crowd_ids == {CROWD} & here.keys()


def test_pycocotools_reads_the_same_masks_areas_and_boxes(root, capsys):
    official = COCO(str(root / FILE))
    for number, image in official.imgs.items():
        found = official.imgToAnns[number]
        name = image["file_name"].split("/")[0]
        here = {t: mask for t, of in masks(name).items() if (mask := of[image["frame_index"]]) is not None}
        assert {one["track_id"] for one in found} == here.keys()
        for one in found:
            mask = here[one["track_id"]]
            assert np.array_equal(official.annToMask(one), mask)
            assert one["area"] == mask.sum()
            rows, columns = np.nonzero(mask)
            assert one["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert one["iscrowd"] == (one["track_id"] == CROWD)


def test_frames_of_a_video_are_in_the_order_of_their_numbers_wherever_they_stand(root):
    change_json(root / FILE, lambda plain: plain["images"].reverse())
    file = CocoFile(root / FILE)
    assert file.names == list(reversed(NAMES))
    assert [f.stem for f in file.sample(NAMES[0], root).frames] == [f"{5 * n:05d}" for n in range(FRAMES)]


def test_tracks_that_count_from_zero_are_raised_by_one_in_all_frames_of_their_video(root):
    def from_zero(plain):
        for one in plain["annotations"]:
            one["track_id"] -= 2 * (one["track_id"] == 2)

    change_json(root / FILE, from_zero)
    sample = CocoFile(root / FILE).sample(NAMES[0], root)
    ids = [[s.track_id for s in sample.annotation(index).segmentation.segments] for index in range(FRAMES)]
    assert ids == [[2, 1], [2, 1], [2, 1, 6], [2, 6], [2, 1, 6], [2, 1, 6]]


def test_videos_of_one_name_stay_apart(root):
    change_json(root / FILE, lambda plain: [one.update(name="same") for one in plain["videos"]])
    assert CocoFile(root / FILE).names == ["same", "same-2"]


def test_a_file_without_annotations_hides_its_labels(tmp_path):
    file = change_json(trees.coco(tmp_path) / trees.COCO_VAL, lambda plain: plain.pop("annotations"))
    sample = CocoFile(file).sample("000000000139", tmp_path)
    with pytest.raises(InputError, match="does not show the labels"):
        sample.annotation(0)
