"""Videos through UniVS: every frame once and in time, and everything that has a name under one id."""

import pytest
import torch

from maskstream.types import Category, CategorySet, InputError, PointPrompt, Session, Task, TextPrompt

from .parts import (
    COLOURS,
    FARM,
    GRASS,
    HEN,
    PIG,
    PIXELS,
    ColourText,
    PaintedNetwork,
    colours,
    network_of,
    painted,
    square,
    start,
    system,
    watch,
)

CUTS = [(1, 0), (5, 4), (5, 2), (5, 0)]


def walk(count):
    """The first walks, the second is hidden on frames 6 to 8, a third comes on frame 12."""
    frames = []
    for t in range(count):
        boxes = [square(1, (3 * t) % 60, 4)]
        boxes += [] if 6 <= t < 9 else [square(2, 60, 36)]
        boxes += [square(3, 4, 36)] if t >= 12 else []
        frames.append(painted(t, *boxes))
    return frames


@pytest.mark.parametrize("task", [Task.VIS, Task.VPS, Task.VSS, Task.VOS, Task.REFVOS])
@pytest.mark.parametrize(("length", "overlap"), CUTS)
def test_every_frame_is_answered_once(task, length, overlap):
    made = system(frames=length, overlap=overlap, tokens=2)
    for count in (1, 4, 7):
        session = start(made, task)
        if task is Task.VOS:
            session.prompt([PointPrompt(0, 1, ((12, 12),))])
        if task is Task.REFVOS:
            session.prompt([TextPrompt("number 1", "expression")])
        results = watch(session, [painted(t, square(1, 8, 8)) for t in range(count)])
        assert [result.frame_index for result in results] == list(range(count))
        assert all(result.segments for result in results) and session.latency == length - 1


@pytest.mark.parametrize("tracking", ["prompt", "similarity"])
@pytest.mark.parametrize(("length", "overlap"), CUTS)
@pytest.mark.parametrize("task", [Task.VIS, Task.VPS])
def test_objects_keep_their_ids_through_occlusion_and_one_that_comes_is_new(task, length, overlap, tracking):
    """Check 11."""
    session = start(system(frames=length, overlap=overlap, tracking=tracking), task)
    frames = walk(20)
    results = watch(session, frames)
    for t, (result, frame) in enumerate(zip(results, frames, strict=True)):
        expected = {1: {1}} | ({} if 6 <= t < 9 else {2: {2}}) | ({3: {3}} if t >= 12 else {})
        assert colours(result, frame) == expected, t
    born = [event.track_id for result in results for event in result.events if event.kind == "born"]
    assert born == [1, 2, 3]
    assert [(track.track_id, track.first, track.last) for track in session.tracks()] == [
        (1, 0, 19),
        (2, 0, 19),
        (3, 12, 19),
    ]


def test_features_are_made_once_a_frame_and_the_last_clip_is_shifted_back():
    made = system(frames=5, overlap=2)
    watch(start(made, Task.VIS), walk(9))
    network = network_of(made)
    assert network.encoded == list(range(9))
    assert network.clips == [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7], [4, 5, 6, 7, 8]]


def test_time_is_counted_from_the_first_frame_in_frames_of_the_source():
    made = system(frames=3, overlap=2)
    watch(start(made, Task.VIS), [painted(index, square(1, 8, 8)) for index in (100, 102, 104, 110)])
    assert network_of(made).clips == [[0, 2, 4], [2, 4, 10]]


def test_objects_that_come_after_empty_frames_are_found():
    """In the authors' program a video that begins without objects stays without (specification, T8)."""
    session = start(system(), Task.VIS)
    frames = [painted(t, *([square(1, 8, 8)] if t >= 7 else [])) for t in range(12)]
    results = watch(session, frames)
    assert [bool(result.segments) for result in results] == [t >= 7 for t in range(12)]


