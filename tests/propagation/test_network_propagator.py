"""The learned propagator: equal to the authors', true to the contract, and clear about bad input."""

import io
import json
from dataclasses import replace
from functools import cache

import numpy as np
import psutil
import pytest
import torch

from maskstream.propagation.memory_policy import MemoryPolicy
from maskstream.propagation.network_propagator import NetworkPropagator
from maskstream.systems.deva import DevaSession
from maskstream.types import Frame, InputError, MaskPrompt

from .clips import CLIPS, GOLDEN, NETWORKS, TOLERANCE, Clip, outputs
from .golden import hashed_network, samples
from .test_network import TINY, TINY_GUIDED, TINY_XMEM

XMEM = replace(TINY_XMEM, one_update=True)
OFTEN = MemoryPolicy(every=2, top_k=6, max_frames=4, min_frames=2, prototypes=5, long_term_tokens=17)
"""A policy under which everything happens within a few frames."""

SIZE = (46, 75)
BIAS = "mask_decoder.pred.bias"


@pytest.fixture(scope="module", params=[TINY, TINY_GUIDED], ids=["deva", "guided"])
def network(request):
    return hashed_network(request.param)


@pytest.fixture(scope="module")
def propagator(network):
    return NetworkPropagator(network, mode="exact", policy=OFTEN, size=None)


@pytest.fixture(scope="module")
def large_networks():
    return cache(lambda kind: hashed_network(NETWORKS[kind]))


def clip(frames=12, **events):
    return Clip(SIZE, frames, OFTEN, **({"prompts": {0: (1, 2)}} | events))


def begun(propagator, object_ids=(1, 2), size_hw=SIZE):
    """A state after one frame, and the features of that frame and the next."""
    scene = Clip(size_hw, 2, OFTEN)
    first, second = (propagator.encode(scene.frame(index)) for index in range(2))
    return propagator.write(propagator.start(), first, scene.masks(0, object_ids), object_ids), first, second


def followed(propagator, frames, state=None, *, start=1):
    """The last state and the probabilities of each frame."""
    scene, found = Clip(SIZE, 99, OFTEN), []
    state = begun(propagator)[0] if state is None else state
    for index in range(start, start + frames):
        state, probabilities = propagator.read(state, propagator.encode(scene.frame(index)))
        found.append(probabilities)
    return state, found


# Equal to the authors'.


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_is_what_the_authors_have(name, large_networks):
    golden = json.loads(GOLDEN.read_text())[name]
    assert golden["largest_difference"] <= TOLERANCE
    propagator = NetworkPropagator(
        large_networks(CLIPS[name].network), mode="exact", policy=CLIPS[name].policy, size=None
    )
    found = outputs(propagator, CLIPS[name])
    assert len(golden["samples"]) >= CLIPS[name].frames
    for key, expected in golden["samples"].items():
        looked_at = samples(f"{name}, {key}", found[key])[: len(expected)]
        torch.testing.assert_close(looked_at, torch.tensor(expected), rtol=0, atol=TOLERANCE, msg=key)


# The contract.


def test_probabilities_of_background_and_objects_add_up_to_one(propagator):
    _, found = followed(propagator, 3)
    for probabilities in found:
        assert probabilities.shape == (3, *SIZE)
        assert probabilities.dtype == torch.float32
        torch.testing.assert_close(probabilities.sum(dim=0), torch.ones(SIZE))


def test_without_objects_everything_is_background(propagator):
    features = propagator.encode(clip().frame(0))
    state, probabilities = propagator.read(propagator.start(), features)
    assert propagator.object_ids(state) == ()
    assert torch.equal(probabilities, torch.ones(1, *SIZE))
    assert propagator.write(state, features, torch.zeros(0, *SIZE), []) is state
    assert torch.equal(propagator.align(features, torch.zeros(0, *SIZE), features), probabilities)


def test_writing_no_masks_changes_nothing(propagator):
    state, features, _ = begun(propagator)
    assert propagator.write(state, features, torch.zeros(0, *SIZE), []) is state


def test_objects_are_in_the_order_in_which_they_came(propagator):
    state, features, _ = begun(propagator, (7, 3))
    state = propagator.write(state, features, clip().masks(1, (5, 3, 1)), (5, 3, 1))
    assert propagator.object_ids(state) == (7, 3, 5, 1)
    assert propagator.object_ids(propagator.remove(state, [3, 5])) == (7, 1)


