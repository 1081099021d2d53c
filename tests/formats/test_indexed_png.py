import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from maskstream.formats.davis import write_proposals
from maskstream.formats.indexed_png import (
    labelled_frame,
    mask_files,
    object_files,
    read_foreground,
    read_mask_folders,
    read_masks,
    read_object_folders,
    write_foreground_folders,
    write_mask_folders,
    write_object_folders,
)
from maskstream.types import FrameAnnotation, FrameRef, FrameSegmentation, InputError, Segment, VideoSample

SIZE = (5, 7)
fresh_folders = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
videos_of_ids = st.lists(
    arrays(np.int32, SIZE, elements=st.sampled_from([0, 1, 2, 7, 254, 255])), min_size=1, max_size=4
)
videos_of_masks = st.lists(
    st.dictionaries(st.sampled_from([1, 2, 12]), arrays(np.bool_, SIZE), max_size=3), min_size=1, max_size=4
)


def ids_of(annotation: FrameAnnotation) -> np.ndarray:
    return annotation.segmentation.panoptic_map().numpy()


def video_of_ids(frames, name="v", first=3) -> VideoSample:
    """Frames that are named by other numbers than their positions."""
    refs = tuple(FrameRef(f"{first + 2 * n:05d}") for n in range(len(frames)))
    return VideoSample(name, refs, lambda index: labelled_frame(frames[index], index))


def video_of_masks(frames) -> VideoSample:
    def read(index: int) -> FrameAnnotation:
        segments = tuple(Segment(o, o) for o in frames[index])
        stack = np.stack(list(frames[index].values())) if segments else np.zeros((0, *SIZE), bool)
        return FrameAnnotation(FrameSegmentation.from_masks(index, segments, torch.from_numpy(stack)))

    return VideoSample("v", tuple(FrameRef(f"{n:05d}") for n in range(len(frames))), read)


# A folder a video.


@fresh_folders
@given(frames=videos_of_ids)
def test_ids_that_are_written_are_read(tmp_path_factory, frames):
    root = tmp_path_factory.mktemp("masks")
    write_mask_folders(root, [video_of_ids(frames)])
    video = read_mask_folders(root)["v"]
    assert [frame.stem for frame in video.frames] == [f"{3 + 2 * n:05d}" for n in range(len(frames))]
    for index, ids in enumerate(frames):
        annotation = video.annotation(index)
        np.testing.assert_array_equal(ids_of(annotation), ids)
        assert annotation.segmentation.frame_index == index


@fresh_folders
@given(frames=videos_of_masks)
def test_foregrounds_that_are_written_are_read(tmp_path_factory, frames):
    root = tmp_path_factory.mktemp("masks")
    write_foreground_folders(root, [video_of_masks(frames)])
    video = read_mask_folders(root, read=read_foreground)["v"]
    for index, masks in enumerate(frames):
        union = np.logical_or.reduce([np.zeros(SIZE, bool), *masks.values()])
        np.testing.assert_array_equal(ids_of(video.annotation(index)), union)


