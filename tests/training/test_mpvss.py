"""MPVSS learns: its loss falls, what is frozen stays, what is written can be loaded."""

import numpy as np
import pytest
import torch

from maskstream.api import load
from maskstream.systems.mpvss import load_mpvss
from maskstream.training.data import tubes
from maskstream.training.recipe import load_recipe
from maskstream.training.run import build_mpvss_learner, run_recipe
from maskstream.training.tubes import stacked_tubes
from maskstream.types import InputError, Task

SMALL = (
    "data.size=64", "train.batch=2", "train.workers=0", "task.points=128", "validate.videos=1", "validate.frames=6",
    "validate.size=[64,96]",
)  # fmt: skip


def recipe(core, *settings):
    return load_recipe("mpvss-tiny", (*SMALL, f"model.init={core}", *settings))


def batch(made):
    some = tubes(made)
    return stacked_tubes([some[0], some[1]])


def steps(learner, some, count):
    optimiser = torch.optim.AdamW(learner.parameters(), 2e-3)
    losses = []
    for iteration in range(count):
        found = learner(some, iteration=iteration, seed=0)
        found["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(found["loss"].item())
    return losses


def test_what_is_shown_again_and_again_is_learned(core):
    made = recipe(core)
    losses = steps(build_mpvss_learner(made), batch(made), 40)
    assert np.mean(losses[-3:]) < 0.85 * losses[0]


def test_only_the_motion_module_and_the_heads_learn(core):
    """Statistics of normalisation do not move either."""
    made = recipe(core)
    learner = build_mpvss_learner(made)
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    steps(learner, batch(made), 1)
    changed = {name for name, tensor in learner.state_dict().items() if not torch.equal(tensor, before[name])}
    assert all(any(part in name for part in ("motion.", "class_predictor", "mask_embedder")) for name in changed)
    assert any("mask_embedder" in name for name in changed) and any("motion.encoder" in name for name in changed)


def test_statistics_move_as_the_authors_program_moves_them_where_that_is_wanted(core):
    made = recipe(core, "model.frozen_eval=false")
    learner = build_mpvss_learner(made)
    assert learner.network.core.training and not learner.train(False).network.core.training
    before = {name: tensor.clone() for name, tensor in learner.train().state_dict().items()}
    steps(learner, batch(made), 1)
    changed = {name for name, tensor in learner.state_dict().items() if not torch.equal(tensor, before[name])}
    frozen = {name for name in changed if not any(p in name for p in ("motion.", "class_predictor", "mask_embedder"))}
    assert frozen and all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in frozen)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("model.flow=pixel",), set()),
        (("model.flow=query",), {"query_embed", "scale_layer", "output_head"}),
        (("model.flow=query", "model.flow_query=random"), {"query_embed", "scale_layer", "output_head"}),
        (("model.flow=query", "model.flow_query=learned"), {"query_feat", "query_embed"}),
        (("model.flow=refined",), {"query_embed"}),
    ],
    ids=["pixel flow", "query flow", "random queries", "learned queries", "pixel flow of queries"],
)
def test_every_variant_of_the_paper_learns(core, settings, named):
    made = recipe(core, *settings)
    learner = build_mpvss_learner(made)
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    steps(learner, batch(made), 2)
    changed = {name for name, tensor in learner.state_dict().items() if not torch.equal(tensor, before[name])}
    decoder = {name.split("decoder.")[1].split(".")[0] for name in changed if "motion.decoder." in name}
    assert any("motion.encoder" in name for name in changed) and named <= decoder
    assert ("query_feat" in decoder) == ("model.flow_query=learned" in settings)


def test_a_variant_goes_on_as_what_it_is(core, tmp_path):
    build_mpvss_learner(recipe(core, "model.flow=query", "model.flow_query=learned")).save(tmp_path)
    again = build_mpvss_learner(recipe(tmp_path)).network.motion
    assert again is not None and (again.config.flow, again.config.query) == ("query", "learned")
    with pytest.raises(InputError, match="has query flow of learned queries: leave out"):
        build_mpvss_learner(recipe(tmp_path, "model.flow=pixel"))


def test_a_run_writes_what_can_be_loaded_and_continued(core, tmp_path):
    made = recipe(core, "train.steps=2", "train.warmup=0", "validate.every=2")
    assert run_recipe(made, tmp_path / "run", cpu=True).done == 2
    weights = str(tmp_path / "run" / "weights")
    system = load_mpvss(weights)
    assert system.network.motion is not None and system.network.motion.config.consistent
    assert load("mpvss", weights=weights, key_every=2).start(Task.VSS, size_hw=(64, 96)).latency == 0
    again = build_mpvss_learner(recipe(weights))
    assert again.network.motion is not None
    before = system.network.motion.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in again.network.motion.state_dict().items())


def test_its_quality_is_measured_and_shown(core):
    made = recipe(core)
    learner = build_mpvss_learner(made)
    learner.train(False)
    assert set(learner.validate()) == {"miou"}
    assert learner.strip(batch(made)).shape == (3 * 64, 2 * 64, 3)


@pytest.mark.parametrize(
    ("settings", "match"), [(("model.init=null",), "name it with --from"), (("task.frames=3",), "2 frames")]
)
def test_recipes_that_cannot_be_are_refused(core, settings, match):
    with pytest.raises(InputError, match=match):
        build_mpvss_learner(recipe(core, *settings))
