"""What people point at, carried from clip to clip."""

import numpy as np
import pytest
import torch

from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.postprocess import FrameSizes, owners, resized
from maskstream.pretrained import Pixels
from maskstream.systems.tarvis.model import TarViS
from maskstream.systems.tarvis.network import ObjectAnswers
from maskstream.systems.tarvis.objects import ObjectSession
from maskstream.systems.tarvis.settings import TarViSSettings
from maskstream.systems.tarvis.targets import ObjectQueries, PointTargets, at_points, largest_of_each, mask_parts
from maskstream.types import (
    BoxPrompt,
    Frame,
    InputError,
    MaskPrompt,
    PointPrompt,
    Proposals,
    ScribblePrompt,
    StalePromptError,
    Task,
    TextPrompt,
    resize_masks,
)

from .networks import small_tarvis
from .painted import COLOURS, FAR, HEN, PIXELS, SIZE, PaintedNetwork, colours, painted, square, watch

CUTS = [(12, 6), (6, 3), (8, 4), (12, 5), (5, 4), (1, 0), (4, 0)]
PARTS = 2


class PointedNetwork(PaintedNetwork):
    """A query knows the colours that are under its part of a mask, or under a point, and finds them.

    Attributes:
        references: of each time that objects were encoded, indices of the frames.
        masks: and the masks.
        points_p2: of each time with points, which.
        asked: of each clip that was decoded, how many queries each mask and point has.
        blind: clips, counted from 0, and indices of their frames where nothing is found.
    """

    def __init__(self):
        super().__init__([HEN] * COLOURS)
        self.references = []
        self.masks = []
        self.points_p2 = []
        self.asked = []
        self.blind = set()

    def encode(self, features_tchw, masks_nthw, points=None):
        self.references.append(features_tchw[:, 2, 0, 0].int().tolist())
        self.masks.append(masks_nthw)
        red_thw = features_tchw[:, 0].long()
        red_thw = red_thw.repeat_interleave(4, 1).repeat_interleave(4, 2).clamp(max=COLOURS)
        assert red_thw.shape == masks_nthw.shape[1:]
        queries = []
        for part_thw in mask_parts(masks_nthw, PARTS):
            count_c = torch.bincount(red_thw[part_thw], minlength=COLOURS + 1)
            queries.append((count_c > 0.3 * count_c.sum()).float())
        if points is not None:
            assert isinstance(points, PointTargets)
            self.points_p2.append(points.points_p2)
            red_p = at_points(points.maps_pchw[-1], points.points_p2)[:, 0].long()
            queries += torch.nn.functional.one_hot(red_p, COLOURS + 1).float()
        counts = (PARTS,) * len(masks_nthw) + (1,) * (0 if points is None else len(points.points_p2))
        return ObjectQueries(torch.zeros(1, COLOURS + 1), torch.stack(queries), counts)

    def objects(self, features: ClipFeatures, encoded):
        (one,) = encoded
        assert one.background_gc.shape == (1, COLOURS + 1)
        self.asked.append(one.counts)
        red_thw, index_t = features.mask_features_btchw[0, :, 0].long(), self.clips[-1]
        known_qc = one.objects_qc.clone()
        known_qc[:, 0] = 0  # the ground is nobody's
        masks_qthw = torch.where(known_qc[:, red_thw.clamp(max=COLOURS)] > 0, FAR, -FAR)
        for t, index in enumerate(index_t):
            if (len(self.clips) - 1, index) in self.blind:
                masks_qthw[:, t] = -FAR
        masks_bnthw = largest_of_each(masks_qthw[None], one.counts)
        return [ObjectAnswers(masks_bnthw, torch.zeros_like(masks_bnthw[:, 0]), one.objects_qc[None])]


def system(pixels=PIXELS, **settings):
    return TarViS(PointedNetwork(), pixels, settings=TarViSSettings(**{"carry": "masks", **settings}))  # type: ignore[arg-type]


