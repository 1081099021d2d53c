"""A video through Tube-Link: every frame once, in order, with the same objects under the same ids."""

import numpy as np
import pytest
import torch

from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.postprocess import FrameSizes
from maskstream.mask2former.prediction import ClipPrediction
from maskstream.systems.tubelink import TubeLinkSettings
from maskstream.systems.tubelink.session import Tube, box_features
from maskstream.types import CategorySet, Frame, InputError, PointPrompt, Task

from .parts import CLASSES, GRASS, HEN, PIG, SIZE, columns, painted, start, system, watch

HENS = [HEN, HEN, PIG, GRASS]


def walk(count, *others):
    """A hen walks to the right, a second stands."""
    return [painted(t, (1, t % 6, t % 6 + 3), (2, 9, 11), *others) for t in range(count)]


@pytest.mark.parametrize("task", [Task.VPS, Task.VIS, Task.VSS])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 13])
@pytest.mark.parametrize(("window", "overlap"), [(1, 0), (3, 0), (6, 0), (3, 1), (6, 2)])
def test_every_frame_is_answered_once_and_in_time(task, count, window, overlap):
    made, _ = system(HENS, window=window, overlap=overlap)
    session = start(made, task)
    frames, waiting = walk(count), 0
    seen = []
    for frame in frames:
        waiting += 1
        results = session.step(frame)
        seen += [result.frame_index for result in results]
        waiting -= len(results)
        assert waiting <= session.latency == window - 1
    seen += [result.frame_index for result in session.finish()]
    assert seen == list(range(count))


@pytest.mark.parametrize(("window", "overlap"), [(1, 0), (3, 0), (6, 0), (6, 2)])
@pytest.mark.parametrize("task", [Task.VPS, Task.VIS])
def test_objects_keep_their_ids_through_tubes(task, window, overlap):
    made, _ = system(HENS, window=window, overlap=overlap)
    results = watch(start(made, task), walk(20))
    assert {frozenset(columns(result)) for result in results} == {frozenset({1, 2})}
    for t, result in enumerate(results):
        assert sorted(columns(result).values()) == [(t % 6, t % 6 + 3), (9, 11)]
        assert {segment.category for segment in result.segments} == {10}


def test_a_short_tube_is_filled_with_its_last_frame_but_not_where_objects_overlap():
    """13 frames in tubes of 6 are 3 tubes: 6, 6, and 1 with 5 copies, which nobody sees and which are not encoded."""
    made, core = system(HENS, window=6)
    watch(start(made), walk(13))
    assert core.lengths == [6, 6, 6]
    assert core.seen == list(range(13))
    made, core = system(HENS, window=6)
    watch(start(made, Task.VIS), walk(13))
    assert core.lengths == [6, 6, 1]


def test_frames_that_are_seen_again_are_encoded_once():
    made, core = system(HENS, window=4, overlap=2)
    watch(start(made), walk(9))
    assert core.lengths == [4, 4, 4, 4] and core.seen == list(range(9))


def test_stuff_is_one_in_a_video_and_things_are_counted():
    made, _ = system(HENS, window=2)
    results = watch(start(made), walk(6, (4, 11, 12)))
    kinds = {(s.id, s.category, s.is_thing) for result in results for s in result.segments}
    assert kinds == {(1, 10, True), (2, 10, True), (3, 30, False)}


def test_an_object_that_comes_later_is_new_and_ids_are_never_used_again():
    made, _ = system(HENS, window=2)
    frames = [painted(t, (1, 0, 3)) for t in range(4)]
    frames += [painted(t) for t in range(4, 40)]  # for longer than the tracker remembers
    frames += [painted(t, (1, 0, 3), (2, 5, 8)) for t in range(40, 44)]
    session = start(made)
    results = watch(session, frames)
    assert set(columns(results[0])) == {1}
    assert set(columns(results[-1])) == {2, 3}
    assert [(track.track_id, track.first, track.last) for track in session.tracks()] == [
        (1, 0, 3),
        (2, 40, 43),
        (3, 40, 43),
    ]


def test_objects_that_are_gone_for_a_tube_come_back_under_their_ids():
    made, _ = system(HENS, window=2)
    frames = [painted(t, (1, 0, 3), (2, 5, 8)) if t not in (4, 5) else painted(t) for t in range(10)]
    results = watch(start(made), frames)
    assert columns(results[0]) == columns(results[-1]) == {1: (0, 3), 2: (5, 8)}
    assert columns(results[4]) == {}


