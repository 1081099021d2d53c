import hashlib
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskstream.metrics import GenericVos, SegmentationTrackingQuality, VideoPanopticQuality
from maskstream.synthetic.render import SyntheticFrame, compress, flow_of, nearest_part, render
from maskstream.synthetic.scene import WORLD, Scene, ShapeKind
from maskstream.types import InputError, unpack_masks

from .scenes import GRASS, LOWER_HALF, SKY, SQUARE, WHOLE, Body, build, disc, hand_made, random_scene, with_camera
from .test_shapes import room_of

SMALL = (60, 100)
seeds = st.integers(0, 10**6)


def first(scene: Scene, size_hw: tuple[int, int] = SMALL, *, index: int = 0) -> SyntheticFrame:
    return next(render(scene, size_hw, start=index, stop=index + 1))


def ids_of(frame: SyntheticFrame) -> NDArray[np.int32]:
    ids: NDArray[np.int32] = frame.annotation.segmentation.panoptic_map().numpy()
    return ids


def amodal_of(frame: SyntheticFrame) -> dict[int, NDArray[np.bool_]]:
    return dict(zip(frame.amodal_ids, unpack_masks(frame.amodal).numpy(), strict=True))


def centres(size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """``float32[H, W, 2]``, x and y of pixel centres as the contract says."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float32)
    points: NDArray[np.float32] = np.stack([columns + 0.5, rows + 0.5], axis=-1) / np.float32(size_hw[0])
    return points


def parts_seen(scene: Scene, frame: int, size_hw: tuple[int, int]) -> NDArray[np.int64]:
    return nearest_part(scene, frame, centres(size_hw).reshape(-1, 2)).reshape(size_hw)


def digest(frame: SyntheticFrame) -> str:
    everything = (frame.frame.image, ids_of(frame), frame.flow, frame.occluded, frame.amodal.bits.numpy())
    return hashlib.sha256(b"".join(array.tobytes() for array in everything)).hexdigest()[:16]


@pytest.mark.parametrize(
    "scene, size_hw, digests",
    [
        pytest.param(
            hand_made(),
            (72, 128),
            ["97b125d455c73f38", "8928b9e53b1ab204", "1b701e300060a8a1", "eb6257e6d7b58225"],
            id="truth",
        ),
        pytest.param(
            with_camera(hand_made()),
            (50, 67),
            ["c70db4c90258e5d9", "be30eed8b8ffd9f6", "7e2327fa7431d796", "1f0f9cf40430d2b2"],
            id="blur, light, noise and a cut",
        ),
    ],
)
def test_every_machine_draws_these_bytes(scene, size_hw, digests):
    # Computed by this code when it was written. If one changes, so does every synthetic data set of a release.
    assert [digest(frame) for frame in render(scene, size_hw)] == digests


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_masks_are_what_every_pixel_says_by_itself(seed):
    scene, size = random_scene(seed, frames=2), (18, 32)
    frame, parts, points = first(scene, size, index=1), scene.parts, centres((18, 32)).astype(float)
    things = {entity.id for entity in scene.entities if entity.is_thing}
    ids, amodal = ids_of(frame), amodal_of(frame)
    drawn = [p for p in range(len(parts)) if parts.shown_tp[1, p] and not parts.shadow_p[p]]
    for row, column in np.ndindex(size):
        rooms = {p: room_of(parts, p, parts.place_tp23[1, p], *points[row, column]) for p in drawn}
        if min(map(abs, rooms.values())) < 1e-5:
            continue  # on an outline: rounding decides
        inside = [int(parts.entity_p[p]) for p, room in rooms.items() if room >= 0]
        assert ids[row, column] == (inside[-1] if inside else 0)
        assert {entity for entity, mask in amodal.items() if mask[row, column]} == set(inside) & things


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_depth_order_explains_every_overlap(seed):
    scene = random_scene(seed)
    for frame in render(scene, SMALL):
        ids, amodal = ids_of(frame), amodal_of(frame)
        order = [entity.id for entity in scene.entities]
        assert list(frame.depth_order) == [entity for entity in order if (ids == entity).any()]
        assert list(frame.amodal_ids) == [entity for entity in order if entity in amodal]
        nearest = np.zeros(SMALL, np.int32)  # the stuff of these scenes is behind all things
        for entity in frame.amodal_ids:
            nearest[amodal[entity]] = entity
        np.testing.assert_array_equal(ids[nearest > 0], nearest[nearest > 0])
        assert not np.isin(ids[nearest == 0], frame.amodal_ids).any()


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_a_point_that_follows_the_flow_meets_its_own_part_or_is_occluded(seed):
    scene, (height, width) = random_scene(seed), SMALL
    frame, points = first(scene), centres(SMALL).reshape(-1, 2)
    here = nearest_part(scene, 0, points)
    there = points + flow_of(scene, 0, points, here)
    np.testing.assert_allclose(frame.flow.reshape(-1, 2), (there - points) * height, atol=1e-4)
    inside_picture = (there >= 0).all(axis=1) & (there[:, 0] < width / height) & (there[:, 1] < 1)
    shown = scene.parts.shown_tp[1, here] & (here >= 0)
    meets = (nearest_part(scene, 1, there) == here) & inside_picture & shown
    # A point on an outline may round to either side.
    assert (meets == ~frame.occluded.reshape(-1)).mean() > 0.999


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_warping_the_next_frame_by_the_flow_meets_this_one_where_it_is_visible(seed):
    scene, size = random_scene(seed, frames=2), (120, 200)
    bare = replace(scene, parts=replace(scene.parts, shown_tp=scene.parts.shown_tp & ~scene.parts.shadow_p))
    now, then = render(bare, size)
    x, y = np.moveaxis(now.flow, -1, 0) + np.mgrid[: size[0], : size[1]].astype(np.float32)[::-1]
    warped = cv2.remap(then.frame.image, x, y, cv2.INTER_LINEAR)
    smooth_now, smooth_then = (inner(parts_seen(bare, index, size)) for index in (0, 1))
    visible = ~now.occluded & smooth_now & (cv2.remap(smooth_then.astype(np.float32), x, y, cv2.INTER_LINEAR) == 1)
    difference = np.abs(warped.astype(int) - now.frame.image)[visible]
    assert visible.mean() > 0.3
    # Interpolated twice, the peaks of stripes get rounder; and the tip of a part may colour a pixel and own none.
    assert np.quantile(difference, 0.999) <= 8
    assert difference.mean() < 0.6


def inner(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pixels all of whose neighbours show the same part."""
    values = labels.astype(np.float32)
    block = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(values, block) == cv2.erode(values, block))


