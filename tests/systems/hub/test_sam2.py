"""SAM 2, EdgeTAM and SAM 3's tracker: equal to the library's own loop, and what is not, on purpose."""

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

from maskstream.pretrained import Pixels
from maskstream.systems.hub.memory import DistractorAware, HypothesisTree, MemoryPolicy, RecentFrames, memory_bytes
from maskstream.systems.hub.sam2 import load_sam_video
from maskstream.systems.hub.sam2_network import EdgeTamParts
from maskstream.systems.hub.sam2_objects import SamVideoSettings
from maskstream.types import (
    BoxPrompt,
    Frame,
    InputError,
    MaskPrompt,
    PointPrompt,
    ScribblePrompt,
    StalePromptError,
    Task,
    TextPrompt,
)

from .sam_models import (
    NETWORKS,
    SIDE,
    SIZE,
    block,
    clip,
    furthest,
    library,
    library_session,
    ours,
    pixels_of,
    save,
    system,
    tell,
    tiny,
    tiny_sam3,
    watched,
)

CLOSE = 1e-4


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return tiny(request.param)


@pytest.fixture(scope="module")
def sam2():
    return tiny("sam2_video")


FIRST = MaskPrompt(0, 1, block(8))
SECOND = MaskPrompt(0, 2, block(50))
CLICK = PointPrompt(0, 1, ((20.0, 20.0),))


# ------------------------------------------------------------- equal to the library


@pytest.mark.parametrize(
    "prompts",
    [
        pytest.param([FIRST], id="mask"),
        pytest.param([CLICK], id="click"),
        pytest.param([PointPrompt(0, 1, ((20.0, 20.0), (60.5, 40.0)), (True, False))], id="clicks on and off"),
        pytest.param([BoxPrompt(0, 1, (8.0, 12.0, 28.0, 32.0))], id="box"),
        pytest.param([FIRST, PointPrompt(3, 1, ((25.0, 20.0),))], id="looked for anew by a click"),
        pytest.param([FIRST, MaskPrompt(3, 1, block(20))], id="mask given again"),
        pytest.param([FIRST, SECOND], id="two objects"),
        pytest.param([CLICK, replace(CLICK, object_id=2, points_xy=((60.0, 30.0),))], id="two objects, clicks"),
        pytest.param([FIRST, MaskPrompt(3, 1, torch.zeros(SIZE))], id="gone, as somebody said"),
    ],
)
def test_masks_are_those_of_the_library(network, prompts, unrounded):
    theirs = library(network, clip(6), prompts)
    logits, results = ours(network, clip(6), prompts)
    assert furthest(theirs, logits) < CLOSE
    if len(theirs[0]) == 1:
        for found, result in zip(theirs[1:3], results[1:3], strict=True):
            large = F.interpolate(found[1][None, None], SIZE, mode="bilinear", align_corners=False)
            assert torch.equal(result.masks_nhw()[0], large[0, 0] > 0)


def test_memories_are_rounded_as_in_the_library(network):
    """What is added up in another order may be rounded to the next number."""
    session, mine = library_session(network), system(network).start(Task.VOS, size_hw=SIZE)
    mine.prompt([FIRST])
    for frame in clip(3):
        tell(session, network, [FIRST] if frame.index == 0 else [])
        network(session, frame=pixels_of(network)([frame]))
        mine.step(frame)
    outputs = session.output_dict_per_obj[0]
    theirs = [outputs["cond_frame_outputs"][0], *(outputs["non_cond_frame_outputs"][n] for n in (1, 2))]
    for output, memory in zip(theirs, mine._followed.pathways[1][0].memories, strict=True):
        features = output["maskmem_features"]
        features = features[0] if network.config.model_type == "edgetam_video" else features[:, 0]
        assert memory.features_tc is not None
        assert memory.features_tc.dtype == features.dtype
        torch.testing.assert_close(memory.features_tc, features, atol=1e-4, rtol=2**-7)
        torch.testing.assert_close(memory.pointer_d, output["object_pointer"].flatten(), atol=1e-4, rtol=1e-4)


def test_masks_are_those_of_the_library_when_pointers_are_old(network, unrounded):
    """Pointers of more frames than there are memories, and some of them too old."""
    frames = clip(20)
    assert furthest(library(network, frames, [CLICK]), ours(network, frames, [CLICK])[0]) < CLOSE


