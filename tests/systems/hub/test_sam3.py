"""SAM 3's concepts: equal to the library's own loop, and what is not, on purpose."""

import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Sam3VideoConfig, Sam3VideoModel
from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession
from transformers.models.sam3_video.processing_sam3_video import Sam3VideoProcessor

from maskstream.systems.hub import load_sam3
from maskstream.systems.hub.memory import DistractorAware, HypothesisTree, MemoryPolicy, RecentFrames, memory_bytes
from maskstream.systems.hub.sam2_objects import SamVideoSettings
from maskstream.systems.hub.sam3_session import Sam3Session
from maskstream.types import (
    OBJECT,
    CategorySet,
    InputError,
    PackedMasks,
    PointPrompt,
    StalePromptError,
    Task,
    TextPrompt,
)

from .sam_models import (
    SIZE,
    clip,
    library_concepts,
    mended,
    our_concepts,
    randomised,
    sam3,
    save_sam3,
    scenes,
    tiny_sam3,
)

CLOSE = 1e-4
CONCEPTS = ["cat", "red car"]
PROCESSOR: Any = Sam3VideoProcessor

SURE = {"new_det_thresh": 0.55, "assoc_iou_thresh": 0.4}
TRIED = {**SURE, "hotstart_delay": 5, "hotstart_unmatch_thresh": 2, "hotstart_dup_thresh": 3}
HIDES = {
    **SURE,
    **{"hotstart_delay": 5, "hotstart_unmatch_thresh": 5, "hotstart_dup_thresh": 5, "trk_assoc_iou_thresh": 0.6},
    **{"suppress_unmatched_only_within_hotstart": False, "init_trk_keep_alive": 1, "max_trk_keep_alive": 2},
    "decrease_trk_keep_alive_for_empty_masklets": True,
}
ANEW = {
    **{"assoc_iou_thresh": 0.4, "new_det_thresh": 0.8, "recondition_every_nth_frame": 2},
    **{"high_conf_thresh": 0.55, "high_iou_thresh": 0.3},
}
BEHIND = {**SURE, "suppress_overlapping_based_on_recent_occlusion_threshold": 0.3}


@pytest.fixture(scope="module")
def network():
    """Finds new things now and then."""
    return tiny_sam3(6, **SURE)


def furthest(session, theirs, ours):
    """Greatest difference of logits of one object on one frame; both show the same objects."""
    worst = 0.0
    for output, logits in zip(theirs, ours, strict=True):
        shown = {
            n + 1: mask[0]
            for n, mask in output.obj_id_to_mask.items()
            if n not in output.suppressed_obj_ids
            # Those that fell while the frame was held back; the library drops them where masks are made of logits.
            and (n not in session.hotstart_removed_obj_ids or n + 1 in logits)
        }
        assert set(shown) == set(logits)
        worst = max([worst, *(float((shown[n] - logits[n]).abs().max()) for n in logits)])
    return worst


# ------------------------------------------------------------- equal to the library


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "on trial"])
@pytest.mark.parametrize(
    ("seed", "presence", "rules", "happens"),
    [
        pytest.param(6, 3.0, SURE, "born later", id="objects begin later"),
        pytest.param(0, 3.0, TRIED, "fell", id="objects fail their trial"),
        pytest.param(6, 3.0, HIDES, "hidden", id="objects are hidden"),
        pytest.param(3, 3.0, ANEW, "said anew", id="detections say anew what objects look like"),
        pytest.param(0, 0.7, BEHIND, "behind", id="objects give way to others"),
    ],
)
def test_concepts_are_followed_as_in_the_library(seed, presence, rules, happens, at_once, unrounded):
    network = mended(tiny_sam3(seed, presence=presence, **rules))
    session, theirs = library_concepts(network, scenes(10, seed), CONCEPTS, at_once=at_once)
    _, ours, _ = our_concepts(network, scenes(10, seed), CONCEPTS, at_once=at_once)
    assert furthest(session, theirs, ours) < CLOSE
    masks = [mask for output in theirs for mask in output.obj_id_to_mask.values()]
    happened = {
        "born later": len(set(session.obj_first_frame_idx.values())) > 1,
        "fell": len(session.hotstart_removed_obj_ids) > 1 or at_once,  # nobody is on trial then
        "hidden": any(session.suppressed_obj_ids.values()) or at_once,
        "said anew": any(len(kept["cond_frame_outputs"]) > 1 for kept in session.output_dict_per_obj.values()),
        "behind": any(float(mask.max()) == -10 for mask in masks),
    }
    assert happened[happens]


