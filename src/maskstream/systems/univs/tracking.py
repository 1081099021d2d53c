"""Who is who, and whose is which pixel (UniVS, §4.2; specification §9.1).

embeddings of the last clips ─┬─ cosine with the answer of the target's own prompt ─► is it still there?
                              └─ bi-softmax with what learnable queries find ───────► is that one of them, or new?
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.mask2former.affinity import bi_softmax
from maskstream.types import StateDict

COMPARED = 3
"""Clips whose embeddings new objects are compared with, and that follow an object that is not seen."""

_ALIKE = 0.25
"""Cosine of embeddings up to which two are hardly alike."""


class Identities:
    """Embeddings of N targets in the last K clips.

    Args:
        clips: K, at least 3.
        channels: C.
        device: of all tensors.
    """

    def __init__(self, clips: int, *, channels: int, device: torch.device) -> None:
        self._clips = max(clips, COMPARED)
        self._embeddings_nkc = torch.zeros((0, self._clips, channels), device=device)
        self._there_nk = torch.zeros((0, self._clips), dtype=torch.bool, device=device)

    def __len__(self) -> int:
        """N."""
        return len(self._there_nk)

    @property
    def known_n(self) -> Tensor:
        """``bool[N]``, who was seen in any of the clips."""
        return self._there_nk.any(1)

    def similarity(self, new_ntc: Tensor) -> Tensor:
        """How much each target is like itself, ``float[N]``: cosines, later clips weighing more; 0 if it is not known.

        Args:
            new_ntc: ``float[N, T, C]``, embeddings in a clip.
        """
        cosine_nk = torch.einsum(
            "nkc,ntc->nkt", F.normalize(self._embeddings_nkc, dim=-1), F.normalize(new_ntc, dim=-1)
        ).mean(2)
        weights_k = (5 * torch.arange(self._clips, device=new_ntc.device) / self._clips).exp()
        weights_nk = weights_k * self._there_nk
        return (cosine_nk * weights_nk).sum(1) / weights_nk.sum(1).clamp(min=1e-6)

    def affinity(self, new_mtc: Tensor, *, rival: bool = True) -> Tensor:
        """How sure each target is of each candidate, and the other way round, ``float[N, M]``; see `bi_softmax`.

        Args:
            new_mtc: ``float[M, T, C]``, embeddings of candidates in a clip.
            rival: whether each may also be like none, and those that are hardly alike are not the same; otherwise the
                only candidate is always the only target.
        """
        order_nk = (self._there_nk * torch.arange(1, self._clips + 1, device=new_mtc.device)).argsort(1)
        last_nk = order_nk[:, -COMPARED:]
        # Of who was seen less often, the last sight stands for the others.
        last_nk = torch.where(self._there_nk.gather(1, last_nk), last_nk, order_nk[:, -1:])
        recent_njc = self._embeddings_nkc.gather(1, last_nk[:, :, None].expand(-1, -1, new_mtc.shape[2]))
        similarity_jtnm = torch.einsum("njc,mtc->jtnm", recent_njc, new_mtc)
        each = [bi_softmax(similarity_nm, rival=rival) for similarity_nm in similarity_jtnm.flatten(0, 1)]
        affinity_nm = torch.stack(each).mean(0)
        if not rival:
            return affinity_nm
        cosine_nm = torch.einsum("njc,mtc->nmjt", F.normalize(recent_njc, dim=-1), F.normalize(new_mtc, dim=-1))
        return affinity_nm * (cosine_nm.flatten(2).mean(2) > _ALIKE)

    def push(self, new_nc: Tensor, found_n: Tensor) -> None:
        """Go on by a clip.

        Args:
            new_nc: ``float[N, C]``; averaged with the last three where there are some.
            found_n: ``bool[N]``, who was seen.
        """
        recent_nj = self._there_nk[:, -COMPARED:]
        count_n1 = recent_nj.sum(1, keepdim=True)
        mean_nc = (self._embeddings_nkc[:, -COMPARED:] * recent_nj[..., None]).sum(1) / count_n1.clamp(min=1)
        entry_nc = torch.where(count_n1 > 0, (mean_nc + new_nc) / 2, new_nc) * found_n[:, None]
        self._embeddings_nkc = torch.cat([self._embeddings_nkc[:, 1:], entry_nc[:, None]], 1)
        self._there_nk = torch.cat([self._there_nk[:, 1:], found_n[:, None]], 1)

    def nobody(self) -> Tensor:
        """``float[N, C]``, to push where nobody was looked at."""
        return self._embeddings_nkc[:, -1]

    def mix(self, n: int, new_c: Tensor) -> None:
        """Target n was seen in the last clip in another way, too."""
        old_c = self._embeddings_nkc[n, -1]
        self._embeddings_nkc[n, -1] = (old_c + new_c) / 2 if self._there_nk[n, -1] else new_c
        self._there_nk[n, -1] = True

    def add(self, new_nc: Tensor | int) -> None:
        """Begin targets that were seen in the last clip, or so many that were not."""
        count = new_nc if isinstance(new_nc, int) else len(new_nc)
        embeddings_nkc = self._embeddings_nkc.new_zeros((count, *self._embeddings_nkc.shape[1:]))
        there_nk = self._there_nk.new_zeros((count, self._clips))
        if isinstance(new_nc, Tensor):
            embeddings_nkc[:, -1], there_nk[:, -1] = new_nc, True
        self._embeddings_nkc = torch.cat([self._embeddings_nkc, embeddings_nkc])
        self._there_nk = torch.cat([self._there_nk, there_nk])

    def forget(self, n: int) -> None:
        """What target n looked like, when it is begun anew."""
        self._there_nk[n] = False

    def keep(self, which: list[int]) -> None:
        """Forget all targets but these positions."""
        self._embeddings_nkc, self._there_nk = self._embeddings_nkc[which], self._there_nk[which]

    def state_dict(self) -> StateDict:
        """Everything as plain data."""
        return {"embeddings": self._embeddings_nkc.clone(), "there": self._there_nk.clone()}

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        device = self._there_nk.device
        self._embeddings_nkc, self._there_nk = (state[name].to(device).clone() for name in ("embeddings", "there"))


class ClipMasks:
    """Masks of N targets on the frames of a clip: sums of the logits of all clips that saw them."""

    def __init__(self) -> None:
        self._sum_nthw: Tensor | None = None
        self.votes_nt = torch.zeros((0, 0), dtype=torch.long)
        self._first = 0

    def __len__(self) -> int:
        """N."""
        return len(self.votes_nt)

    @property
    def sum_nthw(self) -> Tensor:
        """``float[N, T, h, w]``; 0 where nobody saw it."""
        assert self._sum_nthw is not None
        return self._sum_nthw

    def advance(self, first: int, frames: int, like: Tensor) -> None:
        """Go on to another clip.

        Args:
            first: position of its first frame.
            frames: T.
            like: a tensor of its device, ``[…, h, w]`` of the size of masks.
        """
        if self._sum_nthw is None:
            self._sum_nthw = like.new_zeros((0, frames, *like.shape[-2:]), dtype=torch.float32)
            self.votes_nt = torch.zeros((0, frames), dtype=torch.long, device=like.device)
        else:
            gone = first - self._first
            sum_nthw, votes_nt = self._sum_nthw[:, gone:], self.votes_nt[:, gone:]
            new = frames - sum_nthw.shape[1]
            self._sum_nthw = F.pad(sum_nthw, (0, 0, 0, 0, 0, new))
            self.votes_nt = F.pad(votes_nt, (0, new))
        self._first = first

    def vote(self, logits_nthw: Tensor, which_nt: Tensor) -> None:
        """Add what a clip says of some targets on some frames.

        Args:
            logits_nthw: ``float[N, T, h, w]``.
            which_nt: ``bool[N, T]``.
        """
        assert self._sum_nthw is not None
        self._sum_nthw = self._sum_nthw + torch.where(which_nt[..., None, None], logits_nthw, 0)
        self.votes_nt = self.votes_nt + which_nt

    def add(self, count: int) -> None:
        """Begin targets that nobody has seen."""
        assert self._sum_nthw is not None
        self._sum_nthw = torch.cat([self._sum_nthw, self._sum_nthw.new_zeros((count, *self._sum_nthw.shape[1:]))])
        self.votes_nt = torch.cat([self.votes_nt, self.votes_nt.new_zeros((count, self.votes_nt.shape[1]))])

    def put(self, n: int, t: int, logits_hw: Tensor) -> None:
        """What target n is on frame t, whatever was said of it."""
        assert self._sum_nthw is not None
        self._sum_nthw[n, t] = logits_hw
        self.votes_nt[n, t] = 1

    def clear(self, n: int, t: int) -> None:
        """What was said of target n from frame t of the clip on does not count."""
        assert self._sum_nthw is not None
        self._sum_nthw[n, t:] = 0
        self.votes_nt[n, t:] = 0

    def keep(self, which: list[int]) -> None:
        """Forget all targets but these positions."""
        if self._sum_nthw is not None:
            self._sum_nthw, self.votes_nt = self._sum_nthw[which], self.votes_nt[which]

    def state_dict(self) -> StateDict:
        """Everything as plain data."""
        total = self._sum_nthw
        return {"sum": None if total is None else total.clone(), "votes": self.votes_nt.clone(), "first": self._first}

    def load_state_dict(self, state: StateDict, device: torch.device) -> None:
        """Undo `state_dict`."""
        self._sum_nthw = None if state["sum"] is None else state["sum"].to(device).clone()
        self.votes_nt, self._first = state["votes"].to(device).clone(), state["first"]


def quality(masks_nthw: Tensor) -> Tensor:
    """How sharp masks are, ``float[N]``: the share of what is hardly inside that is clearly inside.

    Args:
        masks_nthw: ``float[N, T, h, w]``, logits.
    """
    inside_n, hardly_n = ((masks_nthw > least).flatten(1).sum(1) for least in (1, -1))
    return inside_n / hardly_n.clamp(min=1)


def contested(masks_nthw: Tensor, weights_n: Tensor) -> tuple[Tensor, Tensor]:
    """Every pixel to the target with the greatest weight times probability, among those whose masks have it.

    Args:
        masks_nthw: ``float[N, T, h, w]``, logits.
        weights_n: ``float[N]``; who has none takes nothing.

    Returns:
        ``bool[N, T, h, w]``, what each target gets; and ``float[N]``, which share of its own mask that is.
    """
    own_nthw = masks_nthw > 0
    if not len(masks_nthw):
        return own_nthw, weights_n
    winner_thw = (masks_nthw.sigmoid() * weights_n.clamp(min=0)[:, None, None, None]).argmax(0)
    numbers_n = torch.arange(len(masks_nthw), device=masks_nthw.device)
    won_nthw = own_nthw & (winner_thw == numbers_n[:, None, None, None]) & (weights_n > 0)[:, None, None, None]
    share_n = won_nthw.flatten(1).sum(1) / own_nthw.flatten(1).sum(1).clamp(min=1)
    return won_nthw, share_n


def box_overlap(masks_nthw: Tensor) -> Tensor:
    """IoU of the boxes around masks, the greatest of all frames, ``float[N, N]``.

    Args:
        masks_nthw: ``bool[N, T, h, w]``.
    """
    sides = []
    for across in (2, 3):  # of columns first, then of rows
        there_ntl = masks_nthw.any(across)
        first_nt = there_ntl.int().argmax(2)
        sides.append((first_nt, there_ntl.shape[2] - there_ntl.flip(2).int().argmax(2)))
    there_nt = masks_nthw.flatten(2).any(2)
    ((left_nt, right_nt), (top_nt, bottom_nt)) = sides
    width_nnt, height_nnt = (
        (torch.minimum(stop[:, None], stop) - torch.maximum(start[:, None], start)).clamp(min=0)
        for start, stop in ((left_nt, right_nt), (top_nt, bottom_nt))
    )
    both_nnt = width_nnt * height_nnt * (there_nt[:, None] & there_nt)
    area_nt = (right_nt - left_nt) * (bottom_nt - top_nt) * there_nt
    either_nnt = area_nt[:, None] + area_nt - both_nnt
    iou_nnt = both_nnt / either_nnt.clamp(min=1)
    return iou_nnt.max(2).values if masks_nthw.shape[1] else iou_nnt.sum(2)


def without_doubles(overlap_nn: Tensor, most: float) -> list[int]:
    """Positions of those that no earlier one overlaps so much, dropped ones among these (specification, T17).

    Args:
        overlap_nn: ``float[N, N]``, in falling order of scores.
        most: from which on two are doubles.
    """
    return (~(overlap_nn.tril(-1) >= most).any(1)).nonzero()[:, 0].tolist() if len(overlap_nn) else []
