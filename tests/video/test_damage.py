import random
import warnings

import av
import pytest

from maskstream.types import MaskstreamWarning, VideoError
from maskstream.video import open_video

from .clips import encode, number_of, same

COUNT = 60


def _truncated(source, path, fraction):
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


def _read(path, index=0):
    """The frames of a damaged file from ``index`` on, and its one warning."""
    with pytest.warns(MaskstreamWarning) as record:
        frames = list(open_video(path).frames_from(index))
    assert len(record) == 1
    return frames, str(record[0].message)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {
        "mp4": encode(folder / "whole.mp4", count=COUNT, container_options={"movflags": "faststart"}),
        "webm": encode(folder / "whole.webm", "libvpx", count=COUNT, b_frames=0, options={"deadline": "realtime"}),
        "avi": encode(folder / "whole.avi", "mjpeg", count=COUNT, b_frames=0, pixel_format="yuvj420p"),
        "ts": encode(folder / "whole.ts", count=COUNT),
    }


@pytest.mark.parametrize("fraction", [0.4, 0.57, 0.83, 0.97])
@pytest.mark.parametrize("kind", ["mp4", "webm", "avi"])
def test_a_file_that_was_cut_off_gives_its_frames_and_one_warning(whole, tmp_path, kind, fraction, capfd):
    path = _truncated(whole[kind], tmp_path / f"cut.{kind}", fraction)
    frames, warning = _read(path)
    assert f"read {len(frames)} of {COUNT} frames" in warning
    assert "\n" not in warning
    assert 6 < len(frames) < COUNT
    assert [frame.index for frame in frames[:-4]] == list(range(len(frames) - 4))
    assert [number_of(frame.image) for frame in frames[:-4]] == list(range(len(frames) - 4))
    assert capfd.readouterr().err == ""
    for index in (1, 9, frames[-1].index):
        rest, _ = _read(path, index)
        expected = [frame for frame in frames if frame.index >= index]
        assert len(rest) == len(expected)
        assert all(map(same, rest, expected))


def test_every_whole_picture_before_the_cut_is_read(tmp_path):
    source = encode(tmp_path / "whole.avi", "mjpeg", count=20, b_frames=0, pixel_format="yuvj420p")
    with av.open(str(source)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    cut = tmp_path / "cut.avi"
    cut.write_bytes(source.read_bytes()[: packets[12][0] + 8 + packets[12][1] // 2])
    frames, warning = _read(cut)
    assert [number_of(frame.image) for frame in frames[:12]] == list(range(12))
    assert len(frames) <= 13
    assert "of 20 frames" in warning


def test_a_transport_stream_that_was_cut_at_both_ends_starts_at_its_first_whole_picture(whole, tmp_path):
    data = whole["ts"].read_bytes()
    path = tmp_path / "cut.ts"
    packet = 188
    path.write_bytes(data[len(data) // 3 // packet * packet : len(data) * 3 // 4 // packet * packet])
    video = open_video(path)
    with warnings.catch_warnings():  # the last picture may happen to be whole
        warnings.simplefilter("ignore", MaskstreamWarning)
        frames = list(video)
    first = number_of(frames[0].image)
    assert first > 1
    assert frames[0].index == 0 and frames[0].timestamp == 0
    assert [number_of(frame.image) - first for frame in frames[:-3]] == [frame.index for frame in frames[:-3]]
    assert same(video[5], frames[5])


@pytest.mark.parametrize(
    "kind, notices",
    [
        ("mp4", True),
        ("avi", True),
        ("ts", True),
        pytest.param("webm", False, id="webm: VP8 does not notice wrong bits, so only the numbers must agree"),
    ],
)
@pytest.mark.parametrize("seed", range(6))
def test_a_file_with_broken_bytes_gives_the_same_frames_whichever_way_one_reads(whole, tmp_path, kind, notices, seed):
    chance = random.Random(seed)
    data = bytearray(whole[kind].read_bytes())
    for _ in range(chance.choice([1, 5, 40])):
        data[chance.randrange(len(data) // 4, len(data) * 3 // 4)] = chance.randrange(256)
    path = tmp_path / f"broken.{kind}"
    path.write_bytes(data)
    with warnings.catch_warnings():  # there may be none: not every byte matters
        warnings.simplefilter("ignore", MaskstreamWarning)
        frames = list(open_video(path))
        indices = [frame.index for frame in frames]
        assert indices == sorted(set(indices))
        assert len(frames) > COUNT // 4
        for index in (0, 3, 13, 25, 31, 44, 51):
            rest = list(open_video(path).frames_from(index))
            expected = [frame for frame in frames if frame.index >= index]
            assert [frame.index for frame in rest] == [frame.index for frame in expected]
            if notices:
                assert all(map(same, rest, expected))
                assert all(same(open_video(path)[frame.index], frame) for frame in expected[:1])


def test_a_lost_frame_leaves_a_gap_in_the_numbers(tmp_path):
    source = encode(tmp_path / "whole.mkv", "ffv1", count=20, b_frames=0, pixel_format="yuv444p", group=1)
    with av.open(str(source)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    data = source.read_bytes()
    place = data.index(packets[7])
    path = tmp_path / "gap.mkv"
    path.write_bytes(data[:place] + b"\xff" * len(packets[7]) + data[place + len(packets[7]) :])
    with pytest.warns(MaskstreamWarning):
        frames = list(open_video(path))
    numbers = {frame.index: number_of(frame.image) for frame in frames if frame.index != 7}
    assert numbers == {n: n for n in range(20) if n != 7}
    if len(frames) == 19:
        with pytest.raises(VideoError, match=r"frame 7 .* cannot be decoded"):
            open_video(path)[7]


@pytest.mark.parametrize(
    "name, content, message",
    [
        pytest.param("text.mp4", b"Once upon a time\n" * 50, "cannot be opened as a video", id="a text"),
        pytest.param("film.txt", b"Once upon a time\n" * 50, "film.txt", id="a text that says so"),
        pytest.param("empty.mp4", b"", "cannot be opened as a video", id="an empty file"),
        pytest.param("zeros.mkv", bytes(5000), "cannot be opened as a video", id="zeros"),
    ],
)
def test_a_file_that_is_no_video_is_refused_in_one_line(tmp_path, name, content, message, capfd):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=message) as error:
        open_video(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    with pytest.raises(VideoError, match=r"nothing\.mp4 does not exist"):
        open_video(tmp_path / "nothing.mp4")


def test_a_sound_file_has_no_video(tmp_path):
    path = encode(tmp_path / "both.mp4", count=5, tone="aac")
    with av.open(str(path)) as source, av.open(str(tmp_path / "sound.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0], opaque=True)
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(VideoError, match="no video stream"):
        open_video(tmp_path / "sound.mp4")


def test_a_video_whose_every_picture_is_broken_is_refused(tmp_path):
    path = encode(tmp_path / "clip.mkv", "ffv1", count=3, b_frames=0)
    with av.open(str(path)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    data = path.read_bytes()
    for packet in packets:
        data = data.replace(packet, bytes(len(packet)))
    path.write_bytes(data)
    with pytest.raises(VideoError, match="not one frame"):
        open_video(path)


def test_a_video_without_its_index_is_refused(whole, tmp_path):
    plain = encode(tmp_path / "plain.mp4", count=10)  # the index is at the end
    with pytest.raises(VideoError, match="cut off"):
        open_video(_truncated(plain, tmp_path / "cut.mp4", 0.7))
