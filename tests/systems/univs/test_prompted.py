"""What people point at or describe, followed through a video."""

import numpy as np
import pytest
import torch

from maskstream.mask2former.postprocess import FrameSizes
from maskstream.systems.univs.network import Answers
from maskstream.systems.univs.pointing import Pointed, drawn, pointed_tokens
from maskstream.systems.univs.prompts import PromptMap, evenly
from maskstream.types import (
    BoxPrompt,
    InputError,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    ScribblePrompt,
    StalePromptError,
    Task,
    TextPrompt,
)

from .parts import CHANNELS, GRASS, HEN, SIZE, colours, mask_of, network_of, painted, square, start, system, watch

CUTS = [(1, 0), (5, 4), (5, 2), (5, 0)]


def three(count, *, hidden=()):
    """Three squares, of which the first walks and the second is hidden on some frames."""
    return [
        painted(t, square(1, (2 * t) % 60, 4), *([] if t in hidden else [square(2, 60, 36)]), square(3, 4, 36))
        for t in range(count)
    ]


def box(object_id, frame, colour, **options):
    """Around a square."""
    rows, columns = (mask_of(frame, colour).any(dim).nonzero()[:, 0].tolist() for dim in (1, 0))
    corners = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return BoxPrompt(frame.index, object_id, corners, **options)


@pytest.mark.parametrize(("length", "overlap"), CUTS)
def test_all_kinds_of_prompts_are_followed_together(length, overlap):
    frames = three(12, hidden=(5, 6, 7))
    session = start(system(frames=length, overlap=overlap), Task.VOS)
    session.prompt(
        [
            MaskPrompt(0, 4, mask_of(frames[0], 1)),
            box(2, frames[0], 2),
            ScribblePrompt(0, 9, ((10, 40), (20, 50))),
            PointPrompt(0, 5, ((15, 45), (12, 42))),
        ]
    )
    results = watch(session, frames)
    for t, (result, frame) in enumerate(zip(results, frames, strict=True)):
        found = colours(result, frame)
        # Two ask for the third square, of which each pixel is one's.
        assert {i: c for i, c in found.items() if i in (4, 2)} == {4: {1}} | ({} if t in (5, 6, 7) else {2: {2}}), t
        assert [c for i, c in found.items() if i in (9, 5)] == [{3}] and result.disjoint
    assert torch.equal(results[0].masks_nhw()[0], mask_of(frames[0], 1))


@pytest.mark.parametrize(("length", "overlap"), CUTS)
@pytest.mark.parametrize("kind", ["mask", "box", "text"])
def test_what_is_given_late_is_not_there_before_and_there_after(length, overlap, kind):
    """Check 10."""
    frames = three(13)
    session = start(system(frames=length, overlap=overlap), Task.REFVOS)
    late = {
        "mask": MaskPrompt(7, 2, mask_of(frames[7], 2)),
        "box": box(2, frames[7], 2),
        "text": TextPrompt("number 2", "expression", frame_index=7),
    }
    session.prompt([MaskPrompt(0, 1, mask_of(frames[0], 1)), late[kind]])
    for t, (result, frame) in enumerate(zip(watch(session, frames), frames, strict=True)):
        assert colours(result, frame) == {1: {1}} | ({2: {2}} if t >= 7 else {}), t


def test_a_mask_that_was_given_comes_out_as_it_was_given():
    frames = three(6)
    given = torch.zeros(SIZE, dtype=torch.bool)
    given[5:9, 3:50] = True
    void = torch.zeros(SIZE, dtype=torch.bool)
    void[5, :] = True
    session = start(system(frames=3), Task.VOS)
    session.prompt([MaskPrompt(2, 1, given, void)])
    results = watch(session, frames)
    assert not results[1].segments and torch.equal(results[2].masks_nhw()[0], given & ~void)


