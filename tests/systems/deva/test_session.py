"""Sessions that hold nothing back: prompts, and detections merged at once."""

import pytest
import torch

from maskstream.systems.deva import DevaSession, DevaSettings
from maskstream.types import (
    BoxPrompt,
    Event,
    InputError,
    MaskPrompt,
    MaskstreamWarning,
    PointPrompt,
    Prompt,
    Proposals,
    ScribblePrompt,
    StalePromptError,
    TextPrompt,
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
    found,
    frame,
    region,
    same,
    step,
    watch,
    wide,
)


def prompted(**parts: object) -> DevaSession:
    return DevaSession(StillPropagator(), size_hw=SIZE, **parts)  # type: ignore[arg-type]


# ------------------------------------------------------------------ prompts


def test_a_prompted_object_is_followed_from_its_frame_on():
    session = prompted()
    session.prompt([MaskPrompt(1, 4, LEFT), MaskPrompt(3, 2, RIGHT)])
    assert [list(step(session, index)) for index in range(5)] == [[], [4], [4], [4, 2], [4, 2]]
    assert list(session.finish()) == []
    assert [(t.track_id, t.first, t.last, t.prompt_id) for t in session.tracks()] == [
        (2, 3, 4, "object-2"),
        (4, 1, 4, "object-4"),
    ]


def test_prompting_again_replaces_the_object_and_takes_pixels_from_others():
    session = prompted()
    session.prompt([MaskPrompt(0, 1, LEFT), MaskPrompt(0, 2, RIGHT), MaskPrompt(2, 1, region(4, 1, 6, 5))])
    step(session, 0)
    assert same(step(session, 1), {1: LEFT, 2: RIGHT})
    assert same(step(session, 2), {1: region(4, 1, 6, 5), 2: region(6, 1, 8, 5)})
    assert same(step(session, 3), {1: region(4, 1, 6, 5), 2: region(6, 1, 8, 5)})


def test_a_removed_object_is_gone_and_its_id_with_it():
    session = prompted()
    session.prompt([MaskPrompt(0, 1, LEFT), MaskPrompt(0, 2, RIGHT)])
    step(session, 0)
    session.remove([1])
    assert list(step(session, 1)) == [2]
    with pytest.raises(InputError, match="never reused"):
        session.prompt([MaskPrompt(5, 1, LEFT)])
    with pytest.raises(InputError, match="not followed"):
        session.remove([1])


def test_a_box_goes_through_the_prompter():
    session = prompted(prompter=BoxFiller())
    session.prompt([BoxPrompt(0, 3, (0, 1, 3, 5))])
    assert same(step(session, 0), {3: LEFT})


@pytest.mark.parametrize(("add", "expected"), [(True, 12 - 1), (False, 1)])
def test_a_click_refines_what_is_there_or_starts_anew(add, expected):
    session = prompted(prompter=BoxFiller())
    session.prompt([MaskPrompt(0, 1, LEFT)])
    step(session, 0)
    session.prompt([PointPrompt(1, 1, ((1, 2),), (not add,), add=add)])
    assert step(session, 1)[1].sum() == expected


def test_a_click_beside_a_mask_refines_that_mask_and_not_what_was_there():
    session = prompted(prompter=BoxFiller())
    session.prompt([MaskPrompt(0, 1, LEFT)])
    step(session, 0)
    session.prompt([MaskPrompt(1, 1, RIGHT), PointPrompt(1, 1, ((5, 1),), (False,), add=True)])
    assert same(step(session, 1), {1: RIGHT & ~region(5, 1, 6, 2)})


def test_pixels_given_to_two_objects_go_to_the_later_one():
    session = prompted()
    session.prompt([MaskPrompt(0, 1, LEFT), MaskPrompt(0, 2, region(2, 1, 5, 5))])
    assert same(step(session, 0), {1: region(0, 1, 2, 5), 2: region(2, 1, 5, 5)})


def test_void_pixels_belong_to_nobody():
    session = prompted()
    session.prompt([MaskPrompt(0, 1, LEFT, void=region(0, 0, 1, 6))])
    assert same(step(session, 0), {1: region(1, 1, 3, 5)})


