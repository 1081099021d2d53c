"""The loss of sets of answers: that of the papers, of `transformers`, and of a hand."""

import math

import pytest
import torch
from torch import distributed
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from maskstream.mask2former.criterion import SetCriterion
from maskstream.mask2former.matcher import Weights, match
from maskstream.mask2former.points import sample_logits, uniform_points
from maskstream.mask2former.prediction import ClipPrediction, ClipTargets
from maskstream.types import InputError

from .test_matcher import CLASSES, chance, prediction_of, some

POINTS = 60
NAMES = {n: f"class {n}" for n in range(CLASSES)}


def criterion(**options):
    return SetCriterion(**({"points": POINTS} | options))


def stages_of(seed, count, **options):
    """Answers of several stages about the same targets."""
    _, targets = some(seed, **options)
    return [some(seed + n, **options)[0] for n in range(count)], targets


def with_gradients(prediction):
    classes, masks = (x.clone().requires_grad_() for x in (prediction.classes_bqc, prediction.masks_bqthw))
    return ClipPrediction(classes, masks, classes)


def indices(*pairs):
    queries, objects = zip(*pairs, strict=True) if pairs else ((), ())
    return torch.tensor(queries, dtype=torch.int64), torch.tensor(objects, dtype=torch.int64)


def transformers_loss(stages, targets, seed, points):
    """Unweighted terms ``[stage][name]``. They judge the last stage first, so it is given as the first."""
    config = Mask2FormerConfig(id2label=NAMES, train_num_points=points)
    (first, *others) = [
        {"masks_queries_logits": s.masks_bqthw[:, :, 0], "class_queries_logits": s.classes_bqc} for s in stages
    ]
    torch.manual_seed(seed)
    found = Mask2FormerLoss(config, {})(
        **first,
        mask_labels=[target.masks_nthw[:, 0].float() for target in targets],
        class_labels=[target.classes_n for target in targets],
        auxiliary_predictions=others,
    )
    names = {"ce": "loss_cross_entropy", "bce": "loss_mask", "dice": "loss_dice"}
    suffixes = ["", *(f"_{n}" for n in range(len(others)))]
    return [{name: float(found[theirs + suffix]) for name, theirs in names.items()} for suffix in suffixes]


# Equal to transformers, of pictures, when the same points are drawn.
#
# Where transformers differs from the papers, and from us: with more objects than queries it divides by the number of
# objects, not of matched masks (see the next test but one); costs that are no numbers are matched as the most expensive
# ones, where we refuse them; and it pads the truth of smaller pictures to the size of the greatest of the batch, where
# ours stays what it is: clips of a batch are of one size anyway.


@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_that_of_transformers(seed):
    stages, targets = stages_of(10 * seed, 3, batch=3, queries=20, objects=(4, 0, 7), frames=1)
    expected = transformers_loss(stages, targets, seed, POINTS)
    found = criterion()(stages, targets, generator=chance(seed))
    assert float(found["loss"]) == pytest.approx(
        sum(2 * term["ce"] + 5 * term["bce"] + 5 * term["dice"] for term in expected), abs=1e-5
    )
    assert {name: float(found[name]) for name in ("ce", "bce", "dice")} == pytest.approx(expected[-1], abs=1e-5)


def test_its_gradients_are_those_of_transformers():
    (stage,), targets = stages_of(7, 1, batch=2, queries=9, objects=(4, 2), frames=1)
    ours, theirs = with_gradients(stage), with_gradients(stage)
    criterion(weights=Weights(classes=1, bce=1, dice=1))([ours], targets, generator=chance(7))["loss"].backward()
    config = Mask2FormerConfig(
        id2label=NAMES, train_num_points=POINTS, class_weight=1.0, mask_weight=1.0, dice_weight=1.0
    )
    torch.manual_seed(7)
    terms = Mask2FormerLoss(config, {})(
        theirs.masks_bqthw[:, :, 0],
        theirs.classes_bqc,
        [target.masks_nthw[:, 0].float() for target in targets],
        [target.classes_n for target in targets],
    )
    torch.stack(list(terms.values())).sum().backward()
    for one, other in ((ours.masks_bqthw, theirs.masks_bqthw), (ours.classes_bqc, theirs.classes_bqc)):
        assert one.grad is not None
        assert one.grad.abs().max() > 1e-3
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4)


def test_objects_beyond_the_queries_do_not_thin_the_loss():
    stages, targets = stages_of(1, 1, queries=4, objects=(6,), frames=1)
    (expected,) = transformers_loss(stages, targets, 1, POINTS)
    found = criterion()(stages, targets, generator=chance(1))
    assert float(found["bce"]) * 4 == pytest.approx(expected["bce"] * 6, rel=1e-5)
    assert float(found["dice"]) * 4 == pytest.approx(expected["dice"] * 6, rel=1e-5)


# By hand.


