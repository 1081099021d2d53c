import ctypes
import platform
import subprocess
import sys

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.types import InputError, OutputError
from maskstream.video import VideoWriter, open_video

from .clips import HEIGHT, WIDTH, number_of, picture

SIZE = (HEIGHT, WIDTH)
M_PERTURB = -6
"""Number of the option of mallopt(3): fill new memory with the complement of the lowest byte of a value."""


def _write(path, times, *, size_hw=SIZE, **options):
    with VideoWriter(path, size_hw=size_hw, **options) as writer:
        for number, time in enumerate(times):
            writer.write(picture(number, size_hw=size_hw), time)
    return path


def _durations(path):
    with av.open(str(path)) as container:
        return [float(p.duration * p.time_base) for p in container.demux(video=0) if p.size]


def test_frames_and_their_times_come_back(tmp_path):
    times = [3.2 + n * 1001 / 30000 for n in range(30)]
    frames = list(open_video(_write(tmp_path / "a.mp4", times, fps_hint=30000 / 1001)))
    assert [number_of(frame.image) for frame in frames] == list(range(30))
    assert [frame.timestamp for frame in frames] == pytest.approx([time - times[0] for time in times], abs=2e-5)
    inside = np.s_[16:]
    assert np.abs(frames[7].image[inside].astype(int) - picture(7)[inside]).mean() < 6


@given(steps=st.lists(st.integers(1, 90_000), max_size=12), start=st.integers(0, 10**9))
@settings(max_examples=15, deadline=None)
def test_any_times_are_kept_to_the_tick(tmp_path_factory, steps, start):
    ticks = np.cumsum([start, *steps])
    path = _write(tmp_path_factory.mktemp("times") / "a.mp4", ticks / 90_000)
    with av.open(str(path)) as container:
        assert [p.pts * p.time_base * 90_000 for p in container.demux(video=0) if p.size] == list(ticks)


def test_times_that_stand_still_or_go_back_are_moved_on(tmp_path):
    frames = list(open_video(_write(tmp_path / "a.mp4", [0, 0.5, 0.5, 0.1, 1.0])))
    times = [frame.timestamp for frame in frames]
    assert times == pytest.approx([0, 0.5, 0.5, 0.5, 1.0], abs=1e-4)
    assert times == sorted(set(times))


@pytest.mark.parametrize(
    "times, options, last",
    [
        pytest.param([0, 0.1, 0.2], {}, 0.1, id="as long as the frame before"),
        pytest.param([0], {"fps_hint": 5.0}, 0.2, id="alone: as the hint says"),
        pytest.param([0], {}, 1 / 24, id="alone and without a hint"),
    ],
)
def test_the_last_frame_is_shown_for_a_while(tmp_path, times, options, last):
    assert _durations(_write(tmp_path / "a.mp4", times, **options))[-1] == pytest.approx(last, abs=1e-4)


@pytest.mark.parametrize("size_hw", [(48, 129), (49, 128), (51, 131), (1, 1)])
def test_odd_sizes_are_padded_with_the_last_row_and_column(tmp_path, size_hw):
    path = _write(tmp_path / "a.mp4", [0, 0.1], size_hw=size_hw, quality=1)
    image = open_video(path)[1].image
    height, width = size_hw
    assert image.shape == (height + height % 2, width + width % 2, 3)
    if height % 2:
        assert np.abs(image[-1].astype(int) - image[-2]).mean() < 12
    if width % 2:
        assert np.abs(image[:, -1].astype(int) - image[:, -2]).mean() < 12


def test_browsers_can_play_it(tmp_path):
    path = _write(tmp_path / "a.mp4", [0, 0.1])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # it can play before it has loaded


def test_colours_are_right(tmp_path):
    colours = [(220, 30, 40), (20, 200, 60), (30, 40, 210), (255, 255, 255), (0, 0, 0), (128, 128, 128)]
    with VideoWriter(tmp_path / "a.mp4", size_hw=SIZE, quality=5) as writer:
        for number, colour in enumerate(colours):
            writer.write(np.full((*SIZE, 3), colour, np.uint8), number)
    for frame, colour in zip(open_video(tmp_path / "a.mp4"), colours, strict=True):
        assert np.abs(frame.image.astype(int) - colour).max() <= 4