def test_doubles_and_specks_go_as_in_the_library(unrounded, kernels):
    rules = {**SURE, "det_nms_thresh": 0.6, "fill_hole_area": 9}
    network = mended(tiny_sam3(6, **rules))
    session, theirs = library_concepts(network, scenes(5, 6), CONCEPTS, at_once=True)
    _, ours, _ = our_concepts(network, scenes(5, 6), CONCEPTS, at_once=True)
    assert furthest(session, theirs, ours) < CLOSE
    with_doubles = library_concepts(mended(tiny_sam3(6, **SURE)), scenes(5, 6), CONCEPTS, at_once=True)[1]
    assert len(theirs[0].obj_id_to_mask) < len(with_doubles[0].obj_id_to_mask)


def test_results_are_those_of_the_librarys_processor(unrounded, monkeypatch):
    """Which cannot be built without torchvision: boxes alone are made with it."""
    monkeypatch.setattr(sys.modules[PROCESSOR.__module__], "masks_to_boxes", lambda masks: masks, raising=False)
    network, frames = mended(tiny_sam3(0, **TRIED)), scenes(10, 0)
    session, theirs = library_concepts(network, frames, CONCEPTS, at_once=False)
    _, _, results = our_concepts(network, frames, CONCEPTS)
    processor: Any = SimpleNamespace()
    for name in (
        "_apply_non_overlapping_constraints",
        "_apply_object_wise_non_overlapping_constraints",
        "_apply_object_wise_non_overlapping_constraints_impl",
    ):
        setattr(processor, name, getattr(PROCESSOR, name).__get__(processor))
    prompt_of = dict.fromkeys(range(99), 0) | session.obj_id_to_prompt_id  # those of fallen objects are forgotten
    session.obj_id_to_prompt_id = prompt_of
    seen = 0
    for output, result in zip(theirs, results, strict=True):
        expected = PROCESSOR.postprocess_outputs(processor, session, output)
        assert [segment.track_id - 1 for segment in result.segments] == expected["object_ids"].tolist()
        assert [segment.score for segment in result.segments] == pytest.approx(expected["scores"].tolist())
        assert torch.equal(result.masks_nhw(), expected["masks"])
        assert [(segment.category or 0) - 1 for segment in result.segments] == [
            prompt_of[n] for n in expected["object_ids"].tolist()
        ]
        seen += len(result.segments)
    assert seen


@pytest.mark.slow
def test_concepts_are_followed_as_in_the_library_in_the_real_geometry(unrounded):
    """Pictures, grids, masks and memories of facebook/sam3; its image encoder has fewer and narrower layers."""
    config: Any = Sam3VideoConfig(
        det_nms_thresh=0.0, fill_hole_area=0, score_threshold_detection=0.0, max_num_objects=2
    )
    vision = config.detector_config.vision_config.backbone_config
    assert (vision.image_size, vision.patch_size) == (1008, 14)
    vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers, vision.num_attention_heads = 64, 64, 2, 2
    vision.global_attn_indexes = [1]
    text = config.detector_config.text_config
    text.num_hidden_layers, text.hidden_size, text.intermediate_size, text.num_attention_heads = 1, 64, 64, 2
    config.tracker_config.vision_config = config.detector_config.vision_config
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = Sam3VideoModel(config).eval().requires_grad_(False)
    for part in (network.tracker_model, network.tracker_neck, network.detector_model):
        randomised(part)
    network.detector_model.detr_decoder.presence_head.layer3.bias.fill_(9.0)
    mended(network)
    session, theirs = library_concepts(network, clip(3), ["cat"], at_once=True)
    _, ours, _ = our_concepts(network, clip(3), ["cat"], at_once=True)
    assert furthest(session, theirs, ours) < CLOSE
    assert [len(shown) for shown in ours] == [2, 2, 2]


# ---------------------------------------------- what the library does, and we do not


