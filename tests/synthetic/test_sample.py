import hashlib
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskstream.formats import read_label_png
from maskstream.synthetic import render_sample, write_sample
from maskstream.types import Frame, FrameAnnotation, InputError, OutputError

SMALL = (120, 214)


def ids_of(annotation: FrameAnnotation) -> NDArray[np.int32]:
    ids: NDArray[np.int32] = annotation.segmentation.panoptic_map().numpy()
    return ids


def one(
    index: int, *, objects: int = 4, seed: int = 0, size_hw: tuple[int, int] = SMALL
) -> tuple[Frame, NDArray[np.int32]]:
    sample = render_sample(frames=index + 1, objects=objects, seed=seed, size_hw=size_hw)
    frame, annotation = next(itertools.islice(sample, index, None))
    return frame, ids_of(annotation)


@pytest.fixture(scope="module")
def truth() -> list[NDArray[np.int32]]:
    return [ids_of(annotation) for _, annotation in render_sample(size_hw=SMALL)]


@pytest.mark.parametrize(
    "arguments, digests",
    [
        pytest.param(
            {}, {0: "22b89e1c096e436a", 45: "b8920c01ec019ab0", 70: "0c214521b19d0704"}, id="the default clip"
        ),
        pytest.param(
            {"size_hw": SMALL, "objects": 6, "seed": 5},
            {0: "c95ae10ada3429d2", 33: "48f4059ca35e811f"},
            id="small, six objects, another seed",
        ),
    ],
)
def test_every_machine_draws_these_pixels_and_ids(arguments, digests):
    # Computed by this code when it was written; a change of one pixel changes the sample of a release.
    for frame, annotation in render_sample(frames=max(digests) + 1, **arguments):
        if frame.index in digests:
            digest = hashlib.sha256(frame.image.tobytes() + ids_of(annotation).tobytes())
            assert digest.hexdigest()[:16] == digests[frame.index]


def test_frames_are_drawn_when_they_are_asked_for():
    sample = render_sample(frames=10**9, size_hw=(32, 32))
    frame, annotation = next(sample)
    assert frame.index == annotation.segmentation.frame_index == 0
    assert next(sample)[0].timestamp == pytest.approx(1 / 24)


def test_a_short_clip_is_the_beginning_of_a_long_one():
    short = [frame.image for frame, _ in render_sample(frames=67, size_hw=(32, 48))]
    long = [frame.image for frame, _ in itertools.islice(render_sample(frames=500, size_hw=(32, 48)), 67)]
    np.testing.assert_array_equal(short, long)


@pytest.mark.parametrize("added, index", [(2, 0), (2, 62), (3, 10), (3, 80), (4, 60)])
def test_an_object_changes_the_pixels_of_its_mask_and_none_far_from_it(added, index):
    with_it, ids = one(index, objects=added, size_hw=(240, 427))
    without, _ = one(index, objects=added - 1, size_hw=(240, 427))
    changed = (with_it.image != without.image).any(axis=-1)
    mask = ids == added
    assert changed[mask].mean() > 0.97
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert not changed[~near].any()


def test_the_annotation_says_one_thing_class_and_ids_that_are_track_ids():
    for _, annotation in render_sample(frames=70, size_hw=SMALL):
        segmentation = annotation.segmentation
        assert segmentation.disjoint
        assert annotation.annotated and annotation.void is None
        assert all((s.id, s.category, s.is_thing) == (s.track_id, 1, True) for s in segmentation.segments)
        assert (segmentation.areas() > 0).all()


def test_what_happens_is_what_the_module_promises(truth):
    visible = {number: [n for n, ids in enumerate(truth) if (ids == number).any()] for number in (1, 2, 3, 4)}
    assert visible[1] == visible[2] == list(range(90)), "the large fish and the turtle never leave"
    gap = sorted(set(range(90)) - set(visible[3]))
    assert gap == list(range(gap[0], gap[-1] + 1)) and len(gap) >= 10 and gap[0] > 10 and gap[-1] < 80, "small fish"
    assert visible[4] == list(range(visible[4][0], 90)) and 30 <= visible[4][0] <= 50, (
        "the octopus comes late and stays"
    )


def test_the_turtle_hides_a_quarter_of_the_large_fish_for_a_while(truth):
    hidden = []
    for (_, alone), ids in zip(render_sample(frames=75, objects=1, size_hw=SMALL), truth[:75], strict=True):
        fish = ids_of(alone) == 1
        hidden.append((ids[fish] == 2).mean())
    assert hidden[0] == 0
    assert 0.2 < max(hidden) < 0.4


def test_objects_move_a_few_pixels_a_frame(truth):
    for number in (1, 2):
        centres = np.array([np.argwhere(ids == number).mean(axis=0) for ids in truth[:40]])
        speed = np.linalg.norm(np.diff(centres, axis=0), axis=1) * 480 / SMALL[0]
        assert 2 < speed.mean() < 6


