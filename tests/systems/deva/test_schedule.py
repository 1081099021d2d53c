"""Semi-online sessions: a few frames are held back, and what they agree on is merged into the first of them."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskstream.systems.deva import DevaSession, DevaSettings
from maskstream.types import (
    BoxPrompt,
    FrameSegmentation,
    InputError,
    MaskPrompt,
    PointPrompt,
    Proposals,
    StalePromptError,
    Track,
)

from .parts import (
    LEFT,
    RIGHT,
    SIZE,
    TOP,
    WIDE,
    BoxFiller,
    ScriptedDetector,
    ShiftingPropagator,
    StillPropagator,
    described,
    found,
    frame,
    region,
    same,
    visible,
    watch,
    wide,
)


def semi_online(
    detector: ScriptedDetector | dict[int, Proposals],
    *,
    propagator: ShiftingPropagator | None = None,
    prompter: BoxFiller | None = None,
    soft: bool = False,
    **options: object,
) -> DevaSession:
    """Three frames of five vote, unless told otherwise."""
    propagator = propagator or StillPropagator()
    return DevaSession(
        propagator,
        size_hw=propagator.size,
        prompter=prompter,
        detector=detector if isinstance(detector, ScriptedDetector) else ScriptedDetector(detector),
        settings=DevaSettings(schedule="semi-online", **options),  # type: ignore[arg-type]
        soft=soft,
    )


def ids(results: list[FrameSegmentation]) -> list[list[int]]:
    return [list(visible(result)) for result in results]


def kinds(result: FrameSegmentation) -> list[tuple[str, int | None]]:
    return [(event.kind, event.track_id) for event in result.events]


# ---------------------------------------------------------------- schedule


def test_the_first_frames_of_every_clip_are_segmented_and_held_back():
    """Specification §20, D1."""
    detector = ScriptedDetector({i: found(LEFT) for i in range(23)})
    session = semi_online(detector)
    assert session.latency == 2
    leaving = [[result.frame_index for result in session.step(frame(index))] for index in range(23)]
    assert list(session.finish()) == []
    assert detector.frames == [0, 1, 2, 5, 6, 7, 10, 11, 12, 15, 16, 17, 20, 21, 22]
    clip: list[list[int]] = [[], [], [0, 1, 2], [3], [4]]
    assert leaving == [[k + index for index in of_step] for k in (0, 5, 10, 15, 20) for of_step in clip][:23]


def test_the_first_frames_wait_for_those_they_are_compared_with():
    detector = ScriptedDetector({i: found(LEFT) for i in range(12)}, context=4)
    session = semi_online(detector, look_ahead=True)
    assert session.latency == 6
    leaving = [[result.frame_index for result in session.step(frame(index))] for index in range(12)]
    assert leaving == [[]] * 6 + [[0, 1, 2, 3, 4], [5, 6, 7], [8], [9], [], []]
    assert [result.frame_index for result in session.finish()] == [10, 11]
    assert detector.asked[:3] == [(0, [4, 3, 2, 1]), (1, [5, 4, 3, 2]), (2, [6, 5, 4, 3])]
    assert detector.asked[3:] == [(n, [n - 4, n - 3, n - 2, n - 1]) for n in (5, 6, 7, 10, 11)]


@pytest.mark.parametrize("length", range(1, 7))
def test_a_video_too_short_to_wait_for_is_compared_with_what_there_is(length):
    detector = ScriptedDetector({i: found(LEFT) for i in range(length)}, context=4)
    session = semi_online(detector, look_ahead=True)
    assert [session.step(frame(index)) for index in range(length)] == [[]] * length
    assert [result.frame_index for result in session.finish()] == list(range(length))
    for n, context in detector.asked:
        past, ahead = [*range(max(n - 4, 0), n)], [*range(min(n + 4, length - 1), n, -1)]
        assert context == (ahead if len(ahead) > len(past) else past)


@st.composite
def _schedules(draw):
    every = draw(st.integers(1, 6))
    voting = draw(st.integers(1, every))
    length = draw(st.integers(0, 25))
    stride = draw(st.integers(1, 3))
    forced = draw(st.sets(st.integers(0, 24), max_size=6))
    seen = draw(st.sets(st.integers(0, 24)))
    schedule = draw(st.sampled_from(["online", "semi-online"]))
    return schedule, every, voting, length, stride, forced, seen, draw(st.integers(0, 4)), draw(st.booleans())


@settings(max_examples=120, deadline=None)
@given(_schedules())
def test_every_frame_leaves_once_in_order_and_never_too_late(case):
    schedule, every, voting, length, stride, forced, seen, context, look_ahead = case
    detector = ScriptedDetector({index * stride: found(LEFT) for index in seen}, context)
    session = DevaSession(
        StillPropagator(),
        size_hw=SIZE,
        detector=detector,
        settings=DevaSettings(schedule=schedule, detection_every=every, voting_frames=voting, look_ahead=look_ahead),
    )
    left: list[int] = []
    for index in range(length):
        results = session.step(frame(index * stride), force_key=index in forced)
        left += [result.frame_index // stride for result in results]
        assert index - len(left) + 1 <= session.latency
    left += [result.frame_index // stride for result in session.finish()]
    assert left == list(range(length))
    assert {index for index in forced if index < length} <= {index // stride for index in detector.frames}


@pytest.mark.parametrize("length", range(1, 9))
@pytest.mark.parametrize("found_on", [range(9), [0], [1]], ids=["found on all", "on the first", "on the second"])
def test_a_video_shorter_than_a_clip_is_not_empty(length, found_on):
    """Specification §20, D2: what is found is believed where nobody can confirm it, and nothing is lost at the end."""
    results = watch(semi_online({i: found(LEFT) for i in found_on}), length)
    assert [result.frame_index for result in results] == list(range(length))
    believed = len(found_on) > 1 or (length < 3 and found_on[0] < length)
    assert ids(results) == [[1] if believed else []] * length


def test_frames_left_over_at_the_end_are_propagated_without_a_vote():
    script = {i: found(LEFT) for i in range(3)} | {i: found(LEFT, RIGHT) for i in (5, 6)}
    results = watch(semi_online(script), 7)
    assert ids(results) == [[1]] * 7
    assert [kinds(result) for result in results] == [[("born", 1)], *[[]] * 6]


def test_a_detector_that_finds_nothing_gives_empty_masks_until_it_finds_something():
    """Specification §20, D3."""
    results = watch(semi_online({i: found(LEFT) for i in range(10, 13)}), 15)
    assert ids(results) == [[]] * 10 + [[1]] * 5
    online = DevaSession(StillPropagator(), size_hw=SIZE, detector=ScriptedDetector({5: found(LEFT)}))
    assert ids(watch(online, 7)) == [[]] * 5 + [[1]] * 2


def test_the_same_video_twice_gives_the_same_results():
    """Specification §20, D4; two frames that agree are a tie every time."""

    def run() -> list[tuple[object, ...]]:
        generator = torch.Generator().manual_seed(5)
        script = {
            i: found(
                *(mask ^ (torch.rand(SIZE, generator=generator) > 0.93) for mask in (LEFT, RIGHT, TOP)),
                categories=tuple(torch.randint(0, 3, (3,), generator=generator).tolist()),
                scores=tuple(torch.rand(3, generator=generator).tolist()),
            )
            for i in range(20)
        }
        session = semi_online(script, soft=True, max_missed=1)
        results = [described(result) for result in watch(session, 20)]
        return [*results, tuple(session.tracks())]

    once = run()
    assert once == run()
    assert len(once[-1]) >= 3


def test_forcing_a_key_frame_begins_a_new_clip_there():
    detector = ScriptedDetector({i: found(LEFT) for i in range(12)})
    session = semi_online(detector)
    leaving = [
        [result.frame_index for result in session.step(frame(index), force_key=index in (4, 10))] for index in range(12)
    ]
    assert detector.frames == [0, 1, 2, 4, 5, 6, 9, 10, 11]
    assert leaving == [[], [], [0, 1, 2], [3], [], [], [4, 5, 6], [7], [8], [], [9], []]
    assert [result.frame_index for result in session.finish()] == [10, 11]


def test_one_voter_is_the_online_schedule():
    script = {0: found(LEFT), 2: found(LEFT, TOP), 4: found(RIGHT)}
    session = semi_online(script, voting_frames=1, detection_every=2)
    assert session.latency == 0
    online = DevaSession(
        StillPropagator(),
        size_hw=SIZE,
        detector=ScriptedDetector(script),
        settings=DevaSettings(detection_every=2),
    )
    assert [described(result) for result in watch(session, 6)] == [described(result) for result in watch(online, 6)]


# --------------------------------------------------------------- consensus


@pytest.mark.parametrize("lone_on", [0, 1, 2])
def test_a_lone_proposal_is_noise_and_an_agreed_one_is_an_object_from_the_key_frame_on(lone_on):
    script = {i: found(LEFT) for i in range(3)} | {lone_on: found(LEFT, RIGHT)}
    results = watch(semi_online(script), 5)
    assert all(same(visible(result), {1: LEFT}) for result in results)


def test_two_of_three_frames_are_enough_and_the_key_frame_need_not_be_one():
    results = watch(semi_online({1: found(LEFT), 2: found(LEFT)}), 5)
    assert ids(results) == [[1]] * 5


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_a_higher_cost_needs_more_support(alpha):
    results = watch(semi_online({1: found(LEFT), 2: found(LEFT)}, alpha=alpha), 5)
    assert ids(results) == [[1] if alpha == 0.5 else []] * 5


@pytest.mark.parametrize("velocity", [4, 0])
def test_proposals_are_aligned_to_the_key_frame_before_they_vote(velocity):
    """An object four pixels wide moves four a frame: where they lie, the proposals have not a pixel in common."""
    script = {1: found(wide(8, 12)), 2: found(wide(12, 16))}
    results = watch(semi_online(script, propagator=ShiftingPropagator(velocity, WIDE)), 4, WIDE)
    if velocity:
        assert [visible(r)[1].equal(wide(4 + 4 * n, 8 + 4 * n)) for n, r in enumerate(results)] == [True] * 4
    else:
        assert ids(results) == [[]] * 4


def test_an_object_inherits_the_votes_of_all_that_stand_behind_it():
    """Specification §20, C7."""
    script = {i: found(LEFT, categories=(c,), scores=(s,)) for i, (c, s) in enumerate([(3, 0.2), (5, 0.5), (5, None)])}
    session = semi_online(script)
    results = watch(session, 3)
    assert [r.segments[0].category for r in results] == [5] * 3
    assert [r.segments[0].score for r in results] == pytest.approx([0.35] * 3)
    assert session.tracks()[0].category_scores == {3: pytest.approx(1 / 3), 5: pytest.approx(2 / 3)}
    assert [event.reason for event in results[0].events] == ["detected on 3 frames, matches no object"]


def test_things_and_stuff_do_not_vote_for_one_another():
    script = {0: found(LEFT, is_thing=(True,)), 1: found(LEFT, is_thing=(False,)), 2: found(LEFT)}
    assert ids(watch(semi_online(script), 3)) == [[]] * 3


def test_detections_below_the_score_do_not_vote():
    script = {i: found(LEFT, RIGHT, scores=(0.4, 0.6)) for i in range(3)}
    (first, *_) = watch(semi_online(script, min_score=0.5), 3)
    assert same(visible(first), {1: RIGHT})


@pytest.mark.parametrize("max_missed", [1, 2])
def test_a_clip_that_does_not_agree_on_an_object_is_one_miss(max_missed):
    script = {i: found(LEFT) for i in range(3)} | {5: found(LEFT), 11: found(LEFT)}
    results = watch(semi_online(script, max_missed=max_missed), 25)
    dropped_on = 5 * (max_missed + 1)
    assert ids(results) == [[1]] * dropped_on + [[]] * (25 - dropped_on)
    assert kinds(results[5]) == [("missed", 1)]
    assert kinds(results[dropped_on]) == [("deleted", 1)]


# ------------------------------------------------------------- incremental


def test_incremental_detections_are_asked_for_what_is_free_on_the_very_frame_and_move_nothing():
    """Specification §10.2 has it wrong: the first held frame for all of them, and the memory moved on every time."""
    objects = {i: found(wide(2 + 2 * i, 8 + 2 * i)) for i in range(3)}
    detector = ScriptedDetector(objects)
    propagator = ShiftingPropagator(2, WIDE)
    results = watch(semi_online(detector, propagator=propagator, incremental=True, max_missed=0), 10, WIDE)
    assert detector.frames == [0, 1, 2, 5, 6, 7]
    for index, exclude in zip(detector.frames, detector.excluded, strict=True):
        covered = torch.zeros(WIDE, dtype=torch.bool) if index < 5 else wide(2 + 2 * index, 8 + 2 * index)
        assert exclude is not None
        assert exclude.dtype == torch.bool
        assert torch.equal(exclude, covered)
    assert propagator.advances == list(range(10))
    assert ids(results) == [[1]] * 10


def test_detections_that_are_not_incremental_exclude_nothing():
    detector = ScriptedDetector({})
    watch(semi_online(detector), 3)
    assert detector.excluded == [None] * 3


# ----------------------------------------------------- prompts and removals


@pytest.mark.parametrize("asked_on", [0, 1, 2])
def test_a_prompt_on_a_frame_that_is_held_back_is_honoured(asked_on):
    session = semi_online({})
    assert session.step(frame(0)) == session.step(frame(1)) == []
    session.prompt([MaskPrompt(asked_on, 4, LEFT)])
    results = [*session.step(frame(2)), *session.step(frame(3))]
    assert ids(results) == [[4] if index >= asked_on else [] for index in range(4)]


def test_a_click_refines_an_object_on_a_frame_that_is_held_back():
    session = semi_online({i: found(LEFT) for i in range(3)}, prompter=BoxFiller())
    watched = [session.step(frame(index)) for index in range(2)]
    assert watched == [[], []]
    session.prompt([MaskPrompt(0, 9, RIGHT), PointPrompt(1, 9, ((5, 1),), (False,), add=True)])
    results = session.step(frame(2))
    refined = RIGHT & ~region(5, 1, 6, 2)
    assert [visible(result)[9].equal(RIGHT) for result in results] == [True, False, False]
    assert [visible(result)[9].equal(refined) for result in results] == [False, True, True]


def test_a_prompt_on_a_frame_that_has_left_is_stale():
    session = semi_online({})
    for index in range(6):
        session.step(frame(index))
    with pytest.raises(StalePromptError, match="on frame 4, but frames up to 4 were already emitted"):
        session.prompt([MaskPrompt(4, 1, LEFT)])
    session.prompt([MaskPrompt(5, 1, LEFT)])
    assert ids(list(session.finish())) == [[1]]


def test_a_forced_key_frame_may_be_prompted_though_those_before_it_have_left():
    session = semi_online({})
    session.step(frame(0))
    assert ids(session.step(frame(1), force_key=True)) == [[]]
    with pytest.raises(StalePromptError, match="frames up to 0 were already emitted"):
        session.prompt([MaskPrompt(0, 1, LEFT)])
    session.prompt([MaskPrompt(1, 1, LEFT)])
    assert ids(list(session.finish())) == [[1]]


def test_a_prompt_on_a_frame_that_never_came_is_reported_after_what_is_held_back_has_left():
    session = semi_online({})
    session.step(frame(0))
    session.prompt([MaskPrompt(3, 1, LEFT)])
    leaving = session.finish()
    assert next(leaving).frame_index == 0
    with pytest.raises(InputError, match="on frame 3, but the video ended at frame 0"):
        next(leaving)


def test_removing_while_frames_are_held_back_takes_effect_on_the_next_that_comes():
    session = semi_online({i: found(LEFT, RIGHT) for i in range(11)})
    for index in range(6):
        session.step(frame(index))
    session.remove([1])
    assert session.step(frame(6)) == []
    for again in (lambda: session.remove([2, 1]), lambda: session.remove([1])):
        with pytest.raises(InputError, match=r"object 1 cannot be removed: it is not followed \(followed: 2\)"):
            again()
    with pytest.raises(InputError, match="object 1 was removed: ids are never reused"):
        session.prompt([MaskPrompt(7, 1, TOP)])
    results = session.step(frame(7))
    assert ids(results) == [[1, 2], [2], [2]]
    assert [kinds(result) for result in results] == [
        [("matched", 1), ("matched", 2)],  # on the key frame, before it was removed
        [("removed", 1)],
        [],
    ]


def test_an_object_that_is_dropped_while_its_removal_waits_is_simply_gone():
    session = semi_online({i: found(LEFT) for i in range(3)}, max_missed=0)
    for index in range(6):
        session.step(frame(index))
    session.remove([1])
    session.step(frame(6))
    results = session.step(frame(7))
    assert [kinds(result) for result in results] == [[("deleted", 1)], [], []]


# ------------------------------------------------------------------- state

LENGTH = 23


def _story(*, incremental: bool = False, look_ahead: bool = False) -> DevaSession:
    script = {
        **{i: found(LEFT, TOP, categories=(3, 7), scores=(0.5, None)) for i in range(3)},
        **{i: found(LEFT, RIGHT, categories=(5, 7), is_thing=(None, False)) for i in range(5, 8)},
        **{i: found(LEFT, RIGHT, categories=(5, 6), is_thing=(None, False)) for i in range(10, 13)},
        15: found(region(4, 2, 6, 4)),  # cut short: nobody can confirm it
        **{i: found(TOP) for i in range(16, 19)},
        22: found(region(4, 2, 6, 4)),  # so here, at the end
    }
    detector = ScriptedDetector(script, context=2)
    return semi_online(
        detector, prompter=BoxFiller(), max_missed=1, soft=True, incremental=incremental, look_ahead=look_ahead
    )


def _intervene(session: DevaSession, index: int) -> None:
    """What a person does before a frame comes."""
    if index == 2:
        session.prompt([MaskPrompt(1, 20, region(3, 1, 5, 5)), BoxPrompt(6, 21, (3, 5, 6, 6))])
    if index == 6:
        session.remove([22])  # found first, after 20 and 21 were announced; while frame 5 is held back
    if index == 7:
        session.prompt([PointPrompt(6, 20, ((3, 5),), add=True), MaskPrompt(9, 20, region(3, 2, 5, 4))])
    if index == 12:
        session.remove([20])


def _story_from(session: DevaSession, first: int, last: int) -> list[FrameSegmentation]:
    results = []
    for index in range(first, last):
        if index != first:
            _intervene(session, index)
        results += session.step(frame(index), force_key=index == 16)
    return results


@functools.cache
def _whole_story(*, incremental: bool, look_ahead: bool) -> tuple[list[tuple[object, ...]], list[Track]]:
    session = _story(incremental=incremental, look_ahead=look_ahead)
    results = [*_story_from(session, 0, LENGTH), *session.finish()]
    happened = {event.kind for result in results for event in result.events}
    assert happened >= {"born", "matched", "removed", "corrected", "renamed"}
    assert incremental or happened >= {"missed", "deleted"}
    return [described(result) for result in results], session.tracks()


@pytest.mark.parametrize(("incremental", "look_ahead"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("cut", range(LENGTH + 1))
def test_a_session_cut_anywhere_continues_as_if_nothing_had_happened(cut, incremental, look_ahead, tmp_path):
    """The cut is after the person's wishes and before the frame: prompts and removals wait in the state."""
    first, second = (_story(incremental=incremental, look_ahead=look_ahead) for _ in range(2))
    before = _story_from(first, 0, cut)
    if 0 < cut < LENGTH:
        _intervene(first, cut)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    after = [*_story_from(second, cut, LENGTH), *second.finish()]
    expected = _whole_story(incremental=incremental, look_ahead=look_ahead)
    assert ([described(result) for result in (*before, *after)], second.tracks()) == expected


def test_a_state_is_not_changed_by_what_happens_afterwards():
    session = _story()
    _story_from(session, 0, 7)
    state = session.state_dict()
    results = []
    for _ in range(2):
        session.load_state_dict(state)
        results.append([described(result) for result in [*_story_from(session, 7, LENGTH), *session.finish()]])
    assert results[0] == results[1]
