import numpy as np
import pytest

from maskstream.propagation.colour import likeness, remember, sharpen

EVERYWHERE = (slice(0, 64), slice(0, 96))
RED, BLUE = (120, 190, 170), (110, 150, 70)


def two_halves(edge=48):
    lab = np.full((64, 96, 3), BLUE, dtype=np.uint8)
    lab[:, :edge] = RED
    return lab


def columns_below(edge):
    return np.broadcast_to(np.arange(96) < edge, (64, 96))


def probabilities(*objects):
    stacked = np.stack(objects).astype(np.float32)
    return np.concatenate([1 - stacked.sum(axis=0, keepdims=True), stacked])


@pytest.mark.parametrize("slipped", [42, 45, 48, 51, 54])
def test_an_outline_moves_to_where_the_colour_changes(slipped):
    lab = two_halves()
    colours = remember(lab, columns_below(48), ~columns_below(48))
    found = sharpen(probabilities(0.8 * columns_below(slipped) + 0.1), lab, [EVERYWHERE], [colours])
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    wrong = (found[1] > 0.5) != columns_below(48)
    assert wrong.mean(axis=0).max() == 0 or np.flatnonzero(wrong.any(axis=0)).tolist() in ([47], [48], [47, 48])


def test_objects_side_by_side_stay_apart():
    lab = two_halves()
    left, right = columns_below(48), ~columns_below(48)
    tables = [remember(lab, left, right), remember(lab, right, left)]
    found = sharpen(probabilities(0.9 * left, 0.9 * right), lab, [EVERYWHERE, EVERYWHERE], tables)
    labels = found.argmax(axis=0)
    assert (labels == np.where(left, 1, 2)).mean() > 0.97


def test_an_object_has_no_probability_outside_its_region():
    lab = two_halves()
    colours = remember(lab, columns_below(48), ~columns_below(48))
    region = (slice(10, 50), slice(0, 60))
    found = sharpen(probabilities(0.9 * columns_below(48)), lab, [region], [colours])
    outside = np.ones((64, 96), dtype=bool)
    outside[region] = False
    assert (found[1][outside] == 0).all()
    assert (found[0][outside] == 1).all()
    nowhere = sharpen(probabilities(0 * columns_below(48)), lab, [None], [colours])
    assert (nowhere[0] == 1).all()


def test_likeness_is_one_for_the_object_itself_and_zero_for_other_colours_or_nothing():
    lab = two_halves()
    colours = remember(lab, columns_below(48), ~columns_below(48))
    assert likeness(colours, lab, columns_below(20)) == 1
    assert likeness(colours, lab, ~columns_below(48)) == 0
    assert likeness(colours, lab, columns_below(0)) == 0
    assert likeness(colours, lab, columns_below(96)) == 0.5
