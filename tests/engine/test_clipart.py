"""Objects of clip art on frames of videos."""

import cv2
import numpy as np
import pytest

from maskstream.engine.clipart import clipart_in, paste_clipart, read_clipart
from maskstream.engine.cutouts import write_cutouts
from maskstream.synthetic import write_sample
from maskstream.synthetic.cutouts import pairs_in
from maskstream.types import InputError

RED = (0, 0, 255)


def draw(path, *, shape="disc", colour=RED, size=100):
    """Clip art of one colour, transparent elsewhere."""
    picture = np.zeros((size, size, 4), np.uint8)
    inside = np.zeros((size, size), np.uint8)
    if shape == "disc":
        cv2.circle(inside, (size // 2, size // 2), size // 3, 255, -1)
    elif shape == "all":
        inside[:] = 255
    elif shape == "line":
        cv2.line(inside, (5, 5), (size - 5, size - 5), 255, 3)
    elif shape == "two":
        inside[10:90, 10:40], inside[10:90, 60:90] = 255, 255
    elif shape == "dot":
        inside[40:60, 40:60] = 255
        inside[40:45, 40:45] = 0
    picture[..., :3], picture[..., 3] = colour, inside
    cv2.imwrite(str(path), picture)
    return path


def test_a_picture_is_cut_to_its_object(tmp_path):
    art = read_clipart(draw(tmp_path / "disc.png"))
    assert art is not None
    assert art.shape == (67, 67, 4)
    np.testing.assert_array_equal(art[33, 33], [255, 0, 0, 255])


@pytest.mark.parametrize("shape", ["all", "line", "two", "dot"])
def test_what_shows_no_single_object_is_left_out(tmp_path, shape):
    assert read_clipart(draw(tmp_path / "art.png", shape=shape)) is None


def test_pictures_without_transparency_and_broken_ones_are_left_out(tmp_path):
    cv2.imwrite(str(tmp_path / "opaque.png"), np.full((80, 80, 3), 7, np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert read_clipart(tmp_path / "opaque.png") is None
    assert read_clipart(tmp_path / "broken.png") is None


def test_an_object_is_pasted_where_its_mask_says_and_half_of_them_are_filled(tmp_path):
    art = read_clipart(draw(tmp_path / "disc.png"))
    assert art is not None
    frames = [np.full((120, 160, 3), grey, np.uint8) for grey in (60, 120)]
    rng, drawn = np.random.default_rng(0), 0
    for _ in range(200):
        picture, mask = paste_clipart(art, frames, rng)
        ground = picture[0, 0] if not mask[0, 0] else picture[-1, -1]
        sure = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
        away = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) == 0
        assert sure.any()
        assert (picture[away] == ground).all()
        assert (picture[sure] == picture[sure][0]).all()
        drawn += bool((picture[sure][0] == [255, 0, 0]).all())
        height = np.flatnonzero(mask.any(1)).size
        assert 0.3 * 120 < height < 0.85 * 120
    assert 70 < drawn < 130


def test_clip_art_is_written_beside_what_moves(tmp_path):
    write_sample(tmp_path / "sample.mp4", frames=13, size_hw=(96, 128), objects=2)
    (tmp_path / "art" / "deeper").mkdir(parents=True)
    draw(tmp_path / "art" / "one.png")
    draw(tmp_path / "art" / "deeper" / "two.png", colour=(200, 80, 10))
    draw(tmp_path / "art" / "rectangle.png", shape="all")
    plain = write_cutouts([tmp_path / "sample.mp4"], tmp_path / "plain", every=6, size=96)
    pairs = write_cutouts([tmp_path / "sample.mp4"], tmp_path / "out", every=6, size=96, clipart=tmp_path / "art")
    assert pairs == plain + 2 == len(pairs_in(tmp_path / "out"))


def test_a_folder_without_clip_art_is_told_of(tmp_path):
    with pytest.raises(InputError, match="holds no PNG"):
        clipart_in(tmp_path)