def test_the_same_frames_give_the_same_bytes(tmp_path):
    times = [n / 25 for n in range(60)]
    first = _write(tmp_path / "a.mp4", times).read_bytes()
    assert _write(tmp_path / "b.mp4", times).read_bytes() == first


def test_an_image_that_is_not_contiguous_is_fine(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", size_hw=SIZE) as writer:
        writer.write(picture(5)[::-1, ::-1][::-1, ::-1], 0)
    assert number_of(open_video(tmp_path / "a.mp4")[0].image) == 5


def test_nothing_is_left_after_an_exception(tmp_path):
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "a.mp4", size_hw=SIZE) as writer:
        for number in range(60):
            writer.write(picture(number), number)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_an_exception_of_the_caller_is_not_taken_for_one_of_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="another"), VideoWriter(tmp_path / "a.mp4", size_hw=SIZE):
        raise FileNotFoundError("another file")
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    writer = VideoWriter(path, size_hw=SIZE)
    for number in range(60):
        writer.write(picture(number), number)
    assert path.read_bytes() == b"old"
    writer.close()
    writer.close()
    assert open_video(path).frame_count == 60
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match="is closed"):
        writer.write(picture(0), 99)


@pytest.mark.parametrize("end", ["close", "discard"])
def test_without_a_frame_there_is_no_file(tmp_path, end):
    writer = VideoWriter(tmp_path / "a.mp4", size_hw=SIZE)
    getattr(writer, end)()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "image", [np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((*SIZE, 3), np.float32)]
)
def test_an_image_of_another_kind_is_refused(tmp_path, image):
    writer = VideoWriter(tmp_path / "a.mp4", size_hw=SIZE)
    with pytest.raises(InputError, match=r"a\.mp4 takes uint8"):
        writer.write(image, 0)
    writer.discard()


@pytest.mark.parametrize("options", [{"size_hw": (0, 4)}, {"size_hw": SIZE, "quality": 52}])
def test_options_that_make_no_sense_are_refused(tmp_path, options):
    with pytest.raises(InputError):
        VideoWriter(tmp_path / "a.mp4", **options)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"nowhere/a\.mp4 cannot be written") as error:
        VideoWriter(tmp_path / "nowhere" / "a.mp4", size_hw=SIZE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("room", [0, 20_000, 60_000])
def test_a_full_disk_is_an_error_in_one_line_and_leaves_nothing(tmp_path, room):
    pytest.importorskip("resource")
    code = f"""
import resource, signal
import numpy as np
from maskstream.types import OutputError
from maskstream.video import VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
noise = np.random.default_rng(0)
try:
    with VideoWriter({str(tmp_path / "a.mp4")!r}, size_hw=(64, 64)) as writer:
        for n in range(60):
            writer.write(noise.integers(0, 255, (64, 64, 3), np.uint8), n)
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1 and "a.mp4 cannot be written: File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def fill_memory():
    """A function that says what byte newly allocated memory holds from now on."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc fills memory")
    mallopt = ctypes.CDLL(None).mallopt
    yield lambda byte: mallopt(M_PERTURB, 0x100 | byte ^ 0xFF)
    mallopt(M_PERTURB, 0)


# x264 once read 0xFF as the motion vector (-1, -1), and 0xFE where the picture is at least nine macroblocks wide
@pytest.mark.parametrize("size_hw", [(2, 2), (32, 48), (64, 96), (128, 128), (144, 144)])
def test_what_memory_held_before_does_not_show(tmp_path, fill_memory, size_hw):
    seen = set()
    for byte in (0x00, 0x55, 0xFE, 0xFF):
        fill_memory(byte)
        seen.add(_write(tmp_path / "a.mp4", [n / 20 for n in range(12)], size_hw=size_hw).read_bytes())
    assert len(seen) == 1
