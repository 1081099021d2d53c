"""Losses of UniVS: by hand where they are small, and what learns from them."""

import math
from dataclasses import replace

import pytest
import torch

from maskstream.mask2former.matcher import Weights
from maskstream.mask2former.prediction import ClipTargets
from maskstream.systems.univs.losses import Asked, Known, UniVSCriterion, class_loss, reid_loss
from maskstream.systems.univs.network import Answers, Prompts
from maskstream.systems.univs.prompts import mask_tokens

from .networks import CHANNELS, LEARNABLE, TEXT, clip_features, small_univs

CRITERION = UniVSCriterion(points=32)


def known(rows, ids):
    return Known(torch.tensor(rows), torch.tensor(ids))


def test_classes_by_hand():
    """Two queries, two classes, the first has an object of class 1: focal loss of four scores, cross-entropy of one."""
    logits = torch.tensor([[0.0, 2.0], [-1.0, 1.0]])

    def focal(score, truth):
        p = 1 / (1 + math.exp(-score))
        right = p if truth else 1 - p
        return -0.5 * (1 - right) ** 2 * math.log(right)

    expected = focal(0, False) + focal(2, True) + focal(-1, False) + focal(1, False) + math.log(1 + math.exp(-2))
    found = class_loss(logits, torch.tensor([0]), torch.tensor([1]))
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_without_objects_all_classes_are_to_be_low():
    none = torch.zeros(0, dtype=torch.int64)
    assert class_loss(torch.full((3, 4), -20.0), none, none).item() < 1e-6
    assert class_loss(torch.full((3, 4), 2.0), none, none).item() > 1


def test_who_is_who_by_hand():
    """Two embeddings of one object, one of none: log(1 + Σ exp(s₋ - s₊)), and distances of cosines from the truth."""
    x = known([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], [0, -1, 0])
    s = torch.tensor([4.0, 0.0, 4.0]) / math.sqrt(2)
    contrastive = math.log(1 + 2 * math.exp(s[1] - s[0]))
    assert reid_loss(x, x, auxiliary=False).item() == pytest.approx(contrastive, abs=1e-6)
    assert reid_loss(x, x).item() == pytest.approx(contrastive, abs=1e-6)  # cosines are right already
    mixed = known([[1.0, 0.0], [1.0, 0.0]], [0, 1])
    auxiliary = reid_loss(mixed, mixed).item() - reid_loss(mixed, mixed, auxiliary=False).item()
    assert auxiliary == pytest.approx(0.5, abs=1e-6)  # of each row, one cosine of 1 that is to be 0: ½ · 1²


def test_nobody_in_common_is_nothing_to_learn():
    x = Known(torch.ones(2, 3, requires_grad=True), torch.tensor([0, -1]))
    found = reid_loss(x, known([[1.0, 0.0, 0.0]], [2]))
    found.backward()
    assert found.item() == 0


def test_many_are_chosen_from_by_chance_alone():
    embeddings = torch.randn(80, 8, generator=torch.Generator().manual_seed(1))
    many = Known(embeddings, torch.arange(80) % 4)
    one, again, other = (reid_loss(many, many, generator=torch.Generator().manual_seed(n)).item() for n in (1, 1, 2))
    assert one == again != other


def truth():
    masks = torch.zeros(3, 2, 32, 64, dtype=torch.bool)
    masks[0, :, :16, :20] = True
    masks[1, :, 16:, 30:50] = True
    masks[2, 1, :10, 40:] = True  # not on the first frame
    return ClipTargets(torch.tensor([1, 0, 1]), masks)


def sure(masks):
    """Logits that say the same."""
    small = torch.nn.functional.interpolate(masks.float(), (8, 16), mode="area")
    return 40 * (small - 0.5)


def case(kind, network, targets=None):
    targets = targets or truth()
    names = torch.randn(2, TEXT, generator=torch.Generator().manual_seed(4))
    if kind == "category":
        means = targets.classes_n.unique()[:, None] == targets.classes_n
    elif kind == "expression":
        means = torch.tensor([[True, False, True]])
    else:
        means = torch.eye(3, dtype=torch.bool)[:2]
    return Asked(targets, means, kind, names)


@pytest.mark.parametrize("kind", ["visual", "category", "expression"])
def test_prompts_are_to_find_what_they_mean(kind):
    network = small_univs()
    asked = case(kind, network)
    wanted = asked.of_prompts()
    expected = {"visual": [[0], [1]], "category": [[1], [0, 2]], "expression": [[0, 2]]}[kind]
    assert len(wanted.masks_nthw) == len(expected)
    for mask, objects in zip(wanted.masks_nthw, expected, strict=True):
        assert torch.equal(mask, asked.targets.masks_nthw[objects].any(0))


