"""Losses of TarViS: by hand where they are small (acceptance check 17 of the specification)."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskstream.mask2former.matcher import match
from maskstream.mask2former.prediction import ClipPrediction, ClipTargets
from maskstream.systems.tarvis.losses import IGNORED, TarViSCriterion, painted, unsure_points
from maskstream.systems.tarvis.network import CategoryAnswers, ObjectAnswers
from maskstream.types import InputError

SMALL = TarViSCriterion(points=200, vps_points=300)
CLASSES, THINGS, QUERIES, FRAMES, SIZE = 4, 2, 5, 2, (8, 16)
FULL = (32, 64)
SURE = 30.0


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def large(*cells):
    """Masks at full size, of masks at the size of logits."""
    return torch.stack(cells).repeat_interleave(4, -2).repeat_interleave(4, -1)


def cell(top, left, bottom, right, frames=slice(None)):
    mask = torch.zeros(FRAMES, *SIZE, dtype=torch.bool)
    mask[frames, top:bottom, left:right] = True
    return mask


CAR, DOG = cell(0, 0, 4, 5), cell(2, 8, 8, 16, slice(1, 2))
WALL = ~(CAR | DOG) & cell(0, 0, 6, 16)
"""Two things, the second on one frame alone, and stuff; nobody knows what the rest is."""

TARGETS = ClipTargets(torch.tensor([0, 1, 3]), large(CAR, DOG, WALL))


def sure(masks):
    return SURE * (2 * masks.float() - 1)


def category_answers(wrong=()):
    """Of queries 3 and 1, which are sure of both things; or of the wrong class, masks or pixels."""
    classes = torch.zeros(1, QUERIES, CLASSES + 1)
    classes[0, :, -1] = SURE
    masks = sure(torch.zeros(1, QUERIES, FRAMES, *SIZE))
    for query, label, mask in ((3, 0, CAR), (1, 1, DOG)):
        classes[0, query] = SURE * F.one_hot(torch.tensor(3 - label if "class" in wrong else label), CLASSES + 1)
        masks[0, query] = sure(~mask if "mask" in wrong else mask)
    pixels = torch.zeros(1, CLASSES, FRAMES, *SIZE)
    for label, mask in ((0, CAR), (1, DOG), (3, WALL)):
        pixels[0, 2 if "pixel" in wrong else label][mask] = SURE
    background = sure(~(CAR | DOG))[None] if "pixel" not in wrong else torch.zeros(1, FRAMES, *SIZE)
    return CategoryAnswers(ClipPrediction(classes, masks, classes), pixels, background, classes)


def categories(answers, kind="vps", criterion=SMALL, size_hw=FULL, targets=TARGETS):
    return criterion.categories(
        [answers], [targets], kind=kind, things=THINGS, size_hw=size_hw, generator=chance()
    )  # fmt: skip


def vis_answers(wrong=()):
    """In VIS the wall is background."""
    answers = category_answers(wrong)
    answers.semantic_bkthw[:, 3] = 0
    return answers


@pytest.mark.parametrize("kind", ["vis", "vps"])
def test_what_is_right_costs_next_to_nothing_and_what_is_wrong_a_lot(kind):
    def of(*wrong):
        answers = vis_answers(wrong) if kind == "vis" else category_answers(wrong)
        return {name: float(value) for name, value in categories(answers, kind).items()}

    right = of()
    assert right["ce"] < 1e-6
    assert max(right["dice"], right["bce"], right["semantic"]) < 0.5  # at edges of masks, where most points are
    for wrong, term in (("class", "ce"), ("mask", "bce"), ("mask", "dice"), ("pixel", "semantic")):
        assert of(wrong)[term] > max(0.5, 5 * right[term])
        assert of(wrong)["loss"] > right["loss"]


def test_queries_without_a_thing_count_a_tenth():
    """Two of five have a thing; all say all five classes are equal but for the first, e times as much."""
    answers = category_answers()
    answers.instances.classes_bqc[:] = 0
    answers.instances.classes_bqc[..., 0] = 1
    surprise = math.log(math.e + 4) - torch.tensor([1.0, 0.0, 0.0])  # of the first class, the second, and nothing
    expected = (surprise[0] + surprise[1] + 3 * 0.1 * surprise[2]) / (2 + 3 * 0.1)
    assert float(categories(answers)["ce"]) == pytest.approx(float(expected), abs=1e-5)


def test_masks_are_compared_frame_by_frame():
    """The second thing is missed on the frame where it is, and right where it is not: half of its dice, not all."""
    answers = category_answers()
    answers.instances.masks_bqthw[0, 1] = -SURE
    alone = ClipTargets(TARGETS.classes_n[1:2], TARGETS.masks_nthw[1:2])
    found = categories(answers, targets=alone, criterion=replace(SMALL, points=4000, importance=0.0))
    assert float(found["dice"]) == pytest.approx(0.5, abs=0.01)
    assert float(found["bce"]) == pytest.approx(0.5 * SURE * float(DOG[1].float().mean()), rel=0.1)


def test_queries_are_matched_by_whole_tubes(monkeypatch):
    seen = []

    def watched(prediction, targets, **options):
        seen.append((prediction.masks_bqthw.shape[2], options["points"]))
        return match(prediction, targets, **options)

    monkeypatch.setattr("maskstream.systems.tarvis.losses.match", watched)
    answers = category_answers()
    SMALL.categories([answers, answers], [TARGETS], kind="vps", things=THINGS, size_hw=FULL, generator=chance())
    assert seen == [(FRAMES, FRAMES * SMALL.points)] * 2


def test_all_stages_count_the_same():
    answers, poor = category_answers(), category_answers(("mask",))
    one, other, both = (
        SMALL.categories(stages, [TARGETS], kind="vps", things=THINGS, size_hw=FULL, generator=chance())
        for stages in ([answers], [poor], [poor, answers])
    )
    assert float(both["loss"]) == pytest.approx(float(one["loss"] + other["loss"]), rel=0.05)
    assert float(both["dice"]) == pytest.approx(float(one["dice"]), abs=0.05)


def test_the_terms_have_the_published_weights():
    found = {name: float(value) for name, value in categories(category_answers(("class", "mask", "pixel"))).items()}
    parts = 2 * found["ce"] + 5 * found["bce"] + 5 * found["dice"] + 2 * found["semantic"]
    assert found["loss"] == pytest.approx(parts, rel=1e-5)


# Classes of pixels.


def test_things_are_painted_from_large_to_small():
    whole, part = cell(0, 0, 8, 16), cell(0, 0, 2, 2)
    for order in ([0, 1], [1, 0]):
        masks = torch.stack([whole, part])[order]
        labels = painted(ClipTargets(torch.tensor([0, 1])[order], masks), nothing=0, first=1)
        assert torch.equal(labels, 1 + part.long())
    labels = painted(ClipTargets(torch.tensor([2]), part[None]), nothing=IGNORED)
    assert set(labels.unique().tolist()) == {IGNORED, 2} and torch.equal(labels == 2, part)


def test_without_things_all_is_background():
    none = ClipTargets(torch.zeros(0, dtype=torch.int64), torch.zeros(0, FRAMES, *FULL, dtype=torch.bool))
    answers = category_answers()
    answers.background_bthw[:], answers.semantic_bkthw[:] = SURE, 0
    answers.instances.classes_bqc[..., :-1] = -SURE
    found = categories(answers, "vis", targets=none)
    assert float(found["loss"]) < 1e-5


def test_what_nobody_knows_does_not_count():
    """In VPS the lowest quarter has no label: whatever is said there is right. In VIS it is background."""
    answers = category_answers()
    answers.semantic_bkthw[:, 2, :, 7:] = SURE
    right = float(categories(category_answers())["semantic"])
    assert float(categories(answers)["semantic"]) == pytest.approx(right, abs=0.2)
    there = vis_answers()
    there.background_bthw[:, :, 7:], there.semantic_bkthw[:, 2, :, 7:] = 0, SURE
    assert float(categories(there, "vis")["semantic"]) > float(categories(vis_answers(), "vis")["semantic"]) + 1


@pytest.mark.parametrize("kind", ["vis", "vps"])
def test_padding_has_no_class(kind):
    answers = vis_answers() if kind == "vis" else category_answers()
    answers.semantic_bkthw[:, 2, :, :, 12:] = 2 * SURE
    spoilt, cut = (float(categories(answers, kind, size_hw=size_hw)["semantic"]) for size_hw in (FULL, (32, 44)))
    assert spoilt > 1 > cut


def test_where_no_pixel_has_a_class_there_is_nothing_to_learn():
    none = ClipTargets(torch.zeros(0, dtype=torch.int64), torch.zeros(0, FRAMES, *FULL, dtype=torch.bool))
    answers = category_answers()
    answers.semantic_bkthw.requires_grad_()
    found = categories(answers, "vps", targets=none)
    found["loss"].backward()
    assert float(found["semantic"]) == 0 and not answers.semantic_bkthw.grad.any()


def test_points_are_where_two_classes_are_near_and_a_label_is_known():
    """Classes change along a line down the middle; the right half has no label."""
    logits = torch.zeros(1, 3, 8, 64)
    ramp = torch.linspace(-20, 20, 64)
    logits[0, 0], logits[0, 1], logits[0, 2] = ramp, -ramp, -100
    labels = torch.zeros(1, 32, 256, dtype=torch.int64)
    x, y = unsure_points(logits, labels, 400, generator=chance())[0].unbind(1)
    assert (x[:300] - 0.5).abs().max() < 0.25  # a quarter of 1200 that lie anywhere
    assert (x[300:] - 0.5).abs().max() > 0.4 and 0 <= float(y.min()) < 0.1
    labels[:, :, 128:] = IGNORED
    x = unsure_points(logits, labels, 400, generator=chance())[0, :, 0]
    assert (x[:300] < 0.5).all() and x[:300].min() > 0.15


def test_classes_that_are_neither_there_nor_found_can_be_left_out():
    """One class of four is there and said, with as much as two others: log 3, and log 2 where the lowest is left out.

    Class 2 is found at some points, so that it stays; class 1 is never the greatest.
    """
    truth = ClipTargets(torch.tensor([3]), torch.ones(1, FRAMES, *FULL, dtype=torch.bool))
    answers = category_answers()
    answers.semantic_bkthw[:] = 0
    answers.semantic_bkthw[:, 0] = -1000
    answers.semantic_bkthw[:, 1] -= 1e-4
    answers.semantic_bkthw[:, 2, 1] += 1e-3
    whole = categories(answers, targets=truth)["semantic"]
    left = categories(answers, targets=truth, criterion=replace(SMALL, only_present=True))["semantic"]
    assert float(whole) == pytest.approx(math.log(3), abs=0.01)
    assert float(left) == pytest.approx(math.log(2), abs=0.01)


def test_logits_can_be_asked_to_be_small():
    """All are 3, so their length is 3 · √4."""
    answers = category_answers()
    answers.semantic_bkthw[:] = 3
    inside = replace(SMALL, importance=1.0)
    plain, kept = (
        categories(answers, criterion=replace(inside, small=small))["loss"] for small in (0.0, 1e-1)
    )  # points near the edge of a picture see 0 beyond it
    assert float(kept - plain) == pytest.approx(0.1 * 6, rel=0.1)


def test_answers_that_are_no_numbers_are_refused():
    answers = category_answers()
    answers.instances.masks_bqthw[0, 0, 0, 0, 0] = math.nan
    with pytest.raises(InputError, match="NaN"):
        categories(answers)


# Objects.


def object_answers(masks, background):
    return ObjectAnswers(masks[None], background[None], torch.zeros(1, 2, 4))


def objects(answers, criterion=SMALL):
    return criterion.objects([answers], TARGETS.masks_nthw[None, :2], generator=chance())


def test_objects_and_what_is_none_are_to_be_found():
    right = object_answers(sure(torch.stack([CAR, DOG])), sure(~(CAR | DOG)))
    found = objects(right)
    assert float(found["object_bce"]) < 0.3 and float(found["object_dice"]) < 0.1
    for wrong in (
        object_answers(sure(torch.stack([DOG, CAR])), sure(~(CAR | DOG))),
        object_answers(sure(torch.stack([CAR, DOG])), sure(CAR | DOG)),
    ):
        assert float(objects(wrong)["object_dice"]) > float(found["object_dice"]) + 0.2
    assert float(found["loss"]) == pytest.approx(5 * float(found["object_bce"] + found["object_dice"]), rel=1e-5)


def test_what_is_no_object_counts_as_one_more():
    """It is missed, and so is one of two: of six masks of frames, on which one is empty, three are wrong: a half."""
    missed = object_answers(sure(torch.stack([CAR, torch.zeros_like(DOG)])), sure(torch.zeros_like(CAR)))
    many = replace(SMALL, points=3000)
    assert float(objects(missed, many)["object_dice"]) == pytest.approx(3 / 6, abs=0.03)
    alone = replace(missed, background_bthw=missed.background_bthw[:0])  # without a grid
    assert float(objects(alone, many)["object_dice"]) == pytest.approx(1 / 4, abs=0.03)


def test_padding_belongs_to_no_object():
    """Masks are empty there, so that it is background."""
    logits = sure(torch.stack([CAR, DOG]))
    everywhere, spared = (
        objects(object_answers(logits, sure(background)))["object_bce"]
        for background in (~(CAR | DOG), ~(CAR | DOG) & cell(0, 0, 6, 16))
    )
    assert float(spared) > float(everywhere) + 0.3


def test_chance_is_that_of_the_generator():
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(size=(2, FRAMES, *SIZE))).float()
    answers = object_answers(noise, noise[0])
    one, again = (float(objects(answers)["loss"]) for _ in range(2))
    other = float(SMALL.objects([answers], TARGETS.masks_nthw[None, :2], generator=chance(1))["loss"])
    assert one == again != other
