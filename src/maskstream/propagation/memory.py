"""What the propagation network remembers of a video: keys and values of frames, and prototypes of older ones.

XMem (Cheng & Schwing, ECCV 2022), §3.3; DEVA, appendix A. Objects that were first memorised on the same frame share a
bucket. In each bucket:

    first frame ─────────────────────────────────────────────────────────────────► stays for ever
    frames, as they are memorised ─► when there are max_frames: all but the first and
                                     the newest are consolidated to `prototypes` ─► long-term memory ─► the least used
                                                                                                        are evicted

What is given is never changed: every function returns a new memory, which shares what is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maskstream.types import StateDict

from .attention import Keys, attend, read_out, similarity
from .memory_policy import MemoryPolicy

NEWBORN = 1e-7
"""Reads that a new token is said to have lived through; its usage is divided by them."""

SIMILARITY_BYTES = 16 << 20
"""Of the matrix of similarities that exists at a time: 16 MiB stay in a processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Tokens that came together: those of a frame, or all of long-term memory.

    Attributes:
        keys: of T tokens; every bucket that has memorised a frame has the same ones.
        value_ntc: ``[N, T, Cv]``, of the objects of the bucket.
    """

    keys: Keys
    value_ntc: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Objects that were first memorised on the same frame.

    Attributes:
        object_ids: N ids.
        long_term: prototypes; None before the first consolidation.
        frames: oldest first; the first one is never forgotten.
        use_t: ``float32[T]``, how much each token was read: the sum of its weights. Long-term memory comes first.
        life_t: ``float32[T]``, how many reads each token has seen.
    """

    object_ids: tuple[int, ...]
    long_term: Block | None
    frames: tuple[Block, ...]
    use_t: Tensor
    life_t: Tensor

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All tokens, in the order of the counters."""
        return self.frames if self.long_term is None else (self.long_term, *self.frames)

    @property
    def long_term_tokens(self) -> int:
        """How many prototypes there are."""
        return 0 if self.long_term is None else len(self.long_term.keys)


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """Everything that is remembered but sensory memory. Objects are in the order in which they came."""

    buckets: tuple[Bucket, ...] = ()

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects that are remembered, in the order of what `read` returns."""
        return tuple(object_id for bucket in self.buckets for object_id in bucket.object_ids)

    @property
    def tokens(self) -> int:
        """Tokens of all buckets."""
        return sum(len(bucket.use_t) for bucket in self.buckets)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors; those that buckets share count once."""
        blocks = [block for bucket in self.buckets for block in bucket.blocks]
        keys = dict.fromkeys(block.keys for block in blocks)
        tensors = [tensor for k in keys for tensor in (k.key_tc, k.shrinkage_t, k.selection_tc) if tensor is not None]
        tensors += [block.value_ntc for block in blocks]
        tensors += [tensor for bucket in self.buckets for tensor in (bucket.use_t, bucket.life_t)]
        return sum(tensor.nbytes for tensor in tensors)


def read(memory: Memory, query: Keys, *, top_k: int, budget: int) -> tuple[Memory, Tensor]:
    """What is remembered of what is seen on a frame.

    Args:
        memory: of at least one object.
        query: keys of the frame, with selection.
        top_k: each place reads from so many tokens of a bucket.
        budget: bytes of values gathered at a time; see `read_out`.

    Returns:
        The memory, with this read counted, and ``[N, Q, Cv]``, in the order of `Memory.object_ids`.
    """
    keys = [[block.keys for block in bucket.blocks] for bucket in memory.buckets]
    attentions = attend(query, keys, top_k=top_k, budget=SIMILARITY_BYTES)
    read_nqc, buckets = [], []
    for bucket, attention in zip(memory.buckets, attentions, strict=True):
        read_nqc.append(read_out(attention, [block.value_ntc for block in bucket.blocks], budget=budget))
        use_t = bucket.use_t + attention.usage(len(bucket.use_t))
        buckets.append(replace(bucket, use_t=use_t, life_t=bucket.life_t + 1))
    return Memory(tuple(buckets)), torch.cat(read_nqc)


def memorise(memory: Memory, keys: Keys, value_ntc: Tensor, object_ids: Sequence[int], policy: MemoryPolicy) -> Memory:
    """Add a frame to every bucket, and a bucket for objects that are new; then consolidate and forget.

    Args:
        memory: of some or all of these objects, and of no others.
        keys: of the T places of the frame, with selection.
        value_ntc: ``[N, T, Cv]``.
        object_ids: N ids.
        policy: what to keep.
    """
    if policy.long_term_tokens is None:
        keys = replace(keys, selection_tc=None)
    position = {object_id: n for n, object_id in enumerate(object_ids)}

    def block(ids: Sequence[int]) -> Block:
        return Block(keys, value_ntc[[position[object_id] for object_id in ids]].contiguous())

    new = [object_id for object_id in object_ids if object_id not in memory.object_ids]
    buckets = [_with_frame(bucket, block(bucket.object_ids)) for bucket in memory.buckets]
    if new:
        buckets.append(Bucket(tuple(new), None, (block(new),), *_newborn(len(keys), value_ntc)))
    tidy = _first_in_first_out if policy.long_term_tokens is None else _consolidated
    return Memory(tuple(tidy(bucket, policy) for bucket in buckets))


def forget(memory: Memory, object_ids: Sequence[int]) -> Memory:
    """Without these objects. A bucket goes with the last of its objects."""
    buckets = []
    for bucket in memory.buckets:
        keep = [n for n, object_id in enumerate(bucket.object_ids) if object_id not in object_ids]
        if len(keep) == len(bucket.object_ids):
            buckets.append(bucket)
        elif keep:
            ids = tuple(bucket.object_ids[n] for n in keep)
            long_term = None if bucket.long_term is None else _only(bucket.long_term, keep)
            frames = tuple(_only(frame, keep) for frame in bucket.frames)
            buckets.append(replace(bucket, object_ids=ids, long_term=long_term, frames=frames))
    return Memory(tuple(buckets))


def to_plain(memory: Memory) -> StateDict:
    """The memory as plain data. Keys that buckets share are in it once."""
    all_keys = list(dict.fromkeys(block.keys for bucket in memory.buckets for block in bucket.blocks))
    place = {keys: n for n, keys in enumerate(all_keys)}
    buckets = [
        {
            "object_ids": list(bucket.object_ids),
            "has_long_term": bucket.long_term is not None,
            "keys": [place[block.keys] for block in bucket.blocks],
            "values": [block.value_ntc for block in bucket.blocks],
            "use": bucket.use_t,
            "life": bucket.life_t,
        }
        for bucket in memory.buckets
    ]
    return {"keys": [[keys.key_tc, keys.shrinkage_t, keys.selection_tc] for keys in all_keys], "buckets": buckets}


def from_plain(plain: StateDict, device: torch.device) -> Memory:
    """The memory again, on a device."""
    all_keys = [
        Keys(key_tc.to(device), shrinkage_t.to(device), None if selection_tc is None else selection_tc.to(device))
        for key_tc, shrinkage_t, selection_tc in plain["keys"]
    ]
    buckets = []
    for bucket in plain["buckets"]:
        blocks = [Block(all_keys[n], v.to(device)) for n, v in zip(bucket["keys"], bucket["values"], strict=True)]
        long_term, frames = (blocks[0], blocks[1:]) if bucket["has_long_term"] else (None, blocks)
        counters = (bucket["use"].to(device), bucket["life"].to(device))
        buckets.append(Bucket(tuple(bucket["object_ids"]), long_term, tuple(frames), *counters))
    return Memory(tuple(buckets))


def _newborn(tokens: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Counters of new tokens."""
    use_t = torch.zeros(tokens, device=like.device)
    return use_t, torch.full_like(use_t, NEWBORN)


