"""BURST: what is written is read again."""

import json

import numpy as np
import pytest

from maskstream.formats.burst import (
    BurstFile,
    read_burst_results,
    write_burst,
    write_burst_class_results,
    write_burst_exemplar_results,
    write_burst_open_world_results,
)
from maskstream.types import FrameAnnotation, MaskPrompt, PointPrompt, Task
from tests.datasets.trees_tracks import FRAMES, NAMES, masks

from .track_samples import CATEGORIES, video


def objects(annotation: FrameAnnotation) -> dict[int, tuple[int | None, float | None, bytes]]:
    segmentation = annotation.segmentation
    found = zip(segmentation.segments, segmentation.masks_nhw().numpy(), strict=True)
    return {s.track_id: (s.category, s.score, mask.tobytes()) for s, mask in found}


def wanted(index: int, score: float | None, *, name: str = NAMES[0]) -> dict[int, object]:
    here = {t: mask for t, of in masks(name).items() if (mask := of[index]) is not None}
    return {t: ({1: 1, 2: 2, 5: 1}[t], score, mask.tobytes()) for t, mask in here.items()}


def test_truth_is_read_as_it_was_written(tmp_path):
    write_burst(tmp_path, [video(), video(NAMES[1], unlabelled=(1, 2))], CATEGORIES)
    folder = tmp_path / "annotations/val"
    file, first = BurstFile(folder / "all_classes.json"), BurstFile(folder / "first_frame_annotations.json")
    assert file.names == [f"Synthetic/{name}" for name in NAMES]
    sample = file.sample(file.names[0], tmp_path / "frames/val", first)
    assert sample.fps == 6.0
    assert all(frame.image is not None and frame.image.is_file() for frame in sample.frames)
    for index in range(FRAMES):
        assert objects(sample.annotation(index)) == wanted(index, None)
    assert file.record(file.names[0]).negative == frozenset()
    other = file.sample(file.names[1], tmp_path / "frames/val", first)
    assert [frame.annotated for frame in other.frames] == [True, False, False, True, True, True]
    info = json.loads((tmp_path / "annotations/info/class_split.json").read_text())
    assert info == {"common": [1, 2], "uncommon": [], "all": [1, 2]}


def test_exemplars_are_given_where_an_object_is_first_seen_and_points_lie_deep_inside(tmp_path):
    write_burst(tmp_path, [video()], CATEGORIES)
    folder = tmp_path / "annotations/val"
    file, first = BurstFile(folder / "all_classes.json"), BurstFile(folder / "first_frame_annotations.json")
    sample = file.sample(file.names[0], tmp_path, first)
    for prompt in (*sample.prompts(Task.PET), *sample.prompts(Task.VOS)):
        assert isinstance(prompt, PointPrompt | MaskPrompt)
        assert prompt.frame_index == {1: 0, 2: 0, 5: 2}[prompt.object_id]
        mask = masks(NAMES[0])[prompt.object_id][prompt.frame_index]
        assert mask is not None
        if isinstance(prompt, MaskPrompt):
            assert np.array_equal(prompt.mask.numpy(), mask)
        else:
            (x, y) = map(int, prompt.points_xy[0])
            assert mask[y - 1 : y + 2, x - 1 : x + 2].all()


def test_the_name_of_a_video_tells_the_data_set_it_comes_from(tmp_path):
    from dataclasses import replace

    sample = replace(video(video_id=9), name="LaSOT/bear-2")
    write_burst_exemplar_results(tmp_path, [sample], CATEGORIES)
    (sequence,) = json.loads((tmp_path / "exemplar_guided.json").read_text())["sequences"]
    assert (sequence["dataset"], sequence["seq_name"], sequence["id"]) == ("LaSOT", "bear-2", 9)


@pytest.mark.parametrize(
    "write, file",
    [
        (write_burst_exemplar_results, "exemplar_guided.json"),
        (write_burst_class_results, "class_guided.json"),
        (write_burst_open_world_results, "open_world.json"),
    ],
)
def test_results_are_read_as_they_were_written(tmp_path, write, file):
    write(tmp_path, [video(NAMES[1], scores={1: 0.5, 2: 0.5, 5: 0.5}, disjoint=True)], CATEGORIES)
    ((name, sample),) = read_burst_results(tmp_path / file).items()
    assert name == sample.name == f"Synthetic/{NAMES[1]}"
    assert [frame.stem for frame in sample.frames] == [f"{5 * n:05d}" for n in range(FRAMES)]
    truth = video(NAMES[1], scores={1: 0.5, 2: 0.5, 5: 0.5}, disjoint=True)
    for index in range(FRAMES):
        things = {t: one for t, one in objects(truth.annotation(index)).items() if t != 9}
        assert objects(sample.annotation(index)) == things


def test_masks_of_the_open_world_are_disjoint_and_others_may_overlap(tmp_path):
    sample = video(scores={1: 0.9, 2: 0.5, 5: 0.1})
    for write, file, most in (
        (write_burst_open_world_results, "open_world.json", 1),
        (write_burst_exemplar_results, "exemplar_guided.json", 2),
    ):
        write(tmp_path, [sample], CATEGORIES)
        (found,) = read_burst_results(tmp_path / file).values()
        depth = found.annotation(0).segmentation.masks_nhw().sum(dim=0)
        assert int(depth.max()) == most


def test_results_keep_the_names_of_the_files_of_the_data_set(tmp_path):
    write_burst_exemplar_results(tmp_path, [video(image=tmp_path / "x.png")], CATEGORIES)
    (sequence,) = json.loads((tmp_path / "exemplar_guided.json").read_text())["sequences"]
    assert sequence["annotated_image_paths"][1] == "00005.png"
