import json

import numpy as np
import pytest
from PIL import Image

from maskstream.types import VideoError
from maskstream.video import probe

from .clips import HEIGHT, WIDTH, encode, turned


def test_a_file_is_described(tmp_path):
    info = probe(encode(tmp_path / "clip.mp4", count=30, tone="aac"))
    assert (info.name, info.codec, info.pixel_format) == ("clip.mp4", "h264", "yuv420p")
    assert "mp4" in info.container
    assert (info.height, info.width, info.rotation) == (HEIGHT, WIDTH, 0)
    assert (info.frame_count, info.missing_frames, info.variable_frame_rate) == (30, 0, False)
    assert info.fps == pytest.approx(25) and info.duration == pytest.approx(1.2)
    assert info.has_audio and info.seekable
    assert json.loads(json.dumps(info.to_json()))["frame_count"] == 30
    assert "128×48" in str(info) and "25.000 frames/s, constant" in str(info)


def test_rotation_is_told_and_the_size_is_upright(tmp_path):
    info = probe(turned(encode(tmp_path / "plain.mp4", count=3), tmp_path / "turned.mp4", (0, 1, -1, 0)))
    assert (info.height, info.width, info.rotation) == (WIDTH, HEIGHT, 90)
    assert "turned 90°" in str(info)


def test_a_variable_frame_rate_is_told(tmp_path):
    times = [0, 0.04, 0.2, 0.24, 0.9]
    info = probe(encode(tmp_path / "clip.mkv", times=times, count=5))
    assert info.variable_frame_rate is True
    assert info.fps == pytest.approx(4 / 0.9, abs=0.01)


def test_rounding_to_milliseconds_is_no_variable_frame_rate(tmp_path):
    times = [n * 1001 / 30000 for n in range(20)]
    assert probe(encode(tmp_path / "clip.mkv", times=times, count=20)).variable_frame_rate is False


def test_missing_frames_are_told(tmp_path):
    path = encode(tmp_path / "clip.mp4", container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    info = probe(path)
    assert info.frame_count is not None
    assert info.missing_frames > 5 and info.frame_count + info.missing_frames == 40
    assert "announced but missing" in str(info)


def test_a_file_without_times_cannot_seek_exactly(tmp_path):
    info = probe(encode(tmp_path / "clip.h264", count=10))
    assert (info.seekable, info.frame_count, info.variable_frame_rate) == (False, 10, None)


def test_a_folder_of_images_is_described(tmp_path):
    for number in range(3):
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / f"{number}.png")
    info = probe(tmp_path)
    assert (info.container, info.height, info.width, info.frame_count, info.duration) == ("images", 4, 6, 3, 3 / 24)
    assert "6×4" in str(info)


def test_what_is_no_video_is_refused(tmp_path):
    with pytest.raises(VideoError):
        probe(tmp_path / "gone.mp4")