def _with_frame(bucket: Bucket, frame: Block) -> Bucket:
    use_t, life_t = _newborn(len(frame.keys), frame.value_ntc)
    return replace(
        bucket,
        frames=(*bucket.frames, frame),
        use_t=torch.cat([bucket.use_t, use_t]),
        life_t=torch.cat([bucket.life_t, life_t]),
    )


def _only(block: Block, objects: Sequence[int]) -> Block:
    return Block(block.keys, block.value_ntc[list(objects)])


def _first_in_first_out(bucket: Bucket, policy: MemoryPolicy) -> Bucket:
    """Without the oldest frames but the first."""
    surplus = len(bucket.frames) - policy.max_frames
    if surplus <= 0:
        return bucket
    one = len(bucket.frames[0].keys)
    use_t, life_t = (torch.cat([t[:one], t[one * (1 + surplus) :]]) for t in (bucket.use_t, bucket.life_t))
    return replace(bucket, frames=(bucket.frames[0], *bucket.frames[1 + surplus :]), use_t=use_t, life_t=life_t)


def _consolidated(bucket: Bucket, policy: MemoryPolicy) -> Bucket:
    """Full working memory goes to long-term memory, all but its first and newest frames (XMem §3.3.2)."""
    if len(bucket.frames) < policy.max_frames:
        return bucket
    bucket = _evicted(bucket, policy)
    stop = len(bucket.frames) - (policy.min_frames - 1)
    candidates, frames = bucket.frames[1:stop], (bucket.frames[0], *bucket.frames[stop:])
    one, old = len(bucket.frames[0].keys), bucket.long_term_tokens
    begin, end = old + one, old + one * stop
    added = _prototypes(candidates, (bucket.use_t / bucket.life_t)[begin:end], policy.prototypes)
    use_t, life_t = (
        torch.cat([counter[:old], new, counter[old:begin], counter[end:]])
        for counter, new in zip((bucket.use_t, bucket.life_t), _newborn(len(added.keys), added.value_ntc), strict=True)
    )
    long_term = added if bucket.long_term is None else _joined(bucket.long_term, added)
    return replace(bucket, long_term=long_term, frames=frames, use_t=use_t, life_t=life_t)