@pytest.mark.parametrize(("settings", "ids"), [({}, {1, 2}), ({"contest": "weighted"}, {1}), ({"compat": True}, {1})])
def test_who_is_surest_of_a_pixel_has_it(monkeypatch, settings, ids):
    """The mask of the first square goes on over the second, whose own mask is right and surer there, but fuzzy."""
    frames, made = three(4), system(frames=1, **settings)
    network = network_of(made)
    answer = network.decode

    def too_far(maps, prompts=None, **options):
        (answers,) = answer(maps, prompts, **options)
        second_thw = maps.mask_features_tchw[:, 0] == 2
        masks_qthw = answers.masks_qthw.clone()
        masks_qthw[network.queries][second_thw] = 1.0
        masks_qthw[network.queries + 1] = torch.where(second_thw, 3.0, -0.5)
        return [Answers(answers.embeddings_qtc, masks_qthw)]

    session = start(made, Task.VOS)
    session.prompt([MaskPrompt(0, n, mask_of(frames[0], n)) for n in (1, 2)])
    monkeypatch.setattr(network, "decode", too_far)
    results = watch(session, frames)
    assert {segment.track_id for segment in results[-1].segments} == ids
    assert colours(results[-1], frames[-1]) == ({1: {1}, 2: {2}} if len(ids) == 2 else {1: {1, 2}})


@pytest.mark.parametrize("pause", [2, 6])
def test_sentences_and_what_is_pointed_at_are_followed_side_by_side_and_sentences_may_share_pixels(pause):
    frames = three(9)
    made = system(frames=3)
    session = start(made, Task.REFVOS)
    session.prompt([MaskPrompt(0, 7, mask_of(frames[0], 1)), TextPrompt("number 1", "expression", "a")])
    results = [result for frame in frames[:pause] for result in session.step(frame)]
    session.prompt([TextPrompt("the number 3", "expression", frame_index=pause)])
    results += watch(session, frames[pause:])
    for t, (result, frame) in enumerate(zip(results, frames, strict=True)):
        assert colours(result, frame) == {7: {1}, 8: {1}} | ({9: {3}} if t >= pause else {})
        assert [s.prompt_id for s in result.segments] == ["object-7", "a", "the number 3"][: 2 + (t >= pause)]
    assert [track.prompt_id for track in session.tracks()] == ["object-7", "a", "the number 3"]
    assert set(network_of(made).asked) == {1, 2}  # in passes of their own


def test_a_hundred_prompts_are_one_pass_a_clip():
    frames = three(4)
    made = system(frames=2, tokens=4)
    session = start(made, Task.VOS)
    session.prompt([MaskPrompt(0, n, torch.arange(SIZE[1]).expand(SIZE) == n - 1) for n in range(1, 101) if n <= 96])
    session.prompt([PointPrompt(0, n, ((n - 90, 40),)) for n in range(97, 101)])
    results = watch(session, frames)
    assert len(results[0].segments) >= 96 and len(results) == 4
    assert set(network_of(made).asked) == {100}


def test_a_correction_begins_anew_and_a_refinement_goes_on():
    frames = three(12)
    session = start(system(frames=3), Task.VOS)
    session.prompt([MaskPrompt(0, 1, mask_of(frames[0], 1)), box(1, frames[6], 3)])
    results = watch(session, frames)
    assert [colours(r, f)[1] for r, f in zip(results, frames, strict=True)] == [{1}] * 6 + [{3}] * 6
    assert [e.kind for r in results for e in r.events] == ["born", "corrected"]
    session = start(system(frames=3), Task.VOS)
    session.prompt([MaskPrompt(0, 1, mask_of(frames[0], 1)), PointPrompt(6, 1, ((6.0 + 15, 12),), add=True)])
    results = watch(session, frames)
    assert [colours(r, f)[1] for r, f in zip(results, frames, strict=True)] == [{1}] * 12
    assert [e.reason for r in results for e in r.events][1] == "a person refined what it is"