def test_a_frame_without_things_does_not_make_others_forget():
    """Specification §12.6: the authors' program begins its list anew on it. Ids go on."""
    frames = [painted(0, (1, 0, 3), (2, 5, 8)), painted(1), painted(2, (2, 5, 8)), painted(3, (1, 0, 3))]
    made, _ = system(HENS, window=3)
    ours = watch(start(made), frames)
    assert columns(ours[0]) == {1: (0, 3), 2: (5, 8)}
    assert columns(ours[2]) == {2: (5, 8)} and columns(ours[3]) == {1: (0, 3)}
    made, _ = system(HENS, window=3, compat=True)
    theirs = watch(start(made), frames)
    # Of the first tube it follows the second hen alone, as track 0, written as 1; so is the first, by its query.
    assert columns(theirs[0]) == {1: (0, 8)}
    assert columns(theirs[2]) == {1: (5, 8)} and columns(theirs[3]) == {1: (0, 3)}  # one id for two


def test_nothing_that_is_not_sure_enough_is_shown():
    made, core = system(HENS, window=2, min_score=0.6)
    core.sureness = 0.5  # softmax of 0.5 and three times -0.5: 0.48
    assert all(not result.segments for result in watch(start(made), walk(4)))


def test_places_are_kept_when_queries_come_in_another_order():
    orders = [[0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]]
    for task in (Task.VIS, Task.VPS):
        made, _ = system(HENS, order=orders, learned=False, window=2)
        results = watch(start(made, task), walk(6))
        assert {frozenset(columns(result)) for result in results} == {frozenset({1, 2})}


@pytest.mark.parametrize("linking", ["query", "naive", "slots", "overlap"])
def test_a_network_that_was_trained_on_pictures_is_followed(linking):
    made, _ = system(HENS, learned=False, window=2, linking=linking)
    frames = [painted(t, (1, 0, 3), (2, 9, 11)) for t in range(9)]
    results = watch(start(made), frames)
    assert all(columns(result) == {1: (0, 3), 2: (9, 11)} for result in results)


def test_masks_that_do_not_overlap_any_more_are_of_another_object():
    made, _ = system(HENS, window=1, linking="overlap")
    results = watch(start(made), [painted(0, (1, 0, 3)), painted(1, (1, 1, 4)), painted(2, (1, 8, 11))])
    assert [list(columns(result)) for result in results] == [[1], [1], [2]]


def test_every_pixel_has_a_class():
    made, core = system(HENS, window=2)
    core.sureness = 3.0
    results = watch(start(made, Task.VSS), walk(4, (4, 11, 12)))
    for result in results:
        there = result.semantic_map()
        assert set(there.unique().tolist()) <= {10, 30} and (there[:, 11] == 30).all()
        assert {segment.is_thing for segment in result.segments} == {None}


def test_only_what_is_asked_for_is_shown_under_its_name():
    wanted = CategorySet.from_names(["Pig", "grass"], name="mine")
    made, _ = system(HENS, window=2)
    frames = [painted(t, (1, 0, 3), (3, 4, 6), (4, 8, 12)) for t in range(4)]
    for task in (Task.VPS, Task.VSS):
        for result in watch(start(made, task, categories=wanted), frames):
            categories = {s.category for s, a in zip(result.segments, result.areas(), strict=True) if a}
            assert categories == {1, 2}
    (first, *_) = watch(start(made, Task.VIS, categories=wanted), frames)
    assert [segment.category for segment in first.segments] == [1]


def test_stuff_that_is_not_shown_is_not_followed_either():
    made, _ = system(HENS, window=2)
    session = start(made, categories=CategorySet.from_names(["hen"]))
    watch(session, [painted(t, (1, 0, 3), (4, 8, 12)) for t in range(4)])
    assert session._quasi_dense.alive == [0]


def test_what_is_removed_is_not_shown_again():
    made, _ = system(HENS, window=2)
    session, frames = start(made), walk(8)
    before = [result for frame in frames[:4] for result in session.step(frame)]
    session.remove([2])
    after = [result for frame in frames[4:] for result in session.step(frame)]
    assert set(columns(before[-1])) == {1, 2} and all(set(columns(result)) == {1} for result in after)
    with pytest.raises(InputError, match="object 9"):
        session.remove([9])


@pytest.mark.parametrize("task", [Task.VPS, Task.VIS, Task.VSS])
@pytest.mark.parametrize("settings", [{}, {"overlap": 1}, {"compat": True}], ids=["plain", "overlap", "compat"])
@pytest.mark.parametrize("after", [1, 3, 4, 7])
def test_a_session_goes_on_from_its_state(task, settings, after):
    frames = [painted(t, (1, t % 6, t % 6 + 3), (2, 9, 11), *([(3, 11, 12)] if t > 4 else [])) for t in range(11)]

    def told(results):
        return [(r.frame_index, r.segments, r.label_map().tolist(), r.events) for r in results]

    made, _ = system(HENS, window=3, **settings)
    whole = told(watch(start(made, task), frames))
    first, second = start(made, task), start(made, task)
    begun = [result for frame in frames[:after] for result in first.step(frame)]
    second.load_state_dict(first.state_dict())
    assert told(begun) + told(watch(second, frames[after:])) == whole
    assert [t.track_id for t in second.tracks()] == sorted({s.track_id for _, segs, _, _ in whole for s in segs})


