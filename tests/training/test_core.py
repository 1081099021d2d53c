"""The query core learns: its loss falls, its quality is measured, its recipe is read."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskstream.mask2former.network import ClipMask2Former
from maskstream.mask2former.prediction import ClipTargets
from maskstream.synthetic.scene import WORLD
from maskstream.training.core import CoreLearner, add_nothing, place_loss
from maskstream.training.data import tube_classes, tubes
from maskstream.training.recipe import ValidateRecipe, load_recipe
from maskstream.training.run import build_core_learner, run_recipe
from maskstream.training.tubes import stacked_tubes
from maskstream.types import InputError
from tests.mask2former.networks import small_network

PLAN = ValidateRecipe(videos=1, frames=9, size=(64, 96), level="easy")
SMALL = (
    "data.size=64", "train.batch=2", "train.workers=0", "task.points=128", "validate.videos=1", "validate.frames=9",
    "validate.size=[64,96]",
)  # fmt: skip


def learner(*, frames=1, seed=0, auxiliary=1.0):
    network = small_network(seed, classes=len(WORLD))
    clips = ClipMask2Former(network, time_code=frames > 1).train()
    return CoreLearner(clips, points=128, auxiliary=auxiliary, validation=PLAN)


def batch(frames=1):
    some = tubes(load_recipe("core-tiny", (*SMALL, f"task.frames={frames}")))
    return stacked_tubes([some[0], some[1]])


@pytest.mark.parametrize("frames", [1, 3])
def test_what_is_shown_again_and_again_is_learned(frames):
    torch.manual_seed(0)
    one, some = learner(frames=frames), batch(frames)
    optimiser = torch.optim.AdamW(one.parameters(), 2e-3)
    losses = []
    for iteration in range(25):
        found = one(some, iteration=iteration, seed=0)
        found["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(found["loss"].item())
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


def test_every_region_counts_the_same_for_the_classes_of_places():
    """Two regions of 12 and 4 places, the first with p = 1/2 and the second with p = 1/4 of its class."""
    masks = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    masks[0, :, :3], masks[1, :, 3] = True, True
    logits = torch.tensor([0.5, 0.25, 0.25]).log()[None, :, None, None].expand(1, 3, 4, 4)
    found = place_loss(logits, [ClipTargets(torch.tensor([0, 2]), masks)])
    assert found.item() == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-5)


def test_places_in_no_region_do_not_count():
    masks = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    masks[0, :, 0] = True
    one, other = torch.randn(2, 1, 3, 4, 4)
    other[..., 0, :] = one[..., 0, :]
    target = [ClipTargets(torch.tensor([1]), masks)]
    assert place_loss(one, target).item() == pytest.approx(place_loss(other, target).item())


@pytest.mark.parametrize("of_norm", [True, False])
def test_a_new_layer_begins_as_one_that_changes_nothing(of_norm):
    """What comes has any mean and spread, as after training; a fresh post-norm layer would move it by far more."""
    before, norm, last = torch.nn.LayerNorm(64), torch.nn.LayerNorm(64), torch.nn.Linear(64, 64)
    torch.nn.init.normal_(before.weight, 0.5, 0.1)
    torch.nn.init.normal_(before.bias, 0.3, 0.2)
    came_xc = before(torch.randn(40, 64)).detach()
    add_nothing(norm, [last], before if of_norm else came_xc)
    with torch.no_grad():
        moved = (norm(came_xc + last(came_xc)) - came_xc).norm()
        moved_by_fresh = (torch.nn.LayerNorm(64)(came_xc) - came_xc).norm()
    assert moved < 0.2 * came_xc.norm() and moved < 0.25 * moved_by_fresh


def test_chance_follows_from_the_numbers_of_samples():
    one, some = learner(), batch()
    later = replace(some, number_b=some.number_b + 2)
    first, second, other = (one(each, iteration=5, seed=3)["loss"].item() for each in (some, some, later))
    assert first == second != other


def test_every_parameter_is_in_one_group_and_what_is_known_is_slower():
    one = learner()
    plan = replace(load_recipe("core-tiny").train, backbone_lr=0.1, core_lr=0.3, weight_decay=0.05)
    groups = one.parameter_groups(plan)
    found = [weight for group in groups for weight in group["params"]]
    assert len(found) == len(set(found)) == len(list(one.parameters()))
    scale_of = {weight: group["lr_scale"] for group in groups for weight in group["params"]}
    decay_of = {weight: group["weight_decay"] for group in groups for weight in group["params"]}
    model = one.network.network.model
    assert {scale_of[weight] for weight in model.pixel_level_module.encoder.parameters()} == {0.1}
    assert {scale_of[weight] for weight in model.transformer_module.parameters()} == {0.3}
    assert one.classifier is not None and {scale_of[weight] for weight in one.classifier.parameters()} == {1.0}
    assert decay_of[model.transformer_module.queries_features.weight] == 0
    assert decay_of[model.transformer_module.decoder.layernorm.weight] == 0
    assert decay_of[one.network.network.class_predictor.weight] == 0.05


def test_quality_is_measured_on_single_frames():
    """A random network has found next to nothing; without videos nothing is measured."""
    one = learner().eval()
    found = one.validate()
    assert set(found) == {"pq", "pq_things", "pq_stuff"} and found["pq"] < 0.2
    one.validation = replace(PLAN, videos=0)
    assert one.validate() == {}


def test_a_picture_shows_frames_truth_and_answers():
    some = batch()
    picture = learner().eval().strip(some)
    assert picture.shape == (3 * 64, 2 * 64, 3)
    assert (picture[:64, :64] == some.frames_bt3hw[0, 0].permute(1, 2, 0).numpy()).all()
    assert (picture[64:128] != picture[:64]).any()


def test_a_run_goes_on_where_it_was(tmp_path):
    """Two iterations and two more are four: also for groups of parameters, whose moments are kept by name."""
    straight, continued = tmp_path / "straight", tmp_path / "continued"
    recipe = load_recipe("core-tiny", (*SMALL, "checkpoint.every=2", "train.warmup=0", "train.schedule=constant"))
    whole = replace(recipe, train=replace(recipe.train, steps=4))
    run_recipe(whole, straight)
    run_recipe(replace(recipe, train=replace(recipe.train, steps=2)), continued)
    run_recipe(whole, continued)
    assert (straight / "weights" / "model.safetensors").read_bytes() == (
        continued / "weights" / "model.safetensors"
    ).read_bytes()


def test_sources_of_one_run_have_one_label_space(tmp_path):
    assert tube_classes(load_recipe("core-tiny")).names == WORLD.names


def test_a_core_needs_a_size_or_weights():
    recipe = load_recipe("core-tiny", ("model.size=small",))
    with pytest.raises(InputError, match="the query core has tiny, r50, swin-t"):
        build_core_learner(recipe)


@pytest.mark.parametrize("name", ["core-coco", "core-cityscapes", "core-vspw", "core-tiny"])
def test_recipes_are_read(name):
    recipe = load_recipe(name)
    assert recipe.model.family == "core" and recipe.task.frames == 1


def test_a_data_set_that_nobody_located_is_asked_for():
    with pytest.raises(InputError, match="--data cityscapes=DIR"):
        build_core_learner(load_recipe("core-cityscapes"))