@pytest.mark.parametrize("kind", NETWORKS)
def test_masks_are_those_of_the_library_where_the_object_is_gone(kind, unrounded):
    network = tiny(kind)
    network.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(-9.0)
    theirs, (logits, results) = library(network, clip(4), [FIRST]), ours(network, clip(4), [FIRST])
    assert furthest(theirs, logits) < CLOSE
    assert [int(result.areas()[0]) for result in results] == [400, 0, 0, 0]


def test_the_latest_prompted_frames_are_read_as_in_the_library(unrounded):
    """SAM 3 reads the closest few prompted frames; SAM 2 would, if its configuration said so."""
    network = tiny("sam3_tracker_video", max_cond_frame_num=2)
    prompts = [FIRST, *(MaskPrompt(n, 1, block(8 + 3 * n)) for n in (2, 4))]
    settings = SamVideoSettings(policy=RecentFrames(prompted=2))
    assert furthest(library(network, clip(9), prompts), ours(network, clip(9), prompts, settings=settings)[0]) < CLOSE


def test_without_times_of_pointers_masks_are_those_of_the_library(unrounded):
    network = tiny("sam2_video", enable_temporal_pos_encoding_for_object_pointers=False)
    assert furthest(library(network, clip(5), [CLICK]), ours(network, clip(5), [CLICK])[0]) < CLOSE


def test_correcting_clicks_refine_the_mask_as_the_network_was_trained_to(network, unrounded):
    """The library has the step, but its loop never takes it."""
    frames, clicks = clip(4), PointPrompt(3, 1, ((25.0, 20.0), (40.0, 30.0)), (True, False), add=True)
    session = library_session(network)
    for frame in frames[:3]:
        tell(session, network, [FIRST] if frame.index == 0 else [])
        network(session, frame=pixels_of(network)([frame]))
    so_far = library(network, frames, [FIRST])[3][1]
    tell(session, network, [clicks])
    session.add_new_frame(pixels_of(network)(frames[3:]), 3)
    options = {"run_mem_encoder": False} if network.config.model_type == "edgetam_video" else {}
    with torch.inference_mode():
        expected = network._run_single_frame_inference(
            session, 3, 0, 1, False, session.point_inputs_per_obj[0][3], None, False,
            prev_sam_mask_logits=so_far[None, None].clamp(-32, 32), streaming=True, **options,
        )["pred_masks"]  # fmt: skip
    logits, _ = ours(network, frames, [FIRST, clicks])
    assert (logits[3][1] - expected[0, 0]).abs().max() < CLOSE
    assert (logits[3][1] - so_far).abs().max() > 0.1


@pytest.mark.slow
def test_masks_are_those_of_the_library_in_the_real_geometry(unrounded):
    torch.manual_seed(0)
    network = Sam2VideoModel(Sam2VideoConfig()).eval()  # the configuration of sam2.1-hiera-tiny
    for name, weight in network.named_parameters():
        if weight.ndim > 1 and "norm" not in name:
            torch.nn.init.normal_(weight, 0, 0.5 / weight[0].numel() ** 0.5)
    frames, size_hw = clip(3, (96, 160)), (96, 160)
    prompts = [MaskPrompt(0, 1, block(8, size_hw=size_hw))]
    theirs, (logits, _) = library(network, frames, prompts, size_hw), ours(network, frames, prompts, size_hw)
    assert furthest(theirs, logits) < CLOSE