def test_standing_still_is_a_flow_of_zero_and_hides_nothing():
    scene = build([Body(1, ShapeKind.EVERYWHERE), Body(2, ShapeKind.ELLIPSE, lambda t: disc(0.3, 0.3, 0.17))], (SKY, 1))
    frame = first(scene)
    assert not frame.flow.any() and not frame.occluded.any()


def test_flow_is_in_pixels_and_what_a_thing_moves_over_is_occluded():
    square = Body(2, ShapeKind.POLYGON, lambda t: disc(0.5 + t / 10, 0.5, 0.2), SQUARE)
    frame = first(build([Body(1, ShapeKind.EVERYWHERE), square], (SKY, 1)), (20, 30))
    square_mask = ids_of(frame) == 2
    assert square_mask.sum() == 64
    np.testing.assert_allclose(frame.flow[square_mask], np.broadcast_to([2, 0], (64, 2)), atol=1e-5)
    covered = np.zeros((20, 30), np.bool_)
    covered[6:14, 14:16] = True
    np.testing.assert_array_equal(frame.occluded, covered)


def test_what_leaves_the_picture_is_occluded_and_keeps_its_flow():
    frame = first(build([Body(1, ShapeKind.EVERYWHERE, lambda t: ((1, 0, t / 10), (0, 1, -t / 20)))], (SKY,)), (20, 30))
    np.testing.assert_allclose(frame.flow, np.broadcast_to([2, -1], (20, 30, 2)), atol=1e-5)
    expected = np.zeros((20, 30), np.bool_)
    expected[:, 28:] = expected[0] = True
    np.testing.assert_array_equal(frame.occluded, expected)


def test_a_part_that_is_not_shown_next_is_occluded_and_one_that_comes_covers():
    bodies = [
        Body(1, ShapeKind.EVERYWHERE),
        Body(2, ShapeKind.ELLIPSE, lambda t: disc(0.4 + t, 0.5, 0.2), shown=lambda t: t == 0),
        Body(3, ShapeKind.ELLIPSE, lambda t: disc(1.2, 0.5, 0.2), shown=lambda t: t == 1),
    ]
    scene = build(bodies, (SKY, 1, 2), frames=2)
    now, then = render(scene, SMALL)
    assert now.depth_order == (1, 2) and now.amodal_ids == (2,)
    assert then.depth_order == (1, 3) and then.amodal_ids == (3,)
    np.testing.assert_array_equal(now.occluded, (ids_of(now) == 2) | (ids_of(then) == 3))
    assert not now.flow.any()


