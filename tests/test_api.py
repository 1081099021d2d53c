import subprocess
import sys

import numpy as np
import pytest

import maskstream
from maskstream.api import default_task, load_propagator
from maskstream.propagation import FlowPropagator
from maskstream.propagation.network import save_pretrained
from maskstream.propagation.network_propagator import NetworkPropagator
from maskstream.segmenters import MotionSegmenter
from maskstream.synthetic import render_sample
from maskstream.systems.deva import Deva
from tests.propagation.golden import hashed_network
from tests.propagation.test_network import TINY

SIZE = (96, 128)


@pytest.fixture(scope="module")
def scene():
    return list(render_sample(frames=8, size_hw=SIZE, objects=2))


@pytest.fixture(scope="module")
def prompts(scene):
    truth = scene[0][1].segmentation
    masks = zip(truth.segments, truth.masks_nhw(), strict=True)
    return [maskstream.MaskPrompt(0, segment.id, mask) for segment, mask in masks if mask.any()]


def test_importing_the_package_costs_nothing():
    code = "import sys, maskstream; print([m for m in ('torch', 'cv2', 'av', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_is_there():
    assert all(getattr(maskstream, name) is not None for name in maskstream.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        maskstream.nonsense  # noqa: B018


def test_an_array_is_a_video(scene, prompts):
    images = np.stack([frame.image for frame, _ in scene])
    results = list(maskstream.segment(images, prompts=prompts))
    assert [result.frame_index for result in results] == list(range(8))
    assert all(result.size_hw == SIZE for result in results)
    assert [s.track_id for s in results[-1].segments] == [prompt.object_id for prompt in prompts]


def test_results_come_while_the_video_is_still_being_read(scene, prompts):
    read = []

    def camera():
        for frame, _ in scene:
            read.append(frame.index)
            yield frame

    results = maskstream.segment(maskstream.open_video(camera()), prompts=prompts)
    next(results)
    assert len(read) < 8
    assert len(list(results)) == 7


def test_a_list_of_frames_may_be_segmented_twice_with_equal_results(scene, prompts):
    video = maskstream.open_video([frame for frame, _ in scene])
    once, again = ([r.to_rle() for r in maskstream.segment(video, prompts=prompts)] for _ in range(2))
    assert once == again


def test_results_are_at_source_size_whatever_the_size_within(scene, prompts):
    model = maskstream.load(size=64)
    *_, last = maskstream.segment([frame for frame, _ in scene], model=model, prompts=prompts)
    assert last.size_hw == SIZE
    assert last.areas().sum() > 0


def test_the_task_follows_from_the_prompts(prompts):
    assert default_task(()) is maskstream.Task.UVOS
    assert default_task(prompts) is maskstream.Task.VOS
    assert default_task([maskstream.TextPrompt("the fish in front", "expression")]) is maskstream.Task.REFVOS
    assert default_task([maskstream.TextPrompt("fish")]) is maskstream.Task.UVOS
    reader = Deva(FlowPropagator(), detector=MotionSegmenter(), open_vocabulary=True)
    assert default_task([maskstream.TextPrompt("fish")], reader) is maskstream.Task.VPS


def test_how_often_and_how_long_reach_the_parts():
    model = maskstream.load(voting_frames=2, detection_every=4, max_missed=7, max_objects=9, schedule="online")
    assert isinstance(model, Deva)
    expected = (2, 4, 7, 9)
    settings = model.settings
    assert (settings.voting_frames, settings.detection_every, settings.max_missed, settings.max_objects) == expected
    usual = maskstream.load()
    assert isinstance(usual, Deva)
    assert usual.settings.max_missed == 2  # what suits motion


def test_how_often_a_network_memorises_is_said(tmp_path):
    save_pretrained(hashed_network(TINY), tmp_path)
    propagator = load_propagator(str(tmp_path), memory_every=3)
    assert isinstance(propagator, NetworkPropagator)
    assert propagator.policy.every == 3


@pytest.mark.parametrize(
    "wrong", [{"model": "x"}, {"segmenter": "x"}, {"propagator": "x"}, {"dtype": "x"}, {"schedule": "x"}]
)
def test_an_unknown_part_is_named_with_the_known_ones(wrong):
    with pytest.raises(maskstream.MaskstreamError, match=r"unknown \w+ 'x'; known: \w+"):
        maskstream.load(**wrong)


def test_several_videos_step_together(scene):
    model = maskstream.load(schedule="online")
    sessions = [model.start(maskstream.Task.UVOS, size_hw=SIZE) for _ in range(2)]
    results = maskstream.step_many(sessions, [scene[0][0], scene[3][0]])
    assert [result.frame_index for (result,) in results] == [0, 3]