def test_pictures_are_those_of_the_library():
    """Its processor needs torchvision to resize, not for what it does then; Pillow's resizing is the reference."""
    frame = Frame(0, 0.0, np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8))
    small = np.asarray(Image.fromarray(frame.image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    levels = torch.from_numpy(small.copy()).permute(2, 0, 1).float()
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in (Sam2VideoVideoProcessor.image_mean, Sam2VideoVideoProcessor.image_std)
    )
    pixels = Pixels.from_config(
        {"size": {"height": SIDE, "width": SIDE}, "resample": 2}
        | {
            "image_mean": Sam2VideoVideoProcessor.image_mean,
            "image_std": Sam2VideoVideoProcessor.image_std,
        }
    )
    difference = (pixels([frame])[0] - (levels / 255 - mean) / std).abs()
    assert difference.max() < 1.01 / 255 / min(Sam2VideoVideoProcessor.image_std)  # one level of 256


# ---------------------------------------------- what the library does, and we do not


def test_the_library_keeps_every_frame_and_ours_what_the_policy_says(sam2):
    session = library_session(sam2)
    mine = system(sam2).start(Task.VOS, size_hw=SIZE)
    mine.prompt([FIRST])
    held = []
    for frame in clip(24):
        tell(session, sam2, [FIRST] if frame.index == 0 else [])
        sam2(session, frame=pixels_of(sam2)([frame]))
        mine.step(frame)
        held.append(memory_bytes(mine._followed.pathways))
    assert len(session.processed_frames) == 24
    assert len(session.output_dict_per_obj[0]["non_cond_frame_outputs"]) == 23
    assert held[16:] == held[15:16] * 8


@pytest.mark.parametrize("kind", ["sam2_video", "sam3_tracker_video"])
def test_in_the_library_a_prompt_of_one_object_changes_another(kind, unrounded):
    """It takes the masks of all objects at their word on a frame where one of them is pointed at."""
    network, later = tiny(kind), MaskPrompt(2, 2, block(50))
    alone = [{1: of_frame[1]} for of_frame in library(network, clip(5), [FIRST])]
    beside = [{1: of_frame[1]} for of_frame in library(network, clip(5), [FIRST, later])]
    assert furthest(alone, beside) > 100 * CLOSE
    mine, with_other = (ours(network, clip(5), prompts)[0] for prompts in ([FIRST], [FIRST, later]))
    assert furthest(mine, [{1: of_frame[1]} for of_frame in with_other]) < CLOSE


def test_in_the_library_edgetam_cannot_begin_an_object_later():
    network, later = tiny("edgetam_video"), MaskPrompt(2, 2, block(50))
    with pytest.raises(RuntimeError, match="same number of dimensions"):
        library(network, clip(3), [FIRST, later])
    assert list(ours(network, clip(3), [FIRST, later])[0][2]) == [1, 2]


def test_in_the_library_a_later_prompt_changes_earlier_frames(sam2):
    """Whole videos: a frame reads prompted frames that are yet to come."""
    frames, later = clip(5), MaskPrompt(4, 1, block(50))

    def whole(prompts):
        session = library_session(sam2)
        session.processed_frames = dict(enumerate(pixels_of(sam2)(frames)))
        for prompt in prompts:
            tell(session, sam2, [prompt])
            sam2(session, frame_idx=prompt.frame_index)
        return [{1: found.pred_masks[0, 0]} for found in sam2.propagate_in_video_iterator(session, 0)]

    assert furthest(whole([FIRST])[:4], whole([FIRST, later])[:4]) > 100 * CLOSE
    assert furthest(ours(sam2, frames, [FIRST])[0][:4], ours(sam2, frames, [FIRST, later])[0][:4]) == 0


def test_in_the_library_a_prompt_for_a_frame_to_come_is_taken_for_one_of_this_frame(sam2):
    session = library_session(sam2)
    frames = clip(2)
    tell(session, sam2, [FIRST, MaskPrompt(1, 2, block(50))])
    found = sam2(session, frame=pixels_of(sam2)(frames[:1]))
    assert found.object_ids == [1, 2]  # something on a frame that nobody pointed at
    assert [list(of_frame) for of_frame in ours(sam2, frames, [FIRST, MaskPrompt(1, 2, block(50))])[0]] == [[1], [1, 2]]


def test_in_the_library_the_first_of_two_prompts_is_forgotten(network):
    session = library_session(network)
    tell(session, network, [FIRST])
    tell(session, network, [SECOND])
    with pytest.raises(ValueError, match="cannot be empty"):
        network(session, frame=pixels_of(network)(clip(1)))
    mine = system(network).start(Task.VOS, size_hw=SIZE)
    mine.prompt([FIRST])
    mine.prompt([SECOND])
    (result,) = mine.step(clip(1)[0])
    assert [segment.track_id for segment in result.segments] == [1, 2]


def test_the_library_runs_objects_one_by_one_and_ours_together(network):
    calls = []
    hook = network.mask_decoder.register_forward_hook(lambda *_: calls.append(1))
    prompts = [FIRST, SECOND, MaskPrompt(0, 3, block(30, top=0, height=8))]
    library(network, clip(2), prompts)
    theirs = len(calls)
    ours(network, clip(2), prompts)
    hook.remove()
    assert theirs == 6
    assert len(calls) - theirs == 2


def test_the_library_needs_objects_and_ours_waits_for_them(sam2):
    with pytest.raises(ValueError, match="No objects"):
        library(sam2, clip(1), [])
    seen = []
    hook = sam2.vision_encoder.register_forward_hook(lambda *_: seen.append(1))
    _, results = ours(sam2, clip(4), [MaskPrompt(2, 7, block(8))])
    hook.remove()
    assert [len(result.segments) for result in results] == [0, 0, 1, 1]
    assert len(seen) == 2  # a picture on which nobody is looked for is not looked at


# ---------------------------------------------------------------- objects together


def test_objects_do_not_touch_each_other(network, unrounded):
    """Added, corrected and removed at any frame."""
    frames, third = clip(8), PointPrompt(2, 3, ((30.0, 10.0),))
    refined = PointPrompt(4, 2, ((55.0, 20.0),), add=True)
    alone = [of_frame[1] for of_frame in ours(network, frames, [FIRST])[0]]
    session, logits = watched(system(network).start(Task.VOS, size_hw=SIZE))
    session.prompt([FIRST, SECOND, third, refined])
    for frame in frames:
        if frame.index == 6:
            session.remove([2])
        session.step(frame)
    assert max(float((a - b[1]).abs().max()) for a, b in zip(alone, logits, strict=True)) < CLOSE
    assert [list(of_frame) for of_frame in logits] == [[1, 2]] * 2 + [[1, 2, 3]] * 4 + [[1, 3]] * 2


def test_slices_of_objects_give_what_all_together_give(network, unrounded):
    prompts = [FIRST, SECOND, MaskPrompt(0, 3, block(30, top=0, height=8))]
    small = SamVideoSettings(working_bytes=1)
    assert furthest(ours(network, clip(4), prompts)[0], ours(network, clip(4), prompts, settings=small)[0]) < CLOSE


def test_every_pixel_belongs_to_the_surest_object(sam2):
    logits, results = ours(sam2, clip(3), [FIRST, SECOND])
    large = torch.stack(
        [F.interpolate(logits[2][n][None, None], SIZE, mode="bilinear", align_corners=False)[0, 0] for n in (1, 2)]
    )
    owner = torch.where(large.max(0).values > 0, large.argmax(0) + 1, 0)
    assert torch.equal(results[2].label_map(), owner.int())
    assert int((owner > 0).sum()) > 0


def test_masks_come_out_as_they_were_given(network):
    """At the size of the source, with holes; where they overlap, the later one is on top."""
    mask = block(8)
    mask[20, 12] = False
    over = block(20)
    _, (result,) = ours(network, clip(1), [MaskPrompt(0, 1, mask), MaskPrompt(0, 2, over)])
    masks = result.masks_nhw()
    assert torch.equal(masks[1], over)
    assert torch.equal(masks[0], mask & ~over)


def test_what_is_void_is_not_the_object(sam2):
    void = block(8, width=5)
    _, (result,) = ours(sam2, clip(1), [MaskPrompt(0, 1, block(8), void)])
    assert torch.equal(result.masks_nhw()[0], block(13, width=15))


def test_a_mask_beside_clicks_is_what_they_refine(sam2):
    click = PointPrompt(0, 1, ((20.0, 20.0),))
    with_mask, without = ours(sam2, clip(1), [FIRST, click])[0], ours(sam2, clip(1), [click])[0]
    assert furthest(with_mask, without) > 100 * CLOSE


def test_a_stroke_is_clicks_along_it(sam2):
    stroke = ScribblePrompt(0, 1, ((20.0, 20.0), (40.0, 20.0)))
    clicks = PointPrompt(0, 1, tuple((20.0 + 5 * n, 20.0) for n in range(5)))
    assert furthest(ours(sam2, clip(2), [stroke])[0], ours(sam2, clip(2), [clicks])[0]) == 0


def test_correcting_and_looking_anew_are_two_things(sam2):
    click = PointPrompt(2, 1, ((25.0, 20.0),))
    anew, corrected = (ours(sam2, clip(3), [FIRST, p])[0] for p in (click, replace(click, add=True)))
    assert furthest(anew[:2], corrected[:2]) == 0
    assert furthest(anew[2:], corrected[2:]) > 100 * CLOSE


def test_clicks_that_add_to_what_is_not_followed_begin_it(sam2):
    click = PointPrompt(1, 1, ((25.0, 20.0),))
    first, second = (ours(sam2, clip(2), [p])[0] for p in (click, replace(click, add=True)))
    assert furthest(first, second) == 0


def test_stuff_of_one_category_is_one_segment(sam2):
    session = system(sam2).start(Task.PVOS, size_hw=SIZE, soft=True)
    sky = [MaskPrompt(0, n, mask, category=4, is_thing=False) for n, mask in ((1, block(8)), (2, block(50)))]
    session.prompt([*sky, MaskPrompt(0, 3, block(30))])
    (result,) = session.step(clip(1)[0])
    assert [(segment.category, segment.is_thing) for segment in result.segments] == [(4, False), (None, None)]
    assert torch.equal(result.masks_nhw()[0], (block(8) | block(50)) & ~block(30))
    assert result.probabilities is not None
    assert result.probabilities.shape == (3, 16, 16)
    torch.testing.assert_close(result.probabilities.float().sum(0), torch.ones(16, 16), atol=2e-3, rtol=0)
    assert float(result.probabilities[1, 4, 4]) > 0.9


def test_events_and_tracks_tell_what_happened(sam2):
    session = system(sam2).start(Task.VOS, size_hw=SIZE)
    session.prompt([FIRST, MaskPrompt(1, 2, block(50)), MaskPrompt(2, 1, block(10))])
    told = []
    for frame in clip(4):
        if frame.index == 3:
            session.remove([2])
        told += [(frame.index, event.kind, event.track_id) for event in session.step(frame)[0].events]
    assert told == [(0, "born", 1), (1, "born", 2), (2, "corrected", 1), (3, "removed", 2)]
    assert [(track.track_id, track.first, track.prompt_id) for track in session.tracks()][:2] == [
        (1, 0, "object-1"),
        (2, 1, "object-2"),
    ]


# -------------------------------------------------------------- memory and state

POLICIES: dict[str, MemoryPolicy] = {
    "recent": RecentFrames(recent=2, pointers=4),
    "fifo": RecentFrames.fifo(3),
    "distractor-aware": DistractorAware(recent=2, anchors=2, every=2, sure=0.0, agree=2.0, pointers=4),
    "tree": HypothesisTree(recent=2, pointers=4),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_memory_is_flat_once_it_is_full(network, policy):
    """Whatever is kept between frames, by its size on disk."""
    session = system(network, settings=SamVideoSettings(policy=POLICIES[policy])).start(Task.VOS, size_hw=SIZE)
    session.prompt([FIRST, SECOND, *(MaskPrompt(n, 1, block(8)) for n in (3, 6, 9, 12))])
    held, stored = [], []
    for frame in clip(30):
        session.step(frame)
        held.append(memory_bytes(session._followed.pathways))
        if frame.index in (20, 29):
            file = io.BytesIO()
            torch.save(session.state_dict(), file)
            stored.append(file.tell())
    # Histories of a tree share more on one frame and less on another.
    assert max(held[21:]) <= (1.1 if policy == "tree" else 1.0) * max(held[12:21])
    assert stored[1] < (1.2 if policy == "tree" else 1.02) * stored[0]


def test_a_tree_follows_several_histories(sam2):
    settings = SamVideoSettings(policy=HypothesisTree(most_pathways=3, recent=2))
    session = system(sam2, settings=settings).start(Task.VOS, size_hw=SIZE)
    session.prompt([FIRST, MaskPrompt(3, 1, block(10))])
    counts = []
    for frame in clip(5):
        session.step(frame)
        counts.append(len(session._followed.pathways[1]))
        scores = [pathway.score for pathway in session._followed.pathways[1]]
        assert scores == sorted(scores, reverse=True)
    assert counts == [1, 3, 3, 1, 3]  # a prompt says which history it was


def test_a_tree_of_one_history_is_what_sam_2_does(sam2, unrounded):
    settings = SamVideoSettings(policy=HypothesisTree(most_pathways=1, sure=-1.0))
    logits, _ = ours(sam2, clip(9), [FIRST], settings=settings)
    assert furthest(logits, ours(sam2, clip(9), [FIRST])[0]) < CLOSE


def test_the_budget_holds_and_changes_nothing_before_it_is_full(sam2):
    needed = system(sam2).parts.memory_bytes + 19 * system(sam2).parts.pointer_bytes
    settings = SamVideoSettings(memory_bytes=4 * needed)
    session = system(sam2, settings=settings).start(Task.VOS, size_hw=SIZE)
    session.prompt([FIRST, SECOND])
    held = []
    for frame in clip(20):
        session.step(frame)
        held.append(memory_bytes(session._followed.pathways))
    assert max(held) <= 4 * needed
    free, bound = (ours(sam2, clip(6), [FIRST, SECOND], settings=s)[0] for s in (SamVideoSettings(), settings))
    assert furthest(free[:3], bound[:3]) == 0


def test_objects_for_whom_there_is_no_room_are_refused_at_once(sam2):
    needed = system(sam2).parts.memory_bytes + 19 * system(sam2).parts.pointer_bytes
    session = system(sam2, settings=SamVideoSettings(memory_bytes=needed)).start(Task.VOS, size_hw=SIZE)
    with pytest.raises(InputError, match="2 objects need at least"):
        session.prompt([FIRST, SECOND])
    session.prompt([FIRST])
    session.step(clip(1)[0])
    session.remove([1])
    session.prompt([MaskPrompt(1, 2, block(8))])
    (result,) = session.step(clip(2)[1])
    assert [segment.track_id for segment in result.segments] == [2]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_saved_session_goes_on_as_if_nothing_had_happened(network, policy):
    settings = SamVideoSettings(policy=POLICIES[policy])
    prompts = [FIRST, MaskPrompt(2, 2, block(50)), PointPrompt(5, 2, ((55.0, 20.0),), add=True)]
    frames = clip(8)
    _, expected = ours(network, frames, prompts, settings=settings)
    session = system(network, settings=settings).start(Task.VOS, size_hw=SIZE)
    session.prompt(prompts)
    for frame in frames[:4]:
        session.step(frame)
    file = io.BytesIO()
    torch.save(session.state_dict(), file)
    file.seek(0)
    again = system(network, settings=settings).start(Task.VOS, size_hw=SIZE)
    again.load_state_dict(torch.load(file, weights_only=True))
    for frame, result in zip(frames[4:], expected[4:], strict=True):
        assert torch.equal(again.step(frame)[0].label_map(), result.label_map())
    assert list(again.finish()) == []
    assert [track.track_id for track in again.tracks()] == [1, 2]


# ---------------------------------------------------------------------- refusals


@pytest.fixture
def session(sam2):
    started = system(sam2).start(Task.VOS, size_hw=SIZE)
    started.prompt([FIRST])
    for frame in clip(2):
        started.step(frame)
    return started


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        pytest.param(MaskPrompt(5, 2, torch.ones(3, 3)), "the mask for object 2 on frame 5 is 3×3", id="size"),
        pytest.param(PointPrompt(5, 2, ((500.0, 3.0),)), "outside the video", id="outside"),
        pytest.param(TextPrompt("a dog"), "SAM 2 does not read", id="text"),
        pytest.param(PointPrompt(5, 2, ((5.0, 3.0),), (False,), add=True), "only say where it is not", id="off it"),
        pytest.param(ScribblePrompt(5, 2, ((5.0, 3.0),), positive=False), "object 2 is not followed yet", id="stroke"),
        pytest.param(MaskPrompt(5, 2, torch.zeros(SIZE)), "a mask that is not empty", id="empty mask"),
    ],
)
def test_prompts_that_do_not_fit_are_refused_and_none_is_taken(session, prompt, message):
    with pytest.raises(InputError, match=message):
        session.prompt([MaskPrompt(5, 9, block(8)), prompt])
    assert list(session.finish()) == []  # nothing waits