def test_the_whole_picture_moves_with_the_camera():
    first, later = (one(index, objects=1)[0].image.astype(int) for index in (0, 16))
    top, left = 20, 100  # a window that the fish does not reach
    differences = {
        (dy, dx): np.abs(later[top : top + 30, left : left + 60] - first[top + dy :, left + dx :][:30, :60]).mean()
        for dy in range(-8, 9)
        for dx in range(-8, 9)
    }
    assert min(differences, key=lambda shift: differences[shift]) == (2, 5)  # 0.3 pixels a frame to the right


@pytest.mark.parametrize("seed", [1, 2**31])
def test_another_seed_is_another_clip_in_which_the_same_happens(seed):
    frame, _ = one(0, seed=seed)
    assert not np.array_equal(frame.image, one(0)[0].image)
    visible = [set(np.unique(ids_of(a)).tolist()) for _, a in render_sample(seed=seed, size_hw=SMALL)]
    assert 4 not in visible[0] and 4 in visible[89]
    assert 3 in visible[0] and 3 not in visible[50] and 3 in visible[89]


def test_sixteen_objects_keep_their_numbers():
    seen = set()
    for _, annotation in itertools.islice(render_sample(objects=16, size_hw=SMALL, frames=91), 0, 91, 10):
        seen |= {segment.track_id for segment in annotation.segmentation.segments}
    assert seen == set(range(1, 17))


@pytest.mark.parametrize(
    "arguments", [{"frames": 0}, {"size_hw": (16, 854)}, {"objects": 0}, {"objects": 17}], ids=lambda a: next(iter(a))
)
def test_arguments_out_of_range_are_refused_at_once(arguments):
    with pytest.raises(InputError, match="at least 1 frame"):
        render_sample(**arguments)


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_written_sample_is_a_video_and_a_davis_folder(tmp_path):
    from maskstream.video import open_video

    counts: list[int] = []
    folder = write_sample(tmp_path / "clip.mp4", frames=3, size_hw=SMALL, on_frame=counts.append)
    assert counts == [1, 2, 3]
    assert folder == tmp_path / "clip_davis"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "clip_davis"]
    names = ["00000", "00001", "00002"]
    assert files_under(folder) == [
        *(f"Annotations/480p/clip/{name}.png" for name in names),
        "ImageSets/2017/val.txt",
        *(f"JPEGImages/480p/clip/{name}.jpg" for name in names),
    ]
    assert (folder / "ImageSets/2017/val.txt").read_text() == "clip\n"
    video = list(open_video(tmp_path / "clip.mp4"))
    for (frame, annotation), name, decoded in zip(render_sample(frames=3, size_hw=SMALL), names, video, strict=True):
        np.testing.assert_array_equal(read_label_png(folder / f"Annotations/480p/clip/{name}.png"), ids_of(annotation))
        jpeg = cv2.imread(str(folder / f"JPEGImages/480p/clip/{name}.jpg"))
        assert jpeg is not None
        for stored in (jpeg[..., ::-1], decoded.image):
            assert np.abs(stored.astype(int) - frame.image).mean() < 8
        assert decoded.timestamp == pytest.approx(frame.timestamp, abs=1e-3)


def test_writing_again_replaces_the_earlier_sample(tmp_path):
    write_sample(tmp_path / "clip.mp4", frames=3, size_hw=(32, 48))
    first = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / ".clip_davis.partial" / "JPEGImages").mkdir(parents=True)  # as a killed run leaves it
    folder = write_sample(tmp_path / "clip.mp4", frames=2, size_hw=(32, 48))
    assert len(files_under(folder)) == 5
    write_sample(tmp_path / "clip.mp4", frames=3, size_hw=(32, 48))
    assert (tmp_path / "clip.mp4").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "clip_davis"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "clip_davis").mkdir()
    (tmp_path / "clip_davis" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="clip_davis exists and is not"):
        write_sample(tmp_path / "clip.mp4", frames=1, size_hw=(32, 48))
    assert files_under(tmp_path) == ["clip_davis/thesis.tex"]


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"clip\.mp4"):
        write_sample(tmp_path / "file" / "clip.mp4", frames=1, size_hw=(32, 48))


def test_only_mp4_is_written(tmp_path):
    with pytest.raises(InputError, match=r"clip\.mp4, not clip\.avi"):
        write_sample(tmp_path / "clip.avi", frames=1)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def stop(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "clip.mp4", frames=5, size_hw=(32, 48), on_frame=stop)
    assert list(tmp_path.iterdir()) == []


def test_label_maps_are_positions_in_the_list_of_visible_segments():
    frame_with_gap = next(itertools.islice(render_sample(frames=51, size_hw=SMALL), 50, None))[1].segmentation
    assert [segment.id for segment in frame_with_gap.segments] == [1, 2, 4]
    assert torch.unique(frame_with_gap.label_map()).tolist() == [0, 1, 2, 3]
