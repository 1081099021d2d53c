"""Recipes of the segmenters' networks, from the YAML to weights that load."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from maskstream.segmenters.click import load_click_network
from maskstream.segmenters.motion_network import load_motion_network
from maskstream.synthetic import write_sample
from maskstream.training.recipe import load_recipe
from maskstream.training.run import run_recipe
from maskstream.types import InputError

TRAIN = "train: {steps: 2, batch: 2, workers: 0}\nvalidate: {videos: 2, every: 2}\n"


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Pictures with masks, and a clip."""
    cutouts, clips = tmp_path_factory.mktemp("cutouts"), tmp_path_factory.mktemp("clips")
    for seed in range(2):
        image = np.random.default_rng(seed).integers(0, 256, (90, 120, 3), np.uint8)
        mask = np.zeros((90, 120), np.uint8)
        cv2.circle(mask, (60, 45), 25, 255, -1)
        cv2.imwrite(str(cutouts / f"{seed}.jpg"), image)
        cv2.imwrite(str(cutouts / f"{seed}.png"), mask)
    write_sample(clips / "a.mp4", frames=12, size_hw=(96, 128), objects=1)
    return {"cutouts": str(cutouts), "pairs": str(cutouts), "clips": str(clips)}


def recipe(folder, family, sources, roots):
    path = folder / "mine.yaml"
    named = ", ".join(f"{{name: {name}, weight: 1}}" for name in sources)
    path.write_text(f"about: mine\nmodel: {{family: {family}}}\ndata: {{size: 64, sources: [{named}]}}\n{TRAIN}")
    found = load_recipe(str(path))
    return replace(found, roots=roots)


@pytest.mark.parametrize(
    "family, sources, load, score",
    [
        ("motion", ("synthetic", "cutouts", "clips"), load_motion_network, "iou"),
        ("click", ("synthetic", "cutouts", "pairs"), load_click_network, "iou_3"),
    ],
)
def test_a_network_is_trained_measured_and_saved_and_the_run_goes_on(tmp_path, roots, family, sources, load, score):
    short = recipe(tmp_path, family, sources, roots)
    summary = run_recipe(short, tmp_path / "out", cpu=True)
    assert summary.done == 2 and np.isfinite(summary.loss) and 0 <= summary.scores[score] <= 1
    before = load(tmp_path / "out" / "weights").state_dict()
    assert (tmp_path / "out" / "report.html").is_file()
    longer = replace(short, train=replace(short.train, steps=3))
    assert run_recipe(longer, tmp_path / "out", cpu=True).done == 3
    after = load(tmp_path / "out" / "weights").state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "family, sources, message",
    [
        ("motion", ("cutouts",), "motion is learned from synthetic"),
        ("motion", ("synthetic", "davis-2017"), "motion is learned from synthetic"),
        ("click", ("davis-2017",), "no source 'davis-2017' of clicked pictures"),
    ],
)
def test_other_sources_are_refused(tmp_path, roots, family, sources, message):
    with pytest.raises(InputError, match=message):
        run_recipe(recipe(tmp_path, family, sources, roots), tmp_path / "out", cpu=True)


def test_clips_that_are_too_short_or_missing_are_named(tmp_path, roots):
    sources = ("synthetic", "clips")
    with pytest.raises(InputError, match=r"has no video: name a folder of \.mp4 files"):
        run_recipe(recipe(tmp_path, "motion", sources, {"clips": str(tmp_path)}), tmp_path / "out", cpu=True)
    write_sample(tmp_path / "short.mp4", frames=5, size_hw=(96, 128), objects=1)
    with pytest.raises(InputError, match=r"short\.mp4 has 5 frames: more than 10 are needed"):
        run_recipe(recipe(tmp_path, "motion", sources, {"clips": str(tmp_path)}), tmp_path / "out", cpu=True)