def test_a_prompt_for_a_frame_that_has_left_is_refused(session):
    with pytest.raises(StalePromptError, match="frames up to 1 were already emitted"):
        session.prompt([MaskPrompt(1, 1, block(8))])


@pytest.mark.parametrize(
    "prompt",
    [PointPrompt(4, 2, ((60.0, 20.0),), (False,), add=True), MaskPrompt(4, 2, torch.zeros(SIZE))],
    ids=["off it", "gone"],
)
def test_what_an_object_is_not_may_be_said_once_it_is_announced(session, prompt):
    session.prompt([MaskPrompt(3, 2, block(50))])
    session.prompt([prompt])
    for frame in clip(5)[2:]:
        (result,) = session.step(frame)
    assert [segment.track_id for segment in result.segments] == [1, 2]
    with pytest.raises(InputError, match="object 3 is not followed yet"):
        session.prompt([MaskPrompt(9, 3, block(8)), PointPrompt(8, 3, ((5.0, 3.0),), (False,), add=True)])


def test_ids_of_removed_objects_are_not_used_again(session):
    session.remove([1])
    with pytest.raises(InputError, match="ids are never reused"):
        session.prompt([MaskPrompt(2, 1, block(8))])
    with pytest.raises(InputError, match=r"cannot be removed: it is not followed \(followed: none\)"):
        session.remove([1])
    (result,) = session.step(clip(3)[2])
    assert result.segments == ()
    with pytest.raises(InputError, match="ids are never reused"):
        session.prompt([MaskPrompt(5, 1, block(8))])


