import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskstream.propagation.references import (
    ADVICE_MARGIN,
    FlowFeatures,
    Reference,
    enclosing,
    regions,
    vote,
    warp,
    with_background,
)


@given(arrays(np.float32, (3, 2, 2), elements=st.floats(0, 1, width=32)))
def test_a_background_makes_probabilities_sum_to_one(objects):
    found = with_background(objects)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    fits = objects.sum(axis=0) <= 1
    np.testing.assert_array_equal(found[1:, fits], objects[:, fits])


def test_sampling_at_the_pixels_themselves_changes_nothing():
    picture = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    grid = np.stack(np.meshgrid(np.arange(13), np.arange(9)), axis=-1).astype(np.float32)
    np.testing.assert_array_equal(warp(picture, grid), picture)
    np.testing.assert_array_equal(warp(picture, grid + 1)[:-1, :-1], picture[1:, 1:])
    assert (warp(picture, grid - 100) == 0).all()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([None, None], (slice(0, 0), slice(0, 0)), id="none"),
        pytest.param([(slice(2, 5), slice(1, 9)), None], (slice(2, 5), slice(1, 9)), id="one"),
        pytest.param([(slice(2, 5), slice(1, 9)), (slice(0, 3), slice(4, 12))], (slice(0, 5), slice(1, 12)), id="two"),
    ],
)
def test_the_enclosing_region_holds_all(parts, expected):
    assert enclosing(parts) == expected


def labelled(colour, *masks):
    features = FlowFeatures(torch.full((64, 64, 3), colour, dtype=torch.uint8))
    return features, Reference.now(features, torch.stack([mask.float() for mask in masks]))


LEFT = torch.arange(64).expand(64, 64) < 32


def test_the_reference_that_looks_like_the_present_decides():
    present, alike = labelled(100, LEFT)
    _, unlike = labelled(160, ~LEFT)
    references = [alike, unlike]
    found = vote([], references, present, regions(references))
    assert (found.argmax(axis=0) == LEFT.numpy()).all()


def test_a_reference_has_no_vote_on_objects_it_does_not_know():
    present, first = labelled(100, LEFT)
    _, second = labelled(100, LEFT, ~LEFT)
    references = [first.with_objects(1), second]
    assert references[0].known == (True, False)
    found = vote([], references, present, regions(references))
    assert found[2][~LEFT.numpy()].min() > 0.9


def test_advice_decides_where_the_picture_resembles_no_reference():
    present, unlike = labelled(100, ~LEFT)[0], labelled(180, ~LEFT)[1]
    advice = LEFT.numpy()[None].astype(np.float32)
    found = vote([], [unlike], present, regions([unlike], advice), advice)
    inside = np.s_[:, : 32 - ADVICE_MARGIN]
    assert (found[1][inside] > 0.5).all()
    assert (found[1][:, 32 + ADVICE_MARGIN :] < 0.5).all()


def test_advice_is_not_heard_where_it_is_unsure_or_near_its_outline():
    present, alike = labelled(100, LEFT)
    alone = vote([alike], [], present, regions([alike]))
    unsure = np.full((1, 64, 64), 0.5, np.float32)
    np.testing.assert_allclose(vote([alike], [], present, regions([alike]), unsure), alone, atol=1e-6)
    stripes = (np.arange(64) // ADVICE_MARGIN % 2)[None, None].repeat(64, 1).astype(np.float32)
    stripes[stripes == 0] = 0.5  # nowhere sure of all that is around
    np.testing.assert_allclose(vote([alike], [], present, regions([alike]), stripes), alone, atol=1e-6)


@pytest.mark.parametrize(("change", "is_heard"), [(0, False), (3, False), (5, True)])
def test_an_object_that_looks_as_it_did_when_it_was_given_is_found_without_advice(change, is_heard):
    """It resembles that by e to the power of minus its mean change in four levels."""
    _, reference = labelled(100, LEFT)
    present = labelled(100 + change, LEFT)[0]
    advice = np.ones((1, 64, 64), np.float32)
    where = regions([reference], advice)
    alone, advised = (vote([], [reference], present, where, one) for one in (None, advice))
    assert (advised[1] > alone[1] + 0.1).any() == is_heard
    found_again = vote([reference], [], present, where, advice)  # as it was found is not as it was given
    assert (found_again[1] > vote([reference], [], present, where)[1] + 0.1).any()


def test_an_object_is_looked_for_where_the_advice_sees_it():
    _, nowhere = labelled(100, LEFT & False)
    assert regions([nowhere]) == [None]
    advice = np.zeros((1, 64, 64), np.float32)
    advice[0, 40:44, 40:44] = 1
    (found,) = regions([nowhere], advice)
    assert found is not None
    assert all(side.start <= 40 and side.stop >= 44 for side in found)


def test_removing_objects_keeps_the_others():
    _, reference = labelled(100, LEFT, ~LEFT)
    left = reference.without_vote([0]).only([1])
    assert left.known == (True,)
    assert torch.equal(left.masks_nhw[0] > 127, ~LEFT)
