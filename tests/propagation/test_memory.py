"""Memory of the propagation network: what is read, counted, consolidated, evicted and forgotten."""

import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskstream.propagation.attention import Keys, attend, read_out, similarity
from maskstream.propagation.memory import (
    Block,
    Bucket,
    Memory,
    _evicted,
    forget,
    from_plain,
    memorise,
    read,
    to_plain,
)
from maskstream.propagation.memory_policy import MemoryPolicy
from maskstream.types import InputError

KEY_DIM, VALUE_DIM = 4, 3
BUDGET = 1 << 20


def made(seed):
    return torch.Generator().manual_seed(seed)


def keys(seed, places):
    rng = made(seed)
    key = 2 * torch.rand(places, KEY_DIM, generator=rng) - 1
    return Keys(key, 1 + torch.rand(places, generator=rng), torch.rand(places, KEY_DIM, generator=rng))


def values(seed, objects, places):
    return torch.randn(objects, places, VALUE_DIM, generator=made(1000 + seed))


def filled(policy, writes, *, places=4, object_ids=(1,)):
    """Memory after so many frames, each of which is read before it is memorised."""
    memory = Memory()
    for frame in range(writes):
        if memory.buckets:
            memory, _ = read(memory, keys(frame, places), top_k=policy.top_k, budget=BUDGET)
        memory = memorise(memory, keys(frame, places), values(frame, len(object_ids), places), object_ids, policy)
    return memory


# An oracle: the text of the specification, token by token.


@dataclass
class Token:
    key: list[float]
    shrinkage: float
    selection: list[float]
    values: dict[int, list[float]]
    use: float = 0.0
    life: float = 1e-7

    @property
    def usage(self):
        return self.use / self.life


@dataclass
class OracleBucket:
    ids: list[int]
    long_term: list[Token] = field(default_factory=list)
    frames: list[list[Token]] = field(default_factory=list)

    @property
    def tokens(self):
        return self.long_term + [token for frame in self.frames for token in frame]


def likeness(token, query, selection):
    distance = sum(e * (k - q) ** 2 for k, q, e in zip(token.key, query, selection, strict=True))
    return -token.shrinkage * distance / math.sqrt(len(query))


def softmax(numbers):
    exponentials = [math.exp(number - max(numbers)) for number in numbers]
    return [e / sum(exponentials) for e in exponentials]


def mean(weights, vectors):
    return [sum(w * v for w, v in zip(weights, column, strict=True)) for column in zip(*vectors, strict=True)]


class Oracle:
    def __init__(self, policy):
        self.policy, self.buckets = policy, []

    def read(self, query):
        found: dict[int, list[list[float]]] = {}
        for bucket in self.buckets:
            tokens, gained = bucket.tokens, [0.0] * len(bucket.tokens)
            for q, e in zip(query.key_tc.tolist(), query.selection_tc.tolist(), strict=True):
                s = [likeness(token, q, e) for token in tokens]
                best = sorted(range(len(tokens)), key=lambda i: -s[i])[: self.policy.top_k]
                weights = softmax([s[i] for i in best])
                for i, weight in zip(best, weights, strict=True):
                    gained[i] += weight
                for object_id in bucket.ids:
                    found.setdefault(object_id, []).append(mean(weights, [tokens[i].values[object_id] for i in best]))
            for token, gain in zip(tokens, gained, strict=True):
                token.use += gain
                token.life += 1
        return found

    def memorise(self, frame, value_ntc, object_ids):
        known = {object_id for bucket in self.buckets for object_id in bucket.ids}
        if new := [object_id for object_id in object_ids if object_id not in known]:
            self.buckets.append(OracleBucket(new))
        rows = zip(frame.key_tc.tolist(), frame.shrinkage_t.tolist(), frame.selection_tc.tolist(), strict=True)
        places = [(row, value_ntc[:, t].tolist()) for t, row in enumerate(rows)]
        for bucket in self.buckets:
            mine = [object_ids.index(object_id) for object_id in bucket.ids]
            bucket.frames.append([Token(*row, {object_ids[n]: value_nc[n] for n in mine}) for row, value_nc in places])
            if self.policy.long_term_tokens is None:
                if len(bucket.frames) > self.policy.max_frames:
                    del bucket.frames[1]
            elif len(bucket.frames) >= self.policy.max_frames:
                self.consolidate(bucket)

    def consolidate(self, bucket):
        room = self.policy.long_term_tokens - self.policy.prototypes
        if len(bucket.long_term) > room:
            victims = sorted(token.usage for token in bucket.long_term)[: len(bucket.long_term) - room]
            bucket.long_term = [token for token in bucket.long_term if token.usage > victims[-1]]
        keep = len(bucket.frames) - (self.policy.min_frames - 1)
        candidates = [token for frame in bucket.frames[1:keep] for token in frame]
        bucket.frames = [bucket.frames[0], *bucket.frames[keep:]]
        for chosen in sorted(candidates, key=lambda token: -token.usage)[: self.policy.prototypes]:
            weights = softmax([likeness(token, chosen.key, chosen.selection) for token in candidates])
            averaged = {
                object_id: mean(weights, [token.values[object_id] for token in candidates]) for object_id in bucket.ids
            }
            shrinkage = sum(w * token.shrinkage for w, token in zip(weights, candidates, strict=True))
            bucket.long_term.append(Token(chosen.key, shrinkage, [], averaged))

    def forget(self, object_ids):
        for bucket in self.buckets:
            bucket.ids = [object_id for object_id in bucket.ids if object_id not in object_ids]
        self.buckets = [bucket for bucket in self.buckets if bucket.ids]