def test_the_prompted_frame_comes_out_as_it_was_given_at_source_size():
    session = DevaSession(StillPropagator((3, 4)), size_hw=SIZE)
    dot = region(3, 2, 4, 3)
    session.prompt([MaskPrompt(0, 1, LEFT), MaskPrompt(0, 2, dot)])
    assert same(step(session, 0), {1: LEFT, 2: dot})


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        pytest.param(
            MaskPrompt(3, 2, torch.ones((4, 8))), "mask for object 2 on frame 3 is 4×8 but the video is 6×8", id="size"
        ),
        pytest.param(BoxPrompt(3, 2, (0, 0, 40, 4)), "reaches outside the video, which is 8 wide and 6 high", id="box"),
        pytest.param(PointPrompt(3, 2, ((1, 6),)), "point 1,6 of object 2", id="point"),
        pytest.param(ScribblePrompt(3, 2, ((1, 1), (-2, 1))), "point -2,1 of object 2", id="scribble"),
        pytest.param(MaskPrompt(1, 2, LEFT), "frames up to 1 were already emitted", id="stale"),
        pytest.param(TextPrompt("a dog"), "reads text", id="text"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_and_none_of_its_batch_is_taken(prompt, message):
    session = prompted(prompter=BoxFiller())
    step(session, 0)
    step(session, 1)
    with pytest.raises(InputError, match=message) as caught:
        session.prompt([MaskPrompt(2, 1, LEFT), prompt])
    assert isinstance(caught.value, StalePromptError) == ("emitted" in message)
    assert step(session, 2) == {}


def test_without_a_prompter_boxes_are_refused():
    with pytest.raises(InputError, match="takes masks only"):
        prompted().prompt([BoxPrompt(0, 1, (0, 0, 2, 2))])


def test_a_prompt_on_a_frame_that_never_comes_is_reported_at_the_end():
    session = prompted()
    session.prompt([MaskPrompt(9, 1, LEFT)])
    step(session, 0)
    with pytest.raises(InputError, match="on frame 9, but the video ended at frame 0"):
        list(session.finish())


def test_a_prompt_on_a_frame_that_is_skipped_is_reported():
    session = prompted()
    session.prompt([MaskPrompt(1, 1, LEFT)])
    step(session, 0)
    with pytest.raises(InputError, match="frame 1, which is not among"):
        session.step(frame(2))


def test_frames_must_be_of_one_size_and_in_order():
    session = prompted()
    session.step(frame(3))
    with pytest.raises(InputError, match="5×8 but the video began at 6×8"):
        session.step(frame(4, (5, 8)))
    with pytest.raises(InputError, match="frame 3 came after frame 3"):
        session.step(frame(3))


def test_soft_results_carry_probabilities_that_sum_to_one():
    session = prompted(soft=True)
    session.prompt([MaskPrompt(0, 1, LEFT)])
    (result,) = session.step(frame(0))
    assert result.probabilities is not None
    assert result.probabilities.dtype == torch.float16
    assert torch.allclose(result.probabilities.float().sum(0), torch.ones(SIZE))


# --------------------------------------------------------------- detections


def automatic(
    script: dict[int, Proposals], *, prompter: BoxFiller | None = None, soft: bool = False, **options: object
) -> DevaSession:
    """Detects on every frame."""
    return DevaSession(
        StillPropagator(),
        size_hw=SIZE,
        prompter=prompter,
        detector=ScriptedDetector(script),
        settings=DevaSettings(**{"detection_every": 1, **options}),  # type: ignore[arg-type]
        soft=soft,
    )


def test_a_detection_becomes_an_object_and_keeps_its_id_when_found_again():
    session = automatic({0: found(LEFT), 1: found(RIGHT, region(0, 1, 3, 6)), 2: found(TOP, LEFT)})
    assert same(step(session, 0), {1: LEFT})
    assert same(step(session, 1), {1: region(0, 1, 3, 6), 2: RIGHT})
    assert same(step(session, 2), {1: region(0, 1, 3, 6), 2: RIGHT, 3: TOP})


def test_detections_run_on_every_dth_frame_and_when_forced():
    detector = ScriptedDetector({}, context=2)
    session = DevaSession(StillPropagator(), size_hw=SIZE, detector=detector, settings=DevaSettings(detection_every=3))
    for index in range(8):
        session.step(frame(index), force_key=index == 4)
    assert detector.asked == [(0, []), (3, [1, 2]), (4, [2, 3]), (7, [5, 6])]


@pytest.mark.parametrize(
    "max_missed",
    [
        pytest.param(0, id="at the first miss"),
        pytest.param(2, id="at the third"),
        pytest.param(4, id="at the fifth: L = 5 as the paper reads"),
        pytest.param(5, id="at the sixth: L = 5 as released"),
    ],
)
def test_an_object_is_dropped_when_missed_more_often_than_allowed(max_missed):
    session = automatic({0: found(LEFT)}, max_missed=max_missed)
    seen = [list(step(session, index)) for index in range(max_missed + 3)]
    assert seen == [[1]] * (max_missed + 1) + [[]] * 2


def test_a_match_forgives_earlier_misses():
    session = automatic({0: found(LEFT), 3: found(LEFT)}, max_missed=2)
    seen = [list(step(session, index)) for index in range(7)]
    assert seen == [[1]] * 6 + [[]]


def test_incremental_detections_cannot_miss_what_is_visible():
    session = automatic({0: found(LEFT), 4: found(LEFT.clone())}, max_missed=0, incremental=True)
    assert [list(step(session, index)) for index in range(5)] == [[1]] * 5


def test_incremental_detections_miss_what_is_out_of_sight():
    session = DevaSession(
        ShiftingPropagator(10, WIDE),
        size_hw=WIDE,
        detector=ScriptedDetector({0: found(wide(30, 40), wide(0, 8))}),
        settings=DevaSettings(detection_every=1, incremental=True, max_missed=1),
    )
    kinds = [[(e.kind, e.track_id) for e in result.events] for result in watch(session, 3, WIDE)]
    assert kinds == [[("born", 1), ("born", 2)], [("missed", 1)], [("deleted", 1)]]


def test_what_a_person_prompted_is_never_dropped():
    session = automatic({}, max_missed=0)
    session.prompt([MaskPrompt(0, 5, LEFT)])
    assert [list(step(session, index)) for index in range(4)] == [[5]] * 4


def test_an_id_is_not_reused_after_an_object_was_dropped():
    session = automatic({0: found(LEFT), 2: found(LEFT)}, max_missed=0)
    assert [list(step(session, index)) for index in range(3)] == [[1], [], [2]]


def test_at_the_limit_objects_keep_matching_and_surviving():
    """Others are refused: told on every frame, warned of once. Every detection would be a miss in the authors' code."""
    both = found(LEFT, RIGHT, scores=(0.2, 0.9))
    session = automatic(dict.fromkeys(range(5), both), max_missed=0, max_objects=1)
    with pytest.warns(MaskstreamWarning, match="1 objects are followed; what else is found is ignored") as warned:
        results = [session.step(frame(index))[0] for index in range(5)]
    assert len(warned) == 1
    assert [[s.track_id for s in result.segments] for result in results] == [[1]] * 5
    assert all(torch.equal(result.masks_nhw()[0], RIGHT) for result in results)
    kinds = [[(event.kind, event.track_id) for event in result.events] for result in results]
    assert kinds == [[("born", 1), ("refused", None)], *[[("matched", 1), ("refused", None)]] * 4]
    assert len(session.tracks()) == 1


def test_when_one_is_gone_there_is_room_for_another():
    session = automatic({0: found(LEFT), 1: found(RIGHT), 2: found(RIGHT)}, max_missed=0, max_objects=1)
    assert list(step(session, 0)) == [1]
    with pytest.warns(MaskstreamWarning, match="1 objects"):
        assert list(step(session, 1)) == []
    assert same(step(session, 2), {2: RIGHT})


def test_prompted_objects_count_but_are_never_refused():
    session = automatic({0: found(TOP), 1: found(TOP)}, max_objects=1)
    step(session, 0)
    session.prompt([MaskPrompt(1, 7, LEFT), MaskPrompt(1, 8, RIGHT)])
    assert list(step(session, 1)) == [1, 7, 8]


def test_what_no_detection_confirms_is_not_memorised():
    """It is propagation only: written down, it would teach the propagator its own mistakes."""

    class Noting(StillPropagator):
        def __init__(self):
            super().__init__()
            self.written = []

        def write(self, state, features, masks_nhw, object_ids):
            self.written.append((features, list(object_ids)))
            return super().write(state, features, masks_nhw, object_ids)

    detector = ScriptedDetector({0: found(LEFT, TOP), 1: found(TOP, RIGHT)})
    propagator = Noting()
    watch(DevaSession(propagator, size_hw=SIZE, detector=detector, settings=DevaSettings(detection_every=1)), 3)
    assert propagator.written == [(0, [1, 2]), (1, [2, 3])]


@pytest.mark.parametrize("fused", ["union", "detection"])
def test_an_object_becomes_the_union_as_published_or_what_was_detected(fused):
    part = region(0, 1, 2, 5)
    session = DevaSession(
        StillPropagator(),
        size_hw=SIZE,
        detector=ScriptedDetector({0: found(LEFT), 2: found(part)}),
        settings=DevaSettings(detection_every=2, fused=fused),
    )
    then = LEFT if fused == "union" else part
    assert all(same(step(session, index), {1: mask}) for index, mask in enumerate([LEFT, LEFT, then, then]))


def test_a_detection_that_is_wholly_covered_begins_no_object():
    session = automatic({0: found(LEFT, is_thing=(True,)), 1: found(region(0, 2, 1, 3), is_thing=(False,))})
    step(session, 0)
    assert list(step(session, 1)) == [1]


def test_detections_below_the_score_are_ignored():
    session = automatic({0: found(LEFT, RIGHT, scores=(0.3, None))}, min_score=0.5)
    assert same(step(session, 0), {1: RIGHT})


def test_what_is_not_sure_begins_nothing_and_draws_nothing_but_keeps_alive():
    part = region(0, 1, 2, 5)
    unsure = found(part, RIGHT, scores=(0.4, 0.4))
    script = {0: found(LEFT, scores=(0.9,)), 1: unsure, 2: unsure, 3: found(RIGHT, scores=(0.4,))}
    session = automatic(script, max_missed=0, sure_score=0.5)
    assert all(same(step(session, index), {1: LEFT}) for index in range(3))
    assert not step(session, 3)


def test_an_id_that_a_person_announced_is_not_given_to_a_detection():
    session = automatic({0: found(LEFT), 1: found(RIGHT)})
    session.prompt([MaskPrompt(2, 1, TOP)])
    assert [list(step(session, index)) for index in range(3)] == [[2], [2, 3], [2, 3, 1]]


def test_votes_of_all_detections_decide_the_category():
    script = {i: found(LEFT, categories=(c,), scores=(s,)) for i, (c, s) in enumerate([(3, 0.2), (5, 0.4), (5, 0.9)])}
    session = automatic(script)
    results = [session.step(frame(index))[0].segments[0] for index in range(3)]
    assert [segment.category for segment in results] == [3, 3, 5]
    assert results[-1].score == pytest.approx(0.5)
    assert session.tracks()[0].category_scores == {3: pytest.approx(1 / 3), 5: pytest.approx(2 / 3)}


def test_a_person_may_correct_what_was_found():
    session = automatic({0: found(LEFT), 1: found(LEFT)})
    step(session, 0)
    session.prompt([MaskPrompt(1, 1, TOP)])
    assert same(step(session, 1), {1: TOP})


# ------------------------------------------- prompts and detections together


@pytest.mark.parametrize("boxes", [(1,), (2,), (1, 2), ()], ids=lambda boxes: f"boxes for {boxes}")
def test_objects_stay_themselves_whatever_they_were_prompted_with(boxes):
    session = automatic({1: found(RIGHT, LEFT, categories=(8, 7))}, prompter=BoxFiller())
    given = {1: (LEFT, BoxPrompt(0, 1, (0, 1, 3, 5))), 2: (RIGHT, BoxPrompt(0, 2, (5, 1, 8, 5)))}
    session.prompt([box if i in boxes else MaskPrompt(0, i, mask) for i, (mask, box) in given.items()])
    assert same(step(session, 0), {1: LEFT, 2: RIGHT})
    assert same(step(session, 1), {1: LEFT, 2: RIGHT})
    assert {track.track_id: list(track.category_scores) for track in session.tracks()} == {1: [7], 2: [8]}


@pytest.mark.parametrize("box_first", [True, False])
def test_pixels_given_twice_go_to_the_later_prompt_whatever_its_kind(box_first):
    session = prompted(prompter=BoxFiller())
    prompts: list[Prompt] = [BoxPrompt(0, 1, (0, 1, 3, 5)), MaskPrompt(0, 2, region(2, 1, 5, 5))]
    session.prompt(prompts if box_first else prompts[::-1])
    first, second = region(0, 1, 2, 5), region(3, 1, 5, 5)
    expected = {1: first, 2: region(2, 1, 5, 5)} if box_first else {1: LEFT, 2: second}
    assert same(step(session, 0), expected)


def test_removing_twice_in_one_breath_is_removing():
    session = prompted()
    session.prompt([MaskPrompt(0, 1, LEFT)])
    step(session, 0)
    session.remove([1, 1])
    assert step(session, 1) == {}


def test_what_was_asked_for_later_of_a_removed_object_is_dropped_with_it():
    session = prompted()
    session.prompt([MaskPrompt(0, 1, LEFT), MaskPrompt(3, 1, RIGHT), MaskPrompt(3, 2, TOP)])
    step(session, 0)
    session.remove([1])
    assert [list(step(session, index)) for index in range(1, 5)] == [[], [], [2], [2]]


@pytest.mark.parametrize("temporal", ["bidirectional", "trust-image"])
def test_an_object_that_a_person_is_about_to_correct_is_not_dropped_before(temporal):
    session = automatic({0: found(LEFT)}, max_missed=0, temporal=temporal)
    step(session, 0)
    session.prompt([MaskPrompt(3, 1, TOP)])
    assert same(step(session, 1), {1: LEFT})
    step(session, 2)
    assert same(step(session, 3), {1: TOP})
    assert same(step(session, 4), {1: TOP})


def test_a_corrected_object_is_the_persons_and_is_not_dropped_after_either():
    session = automatic({0: found(LEFT)}, max_missed=0)
    step(session, 0)
    session.prompt([MaskPrompt(1, 1, TOP)])
    assert [list(step(session, index)) for index in range(1, 5)] == [[1]] * 4


# ------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"detection_every": 0}, "at least 1, not 0 and 3", id="never detecting"),
        pytest.param({"voting_frames": 0}, "at least 1, not 5 and 0", id="nobody votes"),
        pytest.param({"schedule": "semi_online"}, "one of online, semi-online, not 'semi_online'", id="schedule"),
        pytest.param({"fused": "both"}, "fused is one of union, detection, not 'both'", id="fused"),
        pytest.param({"max_missed": -1}, "max_missed is at least 0 and max_objects at least 1, not -1", id="misses"),
        pytest.param(
            {"schedule": "semi-online", "voting_frames": 4, "detection_every": 3},
            "4 frames cannot vote on every 3th: voting_frames must not exceed detection_every",
            id="more voters than frames",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        DevaSettings(**options)


def test_online_nobody_votes_so_their_number_does_not_matter():
    assert DevaSettings(detection_every=1, voting_frames=3).latency == 0
    assert DevaSettings(schedule="semi-online", voting_frames=3).latency == 2


def test_without_a_detector_nothing_is_held_back():
    session = prompted(settings=DevaSettings(schedule="semi-online"))
    assert session.latency == 0
    assert [len(session.step(frame(index))) for index in range(4)] == [1] * 4


# ------------------------------------------------- baselines of Table 6


def test_trusting_the_image_drops_at_once_what_is_not_detected_again():
    script = {0: found(LEFT, RIGHT), 1: found(RIGHT), 2: found(RIGHT)}
    session = automatic(script, temporal="trust-image", max_missed=5)
    session.prompt([MaskPrompt(0, 9, TOP)])
    results = watch(session, 3)
    assert [[s.track_id for s in result.segments] for result in results] == [[10, 11, 9], [11, 9], [11, 9]]
    kinds = [(event.kind, event.track_id) for event in results[1].events]
    assert kinds == [("deleted", 10), ("matched", 11), ("missed", 9)]


@pytest.mark.parametrize("temporal", ["bidirectional", "short-track"])
def test_short_track_begins_its_memory_anew_on_every_frame(temporal):
    class Remembering(StillPropagator):
        """Notes on which frames an empty memory was written to, and with which objects."""

        def __init__(self):
            super().__init__()
            self.begun = []

        def write(self, state, features, masks_nhw, object_ids):
            if not state.ids:
                self.begun.append((features, list(object_ids)))
            return super().write(state, features, masks_nhw, object_ids)

    propagator = Remembering()
    session = DevaSession(
        propagator,
        size_hw=SIZE,
        detector=ScriptedDetector({0: found(LEFT), 3: found(LEFT, RIGHT)}),
        settings=DevaSettings(detection_every=3, temporal=temporal),
    )
    results = watch(session, 5)
    assert [[s.track_id for s in result.segments] for result in results] == [[1]] * 3 + [[1, 2]] * 2
    every_frame = [(0, [1]), (0, [1]), (1, [1]), (2, [1]), (3, [1, 2]), (4, [1, 2])]
    assert propagator.begun == (every_frame if temporal == "short-track" else [(0, [1])])


# ------------------------------------------------------------- written ids


def test_a_change_of_category_changes_the_written_id_and_changing_back_gives_the_old_one_back():
    categories = (3, 5, 5, 3, 3)
    session = automatic({i: found(LEFT, categories=(c,)) for i, c in enumerate(categories)})
    results = watch(session, 5)
    segments = [result.segments[0] for result in results]
    assert [segment.category for segment in segments] == [3, 3, 5, 3, 3]  # the majority so far; the smaller if equal
    assert [segment.id for segment in segments] == [1, 1, 2, 1, 1]
    assert {segment.track_id for segment in segments} == {1}
    renamed = [(r.frame_index, e.reason) for r in results for e in r.events if e.kind == "renamed"]
    assert renamed == [
        (2, "its category is 5 now, so it is written as 2"),
        (3, "its category is 3 now, so it is written as 1"),
    ]


def test_two_regions_of_one_kind_of_stuff_are_one_segment():
    session = automatic({0: found(LEFT, TOP, RIGHT, categories=(9, 4, 9), is_thing=(False, True, False))}, soft=True)
    (result,) = session.step(frame(0))
    assert [(segment.id, segment.category) for segment in result.segments] == [(1, 9), (2, 4)]
    assert torch.equal(result.masks_nhw()[0], LEFT | RIGHT)
    assert torch.equal(result.masks_nhw()[1], TOP)
    assert result.probabilities is not None
    assert torch.equal(result.probabilities[1], (LEFT | RIGHT).half())
    assert torch.equal(result.probabilities.sum(0), torch.ones(SIZE).half())
    assert [track.track_id for track in session.tracks()] == [1, 2, 3]


def test_two_things_of_one_category_are_two_segments():
    session = automatic({0: found(LEFT, RIGHT, categories=(9, 9), is_thing=(True, True))})
    assert [segment.id for segment in session.step(frame(0))[0].segments] == [1, 2]


@pytest.mark.parametrize("is_thing", [None, False, True])
def test_learning_the_category_late_keeps_the_written_id(is_thing):
    session = automatic({i: found(LEFT, categories=(c,), is_thing=(is_thing,)) for i, c in enumerate((None, 4))})
    segments = [result.segments[0] for result in watch(session, 2)]
    assert [(segment.id, segment.category) for segment in segments] == [(1, None), (1, 4)]


# ----------------------------------------------------------------- events


def test_the_events_of_a_small_story():
    part = region(0, 1, 3, 3)
    script = {
        0: found(LEFT, categories=(1,)),
        1: found(LEFT, RIGHT, part, categories=(2, 6, None)),
        2: found(LEFT, TOP, categories=(2, None)),
        4: found(RIGHT),
    }
    session = automatic(script, max_missed=1, max_objects=2, part_threshold=0.8)
    events: list[tuple[Event, ...]] = []
    for index in range(6):
        if index == 3:
            session.prompt([MaskPrompt(3, 2, region(5, 1, 8, 6)), MaskPrompt(3, 7, region(0, 5, 4, 6))])
        if index == 5:
            session.remove([7, 2])
        if index == 2:
            with pytest.warns(MaskstreamWarning, match="2 objects are followed"):
                events.append(session.step(frame(index))[0].events)
        else:
            events.append(session.step(frame(index))[0].events)
    assert [[(event.kind, event.track_id, event.reason) for event in of_frame] for of_frame in events] == [
        [("born", 1, "detected on 1 frame, matches no object")],
        # The part is painted over the whole, which leaves little of it: both lie within object 1.
        [
            ("joined", 1, "a detection on 1 frame lies within it"),
            ("joined", 1, "a detection on 1 frame lies within it"),
            ("born", 2, "detected on 1 frame, matches no object"),
        ],
        [
            ("matched", 1, "detected on 1 frame, IoU 1.00"),
            ("missed", 2, "1 detection in a row did not find it"),
            ("refused", None, "2 objects are followed already"),
            ("renamed", 1, "its category is 2 now, so it is written as 3"),
        ],
        [
            ("missed", 1, "1 detection in a row did not find it"),
            ("missed", 2, "2 detections in a row did not find it"),
            ("corrected", 2, "a person gave its mask"),
            ("born", 7, "a person gave its mask"),
        ],
        [
            ("matched", 2, "detected on 1 frame, IoU 0.80"),
            ("deleted", 1, "2 detections in a row did not find it"),
            ("missed", 7, "1 detection in a row did not find it"),
        ],
        [("removed", 7, "a person took it away"), ("removed", 2, "a person took it away")],
    ]
