"""Tube AP: the golden values of YouTube-VIS, brute force, and the rules of the protocol one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from maskstream.metrics import vis_ap
from maskstream.metrics.vis_ap import (
    AREA_RANGES,
    IOU_THRESHOLDS,
    PredictedTube,
    TrueTube,
    VideoInstanceAP,
    average_precision,
    match_tubes,
    mean_area,
    tube_iou,
)
from maskstream.types import (
    RLE,
    CategorySet,
    FrameAnnotation,
    FrameSegmentation,
    InputError,
    Segment,
    decode_rle,
    encode_rle,
)

from .fixtures_tracks import expected, needs_fixtures, ytvis_categories, ytvis_videos

seeds = st.integers(0, 2**32 - 1)
CATEGORIES = CategorySet.from_names(["cat", "dog", "cow"])
GOLDEN = expected("ytvis")
Masks = list[RLE | None]
Video = tuple[list[TrueTube], list[PredictedTube]]


def evaluated(
    videos: list[tuple[int, list[TrueTube], list[PredictedTube]]],
    categories: CategorySet = CATEGORIES,
    *,
    class_agnostic: bool = False,
) -> VideoInstanceAP:
    metric = VideoInstanceAP(categories, class_agnostic=class_agnostic)
    for video_id, truth, predicted in videos:
        metric.update_video(video_id, truth, predicted)
    return metric


# Golden values


@pytest.fixture(scope="module")
def ytvis() -> VideoInstanceAP:
    return evaluated(list(ytvis_videos()), ytvis_categories())


@pytest.fixture(scope="module")
def uvo() -> VideoInstanceAP:
    return evaluated(list(ytvis_videos()), ytvis_categories(), class_agnostic=True)


@needs_fixtures
@pytest.mark.parametrize("name", GOLDEN.get("stats", ["no fixtures"]))
def test_ytvis_statistics_equal_the_reference(ytvis, name):
    assert ytvis.result().values[name] == pytest.approx(GOLDEN["stats"][name], abs=1e-12)


@needs_fixtures
@pytest.mark.parametrize("name", [k for k in GOLDEN.get("class_agnostic_uvo_style", ["no fixtures"]) if k != "note"])
def test_class_agnostic_statistics_equal_the_reference(uvo, name):
    assert uvo.result().values[name] == pytest.approx(GOLDEN["class_agnostic_uvo_style"][name], abs=1e-12)


@needs_fixtures
@pytest.mark.parametrize("category", GOLDEN.get("per_category", ["no fixtures"]))
def test_ytvis_categories_equal_the_reference(ytvis, category):
    row = ytvis.result().per_class[f"cat{category}"]
    for name, value in GOLDEN["per_category"][category].items():
        assert row[name] == pytest.approx(math.nan if value is None else value, abs=1e-12, nan_ok=True)


@needs_fixtures
def test_ytvis_thresholds_equal_the_reference(ytvis):
    values = list(GOLDEN["AP_per_iou_threshold"].values())
    assert ytvis.precision_by_threshold() == pytest.approx(values, abs=1e-12)


@needs_fixtures
@pytest.mark.parametrize("key", GOLDEN.get("tube_iou_matrices_score_sorted_rows", ["no fixtures"]))
def test_ytvis_tube_iou_equals_the_reference(key):
    video, category = (int(part) for part in key.removeprefix("video").split("_cat"))
    truth, predicted = next((truth, predicted) for number, truth, predicted in ytvis_videos() if number == video)
    ranked = sorted((tube for tube in predicted if tube.category == category), key=lambda tube: -tube.score)
    iou = tube_iou([t.masks for t in ranked], [t.masks for t in truth if t.category == category])
    golden = np.array(GOLDEN["tube_iou_matrices_score_sorted_rows"][key], dtype=float).reshape(iou.shape)
    np.testing.assert_allclose(iou, golden, rtol=0, atol=1e-12)


@needs_fixtures
def test_the_reference_is_reached_by_frames_as_well(ytvis):
    metric = VideoInstanceAP(ytvis_categories())
    sizes = {video: next(m["size"] for t in p for m in t.masks if m) for video, _, p in ytvis_videos() if p}
    for video, truth, predicted in ytvis_videos():
        size_hw = (sizes[video][0], sizes[video][1])
        for frame in range(len(predicted[0].masks)):
            tubes = frame_of(frame, size_hw, predicted)
            crowd = frozenset(n + 1 for n, tube in enumerate(truth) if tube.crowd)
            metric.update(str(video), frame, FrameAnnotation(frame_of(frame, size_hw, truth), crowd_ids=crowd), tubes)
        metric.end_sequence(str(video))
    assert metric.result().values == pytest.approx(ytvis.result().values, abs=1e-12)


def frame_of(frame: int, size_hw: tuple[int, int], tubes: Sequence[TrueTube | PredictedTube]) -> FrameSegmentation:
    nothing = torch.zeros(size_hw, dtype=torch.bool)
    masks, segments = [], []
    for number, tube in enumerate(tubes, start=1):
        code = tube.masks[frame]
        masks.append(nothing if code is None else decode_rle([code], size_hw)[0])
        score = tube.score if isinstance(tube, PredictedTube) else None
        segments.append(Segment(number, number, tube.category, score))
    stacked = torch.stack(masks) if masks else torch.zeros((0, *size_hw), dtype=torch.bool)
    return FrameSegmentation.from_masks(frame, tuple(segments), stacked)


# Brute force


def random_tube(rng: np.random.Generator, length: int) -> Masks:
    """Masks of 6×7 pixels, some missing and some empty."""
    shape = (length, 6, 7)
    keep = rng.random(length)
    masks = torch.from_numpy((rng.random(shape) < 0.7) & (keep > 0.2)[:, None, None])
    return [None if k > 0.9 else code for k, code in zip(keep, encode_rle(masks), strict=True)]


def near(rng: np.random.Generator, tube: Sequence[RLE | None]) -> Masks:
    """Another tube that differs in a few pixels."""
    shape = (len(tube), 6, 7)
    flip = torch.from_numpy(rng.random(shape) < rng.choice([0.0, 0.05, 0.2]))
    return [*encode_rle(painted(tube) ^ flip)]


def painted(tube: Sequence[RLE | None]) -> torch.Tensor:
    empty = torch.zeros((6, 7), dtype=torch.bool)
    return torch.stack([empty if code is None else decode_rle([code], (6, 7))[0] for code in tube])


def random_videos(seed: int) -> list[tuple[int, list[TrueTube], list[PredictedTube]]]:
    rng = np.random.default_rng(seed)
    videos = []
    for video in rng.permutation([2, 9, 10])[: rng.integers(1, 4)].tolist():
        length = int(rng.integers(1, 4))
        truth = [
            # Areas as a file states them are free, which is how tiny masks reach every range.
            TrueTube(
                random_tube(rng, length),
                int(rng.integers(1, 3)),
                bool(rng.random() < 0.2),
                [float(a) for a in rng.choice([0, 9000, 40000, 90000], length)] if rng.random() < 0.5 else None,
            )
            for _ in range(rng.integers(0, 4))
        ]
        predicted = [
            PredictedTube(
                near(rng, truth[rng.integers(len(truth))].masks)
                if truth and rng.random() < 0.8
                else random_tube(rng, length),
                int(rng.integers(1, 4)),
                float(rng.choice([0.2, 0.5, 0.9])),
            )
            for _ in range(rng.integers(0, 6))
        ]
        videos.append((video, truth, predicted))
    return videos


def brute_force_iou(one: Masks, other: Masks) -> float:
    first, second = painted(one), painted(other)
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 0.0


def brute_force_area(tube: Masks) -> float:
    areas = [int(mask.sum()) for mask in painted(tube) if mask.any()]
    return sum(areas) / len(areas) if areas else 0.0


def brute_force_class(
    videos: list[tuple[int, list[TrueTube], list[PredictedTube]]],
    category: int,
    threshold: float,
    area: tuple[float, float],
    limit: int,
) -> tuple[float, float] | None:
    """AP and recall of one category at one threshold, word for word."""
    judged: list[tuple[float, bool]] = []
    total = 0
    for _, all_truth, all_predicted in sorted(videos, key=lambda video: video[0]):
        truth = [t for t in all_truth if t.category == category]
        ignored = []
        for t in truth:
            stated = [a for a in t.areas if a] if t.areas is not None else None
            size = brute_force_area(list(t.masks)) if stated is None else sum(stated) / max(1, len(stated))
            ignored.append(t.crowd or not area[0] <= size <= area[1])
        total += ignored.count(False)
        order = [g for g in range(len(truth)) if not ignored[g]] + [g for g in range(len(truth)) if ignored[g]]
        taken: set[int] = set()
        ranked = sorted((p for p in all_predicted if p.category == category), key=lambda p: -p.score)[:100]
        for rank, p in enumerate(ranked):
            best, match = min(threshold, 1 - 1e-10), None
            for g in order:
                if g in taken and not truth[g].crowd:
                    continue
                if match is not None and not ignored[match] and ignored[g]:
                    break
                if (overlap := brute_force_iou(list(p.masks), list(truth[g].masks))) >= best:
                    best, match = overlap, g
            if match is not None:
                taken.add(match)
                is_ignored = ignored[match]
            else:
                is_ignored = not area[0] <= brute_force_area(list(p.masks)) <= area[1]
            if rank < limit and not is_ignored:
                judged.append((p.score, match is not None))
    if not total:
        return None
    judged.sort(key=lambda one: -one[0])
    points, right = [], 0
    for seen, (_, is_right) in enumerate(judged, start=1):
        right += is_right
        points.append((right / total, right / seen))
    sampled = [max((p for r, p in points if r >= level), default=0.0) for level in np.linspace(0, 1, 101)]
    return float(np.mean(sampled)), right / total


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_ap_equals_its_definition_on_tiny_videos(seed):
    videos = random_videos(seed)
    values = evaluated(videos).result().values
    for name, area, limit, which in (
        ("AP", 0, 100, 0),
        ("APs", 1, 100, 0),
        ("APm", 2, 100, 0),
        ("APl", 3, 100, 0),
        ("AR1", 0, 1, 1),
        ("AR10", 0, 10, 1),
        ("AR100", 0, 100, 1),
    ):
        found = [
            one[which]
            for category in (1, 2, 3)
            for threshold in IOU_THRESHOLDS
            if (one := brute_force_class(videos, category, threshold, AREA_RANGES[area], limit)) is not None
        ]
        assert values[name] == pytest.approx(np.mean(found) if found else math.nan, abs=1e-12, nan_ok=True), name


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_scores_do_not_depend_on_how_much_is_computed_at_once(seed):
    videos = random_videos(seed)
    together = evaluated(videos)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_DATA_SETS_AT_ONCE", "_VIDEOS_AT_ONCE", "_CURVE_POINTS_AT_ONCE", "_CODES_AT_ONCE"):
            patch.setattr(vis_ap, name, 1)
        apart = evaluated(videos)
        report, intervals = apart.result(), apart.bootstrap(samples=5)
    assert report.values == pytest.approx(together.result().values, abs=1e-12, nan_ok=True)
    assert report.per_video.keys() == together.result().per_video.keys()
    for video, row in together.result().per_video.items():
        assert report.per_video[video] == pytest.approx(row, abs=1e-12, nan_ok=True)
    for name, interval in together.bootstrap(samples=5).items():
        assert intervals[name] == pytest.approx(interval, abs=1e-12, nan_ok=True)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_row_of_a_video_is_what_it_scores_alone(seed):
    videos = random_videos(seed)
    rows = evaluated(videos).result().per_video
    for video in videos:
        alone = evaluated([video]).result().values
        assert rows[str(video[0])] == pytest.approx(alone, abs=1e-12, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_tube_iou_counts_pixels_and_equals_the_loop_over_pairs(seed):
    rng = np.random.default_rng(seed)
    predicted = [random_tube(rng, 3) for _ in range(rng.integers(0, 4))]
    truth = [near(rng, tube) for tube in predicted[:2]] + [random_tube(rng, 3)]
    iou = tube_iou(predicted, truth)
    assert iou.shape == (len(predicted), len(truth))
    for d, g in np.ndindex(*iou.shape):
        assert iou[d, g] == brute_force_iou(predicted[d], truth[g])
        assert iou[d, g] == loop_over_frames(predicted[d], truth[g])


def loop_over_frames(one: Masks, other: Masks) -> float:
    """What the reference program does for each pair."""
    shared = union = 0
    for first, second in zip(one, other, strict=True):
        present = [code for code in (first, second) if code is not None]
        if len(present) == 2:
            shared += int(coco_mask.area(coco_mask.merge(present, intersect=True)))
        if present:
            union += int(coco_mask.area(coco_mask.merge(present)))
    return shared / union if union else 0.0


def test_tubes_of_more_pixels_than_an_integer_holds_are_counted_exactly():
    side, frames = 50_000, 3
    size = [side, side]

    def tube(*counts: int) -> Masks:
        code = coco_mask.frPyObjects({"size": size, "counts": [*counts, side**2 - sum(counts)]}, *size)
        return [RLE(size=size, counts=code["counts"].decode("ascii"))] * frames

    iou = tube_iou([tube(10**9, 10**9), tube(0, 1)], [tube(10**9 + 1, 10**9 + 6), tube(0, side**2)])
    assert iou[0].tolist() == [(10**9 - 1) / (10**9 + 7), 10**9 / side**2]
    assert iou[1].tolist() == [0.0, 1 / side**2]


def test_tubes_without_a_mask_share_nothing():
    assert tube_iou([[None, None]], [[None, None]]).tolist() == [[0.0]]
    assert tube_iou([[None, None], full(3)], [[None, None]]).tolist() == [[0.0], [0.0]]
    assert tube_iou([[]], [[]]).tolist() == [[0.0]]


def test_hundreds_of_masks_can_be_compared_at_once():
    masks = torch.zeros((300, 4, 100), dtype=torch.bool)
    for n, mask in enumerate(masks):
        mask[: 1 + n % 4, n // 4] = True
    tubes: list[Masks] = [[code] for code in encode_rle(masks)]
    iou = tube_iou(tubes, tubes[::-1])
    assert iou[:, ::-1].diagonal().tolist() == [1.0] * 300
    assert iou.sum() == pytest.approx(75 * sum(min(a, b) / max(a, b) for a in range(1, 5) for b in range(1, 5)))


# Rules and traps


def full(rows: int, *, frames: int = 2) -> Masks:
    """The upper rows of 10×10 pixels, on every frame."""
    masks = torch.zeros((frames, 10, 10), dtype=torch.bool)
    masks[:, :rows] = True
    return [*encode_rle(masks)]


def test_a_perfect_prediction_scores_one():
    truth = [TrueTube(full(3), 1), TrueTube(full(5), 2)]
    values = evaluated([(1, truth, [PredictedTube(t.masks, t.category, 0.3) for t in truth])]).result().values
    defined = {name: value for name, value in values.items() if not math.isnan(value)}
    assert set(defined) == {"AP", "AP50", "AP75", "APs", "AR1", "AR10", "AR100", "ARs"}
    assert list(defined.values()) == pytest.approx([1.0] * 8, abs=1e-12)


def test_no_prediction_scores_zero_and_no_truth_is_undefined():
    assert evaluated([(1, [TrueTube(full(3), 1)], [])]).result().values["AP"] == 0.0
    values = evaluated([(1, [], [PredictedTube(full(3), 1, 0.5)])]).result().values
    assert all(math.isnan(value) for value in values.values())
    assert all(math.isnan(value) for value in VideoInstanceAP(CATEGORIES).result().values.values())


def test_predictions_of_videos_without_truth_are_wrong():
    right = (1, [TrueTube(full(3), 1)], [PredictedTube(full(3), 1, 0.5)])
    wrong: tuple[int, list[TrueTube], list[PredictedTube]] = (2, [], [PredictedTube(full(3), 1, 0.9)])
    assert evaluated([right, wrong]).result().values["AP"] == pytest.approx(0.5)


def test_equal_scores_go_by_the_number_of_the_video_not_by_its_name():
    right = [TrueTube(full(3), 1)], [PredictedTube(full(3), 1, 0.5)]
    wrong: Video = [], [PredictedTube(full(3), 1, 0.5)]
    assert evaluated([(10, *wrong), (9, *right)]).result().values["AP"] == pytest.approx(1.0)
    assert evaluated([(9, *wrong), (10, *right)]).result().values["AP"] == pytest.approx(0.5)


def test_crowd_takes_any_number_of_predictions_and_counts_for_nothing():
    truth = [TrueTube(full(10), 1, crowd=True), TrueTube(full(3), 1)]
    predicted = [PredictedTube(full(rows), 1, score) for rows, score in ((10, 0.9), (10, 0.8), (3, 0.7))]
    assert evaluated([(1, truth, predicted)]).result().values["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "iou, ignored, crowd, threshold, expected_match",
    [
        pytest.param([[0.6, 0.6]], [False, False], [False, False], 0.5, [1], id="of two equal ones the later"),
        pytest.param([[0.5]], [False], [False], 0.5, [0], id="the threshold itself matches"),
        pytest.param([[1.0]], [False], [False], 1.0, [0], id="a threshold of one is met by one"),
        pytest.param([[0.6, 0.9]], [False, True], [False, False], 0.5, [0], id="a regular one before an ignored one"),
        pytest.param([[0.9, 0.6]], [True, False], [False, False], 0.5, [1], id="whatever their order"),
        pytest.param([[0.9], [0.8]], [False], [False], 0.5, [0, -1], id="a regular one is taken once"),
        pytest.param([[0.9], [0.8]], [True], [False], 0.5, [0, -1], id="so is one that is too small"),
        pytest.param([[0.9], [0.8]], [True], [True], 0.5, [0, 0], id="a crowd again and again"),
        pytest.param([], [False], [False], 0.5, [], id="nothing predicted"),
    ],
)
def test_matching_follows_the_reference(iou, ignored, crowd, threshold, expected_match):
    matched = match_tubes(
        np.array(iou, dtype=float).reshape(-1, len(ignored)),
        ignored_g=np.array(ignored),
        crowd_g=np.array(crowd),
        thresholds=np.array([threshold]),
    )
    assert matched.tolist() == [expected_match]


def test_precision_is_made_monotone_and_sampled_at_101_recalls():
    outcomes = np.array([[1, 0, 1, 2]], dtype=np.int8)  # right, wrong, right, ignored
    # Two of four are found: one half of the recalls is reached.
    once, scores, video = np.ones((1, 1)), np.array([0.9, 0.8, 0.7, 0.6]), np.zeros(4, int)
    found = average_precision(outcomes, scores, video, once, np.array([4.0]))
    assert found.tolist() == [[pytest.approx((26 * 1 + 25 * 2 / 3 + 50 * 0) / 101)]]


def test_only_a_hundred_predictions_of_a_video_and_category_count():
    junk = [PredictedTube(full(10), 1, 0.9)] * 100
    hidden = PredictedTube(full(3), 1, 0.1)
    truth = [TrueTube(full(3), 1), TrueTube(full(3), 2)]
    values = evaluated([(1, truth, [*junk, hidden, PredictedTube(full(3), 2, 0.1)])]).result()
    assert values.per_class["cat"]["AR100"] == 0.0
    assert values.per_class["dog"]["AR100"] == 1.0
    pooled = evaluated([(1, truth, [*junk, hidden])], class_agnostic=True).result()
    assert pooled.values["AR100"] == 0.0


@pytest.mark.parametrize(
    "better, expected_recalls",
    [
        pytest.param(0, (1.0, 1.0, 1.0), id="the best one"),
        pytest.param(9, (0.0, 1.0, 1.0), id="the tenth"),
        pytest.param(10, (0.0, 0.0, 1.0), id="the eleventh"),
    ],
)
def test_recall_looks_at_the_best_one_ten_and_hundred(better, expected_recalls):
    junk = [PredictedTube(full(10), 1, 0.9)] * better
    values = evaluated([(1, [TrueTube(full(3), 1)], [PredictedTube(full(3), 1, 0.5), *junk])]).result().values
    assert (values["AR1"], values["AR10"], values["AR100"]) == expected_recalls


def test_without_categories_any_category_will_do():
    videos = [(1, [TrueTube(full(3), 2)], [PredictedTube(full(3), 40, 0.5)])]
    assert evaluated(videos, class_agnostic=True).result().values["AR100"] == 1.0


@pytest.mark.parametrize(
    "areas, expected_mean",
    [
        pytest.param([None, 10, 0, 30], 20.0, id="frames without the object do not dilute"),
        pytest.param([None, 0], 0.0, id="never visible"),
        pytest.param([], 0.0, id="no frame"),
    ],
)
def test_the_area_is_a_mean_over_visible_frames(areas, expected_mean):
    assert mean_area(areas) == expected_mean


# Frames


def test_a_track_has_the_category_and_score_it_was_seen_with_last():
    metric = VideoInstanceAP(CATEGORIES)
    mask = torch.ones((1, 4, 4), dtype=torch.bool)
    for frame, (category, score) in enumerate([(2, 0.9), (1, 0.4), (1, 0.3)]):
        truth = FrameAnnotation(FrameSegmentation.from_masks(frame, (Segment(1, 7, 1),), mask))
        visible = frame < 2
        predicted = FrameSegmentation.from_masks(
            frame, (Segment(1, 3, category, score),) if visible else (), mask if visible else mask[:0]
        )
        metric.update("7", frame, truth, predicted)
    metric.end_sequence("7")
    row = metric.result().per_class["cat"]
    assert [row["AP50"], row["AP75"]] == pytest.approx([1.0, 0.0])  # on two frames of three
    assert metric.state_dict()["summaries"]["7"]["classes"][1]["scores"].tolist() == [0.4]


def test_frames_nobody_annotated_are_left_out():
    metric = VideoInstanceAP(CATEGORIES)
    mask = torch.ones((1, 4, 4), dtype=torch.bool)
    for frame in range(3):
        found = FrameSegmentation.from_masks(frame, (Segment(1, 1, 1),), mask)
        truth = found if frame == 1 else FrameSegmentation.from_masks(frame, (), mask[:0])
        metric.update("a", frame, FrameAnnotation(truth, annotated=frame == 1), found)
    metric.end_sequence("a")
    assert metric.result().values["AP"] == pytest.approx(1.0)


# Sums over processes


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_mirroring_a_video_changes_nothing(seed):
    videos = random_videos(seed)

    def mirrored(masks: Masks) -> Masks:
        codes = encode_rle(painted(masks).flip(2))
        return [None if mask is None else code for mask, code in zip(masks, codes, strict=True)]

    flipped = [
        (
            video,
            [TrueTube(mirrored(list(t.masks)), t.category, t.crowd, t.areas) for t in truth],
            [PredictedTube(mirrored(list(p.masks)), p.category, p.score) for p in predicted],
        )
        for video, truth, predicted in videos
    ]
    assert repr(evaluated(flipped).result()) == repr(evaluated(videos).result())


def test_intervals_and_a_row_a_video_come_with_the_result():
    videos = [(n, [TrueTube(full(3), 1)], [PredictedTube(full(3 + n), 1, 0.5)]) for n in range(3)]
    metric = evaluated(videos)
    low, high = metric.bootstrap(samples=50)["AP"]
    report = metric.result()
    assert 0 <= low <= report.values["AP"] <= high <= 1
    assert report.per_video["0"]["AP"] == pytest.approx(1.0)
    assert report.per_video["2"]["AP75"] == 0.0


# Bad input


@pytest.mark.parametrize(
    "truth, predicted, message",
    [
        pytest.param(
            [TrueTube(full(3), 1)],
            [PredictedTube(full(3, frames=3), 1, 0.5)],
            "video 4: a predicted tube has 3 frames but the video 2",
            id="another length",
        ),
        pytest.param(
            [TrueTube(full(3), 1)],
            [PredictedTube([None, RLE(size=[5, 10], counts="X1")], 1, 0.5)],
            "video 4: frame 1: a mask is 5×10, but others of this video are 10×10",
            id="another size",
        ),
        pytest.param(
            [TrueTube(full(3), 9)], [], r"video 4: category 9 is not in the label space 'custom'", id="category"
        ),
        pytest.param(
            [TrueTube(full(3), 1)],
            [PredictedTube([None, RLE(size=[10, 10], counts="X1")], 1, 0.5)],
            "video 4: frame 1: a run-length code is damaged: its runs do not make the 100 pixels",
            id="another number of pixels",
        ),
        pytest.param([], [PredictedTube(full(3), 1, math.nan)], "video 4: .* has the score nan", id="score"),
        pytest.param([TrueTube(full(3), 1, False, [1.0])], [], "video 4: a tube has 2 masks but 1 areas", id="areas"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_name_of_the_video(truth, predicted, message):
    with pytest.raises(InputError, match=message):
        VideoInstanceAP(CATEGORIES).update_video(4, truth, predicted, length=2)


def test_tubes_of_different_lengths_are_refused():
    with pytest.raises(InputError, match="tubes have 2 and 3 frames"):
        tube_iou([full(3)], [full(3, frames=3)])


def test_a_video_comes_once():
    metric = evaluated([(1, [], [])])
    with pytest.raises(InputError, match="video 1 came before"):
        metric.update_video("1", [], [])


def test_segments_need_a_category_and_a_track_one_segment():
    mask = torch.ones((2, 4, 4), dtype=torch.bool)
    nothing = FrameAnnotation(FrameSegmentation.from_masks(0, (), mask[:0]))
    metric = VideoInstanceAP(CATEGORIES)
    with pytest.raises(InputError, match="a, frame 0: segment 1 has no category"):
        metric.update("a", 0, nothing, FrameSegmentation.from_masks(0, (Segment(1, 1),), mask[:1]))
    twice = FrameSegmentation.from_masks(0, (Segment(1, 5, 1), Segment(2, 5, 1)), mask)
    with pytest.raises(InputError, match="b, frame 0: track 5 has two segments"):
        metric.update("b", 0, nothing, twice)