POLICIES = [
    MemoryPolicy(top_k=3, max_frames=4, min_frames=2, prototypes=5, long_term_tokens=12),
    MemoryPolicy(top_k=5, max_frames=3, min_frames=1, prototypes=3, long_term_tokens=9),
    MemoryPolicy(top_k=40, max_frames=4, min_frames=3, prototypes=9, long_term_tokens=9),
    MemoryPolicy.fifo(1, top_k=4),
    MemoryPolicy.fifo(3, top_k=4),
]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    policy=st.sampled_from(POLICIES),
    places=st.integers(1, 5),
    steps=st.lists(
        st.sampled_from(["read", "memorise", "memorise", "memorise", "born", "two born", "gone"]), max_size=25
    ),
    seed=st.integers(0, 10_000),
)
def test_memory_does_what_the_specification_says_token_by_token(policy, places, steps, seed):
    memory, oracle, ids, next_id = Memory(), Oracle(policy), [1], 2
    for n, step in enumerate(["memorise", *steps]):
        frame = keys(100 * seed + n, places)
        if step == "read" and ids:
            memory, found = read(memory, frame, top_k=policy.top_k, budget=BUDGET)
            expected = oracle.read(frame)
            assert list(expected) == list(memory.object_ids)
            torch.testing.assert_close(found, torch.tensor(list(expected.values())), rtol=1e-4, atol=1e-4)
        elif step == "gone" and ids:
            gone = ids.pop((seed + n) % len(ids))
            memory = forget(memory, [gone])
            oracle.forget([gone])
        elif step in ("memorise", "born", "two born"):
            ids += [next_id + k for k in range({"memorise": 0, "born": 1, "two born": 2}[step])]
            next_id = max([next_id, *(i + 1 for i in ids)])
            if ids:
                value = values(100 * seed + n, len(ids), places)
                memory = memorise(memory, frame, value, ids, policy)
                oracle.memorise(frame, value, ids)
        assert_same(memory, oracle)


def assert_same(memory, oracle):
    assert [list(bucket.object_ids) for bucket in memory.buckets] == [bucket.ids for bucket in oracle.buckets]
    for bucket, expected in zip(memory.buckets, oracle.buckets, strict=True):
        assert bucket.long_term_tokens == len(expected.long_term)
        assert [len(frame.keys) for frame in bucket.frames] == [len(frame) for frame in expected.frames]
        found = {
            "key": torch.cat([block.keys.key_tc for block in bucket.blocks]),
            "shrinkage": torch.cat([block.keys.shrinkage_t for block in bucket.blocks]),
            "use": bucket.use_t,
            "life": bucket.life_t,
        }
        for name, tensor in found.items():
            wanted = torch.tensor([getattr(token, name) for token in expected.tokens])
            torch.testing.assert_close(tensor, wanted, rtol=1e-4, atol=1e-5, msg=name)
        for n, object_id in enumerate(bucket.object_ids):
            value = torch.cat([block.value_ntc[n] for block in bucket.blocks])
            wanted = torch.tensor([token.values[object_id] for token in expected.tokens])
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-4)


