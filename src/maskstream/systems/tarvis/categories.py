"""What has a name, in clips that are joined: instances, regions, classes of pixels (specification §9.1 to 9.4).

a clip ─► queries ─┬─► sure things ─► same place as one of the clip before, where both see it? ─► its id, or a new one
                   └─► logits of classes, averaged where clips overlap ─► stuff ─► things painted on top
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.mask2former.affinity import assigned, mask_overlap
from maskstream.mask2former.clips import Clip
from maskstream.mask2former.postprocess import by_score, masks_at_source, owners
from maskstream.mask2former.prediction import ClipPrediction
from maskstream.pretrained import Pixels
from maskstream.regions import ClassRegions
from maskstream.types import (
    Category,
    CategorySet,
    Event,
    FrameSegmentation,
    InputError,
    LabelMap,
    Prompt,
    StateDict,
    Task,
    Track,
    pack_masks,
)

from .network import Maps, TarViSNetwork
from .session import TarViSSession
from .settings import SAME, TarViSSettings

_FEW = 0.005
"""Score from which a class of a track is told; below, it is nobody's."""

_NOWHERE = -1000.0
"""Logit of a mask on a frame on which it does not count."""


@dataclass(slots=True, eq=False)
class Thing:
    """Something that was found on the last clips.

    Attributes:
        track_id: of it.
        logits_thw: ``float[T, h, w]``, its mask on the frames of the last clip that have not left before it.
        classes_c: ``float[K + 1]``, sum of the logits of all clips that found it; the last is "nothing".
        clips: how many these are.
        lives: whether the last clip found it; otherwise it is only shown until its frames have left.
    """

    track_id: int
    logits_thw: Tensor = field(repr=False)
    classes_c: Tensor = field(repr=False)
    clips: int = 1
    lives: bool = True

    def go_on(self, classes_c: Tensor, logits_thw: Tensor, *, seen: int, average: bool) -> None:
        """A clip found it again.

        Args:
            classes_c: what the clip says of classes.
            logits_thw: and of all its frames.
            seen: so many of them are known.
            average: whether masks there are averaged, or stay as they are.
        """
        known_thw = self.logits_thw[:seen]
        kept_thw = (known_thw + logits_thw[:seen]) / 2 if average else known_thw
        self.logits_thw = torch.cat([kept_thw, logits_thw[seen:]])
        self.classes_c = self.classes_c + classes_c
        self.clips, self.lives = self.clips + 1, True

    def scores(self) -> Tensor:
        """``float[K + 1]``, probabilities by the mean over clips (specification §9.1)."""
        return (self.classes_c / self.clips).softmax(0)


