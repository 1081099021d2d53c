"""Somebody who clicks, and a network that learns from it."""

import cv2
import numpy as np
import pytest
import torch

from maskstream.segmenters.click import ClickConfig, ClickNetwork
from maskstream.training.clicked import (
    ClickedPictures,
    Clicker,
    ClickLearner,
    PairClips,
    stacked_pictures,
)
from maskstream.training.rendered import RenderedClips
from maskstream.types import InputError


@pytest.fixture(scope="module")
def pictures():
    source = RenderedClips(level="easy", frames=1, size=64, objects=4, seed=1)
    return ClickedPictures([(source, 1.0)], seed=5)


def disc(radius=12, size_hw=(64, 80), middle=(40, 30)):
    mask = np.zeros(size_hw, np.uint8)
    cv2.circle(mask, middle, radius, 1, -1)
    return mask > 0


def test_the_first_click_is_in_the_middle_and_the_next_on_the_largest_mistake():
    clicker = Clicker(disc(), np.random.default_rng(0), exact=True)
    first = clicker.begin()
    assert np.argwhere(first.object).mean(0) == pytest.approx([30, 40], abs=1) and not first.background.any()
    found = disc()
    found[:20, 60:] = True
    found[25:29, 36:40] = False
    second = clicker.correct(found)
    assert np.argwhere(second.background).mean(0) == pytest.approx([9, 70], abs=2)
    assert (second.object == first.object).all() and second.mask is found


def test_where_there_is_no_mistake_nothing_is_clicked():
    clicker = Clicker(disc(), np.random.default_rng(0))
    hints = clicker.correct(disc())
    assert not hints.object.any() and not hints.background.any()


def test_a_sample_begins_with_a_click_a_box_or_a_scribble():
    kinds = set()
    for seed in range(40):
        hints = Clicker(disc(), np.random.default_rng(seed)).begin()
        kinds.add("box" if hints.box is not None else "click" if hints.object.sum() <= 21 else "scribble")
        assert not (hints.object & ~disc(14)).any()
        if hints.box is not None:
            assert (hints.box & disc()).sum() > 0.7 * disc().sum()
    assert kinds == {"click", "box", "scribble"}


def test_a_picture_follows_from_its_number(pictures):
    one, same, other = pictures[2], pictures[2], pictures[3]
    assert torch.equal(one.pictures_bhw3, same.pictures_bhw3) and torch.equal(one.masks_bhw, same.masks_bhw)
    assert not torch.equal(one.pictures_bhw3, other.pictures_bhw3)
    assert one.masks_bhw.any() and one.pictures_bhw3.shape == (1, 64, 64, 3)


def test_many_samples_begin_with_a_cut_of_the_first_hint_and_the_network_is_shown_it(pictures):
    batch = stacked_pictures([pictures[n] for n in range(12)])
    with_cut = batch.cuts_bhw.any(2).any(1)
    assert 0 < with_cut.sum() < 12
    assert all(
        (cut & mask).any() for cut, mask in zip(batch.cuts_bhw[with_cut], batch.masks_bhw[with_cut], strict=True)
    )
    shown = []
    learner = ClickLearner(ClickNetwork(ClickConfig(widths=(4, 4)))).eval()
    learner.network.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    learner(batch, iteration=0, seed=0)
    assert torch.equal(shown[0][:, 5], batch.cuts_bhw.float())
    # The first hint that the network is shown is the one that was cut around.
    on_bhw = shown[0][with_cut][:, 3] > 0
    assert all((on & cut).any() or not on.any() for on, cut in zip(on_bhw, batch.cuts_bhw[with_cut], strict=True))


def test_pairs_are_taken_as_they_are_without_random_shapes(tmp_path):
    image = np.full((60, 80, 3), 90, np.uint8)
    for name in ("dog-00000-1", "dog-00000-shape0"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), image)
        cv2.imwrite(str(tmp_path / f"{name}.png"), disc(20, (60, 80)).astype(np.uint8) * 255)
    source = PairClips(tmp_path, size=48)
    clips = [source.clip(n, progress=0.0, rng=np.random.default_rng(n)) for n in range(10)]
    assert {clip.labels_thw.shape for clip in clips} == {(1, 48, 48)}
    assert any(clip.labels_thw.any() for clip in clips)
    with pytest.raises(InputError, match="no folder"):
        PairClips(tmp_path / "nothing", size=48)


def test_it_learns_to_find_what_was_clicked(pictures):
    torch.manual_seed(0)
    batch = stacked_pictures([pictures[n] for n in range(6)])
    learner = ClickLearner(ClickNetwork(ClickConfig(widths=(16, 24, 32))), [batch])
    before = learner.validate()
    optimiser = torch.optim.Adam(learner.parameters(), lr=3e-3)
    for iteration in range(30):
        learner(batch, iteration=iteration, seed=0)["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
    after = learner.validate()
    assert set(after) == {"iou_1", "iou_3", "iou_5"}
    assert after["iou_5"] > before["iou_5"] + 0.15
    assert learner.training
    assert learner.strip(batch).shape == (4 * 64, 6 * 64, 3)


def test_rounds_follow_from_the_iteration(pictures):
    torch.manual_seed(0)
    batch = stacked_pictures([pictures[n] for n in range(2)])
    learner = ClickLearner(ClickNetwork(ClickConfig(widths=(4, 4)))).eval()
    losses = [float(learner(batch, iteration=n, seed=0)["loss"].detach()) for n in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]
