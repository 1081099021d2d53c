"""Losses: the specification's golden values (§4), slots of stuff, and what is learned."""

import pytest
import torch

from maskstream.mask2former.criterion import SetCriterion
from maskstream.mask2former.prediction import ClipPrediction, ClipTargets
from maskstream.systems.tubelink.association import Association
from maskstream.systems.tubelink.losses import AssociationLoss, TubeCriterion, auxiliary_loss

COSINES = torch.tensor([[0.8, 0.3, -0.2, 0.6, 0.05], [0.1, 0.9, 0.2, 0.4, 0.35]])


@pytest.mark.parametrize(
    ("positives", "expected"), [([(0, 0), (1, 1)], 0.05025), ([(0, 0)], 0.2550)], ids=["all", "the hardest"]
)
def test_golden_values_of_the_auxiliary_loss(positives, expected):
    same = torch.zeros(2, 5, dtype=torch.bool)
    for place in positives:
        same[place] = True
    assert auxiliary_loss(COSINES, same).item() == pytest.approx(expected, abs=1e-7)


def prediction(batch=1, queries=10, classes=6, frames=2, seed=0, channels=16):
    generator = torch.Generator().manual_seed(seed)
    return ClipPrediction(
        torch.randn(batch, queries, classes + 1, generator=generator),
        torch.randn(batch, queries, frames, 8, 8, generator=generator),
        torch.randn(batch, queries, channels, generator=generator),
    )


def target(classes, frames=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(len(classes), frames, 32, 32, generator=generator) < 0.3
    return ClipTargets(torch.tensor(classes, dtype=torch.int64), masks)


def loss_of(criterion, answers, targets):
    return criterion([answers], targets, generator=torch.Generator().manual_seed(3))


def test_every_kind_of_stuff_has_a_slot():
    """K = 6 of which 3 are stuff, Q = 10: class 3 + i is slot 7 + i; sure answers there cost nothing."""
    answers, targets = prediction(), [target([3, 5])]
    classes = torch.full_like(answers.classes_bqc, -20.0)
    classes[0, :, -1] = 20
    for slot, label in ((7, 3), (9, 5)):
        classes[0, slot, -1], classes[0, slot, label] = -20, 20
    right = ClipPrediction(classes, answers.masks_bqthw, answers.queries_bqc)
    criterion = TubeCriterion(stuff_slots=3, criterion=SetCriterion(points=64))
    assert loss_of(criterion, right, targets)["ce"].item() < 1e-6
    swapped = ClipPrediction(classes[:, [0, 1, 2, 3, 4, 5, 6, 9, 8, 7]], answers.masks_bqthw, answers.queries_bqc)
    assert loss_of(criterion, swapped, targets)["ce"].item() > 10


@pytest.mark.parametrize("classes", [[0, 1], [3, 5], []], ids=["no stuff", "no things", "nothing"])
def test_things_and_stuff_count_by_themselves(classes):
    answers, criterion = prediction(), TubeCriterion(stuff_slots=3, criterion=SetCriterion(points=64))
    found = loss_of(criterion, answers, [target(classes)])
    assert torch.isfinite(found["loss"])
    things = SetCriterion(points=64)(
        [ClipPrediction(answers.classes_bqc[:, :7], answers.masks_bqthw[:, :7], answers.queries_bqc[:, :7])],
        [target(classes).only(torch.tensor([c < 3 for c in classes], dtype=torch.bool))],
        generator=torch.Generator().manual_seed(3),
    )
    if not any(c >= 3 for c in classes):  # what is left is that slots of stuff say "nothing"
        stuff = -answers.classes_bqc[0, 7:].log_softmax(1)[:, -1].mean()
        assert torch.allclose(found["ce"], things["ce"] + stuff, atol=1e-5)
        assert torch.allclose(found["dice"], things["dice"], atol=1e-5)


def test_without_slots_all_are_matched():
    answers, targets = prediction(), [target([0, 4])]
    one = loss_of(TubeCriterion(criterion=SetCriterion(points=64)), answers, targets)
    other = loss_of(SetCriterion(points=64), answers, targets)
    assert torch.equal(one["loss"], other["loss"])


def association():
    torch.manual_seed(0)
    return Association(16, heads=4, hidden=32)


def association_loss(**settings):
    return AssociationLoss(things=3, points=64, **settings)


def test_two_tubes_without_a_thing_in_common_cost_nothing():
    gone = target([0, 4])
    gone.masks_nthw[0] = False
    found = association_loss()(association(), prediction(seed=1), prediction(seed=2), ([target([0, 4])], [gone]))
    assert found["track"].item() == 0


@pytest.mark.parametrize("settings", [{}, {"link_earlier": True}, {"link": "slot"}, {"link": "none"}])
def test_embeddings_learn_who_is_who(settings):
    head, pair = association(), (prediction(seed=1), prediction(seed=2))
    targets = ([target([0, 1, 2])], [target([0, 1, 2], seed=5)])
    optimiser = torch.optim.Adam(head.parameters(), 3e-3)
    losses = []
    for _ in range(220):
        found = association_loss(**settings)(head, *pair, targets, generator=torch.Generator().manual_seed(0))
        optimiser.zero_grad()
        found["track"].backward()
        optimiser.step()
        losses.append(found["track"].item())
    assert losses[-1] < 0.2 * losses[0]


def test_slots_of_stuff_are_not_followed():
    """With all free queries alike to the last, things are still assigned to free ones."""
    loss = association_loss(stuff_slots=3)
    assigned = loss._assigned(prediction(), [target([0, 4, 1])], None)
    ((queries, objects),) = assigned
    assert objects.tolist() in ([0, 2], [2, 0])  # the second is stuff
    assert len(queries) == 2