def test_in_the_library_an_object_that_begins_changes_what_is_remembered_of_others(unrounded):
    """It follows all of them once more on that frame, and takes their masks at their word."""
    network, frames = tiny_sam3(6, **SURE), scenes(10, 6)
    session, theirs = library_concepts(network, frames, CONCEPTS, at_once=True)
    _, ours, _ = our_concepts(network, frames, CONCEPTS, at_once=True)
    begin = sorted(set(session.obj_first_frame_idx.values()))[1]
    assert furthest(session, theirs[: begin + 1], ours[: begin + 1]) < CLOSE
    others = [n for n, first in session.obj_first_frame_idx.items() if first < begin]
    after = [theirs[begin + 1].obj_id_to_mask[n][0] - ours[begin + 1][n + 1] for n in others]
    assert max(float(difference.abs().max()) for difference in after) > 100 * CLOSE


def test_in_the_library_the_mask_of_an_object_that_falls_is_taken_for_that_of_the_next(unrounded):
    frames = scenes(10, 6)
    _, wrong = library_concepts(tiny_sam3(6, **TRIED), frames, CONCEPTS, at_once=False)
    _, right = library_concepts(mended(tiny_sam3(6, **TRIED)), frames, CONCEPTS, at_once=False)
    falls = next(n for n, output in enumerate(wrong) if output.removed_obj_ids)
    fallen = min(wrong[falls].removed_obj_ids)
    following = min(n for n in wrong[falls].object_ids if n > fallen)
    assert torch.equal(wrong[falls].obj_id_to_mask[following], right[falls].obj_id_to_mask[fallen])
    assert (wrong[falls].obj_id_to_mask[following] - right[falls].obj_id_to_mask[following]).abs().max() > 100 * CLOSE


def test_in_the_library_masks_depend_on_how_long_the_video_is(network, unrounded):
    """Ages of pointers are told in shares of its length, as long as that is less than 16 frames."""
    frames, logits = scenes(12, 6), []
    for length in (5, 12):
        _, outputs = library_concepts(network, frames[:length], CONCEPTS, at_once=False, kind=Sam3VideoInferenceSession)
        logits.append(outputs[2].obj_id_to_mask[0])
    assert (logits[0] - logits[1]).abs().max() > 100 * CLOSE


def test_in_the_library_doubles_stay_where_a_package_is_missing():
    network = tiny_sam3(6, **SURE, det_nms_thresh=0.6)
    _, theirs = library_concepts(network, clip(1), CONCEPTS, at_once=True)
    _, ours, _ = our_concepts(network, clip(1), CONCEPTS, at_once=True)
    assert set(ours[0]) < {n + 1 for n in theirs[0].obj_id_to_mask}


def test_the_library_keeps_everything_for_ever():
    """Frames, what was found on them, objects that are long gone, and pointers of all frames that said things anew."""
    network = tiny_sam3(3, **ANEW | {"max_num_objects": 3})
    session, _ = library_concepts(network, scenes(40, 3), CONCEPTS, at_once=True)
    assert len(session.processed_frames) == 40
    outputs = session.output_dict_per_obj[0]
    assert len(outputs["cond_frame_outputs"]) + len(outputs["non_cond_frame_outputs"]) == 40
    assert len(session.obj_id_to_tracker_score_frame_wise) == 40
    read = max(
        len(network.tracker_model._get_object_pointers(session, n, 40, 1000, torch.device("cpu"))[0])
        for n in session.output_dict_per_obj
    )
    mine, _, _ = our_concepts(network, scenes(40, 3), CONCEPTS, at_once=True)
    assert read > mine._followed._policy.most
    assert all(len(paths[0].memories) <= RecentFrames().most for paths in mine._followed.pathways.values())


def test_the_library_runs_objects_one_by_one_and_ours_together():
    network, calls = tiny_sam3(3, **SURE), []
    hook = network.tracker_model.mask_decoder.register_forward_hook(lambda *_: calls.append(1))
    session, _ = library_concepts(network, scenes(3, 3), CONCEPTS, at_once=True)
    theirs = len(calls)
    our_concepts(network, scenes(3, 3), CONCEPTS, at_once=True)
    hook.remove()
    assert theirs == 3 * len(session.obj_ids) == 12
    assert len(calls) - theirs == 3


def test_the_library_needs_concepts_and_ours_waits_for_them(network):
    with pytest.raises(ValueError, match="No prompts available"):
        library_concepts(network, clip(1), [], at_once=True)
    session = sam3(network, at_once=True).start(Task.VIS, size_hw=SIZE)
    session.prompt([TextPrompt("cat", frame_index=2)])
    counts = [len(session.step(frame)[0].segments) for frame in clip(3)]
    assert counts[:2] == [0, 0]
    assert counts[2] > 0