def test_classes_count_by_their_weights():
    classes = torch.zeros(1, 3, CLASSES + 1)
    classes[0, 0] = torch.tensor([math.log(5), 0, 0, 0])  # p = 5/8, 1/8, 1/8, 1/8
    targets = [ClipTargets(torch.tensor([1]), torch.ones(1, 1, 16, 16, dtype=torch.bool))]
    stage = prediction_of(classes, torch.zeros(1, 3, 1, 4, 4))
    found = criterion()([stage], targets, matching=[indices((0, 0))])
    assert float(found["ce"]) == pytest.approx((math.log(8) + 2 * 0.1 * math.log(4)) / (1 + 2 * 0.1))


def test_a_weight_of_zero_for_nothing_judges_matched_queries_alone():
    (stage,), targets = stages_of(2, 1, queries=3)
    found = criterion(nothing=0.0)([stage], targets, matching=[indices((2, 1))])
    wanted = stage.classes_bqc[0, 2].log_softmax(-1)[targets[0].classes_n[1]]
    assert float(found["ce"]) == pytest.approx(-float(wanted), rel=1e-5)
    assert float(criterion(nothing=0.0)([stage], targets, matching=[indices()])["ce"]) == 0


def test_masks_are_compared_at_points_of_all_frames():
    (stage,), targets = stages_of(3, 1, queries=3, frames=3)
    matching = [indices((0, 2), (2, 0))]
    found = criterion(importance=0.0)([stage], targets, matching=matching, generator=chance(9))
    drawn = chance(9)
    uniform_points(3 * POINTS, masks=2, generator=drawn)  # the ones to choose from, of which none is chosen
    where = uniform_points(POINTS, masks=2, generator=drawn)
    logits = sample_logits(stage.masks_bqthw[0, [0, 2]], where).tolist()
    truth = sample_logits(targets[0].masks_nthw[[2, 0]], where).tolist()
    bce = dice = 0.0
    for row, target in zip(logits, truth, strict=True):
        chances = [1 / (1 + math.exp(-x)) for x in row]
        bce -= sum(t * math.log(p) + (1 - t) * math.log(1 - p) for p, t in zip(chances, target, strict=True)) / POINTS
        both = sum(p * t for p, t in zip(chances, target, strict=True))
        dice += 1 - (2 * both + 1) / (sum(chances) + sum(target) + 1)
    assert float(found["bce"]) == pytest.approx(bce / 2, abs=1e-4)
    assert float(found["dice"]) == pytest.approx(dice / 2, abs=1e-4)


def test_right_answers_cost_little_and_wrong_ones_much():
    _, targets = some(4, queries=2, objects=(2,))
    targets[0].masks_nthw[:] = False
    targets[0].masks_nthw[0, 0], targets[0].masks_nthw[1, 1] = True, True
    masks = 40.0 * targets[0].masks_nthw[None].float() - 20
    classes = 20.0 * torch.eye(CLASSES + 1)[targets[0].classes_n][None]
    right, wrong = (
        criterion()([prediction_of(sign * classes, sign * masks)], targets, matching=[indices((0, 0), (1, 1))])
        for sign in (1, -1)
    )
    assert float(right["ce"]) < 1e-6
    for name in ("ce", "bce", "dice"):
        assert 10 * float(right[name]) < float(wrong[name])


# Stages and matchings.


def test_the_loss_is_the_sum_over_all_stages():
    stages, targets = stages_of(5, 3)
    together, alone = chance(1), chance(1)
    found = criterion()(stages, targets, generator=together)
    each = [criterion()([stage], targets, generator=alone) for stage in stages]
    assert float(found["loss"]) == pytest.approx(sum(float(one["loss"]) for one in each), rel=1e-6)
    for name in ("ce", "bce", "dice"):
        assert found[name] == each[-1][name]


def test_every_stage_is_matched_by_itself():
    (stage,), targets = stages_of(6, 1, queries=3, objects=(3,))
    turned = prediction_of(stage.classes_bqc.roll(1, 1), stage.masks_bqthw.roll(1, 1))
    options = {"weights": Weights(classes=1000.0, bce=1e-3, dice=1e-3)}  # chance of points does not decide
    one = criterion(**options)([stage, stage], targets, generator=chance())
    other = criterion(**options)([stage, turned], targets, generator=chance())
    assert float(one["ce"]) == pytest.approx(float(other["ce"]))


def test_a_matching_that_is_known_holds_for_all_stages():
    stages, targets = stages_of(8, 2, batch=2, queries=4, objects=(2, 1))
    targets[0] = ClipTargets(torch.tensor([0, 2]), targets[0].masks_nthw)
    known = [indices((3, 0), (0, 1)), indices((1, 0))]
    found = criterion()(stages, targets, matching=known, generator=chance())
    other = criterion()(stages, targets, matching=[indices((0, 0), (3, 1)), indices((1, 0))], generator=chance())
    assert not torch.equal(found["ce"], other["ce"])
    labels = torch.full((2, 4), CLASSES)
    labels[0, 3], labels[0, 0], labels[1, 1] = 0, 2, targets[1].classes_n[0]
    weight = torch.tensor([1.0, 1, 1, 0.1])
    expected = torch.nn.functional.cross_entropy(stages[1].classes_bqc.transpose(1, 2), labels, weight)
    assert float(found["ce"]) == pytest.approx(float(expected), rel=1e-6)