def test_prompts_of_an_object_that_is_removed_meanwhile_are_dropped(session):
    session.prompt([MaskPrompt(3, 1, block(8))])
    session.remove([1])
    for frame in clip(4)[2:]:
        (result,) = session.step(frame)
    assert result.segments == ()


def test_prompts_whose_frames_do_not_come_are_told(session):
    session.prompt([MaskPrompt(3, 1, block(8))])
    with pytest.raises(InputError, match="but the video ended at frame 1"):
        list(session.finish())
    with pytest.raises(InputError, match="not among the frames being segmented"):
        session.step(replace(clip(1)[0], index=7))


def test_other_frames_tasks_and_budgets_are_refused(sam2, session):
    with pytest.raises(InputError, match="frame"):
        session.step(clip(3, (64, 80))[2])
    with pytest.raises(InputError, match="cannot do 'vis'"):
        system(sam2).start(Task.VIS, size_hw=SIZE)
    with pytest.raises(InputError, match="tells 6 recent memories apart, and the policy reads 9"):
        system(sam2, settings=SamVideoSettings(policy=RecentFrames(recent=9)))
    with pytest.raises(InputError, match="at least one byte"):
        SamVideoSettings(memory_bytes=0)


# ----------------------------------------------------------------------- loading


def test_a_saved_network_is_found_again(network, tmp_path):
    save(network, tmp_path)
    loaded = load_sam_video(str(tmp_path))
    again = loaded.start(Task.VOS, size_hw=SIZE)
    again.prompt([CLICK])
    _, expected = ours(network, clip(3), [CLICK])
    for frame, result in zip(clip(3), expected, strict=True):
        assert torch.equal(again.step(frame)[0].label_map(), result.label_map())


