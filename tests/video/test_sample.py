import numpy as np
import pytest
from PIL import Image

from maskstream.types import FrameRef, VideoError, VideoSample
from maskstream.video import SampleVideo


def files(folder, sizes):
    refs = []
    for n, (height, width) in enumerate(sizes):
        path = folder / f"{5 * n:05d}.png"
        Image.fromarray(np.full((height, width, 3), 10 * n, np.uint8)).save(path)
        refs.append(FrameRef(path.stem, path))
    return VideoSample("clip", tuple(refs), fps=6.0)


def test_frames_are_numbered_by_position_whatever_their_names(tmp_path):
    video = SampleVideo(files(tmp_path, [(4, 6)] * 3))
    assert [(f.index, f.timestamp, int(f.image[0, 0, 0])) for f in video] == [
        (0, 0.0, 0),
        (1, pytest.approx(1 / 6), 10),
        (2, pytest.approx(2 / 6), 20),
    ]
    assert (video.name, video.size_hw, video.fps, video.frame_count) == ("clip", (4, 6), 6.0, 3)


def test_only_the_frames_that_are_wanted_come_with_the_numbers_they_have(tmp_path):
    video = SampleVideo(files(tmp_path, [(4, 6)] * 5), indices=[0, 2, 4])
    assert [f.index for f in video] == [0, 2, 4]
    assert [f.index for f in video.frames_from(1)] == [2, 4]
    assert video[2].index == 2
    with pytest.raises(IndexError, match="there is no frame 1"):
        video[1]


def test_pictures_may_be_made_when_they_are_asked_for():
    sample = VideoSample(
        "drawn", (FrameRef("a"), FrameRef("b")), read_image=lambda index: np.full((2, 3, 3), index, np.uint8)
    )
    assert [int(f.image[0, 0, 0]) for f in SampleVideo(sample)] == [0, 1]


def test_a_picture_that_is_missing_or_of_another_size_is_named(tmp_path):
    sizes = files(tmp_path, [(4, 6), (4, 5)])
    with pytest.raises(VideoError, match="clip, frame 00005: the picture is 4×5, but the first is 4×6"):
        list(SampleVideo(sizes))
    sizes.frames[0].image.unlink()
    with pytest.raises(VideoError, match=r"clip, frame 00000: there is no picture .*00000.png"):
        SampleVideo(sizes)
    with pytest.raises(VideoError, match="clip, frame 0: this data set has annotations but no pictures here"):
        SampleVideo(VideoSample("clip", (FrameRef("0"),)))
    with pytest.raises(VideoError, match="clip has no frame"):
        SampleVideo(VideoSample("clip", ()))
