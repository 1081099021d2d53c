"""What a recipe is trained on: every source opens, and samples do not depend on who makes them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from maskstream.conversion import FORMATS
from maskstream.synthetic.textures_pack import make_textures
from maskstream.training.data import _ahead, batches
from maskstream.training.loop import accelerator_for
from maskstream.training.own_data import recognised
from maskstream.training.recipe import Recipe, SourceRecipe, load_recipe
from maskstream.types import InputError
from tests.training import trees

SMALL = ["data.size=32", "train.batch=4", "train.steps=3", "task.frames=2", "train.workers=0"]
TREES = {
    "davis-2017": trees.davis,
    "ytvos-2019": trees.ytvos,
    "ovis": trees.ovis,
    **dict.fromkeys(("fss-1000", "duts-tr", "duts-te", "ecssd", "big", "hrsod"), trees.saliency),
    "own": trees.davis,
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    base = tmp_path_factory.mktemp("data")
    return {key: str(make(base / key)) for key, make in TREES.items()}


def recipe_on(roots, name="deva-video", *settings: str) -> Recipe:
    return replace(load_recipe(name, [*SMALL, *settings]), roots=roots)


def on_cpu(recipe: Recipe):
    return accelerator_for(recipe.train, cpu=True)


def numbers_and_frames(found):
    return [(batch.number_b.tolist(), batch.frames_bt3hw, batch.labels_bthw) for batch in found]


def same(one, other) -> bool:
    return len(one) == len(other) and all(
        a[0] == b[0] and torch.equal(a[1], b[1]) and torch.equal(a[2], b[2]) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "source"),
    [("deva-video", key) for key in ("davis-2017", "ytvos-2019", "ovis")]
    + [("deva-static", key) for key in ("fss-1000", "hrsod")]
    + [("finetune-propagation", "own")],
)
def test_every_source_of_a_recipe_gives_clips(roots, name, source):
    recipe = recipe_on(roots, name)
    only = tuple(one for one in recipe.data.sources if one.key == source)
    recipe = replace(recipe, data=replace(recipe.data, sources=only))
    found = list(batches(recipe, on_cpu(recipe), 0))
    assert [batch.number_b.tolist() for batch in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    for batch in found:
        assert batch.frames_bt3hw.shape == (4, 2, 3, 32, 32)
        assert 0 < int(batch.labels_bthw.max()) <= recipe.task.objects


@pytest.mark.parametrize("name", ["deva-video", "propagate-synthetic"])
def test_a_run_that_continues_gets_the_batches_that_come_next(roots, name):
    recipe = recipe_on(roots, name)
    whole, rest = (numbers_and_frames(batches(recipe, on_cpu(recipe), start)) for start in (0, 2))
    assert same(whole[2:], rest)


@pytest.mark.parametrize("name", ["deva-video", "propagate-synthetic"])
def test_processes_and_parts_share_a_batch_in_order(roots, name):
    recipe = recipe_on(roots, name, "train.accumulate=2")
    processes = [
        SimpleNamespace(process_index=n, num_processes=2, device=torch.device("cpu"), is_main_process=n == 0)
        for n in range(2)
    ]
    shares = [numbers_and_frames(islice(batches(recipe, one, 0), 2)) for one in processes]
    whole = numbers_and_frames(islice(batches(replace_parts(recipe, 1), on_cpu(recipe), 0), 1))
    assert [[numbers for numbers, _, _ in share] for share in shares] == [[[0], [1]], [[2], [3]]]
    together = [part for share in shares for part in share]
    assert torch.equal(torch.cat([frames for _, frames, _ in together]), whole[0][1])
    assert torch.equal(torch.cat([labels for _, _, labels in together]), whole[0][2])


def replace_parts(recipe: Recipe, parts: int) -> Recipe:
    return replace(recipe, train=replace(recipe.train, accumulate=parts))


def test_workers_make_the_same_samples(roots):
    alone, workers = (
        numbers_and_frames(batches(recipe, on_cpu(recipe), 0))
        for recipe in (recipe_on(roots, "deva-video", f"train.workers={n}") for n in (0, 2))
    )
    assert same(alone, workers)


def test_rendered_scenes_can_be_mixed_with_data(roots):
    recipe = recipe_on(roots)
    sources = (*recipe.data.sources, SourceRecipe(name="synthetic", weight=10))
    recipe = replace(recipe, data=replace(recipe.data, sources=sources))
    assert len(list(batches(recipe, on_cpu(recipe), 0))) == 3


def test_settings_of_all_sources_win_over_their_own(roots):
    stable, aggressive, half = (
        numbers_and_frames(batches(recipe, on_cpu(recipe), 0))
        for recipe in (
            recipe_on(roots),
            recipe_on(roots, "deva-video", "data.augmentation=aggressive"),
            recipe_on(roots, "deva-video", "data.fraction=0.5"),
        )
    )
    assert not same(stable, aggressive)
    assert not same(stable, half)


def test_objects_of_other_clips_are_pasted(roots):
    settings = ["data.sources.own.copy_paste=1", "task.objects=6"]
    plain, pasted = (recipe_on(roots, "finetune-propagation", *chosen) for chosen in (settings[1:], settings))
    plainly, more = (
        sum(int(batch.labels_bthw.amax((1, 2, 3)).sum()) for batch in batches(recipe, on_cpu(recipe), 0))
        for recipe in (plain, pasted)
    )
    assert more > plainly


def test_a_source_that_is_left_out_needs_no_folder(roots):
    left = {key: root for key, root in roots.items() if key != "ovis"}
    recipe = recipe_on(left, "deva-video", "data.sources.ovis.repeat=0")
    assert len(list(batches(recipe, on_cpu(recipe), 0))) == 3
    recipe = recipe_on(left)
    with pytest.raises(InputError, match="takes ovis: say where it is with --data ovis=DIR"):
        batches(recipe, on_cpu(recipe), 0)


def test_a_source_that_nobody_knows_is_refused():
    recipe = replace(load_recipe("deva-video", ["data.sources=[{name: davis2017}]"]), roots={"davis2017": "/"})
    with pytest.raises(InputError, match="no source 'davis2017'"):
        batches(recipe, on_cpu(recipe), 0)


def test_batches_made_ahead_are_the_same_batches():
    assert list(_ahead(iter([1, 2, 3]))) == [1, 2, 3]
    assert list(_ahead(iter(""))) == []


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(trees.davis, ("davis", "train"), id="DAVIS"),
        pytest.param(trees.ytvos, ("ytvos", "train"), id="YouTube-VOS"),
        pytest.param(trees.converted("davis"), ("davis", None), id="DAVIS, converted"),
        pytest.param(trees.converted("vos"), ("vos", None), id="a folder of masks, converted"),
        pytest.param(trees.converted("coco"), ("coco", None), id="COCO, converted"),
        pytest.param(trees.converted("ytvis"), ("ytvis", None), id="YouTube-VIS, converted"),
    ],
)
def test_the_layout_of_own_data_is_recognised(tmp_path, make, expected):
    root = make(tmp_path / "own")
    assert recognised(root) == expected
    for file in root.rglob("*.json"):
        if expected[0] in ("coco", "ytvis"):
            assert recognised(file)[0] == expected[0]
    layout, split = expected
    _, videos = FORMATS[layout].read(root, split)
    assert len(videos) == len(trees.VIDEOS)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{}", "has no annotations as YouTube-VIS or COCO"), ("", "cannot be read as annotations")],
    ids=["another JSON", "no JSON"],
)
def test_a_file_that_holds_no_labels_is_refused(tmp_path, content, message):
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        recognised(path)


def test_a_place_with_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no"):
        recognised(tmp_path / "missing")
    with pytest.raises(InputError, match="no folder of a video"):
        recognised(tmp_path)


def test_cut_outs_are_pasted_beside_rendered_scenes(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    for n in range(2):
        picture, labels = trees.frame("ant", n)
        Image.fromarray(picture).save(folder / f"{n}.jpg")
        Image.fromarray((labels == 1).astype(np.uint8) * 255).save(folder / f"{n}.png")
    recipe = load_recipe("propagate-synthetic", SMALL)
    sources = (SourceRecipe(name="synthetic"), SourceRecipe(name="cutouts", step=4))
    recipe = replace(recipe, data=replace(recipe.data, sources=sources))
    with pytest.raises(InputError, match="say where it is with --data cutouts=DIR"):
        next(batches(recipe, on_cpu(recipe), 0))
    recipe = replace(recipe, roots={"cutouts": str(folder)})
    whole, rest = (numbers_and_frames(batches(recipe, on_cpu(recipe), start)) for start in (0, 1))
    assert same(whole[1:], rest)
    assert all(0 < int(labels.max()) <= recipe.task.objects for _, _, labels in whole)


def test_scenes_are_painted_with_textures(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "noise.png")
    make_textures([tmp_path / "noise.png"], tmp_path / "pack.npz", tiles=4)
    recipe = load_recipe("propagate-synthetic", SMALL)
    rough = []
    for textures in (None, str(tmp_path / "pack.npz")):
        sources = (SourceRecipe(name="synthetic", textures=textures),)
        frames = next(batches(replace(recipe, data=replace(recipe.data, sources=sources)), on_cpu(recipe), 0))
        rough.append(frames.frames_bt3hw.float().diff(dim=-1).abs().mean().item())
    assert rough[1] > 1.5 * rough[0], "the pack is noise"
