import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from maskstream.metrics import region_similarity
from maskstream.propagation import FlowPropagator
from maskstream.types import InputError

from .worlds import SIZE, WIDTH, enlarged, follow, frame, overlap, scene

RED, GREEN = (200, 60, 50), (60, 170, 60)


def moving(count, step_xy, *, pan=0):
    return [scene((1, RED, 40 + step_xy[0] * t, 30 + step_xy[1] * t, 32), pan=pan * t) for t in range(count)]


def written(propagator, image, masks, *, object_ids=(1,)):
    features = propagator.encode(frame(0, image))
    return propagator.write(propagator.start(), features, enlarged(masks), list(object_ids)), features


@pytest.mark.parametrize(
    ("step_xy", "pan"),
    [
        pytest.param((0, 0), 0, id="nothing moves"),
        pytest.param((3, 1), 0, id="the object moves"),
        pytest.param((0, 0), 3, id="the camera moves and the object with it"),
        pytest.param((-2, 0), 2, id="the object moves with the wall"),
    ],
)
def test_an_object_is_followed(step_xy, pan):
    worlds = moving(16, step_xy, pan=pan)
    for (_, masks), probabilities in zip(
        worlds[1:], follow(FlowPropagator(size=SIZE), [image for image, _ in worlds], worlds[0][1], [1]), strict=True
    ):
        assert overlap(probabilities, 1, masks[0]) > 0.8


def test_probabilities_sum_to_one_and_objects_are_disjoint_where_they_touch():
    worlds = [scene((1, RED, 20 + 2 * t, 30, 32), (2, GREEN, 52 + 2 * t, 30, 32)) for t in range(8)]
    for (_, masks), probabilities in zip(
        worlds[1:],
        follow(FlowPropagator(size=SIZE), [image for image, _ in worlds], worlds[0][1], [5, 3]),
        strict=True,
    ):
        assert probabilities.shape == (3, SIZE, WIDTH * 2)
        assert probabilities.dtype == torch.float32
        assert probabilities.min() >= 0
        torch.testing.assert_close(probabilities.sum(0), torch.ones(SIZE, WIDTH * 2))
        for n in range(2):
            assert overlap(probabilities, n + 1, masks[n]) > 0.85


def test_without_objects_everything_is_background():
    propagator = FlowPropagator(size=SIZE)
    features = propagator.encode(frame(0, scene()[0]))
    state, probabilities = propagator.read(propagator.start(), features)
    assert propagator.object_ids(state) == ()
    assert torch.equal(probabilities, torch.ones(1, SIZE, WIDTH * 2))
    nothing = propagator.write(state, features, torch.zeros(0, SIZE, WIDTH * 2), [])
    assert propagator.object_ids(nothing) == ()
    assert torch.equal(propagator.align(features, torch.zeros(0, SIZE, WIDTH * 2), features), probabilities)


@pytest.mark.parametrize("cut", [1, 7, 11])
def test_continuing_from_a_snapshot_gives_the_same_bytes(cut):
    propagator = FlowPropagator(size=SIZE)
    worlds = moving(14, (3, 1), pan=1)
    state, _ = written(propagator, *worlds[0])
    snapshot = None
    for index, (image, _) in enumerate(worlds[1:], 1):
        features = propagator.encode(frame(index, image))
        state, expected = propagator.read(state, features)
        if snapshot is not None:
            restored, probabilities = FlowPropagator(size=SIZE).read(
                FlowPropagator(size=SIZE).load_state_dict(snapshot), features
            )
            assert torch.equal(probabilities, expected)
            snapshot = propagator.state_dict(restored)
        if index == cut:
            # Through a file, and with other work in between that leaves OpenCV's generator elsewhere.
            file = io.BytesIO()
            torch.save(propagator.state_dict(state), file)
            file.seek(0)
            snapshot = torch.load(file, weights_only=True)
            cv2.setRNGSeed(99)
            list(follow(propagator, [world[0] for world in moving(3, (5, 5))], worlds[0][1], [1]))