@pytest.mark.parametrize("kind", ["visual", "category", "expression"])
def test_right_masks_cost_less_than_wrong_ones(kind):
    network = small_univs()
    asked = case(kind, network)
    embeddings = torch.randn(LEARNABLE + len(asked.means_pn), 2, CHANNELS)
    free = sure(torch.zeros(LEARNABLE, 2, 32, 64))
    free[4:7] = sure(asked.targets.masks_nthw)
    prompted = sure(asked.of_prompts().masks_nthw)

    def loss(masks):
        found, _ = CRITERION(network, [Answers(embeddings, masks)], asked, generator=torch.Generator().manual_seed(0))
        return found

    right = loss(torch.cat([free, prompted]))
    wrong = loss(torch.cat([free, -prompted]))
    missed = loss(torch.cat([free.flip(1), prompted]))
    assert right["prompt_dice"] < 0.3 < wrong["prompt_dice"] and right["prompt_bce"] < wrong["prompt_bce"]
    assert right["dice"] < 0.3 and right["dice"] < missed["dice"]
    assert right["loss"] < wrong["loss"]


def test_both_kinds_of_queries_count_half():
    network, criterion = small_univs(), replace(CRITERION, reid=0.0)
    asked = case("visual", network)
    masks = torch.randn(LEARNABLE + 2, 2, 8, 16, generator=torch.Generator().manual_seed(0))
    embeddings = torch.randn(LEARNABLE + 2, 2, CHANNELS, generator=torch.Generator().manual_seed(1))

    def loss(which, one):
        found, _ = criterion(
            network, [Answers(embeddings[which], masks[which])], one, generator=torch.Generator().manual_seed(0)
        )
        return found

    both = loss(slice(None), asked)
    alone = loss(slice(LEARNABLE), replace(asked, means_pn=asked.means_pn[:0]))
    prompt_ce = class_loss(
        network.class_logits(Answers(embeddings, masks)[slice(LEARNABLE, None)], asked.names_kd),
        torch.arange(2),
        asked.of_prompts().classes_n,
    )
    of_prompts = 5 * (prompt_ce + both["prompt_bce"] + both["prompt_dice"])
    assert torch.allclose(both["loss"], 0.5 * (alone["loss"] + of_prompts), rtol=1e-5)


def test_what_is_not_seen_in_a_clip_has_no_learnable_query():
    network, targets = small_univs(), truth()
    targets.masks_nthw[1] = False
    asked = Asked(targets, torch.zeros(0, 3, dtype=torch.bool), "visual")
    answers = Answers(torch.randn(LEARNABLE, 2, CHANNELS), torch.randn(LEARNABLE, 2, 8, 16))
    _, objects = CRITERION._matched(answers, None, targets, torch.Generator().manual_seed(0))
    assert sorted(objects.tolist()) == [0, 2]
    _, (free, prompted) = CRITERION(network, [answers], asked)
    assert sorted(free.ids_x[free.ids_x >= 0].tolist()) == [0, 0, 2]  # the last one on one frame
    assert not len(prompted.ids_x)


def test_classes_decide_whom_queries_stand_for_where_masks_do_not():
    masks = torch.zeros(2, 1, 32, 64, dtype=torch.bool)
    masks[:, :, :16] = True
    targets = ClipTargets(torch.tensor([0, 1]), masks)
    answers = Answers(torch.randn(2, 1, CHANNELS), sure(masks))
    for order in ([0, 1], [1, 0]):
        logits = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])[order]
        queries, objects = CRITERION._matched(answers, logits, targets, torch.Generator().manual_seed(0))
        assert objects[queries.argsort()].tolist() == order
    assert CRITERION.matching == Weights(classes=3.0)


def test_over_clips_objects_stay_who_they_are():
    near = (known([[3.0, 0.0], [0.0, 3.0]], [0, 1]), known([[3.0, 0.0]], [0]))
    far = (known([[0.0, 3.0], [3.0, 0.0]], [0, 1]), known([[0.0, 3.0]], [0]))
    same, swapped = (CRITERION.between_clips([near, other], are_names=False).item() for other in (near, far))
    assert same < 0.5 * swapped
    wrong = (near[0], known([[0.0, 3.0], [3.0, 0.0]], [0, 1]))
    alone, with_prompts = (CRITERION.between_clips([wrong, wrong], are_names=names).item() for names in (True, False))
    assert alone < 0.5 * with_prompts


@pytest.mark.parametrize("kind", ["visual", "category", "expression"])
def test_gradients_reach_what_prompts_go_through(kind):
    network = small_univs().train()
    maps = network.maps(clip_features(2), torch.arange(2))
    asked = case(kind, network)
    names = torch.nn.Parameter(asked.names_kd)
    if kind == "visual":
        tokens = mask_tokens(maps.prompt_map(0), asked.targets.masks_nthw[:2, 0], 6)
        prompts = Prompts.visual([tokens] * 2, [tokens])
    else:
        words = None if kind == "category" else torch.randn(1, 5, TEXT)
        prompts = network.text_prompts(kind, names[: len(asked.means_pn)], words, maps)
    stages = network.decode(maps, prompts, order_t=torch.tensor([1, 0]), every_stage=True)
    found, _ = CRITERION(network, stages, replace(asked, names_kd=names))
    found["loss"].backward()
    assert len(stages) == 4
    reached = {
        name
        for name, weight in [*network.prompting.named_parameters(), ("names", names)]
        if weight.grad is not None and weight.grad.any()
    }
    assert {f"proca.{n}.attention.in_proj_weight" for n in range(3)} | {"to_text.weight", "names"} <= reached
    assert ("from_text.weight" in reached) == (kind != "visual")
    assert {name for name in reached if name.startswith("kinds")} == {f"kinds.{kind}"}
