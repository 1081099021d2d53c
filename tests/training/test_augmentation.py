"""Augmentation: what stays alike, what stays aligned, and the ranges of the publications (acceptance F3)."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.training.augmentation import (
    Aggressive,
    ColourJitter,
    CopyPaste,
    LargeScaleJitter,
    Stable,
    Static,
)
from maskstream.training.clips import Clip
from maskstream.training.warps import FILL

SIZE = 48
PLAIN = ColourJitter()
ALL = [Stable(SIZE), Aggressive(SIZE), Static(SIZE), LargeScaleJitter(SIZE)]
COLOURLESS = [
    Stable(SIZE, colour=PLAIN, colour_again=PLAIN),
    Aggressive(SIZE, colour=PLAIN, frame_colour=PLAIN),
    Static(SIZE, colour=PLAIN, frame_colour=PLAIN),
    LargeScaleJitter(SIZE, scale=(0.6, 2.0)),
]
Augmentation = Callable[[Clip, np.random.Generator], Clip]


def name(augmentation: object) -> str:
    return type(augmentation).__name__


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise_clip(length: int = 3, height: int = 60, width: int = 90) -> Clip:
    rng = seeded(5)
    frames = rng.integers(0, 256, (length, height, width, 3), dtype=np.uint8)
    labels = rng.integers(0, 4, (length, height, width)).astype(np.int32)
    return Clip(frames, labels, number=17)


def copies(clip: Clip, length: int = 3) -> Clip:
    """A clip of one frame again and again."""
    return replace(
        clip,
        frames_thw3=np.repeat(clip.frames_thw3[:1], length, axis=0),
        labels_thw=np.repeat(clip.labels_thw[:1], length, axis=0),
    )


def located(height: int, width: int, length: int = 3) -> Clip:
    """The label of a pixel tells where it is: 1 + row · width + column."""
    labels = np.arange(1, height * width + 1, dtype=np.int32).reshape(1, height, width)
    return copies(Clip(np.zeros((1, height, width, 3), dtype=np.uint8), labels, number=0), length)


@pytest.mark.parametrize("augment", ALL, ids=name)
@pytest.mark.parametrize("size_hw", [(60, 90), (90, 60), (48, 48), (20, 31), (47, 333)], ids=str)
def test_every_clip_comes_out_square_in_the_same_types(augment, size_hw):
    for seed in range(4):
        clip = augment(noise_clip(3, *size_hw), seeded(seed))
        assert clip.frames_thw3.shape == (3, SIZE, SIZE, 3)
        assert clip.frames_thw3.dtype == np.uint8
        assert clip.labels_thw.shape == (3, SIZE, SIZE)
        assert clip.labels_thw.dtype == np.int32
        assert clip.number == 17


@pytest.mark.parametrize("augment", [*ALL, ColourJitter(0.5, 0.5, 0.5, 0.3)], ids=name)
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(augment):
    clip = noise_clip()
    once, again, other = (augment(clip, seeded(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(once.frames_thw3, again.frames_thw3)
    np.testing.assert_array_equal(once.labels_thw, again.labels_thw)
    assert (once.frames_thw3 != other.frames_thw3).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(24, 80), st.integers(24, 80))
@pytest.mark.parametrize(
    "augment", [Stable(SIZE), LargeScaleJitter(SIZE), ColourJitter(0.4, 0.4, 0.4, 0.2, grey=0.2)], ids=name
)
def test_copies_of_one_image_stay_identical(augment, seed, height, width):
    clip = augment(copies(noise_clip(1, height, width)), seeded(seed))
    assert (clip.frames_thw3 == clip.frames_thw3[:1]).all()
    assert (clip.labels_thw == clip.labels_thw[:1]).all()


@pytest.mark.parametrize("augment", [Aggressive(SIZE), Static(SIZE)], ids=name)
def test_copies_of_one_image_begin_to_move(augment):
    clip = augment(copies(noise_clip()), seeded(0))
    for first, second in ((0, 1), (1, 2), (0, 2)):
        assert (clip.labels_thw[first] != clip.labels_thw[second]).mean() > 0.1


@pytest.mark.parametrize("augment", COLOURLESS, ids=name)
def test_masks_stay_on_their_pictures_to_the_pixel(augment):
    """Along a straight edge of white on black the picture passes middle grey just where the nearest label changes."""
    labels = np.zeros((3, 130, 170), dtype=np.int32)
    labels[:, 30:95, 40:120] = 1
    frames = np.where(labels[..., None] == 1, 255, 0).astype(np.uint8).repeat(3, axis=-1)
    outline = wrong = 0
    for seed in range(20):
        clip = augment(Clip(frames, labels, number=seed), seeded(seed))
        object_thw = clip.labels_thw == 1
        outline += (object_thw[:, 1:] != object_thw[:, :-1]).sum() + (
            object_thw[:, :, 1:] != object_thw[:, :, :-1]
        ).sum()
        wrong += (object_thw != (clip.frames_thw3 > 127).all(-1)).sum()
    assert outline > 2000
    assert wrong < 0.03 * outline  # corners are round; half a pixel off would be a quarter of the outline or more


@pytest.mark.parametrize("augment", COLOURLESS, ids=name)
def test_each_object_keeps_its_colour(augment):
    """Five colours, the background's that of the fill: away from edges, a pixel has its label's."""
    colours = np.array([FILL, (255, 0, 0), (0, 200, 0), (40, 60, 250), (250, 250, 0)], dtype=np.uint8)
    blocks = seeded(2).integers(0, 5, (3, 5, 6))
    labels = blocks.repeat(26, axis=1).repeat(26, axis=2).astype(np.int32)
    judged = 0
    for seed in range(8):
        clip = augment(Clip(colours[labels], labels, number=seed), seeded(seed))
        for frame, ids in zip(clip.frames_thw3, clip.labels_thw.astype(np.uint8), strict=True):
            around = np.ones((7, 7), dtype=np.uint8)
            inner = cv2.erode(ids, around) == cv2.dilate(ids, around)
            inner[[0, 1, 2, -3, -2, -1]] = inner[:, [0, 1, 2, -3, -2, -1]] = False  # what lies beyond is not known
            assert np.abs(frame[inner].astype(int) - colours[ids[inner]]).max(initial=0) <= 1
            judged += int((inner & (ids > 0)).sum())
    assert judged > 1000


@pytest.mark.parametrize("augment", COLOURLESS, ids=name)
def test_half_of_the_clips_are_mirrored(augment):
    labels = np.ones((1, 30, 40), dtype=np.int32)
    labels[..., 20:] = 2
    clip = Clip(np.zeros((1, 30, 40, 3), dtype=np.uint8), labels, number=0)
    mirrored = []
    for seed in range(200):
        ids = augment(clip, seeded(seed)).labels_thw[0]
        if (ids == 1).any() and (ids == 2).any():
            mirrored.append(np.nonzero(ids == 1)[1].mean() > np.nonzero(ids == 2)[1].mean())
    assert len(mirrored) > 60
    assert 0.35 < np.mean(mirrored) < 0.65


def test_a_stable_crop_that_is_not_turned_lies_in_the_frame_and_keeps_to_its_area_and_aspect():
    height, width = 120, 150
    augment = Stable(SIZE, degrees=0, shear=0)
    areas = []
    for seed in range(100):
        ids = augment(located(height, width, 1), seeded(seed)).labels_thw[0]
        assert (ids > 0).all()
        rows, columns = np.divmod(ids - 1, width)
        tall, wide = ((np.ptp(axis) + 1) * SIZE / (SIZE - 1) for axis in (rows, columns))
        assert 0.7 < wide / tall < 1.4
        areas.append(tall * wide / (height * width))
    assert 0.14 < min(areas) < 0.3
    assert max(areas) > 0.8


def turns(ids: np.ndarray, width: int) -> tuple[float, float]:
    """How far a picture of ``located`` was turned and sheared by a map that scales both axes alike, in degrees."""
    rows, columns = np.nonzero(ids)
    source_y, source_x = np.divmod(ids[rows, columns] - 1, width)
    known = np.stack([source_x, source_y, np.ones_like(source_x)], axis=1).astype(float)
    by_x, by_y, _ = np.linalg.lstsq(known, np.stack([columns, rows], axis=1).astype(float), rcond=None)[0]
    if np.linalg.det([by_x, by_y]) < 0:  # mirrored
        by_x = -by_x
    angle = np.degrees(np.arctan2(by_x[1], by_x[0]))
    lean = np.degrees(np.arctan2(by_y[1], by_y[0])) - angle  # 90° if not sheared
    return float(angle), float(90 - abs(lean))


@pytest.mark.parametrize(
    "augment, degrees, shear",
    [
        pytest.param(Static(64, bent=0), 20, 10, id="static"),
        pytest.param(Aggressive(64, area=(0.99, 1.0)), 15, 10, id="aggressive"),
        pytest.param(Stable(64, area=(0.99, 1.0)), 25, 20, id="stable"),
    ],
)
def test_a_turn_and_a_shear_use_their_range_and_no_more(augment, degrees, shear):
    side = 64
    found = np.abs([turns(augment(located(side, side, 1), seeded(seed)).labels_thw[0], side) for seed in range(80)])
    slack = 6  # a crop of almost all is not quite square
    assert degrees * 0.8 < found[:, 0].max() < degrees + slack
    assert shear * 0.8 < found[:, 1].max() < shear + slack


def test_aggressive_turns_every_frame_about_the_centre_of_one_crop():
    clip = Aggressive(49)(located(90, 120, 6), seeded(1))
    rows, columns = np.divmod(clip.labels_thw[:, 24, 24] - 1, 120)
    assert np.ptp(rows) <= 1
    assert np.ptp(columns) <= 1
    corners = clip.labels_thw[:, 5, 5]
    assert len(np.unique(corners)) == 6


def test_aggressive_shows_nothing_from_outside_its_crop():
    clip = Aggressive(SIZE, area=(0.5, 0.5))(located(90, 120, 20), seeded(1))
    rows, columns = np.divmod(clip.labels_thw[clip.labels_thw > 0] - 1, 120)
    assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == pytest.approx(0.5 * 90 * 120, rel=0.04)
    assert (clip.labels_thw == 0).any()


def test_static_leaves_out_what_the_first_canvas_cut_off():
    """At twice the size a canvas shows the middle half; a frame at half the size does not bring the rest back."""
    clip = Static(64, clip_scale=(2, 2), scale=(0.5, 0.5), bent=0)(located(80, 80), seeded(0))
    rows, columns = np.divmod(clip.labels_thw[clip.labels_thw > 0] - 1, 80)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 59, 20, 59)
    assert (clip.labels_thw == 0).any()


def test_static_scales_clip_and_frame():
    """Both scales are even in ½ … 2; the short side of the image becomes the side of the result."""
    scales = []
    for seed in range(150):
        ids = Static(SIZE, degrees=0, shear=0, bent=0)(located(48, 150, 1), seeded(seed)).labels_thw[0]
        rows, columns = np.nonzero(ids)
        scales.append(np.polyfit((ids[rows, columns] - 1) // 150, rows, 1)[0])
    assert 0.25 <= min(scales) < 0.45
    assert 2.5 < max(scales) <= 4.1
    assert np.median(scales) == pytest.approx(1.5, abs=0.2)  # of the product of two


def test_static_cuts_a_long_image_anywhere():
    augment = Static(SIZE, clip_scale=(1, 1), scale=(1, 1), degrees=0, shear=0, bent=0)
    lefts = (augment(located(48, 150, 60), seeded(0)).labels_thw[:, 0].min(1) - 1) % 150
    assert lefts.min() < 10
    assert lefts.max() > 92
    assert len(np.unique(lefts)) > 25


@pytest.mark.parametrize("augment", [Stable, Aggressive], ids=["stable", "aggressive"])
def test_one_sampling_is_as_soft_as_the_two_of_the_publication(augment):
    """An antialiased resize to the same size blurs nothing, a turn by a broken pixel does: by 1/6 px² on average."""
    frames = np.zeros((1, 49, 49, 3), dtype=np.uint8)
    frames[0, 24, 24] = 255
    clip = Clip(frames, np.zeros((1, 49, 49), dtype=np.int32), number=0)
    plain = {"frame_colour": PLAIN} if augment is Aggressive else {"colour_again": PLAIN}
    whole = augment(49, degrees=0, shear=0, area=(1, 1), colour=PLAIN, **plain)
    across = whole(clip, seeded(0)).frames_thw3[0, :, :, 0].sum(0, dtype=float)
    assert (across * (np.arange(49) - 24) ** 2).sum() / across.sum() == pytest.approx(1 / 6, abs=0.01)


@pytest.mark.parametrize("augment", [Aggressive(SIZE), Static(SIZE)], ids=name)
@pytest.mark.parametrize("alike", [True, False], ids=["once per clip", "for every frame"])
def test_colours_change_once_per_clip_and_again_for_every_frame(augment, alike):
    bright = ColourJitter(brightness=0.3)
    augment = replace(augment, colour=bright if alike else PLAIN, frame_colour=PLAIN if alike else bright)
    clip = located(60, 60)
    clips = [augment(replace(clip, frames_thw3=clip.frames_thw3 + np.uint8(100)), seeded(seed)) for seed in range(10)]
    levels = np.array(
        [[np.median(frame[ids > 0]) for frame, ids in zip(c.frames_thw3, c.labels_thw, strict=True)] for c in clips]
    )
    assert np.ptp(levels) > 30
    assert (np.ptp(levels, axis=1) == 0).all() == alike


@pytest.mark.parametrize(
    "bent, expected", [pytest.param(0.0, False, id="never bent"), pytest.param(1.0, True, id="always bent")]
)
def test_a_bent_frame_is_no_longer_a_matrix_of_its_image(bent, expected):
    """Equal steps in an unbent frame are equal steps in the image."""
    augment = Static(64, clip_scale=(1, 1), scale=(1.5, 1.5), bent=bent, bend=0.05)
    ids = augment(located(80, 80, 1), seeded(3)).labels_thw[0]
    rows, columns = np.nonzero(ids)
    known = np.stack([columns, rows, np.ones_like(rows)], axis=1).astype(float)
    source = np.stack(np.divmod(ids[rows, columns] - 1, 80), axis=1).astype(float)
    fitted = known @ np.linalg.lstsq(known, source, rcond=None)[0]
    assert bool(np.abs(fitted - source).max() > 1.5) is expected


def test_what_is_outside_the_frame_is_filled():
    white = Clip(np.full((1, 40, 60, 3), 255, dtype=np.uint8), np.ones((1, 40, 60), dtype=np.int32), number=0)
    clip = LargeScaleJitter(60, scale=(0.5, 0.5))(white, seeded(0))
    assert (clip.labels_thw == 1).sum() == 20 * 30
    outside = cv2.dilate(clip.labels_thw[0].astype(np.uint8), np.ones((5, 5))) == 0
    assert (clip.frames_thw3[0][outside] == FILL).all()
    assert (clip.frames_thw3[0][cv2.erode(clip.labels_thw[0].astype(np.uint8), np.ones((5, 5))) == 1] == 255).all()


def test_a_large_clip_is_cut_from_anywhere_and_a_small_one_lies_anywhere():
    lowest = []
    for scale in (2.0, 0.5):
        clips = [LargeScaleJitter(40, scale=(scale, scale))(located(40, 40, 1), seeded(seed)) for seed in range(60)]
        rows = [(np.nonzero(clip.labels_thw[0])[0].min(), (clip.labels_thw.max() - 1) // 40) for clip in clips]
        lowest.append(rows)
    assert {first for first, _ in lowest[0]} == {0}
    assert min(last for _, last in lowest[0]) <= 21
    assert max(last for _, last in lowest[0]) >= 38
    assert min(first for first, _ in lowest[1]) <= 1
    assert max(first for first, _ in lowest[1]) >= 19


def grey_of(picture: np.ndarray) -> np.ndarray:
    return np.asarray(picture @ np.array([0.299, 0.587, 0.114]))


def hue_turned(picture: np.ndarray, turn: float) -> np.ndarray:
    """Through HSV in broken numbers."""
    hsv = cv2.cvtColor((picture / 255).astype(np.float32), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360 * turn) % 360
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255)


@pytest.mark.parametrize(
    "jitter, changed, span, error",
    [
        pytest.param(ColourJitter(brightness=0.3), lambda p, f: f * p, (0.7, 1.3), 1, id="brightness"),
        pytest.param(
            ColourJitter(contrast=0.3), lambda p, f: f * p + (1 - f) * grey_of(p).mean(), (0.7, 1.3), 1, id="contrast"
        ),
        pytest.param(
            ColourJitter(saturation=0.3),
            lambda p, f: f * p + (1 - f) * grey_of(p)[..., None],
            (0.7, 1.3),
            1,
            id="saturation",
        ),
        pytest.param(ColourJitter(hue=0.2), hue_turned, (-0.2, 0.2), 6, id="hue"),  # bytes of HSV are coarse
        pytest.param(ColourJitter(grey=1.0), lambda p, f: grey_of(p)[..., None] + 0 * p, (1, 1), 1, id="grey"),
        pytest.param(ColourJitter(), lambda p, f: p, (1, 1), 0, id="nothing asked for"),
    ],
)
def test_a_colour_changes_by_one_factor_of_the_range(jitter, changed, span, error):
    picture = seeded(8).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    clip = Clip(picture[None], np.zeros((1, 16, 16), dtype=np.int32), number=0)
    factors = np.linspace(span[0], span[1], 401)
    candidates = np.stack([np.clip(changed(picture.astype(float), factor), 0, 255) for factor in factors])
    best = []
    for seed in range(12):
        differences = np.abs(candidates - jitter(clip, seeded(seed)).frames_thw3[0]).max(axis=(1, 2, 3))
        assert differences.min() <= error
        best.append(factors[differences.argmin()])
    if span[0] != span[1]:
        assert np.ptp(best) > 0.5 * (span[1] - span[0])


def test_brightness_never_turns_negative():
    clip = noise_clip(1)
    for seed in range(20):
        frames = ColourJitter(brightness=5.0)(clip, seeded(seed)).frames_thw3
        assert (np.diff(frames.ravel()[np.argsort(clip.frames_thw3.ravel())].astype(int)) >= 0).all()


def test_the_second_jitter_of_stable_repeats_the_draw_of_the_first():
    """The authors seed the generator again before it, so a brightness of f becomes one of f²."""
    grey = Clip(np.full((1, 64, 64, 3), 100, dtype=np.uint8), np.zeros((1, 64, 64), dtype=np.int32), number=0)
    bright = ColourJitter(brightness=0.1)
    once = Stable(SIZE, degrees=0, shear=0, colour=bright, colour_again=PLAIN)
    twice = replace(once, colour_again=bright)
    factors = []
    for seed in range(10):
        single, double = (augment(grey, seeded(seed)).frames_thw3[0, 24, 24, 0] / 100 for augment in (once, twice))
        assert double == pytest.approx(single**2, abs=0.02)
        factors.append(single)
    assert np.ptp(factors) > 0.1


def two_objects(length: int = 5, height: int = 40, width: int = 50) -> Clip:
    """Objects 4 (green) and 9 (blue) on white, at rest."""
    labels = np.zeros((length, height, width), dtype=np.int32)
    labels[:, 10:22, 8:20] = 4
    labels[:, 18:32, 28:44] = 9
    colours = np.full((10, 3), 255, dtype=np.uint8)
    colours[4], colours[9] = (0, 255, 0), (0, 0, 255)
    return Clip(colours[labels], labels, number=3)


def dark_clip(length: int = 5) -> Clip:
    labels = np.zeros((length, 60, 80), dtype=np.int32)
    labels[:, 20:40, 30:50] = 2
    return Clip(np.zeros((length, 60, 80, 3), dtype=np.uint8), labels, number=8)


def test_pasted_objects_are_new_ids_over_the_clip():
    clip, counts = dark_clip(), set()
    for seed in range(30):
        pasted = CopyPaste()(clip, seeded(seed), other=two_objects())
        new = pasted.labels_thw >= 3
        np.testing.assert_array_equal(pasted.labels_thw[~new], clip.labels_thw[~new])
        np.testing.assert_array_equal(pasted.frames_thw3[~new], clip.frames_thw3[~new])
        assert (pasted.frames_thw3[new].max(-1) > 60).all()  # of the other clip
        assert pasted.number == 8
        counts.add(len(np.unique(pasted.labels_thw[new])))
        if counts == {2}:  # ids keep their order: the green one first
            assert pasted.frames_thw3[pasted.labels_thw == 3].mean(0).argmax() == 1
    assert counts == {1, 2}


def test_a_pasted_object_moves_in_a_straight_line():
    pasted = CopyPaste(most=1, scale=(0.6, 0.6), reach=0.15)(dark_clip(), seeded(5), other=two_objects())
    middles = np.array([np.mean(np.nonzero(labels == 3), axis=1) for labels in pasted.labels_thw])
    steps = np.diff(middles, axis=0)
    assert np.hypot(*steps[0]) > 0.5
    np.testing.assert_allclose(steps, steps.mean(0) + np.zeros_like(steps), atol=0.6)


def test_no_more_objects_are_pasted_than_asked_for():
    for seed in range(10):
        pasted = CopyPaste(most=1)(dark_clip(), seeded(seed), other=two_objects())
        assert pasted.labels_thw.max() <= 3


def test_a_clip_that_begins_without_objects_pastes_nothing():
    other = two_objects()
    late = other.labels_thw.copy()
    late[0] = 0
    clip = dark_clip()
    pasted = CopyPaste()(clip, seeded(0), other=replace(other, labels_thw=late))
    np.testing.assert_array_equal(pasted.frames_thw3, clip.frames_thw3)
    np.testing.assert_array_equal(pasted.labels_thw, clip.labels_thw)


def test_clips_of_different_lengths_are_not_pasted():
    with pytest.raises(ValueError, match="4 frames to paste over one of 5"):
        CopyPaste()(dark_clip(5), seeded(0), other=two_objects(4))
