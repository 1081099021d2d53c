import av
import pytest

from maskstream.types import InputError, MaskstreamWarning, VideoError
from maskstream.video import VideoWriter, join_videos, open_video

from .clips import HEIGHT, WIDTH, encode, number_of, picture, sound_packets


def _part(path, numbers, *, fps=25.0, **options):
    with VideoWriter(path, size_hw=(HEIGHT, WIDTH), fps_hint=fps, **options) as writer:
        for number in numbers:
            writer.write(picture(number), number / fps)
    return path


def _packets(path, kind):
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        return [(p.pts * p.time_base, p.duration, bytes(p)) for p in container.demux(streams[0]) if p.size]


@pytest.fixture
def parts(tmp_path):
    cuts = [(0, 17), (17, 18), (18, 60)]
    return [_part(tmp_path / f"part{first}.mp4", range(first, end)) for first, end in cuts]


@pytest.fixture(scope="module")
def with_sound(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("source") / "source.mp4", count=60, tone="aac")


def test_joined_parts_are_the_frames_and_times_of_one_go(parts, tmp_path):
    join_videos(parts, tmp_path / "joined.mp4")
    whole = _part(tmp_path / "whole.mp4", range(60))
    joined = list(open_video(tmp_path / "joined.mp4"))
    assert [number_of(frame.image) for frame in joined] == list(range(60))
    assert [p[:2] for p in _packets(tmp_path / "joined.mp4", "video")] == [p[:2] for p in _packets(whole, "video")]


def test_nothing_is_encoded_again(parts, tmp_path):
    join_videos(parts, tmp_path / "joined.mp4")
    encoded = [packet[2] for part in parts for packet in _packets(part, "video")]
    assert [packet[2] for packet in _packets(tmp_path / "joined.mp4", "video")] == encoded


def test_the_same_parts_give_the_same_bytes_and_can_play_before_they_have_loaded(parts, tmp_path, with_sound):
    for name in ("a.mp4", "b.mp4"):
        join_videos(parts, tmp_path / name, audio_from=with_sound)
    data = (tmp_path / "a.mp4").read_bytes()
    assert (tmp_path / "b.mp4").read_bytes() == data
    assert data.index(b"moov") < data.index(b"mdat")


def test_sound_is_copied_packet_for_packet(parts, tmp_path, with_sound):
    join_videos(parts, tmp_path / "joined.mp4", audio_from=with_sound)
    source, copy = _packets(with_sound, "audio"), _packets(tmp_path / "joined.mp4", "audio")
    heard = [packet for packet in source if packet[0] < 60 / 25]
    assert [packet[2] for packet in copy] == [packet[2] for packet in heard[-len(copy) :]]
    assert len(heard) - len(copy) <= 1  # what ends before the first picture is silent anyway
    assert float(copy[0][0]) == pytest.approx(float(heard[-len(copy)][0]), abs=1e-3)


@pytest.mark.parametrize("first", [10, 31])
def test_sound_and_picture_stay_together_when_the_run_began_later(tmp_path, with_sound, first):
    part = _part(tmp_path / "part.mp4", range(first, 50))
    join_videos([part], tmp_path / "joined.mp4", audio_from=with_sound, start=first / 25)
    pictures = _packets(tmp_path / "joined.mp4", "video")
    assert [float(packet[0]) for packet in pictures] == pytest.approx([n / 25 for n in range(50 - first)], abs=1e-4)
    time_of = {data: time for time, _, data in _packets(with_sound, "audio")}
    sound = _packets(tmp_path / "joined.mp4", "audio")
    for time, _, data in sound:
        assert float(time) == pytest.approx(float(time_of[data]) - first / 25, abs=1e-3)
    assert -0.022 < float(sound[0][0]) <= 0.001
    assert (50 - first) / 25 - 0.022 < float(sound[-1][0]) < (50 - first) / 25


def test_without_a_start_late_pictures_stay_late(tmp_path):
    join_videos([_part(tmp_path / "part.mp4", range(25, 30))], tmp_path / "joined.mp4")
    assert float(_packets(tmp_path / "joined.mp4", "video")[0][0]) == pytest.approx(1.0, abs=1e-4)


def test_a_source_without_sound_gives_none(parts, tmp_path):
    for source in (encode(tmp_path / "silent.mp4", count=3), tmp_path):
        join_videos(parts, tmp_path / "joined.mp4", audio_from=source)
        with av.open(str(tmp_path / "joined.mp4")) as container:
            assert [stream.type for stream in container.streams] == ["video"]


def test_sound_that_mp4_cannot_hold_is_left_out_with_a_warning(parts, tmp_path):
    source = encode(tmp_path / "source.mkv", count=10, tone="pcm_u8")
    with pytest.warns(MaskstreamWarning, match=r"source\.mkv was left out: MP4 cannot hold pcm_u8"):
        join_videos(parts, tmp_path / "joined.mp4", audio_from=source)
    assert open_video(tmp_path / "joined.mp4").frame_count == 60


@pytest.mark.parametrize("codec", ["libopus", "libmp3lame", "flac", "ac3"])
def test_other_sound_is_copied_too(parts, tmp_path, codec):
    source = encode(tmp_path / "source.mkv", count=30, tone=codec)
    join_videos(parts, tmp_path / "joined.mp4", audio_from=source)
    assert len(_packets(tmp_path / "joined.mp4", "audio")) > 3


def test_a_source_that_is_damaged_or_gone_does_not_stop_the_join(parts, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"nonsense")
    with pytest.warns(MaskstreamWarning, match="the sound was left out"):
        join_videos(parts, tmp_path / "joined.mp4", audio_from=tmp_path / "broken.mp4")
    join_videos(parts, tmp_path / "joined.mp4", audio_from=tmp_path / "gone.mp4")


def test_parts_that_do_not_fit_together_are_refused_and_leave_nothing(parts, tmp_path):
    small = tmp_path / "small.mp4"
    with VideoWriter(small, size_hw=(32, 32)) as writer:
        writer.write(picture(0)[:32, :32], 99.0)
    (tmp_path / "text.mp4").write_bytes(b"nonsense")
    output = tmp_path / "joined.mp4"
    with pytest.raises(InputError, match=r"small\.mp4 was encoded with other settings"):
        join_videos([*parts, small], output)
    with pytest.raises(InputError, match=r"part17\.mp4 is not later than the part before it"):
        join_videos(parts[::-1], output)
    with pytest.raises(InputError, match="nothing to join"):
        join_videos([], output)
    with pytest.raises(VideoError, match=r"text\.mp4 cannot be opened"):
        join_videos([parts[0], tmp_path / "text.mp4"], output)
    assert not output.exists() and not list(tmp_path.glob("*.partial"))


def test_the_tone_of_the_tests_is_a_tone(tmp_path):
    with av.open(str(tmp_path / "tone.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        assert len(list(sound_packets(stream, seconds=0.5))) > 20
