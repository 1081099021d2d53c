"""Frames and masks as pictures for a browser."""

import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskstream.studio.pictures import ByteCache, FramePictures, ids_png, jpeg, shown_height
from maskstream.types import Frame, InputError, VideoError
from maskstream.video import VideoWriter, open_video
from maskstream.video.source import Source

FRAMES, SIZE = 60, (48, 64)


class Grey(Source):
    """Frames whose grey says which they are; counts how often it is sought, and which were read."""

    seekable = True
    name = "grey"
    fps = 24.0

    def __init__(self, count: int = FRAMES, size_hw: tuple[int, int] = SIZE, *, missing: tuple[int, ...] = ()) -> None:
        self.size_hw, self._count, self._missing = size_hw, count, missing
        self.sought: list[int] = []
        self.read: list[int] = []
        self.hold = threading.Event()
        self.hold.set()

    def indices(self) -> range:
        return range(self._count)

    def frames_from(self, index: int) -> Iterator[Frame]:
        self.sought.append(index)
        for n in range(index, self._count):
            self.hold.wait(10)
            if n not in self._missing:
                self.read.append(n)
                yield Frame(n, n / 24, np.full((*self.size_hw, 3), 4 * n, np.uint8))

    def __getitem__(self, index: int) -> Frame:
        return next(self.frames_from(index))


def grey_of(picture: bytes) -> int:
    return round(float(np.asarray(Image.open(BytesIO(picture))).mean()) / 4)


@pytest.fixture
def opened():
    """Makes pictures of a video; closed at the end."""
    made: list[FramePictures] = []

    def open_pictures(video: Source, *, budget: int = 2**28, **options: int) -> FramePictures:
        made.append(FramePictures(video, ByteCache(budget), **options))
        return made[-1]

    yield open_pictures
    for pictures in made:
        pictures.close()


def wait_until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


# The cache.


def test_the_cache_keeps_what_was_asked_for_last_within_its_budget():
    cache = ByteCache(10)
    for key in "abc":
        cache.put(key, b"1234" if key == "b" else b"123")
    assert cache.size == 10
    assert cache.get("a") == b"123"
    cache.put("d", b"1234")
    assert [key in cache for key in "abcd"] == [True, False, True, True]
    assert cache.size == 10


def test_the_cache_replaces_and_never_keeps_more_than_its_budget():
    cache = ByteCache(10)
    cache.put("a", b"12345678")
    cache.put("a", b"12")
    assert cache.size == 2
    cache.put("b", b"12345678901")
    assert cache.size == 0
    assert cache.get("b") is None


# Frames.


def test_every_frame_is_the_frame_that_was_asked_for(opened):
    pictures = opened(Grey())
    order = [0, 1, 2, 30, 29, 28, 5, 59, 0, 30]
    assert [grey_of(pictures.jpeg(n)) for n in order] == order


def test_frames_are_the_size_that_was_asked_for_but_never_enlarged(opened):
    pictures = opened(Grey(size_hw=(49, 64)))
    sizes = {h: Image.open(BytesIO(pictures.jpeg(3, h))).size for h in (None, 20, 49, 500, 1)}
    assert sizes == {None: (64, 49), 20: (26, 20), 49: (64, 49), 500: (64, 49), 1: (21, 16)}


def test_what_follows_is_decoded_before_it_is_asked_for(opened):
    video = Grey()
    pictures = opened(video, ahead=10)
    pictures.jpeg(5, 48)
    wait_until(lambda: 15 in video.read)
    time.sleep(0.05)
    assert video.read == list(range(5, 16))
    assert video.sought == [5]


def test_playing_never_seeks(opened):
    video = Grey()
    pictures = opened(video, ahead=10)
    assert [grey_of(pictures.jpeg(n)) for n in range(FRAMES)] == list(range(FRAMES))
    assert video.sought == [0]
    assert video.read == list(range(FRAMES))


def test_stepping_backward_seeks_once_for_many_frames(opened):
    video = Grey()
    pictures = opened(video)
    for n in range(FRAMES - 1, -1, -1):
        assert grey_of(pictures.jpeg(n)) == n
    assert len(video.sought) <= 2 + FRAMES // 24


def test_a_small_budget_still_gives_every_frame(opened):
    pictures = opened(Grey(), budget=1)
    assert [grey_of(pictures.jpeg(n)) for n in (7, 3, 4)] == [7, 3, 4]


