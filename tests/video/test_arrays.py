import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskstream.types import Frame, InputError, VideoError
from maskstream.video import open_video

ARRAY = np.arange(7 * 2 * 3 * 3, dtype=np.uint8).reshape(7, 2, 3, 3)


@pytest.mark.parametrize("source", [ARRAY, list(ARRAY), tuple(ARRAY)], ids=["array", "list", "tuple"])
def test_frames_in_memory_can_be_read_again_and_out_of_order(source):
    video = open_video(source, fps=4)
    for _ in range(2):
        assert [frame.index for frame in video] == list(range(7))
        assert all((frame.image == ARRAY[frame.index]).all() for frame in video)
    assert [frame.timestamp for frame in video] == [n / 4 for n in range(7)]
    assert (video.frame_count, video.size_hw, video.fps, video.seekable) == (7, (2, 3), 4, True)
    assert (video[5].image == ARRAY[5]).all()
    assert [frame.index for frame in video.frames_from(5)] == [5, 6]
    for index in (-1, 7):
        with pytest.raises(IndexError):
            video[index]


@given(
    start=st.integers(0, 9),
    stop=st.none() | st.integers(0, 12),
    stride=st.integers(1, 12),
    kept=st.lists(st.integers(0, 9), min_size=1, unique=True).map(sorted),
)
def test_frames_keep_their_index_whatever_is_selected(start, stop, stride, kept):
    frames = [Frame(index, index / 10, ARRAY[index % 7]) for index in kept]
    wanted = range(100)[start:stop:stride]
    expected = [index for index in kept if index in wanted]
    if not expected:
        with pytest.raises((InputError, VideoError)):
            open_video(frames, start=start, stop=stop, stride=stride)
        return
    video = open_video(frames, start=start, stop=stop, stride=stride)
    assert [frame.index for frame in video] == expected
    assert video.frame_count == len(expected)
    assert [frame.index for frame in video.frames_from(4)] == [index for index in expected if index >= 4]
    assert video[expected[-1]].timestamp == expected[-1] / 10


def test_an_iterator_is_read_once_and_as_it_comes():
    taken = []

    def pictures():
        for number, image in enumerate(ARRAY):
            taken.append(number)
            yield image

    video = open_video(pictures())
    assert (video.frame_count, video.seekable, video.size_hw) == (None, False, (2, 3))
    frames = iter(video)
    assert next(frames).index == 0 and next(frames).index == 1
    assert taken == [0, 1]
    assert [frame.index for frame in frames] == [2, 3, 4, 5, 6]
    with pytest.raises(VideoError, match="only once"):
        iter(video)
    with pytest.raises(VideoError, match="cannot seek"):
        video[0]


def test_a_selection_of_an_iterator_stops_without_reading_on():
    taken = []

    def pictures():
        for number, image in enumerate(ARRAY):
            taken.append(number)
            yield image

    video = open_video(pictures(), start=1, stop=6, stride=2)
    assert [frame.index for frame in video] == [1, 3, 5]
    assert taken == [0, 1, 2, 3, 4, 5]


def test_an_iterator_that_ends_before_the_start_is_an_error():
    video = open_video(iter(ARRAY), start=7)
    with pytest.raises(VideoError, match="ends before frame 7"):
        list(video)


def test_a_selection_of_a_selection_keeps_the_index_of_the_source():
    assert [frame.index for frame in open_video(open_video(ARRAY, start=1, stride=2), start=2)] == [3, 5]


@pytest.mark.parametrize(
    "source, error, message",
    [
        pytest.param(ARRAY.astype(np.float32), InputError, "uint8", id="floats"),
        pytest.param(ARRAY[..., 0], InputError, r"\[T, H, W, 3\]", id="grey"),
        pytest.param(ARRAY[:0], VideoError, "empty", id="an empty array"),
        pytest.param([], VideoError, "empty", id="an empty list"),
        pytest.param(iter([]), VideoError, "no frame", id="an empty iterator"),
        pytest.param(7, InputError, "a int is not a video", id="a number"),
        pytest.param([ARRAY[0, 0]], InputError, r"\[H, W, 3\]", id="a row"),
        pytest.param([Frame(1, 0, ARRAY[0]), Frame(1, 0, ARRAY[0])], InputError, "sort the frames", id="one twice"),
    ],
)
def test_what_is_no_video_is_refused(source, error, message):
    with pytest.raises(error, match=message):
        list(open_video(source))


@pytest.mark.parametrize("wrap", [list, iter])
def test_frames_of_different_size_are_refused_with_both_sizes(wrap):
    pictures = [ARRAY[0], ARRAY[0], ARRAY[0, :, :2]]
    with pytest.raises(VideoError, match="frame 2 is 2×2 but the first is 2×3"):
        list(open_video(wrap(pictures)))