def test_nothing_follows_the_last_frame_nor_goes_across_a_cut():
    scene = replace(random_scene(3, frames=4), cuts=(2,))
    follows = [not frame.occluded.all() for frame in render(scene, SMALL)]
    moves = [frame.flow.any() for frame in render(scene, SMALL)]
    assert follows == moves == [True, False, True, False]
    assert not flow_of(scene, 1, np.array([[0.5, 0.5]], np.float32), np.array([1])).any()


def test_what_belongs_to_no_entity_is_void_and_no_part_at_all_is_black():
    bodies = [
        Body(0, ShapeKind.POLYGON, lambda t: ((1, 0, 0), (0, 1, 0.5)), LOWER_HALF, colour=(1, 1, 1)),
        Body(1, ShapeKind.ELLIPSE, lambda t: disc(0.8, 0.5, 0.2)),
    ]
    frame = first(build(bodies, (1,)))
    void, ids = frame.annotation.void, ids_of(frame)
    assert void is not None
    np.testing.assert_array_equal(void.numpy(), ids == 0)
    assert not frame.frame.image[:29, :30].any() and frame.frame.image[31:, :30].all()
    assert frame.occluded[:29, :30].all() and not frame.occluded[31:, :30].any()
    assert first(hand_made()).annotation.void is None


def test_a_frame_says_categories_things_and_ids_that_are_track_ids():
    segments = first(hand_made()).annotation.segmentation.segments
    assert [(s.id, s.track_id, s.category, s.is_thing) for s in segments] == [
        (1, 1, SKY, False),
        (2, 2, GRASS, False),
        (3, 3, 1, True),
        (4, 4, 2, True),
    ]


def test_a_thing_outside_the_picture_leaves_no_trace():
    bodies = [Body(1, ShapeKind.EVERYWHERE), Body(2, ShapeKind.ELLIPSE, lambda t: disc(-0.3, 0.5, 0.25))]
    frame = first(build(bodies, (SKY, 1)))
    assert frame.depth_order == (1,) and frame.amodal_ids == () and frame.points == {}
    assert tuple(frame.amodal.bits.shape) == (0, 60, 13)


def test_a_hidden_thing_has_an_amodal_mask_and_no_segment():
    bodies = [
        Body(1, ShapeKind.EVERYWHERE),
        Body(2, ShapeKind.ELLIPSE, lambda t: disc(0.5, 0.5, 0.1)),
        Body(3, ShapeKind.ELLIPSE, lambda t: disc(0.5, 0.5, 0.2)),
    ]
    frame = first(build(bodies, (SKY, 1, 2)))
    assert frame.depth_order == (1, 3) and set(frame.points) == {3}
    assert amodal_of(frame)[2].sum() == pytest.approx(math.pi * 36, rel=0.1)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_points_are_inside_their_things_as_deep_as_any(seed):
    frame = first(random_scene(seed), (40, 60))
    ids = ids_of(frame)
    assert set(frame.points) == set(frame.depth_order) & set(frame.amodal_ids)
    for entity, (x, y) in frame.points.items():
        others = np.argwhere(np.pad(ids, 1, constant_values=-1) != entity) - 1
        depths = {tuple(pixel): ((others - pixel) ** 2).sum(axis=1).min() for pixel in np.argwhere(ids == entity)}
        assert depths[y, x] == max(depths.values())


@pytest.mark.parametrize("start, stop", [(0, 2), (1, 4), (3, 4), (2, 2)])
def test_a_frame_does_not_depend_on_which_others_are_drawn(start, stop):
    scene = with_camera(random_scene(11, frames=4))
    every = [digest(frame) for frame in render(scene, SMALL)]
    some = list(render(scene, SMALL, start=start, stop=stop))
    assert [digest(frame) for frame in some] == every[start:stop]
    assert [frame.frame.index for frame in some] == list(range(start, stop))
    assert [frame.frame.timestamp for frame in some] == [index / 24 for index in range(start, stop)]


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_the_camera_changes_the_picture_and_no_truth(seed):
    scene = random_scene(seed)
    plain, filmed = first(scene), first(replace(with_camera(scene), cuts=()))
    assert (plain.frame.image != filmed.frame.image).any()
    np.testing.assert_array_equal(ids_of(plain), ids_of(filmed))
    np.testing.assert_array_equal(plain.flow, filmed.flow)
    np.testing.assert_array_equal(plain.occluded, filmed.occluded)
    assert plain.points == filmed.points


