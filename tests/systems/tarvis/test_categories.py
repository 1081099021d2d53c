"""Videos through TarViS without prompts: every frame once and in time, and every thing under one id."""

import pytest
import torch

from maskstream.types import Category, CategorySet, InputError, PointPrompt, Session, Task

from .painted import (
    GRASS,
    HEN,
    NAMES,
    PIG,
    SIZE,
    WATER,
    colours,
    network_of,
    painted,
    square,
    start,
    system,
    watch,
)

CUTS = [(12, 6), (6, 3), (8, 4), (12, 5), (5, 4), (1, 0), (4, 0)]
NOTHING = len(NAMES)


def walk(count):
    """The first walks, the second is hidden on frames 6 to 8, a third comes on frame 12."""
    frames = []
    for t in range(count):
        boxes = [square(1, (3 * t) % 60, 4)]
        boxes += [] if 6 <= t < 9 else [square(2, 90, 36)]
        boxes += [square(3, 4, 36)] if t >= 12 else []
        frames.append(painted(t, *boxes))
    return frames


def born(results):
    return [event.track_id for result in results for event in result.events if event.kind == "born"]


@pytest.mark.parametrize("last", ["cut", "full"])
@pytest.mark.parametrize("task", [Task.VIS, Task.VPS, Task.VSS])
@pytest.mark.parametrize(("length", "overlap"), CUTS)
def test_every_frame_is_answered_once_and_in_time(task, length, overlap, last):
    """Check 14."""
    made = system(frames=length, overlap=overlap, last=last)
    for count in (1, 2, length - 1, length, length + 1, 2 * length - overlap, 25):
        session, indices = start(made, task), []
        for t, frame in enumerate(walk(count)):
            indices += [result.frame_index for result in session.step(frame)]
            assert t - len(indices) < length
        indices += [result.frame_index for result in session.finish()]
        assert indices == list(range(count))
    network = network_of(made)
    assert all(len(clip) <= length for clip in network.clips)


def test_frames_go_through_the_backbone_once():
    made = system(frames=4, overlap=2)
    watch(start(made, Task.VIS), walk(11))
    network = network_of(made)
    assert network.encoded == list(range(11))
    assert network.clips == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9], [8, 9, 10]]


def test_the_last_clip_may_be_as_long_as_the_others():
    made = system(frames=4, overlap=2, last="full")
    watch(start(made, Task.VIS), walk(11))
    assert network_of(made).clips[-1] == [7, 8, 9, 10]


@pytest.mark.parametrize("task", [Task.VIS, Task.VPS])
@pytest.mark.parametrize(("length", "overlap"), CUTS)
def test_things_keep_their_ids_where_clips_overlap(task, length, overlap):
    frames = walk(20)
    results = watch(start(system(frames=length, overlap=overlap), task), frames)
    tracks_of: dict[int, set[int]] = {colour: set() for colour in (1, 2, 3)}
    for result, frame in zip(results, frames, strict=True):
        found = colours(result, frame)
        for track_id, seen in found.items():
            for colour in seen - {0}:
                tracks_of[colour].add(track_id)
        assert {c for seen in found.values() for c in seen if c} == set(frame.image[..., 0].reshape(-1).tolist()) - {0}
    assert len(tracks_of[1]) == len(tracks_of[3]) == 1
    # Whether the second was lost or not is a question of clips.
    assert tracks_of[1].isdisjoint(tracks_of[2]) and len(tracks_of[2]) in (1, 2)


def two_clips(made, answers_of_second):
    """Frames 0 to 3 and 2 to 5; what the second says is changed."""
    network, session = network_of(made), start(made, Task.VIS)
    asked = network.categories

    def changed(features, label_space):
        (answers,) = asked(features, label_space)
        if len(network.clips) == 2:
            answers_of_second(answers)
        return [answers]

    network.categories = changed  # type: ignore[method-assign]
    return watch(session, [painted(t, square(1, 20, 20)) for t in range(6)]), session


@pytest.mark.parametrize(("cells", "same"), [(1, True), (2, False), (3, False)])
def test_things_are_the_same_above_half_overlap(cells, same):
    """Check 13: a mask of 6 columns that moves by 1 overlaps by 5 of 7, and by 2 by half."""

    def moved(answers):
        masks = answers.instances.masks_bqthw
        masks.copy_(torch.roll(masks, cells, dims=4))

    results, _ = two_clips(system(frames=4, overlap=2), moved)
    assert born(results) == ([1] if same else [1, 2])


@pytest.mark.parametrize("average", [False, True])
def test_masks_of_the_earlier_clip_stay_unless_they_are_averaged(average):
    """Check 13: the second clip is surer (12) of a row above the mask than the first is that it is none (-10)."""

    def larger(answers):
        answers.instances.masks_bqthw[:, 0, :, 4, 5:11] = 12.0

    results, _ = two_clips(system(frames=4, overlap=2, average=average), larger)
    above = [bool(result.masks_nhw()[0, 18, 30]) for result in results]
    assert above == [False, False, average, average, True, True]


