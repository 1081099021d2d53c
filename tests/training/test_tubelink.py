"""Tube-Link learns: its losses fall, tubes are cut as recipes say, what is written can be loaded."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskstream.api import load
from maskstream.mask2former.prediction import ClipTargets
from maskstream.metrics import VideoPanopticQuality
from maskstream.pretrained import Pixels
from maskstream.synthetic.scene import WORLD
from maskstream.systems.tubelink import TubeLink, TubeLinkSettings, load_tubelink
from maskstream.training.data import tubes
from maskstream.training.recipe import load_recipe
from maskstream.training.run import build_tubelink_learner, run_recipe
from maskstream.training.tubelink import WINDOWS, TubeLinkLearner, segmented
from maskstream.training.tubes import TubeBatch, stacked_tubes
from maskstream.types import Frame, FrameAnnotation, FrameSegmentation, InputError, Segment, Task

SMALL = (
    "data.size=64", "train.batch=2", "train.workers=0", "task.points=128", "validate.videos=1", "validate.frames=9",
    "validate.size=[64,96]",
)  # fmt: skip


def recipe(core, *settings):
    return load_recipe("tubelink-tiny", (*SMALL, f"model.init={core}", *settings))


def batch(made):
    some = tubes(made)
    return stacked_tubes([some[0], some[1]])


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("task.slots=true",),
        ("task.assignment=frame",),
        ("task.assignment=dense",),
        ("task.tubes=1", "task.frames=3"),
    ],
    ids=["tiny", "slots", "first frames", "dense", "one tube"],
)
def test_what_is_shown_again_and_again_is_learned(core, settings):
    made = recipe(core, *settings)
    learner, some = build_tubelink_learner(made), batch(made)
    optimiser = torch.optim.AdamW(learner.parameters(), 2e-3)
    losses = []
    for iteration in range(25):
        found = learner(some, iteration=iteration, seed=0)
        found["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(found["loss"].item())
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    assert ("contrastive" in found) == (made.task.tubes == 2)


def test_the_association_learns_from_two_tubes(core):
    made = recipe(core)
    learner = build_tubelink_learner(made)
    learner(batch(made), iteration=0, seed=0)["loss"].backward()
    assert learner.network.association is not None
    grad = learner.network.association.link.attention.in_proj_weight.grad
    assert grad is not None and grad.abs().sum() > 0
    alone = build_tubelink_learner(recipe(core, "task.association=false"))
    assert alone.network.association is None
    assert "contrastive" not in alone(batch(made), iteration=0, seed=0)


@pytest.mark.parametrize(
    ("frames", "count", "overlap", "expected"),
    [
        (4, 2, 0, [(0, 2), (2, 4)]),
        (3, 2, 1, [(0, 2), (1, 3)]),
        (5, 1, 0, [(0, 5)]),
        (6, 3, 0, [(0, 2), (2, 4), (4, 6)]),
    ],
)
def test_clips_are_cut_into_tubes(core, frames, count, overlap, expected):
    learner = build_tubelink_learner(recipe(core))
    learner.tubes, learner.overlap = count, overlap
    assert [(part.start, part.stop) for part in learner._parts(frames)] == expected


def test_clips_that_are_no_equal_tubes_are_refused(core):
    with pytest.raises(InputError, match="not 2 tubes"):
        build_tubelink_learner(recipe(core, "task.frames=3"))


def test_a_run_writes_what_can_be_loaded_and_continued(core, tmp_path):
    made = recipe(core, "train.steps=2", "train.warmup=0", "validate.every=2", "task.window=3")
    assert run_recipe(made, tmp_path / "run", cpu=True).done == 2
    weights = tmp_path / "run" / "weights"
    system = load_tubelink(str(weights))
    assert system.network.config.window == 3 and system.network.association is not None
    assert system.tasks == {Task.VPS, Task.VIS, Task.VSS}
    assert system.start(Task.VPS, size_hw=(64, 96)).latency == 2
    assert load("tubelink", weights=str(weights), window=2).start(Task.VSS, size_hw=(64, 96)).latency == 1
    again = build_tubelink_learner(replace(made, model=replace(made.model, init=str(weights))))
    assert again.network.association is not None
    before = system.network.association.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in again.network.association.state_dict().items())


def test_its_quality_is_measured_and_shown(core):
    made = recipe(core)
    learner: TubeLinkLearner = build_tubelink_learner(made)
    learner.train(False)
    assert set(learner.validate()) == {"vpq", "vpq_things", "vpq_stuff"}
    assert learner.strip(batch(made)).shape == (2 * 2 * 64, 4 * 64, 3)
    assert build_tubelink_learner(recipe(core, "validate.videos=0")).validate() == {}


def squares(index):
    """Two squares of one class that pass each other, before a wall: picture, and where both and the wall are."""
    picture = np.full((64, 96, 3), (40, 90, 160), np.uint8)
    masks = np.zeros((3, 64, 96), bool)
    for n, (x, y, colour) in enumerate(((4 + 3 * index, 6, (220, 60, 30)), (66 - 3 * index, 36, (250, 220, 70)))):
        picture[y : y + 22, x : x + 22] = colour
        masks[n, y : y + 22, x : x + 22] = True
    masks[2] = ~masks[:2].any(0)
    return picture, masks


@pytest.mark.slow
def test_two_squares_before_a_wall_are_learned_by_heart_and_keep_their_ids():
    """Acceptance check 10 of the specification."""
    thing, stuff = (next(n for n, c in enumerate(WORLD.categories) if c.is_thing is kind) for kind in (True, False))
    shown = [squares(index) for index in range(20)]
    made = recipe("core-tiny", "task.points=512")
    learner = build_tubelink_learner(made)
    optimiser = torch.optim.AdamW(learner.parameters(), 3e-4)
    losses = []
    for iteration in range(120):
        first = iteration % 17
        pictures, masks = zip(*shown[first : first + 4], strict=True)
        frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)[None]
        target = ClipTargets(torch.tensor([thing, thing, stuff]), torch.from_numpy(np.stack(masks, 1)))
        found = learner(TubeBatch(frames, (target,), torch.tensor([iteration])), iteration=iteration, seed=0)
        found["loss"].backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(found["contrastive"].item())
    assert np.mean(losses[-20:]) < 0.2 * np.mean(losses[:20])

    learner.eval()
    system = TubeLink(learner.network, Pixels(divisor=32), settings=TubeLinkSettings(window=2, min_score=0.5))
    results = segmented(system, [Frame(n, float(n), picture) for n, (picture, _) in enumerate(shown)])
    quality = VideoPanopticQuality(WORLD, windows=WINDOWS)
    ids = [WORLD.categories[thing].id, WORLD.categories[thing].id, WORLD.categories[stuff].id]
    segments = tuple(Segment(n, n, category) for n, category in enumerate(ids, start=1))
    for index, (result, (_, masks)) in enumerate(zip(results, shown, strict=True)):
        truth = FrameAnnotation(FrameSegmentation.from_masks(index, segments, torch.from_numpy(masks)))
        quality.update("squares", index, truth, result)
    quality.end_sequence("squares")
    assert quality.result().values["VPQ_1246"] > 0.9
    assert len({tuple(s.track_id for s in result.segments) for result in results}) == 1
