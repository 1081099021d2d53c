"""KITTI-MOTS: what is written is read again, disjoint and with ids that say the class."""

import numpy as np
import pytest

from maskstream.formats.mots import read_mots, read_mots_results, write_mots, write_mots_results
from maskstream.types import CategorySet, InputError
from tests.datasets.trees_tracks import FRAMES, NAMES, SIZE

from .track_samples import CATEGORIES, video

CLASSES = (1, 2, 10)


def on_top(index: int) -> dict[int, np.ndarray]:
    """What is seen of each thing."""
    segmentation = video().annotation(index).segmentation
    labels = segmentation.label_map().numpy()
    return {s.id: labels == n for n, s in enumerate(segmentation.segments, 1) if s.is_thing and (labels == n).any()}


def test_truth_is_read_as_it_was_written(tmp_path):
    write_mots(tmp_path, [video()], CATEGORIES)
    text = read_mots(tmp_path / f"instances_txt/{NAMES[0]}.txt", classes=CLASSES)
    assert text.size_hw == SIZE
    for index in range(FRAMES):
        annotation, wanted = text.annotation(index, index, SIZE), on_top(index)
        ids = {1: 1001, 2: 2001, 5: 1002}
        assert {s.id: s.category for s in annotation.segmentation.segments} == {ids[n]: ids[n] // 1000 for n in wanted}
        for segment, mask in zip(annotation.segmentation.segments, annotation.segmentation.masks_nhw(), strict=True):
            (track,) = (n for n, number in ids.items() if number == segment.id)
            assert np.array_equal(mask.numpy(), wanted[track])
        void = video().annotation(index).void
        assert void is not None
        assert annotation.void is not None
        assert np.array_equal(annotation.void.numpy(), void.numpy())
    assert (tmp_path / "evaluate_mots.seqmap.val").read_text() == f"{NAMES[0]} empty 000000 {FRAMES:06d}\n"
    assert (tmp_path / "image_02" / NAMES[0] / "000005.jpg").is_file()


def test_truth_has_annotated_frames_only_and_numbers_them_anew(tmp_path):
    write_mots(tmp_path, [video(unlabelled=(0, 3))], CATEGORIES)
    text = read_mots(tmp_path / f"instances_txt/{NAMES[0]}.txt", classes=CLASSES)
    assert list(text.lines) == [0, 1, 2, 3]
    assert [len(text.lines[n]) for n in range(4)] == [len(on_top(index)) + 1 for index in (1, 2, 4, 5)]


def test_results_keep_the_numbers_of_frames_and_have_no_region_to_ignore(tmp_path):
    write_mots_results(tmp_path, [video()], CATEGORIES)
    ((name, sample),) = read_mots_results(tmp_path, classes=(1, 2)).items()
    assert name == NAMES[0]
    assert [frame.stem for frame in sample.frames] == [f"{5 * n:06d}" for n in range(FRAMES)]
    for index in range(FRAMES):
        annotation = sample.annotation(index)
        assert annotation.void is None
        shown = annotation.segmentation.masks_nhw()
        assert int(shown.sum(dim=0).max()) == 1
        assert np.array_equal(shown.any(dim=0), np.any([*on_top(index).values()], axis=0))


def test_ids_that_already_say_the_class_stay(tmp_path):
    write_mots_results(tmp_path / "a", [video()], CATEGORIES)
    (sample,) = read_mots_results(tmp_path / "a", classes=(1, 2)).values()
    write_mots_results(tmp_path / "b", [sample], CATEGORIES)
    file = f"{NAMES[0]}.txt"
    assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_category_of_another_label_space_is_refused(tmp_path):
    with pytest.raises(InputError, match=f"{NAMES[0]}: segment 2 has category 2, which custom has not"):
        write_mots_results(tmp_path, [video()], CategorySet.from_names(["car"]))


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        read_mots_results(tmp_path, classes=(1, 2))