def test_the_tracker_is_found_in_sam_3(tmp_path):
    """Both of its networks see through one encoder, and are stored together."""
    whole = tiny_sam3()
    save(whole, tmp_path)
    network: Any = load_sam_video(str(tmp_path)).parts.network
    seen = pixels_of(network)(clip(1))
    with torch.no_grad():
        expected = whole.get_vision_features_for_tracker(whole.detector_model.get_vision_features(seen))[0]
        found = network.get_image_features(seen, return_dict=True).fpn_hidden_states
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    decoders = network.mask_decoder.state_dict(), whole.tracker_model.mask_decoder.state_dict()
    assert all(torch.equal(weight, decoders[1][name]) for name, weight in decoders[0].items())


def test_a_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(InputError, match="is a model of kind sam, not sam2_video or"):
        load_sam_video(str(tmp_path))
    with pytest.raises(InputError, match=r"the usual one is facebook/sam2\.1-hiera-tiny"):
        load_sam_video(str(tmp_path / "nothing" / "here"))


def test_an_edgetam_that_reads_otherwise_is_refused():
    network = tiny("edgetam_video", memory_attention_num_attention_heads=2)
    with pytest.raises(InputError, match="reads its memories with 2 heads, and all that are known with one"):
        EdgeTamParts(network)


def test_an_encoder_of_timm_needs_timm(tmp_path, monkeypatch):
    config = {"model_type": "edgetam_video", "vision_config": {"backbone_config": {"model_type": "timm_wrapper"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("maskstream.systems.hub.sam2.find_spec", lambda name: None)
    with pytest.raises(InputError, match="run 'pip install timm'"):
        load_sam_video(str(tmp_path))
