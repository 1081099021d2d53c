import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from maskstream.formats import davis_palette, read_label_png, write_label_png
from maskstream.types import InputError

SMALL = np.array([[0, 1, 2], [254, 7, 0]])
SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=17)


@pytest.mark.parametrize("highest", [1, 254, 255, 256, 70_000, 2**24 - 1])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_id_survives_writing_and_reading(tmp_path, data, highest):
    labels = data.draw(arrays(np.int32, SHAPES, elements=st.integers(0, highest)))
    write_label_png(tmp_path / "labels.png", labels)
    read = read_label_png(tmp_path / "labels.png")
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels)


def test_rgb_ids_survive_even_when_all_their_colours_are_in_the_palette(tmp_path):
    labels = np.array([[128, 32768]])  # (128, 0, 0) and (0, 128, 0): palette entries 1 and 2
    write_label_png(tmp_path / "labels.png", labels)
    np.testing.assert_array_equal(read_label_png(tmp_path / "labels.png"), labels)


def test_ids_up_to_254_become_a_palette_picture_that_other_tools_read(tmp_path):
    write_label_png(tmp_path / "labels.png", SMALL)
    with Image.open(tmp_path / "labels.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), SMALL)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), davis_palette()[SMALL])


def test_larger_ids_become_the_24_bit_code_that_panoptic_tools_read(tmp_path):
    write_label_png(tmp_path / "labels.png", np.array([[0, 3 + 256 * 2 + 65536]]))
    with Image.open(tmp_path / "labels.png") as image:
        assert image.mode == "RGB"
        assert np.asarray(image).tolist() == [[[0, 0, 0], [3, 2, 1]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64])
def test_any_integer_type_can_be_written(tmp_path, dtype):
    labels = np.array([[0, 5], [np.iinfo(np.int8).max, 1]], dtype=dtype)
    write_label_png(tmp_path / "labels.png", labels)
    np.testing.assert_array_equal(read_label_png(tmp_path / "labels.png"), labels)


@pytest.mark.parametrize(
    "labels, message",
    [
        pytest.param(np.array([[-1]]), "from -1 to -1", id="a negative id"),
        pytest.param(np.array([[2**24]]), "16777216", id="an id of more than 24 bits"),
        pytest.param(np.zeros((2, 2, 3), int), r"\[2, 2, 3\]", id="three axes"),
        pytest.param(np.zeros((2, 2)), "float64", id="not integers"),
        pytest.param(np.zeros((0, 4), int), r"\[0, 4\]", id="no pixel"),
    ],
)
def test_labels_that_cannot_be_stored_are_refused_and_leave_no_file(tmp_path, labels, message):
    with pytest.raises(InputError, match=message):
        write_label_png(tmp_path / "labels.png", labels)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "labels.png"
    write_label_png(path, SMALL)

    def fail(self, target):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_label_png(path, np.zeros((4, 4), int))
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.png"]
    np.testing.assert_array_equal(read_label_png(path), SMALL)


def test_the_same_labels_give_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        write_label_png(tmp_path / name, SMALL)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "image, expected",
    [
        pytest.param(Image.fromarray(SMALL.astype(np.uint8)), SMALL, id="grey"),
        pytest.param(Image.fromarray(SMALL > 0), SMALL > 0, id="black and white"),
        pytest.param(Image.fromarray((SMALL * 200).astype(np.uint16)), SMALL * 200, id="16 bit"),
        pytest.param(Image.fromarray(davis_palette()[SMALL]), SMALL, id="a palette picture re-saved as RGB"),
    ],
)
def test_masks_of_other_tools_are_read(tmp_path, image, expected):
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_label_png(tmp_path / "mask.png"), expected)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_pictures_of_fewer_bits_give_their_indices(tmp_path, bits):
    labels = np.arange(2**bits, dtype=np.uint8).reshape(2, -1)
    image = Image.fromarray(labels)
    image.putpalette(davis_palette()[: 2**bits].tobytes())
    image.save(tmp_path / "mask.png", bits=bits)
    np.testing.assert_array_equal(read_label_png(tmp_path / "mask.png"), labels)


def test_a_foreign_palette_does_not_change_the_indices(tmp_path):
    image = Image.fromarray(SMALL.astype(np.uint8))
    image.putpalette(bytes(reversed(range(256))) * 3)
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_label_png(tmp_path / "mask.png"), SMALL)


def test_a_colour_outside_the_palette_is_an_error_unless_colours_are_ids(tmp_path):
    colours = np.array([[[128, 0, 0], [1, 2, 3]]], dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "mask.png")
    for encoding in ("auto", "palette"):
        with pytest.raises(InputError, match=r"\(1, 2, 3\).*encoding=\"rgb\""):
            read_label_png(tmp_path / "mask.png", encoding=encoding)
    assert read_label_png(tmp_path / "mask.png", encoding="rgb").tolist() == [[128, 1 + 2 * 256 + 3 * 65536]]


def test_the_caller_decides_what_colours_mean(tmp_path):
    Image.fromarray(davis_palette()[SMALL]).save(tmp_path / "mask.png")
    codes = davis_palette()[SMALL].astype(int) @ [1, 256, 65536]
    np.testing.assert_array_equal(read_label_png(tmp_path / "mask.png", encoding="rgb"), codes)
    write_label_png(tmp_path / "ids.png", np.array([[128, 32768]]))
    assert read_label_png(tmp_path / "ids.png", encoding="palette").tolist() == [[1, 2]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_picture_with_transparency_is_refused(tmp_path, mode):
    Image.new(mode, (4, 3)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=rf"mask\.png.*{mode}.*transparency"):
        read_label_png(tmp_path / "mask.png")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no mask .*absent\.png"):
        read_label_png(tmp_path / "absent.png")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"not a picture", id="text"),
        pytest.param(lambda data: data[: len(data) // 2], id="cut in the middle"),
        pytest.param(lambda data: data[:20], id="cut in the header"),
        pytest.param(lambda data: data[:-20] + bytes(20), id="overwritten at the end"),
        pytest.param(lambda data: data.replace(b"IDAT", b"IDAX"), id="a damaged chunk"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "mask.png"
    write_label_png(path, np.random.default_rng(0).integers(0, 200, (64, 64)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"mask\.png"):
        read_label_png(path)


def test_a_folder_is_not_a_mask(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_label_png(tmp_path)


def test_a_picture_of_another_format_is_refused_because_it_may_not_keep_ids(tmp_path):
    Image.fromarray(SMALL.astype(np.uint8)).save(tmp_path / "mask.jpg")
    (tmp_path / "mask.jpg").rename(tmp_path / "mask.png")
    with pytest.raises(InputError, match="not a PNG"):
        read_label_png(tmp_path / "mask.png")
