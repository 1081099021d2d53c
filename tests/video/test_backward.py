"""Going backward through a video, with few frames in memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maskstream.types import Frame, InputError, Video
from maskstream.video import VideoWriter, open_video
from maskstream.video.backward import frame_indices, frames_at, frames_backward

SIZE = (16, 24)
FRAME_BYTES = 3 * SIZE[0] * SIZE[1]


class Counted(Video):
    """Notes where reading began and how many frames were read."""

    name, size_hw, fps, seekable = "counted", SIZE, 24.0, True

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self.begun: list[int] = []
        self.read = 0

    def __iter__(self) -> Iterator[Frame]:
        return self.frames_from(0)

    def frames_from(self, index: int) -> Iterator[Frame]:
        self.begun.append(index)
        for n in range(index, self._frames):
            self.read += 1
            yield self[n]

    def __getitem__(self, index: int) -> Frame:
        return Frame(index, index / 24, np.full((*SIZE, 3), index % 256, dtype=np.uint8))

    @property
    def frame_count(self) -> int:
        return self._frames


def test_frames_come_backward_a_few_at_a_time():
    video = Counted(10)
    frames = frames_backward(video, range(10), budget=4 * FRAME_BYTES)
    assert next(frames).index == 9
    assert video.read == 4
    assert [frame.index for frame in frames] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert (video.begun, video.read) == ([6, 2, 0], 10)


def test_one_frame_at_a_time_is_the_least():
    assert [frame.index for frame in frames_backward(Counted(3), [0, 2], budget=1)] == [2, 0]


def test_long_stretches_that_nobody_wants_are_not_read():
    video = Counted(1000)
    assert [frame.index for frame in frames_at(video, [3, 5, 900])] == [3, 5, 900]
    assert (video.begun, video.read) == ([3, 900], 4)


def test_no_frames_are_no_frames():
    video = Counted(5)
    assert list(frames_at(video, [])) == list(frames_backward(video, [])) == []
    assert video.begun == []


def test_a_file_read_backward_is_the_file_read_forward(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, size_hw=SIZE) as writer:
        for n in range(30):
            writer.write(np.full((*SIZE, 3), 8 * n, dtype=np.uint8), n / 24)
    video = open_video(path, start=2, stride=3)
    forward = list(video)
    assert list(frame_indices(video)) == [frame.index for frame in forward]
    backward = list(frames_backward(video, frame_indices(video), budget=4 * FRAME_BYTES))
    for there, back in zip(forward, reversed(backward), strict=True):
        assert there.index == back.index
        assert np.array_equal(there.image, back.image)


def test_what_passes_by_once_cannot_go_back():
    with pytest.raises(InputError, match="save it to a file"):
        frame_indices(open_video(iter([np.zeros((*SIZE, 3), dtype=np.uint8)])))
