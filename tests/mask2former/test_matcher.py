"""Objects get the queries that are cheapest for them, all together."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.mask2former.modeling_mask2former import Mask2FormerHungarianMatcher

from maskstream.mask2former.matcher import PUBLISHED, Weights, mask_costs, match
from maskstream.mask2former.points import sample_logits, sample_masks, uniform_points
from maskstream.mask2former.prediction import ClipPrediction, ClipTargets
from maskstream.types import InputError

CLASSES = 3


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def prediction_of(classes_bqc, masks_bqthw):
    return ClipPrediction(classes_bqc, masks_bqthw, classes_bqc)


def some(seed, *, batch=1, queries=5, objects=(3,), frames=2, size=(4, 6)):
    """Random answers and targets."""
    g = chance(seed)
    prediction = prediction_of(
        2 * torch.randn(batch, queries, CLASSES + 1, generator=g),
        3 * torch.randn(batch, queries, frames, *size, generator=g),
    )
    targets = [
        ClipTargets(
            torch.randint(0, CLASSES, (n,), generator=g),
            torch.rand(n, frames, 4 * size[0], 4 * size[1], generator=g) > 0.5,
        )
        for n in objects
    ]
    return prediction, targets


def pairs(matching):
    return [list(zip(queries.tolist(), objects.tolist(), strict=True)) for queries, objects in matching]


def costs(prediction, targets, *, weights, points, seed):
    """Of the only clip, one pair of query and object after the other."""
    where = uniform_points(points, generator=chance(seed))
    logits = sample_logits(prediction.masks_bqthw[0], where)
    truth = sample_masks(targets[0].masks_nthw, where)
    table: list[list[float]] = []
    for q, row in enumerate(logits.tolist()):
        probabilities = prediction.classes_bqc[0, q].softmax(-1).tolist()
        table.append([])
        for n, target in enumerate(truth.tolist()):
            chances = [1 / (1 + math.exp(-x)) for x in row]
            bce = -sum(t * math.log(p) + (1 - t) * math.log(1 - p) for p, t in zip(chances, target, strict=True)) / len(
                row
            )
            both = sum(p * t for p, t in zip(chances, target, strict=True))
            dice = 1 - (2 * both + 1) / (sum(chances) + sum(target) + 1)
            chance_of_class = probabilities[int(targets[0].classes_n[n])]
            table[-1].append(weights.bce * bce + weights.dice * dice - weights.classes * chance_of_class)
    return table


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(0, 4))
def test_no_other_assignment_costs_less(seed, queries, objects):
    prediction, targets = some(seed, queries=queries, objects=(objects,))
    weights = Weights(classes=1.0, bce=3.0, dice=2.0)
    table = costs(prediction, targets, weights=weights, points=30, seed=seed)
    found = pairs(match(prediction, targets, weights=weights, points=30, generator=chance(seed)))[0]
    assert len(found) == min(queries, objects)
    assert found == sorted(found)
    assert len({n for _, n in found}) == len(found)
    assigned = [
        zip(range(queries), some_objects, strict=False)
        if queries <= objects
        else ((q, n) for n, q in enumerate(some_objects))
        for some_objects in itertools.permutations(range(max(queries, objects)), min(queries, objects))
    ]
    least = min(sum(table[q][n] for q, n in one) for one in assigned)
    assert sum(table[q][n] for q, n in found) == pytest.approx(least, abs=1e-4)


def test_mask_costs_are_those_of_a_hand():
    logits, truth = torch.tensor([[0.0, 0.0], [math.log(3), -math.log(3)]]), torch.tensor([[1.0, 0.0]])
    bce, dice = mask_costs(logits, truth)
    assert bce[:, 0].tolist() == pytest.approx([math.log(2), -math.log(0.75)])
    assert dice[:, 0].tolist() == pytest.approx([1 - 2 / 3, 1 - 2.5 / 3])


def test_costs_of_very_sure_masks_are_finite_and_exact():
    bce, dice = mask_costs(torch.tensor([[1000.0, -1000.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert bce.tolist() == [[0, 1000]]
    assert dice[0].tolist() == pytest.approx([0, 2 / 3])


@pytest.mark.parametrize("seed", range(5))
def test_pictures_are_matched_as_transformers_does(seed):
    prediction, targets = some(seed, batch=3, queries=20, objects=(6, 0, 20), frames=1)
    torch.manual_seed(seed)
    expected = Mask2FormerHungarianMatcher(cost_class=2.0, cost_mask=5.0, cost_dice=5.0, num_points=200)(
        prediction.masks_bqthw[:, :, 0],
        prediction.classes_bqc,
        [target.masks_nthw[:, 0] for target in targets],
        [target.classes_n for target in targets],
    )
    assert pairs(match(prediction, targets, points=200, generator=chance(seed))) == pairs(expected)


def test_a_tube_is_told_by_when_it_is_there():
    now_and_then = torch.zeros(2, 2, 8, 8, dtype=torch.bool)
    now_and_then[0, 0, 2:6, 2:6] = now_and_then[1, 1, 2:6, 2:6] = True  # the same place in different frames
    logits = 20.0 * now_and_then.flip(0).float() - 10
    prediction = prediction_of(torch.zeros(1, 2, CLASSES + 1), logits[None])
    targets = [ClipTargets(torch.tensor([0, 0]), now_and_then)]
    assert pairs(match(prediction, targets, generator=chance())) == [[(0, 1), (1, 0)]]


def test_classes_tell_equal_masks_apart():
    classes = torch.full((1, 3, CLASSES + 1), 0.0)
    classes[0, 2, 1] = classes[0, 0, 2] = 5.0
    prediction = prediction_of(classes, torch.zeros(1, 3, 1, 4, 4))
    targets = [ClipTargets(torch.tensor([1, 2]), torch.ones(2, 1, 16, 16, dtype=torch.bool))]
    assert pairs(match(prediction, targets, generator=chance())) == [[(0, 1), (2, 0)]]


def test_no_object_needs_no_query():
    prediction, targets = some(0, objects=(0,))
    assert pairs(match(prediction, targets, points=10)) == [[]]


def test_costs_are_float32_under_autocast():
    prediction, targets = some(3, queries=30, objects=(10,))
    half = prediction_of(prediction.classes_bqc.bfloat16(), prediction.masks_bqthw.bfloat16())
    whole = prediction_of(half.classes_bqc.float(), half.masks_bqthw.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = match(half, targets, points=500, generator=chance())
    assert pairs(found) == pairs(match(whole, targets, points=500, generator=chance()))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_answers_that_are_no_numbers_are_refused(value):
    prediction, targets = some(0, batch=2, objects=(1, 2))
    prediction.classes_bqc[1, 3] = value
    with pytest.raises(InputError, match=r"clip 1 of the batch are NaN or infinite .* lower learning rate"):
        match(prediction, targets, points=10)


def changed(target, **changes):
    return ClipTargets(**({"classes_n": target.classes_n, "masks_nthw": target.masks_nthw} | changes))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(lambda t: [], "answers for 1 clips but targets for 0", id="targets of no clip"),
        pytest.param(
            lambda t: [changed(t, masks_nthw=t.masks_nthw[:, :1])], r"expected bool\[3, 2, H, W\]", id="frames missing"
        ),
        pytest.param(lambda t: [changed(t, masks_nthw=t.masks_nthw[:2])], r"bool\[3, 2, H, W\]", id="masks missing"),
        pytest.param(lambda t: [changed(t, masks_nthw=t.masks_nthw.float())], "torch.float32", id="soft masks"),
        pytest.param(
            lambda t: [changed(t, classes_n=torch.tensor([0, CLASSES, 1]))], "of class 3, but .* 0 to 2", id="nothing"
        ),
        pytest.param(lambda t: [changed(t, classes_n=torch.tensor([0, -1, 1]))], "of class -1", id="negative class"),
    ],
)
def test_targets_that_do_not_fit_are_refused(spoil, message):
    prediction, targets = some(0)
    with pytest.raises(InputError, match=message):
        match(prediction, spoil(targets[0]), points=10)


def test_published_weights_are_those_of_the_paper():
    assert (PUBLISHED.classes, PUBLISHED.bce, PUBLISHED.dice) == (2, 5, 5)
