"""UniVS from folders, with a network that was never trained: what it can do follows from what it has."""

import numpy as np
import pytest
import torch

from maskstream import load
from maskstream.mask2former.checkpoints import save_core
from maskstream.systems.univs import UniVSConfig, UniVSNetwork, UniVSSettings, load_univs, save_univs
from maskstream.systems.univs.text import new_text, save_text
from maskstream.types import (
    BoxPrompt,
    Category,
    CategorySet,
    Frame,
    InputError,
    MaskPrompt,
    PointPrompt,
    Task,
    TextPrompt,
)
from tests.mask2former.networks import small_network

SIZE = (48, 80)
NAMES = {0: "hen", 1: "pig", 2: "grass"}
ALL = {Task.VIS, Task.VPS, Task.VSS, Task.VOS, Task.PVOS, Task.REFVOS}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with a text tower, one without, a tower, one of another size, and a Mask2Former."""
    folder = tmp_path_factory.mktemp("weights")
    core = small_network(4, classes=len(NAMES))
    core.config.id2label = NAMES
    with torch.no_grad():  # masks as clear as if it had been trained
        embedder = core.model.transformer_module.decoder.mask_predictor.mask_embedder
        list(embedder.parameters())[-2].mul_(20)
    network = UniVSNetwork(core, UniVSConfig(text_dim=16, frames=3))
    torch.manual_seed(0)
    towers = [new_text(["hen pig grass", "the left one"], dim=dim, layers=1, heads=2) for dim in (16, 8)]
    save_univs(network, towers[0], folder / "reads", short_side=64)
    save_univs(network, None, folder / "mute", short_side=64)
    save_text(towers[0], folder / "text")
    save_text(towers[1], folder / "small")
    save_core(core, folder / "pictures", short_side=64)
    return folder


def video(count):
    generator = np.random.default_rng(5)
    return [Frame(t, t / 10, generator.integers(0, 255, (*SIZE, 3), np.uint8)) for t in range(count)]


def test_what_a_model_can_do_follows_from_whether_it_reads(weights):
    reads, mute = (load_univs(str(weights / name)) for name in ("reads", "mute"))
    assert reads.tasks == ALL and reads.open_vocabulary
    assert mute.tasks == {Task.VOS, Task.PVOS} and not mute.open_vocabulary
    assert reads.label_space is not None and reads.label_space.names == tuple(NAMES.values())
    assert load_univs(str(weights / "mute"), text=str(weights / "text")).tasks == ALL
    with pytest.raises(InputError, match="cannot do 'vis': these weights come without a text tower"):
        mute.start(Task.VIS, size_hw=SIZE)


def test_clips_are_those_that_the_network_is_meant_for(weights):
    reads = load_univs(str(weights / "reads"))
    assert reads.start(Task.VIS, size_hw=SIZE).latency == 2
    settings = UniVSSettings(frames=1)
    assert load_univs(str(weights / "reads"), settings=settings).start(Task.VIS, size_hw=SIZE).latency == 0
    assert load("univs", weights=str(weights / "reads"), window=4).start(Task.VSS, size_hw=SIZE).latency == 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere", {}, "nowhere"),
        ("pictures", {}, "is a Mask2Former without prompts"),
        ("mute", {"text": "small"}, "knows texts of 16 numbers, and what reads them gives 8"),
        ("mute", {"text": "mute"}, "of kind mask2former"),
        ("reads", {"short_side": 8}, "short_side is at least 32"),
    ],
)
def test_what_does_not_fit_is_told(weights, name, options, message):
    if "text" in options:
        options = options | {"text": str(weights / options["text"])}
    with pytest.raises(InputError, match=message):
        load_univs(str(weights / name), **options)


def test_names_of_many_data_sets_need_a_label_space(weights, tmp_path):
    torch.save(torch.randn(3938, 16), tmp_path / "names.pth")
    with pytest.raises(InputError, match="say with a label space which are meant"):
        load_univs(str(weights / "mute"), text=str(tmp_path / "names.pth"))
    space = CategorySet("ovis", tuple(Category(n, f"thing {n}", True) for n in range(1, 26)))
    made = load_univs(str(weights / "mute"), text=str(tmp_path / "names.pth"), space=space)
    assert made.tasks == ALL - {Task.REFVOS} and not made.open_vocabulary


def test_words_that_the_tower_does_not_know_are_told_before_anything_is_done(weights):
    reads = load_univs(str(weights / "reads"))
    with pytest.raises(InputError, match="has not learned the word 'whale'"):
        reads.start(Task.VIS, size_hw=SIZE, categories=CategorySet.from_names(["hen", "whale"]))
    session = reads.start(Task.REFVOS, size_hw=SIZE)
    with pytest.raises(InputError, match="has not learned the word 'right'"):
        session.prompt([TextPrompt("the right one", "expression")])


def prompts():
    mask = np.zeros(SIZE)
    mask[4:20, 8:30] = 1
    return [
        MaskPrompt(0, 1, mask),
        BoxPrompt(1, 2, (30, 10, 60, 40)),
        PointPrompt(4, 3, ((70, 20),)),
        TextPrompt("the left one", "expression", frame_index=1),
    ]


@pytest.mark.parametrize("task", [Task.VIS, Task.VPS, Task.VSS, Task.REFVOS])
def test_a_real_network_is_interrupted_without_a_trace(weights, task):
    """Features are made again, and all numbers are the same to the last bit."""
    settings = UniVSSettings(min_score=-1.0, sharp=-1.0, similarity=-1.0, tokens=6, candidates=5)
    made, frames = load_univs(str(weights / "reads"), settings=settings), video(8)

    def begun():
        session = made.start(task, size_hw=SIZE)
        session.prompt(prompts() if task is Task.REFVOS else [])
        return session

    session = begun()
    whole = [*(result for frame in frames for result in session.step(frame)), *session.finish()]
    assert any(result.segments for result in whole) and [r.frame_index for r in whole] == list(range(8))
    first, second = begun(), begun()
    results = [result for frame in frames[:5] for result in first.step(frame)]
    second.load_state_dict(first.state_dict())
    results += [*(result for frame in frames[5:] for result in second.step(frame)), *second.finish()]
    assert [result.segments for result in results] == [result.segments for result in whole]
    assert all(torch.equal(a.masks_nhw(), b.masks_nhw()) for a, b in zip(results, whole, strict=True))
    assert second.tracks() == session.tracks()
