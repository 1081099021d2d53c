import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskstream.types import InputError, MaskstreamWarning, VideoError
from maskstream.video import open_video
from maskstream.video.file import FileVideo

from .clips import BLOCK, HEIGHT, WIDTH, encode, number_of, picture, same, turned

CLIPS = [
    pytest.param("clip.mp4", "libx264", {}, id="h264 with B-frames"),
    pytest.param(
        "clip.mkv", "libx264", {"x264-params": "open-gop=1:bframes=3:b-pyramid=normal"}, id="h264, open groups"
    ),
    pytest.param("clip.ts", "libx264", {}, id="h264 in a transport stream"),
    pytest.param("clip.ts", "libx264", {"x264-params": "intra-refresh=1:bframes=0"}, id="h264 without key frames"),
    pytest.param("clip.mp4", "libx264", {"preset": "ultrafast", "qp": "0"}, id="h264, lossless"),
    pytest.param("clip.h264", "libx264", {}, id="h264 without times"),
    pytest.param("clip.mp4", "libx265", {"x265-params": "log-level=none"}, id="h265"),
    pytest.param("clip.mkv", "libx265", {"x265-params": "log-level=none:open-gop=1"}, id="h265, open groups"),
    pytest.param("clip.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, id="vp9"),
    pytest.param("clip.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}, id="vp8, hidden frames"),
    pytest.param("clip.mp4", "libsvtav1", {"preset": "12"}, id="av1"),
    pytest.param("clip.avi", "mpeg4", {}, id="mpeg4 with B-frames"),
    pytest.param("clip.mpg", "mpeg2video", {}, id="mpeg2"),
]
INTRA = [
    pytest.param("clip.avi", "mjpeg", "yuvj420p", id="mjpeg"),
    pytest.param("clip.mkv", "ffv1", "yuv444p", id="ffv1"),
    pytest.param("clip.mov", "qtrle", "rgb24", id="animation"),
]


def _check_exact(path: Path, count: int) -> None:
    """Iteration numbers the frames; random access and continuing give the very same."""
    video = open_video(path)
    frames = list(video)
    assert [number_of(frame.image) for frame in frames] == list(range(count))
    assert [frame.index for frame in frames] == list(range(count))
    assert [frame.timestamp for frame in frames] == pytest.approx([n / 25 for n in range(count)], abs=1e-3)
    assert video.frame_count == count
    assert video.size_hw == (HEIGHT, WIDTH)
    assert video.fps == pytest.approx(25)
    for index in (0, 1, 11, 12, 13, 22, count - 1):
        assert same(video[index], frames[index])
        rest = list(video.frames_from(index))
        assert len(rest) == count - index
        assert all(map(same, rest, frames[index:]))
    assert all(map(same, video, frames))


@pytest.mark.parametrize("name, codec, options", CLIPS)
def test_frames_are_numbered_exactly_and_random_access_equals_iteration(tmp_path, name, codec, options):
    _check_exact(encode(tmp_path / name, codec, options=options), 40)


@pytest.mark.parametrize("name, codec, pixel_format", INTRA)
def test_codecs_without_prediction_are_exact_too(tmp_path, name, codec, pixel_format):
    _check_exact(encode(tmp_path / name, codec, pixel_format=pixel_format, b_frames=0), 40)


@pytest.mark.parametrize(
    "name, codec, options",
    [clip for clip in CLIPS if clip.id not in ("h264 without times", "h264 without key frames")],
)
def test_a_healthy_file_is_decoded_fast_and_a_seek_skips_what_is_before(tmp_path, name, codec, options, monkeypatch):
    video = FileVideo(encode(tmp_path / name, codec, options=options))
    monkeypatch.setattr(FileVideo, "_careful", lambda *_: pytest.fail("decoded with care"))
    assert [number_of(frame.image) for frame in video] == list(range(40))
    decoded = []
    numbered = FileVideo._numbered

    def counting(self, *args):
        for position, image in numbered(self, *args):
            decoded.append(position)
            yield position, image

    monkeypatch.setattr(FileVideo, "_numbered", counting)
    assert video[30].index == 30
    assert min(decoded) > 0 or name == "clip.mpg" or len(video.timeline.key_pts_k) == 1  # MPEG-PS cannot seek well


def test_frames_hidden_by_an_edit_list_are_no_frames(tmp_path):
    whole = encode(tmp_path / "whole.mp4", b_frames=2)
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                # five frames before zero: the muxer writes an edit that starts inside the group
                packet.pts -= 5 * 512
                packet.dts -= 5 * 512
                packet.stream = stream
                target.mux(packet)
    frames = list(open_video(cut))
    first = number_of(frames[0].image)
    assert first > 0
    assert [number_of(frame.image) for frame in frames] == list(range(first, 40))
    assert [frame.index for frame in frames] == list(range(40 - first))
    assert frames[0].timestamp == 0
    assert same(open_video(cut)[3], frames[3])


def test_a_variable_frame_rate_is_kept(tmp_path):
    times = np.cumsum([0, *np.random.default_rng(0).integers(1, 30, 29)]) / 100
    frames = list(open_video(encode(tmp_path / "vfr.mkv", times=list(times), count=30)))
    assert [frame.timestamp for frame in frames] == pytest.approx(list(times), abs=1e-3)
    assert [number_of(frame.image) for frame in frames] == list(range(30))


def test_time_counts_from_the_first_frame(tmp_path):
    frames = list(open_video(encode(tmp_path / "late.mkv", times=[7 + n / 10 for n in range(10)], count=10)))
    assert [frame.timestamp for frame in frames] == pytest.approx([n / 10 for n in range(10)], abs=1e-3)


@pytest.mark.parametrize(
    "matrix, upright",
    [
        pytest.param((1, 0, 0, 1), lambda image: image, id="as it is"),
        pytest.param((0, 1, -1, 0), lambda image: np.rot90(image, -1), id="a quarter turn clockwise"),
        pytest.param((-1, 0, 0, -1), lambda image: np.rot90(image, 2), id="upside down"),
        pytest.param((0, -1, 1, 0), np.rot90, id="a quarter turn anticlockwise"),
        pytest.param((-1, 0, 0, 1), lambda image: image[:, ::-1], id="mirrored"),
        pytest.param((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2), id="transposed"),
    ],
)
def test_pictures_come_out_upright(tmp_path, matrix, upright):
    plain = encode(tmp_path / "plain.mp4", count=3)
    expected = upright(open_video(plain)[1].image)
    video = open_video(turned(plain, tmp_path / "turned.mp4", matrix))
    assert video.size_hw == expected.shape[:2]
    assert (video[1].image == expected).all()
    assert [frame.size_hw for frame in video] == [video.size_hw] * 3


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p10le", "yuv444p", "yuv422p12le", "gray", "yuva420p", "gbrp10le", "bgra"]
)
def test_every_pixel_format_comes_out_as_rgb(tmp_path, pixel_format):
    frame = open_video(encode(tmp_path / "clip.mkv", "ffv1", count=2, pixel_format=pixel_format, b_frames=0))[1]
    assert number_of(frame.image) == 1
    if pixel_format == "gray":
        assert np.ptp(frame.image.astype(int), axis=2).max() == 0
    else:
        inside = np.s_[BLOCK + 2 :]
        error = np.abs(frame.image[inside].astype(int) - picture(1)[inside])
        assert error.mean() < 8


@given(start=st.integers(0, 11), stop=st.none() | st.integers(1, 16), stride=st.integers(1, 13))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_start_stop_and_stride_select_as_a_list_would(clip_of_12, start, stop, stride):
    if stop is not None and stop <= start:
        with pytest.raises(InputError, match="select no frame"):
            open_video(clip_of_12, start=start, stop=stop, stride=stride)
        return
    video = open_video(clip_of_12, start=start, stop=stop, stride=stride)
    expected = list(range(12))[start:stop:stride]
    assert [frame.index for frame in video] == expected
    assert [number_of(frame.image) for frame in video] == expected
    assert [frame.timestamp for frame in video] == pytest.approx([index / 25 for index in expected])
    assert video.frame_count == len(expected)
    for index in range(-1, 13):
        assert [frame.index for frame in video.frames_from(index)] == [i for i in expected if i >= index]
        if index in expected:
            assert number_of(video[index].image) == index
        else:
            with pytest.raises(IndexError):
                video[index]


@pytest.fixture(scope="module")
def clip_of_12(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("clips") / "twelve.mp4", count=12, group=5)


def test_a_start_beyond_the_end_says_how_long_the_video_is(clip_of_12):
    with pytest.raises(VideoError, match="has 12 frames: it cannot start at frame 12"):
        open_video(clip_of_12, start=12)


@pytest.mark.parametrize("options", [{"start": -1}, {"stride": 0}, {"start": 4, "stop": 4}, {"fps": 0.0}])
def test_options_that_make_no_sense_are_refused(clip_of_12, options):
    with pytest.raises(InputError):
        open_video(clip_of_12, **options)


def test_a_name_with_a_colon_is_a_file(tmp_path):
    path = tmp_path / "concat:a.mp4"
    path.write_bytes(encode(tmp_path / "a.mp4", count=2).read_bytes())
    assert open_video(path).frame_count == 2


def test_stopping_early_leaves_no_file_open(clip_of_12):
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else None
    if before is None:
        pytest.skip("open files cannot be counted here")
    for _ in range(3):
        for _frame in open_video(clip_of_12, start=1, stride=2):
            break
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_clock_that_is_set_back_does_not_mix_up_the_frames(tmp_path):
    first = encode(tmp_path / "first.ts", count=40)
    second = encode(tmp_path / "second.ts", numbers=range(40, 80))
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    video = open_video(tmp_path / "both.ts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskstreamWarning)
        frames = list(video)
        numbers = [number_of(frame.image) for frame in frames]
        assert numbers == sorted(set(numbers)) and len(numbers) >= 75
        assert [frame.index for frame in frames] == list(range(len(frames)))
        assert same(video[60], frames[60])


def test_two_threads_may_read_one_video(tmp_path):
    video = open_video(encode(tmp_path / "clip.mp4", count=40))
    frames = list(video)
    with ThreadPoolExecutor(4) as pool:
        for index, frame in enumerate(pool.map(video.__getitem__, range(40))):
            assert same(frame, frames[index])


@pytest.mark.skipif("MASKSTREAM_DATA" not in os.environ, reason="MASKSTREAM_DATA is not set")
def test_random_access_equals_iteration_on_a_real_clip():
    clips = sorted((Path(os.environ["MASKSTREAM_DATA"]) / "clips").glob("*.mp4"))
    if not clips:
        pytest.skip("MASKSTREAM_DATA has no clips/*.mp4")
    video = open_video(clips[0])
    assert video.frame_count is not None
    wanted = {0, 1, 7, video.frame_count // 2, video.frame_count - 1}
    frames = {frame.index: frame for frame in video if frame.index in wanted}
    assert frames.keys() == wanted
    assert all(same(video[index], frame) for index, frame in frames.items())