def test_many_threads_get_what_each_asked_for(opened):
    pictures = opened(Grey())
    wrong: list[int] = []

    def scrub(seed: int) -> None:
        order = np.random.default_rng(seed).integers(0, FRAMES, 40).tolist()
        wrong.extend(n for n in order if grey_of(pictures.jpeg(n, 24)) != n)

    threads = [threading.Thread(target=scrub, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert wrong == []


def test_whoever_waits_longest_is_given_up_when_too_many_wait(opened):
    video = Grey()
    pictures = opened(video)
    video.hold.clear()
    said: list[str] = []

    def ask(n: int) -> None:
        try:
            pictures.jpeg(n)
        except InputError as error:
            said.append(str(error))

    threads = []
    for n in range(14):
        threads.append(threading.Thread(target=ask, args=(n,)))
        threads[-1].start()
        wait_until(lambda n=n: len(pictures._wanted) == min(n + 1, 12))  # in this order
    wait_until(lambda: len(said) == 2)
    video.hold.set()
    for thread in threads:
        thread.join(10)
    assert sorted(said) == ["frame 0 is no longer wanted", "frame 1 is no longer wanted"]


@pytest.mark.parametrize("index", [-1, FRAMES, 10**9])
def test_a_frame_that_is_not_there_is_refused(opened, index):
    with pytest.raises(InputError, match=f"grey has 60 frames, so there is no frame {index}"):
        opened(Grey()).jpeg(index)


def test_a_frame_that_cannot_be_decoded_is_an_error_and_others_are_not(opened):
    pictures = opened(Grey(missing=(20, 21, 59)))
    assert grey_of(pictures.jpeg(19)) == 19
    for n in (20, 21, 59, 20):
        with pytest.raises(VideoError, match=f"frame {n} of grey cannot be decoded: the file is damaged there"):
            pictures.jpeg(n)
    assert [grey_of(pictures.jpeg(n)) for n in (22, 18, 58)] == [22, 18, 58]


def test_an_error_of_the_decoder_reaches_whoever_waits_and_the_next_frame_still_comes(opened):
    class Broken(Grey):
        def frames_from(self, index: int) -> Iterator[Frame]:
            for frame in super().frames_from(index):
                if frame.index == 3:
                    raise RuntimeError("the disk is gone")
                yield frame

    pictures = opened(Broken(), ahead=0)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        pictures.jpeg(3)
    assert grey_of(pictures.jpeg(4)) == 4


def test_closing_tells_whoever_waits(opened):
    video = Grey()
    pictures = opened(video)
    pictures.jpeg(0)
    video.hold.clear()
    said: list[str] = []

    def ask() -> None:
        try:
            pictures.jpeg(55)
        except InputError as error:
            said.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: pictures._wanted)
    closing = threading.Thread(target=pictures.close)
    closing.start()
    thread.join(10)
    video.hold.set()
    closing.join(10)
    assert said == ["grey has been closed"]
    with pytest.raises(InputError, match="has been closed"):
        pictures.jpeg(0)


def test_a_real_video_gives_what_opening_it_gives(opened, tmp_path: Path):
    with VideoWriter(tmp_path / "clip.mp4", size_hw=SIZE) as writer:
        for frame in Grey():
            writer.write(frame.image, frame.timestamp)
    video = open_video(tmp_path / "clip.mp4")
    assert isinstance(video, Source)
    pictures = opened(video)
    for n in (0, 40, 39, 10, 59):
        shown = np.asarray(Image.open(BytesIO(pictures.jpeg(n))), dtype=int)
        assert np.abs(shown - video[n].image).max() <= 3


# One picture.


def test_colours_are_red_green_and_blue():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:] = (200, 100, 20)
    shown = np.asarray(Image.open(BytesIO(jpeg(image, 16))), dtype=int)
    assert shown.shape == (16, 16, 3)
    assert np.abs(shown - (200, 100, 20)).max() <= 3


def test_ids_are_red_plus_256_green_plus_65536_blue():
    ids = np.array([[0, 1, 255], [256, 65536, 2**24 - 1]], np.int32).repeat(16, axis=0)
    shown = np.asarray(Image.open(BytesIO(ids_png(ids, 32))), dtype=np.int64)
    assert np.array_equal(shown @ [1, 256, 65536], ids)


def test_smaller_masks_show_the_pixel_at_the_centre_and_no_other_id():
    ids = np.arange(48 * 64, dtype=np.int32).reshape(48, 64)
    shown = np.asarray(Image.open(BytesIO(ids_png(ids, 16))), dtype=np.int64) @ [1, 256, 65536]
    assert shown.shape == (16, 21)
    assert np.array_equal(shown[:, 10], ids[1::3, 32])  # the centre of row 0 of 16 is row 1 of 48


def test_heights_stay_within_those_of_the_video():
    assert [shown_height(h, (480, 854)) for h in (None, 1, 100, 10**9)] == [480, 16, 100, 480]
    assert shown_height(100, (9, 9)) == 9