def test_written_masks_are_taken_and_leave_other_objects_what_they_do_not_claim(propagator):
    state, features, _ = begun(propagator)
    before = features.crop(state.last_masks_nhw)
    claimed = torch.zeros(1, *SIZE)
    claimed[0, 10:30, 20:60] = 1
    state = propagator.write(state, features, claimed, [2])
    one, two = features.crop(state.last_masks_nhw)
    torch.testing.assert_close(two, claimed[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(one, before[0] * (1 - claimed[0]), rtol=0, atol=1e-5)


def test_a_read_that_does_not_advance_returns_the_same_and_leaves_the_state(propagator):
    state, _, second = begun(propagator)
    same, seen = propagator.read(state, second, advance=False)
    assert same is state
    assert torch.equal(seen, propagator.read(state, second)[1])


def test_a_frame_in_so_many_is_memorised_and_every_written_one(propagator):
    state, counts = begun(propagator)[0], []
    scene = Clip(SIZE, 99, OFTEN)
    for index in range(1, 8):
        features = propagator.encode(scene.frame(index))
        state, _ = propagator.read(state, features)
        counts.append(sum(len(bucket.frames) + bucket.long_term_tokens // 5 for bucket in state.memory.buckets))
        if index == 3:  # between two memory frames: the next one is due two frames later
            state = propagator.write(state, features, scene.masks(3, (1, 2)), (1, 2))
    assert counts == [1, 1, 2, 3, 3, 3, 3]
    assert state.since_memory == 0


def test_a_frame_that_is_written_to_is_not_memorised_as_it_was_found(propagator):
    state, _ = followed(propagator, 1)
    features = propagator.encode(clip().frame(2))
    state, _ = propagator.read(state, features)
    assert state.pending is not None, "a memory frame is due"
    masks = clip().masks(5, (1, 2))
    twice = propagator.write(propagator.write(state, features, masks[:1], [1]), features, masks[1:], [2])
    once = propagator.write(state, features, masks, (1, 2))
    after = [propagator.read(s, propagator.encode(clip().frame(3))) for s in (twice, once)]
    for s, _ in after:
        assert [len(bucket.frames) for bucket in s.memory.buckets] == [2]
    torch.testing.assert_close(after[0][1], after[1][1])


def test_frames_may_be_written_to_without_being_read(propagator):
    scene = Clip(SIZE, 9, OFTEN)
    state = propagator.start()
    for index in range(3):
        state = propagator.write(state, propagator.encode(scene.frame(index)), scene.masks(index, (1, 2)), (1, 2))
    state, _ = propagator.read(state, propagator.encode(scene.frame(3)))
    assert [len(bucket.frames) for bucket in state.memory.buckets] == [3]


def test_a_late_object_has_its_own_memory(propagator):
    state, _ = followed(propagator, 4)
    features = propagator.encode(clip().frame(5))
    state, _ = propagator.read(state, features)
    state = propagator.write(state, features, clip().masks(5, (9,)), [9])
    state, found = followed(propagator, 3, state, start=6)
    assert [bucket.object_ids for bucket in state.memory.buckets] == [(1, 2), (9,)]
    assert found[-1].shape == (4, *SIZE)


def test_removing_an_object_is_as_if_it_had_never_come(propagator):
    state, features, second = begun(propagator, (1, 2))
    without = propagator.remove(state, [2])
    never = propagator.write(propagator.start(), features, clip().masks(0, (1,)), [1])
    torch.testing.assert_close(propagator.read(without, second)[1], propagator.read(never, second)[1])
    later = propagator.remove(followed(propagator, 7, state)[0], [2])
    assert later.memory.object_ids == later.object_ids == (1,)
    followed(propagator, 3, later, start=8)


def test_without_its_last_object_a_state_is_new(propagator):
    state = propagator.remove(followed(propagator, 5)[0], [1, 2])
    assert state.nbytes == 0
    assert propagator.remove(begun(propagator)[0], [77]).object_ids == (1, 2)
    assert propagator.read(state, propagator.encode(clip().frame(0)))[1].shape == (1, *SIZE)


@pytest.mark.parametrize("config", [pytest.param(TINY, id="deva"), pytest.param(XMEM, id="xmem")])
@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("cut", range(9))
def test_continuing_from_a_snapshot_gives_the_same_bytes(config, mode, cut):
    propagator = NetworkPropagator(hashed_network(config), mode=mode, policy=OFTEN, size=None)
    state = followed(propagator, cut)[0] if cut else begun(propagator)[0]
    file = io.BytesIO()
    torch.save(propagator.state_dict(state), file)
    file.seek(0)
    other = NetworkPropagator(hashed_network(config), mode=mode, policy=OFTEN, size=None)
    again = other.load_state_dict(torch.load(file, weights_only=True))
    assert again.nbytes == state.nbytes
    scene = Clip(SIZE, 99, OFTEN)
    features = propagator.encode(scene.frame(cut))  # the frame that was read last may still be corrected
    continued = []
    for p, s in ((propagator, state), (other, again)):
        corrected = p.write(s, features, scene.masks(cut, (2, 5)), (2, 5))
        continued.append(followed(p, 6, p.remove(corrected, [1]), start=cut + 1))
    assert all(torch.equal(a, b) for a, b in zip(continued[0][1], continued[1][1], strict=True))
    plain, restored = (io.BytesIO(), io.BytesIO())
    torch.save(propagator.state_dict(continued[0][0]), plain)
    torch.save(other.state_dict(continued[1][0]), restored)
    assert plain.getvalue() == restored.getvalue()


def test_a_state_without_objects_survives_a_snapshot(propagator):
    again = propagator.load_state_dict(propagator.state_dict(propagator.start()))
    assert propagator.read(again, propagator.encode(clip().frame(0)))[1].shape == (1, *SIZE)


def test_deep_and_usual_updates_exclude_each_other_in_xmem():
    network = hashed_network(XMEM)
    propagator = NetworkPropagator(network, mode="exact", policy=OFTEN, size=None)
    state = propagator.read(*begun(propagator)[::2])[0]  # of a frame that is not memorised: the usual update
    second = propagator.encode(clip().frame(1))
    written = propagator.write(state, second, clip().masks(1, (1, 2)), (1, 2))
    assert state.former_nchw is not None
    assert torch.equal(written.sensory_nchw, state.former_nchw)
    assert not torch.equal(written.sensory_nchw, state.sensory_nchw)
    due, _ = propagator.read(state, propagator.encode(clip().frame(2)))
    assert torch.equal(due.sensory_nchw, state.sensory_nchw)


# Sizes and options.


@pytest.mark.parametrize(
    "frame_hw, size, internal_hw",
    [
        pytest.param((96, 171), 48, (48, 85), id="reduced, long side rounded down"),
        pytest.param((171, 96), 48, (85, 48), id="upright"),
        pytest.param((30, 40), 60, (60, 80), id="enlarged"),
        pytest.param((30, 41), None, (30, 41), id="as it is"),
        pytest.param((201, 300), 201, (201, 300), id="of that size already"),
    ],
)
def test_masks_are_of_the_internal_size(network, frame_hw, size, internal_hw):
    propagator = NetworkPropagator(network, size=size)
    features = propagator.encode(Clip(frame_hw, 1, OFTEN).frame(0))
    assert propagator.size_hw(features) == internal_hw
    height, width = features.padded_hw
    assert height % 16 == width % 16 == 0
    assert height - internal_hw[0] < 16 and width - internal_hw[1] < 16


def test_padding_is_even_and_the_odd_row_and_column_come_last(propagator):
    features = propagator.encode(Frame(0, 0.0, np.full((61, 93, 3), 255, np.uint8)))
    rows, columns = (features.image_b3hw[0, 0] > 0).any(dim=1), (features.image_b3hw[0, 0] > 0).any(dim=0)
    assert rows.nonzero().flatten().tolist() == list(range(1, 62))
    assert columns.nonzero().flatten().tolist() == list(range(1, 94))
    assert features.padded_hw == (64, 96)
    assert features.crop(features.image_b3hw).amin() > 2


@pytest.mark.filterwarnings("error")
def test_a_frame_may_be_a_view_that_cannot_be_written_to(propagator):
    image = clip().frame(0).image
    turned = image[::-1, ::-1]
    turned.flags.writeable = False
    expected = propagator.encode(Frame(0, 0.0, np.ascontiguousarray(turned)))
    assert torch.equal(propagator.encode(Frame(0, 0.0, turned)).image_b3hw, expected.image_b3hw)


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 3), (16, 16), (31, 17)])
def test_frames_smaller_than_32_pixels_are_followed(network, size_hw):
    for size in (None, 48):
        propagator = NetworkPropagator(network, size=size)
        features = [propagator.encode(Frame(n, 0.0, np.full((*size_hw, 3), 20 * n, np.uint8))) for n in range(12)]
        masks = torch.ones(1, *features[0].size_hw)
        state = propagator.write(propagator.start(), features[0], masks, [1])
        for n in range(1, 12):
            state, probabilities = propagator.read(state, features[n])
            assert probabilities.isfinite().all()
            assert probabilities.shape == (2, *features[0].size_hw)


def test_many_objects_are_taken_in_turns_with_the_same_result(network):
    size_hw, ids = (32, 48), tuple(range(1, 301))
    found = []
    for chunk_bytes in (1 << 30, 1 << 20, 1):
        propagator = NetworkPropagator(network, mode="exact", policy=OFTEN, size=None, chunk_bytes=chunk_bytes)
        state, _, second = begun(propagator, ids, size_hw)
        state, probabilities = propagator.read(state, second)
        state, again = propagator.read(state, second)
        found.append(torch.cat([probabilities, again]))
    assert found[0].shape == (602, *size_hw)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-5)


