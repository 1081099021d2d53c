"""Prompts on any frame of a video that is all there, in both directions, and corrections."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maskstream.metrics import region_similarity
from maskstream.propagation import FlowPropagator
from maskstream.synthetic import render_sample
from maskstream.systems.deva import Deva, OfflineDeva
from maskstream.systems.deva.offline import Direction, together
from maskstream.systems.deva.passes import MapStore, Pass, blended, plan
from maskstream.types import (
    BoxPrompt,
    Frame,
    FrameSegmentation,
    InputError,
    MaskPrompt,
    OfflineSegmenter,
    PointPrompt,
    Prompt,
    TextPrompt,
    Video,
    VideoError,
)
from maskstream.video import open_video
from maskstream.video.arrays import ArrayVideo

from .parts import LEFT, RIGHT, SIZE, BoxFiller, ShiftingPropagator, StillPropagator, frame, region, same, visible

DOT = region(3, 2, 4, 3)


def still_video(frames: int = 5) -> Video:
    return open_video([frame(index) for index in range(frames)])


def system(propagator: object | None = None, **options: Any) -> OfflineDeva:
    deva = Deva(propagator or StillPropagator(), prompter=BoxFiller())  # type: ignore[arg-type]
    return OfflineDeva(deva, **options)


def bytes_of(result: FrameSegmentation) -> tuple[object, ...]:
    soft = None if result.probabilities is None else result.probabilities.numpy().tobytes()
    return result.frame_index, result.segments, result.label_map().numpy().tobytes(), soft


# ------------------------------------------------------------ pure functions


@pytest.mark.parametrize(
    ("ahead", "behind", "since", "to", "expected"),
    [
        pytest.param(255, 0, 1, 3, 191, id="near the first: three quarters, 191.25"),
        pytest.param(255, 0, 3, 1, 64, id="near the second: one quarter, 63.75"),
        pytest.param(255, 0, 1, 1, 128, id="half way: 127.5 is rounded up"),
        pytest.param(0, 255, 1, 1, 128, id="the other way round, too"),
        pytest.param(200, 200, 5, 9, 200, id="both agree"),
        pytest.param(255, 255, 20_000, 50_000, 255, id="far apart"),
    ],
)
def test_passes_are_averaged_by_how_near_they_began(ahead, behind, since, to, expected):
    maps = [np.full((2, 3), value, dtype=np.uint8) for value in (ahead, behind)]
    mean = blended(*maps, since=since, to=to)
    assert mean is not None
    assert (mean == expected).all()


def test_one_pass_alone_is_taken_as_it_is():
    only = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert blended(only, None, since=1, to=0) is only
    assert blended(None, only, since=0, to=1) is only
    assert blended(None, None, since=0, to=0) is None


def test_only_gaps_with_outdated_frames_are_planned():
    given = {1: [2, 6], 2: [2]}
    stale = {1: {3, 4, 5}, 2: {0, 1}}
    assert plan(given, stale, backward=False, joint=False) == [Pass((1,), 2, 6)]
    assert plan(given, stale, backward=True, joint=False) == [Pass((1,), 6, 2), Pass((2,), 2, None)]


def test_objects_with_the_same_ends_share_a_pass_when_joint():
    given, stale = {1: [2], 2: [2], 3: [2, 9]}, {1: {5}, 2: {5}, 3: {5}}
    assert plan(given, stale, backward=False, joint=True) == [Pass((1, 2), 2, None), Pass((3,), 2, 9)]


def test_a_pass_needs_its_origin_and_what_lies_before_its_end():
    indices = [0, 2, 4, 6, 8]
    assert Pass((1,), 2, 8).frames(indices, backward=False) == [2, 4, 6]
    assert Pass((1,), 2, None).frames(indices, backward=False) == [2, 4, 6, 8]
    assert Pass((1,), 6, 2).frames(indices, backward=True) == [4, 6]
    assert Pass((1,), 6, None).frames(indices, backward=True) == [0, 2, 4, 6]


def test_a_lone_object_keeps_its_probability_and_two_share_with_what_neither_is():
    assert torch.allclose(together(torch.full((1, 1, 1), 0.3)).flatten(), torch.tensor([0.7, 0.3]))
    # (1 - 0.5)(1 - 0.4) = 0.3, beside 0.5 and 0.4: they sum to 1.2
    both = together(torch.tensor([0.5, 0.4])[:, None, None])
    assert torch.allclose(both.flatten(), torch.tensor([0.3, 0.5, 0.4]) / 1.2)


def test_the_store_gives_back_what_was_put_last():
    store, key = MapStore(), (3, 7)
    first, second = (np.random.default_rng(seed).integers(0, 256, (5, 4), dtype=np.uint8) for seed in (0, 1))
    assert store.get(key) is None
    for found in (first, second):
        store.put(key, found)
    found_again = store.get(key)
    assert found_again is not None
    assert np.array_equal(found_again, second)
    store.drop(key)
    assert store.get(key) is None
    store.close()


# ------------------------------------------------------------ prompts anywhere


@pytest.mark.parametrize("prompted", [0, 2, 4], ids=["first", "middle", "last"])
@pytest.mark.parametrize(
    ("direction", "reached"),
    [("forward", lambda t, f: t >= f), ("backward", lambda t, f: t <= f), ("both", lambda t, f: True)],
    ids=["forward", "backward", "both"],
)
def test_an_object_is_followed_from_any_frame_the_way_that_is_asked(prompted, direction, reached):
    results = list(system(ShiftingPropagator()).run(still_video(), [MaskPrompt(prompted, 3, DOT)], direction=direction))
    assert [result.frame_index for result in results] == [0, 1, 2, 3, 4]
    for result in results:
        x = 3 + result.frame_index - prompted
        expected = {3: region(x, 2, x + 1, 3)} if reached(result.frame_index, prompted) and 0 <= x < SIZE[1] else {}
        assert same(visible(result), expected)
        assert result.revision == 0


def test_between_two_prompted_frames_the_nearer_one_decides():
    results = list(system().run(still_video(6), [MaskPrompt(0, 1, LEFT), MaskPrompt(5, 1, RIGHT)]))
    expected = [LEFT, LEFT, LEFT, RIGHT, RIGHT, RIGHT]
    assert all(same(visible(result), {1: mask}) for result, mask in zip(results, expected, strict=True))


def test_probabilities_between_two_prompted_frames_change_linearly():
    results = list(system(soft=True).run(still_video(6), [MaskPrompt(0, 1, LEFT), MaskPrompt(5, 1, RIGHT)]))
    there = [float(result.probabilities[1, 2, 0]) for result in results]  # type: ignore[index]
    assert there == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0], abs=0.003)


def test_a_prompted_frame_is_exactly_what_was_given():
    results = list(system(StillPropagator((3, 4))).run(still_video(), [MaskPrompt(2, 1, LEFT), MaskPrompt(2, 2, DOT)]))
    assert same(visible(results[2]), {1: LEFT, 2: DOT})


def test_pixels_given_to_two_objects_go_to_the_later_one():
    results = list(system().run(still_video(1), [MaskPrompt(0, 1, LEFT), MaskPrompt(0, 2, region(2, 1, 5, 5))]))
    assert same(visible(results[0]), {1: region(0, 1, 2, 5), 2: region(2, 1, 5, 5)})


def test_the_mask_that_is_given_last_is_on_top():
    run = system().begin(still_video(1))
    list(run.prompt([MaskPrompt(0, 1, LEFT), MaskPrompt(0, 2, region(2, 1, 5, 5))]))
    (result,) = run.prompt([MaskPrompt(0, 1, LEFT)])
    assert same(visible(result), {1: LEFT, 2: region(3, 1, 5, 5)})


def test_boxes_and_clicks_go_through_the_prompter():
    prompts: list[Prompt] = [BoxPrompt(3, 1, (0, 1, 3, 5)), PointPrompt(1, 2, ((6, 2),))]
    results = list(system().run(still_video(), prompts))
    assert all(same(visible(result), {1: LEFT, 2: region(6, 2, 7, 3)}) for result in results)


def test_a_video_of_one_frame_is_what_was_given():
    (result,) = system(FlowPropagator(size=16)).run(still_video(1), [MaskPrompt(0, 1, LEFT)])
    assert same(visible(result), {1: LEFT})


def test_frames_of_a_stride_keep_their_index():
    video = open_video([frame(index) for index in range(10)], start=1, stride=3)
    results = list(system(ShiftingPropagator()).run(video, [MaskPrompt(4, 1, DOT)], start=2))
    assert [result.frame_index for result in results] == [4, 7]
    assert same(visible(results[1]), {1: region(6, 2, 7, 3)})


class Damaged(ArrayVideo):
    """Frame 2 cannot be decoded."""

    def frames_from(self, index: int) -> Iterator[Frame]:
        return (shown for shown in super().frames_from(index) if shown.index != 2)


def test_a_frame_that_cannot_be_decoded_is_passed_over():
    video = Damaged([frame(index) for index in range(5)])
    results = list(
        system(ShiftingPropagator()).run(video, [MaskPrompt(1, 1, DOT), MaskPrompt(4, 1, region(6, 2, 7, 3))])
    )
    assert [result.frame_index for result in results] == [0, 1, 3, 4]
    assert same(visible(results[2]), {1: region(5, 2, 6, 3)})
    with pytest.raises(VideoError, match=r"frame 2 of .* cannot be decoded"):
        list(system().run(video, [MaskPrompt(2, 1, DOT)]))


def test_an_object_that_is_said_to_be_nowhere_ends_half_way():
    prompts = [MaskPrompt(0, 1, LEFT), MaskPrompt(5, 1, torch.zeros_like(LEFT))]
    results = list(system().run(still_video(6), prompts))
    assert [bool(visible(result)) for result in results] == [True, True, True, False, False, False]


def test_nothing_said_is_nothing_found():
    results = list(system().run(still_video(3), []))
    assert [(result.frame_index, result.segments) for result in results] == [(0, ()), (1, ()), (2, ())]


def test_what_is_known_of_an_object_is_on_its_segments():
    prompts = [MaskPrompt(3, 1, LEFT), MaskPrompt(1, 1, LEFT, category=0, is_thing=True)]
    for result in system().run(still_video(), prompts):
        (segment,) = result.segments
        assert (segment.category, segment.is_thing, segment.prompt_id) == (0, True, "object-1")


def test_prompted_frames_have_an_event():
    run = system().begin(still_video())
    events = [
        (result.frame_index, event.kind)
        for prompts in ([MaskPrompt(3, 1, LEFT)], [MaskPrompt(1, 1, LEFT)])
        for result in run.prompt(prompts)
        for event in result.events
    ]
    assert events == [(3, "born"), (1, "corrected")]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        pytest.param(MaskPrompt(5, 1, LEFT), "on frame 5, but the frames to segment are 1 to 4", id="after the end"),
        pytest.param(MaskPrompt(0, 1, LEFT), "on frame 0, but the frames to segment are 1 to 4", id="before the start"),
        pytest.param(MaskPrompt(1, 1, LEFT[:3]), "3×8 but the video is 6×8", id="another size"),
        pytest.param(PointPrompt(1, 1, ((8, 2),)), "outside the video", id="outside"),
        pytest.param(TextPrompt("a dog", kind="expression"), "no segmenter", id="a sentence without a segmenter"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_at_once(prompt, words):
    with pytest.raises(InputError, match=words):
        system().run(still_video(), [prompt], start=1)


def test_a_range_or_a_direction_that_is_none_is_refused():
    with pytest.raises(InputError, match="no frame from 9"):
        system().run(still_video(), [], start=9)
    with pytest.raises(InputError, match="forward, backward or both"):
        system().run(still_video(), [], direction="up")  # type: ignore[arg-type]


def test_a_video_that_passes_by_once_is_refused():
    with pytest.raises(InputError, match="only once"):
        system().run(open_video(iter([frame(0)])), [])


# --------------------------------------------------------------- corrections


def test_a_correction_changes_the_frames_up_to_its_neighbours_and_no_other_leaves_again():
    propagator = ShiftingPropagator(0)
    run = system(propagator).begin(still_video(9))
    prompts: list[Prompt] = [MaskPrompt(1, 1, LEFT), MaskPrompt(7, 1, LEFT), MaskPrompt(4, 2, region(3, 0, 5, 6))]
    before = {result.frame_index: result for result in run.prompt(prompts)}
    propagator.advances.clear()
    after = list(run.prompt([MaskPrompt(4, 1, RIGHT)]))
    assert [(result.frame_index, result.revision) for result in after] == [(t, 1) for t in range(2, 7)]
    # Two gaps, each once forward and once backward; object 2 is not touched.
    assert sorted(index for index in propagator.advances if index not in (1, 4, 7)) == [2, 2, 3, 3, 5, 5, 6, 6]
    assert {t: set(visible(result)) for t, result in before.items()} == {t: {1, 2} for t in range(9)}
    assert same(visible(after[2]), {1: RIGHT, 2: region(3, 0, 5, 6) & ~RIGHT})


@pytest.mark.parametrize(
    ("direction", "frames"),
    [("forward", [3, 4, 5]), ("backward", [2, 3]), ("both", [2, 3, 4, 5])],
    ids=["forward", "backward", "both"],
)
def test_a_correction_reaches_as_far_as_its_direction(direction: Direction, frames):
    run = system().begin(still_video(6), direction=direction)
    list(run.prompt([MaskPrompt(1, 1, LEFT)]))
    assert [result.frame_index for result in run.prompt([MaskPrompt(3, 1, RIGHT)])] == frames


def test_prompts_given_one_after_another_come_to_the_same_as_all_at_once():
    video, truth = sample(10)
    prompts = [MaskPrompt(t, k, true_mask(truth[t], k)) for t, k in ((2, 1), (2, 2), (6, 1), (9, 2), (0, 2))]
    options = {"soft": True}
    at_once = [bytes_of(result) for result in system(FlowPropagator(size=64), **options).run(video, prompts)]
    run = system(FlowPropagator(size=64), **options).begin(video)
    latest = {}
    for prompt in prompts:
        for result in run.prompt([prompt]):
            latest[result.frame_index] = bytes_of(result)
    assert [latest[t] for t in range(10)] == at_once


def test_results_that_were_not_taken_come_with_the_next_call():
    run = system().begin(still_video(6))
    taken = run.prompt([MaskPrompt(0, 1, LEFT)])
    assert [next(taken).frame_index for _ in range(2)] == [0, 1]
    taken.close()  # type: ignore[attr-defined]
    rest = list(run.prompt([MaskPrompt(5, 1, RIGHT)]))
    assert [(result.frame_index, result.revision) for result in rest] == [(1, 1), (2, 0), (3, 0), (4, 0), (5, 0)]
    assert same(visible(rest[-2]), {1: RIGHT})


def test_a_click_refines_what_came_out():
    run = system().begin(still_video())
    list(run.prompt([MaskPrompt(0, 1, LEFT)]))
    after = list(run.prompt([PointPrompt(2, 1, ((1, 2),), (False,), add=True)]))
    assert [int(visible(result)[1].sum()) for result in after] == [12, 11, 11, 11]  # frame 1 is nearer to neither


def test_a_click_can_refine_what_an_earlier_frame_of_the_same_call_leads_to():
    prompts: list[Prompt] = [PointPrompt(2, 1, ((7, 2),), add=True), MaskPrompt(0, 1, LEFT)]
    results = list(system().run(still_video(), prompts))
    assert same(visible(results[2]), {1: LEFT | region(7, 2, 8, 3)})


def test_a_correction_cannot_make_an_object_something_else():
    run = system().begin(still_video())
    list(run.prompt([MaskPrompt(0, 1, LEFT, category=3)]))
    with pytest.raises(InputError, match="has category 3, and a correction cannot make it 5"):
        run.prompt([MaskPrompt(2, 1, LEFT, category=5)])
    assert list(run.prompt([MaskPrompt(2, 1, LEFT, category=3)]))


# ------------------------------------------------------- on rendered objects

Truth = FrameSegmentation
SAMPLE = (96, 128)


def sample(frames: int) -> tuple[Video, list[Truth]]:
    rendered = list(render_sample(frames=frames, size_hw=SAMPLE, objects=2))
    return open_video([shown for shown, _ in rendered]), [truth.segmentation for _, truth in rendered]


def true_mask(truth: Truth, object_id: int) -> Tensor:
    return visible(truth).get(object_id, torch.zeros(SAMPLE, dtype=torch.bool))


def similarities(masks: Sequence[dict[int, Tensor]], truth: Sequence[Truth]) -> np.ndarray:
    """``[T, 2]``, J of both objects."""
    none = torch.zeros(SAMPLE, dtype=torch.bool)
    return np.array(
        [
            [region_similarity(found.get(k, none).numpy(), true_mask(true, k).numpy()) for k in (1, 2)]
            for found, true in zip(masks, truth, strict=True)
        ]
    )


@pytest.mark.parametrize("prompted", [[0], [10], [19], [0, 19]], ids=["first", "middle", "last", "both ends"])
def test_objects_are_followed_from_any_frame_and_not_left_behind(prompted):
    """Copies of the nearest prompted mask must fail where propagation passes."""
    video, truth = sample(20)
    prompts = [MaskPrompt(t, k, true_mask(truth[t], k)) for t in prompted for k in (1, 2)]
    results = system(FlowPropagator(size=96)).run(video, prompts)
    nearest = [min(prompted, key=lambda f, t=t: abs(t - f)) for t in range(20)]  # type: ignore[misc]
    followed = similarities([visible(result) for result in results], truth).mean(axis=0)
    copied = similarities([visible(truth[t]) for t in nearest], truth).mean(axis=0)
    assert (followed > 0.87).all(), followed
    assert (copied < 0.83).all(), copied


def test_a_correction_improves_what_is_around_it_and_leaves_the_rest_to_the_byte():
    """Object 1 is given wrongly on frame 10, as a person may who clicks beside it; then it is put right there."""
    video, truth = sample(20)
    prompts = [MaskPrompt(t, k, true_mask(truth[t], k)) for t in (0, 16) for k in (1, 2)]
    wrong = MaskPrompt(8, 1, torch.roll(true_mask(truth[8], 1), 20, dims=1))
    run = system(FlowPropagator(size=96)).begin(video)
    before = {result.frame_index: result for result in run.prompt([*prompts, wrong])}
    unchanged = {t: bytes_of(result) for t, result in before.items()}
    changed = list(run.prompt([MaskPrompt(8, 1, true_mask(truth[8], 1))]))
    assert [result.frame_index for result in changed] == list(range(1, 16))
    assert all(bytes_of(before[t]) == unchanged[t] for t in range(20))
    around = slice(4, 13)
    earlier = similarities([visible(before[t]) for t in range(1, 16)], truth[1:16])[around]
    later = similarities([visible(result) for result in changed], truth[1:16])[around]
    assert (later[:, 0] > 0.8).all(), later
    assert later[:, 0].mean() > earlier[:, 0].mean() + 0.15


@pytest.mark.parametrize("joint", [False, True], ids=["each by itself", "jointly"])
def test_a_video_run_backward_gives_the_same_backward(joint):
    video, truth = sample(9)
    given = [(2, 1), (2, 2), (7, 1)]
    mirrored = open_video([Frame(8 - shown.index, 0.0, shown.image) for shown in reversed(list(video))])
    for direction, opposite in (("backward", "forward"), ("both", "both")):
        there = run_soft(video, [MaskPrompt(t, k, true_mask(truth[t], k)) for t, k in given], direction, joint)
        prompts = [MaskPrompt(8 - t, k, true_mask(truth[t], k)) for t, k in given]
        back = run_soft(mirrored, prompts, opposite, joint)
        assert [bytes_of(result)[1:] for result in there] == [bytes_of(result)[1:] for result in back][::-1]


def run_soft(video: Video, prompts: list[MaskPrompt], direction: str, joint: bool) -> list[FrameSegmentation]:
    offline = system(FlowPropagator(size=64), soft=True, joint=joint)
    return list(offline.run(video, prompts, direction=direction))  # type: ignore[arg-type]


def test_going_forward_is_what_a_session_does_that_sees_frames_as_they_come():
    video, truth = sample(12)
    prompt = MaskPrompt(0, 1, true_mask(truth[0], 1))
    deva = Deva(FlowPropagator(size=96))
    session = deva.start(next(iter(deva.tasks)), size_hw=SAMPLE)
    session.prompt([prompt])
    streamed = [result for shown in video for result in session.step(shown)]
    for online, offline in zip(streamed, OfflineDeva(deva).run(video, [prompt], direction="forward"), strict=True):
        assert (online.label_map() != offline.label_map()).float().mean() < 0.001


def test_two_runs_give_the_same_bytes():
    video, truth = sample(6)
    prompts = [MaskPrompt(3, k, true_mask(truth[3], k)) for k in (1, 2)]
    first, second = (
        [bytes_of(result) for result in system(FlowPropagator(size=64)).run(video, prompts)] for _ in range(2)
    )
    assert first == second


def test_the_contract_is_kept():
    offline: OfflineSegmenter = system()
    results: Iterator[FrameSegmentation] = offline.run(still_video(2), [MaskPrompt(1, 1, LEFT)])
    assert len(list(results)) == 2