def begin(made, *prompts, size_hw=SIZE):
    session = made.start(Task.VOS, size_hw=size_hw)
    session.prompt(prompts)
    return session


def mask_of(frame, *wanted):
    """Where some colours are."""
    return torch.from_numpy(np.isin(frame.image[..., 0], wanted))


def mask(frame, object_id, *wanted, **options):
    """That an object is of some colours."""
    return MaskPrompt(frame.index, object_id, mask_of(frame, *wanted), **options)


def point(frame, object_id, *wanted, **options):
    """That an object is of some colours: a point in the middle of each."""
    middles = [mask_of(frame, colour).nonzero().float().mean(0).tolist() for colour in wanted]
    return PointPrompt(frame.index, object_id, tuple((x, y) for y, x in middles), **options)


def three(count, *, hidden=()):
    """Three squares, of which the first walks and the second is hidden on some frames."""
    return [
        painted(t, square(1, (4 * t) % 60, 4), *([] if t in hidden else [square(2, 90, 36)]), square(3, 4, 36))
        for t in range(count)
    ]


def shown(results, frames):
    return [colours(result, frame) for result, frame in zip(results, frames, strict=True)]


def kinds(results):
    return [(event.kind, event.track_id) for result in results for event in result.events]


@pytest.mark.parametrize("last", ["cut", "full"])
@pytest.mark.parametrize(("length", "overlap"), CUTS)
def test_every_frame_leaves_once_and_in_time_and_objects_are_there_from_their_frame_on(length, overlap, last):
    """Check 14; what is seen in one clip alone is written, too (T1)."""
    made = system(frames=length, overlap=overlap, last=last)
    frames = three(20)
    for count in range(1, 21):
        first, second = count // 3, count // 2
        session = begin(made, mask(frames[first], 4, 1), point(frames[second], 9, 3))
        results = []
        for t, frame in enumerate(frames[:count]):
            results += session.step(frame)
            assert t - len(results) < length
        results += session.finish()
        assert [result.frame_index for result in results] == list(range(count))
        expected = [({4: {1}} if t >= first else {}) | ({9: {3}} if t >= second else {}) for t in range(count)]
        assert shown(results, frames[:count]) == expected, count
        assert all(result.disjoint for result in results)
        tracks = [(track.track_id, track.first, track.last) for track in session.tracks()]
        assert tracks == [(4, first, count - 1), (9, second, count - 1)]


@pytest.mark.parametrize("last", ["cut", "full"])
@pytest.mark.parametrize(("length", "overlap"), CUTS)
def test_without_prompts_nothing_is_decoded_and_every_frame_leaves_empty(length, overlap, last):
    made = system(frames=length, overlap=overlap, last=last)
    frames = three(15)
    assert shown(watch(begin(made), frames), frames) == [{}] * 15
    assert not made.network.clips


def test_clips_begin_with_the_frame_on_which_something_is_given():
    made = system(frames=4, overlap=2)
    frames = three(16)
    watch(begin(made, mask(frames[3], 1, 1)), frames)
    assert made.network.clips[:3] == [[3, 4, 5, 6], [5, 6, 7, 8], [7, 8, 9, 10]]
    assert made.network.references[:3] == [[3], [5, 6], [7, 8]]
    for last in ("cut", "full"):
        made = system(frames=8, overlap=2, last=last)
        watch(begin(made, mask(frames[3], 1, 1)), frames[:6])
        assert made.network.clips == [[3, 4, 5]]


