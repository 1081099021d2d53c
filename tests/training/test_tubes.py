"""Clips with everything in them: what is asked for is what is there."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from maskstream.synthetic.scene import STUFF, THINGS, WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.training import data
from maskstream.training.augmentation import LargeScaleJitter
from maskstream.training.recipe import SourceRecipe, load_recipe
from maskstream.training.rendered import RenderedClips
from maskstream.training.tubes import AnnotatedTubes, RenderedTubes, Tubes, choose_pair, stacked_tubes, targets_of
from maskstream.types import FrameAnnotation, FrameRef, FrameSegmentation, InputError, Segment, VideoSample


def scenes(frames=2, level="medium", size=64):
    return RenderedClips(level=level, frames=frames, size=size, objects=4, seed=1)


def untouched(clip, rng):
    del rng
    return clip


@pytest.fixture(scope="module")
def videos():
    return list(synthetic_videos(level="medium", seed=3, videos=2, frames=4, size_hw=(64, 96)))


@pytest.mark.parametrize("number", range(6))
def test_things_are_apart_and_stuff_of_a_kind_is_together(number):
    clips = scenes().drawn(np.random.default_rng(number), motion=False)
    found = targets_of(clips)
    category_thw = clips.category_bthw()[0]
    classes = found.classes_n.tolist()
    assert len(set(classes) & set(range(len(THINGS), len(WORLD)))) == sum(c >= len(THINGS) for c in classes)
    assert found.masks_nthw.int().sum(0).max() <= 1
    for label in set(classes):
        union_thw = found.masks_nthw[found.classes_n == label].any(0)
        outside = (category_thw == label + 1) & ~union_thw
        assert not (union_thw & (category_thw != label + 1)).any()
        assert outside.sum() < 16 * len(clips.category_be[0])  # crumbs are not asked for


def test_two_things_of_a_kind_are_two():
    for number in range(60):
        clips = scenes(frames=1, level="hard").drawn(np.random.default_rng(number), motion=False)
        things = [c for c in targets_of(clips).classes_n.tolist() if c < len(THINGS)]
        if len(set(things)) < len(things):
            return
    pytest.fail("no scene has two things of a kind")


def test_a_sample_follows_from_its_number():
    tubes = Tubes([(RenderedTubes(scenes()), 1.0), (RenderedTubes(scenes(level="easy")), 2.0)], seed=7)
    one, again, other = tubes[4], tubes[4], tubes[5]
    assert torch.equal(one.frames_bt3hw, again.frames_bt3hw)
    assert torch.equal(one.targets[0].masks_nthw, again.targets[0].masks_nthw)
    assert not torch.equal(one.frames_bt3hw, other.frames_bt3hw)


def test_a_batch_keeps_clips_apart():
    tubes = Tubes([(RenderedTubes(scenes()), 1.0)], seed=7)
    batch = stacked_tubes([tubes[0], tubes[1]])
    assert batch.frames_bt3hw.shape == (2, 2, 3, 64, 64) and batch.number_b.tolist() == [0, 1]
    assert torch.equal(batch.targets[1].masks_nthw, tubes[1].targets[0].masks_nthw)
    assert batch.to("cpu").targets[0].classes_n.dtype == torch.int64


def test_labelled_videos_ask_for_what_is_annotated(videos):
    """Without augmentation, every region of the annotation of the chosen frame is there, and nothing else."""
    tubes = AnnotatedTubes(videos, WORLD, frames=1, augment=untouched)
    for number in range(8):
        batch = tubes.tube(number, np.random.default_rng(number))
        picture = batch.frames_bt3hw[0, 0].permute(1, 2, 0).numpy()
        (video, index), = [
            (v, n) for v in videos for n in range(4) if (v.read_image(n) == picture).all()
        ]  # fmt: skip
        annotation = video.annotation(index)
        truth = annotation.segmentation.semantic_map(void=0)
        target = batch.targets[0]
        assert target.masks_nthw.shape[1:] == (1, 64, 96)
        for label, mask in zip(target.classes_n.tolist(), target.masks_nthw[:, 0], strict=True):
            assert (truth[mask] == label + 1).all()
        seen = {
            s.category
            for s, a in zip(annotation.segmentation.segments, annotation.segmentation.areas(), strict=True)
            if a >= 16
        }
        assert seen <= {label + 1 for label in target.classes_n.tolist()}
        stuff = [label for label in target.classes_n.tolist() if label >= len(THINGS)]
        assert len(stuff) == len(set(stuff)) and len(STUFF) == 8


def test_an_object_has_one_mask_for_all_frames_of_a_clip(videos):
    tubes = AnnotatedTubes(videos[:1], WORLD, frames=4, augment=untouched)
    target = tubes.tube(0, np.random.default_rng(0)).targets[0]
    annotations = [videos[0].annotation(n) for n in range(4)]
    tracks = {s.track_id for a in annotations for s in a.segmentation.segments if s.is_thing}
    assert (target.classes_n < len(THINGS)).sum() <= len(tracks)
    everywhere = target.masks_nthw.flatten(2).any(2).all(1)
    assert everywhere.any()


def test_videos_are_augmented_to_one_size(videos):
    tubes = AnnotatedTubes(videos, WORLD, frames=2, augment=LargeScaleJitter(size=48, scale=(0.8, 2.0)))
    batch = stacked_tubes([tubes.tube(n, np.random.default_rng(n)) for n in range(3)])
    assert batch.frames_bt3hw.shape == (3, 2, 3, 48, 48)
    assert all(target.masks_nthw.shape[1:] == (2, 48, 48) for target in batch.targets)
    assert all(target.masks_nthw.flatten(1).any(1).all() for target in batch.targets)


@pytest.mark.parametrize("annotated", [range(30), [19]], ids=["all annotated", "one annotated, as in Cityscapes"])
def test_a_key_frame_is_up_to_ten_frames_before_one_that_is_annotated(annotated):
    rng = np.random.default_rng(0)
    pairs = [choose_pair(30, list(annotated), rng) for _ in range(3000)]
    assert all(key < current and current in annotated for key, current in pairs)
    assert {current - key for key, current in pairs} == set(range(1, 11))
    if len(annotated) == 30:
        assert {key for key, _ in pairs} == set(range(29)) and {current for _, current in pairs} == set(range(1, 30))
        ends = [sum(key < 5 for key, _ in pairs), sum(current >= 25 for _, current in pairs)]
        assert abs(ends[0] - ends[1]) < 0.1 * sum(ends)  # neither end of a video is seen more often


def sparse(video, labelled):
    """A video of which only some frames are annotated."""
    frames = tuple(replace(frame, annotated=n in labelled) for n, frame in enumerate(video.frames))

    def annotation(index):
        assert index in labelled
        return video.annotation(index)

    return replace(video, frames=frames, read_annotation=annotation)


def test_the_key_frame_need_not_be_annotated(videos):
    tubes = AnnotatedTubes(
        [sparse(videos[0], {3}), sparse(videos[1], {0})], WORLD, frames=2, augment=untouched, keyed=True
    )
    assert len(tubes) == 1  # what is annotated at the start alone has no key frame
    batch = tubes.tube(0, np.random.default_rng(0))
    (target,) = batch.targets
    assert (batch.frames_bt3hw[0, 1].permute(1, 2, 0).numpy() == videos[0].read_image(3)).all()
    assert not target.masks_nthw[:, 0].any() and target.masks_nthw[:, 1].flatten(1).any(1).all()


def test_key_frames_need_a_frame_after_them(videos):
    with pytest.raises(InputError, match="no video has an annotated frame with a frame before it"):
        AnnotatedTubes([sparse(videos[0], {0})], WORLD, frames=2, augment=untouched, keyed=True)


def test_videos_that_are_too_short_are_refused(videos):
    with pytest.raises(InputError, match="no video has 9 annotated frames"):
        AnnotatedTubes(videos, WORLD, frames=9, augment=untouched)


def plain_video(level: int) -> VideoSample:
    """One frame of one grey, all of it fish."""
    fish = FrameSegmentation.from_masks(0, (Segment(1, 1, category=1),), torch.ones(1, 32, 32, dtype=torch.bool))
    picture = np.full((32, 32, 3), level, np.uint8)
    return VideoSample(f"v{level}", (FrameRef("0"),), lambda _: FrameAnnotation(fish), read_image=lambda _: picture)


@pytest.mark.parametrize(
    ("settings", "there"),
    [({}, {0, 1, 2, 3}), ({"fraction": 0.5}, {1, 3}), ({"repeat": 0}, {9})],
    ids=["all", "half", "switched off"],
)
def test_a_recipe_says_which_videos_are_used(monkeypatch, settings, there):
    """Each is known by its grey; the half of four that this seed gives is 1 and 3."""
    opened = {"vspw": [plain_video(n) for n in range(4)], "other": [plain_video(9)]}
    monkeypatch.setattr(data, "_dataset", lambda _, one: SimpleNamespace(videos=opened[one.key], categories=WORLD))
    monkeypatch.setitem(data._AUGMENTATIONS, "stable", lambda *_: untouched)
    recipe = load_recipe("core-vspw", ("train.seed=5",))
    sources = (SourceRecipe(name="vspw", **settings), SourceRecipe(name="other", weight=1e-9))
    made = data.tubes(replace(recipe, data=replace(recipe.data, sources=sources)))
    assert {int(made[n].frames_bt3hw[0, 0, 0, 0, 0]) for n in range(40)} == there


@pytest.mark.parametrize("setting", ["data.mix=batch", "data.sources.easy.copy_paste=0.5"])
def test_what_clips_with_everything_cannot_is_refused(setting):
    with pytest.raises(InputError, match=r"mix|copy_paste"):
        data.tubes(load_recipe("core-tiny", (setting,)))