def test_new_objects_are_looked_for_every_so_often_and_when_that_is_asked_for():
    frames = [painted(t, square(1, 8, 8), *([square(2, 60, 36)] if t else [])) for t in range(9)]
    often = watch(start(system(frames=1, detect_every=6), Task.VIS), frames)
    assert [len(result.segments) for result in often] == [1, 1, 1, 1, 1, 1, 2, 2, 2]
    session = start(system(frames=1, detect_every=6), Task.VIS)
    forced = [session.step(frame, force_key=frame.index == 3)[0] for frame in frames]
    assert [len(result.segments) for result in forced] == [1, 1, 1, 2, 2, 2, 2, 2, 2]


def test_stuff_is_one_a_class_and_things_are_counted():
    labels = [HEN, PIG, GRASS, GRASS, *[HEN] * (COLOURS - 4)]
    boxes = [square(1, 0, 0), square(2, 36, 0), square(3, 0, 36), square(4, 60, 36)]
    results = watch(start(system(labels), Task.VPS), [painted(t, *boxes) for t in range(7)])
    for result in results:
        assert {(s.category, s.is_thing) for s in result.segments} == {(10, True), (20, True), (30, False)}
        assert result.disjoint and len(result.segments) == 3
        assert int((result.semantic_map() == 30).sum()) == pytest.approx(2 * 24 * 24, rel=0.1)


def test_instances_are_things_alone_and_tell_all_classes_they_may_be():
    labels = [HEN, PIG, GRASS, *[HEN] * (COLOURS - 3)]
    made = system(labels)
    session = start(made, Task.VIS)
    network_of(made).sureness = 2.0
    results = watch(session, [painted(t, square(1, 0, 0), square(3, 36, 0)) for t in range(6)])
    assert [[s.category for s in result.segments] for result in results] == [[10]] * 6
    (track,) = session.tracks()
    sure, unsure = (float(torch.tensor(x).sigmoid()) for x in (2.0, -2.0))
    assert track.category_scores == {10: pytest.approx(sure), 20: pytest.approx(unsure)}


def test_every_pixel_is_of_the_class_that_queries_are_surest_of():
    labels = [HEN, PIG, GRASS, *[GRASS] * (COLOURS - 3)]
    frames = [painted(t, (3, 0, 0, 96, 64), square(1, 8, 8), square(2, 60, 36)) for t in range(7)]
    for result, frame in zip(watch(start(system(labels), Task.VSS), frames), frames, strict=True):
        wanted = torch.tensor([0, 10, 20, 30])[torch.from_numpy(frame.image[..., 0]).long()]
        assert float((result.semantic_map() == wanted).float().mean()) > 0.97


def test_what_is_kept_does_not_grow_with_the_video():
    session = start(system(frames=3, overlap=2), Task.VPS)
    sizes = []
    for t in range(30):
        session.step(painted(t, square(1, 8, 8), square(2, 60, 36)))
        sizes.append(_numbers(session.state_dict()))
    assert len(set(sizes[10:])) == 1


def test_no_more_objects_are_followed_than_there_is_room_for():
    session = start(system(frames=1, most=2), Task.VIS)
    frames = [painted(0, square(1, 0, 0), square(2, 36, 0), square(3, 0, 36))]
    frames += [painted(1, square(3, 0, 36)), painted(2, square(3, 0, 36), square(4, 36, 36))]
    results = watch(session, frames)
    assert [len(result.segments) for result in results] == [2, 1, 2]
    kinds = [[event.kind for event in result.events] for result in results]
    assert kinds == [["refused", "born", "born"], ["deleted", "born"], ["deleted", "born"]]
    assert [track.track_id for track in session.tracks()] == [1, 2, 3, 4]


@pytest.mark.parametrize("task", [Task.VIS, Task.VPS, Task.VSS])
@pytest.mark.parametrize(("length", "overlap"), [(1, 0), (4, 3), (4, 0)])
@pytest.mark.parametrize("sampling", ["even", "random"])
def test_a_run_that_goes_on_gives_what_one_without_a_break_gives(task, length, overlap, sampling):
    made = system(frames=length, overlap=overlap, sampling=sampling, tokens=4)
    frames = walk(16)
    whole = watch(start(made, task, seed=3), frames)
    session: Session = start(made, task, seed=3)
    results = [result for frame in frames[:9] for result in session.step(frame)]
    state = session.state_dict()
    session.step(frames[9])
    session = start(made, task)
    session.load_state_dict(state)
    results += watch(session, frames[9:])
    assert len(results) == len(whole)
    for one, other in zip(results, whole, strict=True):
        assert one.segments == other.segments and one.events == other.events
        assert torch.equal(one.masks_nhw(), other.masks_nhw())


