"""The networks in the package: each has a card, fits into the package, and works as what it says it is."""

import numpy as np
import pytest
import torch

from maskstream.api import load, load_prompter
from maskstream.segmenters.mask2former import load_mask2former
from maskstream.shipped import CARD, WEIGHTLESS, shipped, weights_of
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.training.sampling import read_picture
from maskstream.types import Frame, InputError, PointPrompt, Task

MODELS = shipped()
MOST_BYTES = 16_000_000


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_network_has_a_card_and_fits_into_the_package(model):
    assert 0 < model.nbytes <= MOST_BYTES
    assert model.licence == "Apache-2.0" and model.seen == ()
    card = (model.folder / CARD).read_text()
    for heading in ("## Data", "## Recipe", "## Figures", "## Limits"):
        assert heading in card, heading


def test_names_and_paths_are_found(tmp_path):
    for model in MODELS:
        assert weights_of(model.name, model.kind) == model.folder
    assert weights_of(str(tmp_path), "propagator") == tmp_path


def test_a_name_that_is_not_there_lists_those_that_are():
    with pytest.raises(InputError, match=r"unknown propagator 'propagate-smal'; known: flow, .*or the path of weights"):
        weights_of("propagate-smal", "propagator")
    for model in MODELS:
        other = next(kind for kind in WEIGHTLESS if kind != model.kind)
        with pytest.raises(InputError, match=rf"{model.name} is a {model.kind}, not a {other}"):
            weights_of(model.name, other)


@pytest.mark.parametrize("name", [model.name for model in MODELS if model.kind == "prompter"] + ["grabcut"])
def test_a_click_gives_a_mask(name):
    image = np.full((96, 128, 3), 40, np.uint8)
    image[30:70, 40:90] = (210, 60, 50)
    segmenter = load_prompter(name)
    (features,) = segmenter.encode([Frame(0, 0.0, image)])
    found = segmenter.segment(features, [PointPrompt(0, 1, ((65, 50),))]).masks_nhw[0]
    truth = torch.zeros(96, 128, dtype=torch.bool)
    truth[30:70, 40:90] = True
    assert (found & truth).sum() / (found | truth).sum() > 0.8


def test_the_query_core_of_the_package_names_what_it_finds():
    """On a rendered picture that no training has seen, most of what is found is what is there, by its name."""
    (video,) = synthetic_videos(level="easy", seed=5_000_011, videos=1, frames=1, size_hw=(160, 284))
    segmenter = load_mask2former(str(weights_of("core-tiny", "segmenter")))
    assert segmenter.label_space.names == WORLD.names
    found = segmenter.segment(segmenter.encode([Frame(0, 0.0, read_picture(video, 0))])[0])
    names = {segmenter.label_space.names[category] for category in found.categories if category is not None}
    there = {WORLD.names[(s.category or 0) - 1] for s in video.annotation(0).segmentation.segments}
    assert len(names & there) >= 0.5 * len(there) and len(names - there) <= 0.5 * len(there)


def test_the_default_system_runs_on_networks_of_the_package_and_is_repeatable():
    frames = [np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8) for _ in range(3)]
    found = []
    for _ in range(2):
        session = load().start(Task.UVOS, size_hw=(96, 128), fps=25.0)
        results = [r for n, image in enumerate(frames) for r in session.step(Frame(n, n / 25, image))]
        found.append([r.label_map() for r in (*results, *session.finish())])
    assert len(found[0]) == 3
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