def test_frames_are_referred_to_where_clips_overlap_and_where_something_is_given():
    made = system(frames=5, overlap=2)
    frames = three(9)
    results = watch(begin(made, mask(frames[0], 1, 1), mask(frames[7], 2, 2), point(frames[5], 3, 3)), frames)
    assert made.network.references == [[0], [3, 4, 5, 7], [6, 7]]
    assert made.network.asked == [(PARTS,), (PARTS, PARTS, 1), (PARTS, PARTS, PARTS)]
    expected = [{1: {1}} | ({3: {3}} if t >= 5 else {}) | ({2: {2}} if t >= 7 else {}) for t in range(9)]
    assert shown(results, frames) == expected


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("length", "overlap"), [cut for cut in CUTS if cut[1]])
def test_an_object_is_lost_where_clips_meet_without_it_and_back_when_it_is_given_again(length, overlap, alone):
    """Check 15."""
    frames = three(40, hidden=(*range(7), *range(12, 24)))
    made = system(frames=length, overlap=overlap)
    session = begin(made, mask(frames[7], 2, 2), mask(frames[30], 2, 2), *([] if alone else [mask(frames[0], 1, 1)]))
    results = watch(session, frames)
    there = {*range(7, 12), *range(30, 40)}
    expected = [({} if alone else {1: {1}}) | ({2: {2}} if t in there else {}) for t in range(40)]
    assert shown(results, frames) == expected
    assert [kind for kind, track_id in kinds(results) if track_id == 2] == ["born", "deleted", "corrected"]
    assert [(t.first, t.last) for t in session.tracks() if t.track_id == 2] == [(7, 39)]
    if alone:  # nothing is decoded while nothing is followed
        assert any(clip[0] == 30 for clip in made.network.clips)
        assert not any(20 <= index < 30 for clip in made.network.clips[1:] for index in clip[-1:])


def test_what_is_hidden_for_less_than_an_overlap_is_not_lost():
    frames = three(16, hidden=(5, 6))
    results = watch(begin(system(frames=6, overlap=3), mask(frames[0], 2, 2)), frames)
    assert shown(results, frames) == [{} if t in (5, 6) else {2: {2}} for t in range(16)]


@pytest.mark.parametrize("compat", [False, True])
def test_a_point_where_clips_overlap_is_one_object(compat):
    """Check 15, T6: the mask says more than the point; in the authors' program the object is there twice."""
    frames = three(8)
    made = system(frames=4, overlap=2, compat=compat)
    results = watch(begin(made, mask(frames[0], 1, 1), point(frames[2], 9, 3)), frames)
    assert made.network.asked[:3] == [(PARTS, 1), (PARTS, PARTS, 1) if compat else (PARTS, PARTS), (PARTS, PARTS)]
    assert shown(results, frames) == [{1: {1}} | ({9: {3}} if t >= 2 else {}) for t in range(8)]


def test_a_point_is_used_again_where_no_mask_came_of_it():
    frames = three(8)
    made = system(frames=4, overlap=2)
    made.network.blind = {(0, 2), (0, 3)}
    results = watch(begin(made, mask(frames[0], 1, 1), point(frames[2], 9, 3)), frames)
    assert made.network.asked[1] == (1,)  # and what was given by its mask alone is lost
    assert shown(results, frames) == [{1: {1}}] * 2 + [{9: {3}}] * 6


def test_points_of_one_object_are_one_object():
    frames = three(7)
    made = system(frames=4, overlap=2)
    results = watch(begin(made, point(frames[0], 5, 1, 2), point(frames[2], 5, 3)), frames)
    assert made.network.asked == [(1, 1, 1), (PARTS,), (PARTS,)]
    assert shown(results, frames) == [{5: {1, 2, 3}}] * 7


def test_where_two_clips_found_something_it_is_the_later_and_where_one_found_nothing_the_other():
    """Specification §9.5."""
    frames = three(8)
    made = system(frames=4, overlap=2)
    made.network.blind = {(0, 3), (1, 2)}
    results = watch(begin(made, mask(frames[0], 1, 1), point(frames[4], 1, 3, add=True)), frames)
    # The second clip finds more, but nothing on frame 2; the first clip found nothing on frame 3.
    assert shown(results, frames) == [{1: {1}}] * 3 + [{1: {1, 3}}] * 5


