"""What has a name, found and followed: instances, panoptic regions, classes of pixels (UniVS, §4.2; specification §9).

a clip ─┬─► queries of what is known ─► still the same? ─► its mask here ────────────┬─► results
        └─► learnable queries ─► sure and no doubles ─► known, like it, or new? ─────┘
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maskstream.mask2former.affinity import assigned, mask_overlap
from maskstream.mask2former.clips import Clip
from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.postprocess import by_score, masks_at_source, owners, surest_class
from maskstream.pretrained import Pixels
from maskstream.regions import ClassRegions
from maskstream.types import (
    CategorySet,
    Event,
    Frame,
    FrameSegmentation,
    InputError,
    LabelMap,
    Prompt,
    StateDict,
    Task,
    Track,
    pack_masks,
)

from .network import Answers, ClipMaps, UniVSNetwork
from .regions import class_values
from .session import TargetSession
from .settings import FEW_SCORES, UniVSSettings
from .tracking import box_overlap, contested, quality, without_doubles

_FIRST_LEAST = 0.1
"""Of the score of instances on the first clip."""

_NEW = 0.5
"""Overlap with what is known from which nothing is new."""

_STUFF, _THINGS = 0.3, 0.7
"""Shares of panoptic candidates."""

_STUFF_DOUBLE = 0.6
"""IoU of masks of stuff from which of two the less sure one goes."""

_STUFF_WEIGHT = 0.75
"""Of the score of stuff against that of things."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """M that learnable queries found, the surest first.

    Attributes:
        masks_mthw: ``float[M, T, h, w]``, logits.
        embeddings_mtc: ``float[M, T, C]``.
        classes_mk: ``float[M, K]``, scores.
        sharp_m: ``float[M]``, quality of masks.
        scores_m: ``float[M]``, of the surest class, times quality.
    """

    masks_mthw: Tensor
    embeddings_mtc: Tensor
    classes_mk: Tensor
    sharp_m: Tensor
    scores_m: Tensor


class CategorySession(TargetSession):
    """One video in which everything of some categories is looked for.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        task: "vis", "vps" or "vss".
        categories: K, what is looked for.
        names_kd: ``float[K, D]``, embeddings of their names.
        size_hw: of the video.
        settings: see there.
        seed: see `TargetSession`.

    Raises:
        InputError: clips have no frame or do not meet, or for instances there is only stuff.
    """

    def __init__(
        self,
        network: UniVSNetwork,
        pixels: Pixels,
        *,
        task: Task,
        categories: CategorySet,
        names_kd: Tensor,
        size_hw: tuple[int, int],
        settings: UniVSSettings,
        seed: int = 0,
    ) -> None:
        super().__init__(network, pixels, task=task, size_hw=size_hw, settings=settings, seed=seed)
        wanted = [k for k, c in enumerate(categories.categories) if task is not Task.VIS or c.is_thing is not False]
        if not wanted:
            raise InputError(f"instances are of things, and all categories of {categories.name} are stuff: name others")
        self._categories = [categories.categories[k] for k in wanted]
        self._names_kd = names_kd[wanted].to(self._device)
        self._stuff_k = torch.tensor([c.is_thing is False for c in self._categories], device=self._device)
        self._regions = ClassRegions(dict(enumerate(self._categories)))
        self._answers: Answers | None = None
        # Of each target: sums of class scores and of quality, and how many clips these are of.
        self._scores_nk = torch.zeros((0, len(wanted)), device=self._device)
        self._sharp_n = torch.zeros(0, device=self._device)
        self._clips_n = torch.zeros(0, device=self._device)
        self._told_scores: dict[int, dict[int, float]] = {}
        self._next_look = 0

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Nothing can be pointed at where everything is looked for.

        Raises:
            InputError: something is.
        """
        if prompts:
            raise InputError(
                f"the task {self._task.value} looks for categories and takes no prompts: name classes, or use the "
                "tasks vos, pvos or refvos"
            )

    def remove(self, object_ids: Sequence[int]) -> None:
        """See `TargetSession.remove`; regions of classes go at once."""
        if self._task is Task.VSS:
            self._regions.remove(object_ids)
        else:
            super().remove(object_ids)

    def tracks(self) -> list[Track]:
        """Every object that was ever visible. Instances have the scores of all classes, means over the video."""
        if self._task is Task.VSS:
            return self._regions.tracks()
        tracks = self._objects.tracks()
        if self._task is Task.VPS:
            return tracks
        scores = self._told_scores | {
            key: self._all_scores(scores_k) for key, scores_k in zip(self._keys, self._final_scores(), strict=True)
        }
        return [replace(track, category_scores=scores.get(track.track_id) or track.category_scores) for track in tracks]

    def state_dict(self) -> StateDict:
        """See `TargetSession.state_dict`."""
        return super().state_dict() | {
            "regions": self._regions.state_dict(),
            "scores": [self._scores_nk, self._sharp_n, self._clips_n],
            "told_scores": [[key, list(scores.items())] for key, scores in self._told_scores.items()],
            "next_look": self._next_look,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        super().load_state_dict(state)
        self._regions.load_state_dict(state["regions"])
        self._scores_nk, self._sharp_n, self._clips_n = (x.to(self._device) for x in state["scores"])
        self._told_scores = {key: dict(scores) for key, scores in state["told_scores"]}
        self._next_look = state["next_look"]

    def _before(self, frame: Frame, *, force_key: bool) -> None:
        if force_key:
            self._next_look = 0

    def _wants_more(self) -> bool:
        return self._task is Task.VSS

    # Clips.

    def _decode(self, clip: Clip[ClipFeatures]) -> None:
        maps = self._network.maps(ClipFeatures.joined(clip.encoded), clip.times_t)
        if self._task is Task.VSS:
            (self._answers,) = self._network.decode(maps)
            return
        by_prompt = self._settings.tracking == "prompt"
        self._renew(clip, maps, tokens=by_prompt)
        prompts = self._visual_prompts(clip) if by_prompt and self._keys else None
        (answers,) = self._network.decode(maps, prompts, separation=self._settings.separation)
        learnable = self._network.queries
        seen_n = torch.zeros(len(self._keys), dtype=torch.bool, device=self._device)
        if prompts is not None:
            seen_n = self._follow(clip, answers[learnable:])
        else:
            self._identities.push(self._identities.nobody(), seen_n)
        found, new = None, list[int]()
        if clip.first >= self._next_look or not by_prompt:
            self._next_look = clip.first + self._settings.detect_every
            found = self._candidates(answers[:learnable])
            seen_n, new = self._recognised(clip, found, seen_n)
        seen = {self._keys[n] for n in seen_n.nonzero()[:, 0].tolist()}
        if found is not None and new:
            seen |= self._begin(clip, maps, found, new)
        scores_n, labels_n = (x.tolist() for x in self._final_scores().max(1))
        for key, score, label in zip(self._keys, scores_n, labels_n, strict=True):
            if key in seen:
                self._objects[key].vote(self._categories[label].id, score)

    def _follow(self, clip: Clip[ClipFeatures], found: Answers) -> Tensor:
        """What the prompts of targets say; who is seen, ``bool[N]`` (specification §9.1, 2)."""
        masks_nthw = found.masks_qthw.float()
        classes_nk = self._network.class_logits(found, self._names_kd).sigmoid()
        similarity_n, sharp_n = self._identities.similarity(found.embeddings_qtc), quality(masks_nthw)
        halved = clip.first < self._clips.frames
        seen_n = similarity_n > self._rules.similarity / (2 if halved else 1)
        seen_n &= (masks_nthw > 0).flatten(1).any(1)
        if self._task is Task.VIS:
            before_n = self._class_means().max(1).values
            _, share_n = contested(masks_nthw, before_n * similarity_n * sharp_n * seen_n)
            seen_n &= share_n > self._rules.share
        self._identities.push(found.embeddings_qtc.mean(1), seen_n)
        self._note(seen_n, classes_nk, sharp_n)
        there_nt = (masks_nthw > 0).flatten(2).any(2)
        self._masks.vote(masks_nthw, seen_n[:, None] & there_nt)
        return seen_n

    def _candidates(self, found: Answers) -> Candidates:
        """What learnable queries found, without doubles (specification §9.1, 3)."""
        classes_qk = self._network.class_logits(found, self._names_kd).sigmoid()
        best_q, labels_q = classes_qk.max(1)
        masks_qthw = found.masks_qthw.float()
        sharp_q = quality(masks_qthw)
        scores_q = best_q * sharp_q
        possible_q = (masks_qthw > 0).flatten(1).any(1)
        rules = self._rules
        if self._task is Task.VIS:
            kept = self._distinct(masks_qthw, scores_q, possible_q & (sharp_q > self._settings.sharp), rules.candidates)
        else:
            stuff_q = self._stuff_k[labels_q]
            things = self._distinct(masks_qthw, scores_q, possible_q & ~stuff_q, round(_THINGS * rules.candidates))
            stuff = by_score(scores_q, possible_q & stuff_q)[: round(_STUFF * rules.candidates)]
            inside = masks_qthw[stuff] > 0
            stuff = stuff[without_doubles(mask_overlap(inside, inside), _STUFF_DOUBLE)]
            kept = torch.cat([things, stuff])
            kept = kept[scores_q[kept].argsort(descending=True, stable=True)]
        return Candidates(masks_qthw[kept], found.embeddings_qtc[kept], classes_qk[kept], sharp_q[kept], scores_q[kept])

    def _distinct(self, masks_qthw: Tensor, scores_q: Tensor, possible_q: Tensor, most: int) -> Tensor:
        """Queries whose boxes no surer one has, the surest first."""
        order = by_score(scores_q, possible_q)[:most]
        return order[without_doubles(box_overlap(masks_qthw[order] > 0), self._rules.double)]

    def _recognised(self, clip: Clip[ClipFeatures], found: Candidates, seen_n: Tensor) -> tuple[Tensor, list[int]]:
        """Give candidates that are known to their targets; who is seen now, and positions of those that are new."""
        rules, is_vis = self._rules, self._task is Task.VIS
        affinity_nm = self._identities.affinity(found.embeddings_mtc, rival=self._settings.rival)
        target_of = assigned(affinity_nm, rules.match)
        clearly = 2 * rules.match if is_vis else rules.match
        clear_nt = torch.zeros_like(self._masks.votes_nt, dtype=torch.bool)
        logits_nthw = torch.zeros_like(self._masks.sum_nthw)
        classes_nk, sharp_n = torch.zeros_like(self._scores_nk), torch.zeros_like(self._sharp_n)
        matched_n = torch.zeros_like(seen_n)
        for m, n in target_of.items():
            self._identities.mix(n, found.embeddings_mtc[m].mean(0))
            classes_nk[n], sharp_n[n], matched_n[n] = found.classes_mk[m], found.sharp_m[m], True
            if affinity_nm[n, m] > clearly:
                logits_nthw[n] = found.masks_mthw[m]
                clear_nt[n] = (found.masks_mthw[m] > 0).flatten(1).any(1)
        self._note(matched_n, classes_nk, sharp_n)
        self._masks.vote(logits_nthw, clear_nt)
        least = rules.min_score
        if is_vis and not clip.first:
            least = max(least, _FIRST_LEAST)
        if not is_vis and clip.first:
            least = 2 * least
        # In the authors' program instances that are not clearly the target's may be new ones, too.
        known = {m for m, n in target_of.items() if not self._settings.compat or affinity_nm[n, m] > clearly}
        overlap_mn = mask_overlap(found.masks_mthw > 0, self._masks.sum_nthw > 0)
        taken_m = (overlap_mn >= _NEW).any(1)
        new = [
            m
            for m, score in enumerate(found.scores_m.tolist())
            if m not in known and score > least and not bool(taken_m[m])
        ]
        return seen_n | clear_nt.any(1), new

    def _begin(self, clip: Clip[ClipFeatures], maps: ClipMaps, found: Candidates, new: list[int]) -> set[int]:
        """Follow what is new, and forget others where these are too many; the new tracks."""
        self._make_room(len(new))
        room = self._settings.most - len(self._keys)
        self._events += [Event("refused", None, f"{self._settings.most} objects are followed already")] * max(
            len(new) - room, 0
        )
        new = new[: max(room, 0)]
        masks_mthw = found.masks_mthw[new]
        there_mt = (masks_mthw > 0).flatten(2).any(2)
        before = len(self._keys)
        for m in new:
            is_thing = self._categories[int(found.classes_mk[m].argmax())].is_thing
            record = self._objects.add(is_thing=is_thing)
            self._keys.append(record.track_id)
            self._events.append(Event("born", record.track_id, "found, and like nothing before"))
        of_frames = [self._mask_tokens(clip, maps.prompt_map(t), masks_mthw[:, t]) for t in range(len(clip.frames))]
        first_t = there_mt.int().argmax(1)
        self._pool.add(of_frames, (clip.first + first_t).tolist())
        self._identities.add(found.embeddings_mtc[new].mean(1))
        self._masks.add(len(new))
        older = (before, *masks_mthw.shape[1:])
        self._masks.vote(
            torch.cat([masks_mthw.new_zeros(older), masks_mthw]),
            torch.cat([there_mt.new_zeros((before, there_mt.shape[1])), there_mt]),
        )
        self._scores_nk = torch.cat([self._scores_nk, found.classes_mk[new]])
        self._sharp_n = torch.cat([self._sharp_n, found.sharp_m[new]])
        self._clips_n = torch.cat([self._clips_n, torch.ones(len(new), device=self._device)])
        return set(self._keys[before:])

    def _make_room(self, wanted: int) -> None:
        """Forget who was not seen longest, but nobody who is on the clip."""
        over = len(self._keys) + wanted - self._settings.most
        if over <= 0:
            return
        absent = [n for n in range(len(self._keys)) if not bool(self._masks.votes_nt[n].any())]
        gone = set(sorted(absent, key=lambda n: self._objects[self._keys[n]].last or 0)[:over])
        scores_nk = self._final_scores()
        self._told_scores |= {self._keys[n]: self._all_scores(scores_nk[n]) for n in gone}
        self._events += [Event("deleted", self._keys[n], "not seen for longest, and there is no room") for n in gone]
        kept = [n for n in range(len(self._keys)) if n not in gone]
        self._keep(kept)
        self._scores_nk, self._sharp_n, self._clips_n = self._scores_nk[kept], self._sharp_n[kept], self._clips_n[kept]

    # Scores.

    def _note(self, which_n: Tensor, classes_nk: Tensor, sharp_n: Tensor) -> None:
        self._scores_nk = self._scores_nk + classes_nk * which_n[:, None]
        self._sharp_n = self._sharp_n + sharp_n * which_n
        self._clips_n = self._clips_n + which_n

    def _class_means(self) -> Tensor:
        """``float[N, K]``, scores of classes so far; none for those of the other kind, as things stay things."""
        means_nk = self._scores_nk / self._clips_n.clamp(min=1)[:, None]
        is_stuff_n = torch.tensor([self._objects[key].is_thing is False for key in self._keys], device=self._device)
        return means_nk * (is_stuff_n[:, None] == self._stuff_k) if self._keys else means_nk

    def _final_scores(self) -> Tensor:
        """``float[N, K]``, of classes so far, times the quality of masks."""
        return self._class_means() * (self._sharp_n / self._clips_n.clamp(min=1))[:, None]

    def _all_scores(self, scores_k: Tensor) -> dict[int, float]:
        """Of every class that a target may be, by category."""
        told = {self._categories[k].id: score for k, score in enumerate(scores_k.tolist()) if score >= FEW_SCORES}
        return told or {self._categories[int(scores_k.argmax())].id: float(scores_k.max())}

    # Results.

    def _result(self, clip: Clip[ClipFeatures], t: int) -> FrameSegmentation:
        if self._task is Task.VSS:
            return self._semantic(clip, t)
        shown = [
            n
            for n, key in enumerate(self._keys)
            if bool(self._masks.votes_nt[n, t]) and self._shown(key, clip.first + t)
        ]
        return (self._instances if self._task is Task.VIS else self._panoptic)(clip, t, shown)

    def _instances(self, clip: Clip[ClipFeatures], t: int, shown: list[int]) -> FrameSegmentation:
        """Each by itself; they may overlap."""
        frame = clip.frames[t]
        masks_nhw = masks_at_source(self._masks.sum_nthw[shown, t], clip.sizes)
        visible = masks_nhw.flatten(1).any(1).nonzero()[:, 0].tolist()
        keys = [self._keys[shown[n]] for n in visible]
        for key in keys:
            self._objects[key].seen(frame.index)
        segments, _, renamed = self._objects.segments(keys)
        masks = pack_masks(masks_nhw[visible])
        return FrameSegmentation(frame.index, self._size_hw, segments, masks, events=(*self._told(), *renamed))

    def _panoptic(self, clip: Clip[ClipFeatures], t: int, shown: list[int]) -> FrameSegmentation:
        """Disjoint; stuff of a class is one (specification §9.3)."""
        frame = clip.frames[t]
        records = [self._objects[self._keys[n]] for n in shown]
        kinds = [_STUFF_WEIGHT if record.is_thing is False else 1.0 for record in records]
        weights_n = self._final_scores()[shown].amax(1) * torch.tensor(kinds, device=self._device)
        owner_hw, own_n = owners(self._masks.sum_nthw[shown, t], weights_n, clip.sizes)
        won = torch.bincount(owner_hw.flatten(), minlength=len(shown) + 1)[1:].tolist()
        kept = []
        for n, (record, pixels, own) in enumerate(zip(records, won, own_n.tolist(), strict=True)):
            least = 0.0 if record.is_thing is False else self._rules.share / (1 if record.first is None else 2)
            if pixels and pixels >= least * own:
                record.seen(frame.index)
                kept.append(n)
        segments, labels, renamed = self._objects.segments([records[n].track_id for n in kept])
        number_n = torch.zeros(len(shown) + 1, dtype=torch.int32, device=owner_hw.device)
        number_n[[n + 1 for n in kept]] = torch.tensor(labels[1:], dtype=torch.int32, device=owner_hw.device)
        masks = LabelMap(number_n[owner_hw])
        return FrameSegmentation(frame.index, self._size_hw, segments, masks, events=(*self._told(), *renamed))

    def _semantic(self, clip: Clip[ClipFeatures], t: int) -> FrameSegmentation:
        """Every pixel to the class that learnable queries are surest of (specification §9.4)."""
        assert self._answers is not None
        masks_qthw = self._answers.masks_qthw.float()
        scores_qk = self._network.class_logits(self._answers, self._names_kd).sigmoid() * quality(masks_qthw)[:, None]
        height, width = clip.sizes.content_hw
        values_khw = class_values(scores_qk, masks_qthw[:, t], clip.sizes.padded_hw)[:, :height, :width]
        labels_hw, _ = surest_class(values_khw, clip.sizes.source_hw)
        return self._regions.result(clip.frames[t].index, labels_hw)
