"""MotionSegmenter on rendered sequences whose camera and objects move in a known way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskstream.segmenters import MotionSegmenter
from maskstream.segmenters.camera_motion import FloatArray, fit_camera_flow
from maskstream.types import Frame, InputError, PointPrompt, Proposals

HEIGHT, WIDTH, LENGTH = 180, 320, 13
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Camera = Callable[[int], NDArray[np.float64]]


def as_image(values: NDArray[np.float64]) -> Image:
    return np.asarray(np.clip(values, 0, 255), dtype=np.uint8)


def texture(seed: int, size_hw: tuple[int, int], tint: tuple[int, int, int]) -> Image:
    """Smooth noise at three scales around a colour."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*size_hw, 3))
    for cell, amplitude in ((3, 25.0), (8, 30.0), (24, 30.0)):
        coarse = rng.normal(size=(size_hw[0] // cell + 2, size_hw[1] // cell + 2, 3))
        total += amplitude * cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    return as_image(total + np.array(tint))


BACKGROUND = texture(0, (3 * HEIGHT, 3 * WIDTH), (90, 120, 90))


def still(t: int) -> NDArray[np.float64]:
    return view(0, 0, 1, 0)


def view(x: float, y: float, zoom: float, degrees: float) -> NDArray[np.float64]:
    """From the big background to the screen: look at its middle plus (x, y)."""
    matrix = cv2.getRotationMatrix2D((1.5 * WIDTH + x, 1.5 * HEIGHT + y), degrees, zoom)
    matrix[:, 2] += np.array([WIDTH / 2 - 1.5 * WIDTH - x, HEIGHT / 2 - 1.5 * HEIGHT - y])
    return np.asarray(matrix, dtype=np.float64)


CAMERAS: dict[str, Camera] = {
    "still": still,
    "pan": lambda t: view(3.0 * t, 1.0 * t, 1, 0),
    "fast pan": lambda t: view(9.0 * t, 0, 1, 0),
    "zoom": lambda t: view(0, 0, 1.012**t, 0),
    "rotation": lambda t: view(0, 0, 1, 0.8 * t),
    "hand-held": lambda t: view(4 * np.sin(0.9 * t) + t, 3 * np.cos(1.3 * t), 1.004**t, np.sin(0.7 * t)),
}


@dataclass(frozen=True)
class Thing:
    """A textured ellipse or box that starts at ``xy`` and moves by ``step_xy`` on the screen every frame."""

    seed: int
    xy: tuple[float, float]
    step_xy: tuple[float, float]
    radii: tuple[int, int] = (26, 20)
    tint: tuple[int, int, int] = (190, 90, 80)
    box: bool = False


def render(camera: Camera, things: tuple[Thing, ...] = (), noise: float = 2.0) -> tuple[list[Image], list[Mask]]:
    """Frames, and the label map of the last one as one mask a thing."""
    frames: list[Image] = []
    masks: list[Mask] = []
    for t in range(LENGTH):
        image = cv2.warpAffine(BACKGROUND, camera(t), (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR).astype(np.float64)
        masks = []
        for thing in things:
            rx, ry = thing.radii
            centre = np.array(thing.xy) + t * np.array(thing.step_xy)
            alpha = np.zeros((2 * ry + 1, 2 * rx + 1), np.float32)
            if thing.box:
                alpha[:] = 1
            else:
                cv2.ellipse(alpha, (rx, ry), (rx, ry), 0, 0, 360, 1.0, -1)
            move = np.array([[1, 0, centre[0] - rx], [0, 1, centre[1] - ry]], np.float64)
            paint = texture(thing.seed, alpha.shape, thing.tint)
            alpha = cv2.warpAffine(alpha, move, (WIDTH, HEIGHT)).astype(np.float32)
            layer = cv2.warpAffine(paint, move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
            image = alpha[..., None] * layer + (1 - alpha[..., None]) * image
            masks = [mask & (alpha <= 0.5) for mask in masks] + [alpha > 0.5]
        grain = np.random.default_rng(100 + t).normal(0, noise, image.shape)
        frames.append(as_image(image + grain))
    return frames, masks


def propose(images: list[Image], context: int | None = None, exclude: torch.Tensor | None = None) -> Proposals:
    segmenter = MotionSegmenter()
    features = segmenter.encode([Frame(n, n / 25, image) for n, image in enumerate(images)])
    past = features[:-1][-(segmenter.context if context is None else context) :] if context != 0 else []
    return segmenter.segment(features[-1], context=past, exclude=exclude)


def best_iou(proposals: Proposals, mask: Mask) -> float:
    found = proposals.masks_nhw.numpy()
    return max(((m & mask).sum() / (m | mask).sum() for m in found), default=0.0)


@pytest.mark.parametrize("camera", CAMERAS)
def test_camera_motion_alone_proposes_nothing(camera):
    frames, _ = render(CAMERAS[camera])
    assert len(propose(frames)) == 0


def test_the_camera_is_what_moves_at_the_rim_however_much_is_in_the_middle():
    flow: FloatArray = np.full((240, 320, 2), (5.0, 0.0), np.float32)
    flow[40:200, 50:270] = 1.0, 0.0
    everywhere = np.ones((240, 320), bool)
    assert (flow[..., 0] == 1).mean() > 0.45
    for candidates, motion in ((everywhere, (5.0, 0.0)), (flow[..., 0] == 1, (1.0, 0.0))):
        found = fit_camera_flow(flow, candidates)
        assert found is not None
        assert np.abs(found - motion).max() < 0.1
    assert fit_camera_flow(flow, np.zeros((240, 320), bool)) is None


def test_noise_on_a_bare_wall_proposes_nothing():
    rng = np.random.default_rng(1)
    frames = [np.clip(128 + rng.normal(0, 4, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8) for _ in range(LENGTH)]
    assert len(propose(frames)) == 0


@pytest.mark.parametrize("camera", CAMERAS)
def test_each_of_three_objects_is_proposed_apart_from_the_camera(camera):
    things = (
        Thing(1, (60, 50), (3, 1)),
        Thing(2, (250, 60), (-2, 2), tint=(60, 90, 200)),
        Thing(3, (160, 145), (2.5, -1), tint=(200, 190, 60), box=True),
    )
    frames, masks = render(CAMERAS[camera], things)
    proposals = propose(frames)
    assert len(proposals) == 3
    assert min(best_iou(proposals, mask) for mask in masks) > 0.8
    assert int(proposals.masks_nhw.sum(0).max()) == 1, "proposals are disjoint"
    assert all(score is not None and 0.5 <= score <= 1 for score in proposals.scores)


def test_an_object_that_fills_a_third_of_the_picture_is_not_taken_for_the_background():
    frames, masks = render(CAMERAS["pan"], (Thing(1, (150, 90), (2, 0), radii=(88, 68)),))
    assert masks[0].mean() > 0.3
    assert best_iou(propose(frames), masks[0]) > 0.8


def test_a_slow_object_is_found_by_the_long_gaps_only():
    frames, masks = render(still, (Thing(1, (150, 90), (0.4, 0)),))
    assert best_iou(propose(frames), masks[0]) > 0.6
    assert len(propose(frames, context=1)) == 0


def test_touching_objects_that_move_apart_from_each_other_are_two_proposals():
    left = Thing(1, (160 - 26 - 3 * (LENGTH - 1), 90), (3, 0), radii=(26, 26), box=True)
    right = Thing(2, (160 + 27 + 3 * (LENGTH - 1), 90), (-3, 0), radii=(26, 26), box=True)
    frames, masks = render(still, (left, right))
    assert (cv2.dilate(masks[0].astype(np.uint8), np.ones((3, 3))) > 0)[masks[1]].any(), "they touch"
    proposals = propose(frames)
    assert len(proposals) == 2
    assert min(best_iou(proposals, mask) for mask in masks) > 0.75


def test_fragments_that_move_alike_are_one_proposal():
    frames, masks = render(still, (Thing(1, (120, 90), (3, 0), radii=(30, 30)),))
    for image in frames:  # a lamp post in front
        image[:, 155:160] = 60
    proposals = propose(frames)
    behind = masks[0].copy()
    behind[:, 155:160] = False
    assert len(proposals) == 1
    assert best_iou(proposals, behind) > 0.75


def test_nothing_is_proposed_right_after_a_cut():
    before, _ = render(CAMERAS["pan"], (Thing(1, (60, 50), (3, 1)),))
    other = texture(77, (HEIGHT, WIDTH), (140, 110, 100))
    assert len(propose([*before, other])) == 0


def test_after_a_cut_only_frames_of_the_new_scene_are_compared():
    old = [texture(77, (HEIGHT, WIDTH), (140, 110, 100))] * 8
    new, masks = render(CAMERAS["pan"], (Thing(1, (60, 50), (3, 1)),))
    assert best_iou(propose([*old, *new[-3:]]), masks[0]) > 0.7


@pytest.mark.parametrize("gain", [0.7, 1.4])
def test_a_flash_is_not_motion(gain):
    frames, _ = render(CAMERAS["pan"])
    frames[-1] = np.clip(frames[-1] * gain, 0, 255).astype(np.uint8)
    assert len(propose(frames)) == 0


def test_an_object_is_found_on_a_flashed_frame():
    frames, masks = render(CAMERAS["pan"], (Thing(1, (60, 50), (3, 1)),))
    frames[-1] = np.clip(frames[-1] * 1.3, 0, 255).astype(np.uint8)
    assert best_iou(propose(frames), masks[0]) > 0.7


def test_the_same_frames_give_the_same_proposals_whatever_came_before():
    frames, _ = render(CAMERAS["hand-held"], (Thing(1, (60, 50), (3, 1)), Thing(2, (250, 60), (-2, 2))))
    first = propose(frames)
    cv2.setRNGSeed(5)
    propose(render(CAMERAS["zoom"], (Thing(3, (100, 100), (2, 2)),))[0])
    again = propose(frames)
    assert torch.equal(first.masks_nhw, again.masks_nhw)
    assert first.scores == again.scores


def test_an_excluded_region_gets_no_proposal_and_others_do():
    frames, masks = render(CAMERAS["pan"], (Thing(1, (60, 50), (3, 1)), Thing(2, (250, 60), (-2, 2))))
    exclude = torch.zeros(2 * HEIGHT, 2 * WIDTH, dtype=torch.bool)  # of another resolution than the features
    exclude[:, :WIDTH] = True
    proposals = propose(frames, exclude=exclude)
    assert len(proposals) == 1
    assert best_iou(proposals, masks[1]) > 0.8
    assert not proposals.masks_nhw[..., : WIDTH // 2].any()


def test_without_context_nothing_is_proposed():
    frames, _ = render(still, (Thing(1, (60, 50), (3, 1)),))
    proposals = propose(frames, context=0)
    assert proposals.masks_nhw.shape == (0, HEIGHT, WIDTH)


def test_one_frame_of_context_is_enough_for_a_fast_object():
    frames, masks = render(still, (Thing(1, (60, 50), (4, 2)),))
    assert best_iou(propose(frames, context=1), masks[0]) > 0.7


def test_only_the_largest_and_surest_are_kept():
    things = (Thing(1, (60, 50), (3, 1), radii=(40, 30)), Thing(2, (250, 60), (-2, 2)))
    frames, masks = render(still, things)
    segmenter = MotionSegmenter(max_proposals=1)
    features = segmenter.encode([Frame(n, 0.0, image) for n, image in enumerate(frames)])
    proposals = segmenter.segment(features[-1], context=features[:-1][-segmenter.context :])
    assert len(proposals) == 1
    assert best_iou(proposals, masks[0]) > 0.8


def test_features_are_the_frame_reduced_and_never_enlarged():
    segmenter = MotionSegmenter(size=240)
    large, small = segmenter.encode(
        [Frame(n, 0.0, np.zeros(shape, np.uint8)) for n, shape in enumerate(((480, 854, 3), (120, 90, 3)))]
    )
    assert (tuple(large.shape), large.dtype) == ((240, 427, 3), torch.uint8)
    assert tuple(small.shape) == (120, 90, 3)


def test_prompts_are_refused():
    segmenter = MotionSegmenter()
    features = segmenter.encode([Frame(0, 0.0, np.zeros((64, 64, 3), np.uint8))])
    with pytest.raises(InputError, match="takes no prompts"):
        segmenter.segment(features[0], [PointPrompt(0, 1, ((5, 5),))])


def test_context_of_another_size_is_refused():
    segmenter = MotionSegmenter()
    wide, narrow = segmenter.encode([Frame(n, 0.0, np.zeros((64, 64 + n, 3), np.uint8)) for n in range(2)])
    with pytest.raises(InputError, match=r"\[64, 65, 3\]"):
        segmenter.segment(narrow, context=[wide])


@pytest.mark.parametrize(
    "options", [{"size": 8}, {"gaps": ()}, {"gaps": (0, 3)}, {"max_proposals": 0}, {"min_area": 1}]
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        MotionSegmenter(**options)