def test_prompts_on_frames_that_came_and_have_not_left():
    frames = three(6)
    made = system(frames=4, overlap=2)
    session = begin(made)
    results = [result for frame in frames[:4] for result in session.step(frame)]
    assert [result.frame_index for result in results] == [0, 1]
    with pytest.raises(StalePromptError, match="frames up to 1 were already emitted"):
        session.prompt([mask(frames[1], 1, 1)])
    session.prompt([mask(frames[3], 1, 1)])
    results += [result for frame in frames[4:] for result in session.step(frame)]  # frame 3 is of no whole clip yet
    session.prompt([point(frames[5], 2, 2)])
    results += session.finish()
    assert shown(results, frames) == [{}] * 3 + [{1: {1}}] * 2 + [{1: {1}, 2: {2}}]
    session = begin(made, mask(frames[0], 1, 1))
    results = [result for frame in frames for result in session.step(frame)]
    assert [result.frame_index for result in results] == [0, 1, 2, 3]
    session.prompt([mask(frames[5], 2, 2)])  # all frames were decoded
    results += session.finish()
    assert shown(results, frames) == [{1: {1}}] * 5 + [{1: {1}, 2: {2}}]


@pytest.mark.parametrize("kind", [mask, point])
@pytest.mark.parametrize(("length", "overlap"), CUTS)
def test_a_correction_begins_anew_and_what_was_found_before_stays(length, overlap, kind):
    frames = three(20)
    made = system(frames=length, overlap=overlap)
    results = watch(begin(made, mask(frames[0], 1, 1), kind(frames[13], 1, 3)), frames)
    clip = next(clip for clip in made.network.clips if 13 in clip)
    new = clip[0] + overlap  # no clip found anything there before
    assert shown(results, frames) == [{1: {1}}] * new + [{1: {3}}] * (20 - new)
    assert kinds(results) == [("born", 1), ("corrected", 1)]


def test_masks_of_one_clip_are_of_one_object():
    frames = three(9)
    results = watch(begin(system(frames=6, overlap=3), mask(frames[0], 1, 1), mask(frames[4], 1, 3)), frames)
    assert shown(results, frames) == [{1: {1}}, *[{1: {1, 3}}] * 3, {1: {3}}, *[{1: {1, 3}}] * 4]


def test_what_was_found_from_the_frame_of_a_correction_on_does_not_count():
    frames = three(11)
    session = begin(system(frames=5, overlap=3), mask(frames[0], 1, 1))
    results = [result for frame in frames[:5] for result in session.step(frame)]
    session.prompt([mask(frames[3], 1, 2)])  # frame 4 was segmented, too
    results += watch(session, frames[5:])
    assert shown(results, frames) == [{1: {1}}] * 3 + [{1: {2}}] * 8


def test_a_given_mask_is_what_is_referred_to_on_its_frame_and_a_refinement_adds_to_it():
    frames = three(8)
    given = mask_of(frames[2], 1)
    given[12:] = False  # the network finds all of the square
    made = system(frames=4, overlap=2)
    session = begin(made, mask(frames[0], 9, 2), MaskPrompt(2, 1, given))
    results = [result for frame in frames[:4] for result in session.step(frame)]
    session.prompt([point(frames[2], 1, 3, add=True)])
    results += watch(session, frames[4:])
    assert made.network.references[:2] == [[0, 2], [2, 3]]
    assert made.network.asked == [(PARTS, PARTS), (PARTS, PARTS, 1), (PARTS, PARTS)]
    assert torch.equal(made.network.masks[0][1, 1], given) and torch.equal(made.network.masks[1][1, 0], given)
    assert int(made.network.masks[1][1, 1].sum()) > int(given.sum())
    assert shown(results, frames) == [{9: {2}}] * 2 + [{9: {2}, 1: {1, 3}}] * 6
    assert [event.reason for result in results for event in result.events][-1] == "a person refined what it is"


