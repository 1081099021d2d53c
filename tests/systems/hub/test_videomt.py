"""VidEoMT: the network is that of `transformers`, and objects keep their ids for as long as a video lasts."""

import gc
import io
import json
import math
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import VideomtConfig, VideomtForUniversalSegmentation
from transformers.models.videomt.video_processing_videomt import VideomtVideoProcessor

from maskstream.pretrained import Pixels
from maskstream.systems.hub import Videomt, VideomtSettings, load_videomt
from maskstream.systems.hub.videomt_network import answer
from maskstream.systems.hub.videomt_session import Sighting, shows_another
from maskstream.types import BoxPrompt, Category, CategorySet, Frame, InputError, Task, TextPrompt

SIZE = (48, 80)
PIXELS = Pixels(exact_hw=(64, 64))
QUERIES = 8
CELLS = 16
DOG, CAT, GRASS = 0, 1, 2
LEAST = 0.3
SPACE = CategorySet(
    "farm",
    (Category(10, "dog", is_thing=True), Category(20, "cat", is_thing=True), Category(30, "grass", is_thing=False)),
)


def tiny():
    """A network with random weights that is sure of something."""
    config = VideomtConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_blocks=2,
        image_size=64,
        patch_size=16,
        num_queries=QUERIES,
        num_register_tokens=2,
        id2label={DOG: "dog", CAT: "cat", GRASS: "grass"},
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = VideomtForUniversalSegmentation(config).eval()
        with torch.no_grad():
            for weight in network.parameters():
                if weight.ndim > 1:
                    weight.normal_(0, 1.5 / weight[0].numel() ** 0.5)
            network.class_predictor.weight *= 2
            network.class_predictor.bias[-1] = -20  # never "nothing"
    return network


def save(network, folder):
    """As real ones are saved."""
    network.save_pretrained(folder)
    VideomtVideoProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


@pytest.fixture(scope="module")
def network():
    return tiny()


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("videomt")
    save(network, path)
    return path


@pytest.fixture
def system(network):
    return Videomt(network, PIXELS, space=SPACE)


