"""Sessions with the simplest real parts: a propagator that keeps masks where they are, and a scripted detector."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from maskstream.systems.deva import Deva, DevaSession, DevaSettings
from maskstream.types import (
    BoxPrompt,
    CategorySet,
    Frame,
    FrameSegmentation,
    ImageSegmenter,
    InputError,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    Prompt,
    Propagator,
    Proposals,
    ScribblePrompt,
    Session,
    StalePromptError,
    StateDict,
    Task,
    TextPrompt,
    VideoSegmenter,
)

SIZE = (6, 8)


@dataclass(frozen=True)
class StillState:
    ids: tuple[int, ...] = ()
    masks_nhw: Tensor = field(default_factory=lambda: torch.zeros((0, *SIZE)))


class StillPropagator:
    """Nothing moves: the baseline that copies masks."""

    def start(self) -> StillState:
        return StillState()

    def object_ids(self, state: StillState) -> tuple[int, ...]:
        return state.ids

    def encode(self, frame: Frame) -> int:
        return frame.index

    def read(self, state: StillState, features: int, *, advance: bool = True) -> tuple[StillState, Tensor]:
        return state, torch.cat([1 - state.masks_nhw.sum(0, keepdim=True), state.masks_nhw])

    def write(self, state: StillState, features: int, masks_nhw: Tensor, object_ids: Sequence[int]) -> StillState:
        kept = 1 - masks_nhw.sum(0).clamp_max(1)
        masks = {i: m * kept for i, m in zip(state.ids, state.masks_nhw, strict=True)}
        masks |= dict(zip(object_ids, masks_nhw.float(), strict=True))
        return StillState(tuple(masks), torch.stack(list(masks.values())))

    def align(self, source: int, masks_nhw: Tensor, target: int) -> Tensor:
        return torch.cat([1 - masks_nhw.sum(0, keepdim=True), masks_nhw])

    def remove(self, state: StillState, object_ids: Sequence[int]) -> StillState:
        keep = [n for n, i in enumerate(state.ids) if i not in object_ids]
        return replace(state, ids=tuple(state.ids[n] for n in keep), masks_nhw=state.masks_nhw[keep])

    def state_dict(self, state: StillState) -> StateDict:
        return {"ids": list(state.ids), "masks_nhw": state.masks_nhw}

    def load_state_dict(self, plain: StateDict) -> StillState:
        return StillState(tuple(plain["ids"]), plain["masks_nhw"])


class ScriptedDetector:
    """Answers what the script says for the frame, and notes what it was asked."""

    def __init__(self, script: dict[int, Proposals], context: int = 0) -> None:
        self.script = script
        self.context = context
        self.asked: list[tuple[int, list[int]]] = []

    def encode(self, frames: Sequence[Frame]) -> list[int]:
        return [frame.index for frame in frames]

    def segment(
        self,
        features: int,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[int] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        self.asked.append((features, list(context)))
        return self.script.get(features, Proposals.none(SIZE))


class BoxFiller:
    """A box is filled; points add or take away a pixel from the mask they refine."""

    context = 0

    def encode(self, frames: Sequence[Frame]) -> list[int]:
        return [frame.index for frame in frames]

    def segment(
        self,
        features: int,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[int] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        masks = {prompt.object_id: torch.zeros(SIZE, dtype=torch.bool) for prompt in prompts}
        for prompt in prompts:
            mask = masks[prompt.object_id]
            if isinstance(prompt, BoxPrompt):
                x0, y0, x1, y1 = map(int, prompt.box_xyxy)
                mask[y0:y1, x0:x1] = True
            elif isinstance(prompt, MaskPrompt):
                mask |= prompt.mask
            elif isinstance(prompt, PointPrompt):
                for (x, y), positive in zip(prompt.points_xy, prompt.positive, strict=True):
                    mask[int(y), int(x)] = positive
        return Proposals(torch.stack(list(masks.values())))


def frame(index: int, size_hw: tuple[int, int] = SIZE) -> Frame:
    return Frame(index, index / 24, np.zeros((*size_hw, 3), dtype=np.uint8))


def region(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


LEFT, RIGHT, TOP = region(0, 1, 3, 5), region(5, 1, 8, 5), region(0, 0, 8, 1)


def found(*masks: Tensor, **fields: tuple[object, ...]) -> Proposals:
    return Proposals(torch.stack(masks), **fields)  # type: ignore[arg-type]


def prompted(**parts: object) -> DevaSession:
    return DevaSession(StillPropagator(), size_hw=SIZE, **parts)  # type: ignore[arg-type]


def step(session: DevaSession, index: int) -> dict[int, Tensor]:
    """The visible masks of one frame, by id."""
    (result,) = session.step(frame(index))
    assert result.frame_index == index
    masks = zip(result.segments, result.masks_nhw(), strict=True)
    return {segment.track_id: mask for segment, mask in masks if mask.any()}


def same(masks: dict[int, Tensor], expected: dict[int, Tensor]) -> bool:
    return masks.keys() == expected.keys() and all(torch.equal(masks[i], expected[i]) for i in masks)


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
    class HalfSize(StillPropagator):
        def start(self) -> StillState:
            return StillState((), torch.zeros((0, 3, 4)))

    session = DevaSession(HalfSize(), size_hw=SIZE)
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


def automatic(script: dict[int, Proposals], **settings: object) -> DevaSession:
    detector = ScriptedDetector(script)
    return DevaSession(
        StillPropagator(),
        size_hw=SIZE,
        detector=detector,
        settings=DevaSettings(detection_every=1, **settings),  # type: ignore[arg-type]
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
    assert detector.asked == [(0, []), (3, [1, 2]), (4, [2, 3]), (6, [4, 5])]


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


# -------------------------------------------------------------------- state


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_session_continues_from_its_state_as_if_nothing_had_happened(cut, tmp_path):
    def fresh() -> DevaSession:
        script = {0: found(LEFT), 3: found(RIGHT), 6: found(LEFT, TOP)}
        return DevaSession(
            StillPropagator(),
            size_hw=SIZE,
            detector=ScriptedDetector(script, context=2),
            prompter=BoxFiller(),
            settings=DevaSettings(detection_every=3, max_missed=1),
        )

    def outputs(session: DevaSession, indices: range) -> list[tuple[object, ...]]:
        results = [session.step(frame(index))[0] for index in indices]
        return [(result.segments, result.label_map().tolist()) for result in results]

    whole = fresh()
    prompts: list[Prompt] = [
        BoxPrompt(4, 9, (4, 0, 6, 2)),
        PointPrompt(6, 9, ((7, 5),), add=True),
        MaskPrompt(5, 8, TOP),
    ]
    whole.prompt(prompts)
    expected = outputs(whole, range(9))

    first = fresh()
    first.prompt(prompts)
    before = outputs(first, range(cut))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = fresh()
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert before + outputs(second, range(cut, 9)) == expected
    assert second.tracks() == whole.tracks()


# -------------------------------------------------------------------- model


def test_what_the_model_can_do_depends_on_its_parts():
    assert Deva(StillPropagator()).tasks == {Task.VOS, Task.PVOS}
    whole = Deva(StillPropagator(), prompter=BoxFiller(), detector=ScriptedDetector({}))
    assert whole.tasks == {Task.VOS, Task.PVOS, Task.PET, Task.UVOS, Task.OWVS}
    with pytest.raises(InputError, match=r"cannot do 'vis'; it can do: .*vos"):
        whole.start(Task.VIS, size_hw=SIZE)
    with pytest.raises(InputError, match="unknown label space 'coco'"):
        whole.start(Task.UVOS, size_hw=SIZE, categories="coco")


def test_a_prompted_task_detects_nothing():
    model = Deva(StillPropagator(), detector=ScriptedDetector({0: found(LEFT)}))
    (result,) = model.start(Task.VOS, size_hw=SIZE).step(frame(0))
    assert isinstance(result, FrameSegmentation)
    assert result.segments == ()


def test_the_parts_satisfy_the_contracts():
    """Checked by mypy; here only that the assignments run."""
    propagator: Propagator[int, StillState] = StillPropagator()
    segmenters: list[ImageSegmenter[int]] = [ScriptedDetector({}), BoxFiller()]
    model: VideoSegmenter = Deva(propagator, prompter=segmenters[1])
    session: Session = model.start(Task.VOS, size_hw=SIZE)
    assert session.latency == 0