def test_a_mask_comes_out_as_it_was_given():
    frames = three(8)
    given = torch.zeros(SIZE, dtype=torch.bool)
    given[5:9, 3:50] = True
    void = torch.zeros(SIZE, dtype=torch.bool)
    void[5, :] = True
    session = begin(system(frames=4, overlap=2), mask(frames[0], 1, 1), MaskPrompt(3, 2, given, void))
    results = watch(session, frames)
    assert len(results[3].segments) == 2  # the first is below it
    assert torch.equal(results[3].masks_nhw()[1], given & ~void)
    assert torch.equal(results[0].masks_nhw()[0], mask_of(frames[0], 1))
    thin = torch.zeros(SIZE, dtype=torch.bool)
    thin[20, 8:60] = True
    small = system(Pixels(shortest=16, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3))
    results = watch(begin(small, MaskPrompt(0, 2, thin)), frames[:1])
    assert torch.equal(results[0].masks_nhw()[0], thin)


@pytest.mark.parametrize(("length", "overlap"), CUTS)
def test_what_is_taken_away_leaves_at_the_next_frame_and_its_id_is_never_used_again(length, overlap):
    frames = three(22)
    session = begin(system(frames=length, overlap=overlap), mask(frames[0], 1, 1), point(frames[0], 2, 2))
    results = [result for frame in frames[:13] for result in session.step(frame)]
    session.remove([1])
    with pytest.raises(InputError, match="object 1 was removed: ids are never reused"):
        session.prompt([mask(frames[15], 1, 1)])
    results += watch(session, frames[13:])
    with pytest.raises(InputError, match="object 1 cannot be removed: it is not followed"):
        session.remove([1])
    assert shown(results, frames) == [({1: {1}} if t < 13 else {}) | {2: {2}} for t in range(22)]
    assert [(t.track_id, t.first, t.last) for t in session.tracks()] == [(1, 0, 12), (2, 0, 21)]


def test_prompts_of_what_was_taken_away_are_dropped():
    frames = three(10)
    session = begin(system(frames=4, overlap=2), mask(frames[0], 1, 1), mask(frames[8], 1, 1))
    results = [result for frame in frames[:5] for result in session.step(frame)]
    session.remove([1])
    assert shown(results + watch(session, frames[5:]), frames) == [{1: {1}}] * 5 + [{}] * 5


def test_regions_have_the_categories_that_people_gave_them():
    frames = three(6)
    session = begin(
        system(frames=4, overlap=2),
        mask(frames[0], 1, 1, category=10, is_thing=True),
        mask(frames[0], 2, 2, category=30, is_thing=False),
        mask(frames[1], 3, 3, category=30, is_thing=False),
    )
    results = watch(session, frames)
    assert [(s.id, s.category, s.is_thing, s.prompt_id) for s in results[-1].segments] == [
        (1, 10, True, "object-1"),
        (2, 30, False, "object-2"),
    ]
    assert colours(results[-1], frames[-1]) == {1: {1}, 2: {2, 3}}


def test_points_and_strokes_are_fractions_of_the_padded_picture():
    made = system(frames=1)
    picture = (60, 100)  # padded to 64 × 128
    frames = [Frame(0, 0.0, np.full((*picture, 3), 2, np.uint8))]
    prompts = [
        PointPrompt(0, 1, ((10, 20), (-0.5, 59.5))),
        ScribblePrompt(0, 2, ((10, 10), (24, 10), (24, 24))),
        ScribblePrompt(0, 3, ((5, 5), (7, 5))),
        ScribblePrompt(0, 4, ((50, 30),)),
    ]
    results = watch(begin(made, *prompts, size_hw=picture), frames)
    found_p2 = made.network.points_p2[0] * torch.tensor([64, 128]) - 0.5
    stroke = [(10, 10), (10, 14), (10, 18), (10, 22), (12, 24), (16, 24), (20, 24), (24, 24)]
    assert found_p2.round(decimals=4).tolist() == [
        *([20, 10], [59, 0]),
        *map(list, stroke),
        *([5, 5], [5, 6], [5, 7]),
        [30, 50],
    ]
    assert float(results[0].masks_nhw()[0].float().mean()) > 0.99 and results[0].masks_nhw().shape[1:] == picture