def test_memory_does_not_grow_with_the_video():
    """200 frames: one id, and no more kept than after the first tubes."""
    made, _ = system(HENS, window=6)
    session = start(made)
    sizes = []
    for t in range(200):
        for result in session.step(painted(t, (1, t % 6, t % 6 + 3))):
            assert list(columns(result)) == [1]
        state = session.state_dict()
        sizes.append(len(state["track_of"]) + len(state["new"]) + len(state["quasi_dense"]["tracks"]))
    assert max(sizes[12:]) <= max(sizes[:12])


def test_chunks_of_instances_are_as_published():
    """With compat, classes are averaged over 36 frames, and what follows is somebody else."""
    made, core = system(HENS, learned=False, window=4, compat=True)
    session = start(made, Task.VIS)
    assert session.latency == 35
    frames = [painted(t, (1, 0, 3), (2, 5, 8)) for t in range(40)]
    results = watch(session, frames)
    assert core.lengths == [4] * 9 + [4]
    first, second = {frozenset(columns(r)) for r in results[:36]}, {frozenset(columns(r)) for r in results[36:]}
    assert len(first) == len(second) == 1 and first.isdisjoint(second)


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda s: s.prompt([PointPrompt(0, 1, ((1, 1),))]), "no prompts"),
        (lambda s: s.step(Frame(0, 0.0, np.zeros((4, 4, 3), np.uint8))), "4×4"),
        (lambda s: [s.step(painted(3)), s.step(painted(2))], "in order"),
    ],
    ids=["prompt", "size", "order"],
)
def test_what_does_not_fit_is_refused(act, match):
    made, _ = system(HENS, window=2)
    with pytest.raises(InputError, match=match):
        act(start(made))


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"window": 2, "overlap": 2}, "overlap by 0 to 1"), ({"learned": False, "linking": "embedding"}, "no embeddings")],
    ids=["overlap", "linking"],
)
def test_settings_that_cannot_be_are_refused(settings, match):
    made, _ = system(HENS, **settings)
    with pytest.raises(InputError, match=match):
        start(made)


def test_tasks_and_label_spaces_that_are_not_known_are_refused():
    made, _ = system(HENS)
    with pytest.raises(InputError, match="it can do: vis, vps, vss"):
        start(made, Task.VOS)
    with pytest.raises(InputError, match="farm"):
        start(made, categories="vipseg")
    with pytest.raises(InputError, match="none of the 1 categories"):
        start(made, categories=CategorySet.from_names(["whale"]))
    with pytest.raises(InputError, match="no probabilities"):
        start(made, soft=True)
    assert made.label_spaces == {"farm": CLASSES}


def test_the_number_of_classes_must_be_that_of_the_label_space():
    made, _ = system(HENS)
    with pytest.raises(InputError, match="tells 3 classes"):
        type(made)(made.network, made.pixels, space=CategorySet.from_names(["one"]), settings=TubeLinkSettings())


def test_masks_are_those_of_the_source():
    made, _ = system(HENS, window=1)
    (result,) = watch(start(made), [painted(0, (1, 2, 5))])
    assert result.size_hw == SIZE
    expected = torch.zeros(SIZE, dtype=torch.bool)
    expected[:, 2:5] = True
    assert torch.equal(result.masks_nhw()[0], expected)


def test_what_has_the_same_features_in_its_box_is_the_same():
    made, _ = system(HENS, learned=False, window=2, linking="boxes")
    results = watch(start(made), [painted(t, (2, t, t + 3)) for t in range(7)])
    assert all(columns(result) == {1: (t, t + 3)} for t, result in enumerate(results))


def test_features_in_boxes_are_means_over_the_frames_where_an_object_is():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 2, 3, 4, 6, generator=generator)  # half of 8×12 pixels, the last columns are padding
    masks = torch.zeros(2, 2, 8, 8, dtype=torch.bool)
    masks[0, 0, 2, 1] = masks[0, 0, 5, 6] = True  # a diagonal: its box is rows 2 to 5, columns 1 to 6
    masks[1, 0, 0:2, 0:2] = masks[1, 1, 6:8, 4:8] = True
    sizes = FrameSizes((8, 8), (8, 8), (8, 12))
    tube = Tube(ClipFeatures((), features), ClipPrediction(features, features, features), sizes, 0)
    found = box_features(tube, masks)
    first = features[0, 0, :, 1:3, 0:4].mean((1, 2))
    second = torch.cat([features[0, 0, :, 0:1, 0:1].flatten(1), features[0, 1, :, 3:4, 2:4].flatten(1)], 1).mean(1)
    assert torch.allclose(found, torch.stack([first, second]), atol=1e-6)
