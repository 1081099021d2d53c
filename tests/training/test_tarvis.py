"""TarViS learns: what clips are asked for follows from their number, and what is written can be loaded."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from maskstream.mask2former.network import ClipMask2Former
from maskstream.mask2former.prediction import ClipTargets
from maskstream.synthetic.scene import STUFF, THINGS, WORLD
from maskstream.systems.tarvis import read_tarvis
from maskstream.systems.tarvis.label_spaces import marked, spaces_of
from maskstream.systems.tarvis.network import padded_pixels
from maskstream.training import data
from maskstream.training.data import target_clips, target_spaces
from maskstream.training.loop import accelerator_for
from maskstream.training.recipe import SourceRecipe, load_recipe
from maskstream.training.run import build_tarvis_learner, run_recipe
from maskstream.training.target_clips import (
    TargetBatch,
    TargetClip,
    TargetClips,
    TargetSource,
    pointed_out,
    stacked_targets,
)
from maskstream.training.tarvis import retargeted, tarvis_from_core
from maskstream.training.tubes import LabelledClip
from maskstream.types import OBJECT, Category, CategorySet, InputError
from tests.training.test_tubes import plain_video, untouched

SMALL = (
    "data.size=64", "train.batch=2", "train.workers=0", "task.points=64", "task.vps_points=128", "validate.videos=1",
    "validate.frames=6", "validate.size=[64,96]",
)  # fmt: skip
ONLY = {
    "vis": ("task.kinds.vps=0", "task.kinds.objects=0"),
    "vps": ("task.kinds.vis=0", "task.kinds.objects=0"),
    "masks": ("task.kinds.vis=0", "task.kinds.vps=0", "task.point_share=0"),
    "points": ("task.kinds.vis=0", "task.kinds.vps=0", "task.point_share=1"),
}
KEYS = ["loss", "ce", "bce", "dice", "semantic", "object_bce", "object_dice"]


def recipe(core, *settings):
    return load_recipe("tarvis-tiny", (*SMALL, f"model.init={core}", *settings))


def batch(made, first=0, count=2):
    some = target_clips(made)
    return stacked_targets([some[n] for n in range(first, first + count)])


def things(objects=4, frames=3):
    """The n-th comes in on frame n of three, and stays."""
    masks = torch.zeros(objects, frames, 32, 48, dtype=torch.bool)
    for n in range(objects):
        masks[n, n % frames :, 2 + 6 * n : 8 + 6 * n, 1 + 3 * n : 22 + 3 * n] = True
    return ClipTargets(torch.arange(objects), masks)


# Samples.


@pytest.mark.parametrize("settings", ONLY.values(), ids=ONLY)
def test_a_sample_follows_from_its_number(core, settings):
    made = recipe(core, *settings)
    one, again, other = target_clips(made)[3], target_clips(made)[3], target_clips(made)[4]
    assert torch.equal(one.frames_bt3hw, again.frames_bt3hw) and not torch.equal(one.frames_bt3hw, other.frames_bt3hw)
    (clip,), (same,) = one.clips, again.clips
    assert torch.equal(clip.targets.masks_nthw, same.targets.masks_nthw) and clip.reference == same.reference
    assert torch.equal(clip.points_p2, same.points_p2)


@pytest.mark.parametrize(("name", "settings"), ONLY.items())
def test_clips_have_what_they_are_asked_for(core, name, settings):
    some = target_clips(recipe(core, *settings))
    for number in range(6):
        one = some[number]
        (clip,) = one.clips
        assert (one.space, one.things) == (WORLD.name, len(THINGS)) and len(clip.targets.classes_n)
        is_stuff = clip.targets.classes_n >= len(THINGS)
        assert one.kind == (name if name in ("vis", "vps") else "objects")
        assert bool(is_stuff.any()) == (name == "vps")  # every scene has some
        assert len(clip.points_p2) == (len(clip.targets.classes_n) if name == "points" else 0)
        if one.kind == "objects":
            assert clip.targets.masks_nthw[:, clip.reference].flatten(1).any(1).all()


def test_clips_of_an_iteration_are_asked_for_the_same_and_kinds_are_as_often_as_said(core):
    some = target_clips(recipe(core, "data.size=16", "task.frames=1", "train.batch=3", "task.kinds.vis=0.6"))
    kinds = []
    for iteration in range(150):
        (kind,) = {some[3 * iteration + n].kind for n in range(0, 3, 2)}
        kinds.append(kind)
    share = {kind: count / 150 for kind, count in Counter(kinds).items()}
    expected = {"vis": 0.6 / 1.3, "vps": 0.3 / 1.3, "objects": 0.4 / 1.3}
    assert share == pytest.approx(expected, abs=0.12)


def test_clips_of_an_iteration_have_as_many_points_where_they_have_as_many_objects(core):
    some = target_clips(recipe(core, "data.size=32", "train.batch=8", *ONLY["masks"][:2], "task.point_share=0.5"))
    shares = []
    for iteration in range(12):
        of_count: dict[int, set[int]] = {}
        for number in range(8 * iteration, 8 * iteration + 8):
            (clip,) = some[number].clips
            of_count.setdefault(len(clip.targets.classes_n), set()).add(len(clip.points_p2))
            shares.append(len(clip.points_p2) / len(clip.targets.classes_n))
        assert all(len(points) == 1 for points in of_count.values())
    assert 0 < np.mean(shares) < 1 and len(set(shares)) > 2


def test_the_last_objects_are_points_in_their_middle():
    targets = things()
    is_point = np.array([True, False, True, False])
    for seed in range(20):
        clip = pointed_out(targets, is_point, np.random.default_rng(seed), first=False)
        seen = targets.masks_nthw[:, clip.reference].flatten(1).any(1)
        objects = int(seen.sum())
        assert sorted(clip.targets.classes_n.tolist()) == seen.nonzero()[:, 0].tolist()
        assert len(clip.points_p2) == is_point[:objects].sum()
        first = objects - len(clip.points_p2)
        for n, (y, x) in enumerate(clip.points_p2.tolist()):
            label = int(clip.targets.classes_n[first + n])
            assert y == pytest.approx((6 * label + 5) / 32, abs=0.6 / 32)
            assert (3 * label + 3) / 48 < x < (3 * label + 20) / 48
            assert torch.equal(clip.targets.masks_nthw[first + n], targets.masks_nthw[label])


def test_objects_are_pointed_out_on_any_frame_or_on_the_first_that_has_one():
    late = ClipTargets(torch.tensor([1, 2]), things().masks_nthw[1:3])
    nobody = np.zeros(8, bool)
    drawn = [pointed_out(late, nobody, np.random.default_rng(n), first=False) for n in range(20)]
    assert {clip.reference for clip in drawn} == {1, 2}
    assert {len(clip.targets.classes_n) for clip in drawn} == {1, 2}
    assert {pointed_out(late, nobody, np.random.default_rng(n), first=True).reference for n in range(20)} == {1}


def test_of_many_objects_some_are_taken_by_chance():
    nobody = np.zeros(2, bool)
    found = [pointed_out(things(), nobody, np.random.default_rng(n), first=False) for n in range(30)]
    assert all(len(clip.targets.classes_n) <= 2 for clip in found)
    assert {label for clip in found for label in clip.targets.classes_n.tolist()} == {0, 1, 2, 3}
    assert any(clip.targets.classes_n.diff().lt(0).any() for clip in found)  # in no order: any may be a point


def test_where_nothing_is_seen_nothing_is_pointed_out():
    nothing = ClipTargets(torch.tensor([0]), torch.zeros(1, 3, 8, 8, dtype=torch.bool))
    clip = pointed_out(nothing, np.ones(3, bool), np.random.default_rng(0), first=False)
    assert not len(clip.targets.classes_n) and clip.points_p2.shape == (0, 2)


# Sources.

PETS = CategorySet("pets", (Category(1, "cat", is_thing=True), Category(9, "dog", is_thing=True)))


def sources(core, monkeypatch, *listed, spaces, settings=()):
    """A recipe whose sources are videos of a grey thing on nothing, in label spaces of their own."""
    made = recipe(core, *settings)
    monkeypatch.setattr(
        data,
        "_dataset",
        lambda _, one: SimpleNamespace(videos=[plain_video(3)], categories=spaces[one.key]),
    )
    monkeypatch.setitem(data._AUGMENTATIONS, "stable", lambda *_: untouched)
    return replace(made, data=replace(made.data, sources=listed), task=replace(made.task, frames=1))


def test_every_source_has_its_label_space_and_its_kinds(core, monkeypatch):
    made = sources(
        core,
        monkeypatch,
        SourceRecipe(name="vipseg", weight=0.4),
        SourceRecipe(name="ovis", weight=0.4, kinds=("vis",)),
        SourceRecipe(name="davis-2017", weight=0.2),
        SourceRecipe(name="burst", weight=0.2, kinds=("objects",)),
        spaces={"vipseg": WORLD, "ovis": PETS, "davis-2017": OBJECT, "burst": replace(PETS, name="burst")},
    )
    assert [space.name for space in target_spaces(made)] == [WORLD.name, "pets"]
    some = target_clips(made)
    found = {(some[2 * n].space, some[2 * n].kind) for n in range(120)}
    assert found == {
        *((WORLD.name, kind) for kind in ("vis", "vps", "objects")),
        ("pets", "vis"),
        ("object", "objects"),
        ("burst", "objects"),
    }
    config = build_tarvis_learner(made).network.config
    assert (config.label_spaces, config.classes) == ((WORLD.name, "pets"), (22, 2))
    meant = spaces_of(config)
    assert meant["pets"].names == ("cat", "dog")
    assert [c.is_thing for c in meant[WORLD.name].categories] == [True] * len(THINGS) + [False] * len(STUFF)


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ({"name": "vspw"}, (), "task.kinds asks for nothing that vspw has: none"),
        ({"name": "davis-2017"}, ONLY["vis"], "task.kinds asks for nothing that davis-2017 has: objects"),
        ({"name": "ovis", "kinds": ("vis", "vps")}, (), "ovis cannot be taken for all of vis, vps: vis, objects"),
        ({"name": "nobody"}, (), "no data set 'nobody'"),
    ],
)
def test_what_a_source_does_not_have_cannot_be_asked_for(core, monkeypatch, source, settings, message):
    made = sources(core, monkeypatch, SourceRecipe(**source), spaces={source["name"]: WORLD}, settings=settings)
    with pytest.raises(InputError, match=message):
        target_clips(made)


def test_a_label_space_has_one_meaning(core, monkeypatch):
    other = replace(PETS, categories=PETS.categories[:1])
    made = sources(
        core, monkeypatch, SourceRecipe(name="ovis"), SourceRecipe(name="uvo"), spaces={"ovis": PETS, "uvo": other}
    )
    with pytest.raises(InputError, match="uvo has other classes of pets"):
        build_tarvis_learner(made)


def test_batches_are_of_one_source(core):
    with pytest.raises(InputError, match="mix=batch"):
        target_clips(recipe(core, "data.mix=sample"))


def test_clips_without_a_thing_are_drawn_again_a_few_times():
    """A source of which some clips show stuff alone."""

    class Some:
        def __init__(self, clips):
            self.clips = iter(clips)

        def labelled(self, number, rng):
            del number, rng
            targets = ClipTargets(torch.tensor([next(self.clips)]), torch.ones(1, 1, 8, 8, dtype=torch.bool))
            return LabelledClip(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), targets, torch.arange(1), list)

        def tube(self, number, rng):
            return self.labelled(number, rng).as_batch(number)

    def kept(*classes):
        source = TargetSource(Some(classes), {"objects": 1.0}, WORLD)
        made = TargetClips([(source, 1.0)], load_recipe("tarvis-tiny").task, seed=0, batch=1)
        return made[0].clips[0].targets.classes_n.tolist()

    assert kept(20, 21, 3, 4) == [3]
    assert kept(*[20] * 6) == []


# Learning.


@pytest.mark.parametrize(("name", "settings"), ONLY.items())
def test_gradients_reach_what_is_asked_and_nothing_else_of_the_targets(core, name, settings):
    made = recipe(core, *settings)
    learner = build_tarvis_learner(made)
    for key, weight in learner.network.targets.neck.named_parameters():
        if "out_proj" in key:  # as after a step: layers begin by adding nothing
            torch.nn.init.normal_(weight, 0, 0.1)
    found = learner(batch(made), iteration=0, seed=0)
    found["loss"].backward()
    assert list(found) == KEYS and all(bool(value.isfinite()) for value in found.values())
    is_asked = {key for key in KEYS[1:] if found[key] > 0}
    assert is_asked == ({"object_bce", "object_dice"} if name in ("masks", "points") else set(KEYS[1:5]))
    reached = {key for key, weight in learner.named_parameters() if weight.grad is not None and weight.grad.any()}
    objects = {f"network.targets.encoder.kinds.{name[:-1]}", "network.targets.encoder.kinds.background"}
    words = {f"network.targets.semantic.{WORLD.name}", "network.targets.codes.instance"}
    mine, others = (objects, words) if name in ("masks", "points") else (words, objects)
    assert mine <= reached and not others & reached
    assert "network.targets.neck.level_codes" in reached
    assert any(key.startswith("network.core.model.pixel_level_module.encoder") for key in reached)


def test_clips_are_asked_with_objects_of_their_own_number(core):
    made = recipe(core, "task.kinds.vis=0", "task.kinds.vps=0")
    learner = build_tarvis_learner(made)
    frames = torch.randint(0, 256, (3, 3, 3, 32, 48), dtype=torch.uint8)
    clips = (
        TargetClip(things(3)),
        TargetClip(things(1), points_p2=torch.tensor([[0.1, 0.2]])),
        TargetClip(things(0)),
    )
    clips = (replace(clips[0], targets=clips[0].targets.only(torch.tensor([0]))), *clips[1:])

    def loss(count):
        some = TargetBatch(frames[:count], "objects", WORLD.name, len(THINGS), clips[:count], torch.arange(count))
        return learner(some, iteration=0, seed=0)

    one, two, three = loss(1), loss(2), loss(3)
    assert float(three["object_dice"]) == pytest.approx(float(two["object_dice"]) * 2 / 3, rel=1e-4)
    assert float(one["object_dice"]) < 2 * float(two["object_dice"])
    alone = TargetBatch(frames[2:], "objects", WORLD.name, len(THINGS), clips[2:], torch.tensor([0]))
    nothing = learner(alone, iteration=0, seed=0)
    nothing["loss"].backward()
    assert nothing["loss"].item() == 0


def test_chance_is_that_of_the_sample(core):
    made = recipe(core, *ONLY["vps"])
    learner, some = build_tarvis_learner(made), batch(made)
    one, again, other = (learner(some, iteration=0, seed=seed)["loss"].item() for seed in (0, 0, 1))
    assert one == again != other


def test_what_is_learned_once_for_all_does_not_decay(core):
    made = recipe(core)
    learner = build_tarvis_learner(made)
    names = {id(weight): name for name, weight in learner.named_parameters()}
    groups = learner.parameter_groups(made.train)
    listed = [names[id(weight)] for group in groups for weight in group["params"]]
    assert sorted(listed) == sorted(names.values())
    plain = {names[id(weight)] for group in groups if not group["weight_decay"] for weight in group["params"]}
    for name in (
        f"targets.semantic.{WORLD.name}", "targets.background", "targets.codes.object", "targets.neck.level_codes",
        "targets.encoder.kinds.mask", "core.model.pixel_level_module.decoder.level_embed",
        "core.model.transformer_module.queries_features.weight", "core.model.transformer_module.level_embed.weight",
        "targets.encoder.layers.0.norm.weight",
    ):  # fmt: skip
        assert f"network.{name}" in plain
    assert "network.targets.encoder.layers.0.expand.weight" not in plain
    slow = {names[id(weight)] for group in groups if group["lr_scale"] == 0.1 for weight in group["params"]}
    assert slow and all(name.startswith("network.core.model.pixel_level_module.encoder") for name in slow)


def test_frozen_normalisation_stays_as_it_is(core):
    made = recipe(core)
    learner = build_tarvis_learner(made)
    before = {name: value.clone() for name, value in learner.named_buffers()}
    learner(batch(made), iteration=0, seed=0)
    assert before and all(torch.equal(value, before[name]) for name, value in learner.named_buffers())


@pytest.mark.parametrize(
    "settings",
    [("task.grid=false",), ("task.grid=false", "task.point_share=1"), ("task.object_queries=1",), ("task.frames=1",)],
    ids=["no grid", "no grid and points", "one query", "pictures"],
)
def test_variants_learn_too(core, settings):
    made = recipe(core, *ONLY["masks"][:2], *settings)
    learner = build_tarvis_learner(made)
    found = learner(batch(made), iteration=0, seed=0)
    found["loss"].backward()
    assert torch.isfinite(found["loss"]) and found["object_dice"] > 0
    grid = learner.network.targets.codes["object_background"].grad
    assert (grid is None or not grid.any()) == ("task.grid=false" in settings)


@pytest.mark.slow
def test_two_clips_are_learned_by_heart_whatever_is_asked(core):
    """Acceptance check 18 of the specification: four tasks in turn."""
    batches = {name: batch(recipe(core, *settings)) for name, settings in ONLY.items()}
    learner = build_tarvis_learner(recipe(core))
    optimiser = torch.optim.AdamW(learner.parameters(), 1e-3)
    losses: dict[str, list[float]] = {name: [] for name in batches}
    for iteration in range(200):
        name = list(batches)[iteration % 4]
        found = learner(batches[name], iteration=iteration, seed=0)
        found["loss"].backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses[name].append(found["loss"].item())
    assert all(np.mean(values[-5:]) < 0.5 * values[0] for values in losses.values())
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.eval()
    for some in batches.values():
        learner.strip(some)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


# Runs.


def test_a_run_writes_what_can_be_loaded_and_continued(core, tmp_path):
    made = recipe(core, "train.steps=4", "train.warmup=0", "validate.every=4", "task.window=6")
    assert run_recipe(made, tmp_path / "run", cpu=True).done == 4
    head, *rows = (tmp_path / "run" / "curve.csv").read_text().splitlines()
    assert head.split(",")[1:8] == KEYS and len(rows) == 4
    weights = tmp_path / "run" / "weights"
    network = read_tarvis(weights)
    assert network.config.label_spaces == (WORLD.name,) and network.config.frames == 6
    assert (network.config.object_layers, network.config.neck_hidden, network.config.object_hidden) == (2, 32, 48)
    again = build_tarvis_learner(replace(made, model=replace(made.model, init=str(weights))))
    assert all(weight.requires_grad for weight in again.parameters())
    before = network.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in again.network.state_dict().items())
    more = replace(made, train=replace(made.train, steps=5))
    assert run_recipe(more, tmp_path / "run", cpu=True).done == 5


def test_a_new_one_begins_where_its_core_is(core):
    learner = build_tarvis_learner(recipe(core))
    network = learner.network
    norms = [layer.final_layer_norm for layer in network.core.model.pixel_level_module.decoder.encoder.layers]
    for norm in norms:  # as training leaves them
        torch.nn.init.normal_(norm.weight, 0.8, 0.1)
        torch.nn.init.normal_(norm.bias, 0.1, 0.1)
    tarvis_from_core(network).eval()
    frames_1t3hw = torch.randint(0, 255, (1, 3, 3, 64, 128), dtype=torch.uint8, generator=torch.manual_seed(0))
    with torch.no_grad():
        features = network.features(padded_pixels(frames_1t3hw))
        alone = ClipMask2Former(network.core).features(padded_pixels(frames_1t3hw))
    found = [*features.levels, features.mask_features_btchw]
    for ours, of_core in zip(found, [*alone.levels, alone.mask_features_btchw], strict=True):
        assert (ours - of_core).norm() < 0.1 * of_core.norm()


def test_other_label_spaces_begin_anew_and_everything_else_stays(core):
    network = build_tarvis_learner(recipe(core)).network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    config = replace(
        network.config,
        label_spaces=("pets", WORLD.name),
        classes=(2, 22),
        names=(*marked(PETS), *marked(WORLD)),
        grid=False,
    )
    after = retargeted(network, config).state_dict()
    assert set(after) - set(before) == {"targets.semantic.pets"}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    fewer = replace(config, label_spaces=(WORLD.name,), classes=(2,), names=marked(PETS))
    assert retargeted(network, fewer).targets.semantic[WORLD.name].shape[0] == 2


def test_classes_that_another_label_space_has_all_begin_as_they_are_there(core):
    network = build_tarvis_learner(recipe(core)).network
    seas = CategorySet("seas", (Category(1, "boat", is_thing=True), Category(2, "fish"), Category(3, "water")))
    config = replace(network.config, label_spaces=("seas",), classes=(3,), names=marked(seas))
    rows = [WORLD.names.index(name) for name in ("boat", "fish", "water")]
    known = network.targets.semantic[WORLD.name]
    assert torch.equal(retargeted(network, config).targets.semantic["seas"], known[rows])


def test_batches_of_a_process_are_moved_to_its_device(core):
    made = recipe(core, "train.steps=2")
    found = list(data.target_batches(made, accelerator_for(made.train, cpu=True), 0))
    assert [one.number_b.tolist() for one in found] == [[0, 1], [2, 3]]
    assert all(len(one.clips) == 2 == len(one.frames_bt3hw) for one in found)


@pytest.mark.parametrize("settings", ONLY.values(), ids=ONLY)
def test_what_is_found_is_shown(core, settings):
    made = recipe(core, *settings)
    learner = build_tarvis_learner(made).eval()
    some = batch(made)
    assert learner.strip(some).shape == (2 * 2 * 64, 3 * 64, 3)


def test_where_nothing_is_asked_for_nothing_is_shown(core):
    made = recipe(core, *ONLY["masks"])
    some = batch(made, count=1)
    nothing = TargetClip(ClipTargets(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, 64, 64, dtype=torch.bool)))
    picture = build_tarvis_learner(made).eval().strip(replace(some, clips=(nothing,)))
    assert np.array_equal(picture[:64], picture[64:])


def test_its_quality_is_measured(core, monkeypatch):
    learner = build_tarvis_learner(recipe(core)).eval()
    scores = learner.validate()
    assert set(scores) == {"mask", "point", "semantic"} and all(0 <= score <= 1 for score in scores.values())
    assert build_tarvis_learner(recipe(core, "validate.videos=0")).validate() == {}
    made = sources(core, monkeypatch, SourceRecipe(name="davis-2017"), spaces={"davis-2017": OBJECT})
    assert set(build_tarvis_learner(made).eval().validate()) == {"mask", "point"}


def test_the_second_stage_is_as_published():
    made = load_recipe("tarvis-video")
    shares = {source.key: (source.weight, source.kinds) for source in made.data.sources}
    assert shares == {
        "ytvis-2021": (0.225, ("vis",)), "ovis": (0.225, ("vis",)), "kitti-step": (0.075, ("vps",)),
        "cityscapes-vps": (0.075, ("vps",)), "vipseg": (0.15, ("vps",)), "burst": (0.2, ("objects",)),
        "davis-2017": (0.05, ("objects",)),
    }  # fmt: skip
    train = made.train
    assert (train.steps, train.batch, train.warmup, train.milestones) == (90_000, 32, 10_000, (50_000, 84_000))
    assert (train.lr, train.weight_decay, train.backbone_lr, train.clip_norm) == (1e-4, 0.05, 0.1, 0.01)
    assert (made.task.frames, made.task.objects, made.task.vps_points) == (3, 4, 50_176)