def test_results_do_not_depend_on_the_number_of_threads():
    worlds = moving(5, (3, 1), pan=1)
    images = [image for image, _ in worlds]
    threads = cv2.getNumThreads()
    runs = []
    try:
        for count in (1, 2, 3):
            cv2.setNumThreads(count)
            runs.append(list(follow(FlowPropagator(size=SIZE), images, worlds[0][1], [1])))
    finally:
        cv2.setNumThreads(threads)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


def test_reading_without_advancing_leaves_the_state_alone():
    propagator = FlowPropagator(size=SIZE)
    worlds = moving(3, (3, 0))
    state, _ = written(propagator, *worlds[0])
    features = propagator.encode(frame(1, worlds[1][0]))
    same, probabilities = propagator.read(state, features, advance=False)
    assert same is state
    _, again = propagator.read(state, features)
    assert torch.equal(probabilities, again)


def test_a_covered_object_is_gone_and_is_found_again_where_it_comes_out():
    """A pillar stands before the wall; the object passes behind it, unseen for a dozen frames."""
    worlds = []
    for t in range(34):
        image, masks = scene((1, RED, 6 + 4 * t, 34, 20))
        pillar = scene(wall_tint=(60, 60, 60))[0][:, 60:110]
        image[:, 55:105] = pillar
        masks[:, :, 55:105] = False
        worlds.append((image, masks))
    hidden = [t for t, (_, masks) in enumerate(worlds) if not masks.any()]
    assert len(hidden) > 5
    found = dict(enumerate(follow(FlowPropagator(size=SIZE), [image for image, _ in worlds], worlds[0][1], [1]), 1))
    for t in hidden[2:]:
        assert (found[t].max(0).indices == 1).sum() < 80
    for t in range(hidden[-1] + 8, len(worlds)):
        assert overlap(found[t], 1, worlds[t][1][0]) > 0.7


def test_an_object_that_never_comes_back_is_not_found_elsewhere():
    worlds = [scene((1, RED, 100 + 6 * t, 34, 24), pan=2 * t) for t in range(24)]
    found = list(follow(FlowPropagator(size=SIZE), [image for image, _ in worlds], worlds[0][1], [1]))
    gone = [t for t, (_, masks) in enumerate(worlds) if not masks.any()]
    assert len(gone) > 8
    for t in gone[1:]:
        assert (found[t - 1].max(0).indices == 1).sum() == 0


def test_an_object_added_later_is_appended_and_the_others_stay():
    propagator = FlowPropagator(size=SIZE)
    worlds = [scene((1, RED, 20 + 2 * t, 10, 30), (2, GREEN, 90 - 2 * t, 55, 30)) for t in range(12)]
    state, _ = written(propagator, worlds[0][0], worlds[0][1][:1], object_ids=[7])
    for t in range(1, 12):
        features = propagator.encode(frame(t, worlds[t][0]))
        state, probabilities = propagator.read(state, features)
        if t == 4:
            state = propagator.write(state, features, enlarged(worlds[t][1][1:]), [2])
            assert propagator.object_ids(state) == (7, 2)
        for n in range(2 if t > 4 else 1):
            assert overlap(probabilities, n + 1, worlds[t][1][n]) > 0.85


def test_a_corrected_mask_replaces_the_wrong_one():
    propagator = FlowPropagator(size=SIZE)
    worlds = moving(12, (2, 1))
    wrong = np.roll(worlds[0][1], 25, axis=2)
    state, _ = written(propagator, worlds[0][0], wrong)
    for t in range(1, 12):
        features = propagator.encode(frame(t, worlds[t][0]))
        state, probabilities = propagator.read(state, features)
        if t == 3:
            assert overlap(probabilities, 1, worlds[t][1][0]) < 0.6
            state = propagator.write(state, features, enlarged(worlds[t][1]), [1])
        if t == 4:
            assert overlap(probabilities, 1, worlds[t][1][0]) > 0.6
    assert propagator.object_ids(state) == (1,)


