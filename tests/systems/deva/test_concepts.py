"""Concepts: words that say, while frames come, what to look for."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from maskstream.metrics import region_similarity
from maskstream.propagation import FlowPropagator
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.systems.deva import Deva, DevaSession, DevaSettings
from maskstream.types import (
    CategorySet,
    Frame,
    FrameSegmentation,
    InputError,
    MaskPrompt,
    Prompt,
    Proposals,
    StalePromptError,
    Task,
    TextPrompt,
)

from .parts import LEFT, RIGHT, SIZE, TOP, Oracle, StillPropagator, described, frame, same, visible, watch

CATS = CategorySet.from_names(["cat"], name="pets")
NOTHING_YET = CategorySet("words", ())


class Reader(Oracle):
    """Knows where what is, by name and frame, and notes what it was asked.

    Attributes:
        asked: frames, and the names that were looked for.
    """

    def __init__(self, there: dict[str, list[Tensor]], *, frames: range = range(99)) -> None:
        self.there = there
        self.frames = frames
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def at(self, index: int, categories: CategorySet | None) -> Proposals:
        assert categories is not None and len(categories), "asked for nothing"
        self.asked.append((index, categories.names))
        found = [(c.id, mask) for c in categories.categories for mask in self.there.get(c.name, [])]
        if not found or index not in self.frames:
            return Proposals.none(SIZE)
        return Proposals(torch.stack([mask for _, mask in found]), categories=tuple(c for c, _ in found))


def reading(reader: Reader, categories: CategorySet | None = NOTHING_YET, **settings: object) -> DevaSession:
    deva = Deva(StillPropagator(), detector=reader, open_vocabulary=True, settings=DevaSettings(**settings))  # type: ignore[arg-type]
    session = deva.start(Task.VIS, size_hw=SIZE, categories=categories)
    assert isinstance(session, DevaSession)
    return session


def named(result: FrameSegmentation) -> list[tuple[int, str | None, int | None]]:
    return [(segment.track_id, segment.prompt_id, segment.category) for segment in result.segments]


@pytest.mark.parametrize("schedule", ["online", "semi-online"])
@pytest.mark.parametrize("start", [0, 4, 5, 8], ids=["at once", "before a turn", "on a turn", "in the middle"])
def test_a_concept_is_looked_for_from_its_frame_on(schedule, start):
    reader = Reader({"dog": [LEFT, RIGHT]})
    session = reading(reader, schedule=schedule)
    session.prompt([TextPrompt("dog", frame_index=start)])
    results = watch(session, 14)
    assert [result.frame_index for result in results] == list(range(14))
    for result in results:
        expected = {1: LEFT, 2: RIGHT} if result.frame_index >= start else {}
        assert same(visible(result), expected)
    assert reader.asked[0] == (start, ("dog",))
    assert named(results[-1]) == [(1, "dog", 1), (2, "dog", 1)]
    assert [(track.track_id, track.prompt_id, track.first) for track in session.tracks()] == [
        (1, "dog", start),
        (2, "dog", start),
    ]


def test_a_concept_joins_what_is_looked_for_already():
    reader = Reader({"cat": [LEFT], "dog": [RIGHT]})
    session = reading(reader, CATS, detection_every=2)
    results = [session.step(frame(t))[0] for t in range(3)]
    session.prompt([TextPrompt(" dog ", prompt_id="the dogs", frame_index=3)])
    results += [session.step(frame(t))[0] for t in range(3, 6)]
    assert reader.asked == [(0, ("cat",)), (2, ("cat",)), (3, ("cat", "dog")), (5, ("cat", "dog"))]
    assert [named(result) for result in results[2:4]] == [[(1, None, 1)], [(1, None, 1), (2, "the dogs", 2)]]
    assert session.categories == CategorySet.from_names(["cat", "dog"], name="pets")


def test_a_concept_that_is_nowhere_is_no_object():
    reader = Reader({})
    session = reading(reader)
    session.prompt([TextPrompt("dog")])
    assert [result.segments for result in watch(session, 7)] == [()] * 7
    assert reader.asked


def test_the_numbers_of_concepts_do_not_depend_on_who_comes_first():
    reader = Reader({"cat": [LEFT], "dog": [RIGHT]})
    session = reading(reader)
    session.prompt([TextPrompt("dog", frame_index=3), TextPrompt("cat", frame_index=0)])
    results = watch(session, 5)
    assert named(results[0]) == [(1, "cat", 2)]
    assert named(results[4]) == [(1, "cat", 2), (2, "dog", 1)]


def test_the_frame_of_a_concept_may_be_left_out():
    session = reading(Reader({"dog": [LEFT]}))
    session.prompt([TextPrompt("dog", frame_index=3)])
    assert [bool(result.segments) for result in watch(session, [0, 2, 4])] == [False, False, True]


def test_an_object_belongs_to_the_concept_that_most_detections_say_it_is():
    reader = Reader({"dog": [LEFT]})
    session = reading(reader, detection_every=1)
    session.prompt([TextPrompt("dog"), TextPrompt("wolf")])
    results = [session.step(frame(0))[0]]
    reader.there = {"wolf": [LEFT]}
    results += [session.step(frame(t))[0] for t in range(1, 4)]
    # votes: dog 1:0, 1:1 (the smaller number), 1:2, 1:3
    assert [named(result)[0][1] for result in results] == ["dog", "dog", "wolf", "wolf"]


def test_what_a_person_points_at_stays_theirs():
    session = reading(Reader({"dog": [LEFT]}))
    session.prompt([TextPrompt("dog"), MaskPrompt(0, 7, LEFT)])
    (result,) = session.step(frame(0))
    (later,) = [session.step(frame(t))[0] for t in range(1, 6)][-1:]
    assert (7, "object-7", 1) in named(later)
    assert same({7: visible(result)[7]}, {7: LEFT})


def test_a_session_continues_with_concepts_that_wait_and_those_that_do_not():
    prompts = [TextPrompt("cat"), TextPrompt("dog", prompt_id="d", frame_index=6)]

    def session() -> DevaSession:
        return reading(Reader({"cat": [LEFT], "dog": [RIGHT]}), schedule="semi-online")

    whole = session()
    whole.prompt(prompts)
    expected = [described(result) for result in watch(whole, 12)]
    for stop in (0, 2, 5, 6, 7):
        first, second = session(), session()
        first.prompt(prompts)
        results = [result for t in range(stop) for result in first.step(frame(t))]
        second.load_state_dict(first.state_dict())
        results += watch(second, range(stop, 12))
        assert [described(result) for result in results] == expected
        assert second.tracks() == whole.tracks()


@pytest.mark.parametrize(
    ("prompt", "error", "words"),
    [
        pytest.param(TextPrompt("the dog there", "expression", frame_index=9), InputError, "offline", id="a sentence"),
        pytest.param(TextPrompt("dog", frame_index=1), StalePromptError, "later frame_index", id="too late"),
        pytest.param(TextPrompt("cat", frame_index=9), InputError, "looked for already", id="a known class"),
        pytest.param(TextPrompt("bird ", frame_index=9), InputError, "looked for already", id="a known concept"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_with_all_others(prompt, error, words):
    reader = Reader({})
    session = reading(reader, CATS)
    session.prompt([TextPrompt("bird")])
    for t in range(2):
        session.step(frame(t))
    with pytest.raises(error, match=words):
        session.prompt([MaskPrompt(9, 1, LEFT), TextPrompt("fish", frame_index=9), prompt])
    watch(session, range(2, 11))
    assert all(names == ("cat", "bird") for _, names in reader.asked)
    assert session.tracks() == []


def test_a_model_that_was_told_nothing_says_so():
    with pytest.raises(InputError, match="name classes, as in --classes cat,dog"):
        reading(Reader({}), None).step(frame(0))
    session = reading(Reader({"dog": [TOP]}), None)
    session.prompt([TextPrompt("dog", frame_index=1)])
    assert [bool(result.segments) for result in watch(session, 3)] == [False, True, True]


def test_a_model_that_does_not_read_takes_no_words():
    for deva in (Deva(StillPropagator(), detector=Reader({})), Deva(StillPropagator(), open_vocabulary=True)):
        session = deva.start(Task.UVOS if deva.detector else Task.VOS, size_hw=SIZE)
        with pytest.raises(InputError, match="needs a model that reads text"):
            session.prompt([TextPrompt("dog")])


def test_a_frame_that_never_comes_is_told_of_at_the_end():
    session = reading(Reader({}))
    session.prompt([TextPrompt("dog", frame_index=9)])
    with pytest.raises(InputError, match="'dog' is on frame 9, but the video ended at frame 3"):
        watch(session, 4)


# ------------------------------------------------------------ on rendered scenes

SHOWN, FRAMES, ASKED = (120, 160), 18, 5


def test_a_kind_of_thing_that_is_named_on_the_way_is_followed():
    """By a segmenter that misses it on some frames and is a pixel off; copies of its first frame must fail."""
    (video,) = synthetic_videos(level="easy", seed=11, videos=1, frames=FRAMES, size_hw=SHOWN)
    truth = [video.annotation(t).segmentation for t in range(FRAMES)]
    areas = zip(truth[ASKED].segments, truth[ASKED].areas().tolist(), strict=True)
    category = max(((area, s.category) for s, area in areas if s.is_thing))[1]
    assert category is not None

    class Noisy(Reader):
        def at(self, index: int, categories: CategorySet | None) -> Proposals:
            assert categories is not None
            rng = np.random.default_rng([3, index])
            wanted = {WORLD[c].name: c for c in WORLD.ids}
            pairs = zip(truth[index].segments, truth[index].masks_nhw(), strict=True)
            masks = [
                (each.id, mask.roll(tuple(rng.integers(-1, 2, 2).tolist()), (0, 1)))
                for segment, mask in pairs
                for each in categories.categories
                if segment.category == wanted[each.name] and rng.random() > 0.15
            ]
            if not masks:
                return Proposals.none(SHOWN)
            return Proposals(torch.stack([mask for _, mask in masks]), categories=tuple(c for c, _ in masks))

    settings = DevaSettings(schedule="semi-online", max_missed=10)
    deva = Deva(FlowPropagator(size=120), detector=Noisy({}), open_vocabulary=True, settings=settings)
    session = deva.start(Task.VIS, size_hw=SHOWN)
    prompts: list[Prompt] = [TextPrompt(WORLD[category].name, prompt_id="it", frame_index=ASKED)]
    session.prompt(prompts)
    assert video.read_image is not None
    results = [r for t in range(FRAMES) for r in session.step(Frame(t, t / 24, video.read_image(t)))]
    results += session.finish()
    assert not any(result.segments for result in results[:ASKED])
    assert {segment.prompt_id for result in results for segment in result.segments} == {"it"}

    def score(answers: Sequence[FrameSegmentation]) -> float:
        true = [
            each.selected(kept, tuple(each.segments[n] for n in kept)).masks_nhw().any(0).numpy()
            for each in truth[ASKED:]
            for kept in [[n for n, segment in enumerate(each.segments) if segment.category == category]]
        ]
        found = [answer.label_map().numpy() > 0 for answer in answers]
        return float(np.mean([region_similarity(f, t) for f, t in zip(found, true, strict=True)]))

    copied = [replace(results[ASKED], frame_index=t) for t in range(ASKED, FRAMES)]
    assert score(results[ASKED:]) > score(copied) + 0.05