class ColourPrompter:
    """Finds the colour in the middle of a box."""

    context = 0

    def encode(self, frames):
        return [torch.from_numpy(frame.image[..., 0]) for frame in frames]

    def segment(self, features, prompts=(), **options):
        x0, y0, x1, y1 = next(prompt.box_xyxy for prompt in prompts if isinstance(prompt, BoxPrompt))
        colour = features[int(y0 + y1) // 2, int(x0 + x1) // 2]
        return Proposals((features == colour)[None] & (colour > 0))


def test_boxes_become_masks_where_somebody_can_make_them():
    frames = three(6)
    session = ObjectSession(
        PointedNetwork(),  # type: ignore[arg-type]
        system().pixels,
        size_hw=SIZE,
        settings=TarViSSettings(frames=4),
        prompter=ColourPrompter(),
    )
    session.prompt([BoxPrompt(1, 5, (90, 36, 114, 60), category=4), BoxPrompt(1, 6, (60, 30, 70, 40))])
    results = watch(session, frames)
    assert shown(results, frames) == [{}] + [{5: {2}}] * 5
    assert torch.equal(results[1].masks_nhw()[0], mask_of(frames[1], 2)) and results[1].segments[0].category == 4
    assert [event.reason for event in results[1].events] == [
        "a person gave its mask",
        "nothing is found in the box of object 6",
    ]


def test_what_is_kept_does_not_grow_with_the_video():
    frames = three(1)
    session = begin(system(frames=4, overlap=2), mask(frames[0], 1, 1), point(frames[0], 2, 3))
    sizes = []
    for frame in three(40):
        session.step(frame)
        sizes.append(_numbers(session.state_dict()))
    assert len(set(sizes[10::2])) == len(set(sizes[11::2])) == 1


@pytest.mark.parametrize(("last", "stop"), [("cut", 3), ("cut", 9), ("full", 9)])
@pytest.mark.parametrize(("length", "overlap"), CUTS)
def test_a_run_that_goes_on_gives_what_one_without_a_break_gives(length, overlap, last, stop):
    frames = three(16, hidden=(8, 9))
    prompts = [
        mask(frames[1], 1, 1),
        point(frames[4], 2, 2),
        mask(frames[11], 1, 3),
        ScribblePrompt(12, 6, ((6, 45), (12, 45))),
    ]
    made = system(frames=length, overlap=overlap, last=last)
    whole = watch(begin(made, *prompts), frames)
    session = begin(made, *prompts)
    results = [result for frame in frames[:stop] for result in session.step(frame)]
    state = session.state_dict()
    session.step(frames[stop])
    session = begin(made)
    session.load_state_dict(state)
    results += watch(session, frames[stop:])
    _same(results, whole)


def drawn_video(count, size_hw=(50, 100)):
    """Pictures for a network with weights."""
    generator = np.random.default_rng(3)
    return [Frame(t, t / 10, generator.integers(0, 256, (*size_hw, 3), np.uint8)) for t in range(count)]


@pytest.fixture(scope="module")
def drawn_system():
    return TarViS(small_tarvis(), Pixels(shortest=60), settings=TarViSSettings(frames=3, overlap=1, carry="masks"))


def half(frame, object_id=1):
    given = torch.zeros(frame.size_hw, dtype=torch.bool)
    given[:, : frame.size_hw[1] // 2] = True
    return MaskPrompt(frame.index, object_id, given)


def test_clips_of_a_network_are_what_its_parts_say(drawn_system):
    """Specification §9.5, step by step."""
    frames, network = drawn_video(5), drawn_system.network
    sizes = FrameSizes((50, 100), (60, 120), (64, 128))
    given = half(frames[0])
    results = watch(begin(drawn_system, given, PointPrompt(0, 7, ((80, 20),)), size_hw=(50, 100)), frames)
    with torch.no_grad():
        features = network.features(drawn_system.pixels(frames[:3])[None])
        reference_hw = torch.zeros(64, 128, dtype=torch.bool)
        reference_hw[:60, :120] = resize_masks(given.mask[None], (60, 120))[0] >= 0.5
        maps = tuple(level[0, :1] for level in (*features.levels, features.mask_features_btchw))
        point_p2 = torch.tensor([[20.5 / 50 * 60 / 64, 80.5 / 100 * 120 / 128]])
        encoded = network.encode(
            features.mask_features_btchw[0, :1], reference_hw[None, None], PointTargets(point_p2, maps)
        )
        (answers,) = network.objects(features, [encoded])
        first_nthw = answers.masks_bnthw[0]
        features = network.features(drawn_system.pixels(frames[2:])[None])
        references_nhw = resized(first_nthw[:, 2], (64, 128)) > 0
        assert bool(references_nhw.flatten(1).any(1).all())
        encoded = network.encode(features.mask_features_btchw[0, :1], references_nhw[:, None])
        (answers,) = network.objects(features, [encoded])
    logits = [*first_nthw.unbind(1)[:2], *answers.masks_bnthw[0].unbind(1)]
    for result, logits_nhw in zip(results[1:], logits[1:], strict=True):  # on the first it is the mask that was given
        label_hw, _ = owners(logits_nhw, torch.ones(2), sizes)
        masks_nhw = {s.track_id: m for s, m in zip(result.segments, result.masks_nhw(), strict=True)}
        for number, track_id in enumerate((1, 7), 1):
            assert torch.equal(masks_nhw.get(track_id, torch.zeros(50, 100) > 0), label_hw == number)
    assert {s.track_id for result in results[1:] for s in result.segments} == {1, 7}


@pytest.mark.parametrize(("length", "overlap"), [(3, 1), (4, 0), (1, 0)])
def test_a_network_gives_the_same_to_the_last_bit_when_it_goes_on(drawn_system, length, overlap):
    made = TarViS(
        drawn_system.network,
        drawn_system.pixels,
        settings=TarViSSettings(frames=length, overlap=overlap, carry="masks"),
    )
    frames = drawn_video(9)
    prompts = [half(frames[0]), PointPrompt(2, 2, ((80, 20),)), half(frames[6], 4)]
    whole = watch(begin(made, *prompts, size_hw=(50, 100)), frames)
    session = begin(made, *prompts, size_hw=(50, 100))
    results = [result for frame in frames[:5] for result in session.step(frame)]
    state = session.state_dict()
    session = begin(made, size_hw=(50, 100))
    session.load_state_dict(state)
    results += watch(session, frames[5:])
    assert [result.frame_index for result in results] == list(range(9))
    assert sum(len(result.segments) for result in results) >= 9
    _same(results, whole)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (MaskPrompt(0, 1, np.zeros(SIZE)), "mask for object 1 on frame 0 is empty"),
        (MaskPrompt(0, 1, np.ones(SIZE), np.ones(SIZE)), "mask for object 1 on frame 0 is empty"),
        (MaskPrompt(0, 1, np.ones((4, 4))), "is 4×4 but the video is 64×128"),
        (PointPrompt(0, 1, ((200, 5),)), "is outside the video"),
        (ScribblePrompt(0, 1, ((5, 5), (5, 70))), "is outside the video"),
        (BoxPrompt(0, 1, (0, 0, 20, 10)), "the box of object 1 on frame 0: TarViS takes masks, points and scribbles"),
        (PointPrompt(0, 1, ((5, 5), (9, 9)), (True, False)), "TarViS learns from what .* leave out negative points"),
        (ScribblePrompt(0, 1, ((5, 5), (9, 9)), positive=False), "leave out negative points and strokes of object 1"),
        (TextPrompt("hen"), "TarViS does not read, but was asked for 'hen'"),
    ],
)
def test_prompts_that_say_nothing_are_refused(prompt, message):
    session = begin(system())
    with pytest.raises(InputError, match=message):
        session.prompt([MaskPrompt(0, 5, np.ones(SIZE)), prompt])
    assert not watch(session, [painted(0)])[0].segments  # nor is what came with them taken