def grey(*bodies: Body, frames: int = 2) -> Scene:
    """Parts over white stuff, without grain: shade 1 everywhere."""
    white = Body(1, ShapeKind.EVERYWHERE, colour=(1, 1, 1))
    scene = build([white, *bodies], (SKY, 1), frames=frames)
    textures = scene.textures.copy()
    textures[0] = 127
    return replace(scene, textures=textures)


def test_outlines_are_smooth_over_a_pixel():
    edge = Body(2, ShapeKind.POLYGON, lambda t: ((1, 0, 0), (0, 1, 0.5 + 0.25 / 20)), LOWER_HALF, (0, 0, 0))
    column = first(grey(edge), (20, 30)).frame.image[8:13, 15, 0]
    np.testing.assert_allclose(column, [255, 255, 255 / 4, 0, 0], atol=1)


def test_a_shadow_darkens_to_sixty_percent_and_changes_no_truth():
    shadow = Body(0, ShapeKind.ELLIPSE, lambda t: disc(0.5 + t / 8, 0.5, 0.3), shadow=True)
    frame = first(grey(shadow))
    assert frame.frame.image[30, 30].tolist() == [153] * 3 and frame.frame.image[30, 80].tolist() == [255] * 3
    assert frame.depth_order == (1,) and not frame.occluded.any() and not frame.flow.any()


def test_blur_is_the_mean_of_the_open_shutter():
    bar = Body(2, ShapeKind.POLYGON, lambda t: ((0.1, 0, 0.5 + t * 0.4), (0, 9, 0)), SQUARE, (0, 0, 0))
    row = first(replace(grey(bar), shutter=1.0), (20, 40)).frame.image[10, :, 0].astype(float)
    # From x = 8 … 12 it goes by 8 pixels; at each of four moments it has gone by 2 more.
    covered = np.array([[8 + 2 * k <= x < 12 + 2 * k for x in range(40)] for k in range(4)]).mean(axis=0)
    np.testing.assert_allclose(row, 255 * (1 - covered), atol=1)


def test_light_multiplies_each_colour():
    scene = grey(frames=1)
    lit = first(replace(scene, light_t3=np.array([[0.5, 0.25, 2]], np.float32)))
    assert lit.frame.image[5, 5].tolist() == [127, 64, 255]


def test_noise_is_of_the_deviation_asked_for_and_another_on_every_frame():
    scene = replace(grey(), noise=8, light_t3=np.full((2, 3), 0.5, np.float32))
    pictures = [frame.frame.image[..., 0].astype(float) for frame in render(scene, (100, 160))]
    for picture in pictures:
        assert picture.mean() == pytest.approx(127.5, abs=0.6)
        assert picture.std() == pytest.approx(8, abs=0.3)
    assert abs(np.corrcoef(pictures[0].ravel(), pictures[1].ravel())[0, 1]) < 0.05
    other = first(replace(scene, seed=1), (100, 160)).frame.image[..., 0].astype(float)
    assert abs(np.corrcoef(pictures[0].ravel(), other.ravel())[0, 1]) < 0.05


def tile_at(values: NDArray[np.uint8], s: float, t: float, *, mirrored: bool) -> float:
    """Bilinear look-up, texel by texel."""

    def texel(column: int, row: int) -> float:
        folded = [min(n % 128, 127 - n % 128) if mirrored else n % 64 for n in (row, column)]
        return float(values[folded[0], folded[1]])

    x, y = math.floor(s), math.floor(t)
    right, down = s - x, t - y
    upper = texel(x, y) * (1 - right) + texel(x + 1, y) * right
    lower = texel(x, y + 1) * (1 - right) + texel(x + 1, y + 1) * right
    return upper * (1 - down) + lower * down


