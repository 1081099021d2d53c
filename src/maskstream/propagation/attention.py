"""Reading memory: which remembered places look like a place of this frame, and what is remembered of them.

XMem (Cheng & Schwing, ECCV 2022), §3.2; DEVA, appendix A. The similarity of token i, with key k and shrinkage s, to
place j of the frame, with key q and selection e, is

    S_ij = -s_i / √Ck · Σ_c e_cj (k_ci - q_cj)²

and what is read at j is the mean of the values of its ``top_k`` most similar tokens, weighted by the softmax of S over
them.

    keys of many frames ─┐                                  values [N, T, Cv] of each set ─┐
                         ├─► attend ─► Attention of each set ─────────────────────────► read_out ─► [N, Q, Cv]
    keys of this frame ──┘             [Q, k] tokens, weights

Sets of tokens (the buckets of memory) largely hold the same frames: similarity to a frame is computed once for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 16
"""Tokens are searched in groups: the most similar ones are in the groups with the greatest maxima."""


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """Where tokens are in the space of keys. A frame has one token for each of its places.

    Attributes:
        key_tc: ``[T, Ck]``.
        shrinkage_t: ``float32[T]``, at least 1: how fast similarity falls off around a token.
        selection_tc: ``[T, Ck]`` in (0, 1): which channels matter to what looks from there; None where nothing does.
    """

    key_tc: Tensor
    shrinkage_t: Tensor
    selection_tc: Tensor | None

    @classmethod
    def of_frame(cls, key_bchw: Tensor, shrinkage_b1hw: Tensor, selection_bchw: Tensor) -> Keys:
        """Of what the network finds on one frame."""
        key_tc, selection_tc = (x[0].flatten(1).T.contiguous() for x in (key_bchw, selection_bchw))
        return cls(key_tc, shrinkage_b1hw[0].flatten(), selection_tc)

    def __len__(self) -> int:
        return len(self.key_tc)


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """What each place looks at.

    Attributes:
        token_qk: ``int64[Q, k]``, tokens of a set, the most similar first.
        weight_qk: ``float32[Q, k]``; every row adds up to one.
    """

    token_qk: Tensor
    weight_qk: Tensor

    def usage(self, tokens: int) -> Tensor:
        """``float32[tokens]``, the sum of the weights of each token.

        They are added as integers, whose sum does not depend on their order: it is the same on every device.
        """
        weights = (self.weight_qk.flatten().double() * 2**32).round().long()
        sums = torch.zeros(tokens, dtype=torch.int64, device=weights.device)
        return (sums.scatter_add_(0, self.token_qk.flatten(), weights).double() / 2**32).float()


def similarity(query_qc: Tensor, selection_qc: Tensor, keys: Keys) -> Tensor:
    """``float32[Q, T]``, S of every place and token."""
    return _query_side(query_qc, selection_qc) @ _memory_side(keys).T


def attend(query: Keys, sets: Sequence[Sequence[Keys]], *, top_k: int, budget: int) -> list[Attention]:
    """Find the ``top_k`` most similar tokens of every set, for each place of a frame.

    Args:
        query: keys of the frame, with selection.
        sets: tokens of each set, in parts; with parts that several sets share the frame is compared only once.
        top_k: so many tokens, or all of a set that has fewer.
        budget: bytes of similarities at a time; exceeded only where those of a single place are more.

    Returns:
        One attention for each set; tokens are counted through its parts.
    """
    assert query.selection_tc is not None
    parts = list(dict.fromkeys(part for parts_of_set in sets for part in parts_of_set))
    columns = _Columns.of(parts)
    views = [columns.view([parts.index(part) for part in parts_of_set]) for parts_of_set in sets]
    sides = [_memory_side(part) for part in parts]
    rows = max(budget // (4 * columns.count), 1)
    looks = torch.split(_query_side(query.key_tc, query.selection_tc), rows)
    buffer = looks[0].new_full((len(looks[0]), columns.count), -math.inf)
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in sets]
    for look in looks:
        s_qx = buffer[: len(look)]
        for side, start in zip(sides, columns.starts, strict=True):
            torch.mm(look, side.T, out=s_qx[:, start : start + len(side)])
        peaks_qg = columns.peaks(s_qx)
        for view, found_in_set in zip(views, found, strict=True):
            found_in_set.append(view.largest(s_qx, peaks_qg, top_k))
    joined = [(torch.cat(s), torch.cat(tokens)) for s, tokens in (zip(*each, strict=True) for each in found)]
    return [Attention(tokens, torch.softmax(s, dim=1)) for s, tokens in joined]


def read_out(attention: Attention, values_ntc: Sequence[Tensor], *, budget: int) -> Tensor:
    """What objects are remembered by where the frame looks.

    Args:
        attention: of Q places to T tokens.
        values_ntc: ``[N, T', Cv]`` for each part of the tokens.
        budget: bytes of values gathered at a time; exceeded only where those of a single object are more.

    Returns:
        ``[N, Q, Cv]``, of the values' type.
    """
    objects, channels = values_ntc[0].shape[0], values_ntc[0].shape[2]
    tokens = sum(value.shape[1] for value in values_ntc)
    chunk = max(budget // (tokens * channels * values_ntc[0].element_size()), 1)
    weight_qk = attention.weight_qk.to(values_ntc[0].dtype)
    out = []
    for start in range(0, objects, chunk):
        table = torch.cat([value[start : start + chunk] for value in values_ntc], dim=1)
        rows = tokens * torch.arange(len(table), device=table.device)[:, None, None] + attention.token_qk
        weights = weight_qk.expand(len(table), -1, -1)
        read = F.embedding_bag(
            rows.flatten(0, 1), table.flatten(0, 1), per_sample_weights=weights.flatten(0, 1), mode="sum"
        )
        out.append(read.view(len(table), -1, channels))
    return torch.cat(out)


def _memory_side(keys: Keys) -> Tensor:
    """Together with `_query_side`, S as a product: the square is expanded (XMem, appendix)."""
    key_tc = keys.key_tc.float()
    factor = keys.shrinkage_t / math.sqrt(key_tc.shape[1])
    return torch.cat([key_tc.square(), key_tc, torch.ones_like(key_tc[:, :1])], dim=1) * factor[:, None]


def _query_side(query_qc: Tensor, selection_qc: Tensor) -> Tensor:
    query, selection = query_qc.float(), selection_qc.float()
    constant = (selection * query.square()).sum(dim=1, keepdim=True)
    return torch.cat([-selection, 2 * selection * query, -constant], dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """Where the tokens of all parts are in a matrix of similarities, whose columns they are.

    Every part begins a new column group, and is filled up to whole groups. Members of a group lie far apart, so that
    the maxima of a part are an elementwise maximum of its `GROUP` stretches.

    Attributes:
        starts: first column of each part.
        lengths: tokens of each part.
        groups: groups of each part.
        first_g: ``int64[G]``, first column of each group.
        step_g: ``int64[G]``, from one of its columns to the next.
    """

    starts: list[int]
    lengths: list[int]
    groups: list[int]
    first_g: Tensor
    step_g: Tensor

    @classmethod
    def of(cls, parts: Sequence[Keys]) -> _Columns:
        lengths = [len(part) for part in parts]
        groups = [-(-length // GROUP) for length in lengths]
        starts = [GROUP * sum(groups[:n]) for n in range(len(groups))]
        device = parts[0].key_tc.device
        first = torch.cat([start + torch.arange(g, device=device) for start, g in zip(starts, groups, strict=True)])
        step = torch.repeat_interleave(torch.tensor(groups, device=device), torch.tensor(groups, device=device))
        return cls(starts, lengths, groups, first, step)

    @property
    def count(self) -> int:
        return GROUP * sum(self.groups)

    def peaks(self, s_qx: Tensor) -> Tensor:
        """``[Q, G]``, the maximum of every group."""
        stretches = torch.split(s_qx, [GROUP * g for g in self.groups], dim=1)
        return torch.cat([part.view(len(part), GROUP, -1).amax(dim=1) for part in stretches], dim=1)

    def view(self, parts: Sequence[int]) -> _View:
        """The columns of a set that consists of these parts."""
        device = self.first_g.device
        token_of_column = torch.zeros(self.count, dtype=torch.int64, device=device)
        tokens, groups = 0, []
        for part in parts:
            start, length, before = self.starts[part], self.lengths[part], self.starts[part] // GROUP
            token_of_column[start : start + length] = torch.arange(tokens, tokens + length, device=device)
            groups.append(torch.arange(before, before + self.groups[part], device=device))
            tokens += length
        group = torch.cat(groups)
        return _View(tokens, group, self.first_g[group], self.step_g[group], token_of_column)


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """The columns of one set: its groups, with `_Columns.first_g` and `_Columns.step_g`, and its tokens."""

    tokens: int
    group_h: Tensor
    first_h: Tensor
    step_h: Tensor
    token_of_column: Tensor

    def largest(self, s_qx: Tensor, peaks_qg: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
        """The greatest similarities to the set and their tokens, ``[Q, k]``.

        Tokens among the k most similar are in the k groups of greatest maxima: each other group has k maxima above it.
        """
        some = min(top_k, len(self.group_h))
        best_qk = peaks_qg[:, self.group_h].topk(some, dim=1, sorted=False).indices
        member = torch.arange(GROUP, device=s_qx.device)
        candidates = (self.first_h[best_qk, None] + member * self.step_h[best_qk, None]).flatten(1)
        s_qk, positions = s_qx.gather(1, candidates).topk(min(top_k, self.tokens), dim=1)
        return s_qk, self.token_of_column[candidates.gather(1, positions)]
