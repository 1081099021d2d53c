"""Who is who: embeddings of a tube's objects against those of tracks (Tube-Link, §3.3; specification §6).

objects of a tube ─► those that are another's double go ─► compared with every track, both ways ─► ids
                                                                ▲                              │
                                                                └── tracks, averaged, forgotten ◄
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from maskstream.mask2former.affinity import bi_softmax
from maskstream.types import StateDict

from .network import cosine

Ids = list[int | None]
"""For each object its track, from 0; None for what is followed by nobody."""

_SMOOTH = 1e-6
"""In overlaps, in the authors' program: two masks without a pixel are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerSettings:
    """Of the quasi-dense tracker; as published unless said otherwise.

    Attributes:
        double: overlap above which a later object is an earlier one's double and is dropped.
        first_score: an object starts a track where there is none if its score is higher.
        new_score: the same where there are some.
        match: affinity above which an object continues a track.
        memory: frames after which a track that was not seen is forgotten.
        momentum: share of the new embedding in that of the track.
        rival: whether every object and track may also be like none, with a similarity of 0. Otherwise the only object
            always continues the only track, whatever they look like, as published.
        compat: as the authors' program does: two masks that are empty on the frame where doubles are looked for are
            doubles, ids go to objects by position, as if none had been dropped, and no track is forgotten by a tube
            without objects.
    """

    double: float = 0.7
    first_score: float = 0.2
    new_score: float = 0.5
    match: float = 0.5
    memory: int = 10
    momentum: float = 0.5
    rival: bool = True
    compat: bool = False


@dataclass(slots=True)
class _Track:
    track_id: int
    embedding_c: Tensor
    last: int