def test_in_the_library_many_words_are_an_error_of_shapes(network):
    many = "the cat on the left " * 3
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        library_concepts(network, clip(1), [many], at_once=True)
    session = sam3(network).start(Task.VIS, size_hw=SIZE)
    with pytest.raises(InputError, match="is too long for this model, which reads 8 tokens"):
        session.prompt([TextPrompt("cat"), TextPrompt(many)])
    assert session.categories is not None
    assert not len(session.categories)  # none was taken
    with pytest.raises(InputError, match="too long"):
        sam3(network).start(Task.VIS, size_hw=SIZE, categories=CategorySet.from_names([many]))


# ------------------------------------------------------------------------ results


def begun(network, concepts=CONCEPTS, **options: Any) -> Sam3Session:
    categories = CategorySet.from_names(concepts)
    return sam3(network, **options).start(Task.VIS, size_hw=SIZE, categories=categories)


def test_results_leave_as_late_as_new_objects_are_on_trial():
    network = tiny_sam3(0, **TRIED)
    session = begun(network)
    assert session.latency == 4
    assert begun(network, at_once=True).latency == 0
    assert begun(tiny_sam3(hotstart_delay=0, hotstart_unmatch_thresh=0)).latency == 0
    frames = scenes(10, 0)
    counts = [len(session.step(frame)) for frame in frames]
    assert counts == [0] * 4 + [1] * 6
    assert [result.frame_index for result in session.finish()] == [6, 7, 8, 9]


def test_who_fails_the_trial_is_never_seen():
    session, _, results = our_concepts(tiny_sam3(0, **TRIED), scenes(12, 0), CONCEPTS)
    events = [(event.kind, event.track_id, event.reason) for result in results for event in result.events]
    fallen = {n for kind, n, _ in events if kind == "deleted"}
    shown = {segment.track_id for result in results for segment in result.segments}
    assert fallen
    assert not fallen & shown
    assert not fallen & {track.track_id for track in session.tracks()}
    assert {reason for kind, _, reason in events if kind == "deleted"} <= {
        "on 2 of its first frames nothing was detected where it is",
        *(f"it is object {n} once more" for n in range(20)),
    }


def test_objects_know_what_they_are_and_how_sure_that_is(network):
    session, _, results = our_concepts(network, scenes(6, 6), CONCEPTS, at_once=True)
    assert session.categories == CategorySet.from_names(CONCEPTS)
    assert {segment.category for result in results for segment in result.segments} == {1, 2}
    for result in results:
        assert isinstance(result.masks, PackedMasks)
        for concept in (1, 2):
            own = [n for n, segment in enumerate(result.segments) if segment.category == concept]
            assert int(result.masks_nhw()[own].sum(0).max()) == 1  # no pixel of two of them
        assert all(0.5 < (segment.score or 0) <= 1 for segment in result.segments)
        assert all(segment.prompt_id is None for segment in result.segments)
    assert [event.reason for event in results[0].events][:1] == ["'cat' was found there"]
    tracks = {track.track_id: track for track in session.tracks()}
    assert tracks[1].category_scores == {1: 1.0}
    assert (tracks[1].first, tracks[1].last) == (0, 5)


def test_a_concept_is_looked_for_from_its_frame_on():
    network = tiny_sam3(6, score_threshold_detection=0.4, new_det_thresh=0.45)
    session = begun(network, ["cat"], at_once=True)
    session.prompt([TextPrompt(" red car ", prompt_id="mine", frame_index=2)])
    shown = [{(s.category, s.prompt_id) for s in session.step(frame)[0].segments} for frame in clip(3)]
    assert shown[0] == shown[1] == {(1, None)}
    assert (2, "mine") in shown[2]
    assert session.categories is not None
    assert session.categories.names == ("cat", "red car")
    assert list(session.finish()) == []


def test_concepts_do_not_change_each_other(network, unrounded):
    """Each has its own objects, whoever else is looked for."""
    alone = our_concepts(network, clip(3), ["cat"], at_once=True)[2]
    both = our_concepts(network, clip(3), ["cat", "red car"], at_once=True)[2]
    for one, two in zip(alone, both, strict=True):
        own = [n for n, segment in enumerate(two.segments) if segment.category == 1]
        assert [two.segments[n].score for n in own] == pytest.approx([segment.score for segment in one.segments])
        assert torch.equal(two.masks_nhw()[own], one.masks_nhw())