def test_giving_the_matching_it_would_find_changes_nothing():
    (stage,), targets = stages_of(9, 1, batch=2, objects=(3, 2))
    generator = chance(3)
    known = match(stage, targets, points=POINTS, generator=generator)
    given = criterion()([stage], targets, matching=known, generator=generator)
    assert torch.equal(given["loss"], criterion()([stage], targets, generator=chance(3))["loss"])


def test_slots_of_absent_classes_are_nothing():
    """Tube-Link: the last queries stand for classes of stuff, one each (specification §13.6)."""
    (stage,), targets = stages_of(11, 1, queries=66, objects=(2,))
    targets = [ClipTargets(torch.tensor([0, 2]), targets[0].masks_nthw)]
    found = with_gradients(stage)
    criterion()([found], targets, matching=[indices((0, 0), (2, 1))])["loss"].backward()
    gradient = found.classes_bqc.grad
    assert gradient is not None
    pushed = gradient[0].argmin(-1).tolist()  # the class that descent makes more likely
    assert pushed == [0, CLASSES, 2] + [CLASSES] * 63


# Gradients.


def test_gradients_reach_matched_masks_and_all_classes():
    (stage,), targets = stages_of(12, 1, queries=4, objects=(2,))
    found = with_gradients(stage)
    criterion()([found], targets, matching=[indices((1, 0), (3, 1))])["loss"].backward()
    assert found.masks_bqthw.grad is not None
    assert found.classes_bqc.grad is not None
    assert found.masks_bqthw.grad[0].abs().sum((1, 2, 3)).gt(0).tolist() == [False, True, False, True]
    assert found.classes_bqc.grad.abs().sum(-1).gt(0).all()


def test_a_clip_without_objects_has_a_loss_and_gradients():
    (stage,), targets = stages_of(13, 1, objects=(0,))
    found = with_gradients(stage)
    losses = criterion()([found], targets)
    losses["loss"].backward()
    assert (float(losses["bce"]), float(losses["dice"])) == (0, 0)
    assert float(losses["loss"].detach()) == pytest.approx(2 * float(losses["ce"]))
    assert found.masks_bqthw.grad is not None  # or processes that wait for each other's gradients would wait for ever
    assert not found.masks_bqthw.grad.any()


def test_only_the_total_carries_gradients():
    (stage,), targets = stages_of(14, 1)
    losses = criterion()([with_gradients(stage)], targets)
    assert {name: value.requires_grad for name, value in losses.items()} == {
        "loss": True,
        "ce": False,
        "bce": False,
        "dice": False,
    }


def test_descending_the_loss_finds_the_objects():
    _, targets = some(15, queries=6, objects=(2,))
    targets[0].masks_nthw[:] = False
    targets[0].masks_nthw[0, :, 2:8, 4:12], targets[0].masks_nthw[1, 0, 8:, 12:] = True, True
    found = with_gradients(prediction_of(torch.zeros(1, 6, CLASSES + 1), 0.1 * some(15, queries=6)[0].masks_bqthw))
    optimiser, generator = torch.optim.Adam([found.classes_bqc, found.masks_bqthw], lr=0.5), chance()
    for _ in range(60):
        losses = criterion()([found], targets, generator=generator)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
    ((queries, objects),) = match(found, targets, generator=generator)
    assert torch.equal(found.classes_bqc[0].argmax(-1)[queries], targets[0].classes_n[objects])
    seen = torch.nn.functional.interpolate(found.masks_bqthw[0], scale_factor=4, mode="nearest") > 0
    wrong = seen[queries] ^ targets[0].masks_nthw[objects]
    assert wrong.float().mean() < 0.03


# Kinds of numbers, processes, mistakes.


def test_the_loss_is_float32_under_autocast():
    (stage,), targets = stages_of(16, 1)
    half = prediction_of(stage.classes_bqc.bfloat16(), stage.masks_bqthw.bfloat16())
    whole = prediction_of(half.classes_bqc.float(), half.masks_bqthw.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = criterion()([half], targets, generator=chance())["loss"]
    assert found.dtype == torch.float32
    assert torch.equal(found, criterion()([whole], targets, generator=chance())["loss"])


def test_masks_are_divided_by_what_a_process_has_on_average(monkeypatch):
    (stage,), targets = stages_of(17, 1, batch=2, objects=(1, 1))
    alone = criterion()([stage], targets, generator=chance())

    def the_other_has_six(count):
        count += 6

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce", the_other_has_six)
    found = criterion()([stage], targets, generator=chance())
    assert float(found["bce"]) * 4 == pytest.approx(float(alone["bce"]) * 2)
    assert float(found["dice"]) * 4 == pytest.approx(float(alone["dice"]) * 2)
    assert float(found["ce"]) == float(alone["ce"])


def test_a_known_matching_does_not_excuse_wrong_targets():
    (stage,), targets = stages_of(18, 1)
    wrong = [ClipTargets(targets[0].classes_n, targets[0].masks_nthw[:, :1])]
    with pytest.raises(InputError, match="one for each object and frame"):
        criterion()([stage], wrong, matching=[indices((0, 0))])