def _prototypes(frames: Sequence[Block], usage_t: Tensor, count: int) -> Block:
    """The most used tokens of these frames, whose values become what the frames hold around them (XMem, eq. 7)."""
    keys = [frame.keys for frame in frames]
    key_tc, shrinkage_t = torch.cat([k.key_tc for k in keys]), torch.cat([k.shrinkage_t for k in keys])
    selection_tc = torch.cat([k.selection_tc for k in keys if k.selection_tc is not None])
    most_used = usage_t.sort(descending=True, stable=True).indices[:count]
    s_pt = similarity(key_tc[most_used], selection_tc[most_used], Keys(key_tc, shrinkage_t, None))
    weight_pt = torch.softmax(s_pt, dim=1)
    parts = torch.split(weight_pt, [len(k) for k in keys], dim=1)
    value_npc = sum(
        (part @ frame.value_ntc.float() for part, frame in zip(parts, frames, strict=True)),
        start=weight_pt.new_zeros(()),
    )
    prototypes = Keys(key_tc[most_used], weight_pt @ shrinkage_t, None)
    return Block(prototypes, value_npc.to(frames[0].value_ntc.dtype))


def _joined(first: Block, second: Block) -> Block:
    """Long-term memory and what is added to it."""
    key_tc = torch.cat([first.keys.key_tc, second.keys.key_tc])
    shrinkage_t = torch.cat([first.keys.shrinkage_t, second.keys.shrinkage_t])
    return Block(Keys(key_tc, shrinkage_t, None), torch.cat([first.value_ntc, second.value_ntc], dim=1))


def _evicted(bucket: Bucket, policy: MemoryPolicy) -> Bucket:
    """With room in long-term memory for more prototypes: without the tokens that are used least (XMem §3.3.3).

    Tokens used as little as the last one that has to go are all evicted, which may be more than there have to be.
    """
    assert policy.long_term_tokens is not None
    tokens = bucket.long_term_tokens
    surplus = tokens - (policy.long_term_tokens - policy.prototypes)
    if bucket.long_term is None or surplus <= 0:
        return bucket
    usage_t = (bucket.use_t / bucket.life_t)[:tokens]
    keep = usage_t > usage_t.sort().values[surplus - 1]
    keys, value_ntc = bucket.long_term.keys, bucket.long_term.value_ntc
    long_term = Block(Keys(keys.key_tc[keep], keys.shrinkage_t[keep], None), value_ntc[:, keep])
    use_t, life_t = (torch.cat([t[:tokens][keep], t[tokens:]]) for t in (bucket.use_t, bucket.life_t))
    return replace(bucket, long_term=long_term, use_t=use_t, life_t=life_t)