def test_objects_that_a_person_takes_away_are_gone_from_that_frame_on():
    network, frames = (
        tiny_sam3(6, **SURE | {"hotstart_delay": 4, "hotstart_unmatch_thresh": 4, "hotstart_dup_thresh": 4}),
        clip(8),
    )
    kept = our_concepts(network, frames, CONCEPTS)[2]
    session = begun(network)
    results = []
    for frame in frames:
        if frame.index == 3:
            session.remove([1])
            with pytest.raises(InputError, match="object 1 cannot be removed: it is not followed"):
                session.remove([1])
        results += session.step(frame)
    results += list(session.finish())
    ids = [{segment.track_id for segment in result.segments} for result in results]
    assert all(1 in own for own in ids[:3])
    assert all(1 not in own for own in ids[3:])
    assert [(e.kind, e.track_id) for e in results[3].events if e.kind == "removed"] == [("removed", 1)]
    assert all(1 in {segment.track_id for segment in result.segments} for result in kept)
    assert 1 in {track.track_id for track in session.tracks()}


def test_when_there_is_no_room_the_surest_are_taken_in(network):
    _, logits, results = our_concepts(network, clip(2), CONCEPTS, at_once=True, max_objects=3)
    everyone = our_concepts(network, clip(2), CONCEPTS, at_once=True)[2][0].segments
    assert [len(shown) for shown in logits] == [3, 3]
    surest = sorted((segment.score or 0 for segment in everyone), reverse=True)[:3]
    assert [segment.score for segment in results[0].segments] == pytest.approx(surest)
    assert [event.reason for event in results[0].events if event.kind == "refused"] == [
        f"{len(everyone) - 3} more were found, and there was no room"
    ]


def test_objects_out_of_sight_make_room_for_new_ones():
    network = tiny_sam3(0, presence=0.5, **SURE)
    session, _, results = our_concepts(network, scenes(8, 0), CONCEPTS, at_once=True, max_objects=4)
    gone = [event for result in results for event in result.events if event.kind == "deleted"]
    assert gone
    assert "made room for a new one" in gone[0].reason
    assert len(session._standings) <= 4
    assert set(session._standings) == set(session._followed.pathways)


POLICIES: dict[str, MemoryPolicy] = {
    "recent": RecentFrames(recent=2, prompted=2, pointers=4),
    "fifo": RecentFrames.fifo(3),
    "distractor-aware": DistractorAware(recent=2, anchors=2, every=2, sure=0.0, agree=2.0, pointers=4),
    "tree": HypothesisTree(recent=2, pointers=4),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_memory_is_flat_once_it_is_full(policy):
    """Whatever is kept between frames, by its size on disk."""
    network = tiny_sam3(3, **ANEW | {"hotstart_delay": 4, "hotstart_unmatch_thresh": 4, "hotstart_dup_thresh": 4})
    session = begun(network, following=SamVideoSettings(policy=POLICIES[policy]), max_objects=3)
    held, stored = [], []
    for frame in scenes(36, 3):
        session.step(frame)
        held.append(memory_bytes(session._followed.pathways))
        if frame.index in (23, 35):
            file = io.BytesIO()
            torch.save(session.state_dict(), file)
            stored.append(file.tell())
    if policy == "tree":  # its histories share more on one frame and less on another
        one = 6 * session._parts.memory_bytes + POLICIES[policy].most * session._parts.pointer_bytes
        assert max(held) <= 3 * POLICIES[policy].pathways * one
    else:
        assert max(held[24:]) <= max(held[12:24])
        assert stored[1] < 1.1 * stored[0]


def test_the_budget_says_how_many_objects_there_are(network):
    parts = sam3(network).parts
    one = parts.memory_bytes + RecentFrames().most * parts.pointer_bytes
    settings = SamVideoSettings(memory_bytes=2 * one)
    session, logits, _ = our_concepts(network, scenes(10, 6), CONCEPTS, at_once=True, following=settings)
    assert max(len(shown) for shown in logits) == 2
    assert memory_bytes(session._followed.pathways) <= 2 * one


@pytest.mark.parametrize("cut", [2, 7])
@pytest.mark.parametrize("policy", ["recent", "tree"])
def test_a_saved_session_goes_on_as_if_nothing_had_happened(cut, policy):
    network, frames = tiny_sam3(0, **TRIED), scenes(12, 0)
    options: dict[str, Any] = {"following": SamVideoSettings(policy=POLICIES[policy])}
    more = [TextPrompt("dog", frame_index=6)]

    def watched_from(session, rest):
        return [result for frame in rest for result in session.step(frame)] + list(session.finish())

    whole = begun(network, **options)
    whole.prompt(more)
    expected = watched_from(whole, frames)
    session = begun(network, **options)
    session.prompt(more)
    before = [result for frame in frames[:cut] for result in session.step(frame)]
    session.remove([])
    file = io.BytesIO()
    torch.save(session.state_dict(), file)
    file.seek(0)
    again = begun(network, **options)
    again.load_state_dict(torch.load(file, weights_only=True))
    results = [*before, *watched_from(again, frames[cut:])]
    for one, other in zip(results, expected, strict=True):
        assert (one.frame_index, one.segments, one.events) == (other.frame_index, other.segments, other.events)
        assert torch.equal(one.masks_nhw(), other.masks_nhw())
    assert again.tracks() == whole.tracks()


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        pytest.param(PointPrompt(5, 2, ((5.0, 3.0),)), "load these weights as the model sam2", id="click"),
        pytest.param(TextPrompt("the cat on the left", "expression"), 'say kind="concept"', id="sentence"),
        pytest.param(TextPrompt("cat", frame_index=5), "'cat' is looked for already", id="twice"),
    ],
)
def test_prompts_that_do_not_fit_are_refused_and_none_is_taken(network, prompt, message):
    session = begun(network)
    with pytest.raises(InputError, match=message):
        session.prompt([TextPrompt("dog", frame_index=5), prompt])
    assert session.categories == CategorySet.from_names(CONCEPTS)


