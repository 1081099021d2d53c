"""UniVS learns: clips are prompted by chance that follows from their number, and what is written can be loaded."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskstream.mask2former.network import normalised
from maskstream.mask2former.prediction import ClipTargets
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.systems.univs.network import read_univs
from maskstream.systems.univs.text import new_text, save_text
from maskstream.training.data import first_classes, prompted_clips
from maskstream.training.prompted_clips import BOX, MASK, POINT, Kind, Marks, drawn_marks, prompted, stacked_prompts
from maskstream.training.recipe import load_recipe
from maskstream.training.run import build_univs_learner, run_recipe
from maskstream.training.tubes import LabelledClip, Said, _mirrored, cut
from maskstream.training.univs import grammar, univs_from_core
from maskstream.types import InputError

SMALL = (
    "data.size=64", "train.batch=2", "train.workers=0", "task.points=64", "task.tokens=8", "validate.videos=1",
    "validate.frames=6", "validate.size=[64,96]",
)  # fmt: skip
PROCA = "network.prompting.proca.0.attention.out_proj.weight"
KINDS: dict[Kind, tuple[str, ...]] = {
    "visual": ("task.expressions=0", "task.visual=1"),
    "category": ("task.expressions=0", "task.visual=0"),
    "expression": ("task.expressions=1",),
}


def recipe(core, *settings):
    return load_recipe("univs-tiny", (*SMALL, f"model.init={core}", *settings))


def batch(made, count=2):
    some = prompted_clips(made)
    return stacked_prompts([some[n] for n in range(count)])


def labelled(frames=3, objects=4, said=()):
    masks = torch.zeros(objects, frames, 32, 48, dtype=torch.bool)
    for n in range(objects):
        masks[n, n % frames :, 4 * n : 4 * n + 6, 3 * n : 3 * n + 20] = True
    targets = ClipTargets(torch.tensor([0, 1, 0, 2, 3][:objects]), masks)
    pictures = torch.zeros(frames, 3, 32, 48, dtype=torch.uint8)
    return LabelledClip(pictures, targets, torch.arange(frames) * 7 + 40, lambda: list(said))


def task(*settings):
    return load_recipe("univs-tiny", settings).task


@pytest.mark.parametrize(("kind", "settings"), KINDS.items())
def test_a_sample_follows_from_its_number(core, kind, settings):
    made = recipe(core, *settings)
    one, again, other = prompted_clips(made)[3], prompted_clips(made)[3], prompted_clips(made)[4]
    assert torch.equal(one.frames_bt3hw, again.frames_bt3hw) and not torch.equal(one.frames_bt3hw, other.frames_bt3hw)
    (clip,), (same,) = one.clips, again.clips
    assert clip.texts == same.texts and torch.equal(clip.means_pn, same.means_pn)
    assert torch.equal(clip.times_t, same.times_t) and (clip.times_t.diff().abs() == 2).all()
    for marks, others in zip(clip.marks, same.marks, strict=True):
        assert torch.equal(marks.boxes_p4, others.boxes_p4) and torch.equal(marks.points_p2, others.points_p2)


@pytest.mark.parametrize(("kind", "settings"), KINDS.items())
def test_prompts_are_of_the_kind_that_is_asked_for(core, kind, settings):
    clips = [prompted_clips(recipe(core, *settings))[n].clips[0] for n in range(6)]
    assert sum(clip.kind == kind for clip in clips) >= (4 if kind == "expression" else 6)  # not all can be told apart
    for clip in clips:
        if clip.kind == "visual":
            assert len(clip.marks) == 1 and not len(clip.means_pn)
        elif clip.kind == "category":
            assert clip.means_pn.sum(0).eq(1).all()
        else:
            assert len(clip.texts) == len(clip.means_pn) and clip.means_pn.sum(1).eq(1).all()


def test_kinds_are_drawn_as_often_as_said():
    clip = labelled(said=[Said("the first", (0,)), Said("both", (0, 1))])
    names, plan = ("a", "b", "c", "d"), task("task.expressions=0.25", "task.visual=0.4")
    kinds = [prompted(clip, names, plan, np.random.default_rng(n)).kind for n in range(400)]
    share = {kind: kinds.count(kind) / 400 for kind in KINDS}
    assert share["expression"] == pytest.approx(0.25, abs=0.07)
    assert share["visual"] == pytest.approx(0.75 * 0.4, abs=0.07)


def test_without_classes_there_are_sentences_or_marks():
    rng = np.random.default_rng(0)
    assert prompted(labelled(said=[Said("it", (1,))]), (), task("task.expressions=0"), rng).kind == "expression"
    assert prompted(labelled(), (), task("task.visual=0"), rng).kind == "visual"


def test_only_so_many_objects_are_kept_and_sentences_about_others_are_not_said():
    clip = labelled(said=[Said(str(n), (n,)) for n in range(4)])
    plan = task("task.objects=2")
    for number in range(10):
        found = prompted(clip, (), plan, np.random.default_rng(number))
        assert len(found.targets.classes_n) == 2 and len(found.texts) == 2
        for text, means in zip(found.texts, found.means_pn, strict=True):
            assert torch.equal(found.targets.masks_nthw[means][0], clip.targets.masks_nthw[int(text)])


def test_frames_keep_their_distances_and_fit_into_the_code_of_time():
    plan = task()
    for number in range(20):
        times = prompted(labelled(), ("a",) * 4, plan, np.random.default_rng(number)).times_t
        assert times.diff().tolist() == [7, 7] and times.min() >= 0 and times.max() <= 127


def test_marks_are_on_what_they_mean():
    shapes = []
    for number in range(60):
        masks = labelled().targets.masks_nthw
        marks = drawn_marks(masks, np.random.default_rng(number))
        assert masks[:, marks.frame].flatten(1).any(1).nonzero()[:, 0].tolist() == marks.objects_p.tolist()
        for n, (x, y), box in zip(marks.objects_p.tolist(), marks.points_p2, marks.boxes_p4, strict=True):
            mask = masks[n, marks.frame]
            assert mask[int(y * 32), int(x * 48)]
            assert torch.allclose(box, torch.tensor([3 * n / 48, 4 * n / 32, (3 * n + 20) / 48, (4 * n + 6) / 32]))
        shapes += marks.shapes_p.tolist()
    share = {shape: shapes.count(shape) / len(shapes) for shape in (POINT, BOX, MASK)}
    assert share[MASK] == pytest.approx(0.5, abs=0.12) and share[POINT] == pytest.approx(0.25, abs=0.12)


def test_large_boxes_are_drawn_by_a_hand_that_is_not_sure():
    masks = torch.zeros(1, 1, 32, 48, dtype=torch.bool)
    masks[:, :, 4:28, 6:42] = True
    boxes = torch.stack([drawn_marks(masks, np.random.default_rng(n)).boxes_p4[0] for n in range(50)])
    off = boxes - torch.tensor([6 / 48, 4 / 32, 42 / 48, 28 / 32])
    assert off.std(0).min() > 0.01 and off.abs().max() < 0.16 * 36 / 48


def test_where_nothing_is_seen_there_are_no_marks():
    marks = drawn_marks(torch.zeros(2, 3, 8, 8, dtype=torch.bool), np.random.default_rng(0))
    assert not len(marks.objects_p) and marks.boxes_p4.shape == (0, 4) and marks.points_p2.shape == (0, 2)


def test_visual_prompts_keep_their_order_whatever_their_shapes_are(core):
    """The authors put masks first, then points, then boxes, and mixed up whose is whose (trap T10)."""
    learner = build_univs_learner(recipe(core)).eval()
    maps = learner.network.maps(
        learner.network.features(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))),
        torch.tensor([0]),
    )
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    for n in range(3):
        masks[n, 20 * n : 20 * n + 16, 8:40] = True
    boxes = torch.tensor([[8 / 64, 20 * n / 64, 40 / 64, (20 * n + 16) / 64] for n in range(3)])
    points = torch.tensor([[0.4, (20 * n + 8) / 64] for n in range(3)])

    def means(shapes):
        marks = Marks(0, torch.arange(3), torch.tensor(shapes), boxes, points)
        return learner._tokens(marks, masks, maps, torch.Generator().manual_seed(0)).means()[1]

    together = means([POINT, MASK, BOX])
    for n, shape in enumerate((POINT, MASK, BOX)):
        assert torch.allclose(together[n], means([shape] * 3)[n], atol=0.35)
        others = [k for k in range(3) if k != n]
        distance = (means([shape] * 3) - together[n]).norm(dim=1)
        assert all(distance[n] < distance[k] for k in others)


@pytest.mark.parametrize(("kind", "settings"), KINDS.items())
def test_gradients_reach_the_text_tower_and_prompts(core, kind, settings):
    made = recipe(core, *settings)
    learner = build_univs_learner(made)
    found = learner(batch(made), iteration=0, seed=0)
    found["loss"].backward()
    reached = {name for name, weight in learner.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {PROCA, "text.network.text_projection.weight"} <= reached
    assert any(name.startswith("network.core.model.pixel_level_module.encoder") for name in reached)


def test_a_text_tower_that_is_named_stays_as_it_is(core, tmp_path):
    save_text(new_text(grammar(), dim=32, layers=1), tmp_path / "text")
    made = recipe(core, f"model.text={tmp_path / 'text'}", *KINDS["expression"])
    learner = build_univs_learner(made)
    for _ in range(2):  # names are found once
        learner(batch(made), iteration=0, seed=0)["loss"].backward()
    assert learner.network.config.text_dim == 32
    assert all(weight.grad is None for weight in learner.text.parameters())
    reached = {name for name, weight in learner.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {PROCA, "network.prompting.from_text.weight"} <= reached


def test_what_is_frozen_stays_as_it_is(core):
    made = recipe(core, "model.frozen=pixels")
    learner = build_univs_learner(made)
    learner.text.requires_grad_(False)
    before = {name: weight.clone() for name, weight in learner.named_parameters() if not weight.requires_grad}
    states = {name: value.clone() for name, value in learner.named_buffers()}
    optimiser = torch.optim.AdamW(learner.parameter_groups(made.train), 1e-2)
    learner(batch(made), iteration=0, seed=0)["loss"].backward()
    optimiser.step()
    after = dict(learner.named_parameters())
    assert any("encoder" in name for name in before) and any(name.startswith("text.") for name in before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(torch.equal(value, states[name]) for name, value in learner.named_buffers())


def test_a_long_video_is_learned_clip_by_clip_and_remembers_the_first(core, monkeypatch):
    made = recipe(core, "task.frames=5", "task.tubes=2", "task.overlap=1", *KINDS["visual"])
    learner, some = build_univs_learner(made), batch(made)
    assert len(some.clips[0].marks) == 2 and learner.network.config.frames == 3
    seen = []
    decode = learner.network.decode

    def watched(maps, prompts, **rest):
        seen.append(prompts)
        return decode(maps, prompts, **rest)

    monkeypatch.setattr(learner.network, "decode", watched)
    found = learner(some, iteration=0, seed=0)
    assert torch.isfinite(found["loss"]) and found["between"] > 0
    first, second = seen[0].tokens_pslc.shape[2], seen[1].tokens_pslc.shape[2]
    assert first == 8 and second in (8 * 3, 8 * 4)  # its own, and those of the last two or three frames
    assert learner.criterion.reid == made.task.reid / 2


@pytest.mark.parametrize("kind", ["category", "expression"])
def test_long_videos_can_be_prompted_with_texts(core, kind):
    made = recipe(core, "task.frames=5", "task.tubes=2", "task.overlap=1", *KINDS[kind])
    assert torch.isfinite(build_univs_learner(made)(batch(made), iteration=0, seed=0)["loss"])


@pytest.mark.parametrize(
    "settings",
    [("task.prompting=false",), ("task.proca=false",), ("task.separation=sep-blocked",), ("task.frames=1",)],
    ids=["no prompts", "no ProCA", "sep-blocked", "pictures"],
)
def test_variants_learn_too(core, settings):
    made = recipe(core, *settings)
    learner = build_univs_learner(made)
    found = learner(batch(made), iteration=0, seed=0)
    found["loss"].backward()
    assert torch.isfinite(found["loss"])
    assert (found["prompt_dice"] == 0) == (settings == ("task.prompting=false",))
    proca = dict(learner.named_parameters())[PROCA]
    assert (proca.grad is None) == (settings[0] in ("task.prompting=false", "task.proca=false"))


@pytest.mark.slow
def test_two_clips_are_learned_by_heart(core):
    """The specification's smoke test (§17.12)."""
    made = recipe(core)
    learner, some = build_univs_learner(made), batch(made)
    optimiser = torch.optim.AdamW(learner.parameters(), 2e-3)
    losses = []
    for iteration in range(50):
        found = learner(some, iteration=iteration, seed=0)
        found["loss"].backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(sum(found[name].item() for name in ("bce", "dice", "prompt_bce", "prompt_dice")))
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_a_new_one_begins_where_its_core_is(core):
    """Before anything is learned, its queries say of classes what those of the core say, and prompts are not lost."""
    learner = build_univs_learner(recipe(core)).eval()
    network = learner.network
    for norm in (layer.final_layer_norm for layer in network.core.model.transformer_module.decoder.layers):
        torch.nn.init.normal_(norm.weight, 0.8, 0.1)  # as training leaves them
        torch.nn.init.normal_(norm.bias, 0.1, 0.1)
    with torch.no_grad():
        names_kd = learner.text.names(WORLD.names)
        univs_from_core(network, names_kd)
        pixels_13hw = normalised(batch(recipe(core)).frames_bt3hw[:1, :1]).flatten(0, 1)
        maps = network.maps(network.features(pixels_13hw), torch.tensor([0]))
        (answers,) = network.decode(maps)
        said_qk = network.class_logits(answers, names_kd)
        core_qk = network.core.class_predictor(answers.embeddings_qtc[:, 0])
        queries_pc = torch.randn(5, 1, network.core.config.hidden_dim) * 0.9
        moved_pc = network.prompting.proca[1](queries_pc, queries_pc, torch.randn(5, 1, 7, queries_pc.shape[-1]), None)
    more_qk = core_qk[:, :-1] - core_qk[:, -1:]
    assert torch.equal(said_qk.argsort(1), more_qk.argsort(1)) and torch.equal(said_qk > 0, more_qk > 0)
    assert F.cosine_similarity(moved_pc, queries_pc, dim=-1).min() > 0.95