def test_frames_that_came_may_be_prompted_until_they_leave():
    frames = three(6)
    session = start(system(frames=4), Task.VOS)
    results = [result for frame in frames[:5] for result in session.step(frame)]
    assert [result.frame_index for result in results] == [0, 1]
    with pytest.raises(StalePromptError, match="frames up to 1 were already emitted"):
        session.prompt([box(1, frames[1], 2)])
    session.prompt([box(1, frames[2], 2)])
    results += session.step(frames[5])
    session.prompt([box(2, frames[4], 3)])  # no clip comes any more that is not asked for
    results += session.finish()
    expected = [{}, {}, {1: {2}}, {1: {2}}, {1: {2}, 2: {3}}, {1: {2}, 2: {3}}]
    assert [colours(r, f) for r, f in zip(results, frames, strict=True)] == expected


def test_what_is_taken_away_leaves_at_the_next_frame_and_its_id_is_never_used_again():
    frames = three(10)
    session = start(system(frames=4), Task.REFVOS)
    session.prompt([box(1, frames[0], 1), box(2, frames[0], 2), TextPrompt("number 3", "expression")])
    results = [result for frame in frames[:6] for result in session.step(frame)]
    session.remove([1, 3])
    with pytest.raises(InputError, match="object 1 was removed: ids are never reused"):
        session.prompt([box(1, frames[7], 1)])
    results += watch(session, frames[6:])
    assert [set(colours(r, f)) for r, f in zip(results, frames, strict=True)] == [{1, 2, 3}] * 6 + [{2}] * 4
    assert [(t.track_id, t.first, t.last) for t in session.tracks()] == [(1, 0, 5), (2, 0, 9), (3, 0, 5)]


def test_given_stuff_is_where_the_picture_shows_its_class():
    labels = [HEN, HEN, GRASS, GRASS, *[HEN] * 4]
    frames = [
        painted(t, (5, 0, 0, 96, 64), square(1, 0, 0), square(3, 36, 0), *([square(4, 60, 36)] if t else []))
        for t in range(6)
    ]
    prompts = [
        MaskPrompt(0, 1, mask_of(frames[0], 1), category=10, is_thing=True),
        MaskPrompt(0, 2, mask_of(frames[0], 3), category=30, is_thing=False),
    ]
    for categories, expected in (("farm", {3, 4}), (None, {3})):
        session = start(system(labels, frames=3), Task.PVOS, categories=categories)
        session.prompt(prompts)
        results = watch(session, frames)
        assert [colours(r, f) for r, f in zip(results, frames, strict=True)][1:] == [{1: {1}, 2: expected}] * 5
        assert [(s.category, s.is_thing) for s in results[-1].segments] == [(10, True), (30, False)]


@pytest.mark.parametrize(("length", "overlap"), CUTS)
def test_a_run_that_goes_on_gives_what_one_without_a_break_gives(length, overlap):
    frames = three(14, hidden=(8, 9))
    prompts = [
        MaskPrompt(0, 1, mask_of(frames[0], 1)),
        box(2, frames[4], 2),
        TextPrompt("number 3", "expression", frame_index=3),
        TextPrompt("number 1", "expression", frame_index=11),
        PointPrompt(12, 6, ((15, 45),)),
    ]
    made = system(frames=length, overlap=overlap)
    session = start(made, Task.REFVOS)
    session.prompt(prompts)
    whole = watch(session, frames)
    session = start(made, Task.REFVOS)
    session.prompt(prompts)
    results = [result for frame in frames[:6] for result in session.step(frame)]
    state = session.state_dict()
    session.step(frames[6])
    session = start(made, Task.REFVOS)
    session.load_state_dict(state)
    results += watch(session, frames[6:])
    for one, other in zip(results, whole, strict=True):
        assert one.segments == other.segments and one.events == other.events
        assert torch.equal(one.masks_nhw(), other.masks_nhw())


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (MaskPrompt(0, 1, np.zeros(SIZE)), "mask for object 1 on frame 0 is empty"),
        (MaskPrompt(0, 1, np.ones((4, 4))), "is 4×4 but the video is 64×96"),
        (PointPrompt(0, 1, ((200, 5),)), "is outside the video"),
        (ScribblePrompt(0, 1, ((5, 5), (5, 70))), "is outside the video"),
        (BoxPrompt(0, 1, (0, 0, 200, 10)), "reaches outside the video"),
        (PointPrompt(0, 1, ((5, 5), (9, 9)), (True, False)), "leave out negative points"),
        (TextPrompt("hen"), 'say kind="expression"'),
    ],
)
def test_prompts_that_say_nothing_are_refused(prompt, message):
    session = start(system(), Task.REFVOS)
    with pytest.raises(InputError, match=message):
        session.prompt([MaskPrompt(0, 5, np.ones(SIZE)), prompt])
    assert not watch(session, [painted(0)])[0].segments  # nor is what came with them taken


