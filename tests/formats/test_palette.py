import colorsys

import numpy as np
import pytest

from maskstream.formats import colour_of, davis_palette


def palette_by_the_rule() -> list[tuple[int, int, int]]:
    """The rule of the PASCAL VOC development kit, bit by bit."""
    rows = []
    for index in range(256):
        red = green = blue = 0
        rest = index
        for shift in range(8):
            red |= (rest & 1) << (7 - shift)
            green |= (rest >> 1 & 1) << (7 - shift)
            blue |= (rest >> 2 & 1) << (7 - shift)
            rest >>= 3
        rows.append((red, green, blue))
    return rows


def test_the_palette_is_the_one_of_pascal_voc():
    assert davis_palette().tolist() == [list(row) for row in palette_by_the_rule()]
    assert davis_palette().dtype == np.uint8


@pytest.mark.parametrize(
    "index, colour",
    [
        pytest.param(0, (0, 0, 0), id="background is black"),
        pytest.param(1, (128, 0, 0), id="the first object of DAVIS is dark red"),
        pytest.param(2, (0, 128, 0), id="the second is dark green"),
        pytest.param(255, (224, 224, 192), id="void is the cream of PASCAL"),
    ],
)
def test_well_known_entries_have_their_well_known_colours(index, colour):
    assert tuple(davis_palette()[index]) == colour


def test_no_two_palette_entries_share_a_colour():
    assert len(np.unique(davis_palette(), axis=0)) == 256


def test_the_shared_palette_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        davis_palette()[1] = 0


def test_ids_up_to_254_have_the_palette_colour():
    np.testing.assert_array_equal(colour_of(range(255)), davis_palette()[:255])


def test_larger_ids_have_bright_saturated_colours_that_differ_from_their_neighbours():
    colours = colour_of(np.arange(255, 3000))
    assert (colours.max(axis=1) == 255).all()
    assert (colours.min(axis=1) == 64).all()
    steps = np.abs(np.diff(colours.astype(int), axis=0)).sum(axis=1)
    assert steps.min() > 100


def test_hues_of_larger_ids_step_by_the_golden_ratio():
    for number, colour in zip((255, 1000, 2**24 - 1), colour_of([255, 1000, 2**24 - 1]), strict=True):
        hue, _, _ = colorsys.rgb_to_hsv(*(int(channel) - 64 for channel in colour))
        expected = number * ((5**0.5 - 1) / 2) % 1
        assert abs(hue - expected) < 0.01


def test_the_colour_of_an_id_does_not_depend_on_its_company():
    np.testing.assert_array_equal(colour_of([7, 4711])[1], colour_of([4711])[0])
    assert colour_of([]).shape == (0, 3)
