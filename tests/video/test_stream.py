import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from maskstream.types import InputError, MaskstreamWarning, VideoError
from maskstream.video import open_video

from .clips import encode, number_of, picture

SIZE = "128x48@12.5"


def _raw(count):
    return b"".join(picture(number).tobytes() for number in range(count))


def _pipe(data):
    """The reading end of a pipe that is filled in small pieces."""
    reading, writing = os.pipe()

    def fill():
        with os.fdopen(writing, "wb") as target:
            for place in range(0, len(data), 1000):
                target.write(data[place : place + 1000])
                target.flush()

    threading.Thread(target=fill, daemon=True).start()
    return os.fdopen(reading, "rb")


@pytest.mark.parametrize("make", [_pipe, io.BytesIO], ids=["pipe", "memory"])
def test_raw_frames_are_read(make):
    video = open_video(make(_raw(5)), raw=SIZE)
    assert (video.size_hw, video.fps, video.frame_count, video.seekable) == ((48, 128), 12.5, None, False)
    frames = list(video)
    assert all((frame.image == picture(frame.index)).all() for frame in frames)
    assert [frame.timestamp for frame in frames] == [n / 12.5 for n in range(5)]


def test_a_last_raw_frame_that_is_cut_off_is_left_out_with_a_warning():
    with pytest.warns(MaskstreamWarning, match="read 2 frames; the last one has 100 of 18432 bytes"):
        assert len(list(open_video(io.BytesIO(_raw(3)[: 2 * 18432 + 100]), raw=SIZE))) == 2


@pytest.mark.parametrize("raw", ["128x48", "128x48@0", "0x48@25", "128,48@25", "axb@c"])
def test_a_wrong_description_of_raw_frames_is_refused(raw):
    with pytest.raises(InputError, match="WIDTHxHEIGHT@FPS"):
        open_video(io.BytesIO(_raw(1)), raw=raw)


def test_raw_goes_with_a_pipe_only(tmp_path):
    with pytest.raises(InputError, match="opened by name"):
        open_video(tmp_path / "clip.rgb", raw=SIZE)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts", "fragments.mp4"])
def test_an_encoded_video_is_read_from_a_pipe(tmp_path, name):
    options = {"movflags": "frag_keyframe+empty_moov"} if name.endswith("mp4") else {}
    path = encode(tmp_path / name, count=20, container_options=options)
    video = open_video(_pipe(path.read_bytes()), stride=2, start=3)
    frames = list(video)
    assert [frame.index for frame in frames] == list(range(3, 20, 2))
    assert [number_of(frame.image) for frame in frames] == list(range(3, 20, 2))
    assert [frame.timestamp for frame in frames] == pytest.approx([n / 25 for n in range(3, 20, 2)], abs=1e-3)


def test_an_open_file_is_read(tmp_path):
    with encode(tmp_path / "clip.mp4", count=5).open("rb") as file:  # its index is at the end: this must seek
        assert [number_of(frame.image) for frame in open_video(file)] == [0, 1, 2, 3, 4]


def test_a_named_pipe_is_read(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    data = encode(tmp_path / "clip.mkv", count=5).read_bytes()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    threading.Thread(target=fifo.write_bytes, args=(data,), daemon=True).start()
    assert [number_of(frame.image) for frame in open_video(fifo)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("raw", [None, SIZE])
def test_a_dash_is_standard_input(tmp_path, raw):
    data = encode(tmp_path / "clip.mkv", count=4).read_bytes() if raw is None else _raw(4)
    code = f"from maskstream.video import open_video; print([f.index for f in open_video('-', raw={raw!r})])"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[0, 1, 2, 3]"
    assert done.stderr == b""


def test_a_pipe_of_nonsense_is_refused():
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        open_video(_pipe(b"nonsense" * 1000))


def test_a_pipe_with_broken_data_gives_what_it_can_and_one_warning(tmp_path):
    data = bytearray(encode(tmp_path / "clip.ts", count=40).read_bytes())
    chance = np.random.default_rng(0)
    for place in chance.integers(len(data) // 3, len(data) // 2, 30):
        data[place] = chance.integers(0, 256)
    with pytest.warns(MaskstreamWarning, match="could not be decoded") as record:
        frames = list(open_video(_pipe(bytes(data))))
    assert [entry.category for entry in record].count(MaskstreamWarning) == 1
    assert 5 < len(frames) <= 40


@pytest.mark.parametrize("source", ["camera:99", "http://127.0.0.1:9/clip.mp4", "rtsp://127.0.0.1:9/live"])
def test_a_camera_or_address_that_does_not_answer_is_refused_in_one_line(source, capfd):
    with pytest.raises(VideoError, match="cannot be opened") as error:
        open_video(source)
    assert source in str(error.value) and "\n" not in str(error.value)
    assert capfd.readouterr().err == ""