def test_other_mistakes_are_told_too():
    frames = three(4)
    with pytest.raises(InputError, match="needs a text tower"):
        start(system(reads=False), Task.VOS).prompt([TextPrompt("number 1", "expression")])
    session = start(system(frames=1), Task.REFVOS)
    session.prompt([TextPrompt("number 1", "expression")])
    with pytest.raises(InputError, match="is given twice"):
        session.prompt([TextPrompt("number 1", "expression")])
    session.step(frames[0])
    with pytest.raises(StalePromptError, match="give it a later frame_index"):
        session.prompt([TextPrompt("number 2", "expression")])
    session.prompt([box(3, frames[2], 2)])
    with pytest.raises(InputError, match="on frame 2, which is not among the frames"):
        session.step(frames[3])
    session = start(system(), Task.REFVOS)
    session.prompt([TextPrompt("number 1", "expression", frame_index=9)])
    with pytest.raises(InputError, match="is on frame 9, but the video ended at frame 3"):
        watch(session, frames)


def test_tokens_of_several_prompts_are_shared_out():
    height, width = 8, 12
    content = torch.arange(CHANNELS * height * width, dtype=torch.float32).view(CHANNELS, height, width) + 1
    where = PromptMap(content, content, torch.tensor(0.0))
    sizes = FrameSizes((32, 48), (64, 96), (64, 96))  # of the video, twice as large for the network, no padding
    mask = torch.zeros(32, 48, dtype=torch.bool)
    mask[0:4, 0:8] = True  # one row of two places
    box_of_one = BoxPrompt(0, 1, (40, 24, 44, 28))
    both: list[ObjectPrompt] = [MaskPrompt(0, 1, mask), box_of_one]
    tokens = pointed_tokens(
        where, [Pointed(both, mask), Pointed(both[:1], mask)], sizes, count=6, choose=evenly
    ).content_nrc[..., 0]
    assert tokens[1].tolist() == [1, 2, 1, 2, 1, 2]
    assert tokens[0, ::2].tolist() == [1, 1, 1]  # tokens 0, 2 and 4 of the mask's
    assert set(tokens[0, 1::2].tolist()) <= set(content[0, 6:8, 10:12].flatten().tolist())
    points = [PointPrompt(0, 2, ((3.5, 3.5), (19.5, 3.5)))]  # corners of places 1 and 2, and of 4 and 5
    found = pointed_tokens(where, [Pointed(points, None)], sizes, count=4, choose=evenly).content_nrc[0, :, 0]
    expected = [float(content[0, 0:2, x : x + 2].mean()) for x in (1 - 1, 4)]
    assert found.tolist() == pytest.approx([expected[0], expected[1]] * 2)


def test_strokes_are_as_wide_as_places_of_the_features():
    line = drawn(ScribblePrompt(0, 1, ((4, 20), (40, 20))), (48, 64), 8)
    assert 7 <= int(line[:, 20].sum()) <= 9 and bool(line[20, 4:41].all())
    dot = drawn(ScribblePrompt(0, 1, ((4, 20),)), (48, 64), 8)
    assert bool(dot[20, 4])
