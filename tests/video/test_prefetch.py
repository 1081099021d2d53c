import threading
import time
import warnings

import numpy as np
import pytest

from maskstream.types import Frame, InputError, MaskstreamWarning
from maskstream.video import open_video, prefetch

from .clips import encode, number_of

IMAGE = np.zeros((2, 2, 3), np.uint8)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "maskstream-prefetch"] == []


def _counted(count, taken, *, error=None):
    try:
        for index in range(count):
            taken.append(index)
            yield Frame(index, index / 10, IMAGE)
        if error is not None:
            raise error
    finally:
        taken.append("closed")


@pytest.mark.parametrize("depth", [1, 2, 4, 100])
def test_every_frame_comes_in_order(depth):
    taken: list[object] = []
    assert [frame.index for frame in prefetch(_counted(20, taken), depth)] == list(range(20))
    assert taken[-1] == "closed"


def test_at_most_depth_frames_wait():
    taken: list[object] = []
    frames = prefetch(_counted(50, taken), depth=3)
    assert taken == []  # nothing happens before the first frame is asked for
    next(frames)
    deadline = time.monotonic() + 10
    while len(taken) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(taken) == 5  # one was handed out, three wait, one is held by the thread that waits for room
    frames.close()
    assert taken[-1] == "closed"


def test_decoding_goes_on_in_another_thread():
    seen = []

    def frames():
        seen.append(threading.current_thread().name)
        yield Frame(0, 0.0, IMAGE)

    list(prefetch(frames()))
    assert seen == ["maskstream-prefetch"]


def test_an_error_comes_after_the_frames_before_it():
    read = []
    with pytest.raises(ZeroDivisionError, match="here"):
        for frame in prefetch(_counted(5, [], error=ZeroDivisionError("here"))):
            read.append(frame.index)  # noqa: PERF401 - what was read before the error matters
    assert read == [0, 1, 2, 3, 4]


def test_a_warning_reaches_the_consumer_even_when_warnings_are_silenced_meanwhile(tmp_path):
    data = encode(tmp_path / "whole.avi", "mjpeg", count=10, pixel_format="yuvj420p", b_frames=0).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    with pytest.warns(MaskstreamWarning, match=r"cut\.avi: read . of 10 frames") as record:
        frames = prefetch(open_video(tmp_path / "cut.avi"), depth=20)
        next(frames)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as a model might do while the decoder reaches the end
            time.sleep(0.3)
        rest = list(frames)
    assert len(record) == 1
    assert [frame.index for frame in rest] == list(range(1, len(rest) + 1))


def test_a_warning_made_an_error_stops_the_consumer(tmp_path):
    data = encode(tmp_path / "whole.avi", "mjpeg", count=10, pixel_format="yuvj420p", b_frames=0).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    with warnings.catch_warnings(), pytest.raises(MaskstreamWarning):
        warnings.simplefilter("error")
        list(prefetch(open_video(tmp_path / "cut.avi"), depth=1))


@pytest.mark.parametrize("depth", [1, 3])
def test_closing_early_stops_the_thread_at_once(tmp_path, depth):
    path = encode(tmp_path / "clip.mp4", count=40)
    for stop_after in (1, 2, 5):
        frames = prefetch(open_video(path), depth)
        assert [next(frames).index for _ in range(stop_after)] == list(range(stop_after))
        begin = time.perf_counter()
        frames.close()
        assert time.perf_counter() - begin < 2


def test_an_error_in_the_consumer_stops_the_thread():
    taken: list[object] = []
    with pytest.raises(KeyError):
        for frame in prefetch(_counted(1000, taken), depth=2):
            if frame.index == 3:
                raise KeyError
    # the generator goes with the loop that held it
    assert taken[-1] == "closed" and len(taken) < 20


def test_it_gives_the_frames_of_a_video(tmp_path):
    video = open_video(encode(tmp_path / "clip.mp4", count=20), start=3)
    assert [number_of(frame.image) for frame in prefetch(video)] == list(range(3, 20))


def test_a_queue_without_room_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        prefetch([], depth=0)
