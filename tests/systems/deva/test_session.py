"""Sessions that hold nothing back: prompts, and detections merged at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
    described,
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


@pytest.mark.parametrize("max_missed", [0, 2])
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


def test_what_a_person_prompted_is_never_dropped():
    session = automatic({}, max_missed=0)
    session.prompt([MaskPrompt(0, 5, LEFT)])
    assert [list(step(session, index)) for index in range(4)] == [[5]] * 4


def test_an_id_is_not_reused_after_an_object_was_dropped():
    session = automatic({0: found(LEFT), 2: found(LEFT)}, max_missed=0)
    assert [list(step(session, index)) for index in range(3)] == [[1], [], [2]]


def test_at_the_limit_objects_keep_matching_and_surviving():
    both = found(LEFT, RIGHT, scores=(0.2, 0.9))
    session = automatic(dict.fromkeys(range(5), both), max_missed=0, max_objects=1)
    assert [list(step(session, index)) for index in range(5)] == [[1]] * 5


def test_a_detection_that_is_wholly_covered_begins_no_object():
    session = automatic({0: found(LEFT, is_thing=(True,)), 1: found(region(0, 2, 1, 3), is_thing=(False,))})
    step(session, 0)
    assert list(step(session, 1)) == [1]


def test_detections_below_the_score_are_ignored():
    session = automatic({0: found(LEFT, RIGHT, scores=(0.3, None))}, min_score=0.5)
    assert same(step(session, 0), {1: RIGHT})


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




# --------------------------------------------------------------- prompts and detections together


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
