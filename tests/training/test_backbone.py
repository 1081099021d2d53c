"""A backbone that learns to tell things apart."""

import numpy as np
import pytest
import torch

from maskstream.synthetic.scene import THINGS
from maskstream.training.backbone import BackboneLearner, CropBatch, ThingCrops, square_around, stacked_crops
from maskstream.training.recipe import load_recipe
from maskstream.training.rendered import RenderedClips
from maskstream.training.run import run_recipe
from tests.mask2former.networks import small_network


def crops(frames=2, seed=5):
    source = RenderedClips(level="easy", frames=frames, size=64, objects=4, seed=1, step=8)
    return ThingCrops([(source, 1.0)], size=32, seed=seed)


def learner(validation=()):
    torch.manual_seed(0)
    return BackboneLearner(small_network().model.pixel_level_module.encoder.train(), validation)


def test_a_square_holds_what_it_is_around():
    """A disc at a border: all of it that is in the picture is in the square, and most of the square is not disc."""
    rows, columns = np.mgrid[:60, :80]
    disc = (rows - 30) ** 2 + (columns - 4) ** 2 < 100
    picture = np.where(disc[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)
    for seed in range(8):
        square = square_around(picture, disc, 32, np.random.default_rng(seed))
        assert square.shape == (32, 32, 3)
        assert 0.15 < (square[..., 0] > 127).mean() < 0.95


def test_a_sample_has_every_thing_that_can_be_told_on_every_frame():
    one = crops()[3]
    assert len(one.crops_n3hw) == len(one.classes_n) >= 2
    assert one.crops_n3hw.shape[1:] == (3, 32, 32) and one.crops_n3hw.dtype == torch.uint8
    assert set(one.classes_n.tolist()) <= set(range(len(THINGS)))


def test_a_sample_follows_from_its_number():
    assert torch.equal(crops()[3].crops_n3hw, crops()[3].crops_n3hw)
    assert not torch.equal(crops()[3].crops_n3hw[:1], crops()[4].crops_n3hw[:1])


def test_what_is_shown_again_and_again_is_told_apart():
    some = stacked_crops([crops()[n] for n in range(4)])
    one = learner([some])
    optimiser = torch.optim.AdamW(one.parameters(), 3e-3)
    for _ in range(40):
        one(some, iteration=0, seed=0)["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
    assert one.train()(some, iteration=0, seed=0)["accuracy"] > 0.9


def test_accuracy_is_the_share_that_is_told_right():
    one = learner()
    with torch.no_grad():
        one.classifier.weight.zero_()
        one.classifier.bias.zero_()
        one.classifier.bias[3] = 1  # everything is a snake
    batch = CropBatch(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.tensor([3, 3, 3, 1]))
    one.validation = [batch]
    assert one.eval().validate() == {"accuracy": pytest.approx(0.75)}
    assert one.strip(batch).shape == (32, 4 * 32, 3)
    one.validation = []
    assert one.validate() == {}


def test_a_backbone_is_what_a_core_begins_from(tmp_path):
    small = ("data.size=64", "train.batch=2", "train.workers=0", "train.steps=2", "validate.videos=2")
    run_recipe(load_recipe("backbone-tiny", small), tmp_path / "backbone")
    more = ("task.points=64", f"model.image_backbone={tmp_path / 'backbone' / 'weights'}", "validate.frames=9")
    summary = run_recipe(load_recipe("core-tiny", (*small, *more, "validate.size=[64,96]")), tmp_path / "core")
    assert summary.done == 2 and (tmp_path / "core" / "weights" / "config.json").is_file()