def test_a_mirrored_propagator_sees_mirrored_frames_and_answers_as_if_it_did_not(network):
    size_hw, scene = (32, 64), Clip((32, 64), 6, OFTEN)
    usual, mirrored = (
        NetworkPropagator(network, mode="exact", policy=OFTEN, size=None, mirror=m) for m in (False, True)
    )
    masks = scene.masks(0, (1, 2))
    features = usual.encode(scene.frame(0))
    state = usual.write(usual.start(), features, masks, (1, 2))
    turned = Frame(0, 0.0, np.ascontiguousarray(scene.frame(0).image[:, ::-1]))
    other = mirrored.write(mirrored.start(), mirrored.encode(turned), masks.flip(-1), (1, 2))
    for index in range(1, 6):
        frame = scene.frame(index)
        state, expected = usual.read(state, usual.encode(frame))
        turned = Frame(index, 0.0, np.ascontiguousarray(frame.image[:, ::-1]))
        other, found = mirrored.read(other, mirrored.encode(turned))
        assert torch.equal(found, expected.flip(-1))
    assert found.shape == (3, *size_hw)


def test_compiled_it_gives_the_same(network, monkeypatch):
    compile_ = torch.compile  # the real back end takes minutes; that the network can be traced is what is ours
    monkeypatch.setattr(torch, "compile", lambda method, **options: compile_(method, backend="eager", **options))
    usual, compiled = (NetworkPropagator(network, policy=OFTEN, size=None, compiled=c) for c in (False, True))
    for a, b in zip(followed(usual, 4)[1], followed(compiled, 4)[1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    assert "decode" not in vars(network), "the network that was given is as it was"


def test_half_precision_is_close_and_keeps_what_has_to_be_exact(network):
    exact, coarse = (
        NetworkPropagator(network, mode="exact", policy=OFTEN, size=None, precision=p) for p in ("fp32", "bf16")
    )
    (_, expected), (state, found) = (followed(propagator, 6) for propagator in (exact, coarse))
    for a, b in zip(expected, found, strict=True):
        # A guide carries masks onward, and with them what rounding did.
        assert (a - b).abs().mean() < (8e-3 if network.config.guide_dim else 5e-3)
        assert 0 < (a - b).abs().max() < 0.1
    (bucket,) = state.memory.buckets
    assert bucket.frames[0].value_ntc.dtype == bucket.frames[0].keys.key_tc.dtype == torch.bfloat16
    assert bucket.frames[0].keys.shrinkage_t.dtype == state.sensory_nchw.dtype == torch.float32
    assert network.dtype == torch.float32, "a network of another precision is copied"


# Bad input.


@pytest.mark.parametrize(
    "masks, ids, message",
    [
        pytest.param(torch.zeros(2, *SIZE), [4, 4], "object 4 has two masks", id="an id twice"),
        pytest.param(
            torch.zeros(2, *SIZE), [4], r"1 masks of 46×75 are needed, not \[2, 46, 75\]", id="too many masks"
        ),
        pytest.param(torch.zeros(1, 48, 80), [4], r"46×75 are needed, not \[1, 48, 80\]", id="padded masks"),
        pytest.param(torch.full((1, *SIZE), 255), [4], r"in \[0, 1\], not from 255 to 255", id="in 0 to 255"),
        pytest.param(torch.full((1, *SIZE), torch.nan), [4], r"in \[0, 1\], not from nan to nan", id="not numbers"),
    ],
)
def test_masks_that_do_not_fit_are_refused(propagator, masks, ids, message):
    state, features, _ = begun(propagator)
    with pytest.raises(InputError, match=message):
        propagator.write(state, features, masks, ids)


def test_a_frame_of_another_size_is_refused(propagator):
    state, features, _ = begun(propagator)
    other = propagator.encode(Clip((46, 76), 1, OFTEN).frame(0))
    with pytest.raises(InputError, match="a frame is 46×76 but the one before was 46×75"):
        propagator.read(state, other)
    with pytest.raises(InputError, match="46×76 but the one before was 46×75"):
        propagator.write(state, other, torch.zeros(1, 46, 76), [1])
    with pytest.raises(InputError, match="frames of 46×75 and 46×76 cannot be aligned"):
        propagator.align(features, torch.zeros(1, *SIZE), other)


def test_a_network_with_weights_that_are_no_numbers_is_refused():
    network = hashed_network(TINY)
    network.get_parameter(BIAS).data.fill_(torch.nan)
    with pytest.raises(InputError, match=r"1 weights of the network have .* \(first mask_decoder.pred.bias"):
        NetworkPropagator(network)


def test_weights_that_do_not_fit_into_half_precision_are_refused():
    network = hashed_network(TINY)
    network.get_parameter(BIAS).data.fill_(1e6)
    with pytest.raises(InputError, match="do not fit into fp16"):
        NetworkPropagator(network, precision="fp16")


@pytest.mark.parametrize(
    "options, message",
    [
        pytest.param({"size": 8}, "at least 16 pixels, not 8", id="size"),
        pytest.param({"mode": "quick"}, "one of fast, exact, not 'quick'", id="mode"),
        pytest.param({"precision": "int8"}, "one of auto, fp32, bf16, fp16, not 'int8'", id="precision"),
    ],
)
def test_options_out_of_range_are_refused(network, options, message):
    with pytest.raises(InputError, match=message):
        NetworkPropagator(network, **options)


# In a session, and for long.


def test_a_session_follows_prompted_objects_and_continues_from_a_snapshot(network):
    scene = Clip((46, 75), 12, OFTEN)
    prompts = [MaskPrompt(0, 1, scene.masks(0, (1,))[0].numpy()), MaskPrompt(4, 6, scene.masks(4, (6,))[0].numpy())]

    def session():
        made = DevaSession(NetworkPropagator(network, mode="exact", policy=OFTEN, size=32), size_hw=(46, 75))
        made.prompt(prompts)
        return made

    whole, cut = session(), session()
    expected = [result for index in range(12) for result in whole.step(scene.frame(index))]
    assert [[s.track_id for s in result.segments] for result in expected[3:6]] == [[1], [1, 6], [1, 6]]
    assert torch.equal(expected[4].masks_nhw()[1], scene.masks(4, (6,))[0])
    found = [result for index in range(6) for result in cut.step(scene.frame(index))]
    resumed = session()
    resumed.load_state_dict(cut.state_dict())
    found += [result for index in range(6, 12) for result in resumed.step(scene.frame(index))]
    assert all(torch.equal(a.label_map(), b.label_map()) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("config", [pytest.param(TINY, id="deva"), pytest.param(XMEM, id="xmem")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_state_is_as_large_as_stated(config, precision):
    propagator = NetworkPropagator(hashed_network(config), policy=OFTEN, size=None, precision=precision)
    state, sizes = begun(propagator)[0], []
    for start in range(1, 60, 4):
        if start == 17:
            features = propagator.encode(clip().frame(16))
            state = propagator.write(state, features, clip().masks(16, (5,)), [5])
        state, _ = followed(propagator, 4, state, start=start)
        sizes.append(state.nbytes)
    bound = propagator.state_bytes(SIZE, objects=3, buckets=2)
    assert 0.9 * bound < max(sizes) <= bound


@pytest.mark.slow
def test_two_thousand_frames_take_no_more_memory_than_six_hundred(network):
    policy = MemoryPolicy(prototypes=64, long_term_tokens=1000)
    propagator = NetworkPropagator(network, policy=policy, size=None)
    scene = Clip((96, 160), 2000, policy)
    frames = [scene.frame(index) for index in range(32)]
    state, _, _ = begun(propagator, (1, 2, 3, 4, 5), (96, 160))
    sizes, tokens, resident = [], [], []
    for index in range(1, 2000):
        state, _ = propagator.read(state, propagator.encode(frames[index % 32]))
        sizes.append(state.nbytes)
        tokens.append(state.memory.tokens)
        resident.append(psutil.Process().memory_info().rss)
    assert max(tokens[:600]) == max(tokens) <= policy.tokens((6, 10))
    bound = propagator.state_bytes((96, 160), objects=5)
    assert 0.9 * bound < max(sizes[:600]) == max(sizes) <= bound
    assert max(resident[1000:]) < 1.1 * max(resident[600:1000])