def test_other_mistakes_are_told_too():
    frames = three(5)
    session = begin(system(frames=2, overlap=1), mask(frames[3], 1, 1))
    session.step(frames[0])
    with pytest.raises(InputError, match="on frame 3, which is not among the frames"):
        session.step(frames[4])
    with pytest.raises(InputError, match="is on frame 3, but the video ended at frame 1"):
        watch(begin(system(), mask(frames[3], 1, 1)), frames[:2])
    with pytest.raises(InputError, match="clips of 3 frames overlap by 0 to 2, not 3"):
        begin(system(frames=3, overlap=3))


def _same(results, whole):
    assert len(results) == len(whole)
    for one, other in zip(results, whole, strict=True):
        assert one.segments == other.segments and one.events == other.events
        assert torch.equal(one.masks_nhw(), other.masks_nhw())


def _numbers(plain):
    """How many numbers a state holds in its tensors."""
    if isinstance(plain, torch.Tensor):
        return plain.numel()
    parts = plain.values() if isinstance(plain, dict) else plain if isinstance(plain, list) else []
    return sum(_numbers(part) for part in parts)


@pytest.mark.parametrize("carry", ["queries", "both"])
def test_who_is_hidden_is_found_again_where_queries_are_carried(carry):
    frames = three(24, hidden=range(5, 17))
    results = watch(begin(system(frames=4, overlap=2, carry=carry), mask(frames[0], 7, 2)), frames)
    assert [7 in found for found in shown(results, frames)] == [True] * 5 + [False] * 12 + [True] * 7
    assert kinds(results) == [("born", 7)]
    lost = watch(begin(system(frames=4, overlap=2), mask(frames[0], 7, 2)), frames)
    assert kinds(lost) == [("born", 7), ("deleted", 7)]