# Attention.


def test_similarity_is_the_weighted_squared_distance_of_keys():
    query, remembered = keys(1, 5), keys(2, 7)
    found = similarity(query.key_tc, query.selection_tc, remembered)
    tokens = [
        Token(k, s, [], {}) for k, s in zip(remembered.key_tc.tolist(), remembered.shrinkage_t.tolist(), strict=True)
    ]
    expected = [
        [likeness(token, q, e) for token in tokens]
        for q, e in zip(query.key_tc.tolist(), query.selection_tc.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("top_k", [1, 3, 30])
@pytest.mark.parametrize("places", [1, 15, 16, 17, 200])
def test_the_most_similar_tokens_of_all_parts_are_found_whatever_the_sizes_of_the_parts(places, top_k):
    query, parts = keys(0, 50), [keys(1, places), keys(2, 3 * places), keys(3, 100)]
    (attention,) = attend(query, [parts], top_k=top_k, budget=BUDGET)
    dense = torch.cat([similarity(query.key_tc, query.selection_tc, part) for part in parts], dim=1)
    expected = dense.topk(top_k, dim=1)
    assert torch.equal(attention.token_qk, expected.indices)
    torch.testing.assert_close(attention.weight_qk, torch.softmax(expected.values, dim=1))


def test_sets_that_share_parts_do_not_share_attention():
    query, (a, b, c) = keys(0, 20), (keys(n, 40) for n in (1, 2, 3))
    together = attend(query, [[a, b], [b, c], [c]], top_k=8, budget=BUDGET)
    for attention, parts in zip(together, [[a, b], [b, c], [c]], strict=True):
        (alone,) = attend(query, [parts], top_k=8, budget=BUDGET)
        assert torch.equal(attention.token_qk, alone.token_qk)
        torch.testing.assert_close(attention.weight_qk, alone.weight_qk)


def test_a_small_budget_changes_nothing_but_the_memory_taken():
    query, parts, value = keys(0, 33), [keys(1, 40), keys(2, 40)], [values(1, 5, 40), values(2, 5, 40)]
    (once,) = attend(query, [parts], top_k=8, budget=BUDGET)
    (often,) = attend(query, [parts], top_k=8, budget=1)
    assert torch.equal(once.token_qk, often.token_qk)
    torch.testing.assert_close(once.weight_qk, often.weight_qk)
    torch.testing.assert_close(read_out(once, value, budget=BUDGET), read_out(once, value, budget=1))


def test_a_place_looks_at_every_token_where_there_are_fewer_than_it_may():
    (attention,) = attend(keys(0, 4), [[keys(1, 6)]], top_k=30, budget=BUDGET)
    assert attention.token_qk.sort(dim=1).values.tolist() == [list(range(6))] * 4
    torch.testing.assert_close(attention.weight_qk.sum(dim=1), torch.ones(4))


def test_what_is_far_from_everything_still_reads_something():
    far = Keys(torch.full((3, KEY_DIM), 1e4), torch.full((3,), 50.0), None)
    (attention,) = attend(keys(0, 4), [[far]], top_k=2, budget=BUDGET)
    assert attention.weight_qk.isfinite().all()
    torch.testing.assert_close(attention.weight_qk.sum(dim=1), torch.ones(4))


def test_usage_does_not_depend_on_the_order_of_places():
    query = keys(0, 300)
    (attention,) = attend(query, [[keys(1, 50)]], top_k=8, budget=BUDGET)
    order = torch.randperm(300, generator=made(1))
    shuffled = type(attention)(attention.token_qk[order], attention.weight_qk[order])
    assert torch.equal(attention.usage(50), shuffled.usage(50))
    assert attention.usage(50).sum().item() == pytest.approx(300, rel=1e-5)


# Consolidation and eviction.


def test_frames_are_held_and_consolidated_as_published():
    policy = MemoryPolicy(top_k=5, prototypes=7, long_term_tokens=1000)
    counts = []
    for writes in range(1, 33):
        (bucket,) = filled(policy, writes).buckets
        counts.append((len(bucket.frames), bucket.long_term_tokens // 7))
    held = [*range(1, 10), *([5, 6, 7, 8, 9] * 5)][:32]
    consolidations = [0] * 9 + [1 + n // 5 for n in range(23)]
    assert counts == list(zip(held, consolidations, strict=True))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_first_frame_is_never_forgotten(policy):
    first, last = filled(policy, 1), filled(policy, 60)
    before, after = first.buckets[0].frames[0], last.buckets[0].frames[0]
    assert torch.equal(before.keys.key_tc, after.keys.key_tc)
    assert torch.equal(before.value_ntc, after.value_ntc)


@pytest.mark.parametrize(
    "usage, room, kept",
    [
        pytest.param([5, 4, 3, 2], 4, [5, 4, 3, 2], id="just enough room: nothing goes"),
        pytest.param([2, 5, 3, 4], 3, [5, 3, 4], id="the least used one goes"),
        pytest.param([2, 5, 2, 4], 3, [5, 4], id="as little used as the last that must go: it goes too"),
        pytest.param([2, 2, 5, 2], 3, [5], id="three alike and one must go: all three go"),
        pytest.param([0, 0, 0, 0], 3, [], id="nothing was ever read: everything goes"),
        pytest.param([0, 0, 0, 0], 4, [0, 0, 0, 0], id="nothing was ever read, but there is room"),
    ],
)
def test_the_least_used_tokens_are_evicted(usage, room, kept):
    use_t, none = torch.tensor([*usage, 9.0]), torch.zeros(4, KEY_DIM)
    prototypes = Block(Keys(none, use_t[:4], None), use_t[None, :4, None].expand(2, 4, VALUE_DIM))
    frame = Block(keys(0, 1), values(0, 2, 1))
    bucket = Bucket((1, 2), prototypes, (frame,), 3 * use_t, torch.full((5,), 3.0))
    left = _evicted(bucket, MemoryPolicy(prototypes=2, long_term_tokens=room + 2))
    assert left.long_term is not None
    assert left.long_term.keys.shrinkage_t.tolist() == kept
    assert left.long_term.value_ntc[1, :, 0].tolist() == kept
    assert (left.use_t / 3).tolist() == [*kept, 9]
    assert left.frames == bucket.frames


def test_prototypes_are_the_tokens_most_read_and_the_older_ones_of_equals():
    policy = MemoryPolicy(top_k=1, max_frames=3, min_frames=1, prototypes=3)
    memory = memorise(filled(policy, 1), keys(7, 4), values(7, 1, 4), (1,), policy)
    (bucket,) = memory.buckets
    usage = torch.tensor([9.0, 9, 9, 9, 0, 1, 2, 0])  # the first frame is no candidate; the third one will be unread
    memory = Memory((replace(bucket, use_t=usage, life_t=torch.ones(8)),))
    memory = memorise(memory, keys(8, 4), values(8, 1, 4), (1,), policy)
    prototypes = memory.buckets[0].long_term
    assert prototypes is not None
    assert torch.equal(prototypes.keys.key_tc, keys(7, 4).key_tc[[2, 1, 0]])


# Buckets.


def test_objects_that_come_together_share_a_bucket_and_a_late_one_has_its_own():
    policy = MemoryPolicy(top_k=3)
    memory = filled(policy, 4, object_ids=(5, 3))
    memory = memorise(memory, keys(9, 4), values(9, 3, 4), (5, 3, 8), policy)
    assert [bucket.object_ids for bucket in memory.buckets] == [(5, 3), (8,)]
    assert [len(bucket.frames) for bucket in memory.buckets] == [5, 1]
    assert memory.buckets[0].frames[-1].keys is memory.buckets[1].frames[0].keys


def test_a_bucket_goes_with_the_last_of_its_objects_and_its_tokens_go_too():
    policy = MemoryPolicy(top_k=3)
    memory = filled(policy, 12, object_ids=(5, 3))
    memory = memorise(memory, keys(99, 4), values(99, 3, 4), (5, 3, 8), policy)
    late = memory.buckets[1]
    without_one = forget(memory, [3])
    assert [bucket.object_ids for bucket in without_one.buckets] == [(5,), (8,)]
    left = forget(without_one, [5])
    assert left.buckets == (late,)
    assert left.tokens == 4
    assert left.nbytes == 4 * (4 * (2 * KEY_DIM + 1) + 4 * VALUE_DIM + 2 * 4)
    assert forget(left, [8]).buckets == ()


def test_what_is_kept_of_an_object_does_not_keep_the_others_alive():
    memory = forget(filled(MemoryPolicy(top_k=3), 12, object_ids=tuple(range(10))), range(1, 10))
    (bucket,) = memory.buckets
    assert all(block.value_ntc.untyped_storage().nbytes() == block.value_ntc.nbytes for block in bucket.blocks)


def test_nothing_that_is_given_is_changed():
    policy = MemoryPolicy(top_k=3, max_frames=3, min_frames=1, prototypes=2, long_term_tokens=3)
    memory = filled(policy, 9, object_ids=(1, 2))
    before = [tensor.clone() for tensor in every_tensor(memory)]
    read(memory, keys(50, 4), top_k=3, budget=BUDGET)
    memorise(memory, keys(50, 4), values(50, 3, 4), (1, 2, 3), policy)
    forget(memory, [1])
    assert all(torch.equal(a, b) for a, b in zip(before, every_tensor(memory), strict=True))


def every_tensor(memory):
    return [
        tensor
        for bucket in memory.buckets
        for tensor in (
            *(x for block in bucket.blocks for x in (block.keys.key_tc, block.keys.shrinkage_t, block.value_ntc)),
            bucket.use_t,
            bucket.life_t,
        )
    ]


def test_plain_data_gives_the_same_memory_with_the_same_sharing():
    policy = MemoryPolicy(top_k=3, max_frames=3, min_frames=2, prototypes=2)
    memory = filled(policy, 5, object_ids=(1, 2))
    memory = memorise(memory, keys(9, 4), values(9, 3, 4), (1, 2, 3), policy)
    again = from_plain(to_plain(memory), torch.device("cpu"))
    assert again.object_ids == memory.object_ids
    assert again.nbytes == memory.nbytes
    assert all(torch.equal(a, b) for a, b in zip(every_tensor(memory), every_tensor(again), strict=True))


# Budget.


@pytest.mark.parametrize("policy", POLICIES)
def test_memory_is_flat_and_within_what_the_policy_states(policy):
    places, memory, sizes, tokens = (2, 3), Memory(), [], []
    for frame in range(120):
        if memory.buckets:
            memory, _ = read(memory, keys(frame, 6), top_k=policy.top_k, budget=BUDGET)
        ids = (1, 2) if frame < 5 else (1, 2, 3)
        memory = memorise(memory, keys(frame, 6), values(frame, len(ids), 6), ids, policy)
        sizes.append(memory.nbytes)
        tokens.append(max(len(bucket.use_t) for bucket in memory.buckets))
    bound = policy.bytes(objects=3, buckets=2, grid_hw=places, key_dim=KEY_DIM, value_dim=VALUE_DIM)
    assert max(tokens[:60]) == max(tokens) <= policy.tokens(places)
    assert max(sizes[:60]) == max(sizes) <= bound


def test_the_budget_of_the_published_policy_is_that_of_the_paper():
    policy, grid = MemoryPolicy(), (30, 54)
    assert policy.tokens(grid) == 10_000 + 9 * 1620
    of_one_object = policy.bytes(objects=2, grid_hw=grid) - policy.bytes(objects=1, grid_hw=grid)
    assert of_one_object == pytest.approx(20.5e6 + 29.9e6, rel=0.01)
    assert policy.bytes(objects=1, grid_hw=grid, itemsize=2) < 0.6 * policy.bytes(objects=1, grid_hw=grid)
    assert MemoryPolicy.fifo(5).tokens(grid) == 5 * 1620


@pytest.mark.parametrize(
    "options, message",
    [
        pytest.param({"every": 0}, "every of a memory policy is at least 1, not 0", id="no frame is memorised"),
        pytest.param({"top_k": -1}, "top_k of a memory policy is at least 1, not -1", id="nothing is read"),
        pytest.param({"min_frames": 10}, "which must be more: not 10 and 10", id="nothing to consolidate"),
        pytest.param({"long_term_tokens": 100}, "room for 128 prototypes, not for 100", id="no room for prototypes"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        MemoryPolicy(**options)
