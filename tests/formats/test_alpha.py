import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image

from maskstream.formats.alpha import read_alpha, read_alpha_video, write_alpha, write_alpha_video
from maskstream.types import FrameAnnotation, FrameRef, FrameSegmentation, InputError, Segment, VideoSample

from .clips import box, clip, content, videos

BOTH = pytest.mark.parametrize(
    "write, read",
    [
        pytest.param(write_alpha, read_alpha, id="pictures"),
        pytest.param(write_alpha_video, read_alpha_video, id="video"),
    ],
)


@BOTH
@given(frames=videos())
@settings(max_examples=30)
def test_masks_and_ids_come_back(tmp_path_factory, write, read, frames):
    folder = tmp_path_factory.mktemp("alpha")
    # An object that is always there keeps the video from being empty.
    video = clip([{**frame, 9: box(0, 0, 1, 1)} for frame in frames])
    write(folder, [video])
    (back,) = read(folder)
    assert content(back) == content(video)
    assert [frame.stem for frame in back.frames] == [frame.stem for frame in video.frames]


@BOTH
def test_every_object_has_every_frame(tmp_path, write, read):
    write(tmp_path, [clip([{1: box(0, 0, 2, 2)}, {4: box(3, 3, 4, 4)}, {}], name="a"), clip([{2: box(0, 0, 1, 1)}])])
    first, second = read(tmp_path)
    assert (first.name, len(first), second.name, len(second)) == ("a", 3, "clip", 1)
    assert [s.track_id for s in first.annotation(2).segmentation.segments] == [1, 4]


def soft_clip(*, half_size=False):
    """Two frames of 8×8 with one object whose edge fades from left to right; the mask says 3 columns."""
    levels = torch.linspace(1, 0, 8).repeat(8, 1)[None]
    soft = torch.cat([1 - levels, levels]).to(torch.float16)
    if half_size:
        soft = soft[:, ::2, ::2]
    mask = torch.zeros((1, 8, 8), dtype=torch.bool)
    mask[:, :, :3] = True

    def read(index):
        segmentation = FrameSegmentation.from_masks(index, (Segment(1, 1),), mask)
        with_soft = FrameSegmentation(index, (8, 8), segmentation.segments, segmentation.masks, soft)
        return FrameAnnotation(with_soft)

    return VideoSample("soft", (FrameRef("00000"), FrameRef("00001")), read), mask


@BOTH
@pytest.mark.parametrize("half_size", [pytest.param(False, id="full size"), pytest.param(True, id="half size")])
def test_soft_edges_stay_on_the_side_of_the_mask(tmp_path, write, read, half_size):
    video, mask = soft_clip(half_size=half_size)
    write(tmp_path / "a", [video])
    (back,) = read(tmp_path / "a")
    segmentation = back.annotation(1).segmentation
    assert torch.equal(segmentation.masks_nhw(), mask)
    assert segmentation.probabilities is not None
    levels = segmentation.probabilities[1].float() * 255
    assert levels[0, 0] > levels[0, 2] >= 127.9
    assert levels[0, 3] < 127.1
    # Written again it is the same: 8 bits hold what 8 bits held.
    write(tmp_path / "b", [back])
    again = read(tmp_path / "b")[0].annotation(1).segmentation.probabilities
    assert again is not None
    assert torch.equal(again, segmentation.probabilities)


def test_pictures_are_grey_with_255_where_the_object_is(tmp_path):
    write_alpha(tmp_path, [clip([{7: box(1, 0, 3, 2)}], stems=["frame 3"])])
    with Image.open(tmp_path / "clip" / "7" / "frame 3.png") as picture:
        assert picture.mode == "L"
        assert np.array_equal(np.asarray(picture), 255 * box(1, 0, 3, 2).astype(np.uint8))


def test_videos_are_grey_ffv1_with_the_rate_and_the_same_bytes_every_time(tmp_path):
    video = clip([{7: box(1, 0, 3, 2)}, {7: box(2, 0, 4, 2)}])
    for name in ("a", "b"):
        write_alpha_video(tmp_path / name, [video])
    path = tmp_path / "a" / "clip" / "7.mkv"
    assert path.read_bytes() == (tmp_path / "b" / "clip" / "7.mkv").read_bytes()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("ffv1", "gray")
        assert float(stream.average_rate or 0) == 24.0
    assert read_alpha_video(tmp_path / "a")[0].fps == 24.0


def test_frames_of_a_video_may_be_asked_for_in_any_order(tmp_path):
    frames = [{1: box(n, 0, n + 1, 1)} for n in range(5)]
    write_alpha_video(tmp_path, [clip(frames)])
    (video,) = read_alpha_video(tmp_path)
    for index in (3, 4, 0, 0, 2):
        assert video.annotation(index).segmentation.masks_nhw()[0].nonzero().tolist() == [[0, index]]


@BOTH
def test_a_folder_without_videos_is_refused(tmp_path, write, read):
    with pytest.raises(InputError, match="has no folders: the layout is VIDEO/7"):
        read(tmp_path)
    (tmp_path / "clip").mkdir()
    with pytest.raises(InputError, match="clip has no mattes: the layout is VIDEO/7"):
        read(tmp_path)


def test_names_that_are_no_numbers_are_refused(tmp_path):
    (tmp_path / "clip" / "person").mkdir(parents=True)
    with pytest.raises(InputError, match="clip/person is not named by the number of an object, from 1"):
        read_alpha(tmp_path)


def test_damaged_pictures_are_named(tmp_path):
    write_alpha(tmp_path, [clip([{1: box(0, 0, 2, 2), 2: box(0, 0, 1, 1)}])])
    path = tmp_path / "clip" / "2" / "00000.png"
    Image.new("L", (3, 3)).save(path)
    (video,) = read_alpha(tmp_path)
    with pytest.raises(InputError, match=r"the mattes of frame 00000 in .*clip differ in size"):
        video.annotation(0)
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(InputError, match=r"2/00000\.png cannot be read as a PNG mask"):
        video.annotation(0)


def test_damaged_videos_are_named(tmp_path):
    write_alpha_video(tmp_path, [clip([{1: box(0, 0, 2, 2)}, {}])])
    write_alpha_video(tmp_path / "longer", [clip([{2: box(0, 0, 2, 2)}, {}, {}])])
    (tmp_path / "longer" / "clip" / "2.mkv").rename(tmp_path / "clip" / "2.mkv")
    (tmp_path / "longer" / "clip").rmdir()
    (tmp_path / "longer").rmdir()
    with pytest.raises(InputError, match=r"the mattes in .*clip have \[2, 3\] frames"):
        read_alpha_video(tmp_path)
    (tmp_path / "clip" / "2.mkv").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"2\.mkv cannot be read as a video"):
        read_alpha_video(tmp_path)