class QuasiDenseTracker:
    """Tracks by learned embeddings (Pang et al., CVPR 2021, as Wu et al., ECCV 2022, have it).

    Args:
        settings: see there.
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self._tracks: list[_Track] = []
        self._next = 0

    @property
    def alive(self) -> list[int]:
        """Tracks that can be continued."""
        return [track.track_id for track in self._tracks]

    def update(self, embeddings_nc: Tensor, scores_n: Sequence[float], masks_nhw: Tensor, frame: int) -> Ids:
        """Find the track of every object of a tube.

        Args:
            embeddings_nc: ``float[N, C]``.
            scores_n: of their classes.
            masks_nhw: ``bool[N, H, W]``, on the frame where doubles are looked for, the tube's last.
            frame: the first of the tube.
        """
        settings = self.settings
        if settings.compat and not len(masks_nhw):
            return []
        overlap_nn = _iou(masks_nhw, masks_nhw, smooth=_SMOOTH if settings.compat else 0.0)
        kept = _without_doubles(overlap_nn, settings.double)
        embeddings_nc = embeddings_nc[kept].float()
        position = self._matches(embeddings_nc)
        least = settings.new_score if self._tracks else settings.first_score
        ids: Ids = []
        for n, (old, m) in enumerate(zip(kept, position, strict=True)):
            if m is not None:
                track = self._tracks[m]
                track.embedding_c = (1 - settings.momentum) * track.embedding_c + settings.momentum * embeddings_nc[n]
                track.last = frame
                ids.append(track.track_id)
            elif scores_n[old] > least:
                ids.append(self._next)
                self._tracks.append(_Track(self._next, embeddings_nc[n], frame))
                self._next += 1
            else:
                ids.append(None)
        self._tracks = [track for track in self._tracks if frame - track.last < settings.memory]
        if settings.compat:
            return [*ids, *[None] * (len(masks_nhw) - len(ids))]
        of_kept = dict(zip(kept, ids, strict=True))
        return [of_kept.get(n) for n in range(len(masks_nhw))]

    def _matches(self, embeddings_nc: Tensor) -> list[int | None]:
        """For each object the position of its track, in the order of objects."""
        if not self._tracks or not len(embeddings_nc):
            return [None] * len(embeddings_nc)
        similarity_nm = embeddings_nc @ torch.stack([track.embedding_c for track in self._tracks]).T
        affinity_nm = bi_softmax(similarity_nm, rival=self.settings.rival)
        found: list[int | None] = []
        for row_m in affinity_nm:
            value, m = row_m.max(0)
            if value > self.settings.match:
                affinity_nm[:, m] = 0
                found.append(int(m))
            else:
                found.append(None)
        return found

    def state_dict(self) -> StateDict:
        """Tracks and numbers as plain data."""
        return {"tracks": [[t.track_id, t.embedding_c.cpu(), t.last] for t in self._tracks], "next": self._next}

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._tracks = [_Track(*plain) for plain in state["tracks"]]
        self._next = state["next"]


class NaiveTracker:
    """Tracks by the Hungarian method on cosines (MinVIS, Huang et al., NeurIPS 2022; specification §6).

    A track keeps the embedding it began with, and objects that are no more than tracks are all of them old.
    """

    def __init__(self) -> None:
        self._memory_mc: Tensor | None = None

    def update(self, embeddings_nc: Tensor, scores_n: Sequence[float], masks_nhw: Tensor, frame: int) -> Ids:
        """See `QuasiDenseTracker.update`; scores, masks and frames change nothing."""
        del scores_n, masks_nhw, frame
        if self._memory_mc is None:
            self._memory_mc = embeddings_nc.float()
            return list(range(len(embeddings_nc)))
        rows, columns = linear_sum_assignment((1 - cosine(embeddings_nc, self._memory_mc)).cpu().numpy())
        found: dict[int, int] = dict(zip(rows.tolist(), columns.tolist(), strict=True))
        new = [n for n in range(len(embeddings_nc)) if n not in found]
        found |= {n: len(self._memory_mc) + k for k, n in enumerate(new)}
        self._memory_mc = torch.cat([self._memory_mc, embeddings_nc[new].float()])
        return [found[n] for n in range(len(embeddings_nc))]

    def state_dict(self) -> StateDict:
        """The memory as plain data."""
        return {"memory": None if self._memory_mc is None else self._memory_mc.cpu()}

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._memory_mc = state["memory"]


class OverlapTracker:
    """Tracks by overlap with the tube before: what tubes are compared with, for networks without embeddings.

    Args:
        least: IoU from which two masks are of one object.
    """

    def __init__(self, least: float = 0.5) -> None:
        self._least = least
        self._masks: Tensor | None = None
        self._ids: list[int] = []
        self._next = 0

    def update(self, first_nhw: Tensor, last_nhw: Tensor) -> Ids:
        """Find the track of every object of a tube.

        Args:
            first_nhw: ``bool[N, H, W]``, on the frame that is compared with the last one of the tube before.
            last_nhw: the same on the last frame of this tube.
        """
        ids: Ids = [None] * len(first_nhw)
        if self._masks is not None and len(self._masks) and len(first_nhw):
            iou_nm = _iou(first_nhw, self._masks).cpu().numpy()
            iou_nm[iou_nm < self._least] = 0
            for n, m in zip(*linear_sum_assignment(iou_nm, maximize=True), strict=True):
                if iou_nm[n, m] > 0:
                    ids[n] = self._ids[m]
        for n, known in enumerate(ids):
            if known is None:
                ids[n], self._next = self._next, self._next + 1
        self._masks, self._ids = last_nhw, [i for i in ids if i is not None]
        return ids

    def state_dict(self) -> StateDict:
        """Masks and numbers as plain data."""
        return {"masks": self._masks, "ids": list(self._ids), "next": self._next}

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._masks, self._ids, self._next = state["masks"], list(state["ids"]), state["next"]


def _without_doubles(overlap_nn: Tensor, most: float) -> list[int]:
    """Positions that stay, in order: each overlaps no earlier one that stays by more."""
    kept: list[int] = []
    for n in range(len(overlap_nn)):
        if not kept or bool((overlap_nn[n, kept] <= most).all()):
            kept.append(n)
    return kept


def _iou(first_nhw: Tensor, second_mhw: Tensor, *, smooth: float = 0.0) -> Tensor:
    """``float[N, M]``; without ``smooth``, which is added to both parts, 0 for two masks without a pixel."""
    first, second = first_nhw.flatten(1).float(), second_mhw.flatten(1).float()
    both_nm = first @ second.T
    either_nm = first.sum(1)[:, None] + second.sum(1) - both_nm
    return (both_nm + smooth) / (either_nm + smooth).clamp(min=smooth or 1.0)


def published(settings: TrackerSettings) -> TrackerSettings:
    """The same as the authors' program has it."""
    return replace(settings, rival=False, compat=True)