def frames(count, size_hw=SIZE):
    """Blocks of colour, others on every frame."""
    rng = np.random.default_rng(1)
    height, width = size_hw
    blocks = rng.integers(0, 256, (count, height // 8, width // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    return [Frame(n, n / 25, image) for n, image in enumerate(blocks)]


def watch(session, clip):
    return [result for frame in clip for result in session.step(frame)]


def whole_clip(system, clip):
    """What the library answers when it sees all frames at once."""
    return system.network(pixel_values_videos=system.pixels(clip)[None])


def frame_by_frame(system, clip):
    carried, found = None, []
    for frame in clip:
        found.append(answer(system.network, system.pixels([frame]), carried))
        carried = found[-1].carried_1qd
    return torch.stack([one.classes_qc for one in found]), torch.stack([one.masks_qhw for one in found])


# --------------------------------------------------------------------- network


@torch.no_grad()
def test_frame_by_frame_is_as_the_library_on_the_whole_clip(system):
    clip = frames(6)
    theirs = whole_clip(system, clip)
    classes_tqc, masks_tqhw = frame_by_frame(system, clip)
    torch.testing.assert_close(classes_tqc, theirs.class_queries_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(masks_tqhw, theirs.masks_queries_logits, atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_library_forgets_between_clips_and_we_do_not(system):
    """The same six frames, in two clips of three: from the fourth on it answers as if the video began there."""
    clip = frames(6)
    whole = whole_clip(system, clip).masks_queries_logits
    in_clips = torch.cat([whole_clip(system, clip[first : first + 3]).masks_queries_logits for first in (0, 3)])
    torch.testing.assert_close(in_clips[:3], whole[:3], atol=1e-4, rtol=0)
    assert (in_clips[3] - whole[3]).abs().max() > 0.1
    torch.testing.assert_close(frame_by_frame(system, clip)[1], whole, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("task", [Task.VPS, Task.VIS, Task.VSS])
def test_results_are_what_the_library_makes_of_each_frame(system, task):
    clip = frames(4)
    system.settings = VideomtSettings(min_score=LEAST, min_visible=LEAST)
    ours = watch(system.start(task, size_hw=SIZE), clip)
    theirs, processor, sizes = whole_clip(system, clip), VideomtVideoProcessor(), [SIZE] * len(clip)
    if task is Task.VSS:
        maps: Any = processor.post_process_semantic_segmentation(theirs, sizes)
        ids = torch.tensor(SPACE.ids)
        for result, labels_hw in zip(ours, maps, strict=True):
            assert torch.equal(result.semantic_map(), ids[labels_hw])
        return
    for n, result in enumerate(ours):
        shown = expected(processor, theirs, n, task)
        assert {mask.numpy().tobytes() for mask in result.masks_nhw()} == {mask for _, mask in shown}
        if n == 0:  # later, an object has the category that it had most often
            assert sorted(s.category for s in result.segments) == sorted(category for category, _ in shown)
    assert sum(len(result.segments) for result in ours) >= 8


def expected(processor, theirs, n, task):
    """Categories and masks of what the library shows on a frame."""
    classes_qc, masks_qhw = theirs.class_queries_logits[n], theirs.masks_queries_logits[n]
    if task is Task.VPS:
        one = SimpleNamespace(class_queries_logits=classes_qc[None], masks_queries_logits=masks_qhw[None])
        shown = processor.post_process_panoptic_segmentation(
            one, [SIZE], threshold=LEAST, label_ids_to_fuse={GRASS}, overlap_mask_area_threshold=LEAST
        )[0]
        return of_library(shown)
    # Its map of ids lets later instances hide earlier ones: one query at a time shows each whole.
    found = set()
    for query in range(QUERIES):
        one = SimpleNamespace(
            class_queries_logits=classes_qc[None, query : query + 1],
            masks_queries_logits=masks_qhw[None, query : query + 1],
        )
        found |= of_library(processor.post_process_instance_segmentation(one, [SIZE], threshold=LEAST)[0])
    return {(category, mask) for category, mask in found if category != SPACE.ids[GRASS]}


def of_library(shown):
    return {
        (SPACE.ids[one["label_id"]], (shown["segmentation"] == one["id"]).numpy().tobytes())
        for one in shown["segments_info"]
    }


# ------------------------------------------------------------------------- ids


Script = list[dict[int, tuple[int, int, int]]]
"""For every frame, by query: class, and first and last but one of the 16 columns that its mask has."""


def play(monkeypatch, network, script: Script):
    """Let the network answer by a script, as often as it is asked."""
    answers = []
    for shown in script:
        classes_qc, masks_qhw = torch.full((QUERIES, 4), -4.0), torch.full((QUERIES, CELLS, CELLS), -9.0)
        for query in range(QUERIES):
            label, first, end = shown.get(query, (3, 0, 0))
            classes_qc[query, label] = 4.0
            masks_qhw[query, :, first:end] = 9.0
        answers.append((masks_qhw[None], classes_qc[None]))
    turns = {"n": 0}

    def predict(_):
        turns["n"] += 1
        return answers[(turns["n"] - 1) % len(answers)]

    monkeypatch.setattr(network, "predict", predict)


def places(result):
    """Track ids by where they are: the middle of each mask, in sixteenths of the width."""
    masks = result.masks_nhw()
    columns = [mask[SIZE[0] // 2].nonzero()[:, 0].float().mean() * CELLS / SIZE[1] for mask in masks]
    return {round(float(c)): s.track_id for s, c in zip(result.segments, columns, strict=True)}


def run(monkeypatch, system, script: Script, task=Task.VPS, **settings):
    play(monkeypatch, system.network, script)
    if settings:
        system.settings = VideomtSettings(**settings)
    session = system.start(task, size_hw=SIZE)
    return session, watch(session, frames(len(script)))


@pytest.mark.parametrize("task", [Task.VPS, Task.VIS])
def test_ids_of_the_library_change_where_ours_stay(monkeypatch, system, task):
    """A dog at the left, a cat at the right; on the second frame the dog is not seen, on the fourth the cat is not.

    The library counts what it shows: the cat is 1, then 0, then 1, and 0 is two animals. Both queries stay the same.
    """
    dog, cat = (DOG, 0, 6), (CAT, 8, 14)
    script = [{2: dog, 5: cat}, {5: cat}, {2: dog, 5: cat}, {2: dog}]
    play(monkeypatch, system.network, script)
    clip = frames(len(script))
    processor = VideomtVideoProcessor()
    post_process: Any = {
        Task.VPS: processor.post_process_panoptic_segmentation,
        Task.VIS: processor.post_process_instance_segmentation,
    }[task]
    theirs = post_process(whole_clip(system, clip), [SIZE] * len(script))
    assert [{s["label_id"]: s["id"] for s in one["segments_info"]} for one in theirs] == [
        {DOG: 0, CAT: 1},
        {CAT: 0},
        {DOG: 0, CAT: 1},
        {DOG: 0},
    ]
    ours = watch(system.start(task, size_hw=SIZE), clip)
    assert [{s.category: s.track_id for s in one.segments} for one in ours] == [
        {10: 1, 20: 2},
        {20: 2},
        {10: 1, 20: 2},
        {10: 1},
    ]


@pytest.mark.parametrize(
    "now, frames_later, expected",
    [
        pytest.param((DOG, (10, 10, 30, 20)), 1, False, id="it stays"),
        pytest.param((CAT, (30, 20, 50, 30)), 1, False, id="the class changes where boxes meet"),
        pytest.param((DOG, (50, 10, 70, 20)), 1, False, id="it moves by its length"),
        pytest.param((DOG, (51, 10, 71, 20)), 1, True, id="it moves farther"),
        pytest.param((DOG, (51, 10, 71, 20)), 2, False, id="it moves farther, with time"),
        pytest.param((CAT, (31, 10, 51, 20)), 9, True, id="another class beside it"),
        pytest.param((DOG, (10, 50, 30, 90)), 1, False, id="it is longer than what was seen of it"),
        pytest.param((DOG, (10, 61, 30, 101)), 1, True, id="too far below, however long"),
        pytest.param((DOG, (-40, 10, -30, 20)), 1, True, id="too far to the left"),
    ],
)
def test_a_query_shows_another_object_where_the_last_cannot_be(now, frames_later, expected):
    before = Sighting(1, DOG, 7, (10, 10, 30, 20))
    label, box = now
    assert shows_another(before, label, 7 + frames_later, box, reach=1.0) is expected
    assert not shows_another(before, DOG, 8, box, reach=math.inf)


@pytest.mark.parametrize("task", [Task.VPS, Task.VIS])
def test_a_query_that_takes_another_object_gives_it_a_new_id(monkeypatch, system, task):
    script = [{0: (DOG, 0, 2)}, {0: (DOG, 1, 3)}, {}, {0: (DOG, 13, 15)}, {0: (CAT, 13, 15)}, {0: (CAT, 0, 2)}]
    session, results = run(monkeypatch, system, script, task, reach=0.25)
    assert [list(places(result).values()) for result in results] == [[1], [1], [], [2], [2], [3]]
    assert [event.track_id for result in results for event in result.events if event.kind == "born"] == [1, 2, 3]
    assert [(track.track_id, track.first, track.last) for track in session.tracks()] == [
        (1, 0, 1),
        (2, 3, 4),
        (3, 5, 5),
    ]


def test_a_query_is_one_object_for_ever_where_that_is_wanted(monkeypatch, system):
    script = [{0: (DOG, 0, 2)}, {}, {0: (DOG, 13, 15)}, {0: (CAT, 0, 2)}]
    _, results = run(monkeypatch, system, script, reach=None)
    assert {s.track_id for result in results for s in result.segments} == {1}


def test_stuff_has_one_id_whatever_query_shows_it(monkeypatch, system):
    script = [{0: (GRASS, 0, 4), 1: (DOG, 8, 12)}, {1: (DOG, 8, 12), 6: (GRASS, 0, 4), 7: (GRASS, 12, 16)}]
    _, results = run(monkeypatch, system, script)
    assert places(results[0]) == {2: 1, 10: 2}
    by_kind = {s.is_thing: s.track_id for s in results[1].segments}
    assert by_kind == {False: 1, True: 2} and len(results[1].segments) == 2


def test_stuff_is_no_instance_and_instances_may_overlap(monkeypatch, system):
    _, (result,) = run(monkeypatch, system, [{0: (GRASS, 0, 16), 3: (DOG, 2, 9), 4: (CAT, 6, 12)}], Task.VIS)
    assert sorted(s.category for s in result.segments) == [10, 20]
    assert (result.masks_nhw().sum(0) == 2).any()


def test_classes_are_regions(monkeypatch, system):
    session, results = run(monkeypatch, system, [{0: (DOG, 0, 8), 3: (DOG, 8, 12), 5: (GRASS, 12, 16)}] * 2, Task.VSS)
    for result in results:
        assert {s.category: s.track_id for s in result.segments} == {10: 1, 30: 2}
        assert set(result.semantic_map()[0, :56].tolist()) == {10}
    session.remove([1])
    assert [s.category for s in session.step(Frame(2, 0.0, np.zeros((*SIZE, 3), np.uint8)))[0].segments] == [30]
    assert [track.track_id for track in session.tracks()] == [1, 2]


def test_only_what_is_asked_for_is_shown_under_its_name_there(monkeypatch, system):
    play(monkeypatch, system.network, [{0: (DOG, 0, 6), 1: (CAT, 8, 14)}])
    wanted = CategorySet("pets", (Category(7, "Cat", is_thing=True),))
    for task in (Task.VPS, Task.VIS, Task.VSS):
        (result,) = watch(system.start(task, size_hw=SIZE, categories=wanted), frames(1))
        assert [s.category for s in result.segments] == [7]


@pytest.mark.parametrize("task", [Task.VPS, Task.VIS])
def test_what_was_removed_stays_away_until_its_query_shows_something_else(monkeypatch, system, task):
    script = [{0: (DOG, 0, 2), 1: (CAT, 6, 9)}] * 3 + [{0: (DOG, 13, 15), 1: (CAT, 6, 9)}]
    play(monkeypatch, system.network, script)
    session, clip = system.start(task, size_hw=SIZE), frames(4)
    watch(session, clip[:1])
    session.remove([1])
    results = watch(session, clip[1:])
    assert [sorted(places(result).values()) for result in results] == [[2], [2], [2, 3]]
    with pytest.raises(InputError, match="object 1 cannot be removed: it is not followed"):
        session.remove([1])


# ----------------------------------------------------------------------- state


@pytest.mark.parametrize("task", [Task.VPS, Task.VIS, Task.VSS])
@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_session_goes_on_from_its_state_to_the_last_bit(system, task, at):
    clip = frames(8)
    system.settings = VideomtSettings(min_score=0.3)
    first = system.start(task, size_hw=SIZE)
    watch(first, clip[:at])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = system.start(task, size_hw=SIZE)
    second.load_state_dict(torch.load(file, weights_only=True))
    for frame in clip[at:]:
        (one,), (two,) = first.step(frame), second.step(frame)
        assert one.segments == two.segments and one.events == two.events
        assert torch.equal(one.masks_nhw(), two.masks_nhw())
        assert torch.equal(first.state_dict()["carried"], second.state_dict()["carried"])
    assert first.tracks() == second.tracks()
    assert list(first.finish()) == []


def test_memory_is_flat(system):
    """Bytes of all tensors there are: a view of a frame's tokens, or a list of frames, would show."""
    session = system.start(Task.VSS, size_hw=SIZE)
    after = {}
    for frame in frames(25):
        session.step(frame)
        if frame.index in (2, 24):
            every = (one for one in gc.get_objects() if type(one) is torch.Tensor)
            after[frame.index] = sum(one.untyped_storage().nbytes() for one in every)
    assert after[2] == after[24]
    carried = session.state_dict()["carried"]
    assert carried.untyped_storage().nbytes() == carried.nbytes == QUERIES * 32 * 4


# -------------------------------------------------------------------- messages


def one_line(raised):
    assert "\n" not in str(raised.value)


def test_nothing_can_be_pointed_at(system):
    session = system.start(Task.VPS, size_hw=SIZE)
    session.prompt([])
    for prompt in (BoxPrompt(0, 1, (1, 1, 9, 9)), TextPrompt("a dog")):
        with pytest.raises(InputError, match="takes no prompts: use the model deva"):
            session.prompt([prompt])


def test_a_frame_that_does_not_fit_is_refused_and_nothing_changes(system):
    session = system.start(Task.VPS, size_hw=SIZE)
    clip = frames(2)
    session.step(clip[0])
    with pytest.raises(InputError, match="frame 0 came after frame 0"):
        session.step(clip[0])
    with pytest.raises(InputError, match="frame 1 is 16×16 but the video began at 48×80"):
        session.step(Frame(1, 0.0, np.zeros((16, 16, 3), np.uint8)))
    assert len(session.step(clip[1])) == 1


def test_what_the_network_cannot_do_is_refused(system):
    with pytest.raises(InputError, match="this model cannot do 'vos'; it can do: vis, vps, vss"):
        system.start(Task.VOS, size_hw=SIZE)
    with pytest.raises(InputError, match="gives no probabilities"):
        system.start(Task.VPS, size_hw=SIZE, soft=True)
    with pytest.raises(InputError, match="none of the 1 categories of custom is known"):
        system.start(Task.VPS, size_hw=SIZE, categories=CategorySet.from_names(["whale"]))
    with pytest.raises(InputError, match="unknown label space 'coco'; this model has: farm"):
        system.start(Task.VPS, size_hw=SIZE, categories="coco")


def test_tasks_depend_on_what_is_a_thing(folder):
    stuff = CategorySet("land", tuple(Category(n, f"kind {n}", is_thing=False) for n in range(3)))
    assert load_videomt(str(folder), space=stuff).tasks == {Task.VPS, Task.VSS}
    named = load_videomt(str(folder))
    assert named.tasks == {Task.VPS, Task.VSS, Task.VIS}
    assert named.label_space.names == ("dog", "cat", "grass")
    assert named.pixels == PIXELS


def test_a_label_space_of_another_size_is_refused(folder):
    with pytest.raises(InputError, match="the network tells 3 classes, but custom has 2"):
        load_videomt(str(folder), space=CategorySet.from_names(["a", "b"]))


def copied(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_folders_that_are_damaged_or_of_another_kind_are_refused(folder, tmp_path):
    path = copied(folder, tmp_path)
    (path / "video_preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="does not say how pictures are prepared") as raised:
        load_videomt(str(path))
    one_line(raised)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"model_type": "sam"}))
    with pytest.raises(InputError, match=r"of kind sam, not videomt: the usual one is tue-mps/videomt") as raised:
        load_videomt(str(path))
    one_line(raised)


def test_weights_that_are_cut_short_are_refused(folder, tmp_path):
    weights = copied(folder, tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:999])
    with pytest.raises(InputError, match="holds no weights for VideomtForUniversalSegmentation") as raised:
        load_videomt(str(tmp_path))
    one_line(raised)


def test_offline_a_model_that_is_not_here_is_refused_in_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("no route to the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(InputError, match="is not on this machine and the hub cannot be reached") as raised:
        load_videomt("tue-mps/videomt-dinov2-small-ytvis2019")
    one_line(raised)