def test_palette_pictures_are_those_that_other_tools_read(tmp_path):
    ids = np.array([[0, 1], [2, 255]])
    write_mask_folders(tmp_path, [video_of_ids([ids])])
    with Image.open(tmp_path / "v/00003.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), ids)
        assert image.convert("RGB").getpixel((1, 0)) == (128, 0, 0)


def test_the_track_is_what_is_written(tmp_path):
    segments = (Segment(5, 2), Segment(7, 3))
    masks = torch.tensor([[[True, False]], [[False, True]]])
    annotation = FrameAnnotation(FrameSegmentation.from_masks(0, segments, masks))
    write_mask_folders(tmp_path, [VideoSample("v", (FrameRef("0"),), lambda index: annotation)])
    assert ids_of(read_mask_folders(tmp_path)["v"].annotation(0)).tolist() == [[2, 3]]


def test_ids_beyond_255_need_to_be_allowed(tmp_path):
    video = video_of_ids([np.array([[0, 300]])])
    with pytest.raises(InputError, match=r"00003.png has the id 300: this layout ends at 255"):
        write_mask_folders(tmp_path / "a", [video])
    write_mask_folders(tmp_path / "b", [video], large_ids=True)
    assert ids_of(read_mask_folders(tmp_path / "b")["v"].annotation(0)).tolist() == [[0, 300]]


def test_a_video_without_frames_leaves_an_empty_folder(tmp_path):
    write_mask_folders(tmp_path, [VideoSample("v", ())])
    assert len(read_mask_folders(tmp_path)["v"]) == 0


# What values mean.


@pytest.mark.parametrize(
    "at_255, ids, void",
    [
        pytest.param("object", [[1, 255], [0, 9]], None, id="an object"),
        pytest.param("nothing", [[1, 0], [0, 9]], None, id="nothing"),
        pytest.param("void", [[1, 0], [0, 9]], [[False, True], [False, False]], id="void"),
    ],
)
def test_255_is_what_the_benchmark_says(at_255, ids, void):
    annotation = labelled_frame(np.array([[1, 255], [0, 9]], np.int32), 4, at_255=at_255)
    assert ids_of(annotation).tolist() == ids
    assert (None if annotation.void is None else annotation.void.tolist()) == void


def test_a_picture_without_void_has_no_void_mask():
    assert labelled_frame(np.array([[1, 2]], np.int32), 0, at_255="void").void is None


@pytest.mark.parametrize("mode, dtype", [("L", np.uint8), ("I;16", np.uint16)])
def test_grey_pictures_are_ids_too(tmp_path, mode, dtype):
    Image.fromarray(np.array([[0, 3], [200, 3]], dtype)).save(tmp_path / "a.png")
    annotation = read_masks(tmp_path / "a.png", 0)
    assert ids_of(annotation).tolist() == [[0, 3], [200, 3]]
    assert [segment.track_id for segment in annotation.segmentation.segments] == [3, 200]


@pytest.mark.parametrize(
    "values, palette, foreground",
    [
        pytest.param([0, 255], False, [0, 1], id="0 and 255"),
        pytest.param([0, 1], False, [0, 1], id="0 and 1"),
        pytest.param([0, 100], False, [0, 1], id="0 and another"),
        pytest.param([0, 1, 2], True, [0, 1, 1], id="objects of a palette picture"),
        pytest.param([0, 60, 127, 128, 255], False, [0, 0, 0, 1, 1], id="a saliency map is cut at one half"),
        pytest.param([0, 5, 20], False, [0, 0, 0], id="a saliency map that is sure of nothing"),
        pytest.param([0], False, [0], id="nothing"),
    ],
)
def test_foreground_is_what_is_not_background(tmp_path, values, palette, foreground):
    image = Image.fromarray(np.array([values], np.uint8))
    if palette:
        image.putpalette([0] * 768)
    image.save(tmp_path / "a.png")
    assert ids_of(read_foreground(tmp_path / "a.png", 0)).tolist() == [foreground]


def test_hidden_files_and_others_are_no_masks(tmp_path):
    for name in ("._1.png", "1.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "2.PNG").write_bytes(b"")
    assert list(mask_files(tmp_path)) == ["2"]
    assert mask_files(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\x00\x00", b"text"])
def test_a_damaged_picture_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "v").mkdir()
    (tmp_path / "v/00001.png").write_bytes(content)
    with pytest.raises(InputError, match=r"v/00001.png"):
        read_mask_folders(tmp_path)["v"].annotation(0)


# A folder an object.


@fresh_folders
@given(frames=videos_of_masks)
def test_masks_that_overlap_are_read_as_they_were_written(tmp_path_factory, frames):
    root = tmp_path_factory.mktemp("objects")
    write_object_folders(root, [video_of_masks(frames)])
    everybody = sorted({o for masks in frames for o in masks})
    if not everybody:
        assert list(root.iterdir()) == []
        return
    video = read_object_folders(root)["v"]
    for index, masks in enumerate(frames):
        segmentation = video.annotation(index).segmentation
        assert [segment.track_id for segment in segmentation.segments] == everybody
        for o, mask in zip(everybody, segmentation.masks_nhw().numpy(), strict=True):
            np.testing.assert_array_equal(mask, masks.get(o, np.zeros(SIZE, bool)))


def test_objects_are_counted_from_zero_in_folders_and_are_there_on_every_frame(tmp_path):
    nothing: dict[int, np.ndarray] = {}
    something = {2: np.eye(*SIZE, dtype=bool)}
    write_object_folders(tmp_path, [video_of_masks([nothing, something, nothing])], objects=lambda name: [4])
    assert {o: list(files) for o, files in object_files(tmp_path / "v").items()} == {
        o: ["00000", "00001", "00002"] for o in (2, 4)
    }
    with Image.open(tmp_path / "v/001/00001.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), 255 * np.eye(*SIZE, dtype=int))


def test_a_folder_that_is_no_number_and_masks_of_two_sizes_are_refused_by_name(tmp_path):
    (tmp_path / "v/dog").mkdir(parents=True)
    with pytest.raises(InputError, match=r"v/dog is not named by the number of an object"):
        read_object_folders(tmp_path)
    (tmp_path / "v/dog").rename(tmp_path / "v/000")
    (tmp_path / "v/001").mkdir()
    Image.new("L", (4, 3)).save(tmp_path / "v/000/1.png")
    Image.new("L", (4, 5)).save(tmp_path / "v/001/1.png")
    with pytest.raises(InputError, match=r"v/001/1.png is 5×4, but the mask of object 1 3×4"):
        read_object_folders(tmp_path)["v"].annotation(0)


# Proposals.


def test_the_tracks_that_cover_most_are_the_proposals_numbered_in_order(tmp_path):
    frames = [np.zeros((30, 30), np.int32) for _ in range(2)]
    for o in range(1, 31):
        frames[o % 2][o - 1, :o] = 10 * o  # the id grows with the area; half of them on either frame
    write_proposals(tmp_path, [video_of_ids(frames)])
    video = read_mask_folders(tmp_path)["v"]
    for index, ids in enumerate(frames):
        kept = np.where(ids > 100, ids // 10 - 10, 0)
        np.testing.assert_array_equal(ids_of(video.annotation(index)), kept)