def test_classes_are_means_of_logits_over_clips():
    """Check 13: 8 for hens and then 10 for pigs is 4 to 5."""

    def pigs(answers):
        classes = answers.instances.classes_bqc
        classes.zero_()
        classes[:, 0, PIG] = 10.0

    results, session = two_clips(system((HEN,), frames=4, overlap=2), pigs)
    (track,) = session.tracks()
    expected = torch.tensor([4.0, 5.0, 0.0, 0.0, 0.0]).softmax(0)
    assert track.category_scores == {HEN: pytest.approx(float(expected[0])), PIG: pytest.approx(float(expected[1]))}
    assert results[0].segments[0].category == HEN


def test_what_is_nothing_is_not_shown_and_stuff_is_no_thing():
    made = system((HEN, NOTHING, GRASS))
    frames = [painted(t, square(1, 4, 4), square(2, 40, 4), square(3, 80, 4)) for t in range(5)]
    results = watch(start(made, Task.VPS), frames)
    for result, frame in zip(results, frames, strict=True):
        things = [segment.track_id for segment in result.segments if segment.is_thing]
        assert [colours(result, frame)[n] for n in things] == [{1}]


@pytest.mark.parametrize(("sureness", "shown"), [(1.3, False), (1.5, True)])
def test_regions_have_to_be_half_sure(sureness, shown):
    """Softmax of 1.3 and four zeros is 0.478, of 1.5 it is 0.528."""
    results = watch(start(system((HEN,), sureness=sureness), Task.VPS), [painted(0, square(1, 4, 4))])
    assert any(segment.is_thing for segment in results[0].segments) == shown


def test_pixels_are_of_stuff_or_of_things_on_top():
    frame = painted(0, square(1, 4, 4))
    (result,) = watch(start(system(), Task.VPS), [frame])
    categories = result.semantic_map(void=9)
    assert categories[10, 10] == HEN and categories[50, 100] == GRASS
    assert set(categories.unique().tolist()) == {HEN, GRASS}


def test_a_thing_that_is_not_sure_becomes_stuff_or_nobodys():
    """T15."""
    frame = painted(0, square(1, 4, 4), water=30)
    for void, expected in ((False, WATER), (True, WATER)):
        (result,) = watch(start(system((NOTHING,), void=void), Task.VPS), [frame])
        assert result.semantic_map(void=9)[10, 10] == expected  # surest of all is water
    frame = painted(0, square(1, 4, 4))
    for void, expected in ((False, WATER), (True, 9)):
        (result,) = watch(start(system((NOTHING,), void=void), Task.VPS), [frame])
        assert result.semantic_map(void=9)[10, 10] == expected  # of stuff water, of all hens


def test_logits_of_pixels_are_averaged_where_clips_overlap():
    """Grass is 1; water 3 in one clip and -4 in the other, which is less than 1 in the middle."""
    made = system((), frames=4, overlap=2)
    network = network_of(made)
    asked = network.categories

    def tide(features, label_space):
        (answers,) = asked(features, label_space)
        answers.semantic_bkthw[:, WATER] = 3.0 if len(network.clips) == 1 else -4.0
        return [answers]

    network.categories = tide  # type: ignore[method-assign]
    results = watch(start(made, Task.VSS), [painted(t) for t in range(6)])
    assert [int(result.semantic_map(void=9)[0, 0]) for result in results] == [WATER] * 2 + [GRASS] * 4


def test_instances_of_a_class_are_disjoint_and_of_two_classes_may_overlap():
    """§9.3: the second covers all that is red."""

    def watched(labels):
        made = system(labels)
        network = network_of(made)
        asked = network.categories

        def both(features, label_space):
            (answers,) = asked(features, label_space)
            answers.instances.masks_bqthw[:, 1] = answers.instances.masks_bqthw.amax(1)
            answers.instances.classes_bqc[:, 1] *= 0.9
            return [answers]

        network.categories = both  # type: ignore[method-assign]
        (result,) = watch(start(made, Task.VIS), [painted(0, square(1, 4, 4), square(2, 40, 4))])
        first, second = result.masks_nhw()
        return int((first & second).sum()), int((first | second).sum())

    both, either = watched((HEN, HEN))
    assert both == 0 and either > 1100
    both, either = watched((HEN, PIG))
    assert both > 550 and either > 1100


@pytest.mark.parametrize(("compat", "since"), [(False, 3), (True, 4)])
def test_what_a_clip_finds_is_shown_on_frames_it_shares(compat, since):
    """T14: the second comes on frame 3; the clip of frames 0 to 3 does not find it."""
    made = system(frames=4, overlap=2, compat=compat)
    network = network_of(made)
    asked = network.categories

    def blind(features, label_space):
        (answers,) = asked(features, label_space)
        if len(network.clips) == 1:
            answers.instances.classes_bqc[:, 1] = 0
            answers.instances.classes_bqc[:, 1, -1] = 20
        return [answers]

    network.categories = blind  # type: ignore[method-assign]
    frames = [painted(t, square(1, 4, 4), *([square(2, 60, 4)] if t >= 3 else [])) for t in range(6)]
    results = watch(start(made, Task.VPS), frames)
    seen = [t for t in range(6) if sum(bool(segment.is_thing) for segment in results[t].segments) == 2]
    assert seen == list(range(since, 6))


