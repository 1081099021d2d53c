"""Pictures of what moves: which objects do, what the network gets to see, and that it learns."""

import numpy as np
import pytest
import torch

from maskstream.segmenters.motion_network import MotionConfig, MotionNetwork
from maskstream.synthetic import write_sample
from maskstream.synthetic.cutouts import Cutouts
from maskstream.training.moving import (
    UNSURE,
    FilmedPictures,
    MotionLearner,
    MovingPictures,
    moving,
    stacked,
)
from maskstream.training.rendered import RenderedClips

GAPS = (1, 3)


@pytest.fixture(scope="module")
def rendered():
    return RenderedClips(level="easy", frames=3, size=96, objects=4, seed=1, times=(3, 0, 2))


@pytest.fixture(scope="module")
def cutouts():
    rng = np.random.default_rng(0)
    objects = torch.from_numpy(np.kron(rng.integers(0, 256, (3, 4, 20, 20)), np.ones((8, 8))).astype(np.uint8))
    objects[:, 3] = 0
    objects[:, 3, 20:140, 30:130] = 255
    grounds = torch.from_numpy(np.kron(rng.integers(0, 256, (2, 3, 32, 32)), np.ones((8, 8))).astype(np.uint8))
    return Cutouts(objects, grounds)


def pictures(rendered, cutouts=None, filmed=None, weights=(1.0, 0.0, 0.0)):
    return MovingPictures(
        gaps=GAPS, size=96, seed=1, rendered=rendered, cutouts=cutouts, filmed=filmed, weights=weights
    )


def scene(speeds, camera=(0.0, 0.0)):
    """Squares in a row that move to the right by so many pixels, before a camera that pans."""
    entity, flow = np.zeros((64, 160), np.int32), np.zeros((2, 64, 160), np.float32)
    flow += np.array(camera, np.float32)[:, None, None]
    for number, speed in enumerate(speeds, start=1):
        window = np.s_[20:40, 40 * number - 30 : 40 * number - 10]
        entity[window] = number
        flow[0][window] += speed
    return entity, flow


@pytest.mark.parametrize("camera", [(0.0, 0.0), (9.0, -4.0)], ids=["still camera", "panning camera"])
def test_what_moves_with_the_camera_is_background(camera):
    entity, flow = scene((6.0, 0.0, 1.0), camera)
    ids = moving(entity, flow, np.array([False, True, True, True]))
    assert (ids[entity == 1] == 1).all()
    assert (ids[entity == 2] == 0).all()
    assert (ids[entity == 3] == UNSURE).all()
    assert (ids[entity == 0] == 0).all()


def test_what_is_no_thing_is_background_whatever_it_does():
    entity, flow = scene((6.0, 6.0))
    ids = moving(entity, flow, np.array([False, False, True]))
    assert (ids[entity == 1] == 0).all() and (ids[entity == 2] == 1).all()


def test_things_that_fill_the_picture_tell_nothing():
    ids = moving(np.ones((64, 64), np.int32), np.ones((2, 64, 64), np.float32), np.array([False, True]))
    assert (ids == UNSURE).all()


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)], ids=["scenes", "cut-outs"])
def test_a_picture_follows_from_its_number(rendered, cutouts, weights):
    source = pictures(rendered, cutouts, weights=weights)
    one, same, other = source[3], source[3], source[4]
    for name in ("inputs_bchw", "ids_bhw", "pictures_b3hw", "evidence_bhw"):
        assert torch.equal(getattr(one, name), getattr(same, name))
    assert not torch.equal(one.pictures_b3hw, other.pictures_b3hw)
    assert one.inputs_bchw.shape == (1, MotionConfig(gaps=GAPS).in_dim, 96, 96)
    assert one.ids_bhw.shape == (1, 96, 96)


def test_objects_of_cut_outs_move_and_some_stand_still(rendered, cutouts):
    batch = stacked([pictures(rendered, cutouts, weights=(0.0, 1.0, 0.0))[n] for n in range(8)])
    share = (batch.ids_bhw > 0).float().mean()
    assert 0.02 < share < 0.6


def test_real_pictures_are_labelled_by_the_method_without_weights(rendered, tmp_path):
    write_sample(tmp_path / "a.mp4", frames=12, size_hw=(120, 160), objects=2)
    filmed = FilmedPictures([tmp_path / "a.mp4"], GAPS, each=3, size=96)
    found = [pictures(rendered, filmed=filmed, weights=(0.0, 0.0, 1.0))[n] for n in range(6)]
    assert any((batch.ids_bhw > 0).any() for batch in found)
    for batch in found:
        assert batch.inputs_bchw.shape[2:] == (96, 96)
        doubtful = (batch.evidence_bhw > 0.2) & (batch.ids_bhw <= 0)
        assert (batch.ids_bhw[doubtful] == UNSURE).all()


def test_a_mirrored_real_picture_has_mirrored_flow(tmp_path):
    write_sample(tmp_path / "a.mp4", frames=6, size_hw=(96, 96), objects=1)
    filmed = FilmedPictures([tmp_path / "a.mp4"], GAPS, each=1, size=96)
    found = [filmed.example(96, np.random.default_rng(seed)) for seed in range(8)]
    plain = next(b for b in found if torch.equal(b.pictures_b3hw, found[0].pictures_b3hw))
    mirrored = next(b for b in found if not torch.equal(b.pictures_b3hw, found[0].pictures_b3hw))
    assert torch.equal(mirrored.pictures_b3hw, plain.pictures_b3hw.flip(-1))
    assert torch.equal(mirrored.inputs_bchw[:, 3], -plain.inputs_bchw[:, 3].flip(-1))
    assert torch.equal(mirrored.inputs_bchw[:, 4], plain.inputs_bchw[:, 4].flip(-1))


def test_it_learns_and_is_measured_beside_the_method_without_weights(rendered):
    torch.manual_seed(0)
    batch = stacked([pictures(rendered)[n] for n in range(4)])
    learner = MotionLearner(MotionNetwork(MotionConfig(gaps=GAPS, widths=(16, 24, 32))), [batch])
    optimiser = torch.optim.Adam(learner.parameters(), lr=3e-3)
    losses = []
    for iteration in range(30):
        loss = learner(batch, iteration=iteration, seed=0)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    scores = learner.validate()
    assert scores["iou"] > 0.3 and 0 <= scores["classic_iou"] <= 1
    assert learner.training
    assert learner.strip(batch).shape == (4 * 96, 4 * 96, 3)


def test_pixels_that_nobody_is_sure_of_do_not_count(rendered):
    batch = pictures(rendered)[0]
    torch.manual_seed(0)
    learner = MotionLearner(MotionNetwork(MotionConfig(gaps=GAPS, widths=(4, 4)))).eval()
    batch.ids_bhw[:] = UNSURE
    loss = learner(batch, iteration=0, seed=0)
    assert loss["ce"] == 0