@pytest.mark.parametrize("photo", [-1, 0], ids=["textures repeat", "photos are mirrored"])
def test_tiles_are_looked_up_in_the_coordinates_of_the_part(photo):
    def place(frame: int):
        return ((0.9, 0.2, 0.8), (-0.3, 1.1, 0.5))

    body = Body(1, ShapeKind.EVERYWHERE, place, colour=(0, 0, 0), second=(1, 1, 1), texture=2, scale=2.5, photo=photo)
    scene = build([body], (SKY,), frames=1)
    size = (20, 36)
    image, points = first(scene, size).frame.image, centres(size).astype(float)
    tile = scene.textures[2] if photo < 0 else scene.photos[0, :, :, 1]
    (a, b, dx), (c, d, dy) = place(0)
    for row, column in np.ndindex(size):
        x, y = points[row, column, 0] - dx, points[row, column, 1] - dy
        s, t = ((n / (a * d - b * c)) * 2.5 * 64 for n in (d * x - b * y, a * y - c * x))
        shade = 0.7 + 0.6 * tile_at(scene.textures[0], s, t, mirrored=False) / 255
        expected = min(255.0, shade * tile_at(tile, s, t, mirrored=photo >= 0))
        assert image[row, column, 1] == pytest.approx(expected, abs=0.6)


@settings(max_examples=8, deadline=None)
@given(seeds)
def test_truth_given_as_prediction_scores_perfectly(seed):
    panoptic = VideoPanopticQuality(WORLD, windows=(1, 2, math.inf), compat="paper")
    tracking, objects = SegmentationTrackingQuality(WORLD, compat="paper"), GenericVos()
    for frame in render(random_scene(seed, frames=4), SMALL):
        for metric in (panoptic, tracking, objects):
            metric.update("video", frame.frame.index, frame.annotation, frame.annotation.segmentation)
    for metric in (panoptic, tracking, objects):
        metric.end_sequence("video")
        values = [value for value in metric.result().values.values() if not math.isnan(value)]
        assert values and all(value == 1 for value in values)


@pytest.mark.parametrize(
    "arguments, message",
    [
        pytest.param({"size_hw": (0, 10)}, "at least 1×1 pixels", id="no pixels"),
        pytest.param({"size_hw": SMALL, "stop": 9}, "of a scene of 4", id="more frames than there are"),
        pytest.param({"size_hw": SMALL, "start": 3, "stop": 2}, "give 0 ≤ start ≤ stop ≤ 4", id="backwards"),
    ],
)
def test_arguments_out_of_range_are_refused_at_once(arguments, message):
    with pytest.raises(InputError, match=message):
        render(hand_made(), **arguments)


def test_pictures_of_one_pixel_and_of_odd_shapes_are_drawn():
    scene = with_camera(random_scene(2))
    for size in ((1, 1), (3, 200), (90, 2)):
        assert [frame.frame.image.shape for frame in render(scene, size)] == [(*size, 3)] * 3


def test_a_scene_without_parts_is_void():
    frame = first(build([], (), frames=2))
    assert not frame.frame.image.any() and frame.occluded.all() and frame.depth_order == ()


def test_compression_keeps_the_picture_nearly():
    image = first(hand_made(), (120, 200)).frame.image
    good, poor = (np.abs(compress(image, quality).astype(int) - image).mean() for quality in (95, 10))
    assert 0 < good < 2 < poor < 20


def test_shadows_and_parts_not_shown_are_not_the_nearest():
    bodies = [
        Body(1, ShapeKind.EVERYWHERE, lambda t: WHOLE),
        Body(2, ShapeKind.EVERYWHERE, shown=lambda t: t > 0),
        Body(0, ShapeKind.EVERYWHERE, shadow=True),
    ]
    scene = build(bodies, (SKY, GRASS))
    points = np.array([[0.5, 0.5], [90, -3]], np.float32)
    assert nearest_part(scene, 0, points).tolist() == [0, 0]
    assert nearest_part(scene, 1, points).tolist() == [1, 1]
    nothing = build([Body(1, ShapeKind.ELLIPSE)], (1,))
    assert nearest_part(nothing, 0, points).tolist() == [0, -1]


def test_without_motion_only_flow_and_occlusion_differ():
    scene = random_scene(5)
    for with_it, without in zip(render(scene, (24, 40)), render(scene, (24, 40), motion=False), strict=True):
        assert np.array_equal(with_it.frame.image, without.frame.image)
        labels = [one.annotation.segmentation.label_map().numpy() for one in (with_it, without)]
        assert np.array_equal(labels[0], labels[1])
        assert without.occluded.all()
        assert not without.flow.any()
