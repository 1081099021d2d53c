"""FlowNetS learns true flow, and the motion module of MPVSS begins from it."""

import numpy as np
import pytest
import torch

from maskstream.systems.mpvss.network import read_motion
from maskstream.systems.mpvss.warp import warp
from maskstream.training.data import flow_pairs
from maskstream.training.flow import FlowBatch, FlowLearner, mean_error, stacked_pairs
from maskstream.training.recipe import load_recipe
from maskstream.training.run import build_flow_learner, build_mpvss_learner, run_recipe
from maskstream.types import InputError

SMALL = ("data.size=64", "train.batch=2", "train.workers=0", "validate.videos=2")


def recipe(*settings: str):
    return load_recipe("flow-tiny", (*SMALL, *settings))


def batch(made, count=2):
    pairs = flow_pairs(made)
    return stacked_pairs([pairs[n] for n in range(count)])


def test_true_flow_leads_to_the_key_frame():
    """Where the key frame shows the same, moving it back by true flow gives the frame, but for grain and edges."""
    some = batch(recipe("data.sources.far.weight=0", "data.sources.near.weight=0"), count=6)
    frame, key = (some.frames_b23hw[:, n].float() for n in (0, 1))
    moved = warp(key, some.flow_b2hw[:, None], consistent=True)
    errors = {
        name: float((other - frame).abs().mean(1)[some.seen_bhw].mean())
        for name, other in (("moved", moved), ("as it was", key))
    }
    assert some.flow_b2hw.norm(dim=1).mean() > 0.5
    assert errors["moved"] < 0.8 * errors["as it was"]


def test_a_pair_follows_from_its_number():
    pairs = flow_pairs(recipe())
    one, again, other = pairs[3], pairs[3], pairs[4]
    assert all(torch.equal(getattr(one, name), getattr(again, name)) for name in FlowBatch.__slots__)
    assert not torch.equal(one.frames_b23hw, other.frames_b23hw)


def test_the_mean_error_is_that_of_what_is_seen():
    true = torch.zeros(1, 2, 4, 4)
    true[:, 0, :, 2:] = 3.0
    seen = torch.ones(1, 4, 4, dtype=torch.bool)
    found = torch.zeros(1, 2, 2, 2)
    assert mean_error(found, true, seen).item() == pytest.approx(1.5)
    seen[:, :, 2:] = False
    assert mean_error(found, true, seen).item() == pytest.approx(0, abs=1e-5)
    seen[:, 0, 2] = True  # one of four pixels of one of four places
    assert mean_error(found, true, seen).item() == pytest.approx(0.25 * 3 / 2.25, abs=1e-5)
    assert mean_error(found, true, torch.zeros_like(seen)).item() == 0


def test_what_is_shown_again_and_again_is_learned():
    made = recipe()
    learner, some = build_flow_learner(made), batch(made)
    optimiser = torch.optim.AdamW(learner.parameters(), 2e-3)
    errors = []
    for iteration in range(60):
        found = learner(some, iteration=iteration, seed=0)
        found["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        errors.append(found["error"].item())
    assert np.mean(errors[-3:]) < 0.6 * errors[0]
    assert all(weight.grad is None or weight.requires_grad for weight in learner.parameters())


def test_its_error_is_measured_beside_that_of_no_flow_and_of_flow_without_weights():
    made = recipe()
    learner = build_flow_learner(made)
    scores = learner.validate()
    assert set(scores) == {"epe", "still_epe", "classic_epe"} and scores["classic_epe"] < scores["still_epe"]
    assert FlowLearner(learner.motion).validate() == {}
    assert learner.strip(batch(made)).shape == (3 * 64, 2 * 64, 3)


@pytest.mark.parametrize("flow", ["fused", "pixel"])
def test_a_run_writes_what_a_motion_module_begins_from(core, tmp_path, flow):
    """Its encoder; where masks are moved by pixel flow alone, all of it."""
    made = recipe("train.steps=2", "train.warmup=0", "validate.every=2")
    assert run_recipe(made, tmp_path / "run", cpu=True).done == 2
    folder = tmp_path / "run" / "weights"
    written = read_motion(folder)
    assert written is not None and written.config.flow == "pixel"
    mpvss = load_recipe("mpvss-tiny", (f"model.init={core}", f"model.flow_encoder={folder}", f"model.flow={flow}"))
    begun = build_mpvss_learner(mpvss).network.motion
    assert begun is not None
    given = written.state_dict()
    same = {name for name, value in begun.state_dict().items() if name in given and torch.equal(value, given[name])}
    assert {name for name in given if name.startswith("encoder.")} <= same
    assert (same == set(given)) == (flow == "pixel")
    again = build_flow_learner(recipe(f"model.init={folder}")).motion.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in again.items())


def test_masks_begin_to_move_by_flow_of_maps_that_queries_refined(core, tmp_path):
    """Everything but query flow is there, and that is nothing at first: the method begins where pixel flow is."""
    made = recipe("model.flow=refined", f"model.init={core}", "train.steps=2", "train.warmup=0", "validate.every=2")
    assert run_recipe(made, tmp_path / "run", cpu=True).done == 2
    folder = tmp_path / "run" / "weights"
    refined = read_motion(folder)
    assert refined is not None and (refined.config.flow, refined.config.query) == ("refined", "learned")
    mpvss = load_recipe("mpvss-tiny", (f"model.init={core}", f"model.flow_encoder={folder}"))
    fused = build_mpvss_learner(mpvss).network.motion
    assert fused is not None and fused.config.flow == "fused"
    frame, key = (torch.rand(1, 3, 64, 96) * 255 for _ in range(2))
    queries = refined.decoder.query_feat.weight[None]
    with torch.no_grad():
        found, wanted = fused(frame, key, queries), refined(frame, key, queries)
    assert wanted.abs().max() > 1e-4
    torch.testing.assert_close(found, wanted.expand_as(found))
    pixel = build_mpvss_learner(
        load_recipe("mpvss-tiny", (f"model.init={core}", f"model.flow_encoder={folder}", "model.flow=pixel"))
    ).network.motion
    assert pixel is not None
    assert all(torch.equal(a, b) for a, b in zip(pixel.encoder.parameters(), refined.encoder.parameters(), strict=True))
    again = build_flow_learner(recipe("model.flow=refined", f"model.init={folder}")).motion.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in refined.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (("data.sources=[{name: vspw}]",), "no source 'vspw' of true flow"),
        (("task.frames=3",), "between 2 frames"),
        (("model.init=FOLDER",), r"has no mpvss\.json"),
        (("model.flow=refined",), "made for a Mask2Former"),
        (("model.flow=query",), "by pixel or refined flow"),
    ],
)
def test_recipes_that_cannot_be_are_refused(tmp_path, settings, match):
    with pytest.raises(InputError, match=match):
        build_flow_learner(recipe(*(one.replace("FOLDER", str(tmp_path)) for one in settings)))


def test_flow_of_another_size_is_told_and_changes_nothing(core, tmp_path):
    build_flow_learner(recipe("validate.videos=0")).save(tmp_path)
    large = load_recipe("mpvss-tiny", (f"model.init={core}", "model.size=null", f"model.flow_encoder={tmp_path}"))
    with pytest.raises(InputError, match="another network"):
        build_mpvss_learner(large)
