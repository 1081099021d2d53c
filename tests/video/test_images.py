import numpy as np
import pytest
from PIL import Image

from maskstream.types import VideoError
from maskstream.video import open_video

from .clips import HEIGHT, WIDTH, number_of, picture


def _save(path, number, **options):
    Image.fromarray(picture(number)).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    for number in range(12):
        _save(tmp_path / f"img{number}.png", number)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"not an image either")
    return tmp_path


def test_a_folder_is_read_in_natural_order(folder):
    video = open_video(folder, fps=10)
    assert [number_of(frame.image) for frame in video] == list(range(12))
    assert [frame.index for frame in video] == list(range(12))
    assert [frame.timestamp for frame in video] == [n / 10 for n in range(12)]
    assert (video.frame_count, video.size_hw, video.fps, video.seekable) == (12, (HEIGHT, WIDTH), 10, True)
    assert number_of(video[10].image) == 10
    assert (video[3].image == picture(3)).all()
    assert [frame.index for frame in video.frames_from(9)] == [9, 10, 11]
    with pytest.raises(IndexError):
        video[12]


def test_a_pattern_selects_images(folder):
    video = open_video(str(folder / "img1*.png"), start=1)
    assert [number_of(frame.image) for frame in video] == [10, 11]
    assert [frame.index for frame in video] == [1, 2]
    assert video.fps == 24


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "webp", "bmp", "tif", "tiff"])
def test_every_kind_of_image_is_read(tmp_path, suffix):
    _save(tmp_path / f"a.{suffix}", 5)
    assert [number_of(frame.image) for frame in open_video(tmp_path)] == [5]


def test_an_image_alone_is_a_video_of_one_frame(folder):
    assert [frame.index for frame in open_video(folder / "img3.png")] == [0]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1", "CMYK"])
def test_every_mode_comes_out_as_rgb(tmp_path, mode):
    Image.fromarray(picture(9)).convert(mode).save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    frame = open_video(tmp_path)[0]
    assert number_of(frame.image) == 9


def test_sixteen_bits_are_cut_to_eight(tmp_path):
    grey = picture(6)[:, :, 0]
    Image.fromarray(grey.astype(np.uint16) * 256 + 77).save(tmp_path / "a.png")
    assert (open_video(tmp_path)[0].image == grey[:, :, None]).all()


def test_images_come_out_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    Image.fromarray(picture(3)).save(tmp_path / "a.png", exif=exif)
    video = open_video(tmp_path)
    assert video.size_hw == (WIDTH, HEIGHT)
    assert (video[0].image == np.rot90(picture(3), -1)).all()


def test_an_image_of_another_size_is_named_with_both_sizes(folder):
    Image.new("RGB", (10, 20)).save(folder / "img7.png")
    with pytest.raises(VideoError, match=rf"img7\.png is 20×10 but img0\.png is {HEIGHT}×{WIDTH}"):
        open_video(folder)


def test_an_image_that_cannot_be_opened_is_named(folder):
    (folder / "img7.png").write_bytes(b"nonsense")
    with pytest.raises(VideoError, match=r"img7\.png cannot be read as an image") as error:
        open_video(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_an_image_that_was_cut_off_is_named_when_it_is_reached(tmp_path, suffix):
    for number in range(3):
        _save(tmp_path / f"{number}.{suffix}", number)
    data = (tmp_path / f"1.{suffix}").read_bytes()
    (tmp_path / f"1.{suffix}").write_bytes(data[: len(data) * 2 // 3])
    read = []
    with pytest.raises(VideoError, match=rf"1\.{suffix} cannot be read"):
        read += [frame.index for frame in open_video(tmp_path)]


@pytest.mark.parametrize("name", ["nothing_here", "*.png"])
def test_a_folder_without_images_is_refused(tmp_path, name):
    (tmp_path / "nothing_here").mkdir()
    with pytest.raises(VideoError, match="holds no image"):
        open_video(str(tmp_path / name))
