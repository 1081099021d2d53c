"""Losses of propagation: equal to what one writes down, pixel by pixel."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskstream.propagation.losses import bootstrapped_cross_entropy, hard_fraction, soft_dice

from .hashed import hashed

BATCH, OBJECTS, HEIGHT, WIDTH = 2, 3, 4, 5


def log_odds(name="log-odds"):
    return hashed(name, (BATCH, 1 + OBJECTS, HEIGHT, WIDTH), -4, 4)


def some_labels(name="labels", most=OBJECTS):
    return hashed(name, (BATCH, HEIGHT, WIDTH), 0, 1 + most).long()


def pixel_losses(log_odds_nhw, labels_hw):
    """Of one sample, every pixel by itself."""
    losses = []
    for y in range(HEIGHT):
        for x in range(WIDTH):
            odds = log_odds_nhw[:, y, x].tolist()
            losses.append(math.log(sum(map(math.exp, odds))) - odds[int(labels_hw[y, x])])
    return losses


# Bootstrapped cross-entropy.


@pytest.mark.parametrize(
    ("iteration", "fraction"),
    [
        pytest.param(0, 1.0, id="at the beginning all"),
        pytest.param(10_000, 1.0, id="at the start of the descent all"),
        pytest.param(22_500, 0.65, id="half-way between"),
        pytest.param(35_000, 0.3, id="at its end the hardest"),
        pytest.param(35_001, 0.3, id="and so on"),
    ],
)
def test_fewer_and_fewer_pixels_count(iteration, fraction):
    assert hard_fraction(iteration, 10_000, 35_000) == pytest.approx(fraction)


def test_a_descent_of_no_length_is_a_step():
    assert [hard_fraction(iteration, 5, 5, hardest=0.2) for iteration in (4, 5, 6)] == [1.0, 1.0, 0.2]


@given(st.floats(0.01, 1))
def test_the_hardest_pixels_of_each_sample_count(fraction):
    count = max(int(HEIGHT * WIDTH * fraction), 1)
    of_samples = [
        sorted(pixel_losses(odds, labels), reverse=True)[:count]
        for odds, labels in zip(log_odds(), some_labels(), strict=True)
    ]
    expected = sum(sum(losses) / count for losses in of_samples) / BATCH
    assert bootstrapped_cross_entropy(log_odds(), some_labels(), fraction).item() == pytest.approx(expected, rel=1e-5)


def test_pixels_that_are_not_hard_have_no_gradient():
    odds = log_odds().requires_grad_()
    bootstrapped_cross_entropy(odds, some_labels(), 0.3).backward()
    assert odds.grad is not None
    assert (odds.grad.abs().sum(dim=1) > 0).flatten(1).sum(dim=1).tolist() == [6, 6]


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_padded_objects_do_not_change_cross_entropy(fraction):
    odds = log_odds()[:, :3]
    labels = some_labels(most=2)
    padded = torch.cat([odds, torch.full((BATCH, 2, HEIGHT, WIDTH), -16.118)], dim=1)
    alone, beside = (bootstrapped_cross_entropy(x, labels, fraction) for x in (odds, padded))
    torch.testing.assert_close(beside, alone, rtol=0, atol=1e-6)


# Soft Dice.


def test_dice_is_that_of_every_object_by_itself():
    probabilities, labels = hashed("p", (BATCH, OBJECTS, HEIGHT, WIDTH), 0, 1), some_labels()
    expected = 0.0
    for b in range(BATCH):
        for n in range(OBJECTS):
            mask, truth = probabilities[b, n], (labels[b] == n + 1).float()
            expected += 1 - (2 * (mask * truth).sum().item() + 1) / (mask.sum().item() + truth.sum().item() + 1)
    assert soft_dice(probabilities, labels).item() == pytest.approx(expected / (BATCH * OBJECTS), rel=1e-5)


def test_a_perfect_mask_loses_nothing():
    labels = some_labels()
    masks = torch.stack([(labels == n).float() for n in range(1, 1 + OBJECTS)], dim=1)
    assert soft_dice(masks, labels).item() == pytest.approx(0, abs=1e-6)


def test_an_object_that_is_not_there_loses_nothing_where_none_is_found():
    labels = torch.zeros(BATCH, HEIGHT, WIDTH, dtype=torch.int64)
    assert soft_dice(torch.zeros(BATCH, OBJECTS, HEIGHT, WIDTH), labels).item() == 0


def test_padded_objects_may_be_left_away():
    probabilities, labels = hashed("p", (BATCH, 2, HEIGHT, WIDTH), 0, 1), some_labels(most=2)
    padded = torch.cat([probabilities, torch.zeros(BATCH, 1, HEIGHT, WIDTH)], dim=1)
    torch.testing.assert_close(soft_dice(probabilities, labels, objects=3), soft_dice(padded, labels))