def test_a_prompt_for_a_frame_that_came_is_refused(network):
    """Even where its result is held back: it has been looked at."""
    session = begun(network)
    session.step(clip(1)[0])
    with pytest.raises(StalePromptError, match="frames up to 0 were already emitted"):
        session.prompt([TextPrompt("dog")])


def test_a_prompt_whose_frame_does_not_come_is_told(network):
    session = begun(network)
    session.prompt([TextPrompt("dog", frame_index=4)])
    session.step(clip(1)[0])
    with pytest.raises(InputError, match="but the video ended at frame 0"):
        list(session.finish())


def test_somebody_has_to_say_what_to_look_for(network):
    session = sam3(network).start(Task.VIS, size_hw=SIZE)
    with pytest.raises(InputError, match="name classes, as in --classes cat,dog"):
        session.step(clip(1)[0])


def test_other_frames_tasks_and_settings_are_refused(network):
    system = sam3(network)
    with pytest.raises(InputError, match="cannot do 'vos'"):
        system.start(Task.VOS, size_hw=SIZE)
    with pytest.raises(InputError, match="no probabilities"):
        system.start(Task.VIS, size_hw=SIZE, soft=True)
    with pytest.raises(InputError, match="unknown label space 'vipseg'"):
        system.start(Task.VIS, size_hw=SIZE, categories="vipseg")
    assert system.start(Task.VIS, size_hw=SIZE, categories="object").categories == OBJECT
    with pytest.raises(InputError, match="frame"):
        begun(network).step(clip(1, (64, 80))[0])
    with pytest.raises(InputError, match="the policy reads 9"):
        sam3(network, following=SamVideoSettings(policy=RecentFrames(recent=9)))
    with pytest.raises(InputError, match="at least one object"):
        sam3(network, max_objects=0)
    with pytest.raises(InputError, match="recondition_on_trk_masks is false"):
        sam3(tiny_sam3(recondition_on_trk_masks=False))


# ----------------------------------------------------------------------- loading


def test_a_saved_network_is_found_again(network, tmp_path):
    save_sam3(network, tmp_path)
    system = load_sam3(str(tmp_path))
    session = system.start(Task.VIS, size_hw=SIZE, categories=CategorySet.from_names(["cat"]))
    for frame in clip(2):
        session.step(frame)
    again, expected = list(session.finish()), our_concepts(network, clip(2), ["cat"])[2]
    for one, other in zip(again, expected, strict=True):
        assert [s.score for s in one.segments] == pytest.approx([s.score for s in other.segments])
        assert torch.equal(one.masks_nhw(), other.masks_nhw())


def test_a_folder_without_a_tokenizer_or_of_another_model_is_refused(network, tmp_path):
    save_sam3(network, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="holds no tokenizer"):
        load_sam3(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam2_video"}))
    with pytest.raises(InputError, match="is a model of kind sam2_video, not sam3_video"):
        load_sam3(str(tmp_path))