def test_a_removed_object_is_forgotten_and_the_others_stay():
    propagator = FlowPropagator(size=SIZE)
    worlds = [scene((1, RED, 20, 10, 30), (2, GREEN, 90, 55, 30)) for _ in range(2)]
    state, features = written(propagator, *worlds[0], object_ids=[4, 9])
    state = propagator.remove(state, [4])
    assert propagator.object_ids(state) == (9,)
    _, probabilities = propagator.read(state, features)
    assert overlap(probabilities, 1, worlds[0][1][1]) > 0.9
    empty = propagator.remove(state, [9])
    assert propagator.object_ids(empty) == ()
    assert torch.equal(propagator.read(empty, features)[1], torch.ones(1, SIZE, WIDTH * 2))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param((720, 1280), (480, 853), id="shrunk, the long side rounded down"),
        pytest.param((240, 320), (480, 640), id="small frames are enlarged"),
        pytest.param((1000, 500), (960, 480), id="upright"),
    ],
)
def test_the_short_side_has_the_size_asked_for(made, expected):
    features = FlowPropagator(size=480).encode(frame(0, np.zeros((*made, 3), dtype=np.uint8)))
    assert features.size_hw == expected


@pytest.mark.parametrize("size_hw", [(1, 1), (12, 12), (16, 200), (33, 17)])
def test_small_and_plain_pictures_and_empty_masks_are_no_trouble(size_hw):
    propagator = FlowPropagator(size=48)
    plain = np.full((*size_hw, 3), 128, dtype=np.uint8)
    masks = np.zeros((3, *size_hw), dtype=bool)
    masks[0] = True
    masks[2, :3, :3] = True
    for probabilities in follow(propagator, [plain] * 3, masks, [1, 2, 3]):
        assert len(probabilities) == 4
        assert min(probabilities.shape[1:]) == 48
        assert torch.isfinite(probabilities).all()


def test_aligning_carries_masks_between_two_frames():
    propagator = FlowPropagator(size=SIZE)
    (first, masks), (second, expected) = (scene((1, RED, 40, 30, 32)), scene((1, RED, 46, 33, 32)))
    source, target = propagator.encode(frame(0, first)), propagator.encode(frame(1, second))
    assert overlap(propagator.align(source, enlarged(masks), target), 1, expected[0]) > 0.9
    backward = propagator.align(target, enlarged(expected).float(), source)
    assert overlap(backward, 1, masks[0]) > 0.9


def test_what_does_not_fit_is_named():
    propagator = FlowPropagator(size=SIZE)
    state, features = written(propagator, *moving(1, (0, 0))[0])
    with pytest.raises(InputError, match=r"1 masks of 192×320 are needed, not \[1, 95, 160\]"):
        propagator.write(state, features, torch.zeros(1, 95, 160), [1])
    with pytest.raises(InputError, match="a frame is 192×192 but the one before was 192×320"):
        propagator.read(state, propagator.encode(frame(1, np.zeros((64, 64, 3), dtype=np.uint8))))
    with pytest.raises(InputError, match="at least 16 pixels"):
        FlowPropagator(size=8)


@pytest.mark.slow
def test_a_real_bear_is_followed_for_forty_frames():
    if "MASKSTREAM_DATA" not in os.environ:
        pytest.skip("MASKSTREAM_DATA is not set")
    root = Path(os.environ["MASKSTREAM_DATA"]) / "davis16-dev"
    images = [np.array(Image.open(path)) for path in sorted((root / "JPEGImages/480p/bear").glob("*.jpg"))[:40]]
    truths = [np.array(Image.open(path)) > 0 for path in sorted((root / "Annotations/480p/bear").glob("*.png"))[:40]]
    *_, probabilities = follow(FlowPropagator(), images, truths[0][None], [1])
    assert region_similarity(probabilities.max(0).indices.numpy() == 1, truths[-1]) > 0.9
