"""A system that needs the whole video, in the engine that takes frames as they come."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from maskstream.engine import OfflineSession, segment_to_folder
from maskstream.formats import read_label_png
from maskstream.propagation import FlowPropagator
from maskstream.sinks.folder import RunFolder
from maskstream.synthetic import render_sample
from maskstream.systems.deva import Deva, OfflineDeva
from maskstream.types import InputError, MaskPrompt, Video
from maskstream.video import open_video

SIZE = (64, 96)
FRAMES = 10
PROMPTED = 6


@pytest.fixture(scope="module")
def video() -> Video:
    return open_video([frame for frame, _ in render_sample(frames=FRAMES, size_hw=SIZE, objects=2)])


@pytest.fixture(scope="module")
def prompts() -> list[MaskPrompt]:
    truth = [annotation.segmentation for _, annotation in render_sample(frames=FRAMES, size_hw=SIZE, objects=2)]
    prompted = truth[PROMPTED]
    masks = zip(prompted.segments, prompted.masks_nhw(), strict=True)
    return [MaskPrompt(PROMPTED, segment.track_id, mask, category=1) for segment, mask in masks]


def session(video: Video) -> OfflineSession:
    return OfflineSession(partial(OfflineDeva(Deva(FlowPropagator(size=64))).run, video))


def request(name: str) -> dict[str, object]:
    return {"command": "segment", "source": {"name": name}, "options": {}, "prompts": {}, "versions": {}, "weights": {}}


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_what_is_written_is_what_the_system_gives(video, prompts, tmp_path):
    ready = session(video)
    ready.prompt(prompts)
    summary = segment_to_folder(video, ready, RunFolder(tmp_path / "out", request("a")))
    assert summary.frames == FRAMES
    for result in OfflineDeva(Deva(FlowPropagator(size=64))).run(video, prompts):
        written = read_label_png(tmp_path / "out" / "masks" / f"{result.frame_index:05d}.png")
        assert np.array_equal(written, result.panoptic_map().numpy())
    assert [(t.track_id, t.first, t.last, t.category_scores) for t in ready.tracks()] == [
        (prompt.object_id, 0, FRAMES - 1, {1: 1.0}) for prompt in prompts
    ]


def test_a_run_that_was_interrupted_ends_in_the_same_bytes(video, prompts, tmp_path):
    def attempt(path: Path, *, stop_at: int | None = None) -> OfflineSession:
        ready = session(video)
        ready.prompt(prompts)

        def stop(done: int) -> None:
            if done == stop_at:
                raise KeyboardInterrupt

        segment_to_folder(video, ready, RunFolder(path, request("a")), checkpoint_every=3, on_frame=stop)
        return ready

    whole = attempt(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        attempt(tmp_path / "stopped", stop_at=8)
    continued = attempt(tmp_path / "stopped")
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
    assert continued.tracks() == whole.tracks()


def test_prompts_are_checked_when_they_are_given_and_come_before_frames(video, prompts):
    ready = session(video)
    with pytest.raises(InputError, match="frame 99"):
        ready.prompt([*prompts, MaskPrompt(99, 7, prompts[0].mask)])
    ready.prompt(prompts)
    (result,) = ready.step(video[0])
    assert {segment.track_id for segment in result.segments} == {prompt.object_id for prompt in prompts}
    with pytest.raises(InputError, match="before the first frame"):
        ready.prompt(prompts)


def test_objects_cannot_be_removed(video):
    with pytest.raises(InputError, match="object 1 cannot be removed"):
        session(video).remove([1])
    session(video).remove([])