def test_what_is_taken_away_is_shown_no_more_from_the_next_frame_on_and_does_not_come_back():
    session = start(system(frames=5), Task.VIS)
    frames = [painted(t, square(1, 8, 8), square(2, 60, 36)) for t in range(12)]
    results = [result for frame in frames[:7] for result in session.step(frame)]
    session.remove([1])
    results += watch(session, frames[7:])
    assert [[s.track_id for s in result.segments] for result in results] == [[1, 2]] * 7 + [[2]] * 5
    with pytest.raises(InputError, match="object 1 cannot be removed: it is not followed"):
        session.remove([1])


@pytest.mark.parametrize(
    ("options", "task", "message"),
    [
        ({"frames": 0}, Task.VIS, "a clip has at least one frame, not 0"),
        ({"frames": 3, "overlap": 3}, Task.VIS, "clips of 3 frames overlap by 0 to 2, not 3"),
        ({"reads": False}, Task.VIS, "text"),
        ({"reads": False}, Task.REFVOS, "text"),
        ({}, Task.PET, "cannot do 'pet'"),
    ],
)
def test_what_cannot_be_done_is_told(options, task, message):
    with pytest.raises(InputError, match=message):
        start(system(**options), task)


def test_other_mistakes_are_told_too():
    made = system()
    with pytest.raises(InputError, match="takes no prompts"):
        start(made, Task.VIS).prompt([PointPrompt(0, 1, ((1, 1),))])
    with pytest.raises(InputError, match="no probabilities"):
        start(made, Task.VIS, soft=True)
    with pytest.raises(InputError, match="unknown label space 'zoo'; this model has: farm"):
        start(made, Task.VIS, categories="zoo")
    stuff = CategorySet("farm", (Category(30, "grass", False),))
    with pytest.raises(InputError, match="all categories of farm are stuff"):
        start(made, Task.VIS, categories=stuff)
    session = start(made, Task.VIS)
    session.step(painted(4))
    with pytest.raises(InputError, match="frame 4 came after frame 4"):
        session.step(painted(4))


def test_any_categories_can_be_named():
    only = CategorySet("mine", (Category(7, "pig", True),))
    labels = [HEN, PIG, *[GRASS] * (COLOURS - 2)]
    frames = [painted(t, square(1, 8, 8), square(2, 60, 36)) for t in range(5)]
    results = watch(start(system(labels), Task.VIS, categories=only), frames)
    assert [[s.category for s in result.segments] for result in results] == [[7]] * 5


def test_names_without_a_text_tower_are_those_of_the_label_space():
    from maskstream.systems.univs import UniVS

    network = PaintedNetwork([HEN, PIG, *[GRASS] * (COLOURS - 2)])
    made = UniVS(network, PIXELS, space=FARM, names_kd=ColourText().names(FARM.names))  # type: ignore[arg-type]
    assert not made.open_vocabulary and Task.VPS in made.tasks and Task.REFVOS not in made.tasks
    frames = [painted(t, square(1, 8, 8), square(2, 60, 36)) for t in range(5)]
    zoo = CategorySet("zoo", (Category(5, "Pig", True), Category(6, "lion", True)))
    assert [[s.category for s in r.segments] for r in watch(start(made, Task.VIS, categories=zoo), frames)] == [[5]] * 5


def _numbers(plain):
    """How many numbers a state holds in its tensors."""
    if isinstance(plain, torch.Tensor):
        return plain.numel()
    parts = plain.values() if isinstance(plain, dict) else plain if isinstance(plain, list) else []
    return sum(_numbers(part) for part in parts)