class CategorySession(TarViSSession):
    """One video in which everything of some categories is looked for.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        task: "vis", "vps" or "vss".
        label_space: in which it is asked.
        own: what its classes mean.
        shown: what each class that is shown is called, by its number.
        size_hw: of the video.
        settings: see there.

    Raises:
        InputError: clips have no frame or do not meet, or for instances there is only stuff.
    """

    def __init__(
        self,
        network: TarViSNetwork,
        pixels: Pixels,
        *,
        task: Task,
        label_space: str,
        own: CategorySet,
        shown: Mapping[int, Category],
        size_hw: tuple[int, int],
        settings: TarViSSettings,
    ) -> None:
        super().__init__(network, pixels, size_hw=size_hw, settings=settings)
        self._task = task
        self._label_space = label_space
        self._shown_classes = dict(shown)
        self._least = settings.least(task)
        is_thing_k = [category.is_thing is not False for category in own.categories]
        self._things = [k for k in shown if is_thing_k[k]]
        self._stuff = [k for k in shown if not is_thing_k[k]]
        if task is Task.VIS and not self._things:
            raise InputError(f"instances are of things, and all of {own.name} that is asked for is stuff: name others")
        # Pixels are of these classes, or of nobody.
        self._painted = {Task.VIS: [], Task.VPS: self._stuff, Task.VSS: list(shown)}[task]
        if task is Task.VPS and settings.void:
            self._painted = list(shown)
        self._regions = ClassRegions(shown)
        self._found: list[Thing] = []
        self._told_scores: dict[int, dict[int, float]] = {}
        self._track_of_stuff: dict[int, int] = {}
        # Sums of logits of pixels, and of how many clips, of the frames of the last clip.
        self._pixels_kthw: Tensor | None = None
        self._votes_t = torch.zeros(0, device=self._device)
        self._first = 0

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Nothing can be pointed at where everything is looked for.

        Raises:
            InputError: something is.
        """
        if prompts:
            raise InputError(
                f"the task {self._task.value} looks for categories and takes no prompts: name classes, or use the "
                "tasks vos or pvos"
            )

    def remove(self, object_ids: Sequence[int]) -> None:
        """See `ClipSession.remove`; regions of classes go at once."""
        if self._task is Task.VSS:
            self._regions.remove(object_ids)
        else:
            super().remove(object_ids)

    def tracks(self) -> list[Track]:
        """Every object that was ever visible. Instances have the scores of all classes, by the mean over clips."""
        if self._task is Task.VSS:
            return self._regions.tracks()
        tracks = self._objects.tracks()
        if self._task is Task.VPS:
            return tracks
        scores = self._told_scores | {thing.track_id: self._all_scores(thing) for thing in self._found}
        return [replace(track, category_scores=scores.get(track.track_id) or track.category_scores) for track in tracks]

    def state_dict(self) -> StateDict:
        """Everything the next step depends on."""
        return super().state_dict() | {
            "regions": self._regions.state_dict(),
            "found": [
                [thing.track_id, thing.logits_thw.clone(), thing.classes_c.clone(), thing.clips, thing.lives]
                for thing in self._found
            ],
            "told_scores": [[key, list(scores.items())] for key, scores in self._told_scores.items()],
            "stuff": [list(pair) for pair in self._track_of_stuff.items()],
            "pixels": None if self._pixels_kthw is None else self._pixels_kthw.clone(),
            "votes": self._votes_t.clone(),
            "first": self._first,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        super().load_state_dict(state)
        self._regions.load_state_dict(state["regions"])
        self._found = [
            Thing(track_id, logits_thw.to(self._device).clone(), classes_c.to(self._device).clone(), clips, lives)
            for track_id, logits_thw, classes_c, clips, lives in state["found"]
        ]
        self._told_scores = {key: dict(scores) for key, scores in state["told_scores"]}
        self._track_of_stuff = dict(state["stuff"])
        self._pixels_kthw = None if state["pixels"] is None else state["pixels"].to(self._device).clone()
        self._votes_t, self._first = state["votes"].to(self._device).clone(), state["first"]

    # Clips.

    def _decode(self, clip: Clip[Maps]) -> None:
        (answers,) = self._network.categories(self._features(clip), self._label_space)
        if self._task is not Task.VSS:
            self._join(clip, answers.instances)
        if self._painted:
            self._count(clip, answers.semantic_bkthw[0, self._painted].float())
        self._first = clip.first

    def _join(self, clip: Clip[Maps], answers: ClipPrediction) -> None:
        """Things of a clip are those of the clip before that are in the same place, or new (specification §9.1)."""
        seen, before = clip.seen, [thing for thing in self._found if thing.lives]
        for thing in self._found:
            # Where clips only touch, the last frame of the one stands for the first of the other.
            thing.logits_thw, thing.lives = thing.logits_thw[-max(seen, 1) :], False
        classes_mc, masks_mthw = self._candidates(answers)
        pairs = self._same(before, masks_mthw)
        for m, (classes_c, logits_thw) in enumerate(zip(classes_mc, masks_mthw, strict=True)):
            if (n := pairs.get(m)) is not None:
                before[n].go_on(classes_c, logits_thw, seen=seen, average=self._settings.average)
                thing = before[n]
            else:
                if self._settings.compat:
                    logits_thw[:seen] = _NOWHERE
                thing = Thing(self._objects.add(is_thing=True).track_id, logits_thw, classes_c)
                self._found.append(thing)
                self._events.append(Event("born", thing.track_id, "found where nothing was known"))
            if (told := self._category(thing)) is not None:
                self._objects[thing.track_id].vote(self._shown_classes[told[0]].id, told[1])
        for thing in self._found:
            if not thing.lives:
                after = (0, 0, 0, 0, 0, len(clip.frames) - seen)
                thing.logits_thw = F.pad(thing.logits_thw[:seen], after, value=_NOWHERE)
        over = [thing for thing in self._found if not thing.lives and not bool((thing.logits_thw > 0).any())]
        self._told_scores |= {thing.track_id: self._all_scores(thing) for thing in over}
        self._found = [thing for thing in self._found if thing not in over]

    def _candidates(self, answers: ClipPrediction) -> tuple[Tensor, Tensor]:
        """Classes ``float[M, K + 1]`` and masks ``float[M, T, h, w]`` of queries that are sure, the surest first."""
        classes_qc = answers.classes_bqc[0].float()
        scores_q = classes_qc.softmax(1)[:, self._things if self._task is Task.VIS else slice(-1)].max(1).values
        sure_q = scores_q >= self._least
        if not self._settings.compat:  # who is nowhere needs no number
            sure_q &= (answers.masks_bqthw[0] > 0).flatten(1).any(1)
        order_m = by_score(scores_q, sure_q)
        if self._task is Task.VIS:
            order_m = order_m[: self._settings.most]
        return classes_qc[order_m], answers.masks_bqthw[0, order_m].float()

    def _same(self, before: Sequence[Thing], masks_mthw: Tensor) -> dict[int, int]:
        """For things of a clip, the position of what they are among those of the clip before."""
        if not before or not len(masks_mthw):
            return {}
        known_nthw = torch.stack([thing.logits_thw for thing in before]) > 0
        found_mthw = masks_mthw[:, : known_nthw.shape[1]] > 0
        overlap_nm = mask_overlap(known_nthw, found_mthw)
        if self._settings.compat:  # two that have both left are the same
            empty_n, empty_m = (~x.flatten(1).any(1) for x in (known_nthw, found_mthw))
            overlap_nm = torch.where(empty_n[:, None] & empty_m, 1.0, overlap_nm)
        return assigned(overlap_nm, SAME)

    def _count(self, clip: Clip[Maps], logits_kthw: Tensor) -> None:
        """Add what a clip says of pixels; what two clips say is averaged (specification §9.2)."""
        frames = len(clip.frames)
        if self._pixels_kthw is None or not clip.seen:
            self._pixels_kthw, self._votes_t = logits_kthw, logits_kthw.new_ones(frames)
            return
        kept_kthw, kept_t = self._pixels_kthw[:, -clip.seen :], self._votes_t[-clip.seen :]
        new = frames - clip.seen
        self._pixels_kthw = F.pad(kept_kthw, (0, 0, 0, 0, 0, new)) + logits_kthw
        self._votes_t = F.pad(kept_t, (0, new)) + 1

    # Scores.

    def _category(self, thing: Thing) -> tuple[int, float] | None:
        """The class of a thing by now, and how sure that is; None if it is none that is shown."""
        scores_c = thing.scores()
        if self._task is Task.VIS:
            label = max(self._things, key=lambda k: float(scores_c[k]))
        else:
            label = int(scores_c.argmax())  # it may be nothing, or stuff (specification §9.4)
        score = float(scores_c[label])
        return (label, score) if label in self._things and score >= self._least else None

    def _all_scores(self, thing: Thing) -> dict[int, float]:
        """Of every class that an instance may be, by category."""
        scores = thing.scores().tolist()
        told = {self._shown_classes[k].id: scores[k] for k in self._things if scores[k] >= _FEW}
        best = max(self._things, key=lambda k: scores[k])
        return told or {self._shown_classes[best].id: scores[best]}

    # Results.

    def _result(self, clip: Clip[Maps], t: int) -> FrameSegmentation:
        if self._task is Task.VSS:
            return self._regions.result(clip.frames[t].index, self._surest(clip, t) - 1)
        return (self._instances if self._task is Task.VIS else self._panoptic)(clip, t)

    def _there(self, clip: Clip[Maps], t: int) -> tuple[list[Thing], list[tuple[int, float]], Tensor]:
        """Things on a frame, the surest first: their classes and scores, and their masks ``bool[N, H, W]``."""
        position = clip.first + t
        known = [(thing, self._category(thing)) for thing in self._found if self._shown(thing.track_id, position)]
        sure = sorted(((thing, told) for thing, told in known if told is not None), key=lambda pair: -pair[1][1])
        logits = [thing.logits_thw[position - self._first] for thing, _ in sure]
        nothing = torch.zeros((0, *self._size_hw), dtype=torch.bool, device=self._device)
        masks_nhw = masks_at_source(torch.stack(logits), clip.sizes) if logits else nothing
        return [thing for thing, _ in sure], [told for _, told in sure], masks_nhw

    def _instances(self, clip: Clip[Maps], t: int) -> FrameSegmentation:
        """Those of one class are disjoint, the surer one first; others may overlap (specification §9.3)."""
        frame = clip.frames[t]
        things, told, masks_nhw = self._there(clip, t)
        taken: dict[int, Tensor] = {}
        for n, (label, _) in enumerate(told):
            if label in taken:
                masks_nhw[n] &= ~taken[label]
            taken[label] = masks_nhw[n] | taken.get(label, masks_nhw[n])
        visible = masks_nhw.flatten(1).any(1).nonzero()[:, 0].tolist()
        keys = [things[n].track_id for n in visible]
        for key in keys:
            self._objects[key].seen(frame.index)
        segments, _, renamed = self._objects.segments(keys)
        masks = pack_masks(masks_nhw[visible])
        return FrameSegmentation(frame.index, self._size_hw, segments, masks, events=(*self._told(), *renamed))

    def _panoptic(self, clip: Clip[Maps], t: int) -> FrameSegmentation:
        """Stuff, and things painted on it, the surest last (specification §9.4)."""
        frame = clip.frames[t]
        owner_hw, keys = self._stuff_regions(clip, t)
        things, _, masks_nhw = self._there(clip, t)
        for thing, mask_hw in reversed(list(zip(things, masks_nhw, strict=True))):
            keys.append(thing.track_id)
            owner_hw[mask_hw] = len(keys)
        visible = [n for n in owner_hw.flatten().bincount().nonzero()[:, 0].tolist() if n]
        for n in visible:
            self._objects[keys[n - 1]].seen(frame.index)
        segments, labels, renamed = self._objects.segments([keys[n - 1] for n in visible])
        number_n = torch.zeros(len(keys) + 1, dtype=torch.int32, device=self._device)
        number_n[visible] = torch.tensor(labels[1:], dtype=torch.int32, device=self._device)
        masks = LabelMap(number_n[owner_hw])
        return FrameSegmentation(frame.index, self._size_hw, segments, masks, events=(*self._told(), *renamed))

    def _stuff_regions(self, clip: Clip[Maps], t: int) -> tuple[Tensor, list[int]]:
        """Whose stuff each pixel is, ``int64[H, W]``: n for the n-th track (from 1), 0 nobody's; and the tracks."""
        surest_hw = self._surest(clip, t)
        keys: list[int] = []
        number_p = torch.zeros(len(self._painted) + 1, dtype=torch.long, device=self._device)
        for p in surest_hw.flatten().bincount().nonzero()[:, 0].tolist():
            if p and (label := self._painted[p - 1]) in self._stuff:
                track_id = self._track_of(label)
                if self._shown(track_id, clip.first + t):
                    keys.append(track_id)
                    number_p[p] = len(keys)
        return number_p[surest_hw], keys

    def _track_of(self, label: int) -> int:
        """The track of a class of stuff; one a video."""
        if label not in self._track_of_stuff:
            record = self._objects.add(is_thing=False)
            record.vote(self._shown_classes[label].id, None)
            self._track_of_stuff[label] = record.track_id
            self._events.append(Event("born", record.track_id, "the first pixel of its class"))
        return self._track_of_stuff[label]

    def _surest(self, clip: Clip[Maps], t: int) -> Tensor:
        """Of each pixel the class with the greatest mean, ``int64[H, W]``: p for the p-th (from 1) that is painted."""
        if self._pixels_kthw is None:
            return torch.zeros(self._size_hw, dtype=torch.long, device=self._device)
        at = clip.first + t - self._first
        values_khw = self._pixels_kthw[:, at] / self._votes_t[at]
        positive_khw = values_khw - values_khw.min() + 1  # so that every pixel is somebody's
        surest_hw, _ = owners(positive_khw, torch.ones(len(values_khw)), clip.sizes)
        return surest_hw