@pytest.mark.parametrize("carry", ["queries", "both"])
def test_a_correction_replaces_the_queries_that_are_carried(carry):
    frames = three(16)
    session = begin(system(frames=4, overlap=2, carry=carry), mask(frames[0], 7, 2), point(frames[9], 7, 3))
    found = shown(watch(session, frames), frames)
    assert [each[7] for each in found] == [{2}] * 8 + [{3}] * 8  # the clip that has frame 9 is the first with frame 8


@pytest.mark.parametrize("carry", ["queries", "both"])
@pytest.mark.parametrize("stop", [3, 7, 10])
def test_a_session_that_carries_queries_goes_on_where_it_was(carry, stop):
    made = TarViS(small_tarvis(), Pixels(shortest=60), settings=TarViSSettings(frames=4, overlap=2, carry=carry))
    frames = three(13)
    prompts = (mask(frames[0], 7, 2), point(frames[5], 9, 3))

    def plain(results):
        return [(r.frame_index, r.segments, r.masks_nhw().tolist(), r.events) for r in results]

    whole = plain(watch(begin(made, *prompts), frames))
    first, second = begin(made, *prompts), begin(made)
    begun = plain([result for frame in frames[:stop] for result in first.step(frame)])
    second.load_state_dict(first.state_dict())
    assert begun + plain(watch(second, frames[stop:])) == whole


def test_what_carries_objects_is_as_published_with_compat():
    assert TarViSSettings().carries == "queries" and TarViSSettings(compat=True).carries == "masks"
    assert TarViSSettings(carry="both", compat=True).carries == "both"