def test_a_run_writes_what_can_be_loaded_and_continued(core, tmp_path):
    made = recipe(core, "train.steps=2", "train.warmup=0", "validate.every=2", "task.separation=sep-l2p")
    assert run_recipe(made, tmp_path / "run", cpu=True).done == 2
    network, text = read_univs(tmp_path / "run" / "weights")
    assert network.config.separation == "sep-l2p" and network.config.frames == 3
    assert text is not None and text.names(["fish", "car"]).shape == (2, network.config.text_dim)
    again = build_univs_learner(replace(made, model=replace(made.model, init=str(tmp_path / "run" / "weights"))))
    assert all(weight.requires_grad for weight in again.text.parameters())
    assert again.network.prompting.log_scale.requires_grad
    before = network.prompting.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in again.network.prompting.state_dict().items())


def test_its_quality_is_measured_and_shown(core):
    made = recipe(core)
    learner = build_univs_learner(made).eval()
    scores = learner.validate()
    assert set(scores) == {"visual", "category", "expression"} and all(0 <= score <= 1 for score in scores.values())
    assert learner.strip(batch(made)).shape == (2 * 2 * 64, 3 * 64, 3)
    assert build_univs_learner(recipe(core, "validate.videos=0")).validate() == {}


def test_all_that_is_said_of_rendered_videos_is_in_the_grammar():
    known = {word for text in grammar() for word in text.split()}
    for video in synthetic_videos(level="medium", seed=5, videos=2, frames=6, size_hw=(64, 96)):
        for one in video.expressions().values():
            assert set(one.text.split()) <= known


def test_mirrored_sentences_say_right_for_left():
    assert _mirrored("The left man, second from the right, leftmost; bright") == (
        "The right man, second from the left, rightmost; bright"
    )


@pytest.mark.parametrize(
    ("frames", "tubes", "overlap", "expected"), [(7, 2, 3, [(0, 5), (2, 7)]), (9, 2, 1, [(0, 5), (4, 9)])]
)
def test_long_videos_are_cut_as_published(frames, tubes, overlap, expected):
    assert [(part.start, part.stop) for part in cut(frames, tubes, overlap)] == expected


def test_clips_that_are_not_equal_are_refused(core):
    with pytest.raises(InputError, match="not 2 tubes"):
        build_univs_learner(recipe(core, "task.frames=4", "task.tubes=2", "task.overlap=1"))


def test_classes_are_those_of_the_first_source_that_names_some(core):
    assert first_classes(recipe(core)).names[:2] == ("fish", "turtle")