@pytest.mark.parametrize("compat", [False, True])
def test_two_that_have_left_are_not_the_same(compat):
    """T4: the first leaves on frame 2, the second comes on frame 4; both are empty on frames 2 and 3."""
    frames = [painted(t, *([square(1, 4, 4)] if t < 2 else [square(2, 60, 30)] if t >= 4 else [])) for t in range(6)]
    made = system(frames=4, overlap=2, compat=compat)
    network = network_of(made)
    asked = network.categories

    def sure_of_one(features, label_space):
        (answers,) = asked(features, label_space)
        answers.instances.classes_bqc[:, 1 if len(network.clips) == 1 else 0] = torch.tensor([0.0] * NOTHING + [20.0])
        return [answers]

    network.categories = sure_of_one  # type: ignore[method-assign]
    results = watch(start(made, Task.VPS), frames)
    first, last = (next(n for n, c in colours(results[t], frames[t]).items() if c - {0}) for t in (0, 5))
    assert (first == last) is compat


def test_only_what_is_asked_for_is_shown():
    made = system((HEN, PIG))
    frames = [painted(0, square(1, 4, 4), square(2, 40, 4), water=30)]
    wanted = CategorySet("mine", (Category(7, "pig", True), Category(8, "grass", False)))
    (result,) = watch(start(made, Task.VPS, categories=wanted), frames)
    assert {segment.category for segment in result.segments} == {7, 8}
    (result,) = watch(start(made, Task.VIS, categories=wanted), frames)
    assert {segment.category for segment in result.segments} == {7}


def test_what_somebody_removes_is_shown_no_more():
    made = system((HEN, PIG), frames=2, overlap=1)
    session = start(made, Task.VPS)
    frames = [painted(t, square(1, 4, 4), square(2, 40, 4)) for t in range(6)]
    results = [result for frame in frames[:3] for result in session.step(frame)]
    found = colours(results[-1], frames[len(results) - 1])
    hen = next(n for n, c in found.items() if c == {1})
    session.remove([hen])
    with pytest.raises(InputError, match="not followed"):
        session.remove([hen])
    results += [*(result for frame in frames[3:] for result in session.step(frame)), *session.finish()]
    assert [hen in {s.track_id for s in result.segments} for result in results] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("task", [Task.VIS, Task.VPS, Task.VSS])
@pytest.mark.parametrize(("length", "overlap"), [(4, 2), (5, 4), (3, 0)])
@pytest.mark.parametrize("stop", [1, 5, 8])
def test_a_session_goes_on_where_it_was(task, length, overlap, stop):
    made, frames = system((HEN, PIG, HEN), frames=length, overlap=overlap), walk(16)

    def plain(results):
        return [(r.frame_index, r.segments, r.masks_nhw().tolist(), r.events) for r in results]

    whole = plain(watch(start(made, task), frames))
    first, second = start(made, task), start(made, task)
    begun = plain([result for frame in frames[:stop] for result in first.step(frame)])
    second.load_state_dict(first.state_dict())
    assert begun + plain(watch(second, frames[stop:])) == whole
    assert second.tracks() == session_of(made, task, frames).tracks()


def session_of(made, task, frames) -> Session:
    session = start(made, task)
    watch(session, frames)
    return session


def test_what_is_kept_does_not_grow_with_the_video():
    session = start(system(frames=4, overlap=2), Task.VPS)

    def size(state):
        if isinstance(state, torch.Tensor):
            return state.numel()
        values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
        return sum(size(value) for value in values)

    sizes = []
    for frame in walk(60):
        session.step(frame)
        sizes.append(size(session.state_dict()))
    assert max(sizes[40:]) <= max(sizes[:20])


@pytest.mark.parametrize(
    ("options", "task", "message"),
    [
        ({"frames": 4, "overlap": 4}, Task.VIS, "overlap by 0 to 3, not 4"),
        ({"frames": 0, "overlap": 0}, Task.VIS, "at least one frame"),
    ],
)
def test_clips_that_cannot_be(options, task, message):
    with pytest.raises(InputError, match=message):
        start(system(**options), task)


def test_what_cannot_be_asked():
    made = system()
    with pytest.raises(InputError, match="takes no prompts"):
        start(made, Task.VPS).prompt([PointPrompt(0, 1, ((4, 4),))])
    with pytest.raises(InputError, match="unknown label space 'city'; this TarViS knows: farm"):
        start(made, Task.VPS, categories="city")
    with pytest.raises(InputError, match="none of the 1 categories of mine"):
        start(made, Task.VPS, categories=CategorySet("mine", (Category(1, "cow", True),)))
    with pytest.raises(InputError, match="is stuff: name others"):
        start(made, Task.VIS, categories=CategorySet("mine", (Category(1, "grass", False),)))
    with pytest.raises(InputError, match="no probabilities"):
        made.start(Task.VPS, size_hw=SIZE, soft=True)
    with pytest.raises(InputError, match="refvos"):
        start(made, Task.REFVOS)
