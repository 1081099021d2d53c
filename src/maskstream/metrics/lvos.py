"""LVOS: long videos, objects with ranges of their own, seen and unseen videos, stability (Hong et al., ICCV 2023)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from maskstream.types import FrameSegmentation

from .accumulator import Scores
from .additive import Terms
from .boundaries import Region, boundary_radius, frame_regions, region_f, region_j, union_region
from .curves import Curve, Values, make_curve, mean
from .davis_unsupervised import MAX_PROPOSALS, assigned_proposals, proposal_jf
from .listed import GROUPS, ListedObject, ListedObjects, ListedSummary, OpenListed

FRAME_STEP = 5
"""Frame numbers of LVOS files advance by five."""


@dataclass(frozen=True, slots=True)
class LvosObject:
    """The range of an object, ``frame_range`` of the meta file: its first and its last frame number."""

    start: int
    end: int

    @property
    def frames(self) -> range:
        """All its frame numbers."""
        return range(self.start, self.end + 1, FRAME_STEP)


class Lvos(ListedObjects):
    """LVOS semi-supervised (metrics specification §5.8).

    An object is scored on the frames of its own range but the first, which is given, and the last.

    Args:
        objects: the objects of each video, from ``<subset>_meta.json``.
        unseen_videos: names of the videos whose categories training never saw.
    """

    name = "LVOS semi-supervised"
    columns = ("J", "F", "V")

    def __init__(self, objects: Mapping[str, Mapping[int, LvosObject]], *, unseen_videos: Collection[str]) -> None:
        super().__init__(
            {
                video: {
                    o: ListedObject(self.counted(known), "unseen" if video in unseen_videos else "seen")
                    for o, known in objects_of_video.items()
                }
                for video, objects_of_video in objects.items()
            }
        )

    def counted(self, known: LvosObject) -> range:
        """The frames on which an object is scored."""
        return known.frames[1:-1]

    def row(self, curve: Curve) -> Scores:
        """J, F and V of one object."""
        return {"J": mean(curve["j"]), "F": mean(curve["f"]), "V": stability(curve)}

    def from_sums(self, sums: Terms) -> Scores:
        """J, F and V of objects of seen and of unseen videos, and their means; lower V is better."""
        groups = self.group_means(sums)
        values: Scores = {}
        for column in self.columns:
            for group, means in groups.items():
                values[f"{column}-{group}"] = means[column]
            values[f"{column}-Mean"] = (values[f"{column}-seen"] + values[f"{column}-unseen"]) / 2
        parts = [values[f"{column}-{group}"] for column in "JF" for group in groups]
        return {"J&F-Mean": sum(parts) / 4, **values}

    def notes(self, summaries: Mapping[str, ListedSummary]) -> Sequence[str]:
        """Groups that are empty."""
        present = {group for summary in summaries.values() for group in summary["groups"].values()}
        return [f"no {group} video: means over both groups are undefined" for group in GROUPS if group not in present]


class LvosUnsupervised(Lvos):
    """LVOS without prompts: the proposals of a video, or one salient mask (metrics specification §5.8).

    ``task="multiple"``: ids 1 to 20 are proposals and the others nothing; the assignment that maximises the sum of
    mean J&F gives each object its proposal, and an object goes without when it is the 21st. ``task="single"``: all
    that is predicted is one salient mask, which is compared with every object. There is no void.

    An object is scored on all frames of its range, the first included. The official program never looks at the last
    one, but divides by it: every object scores 0 there. ``compat="paper"`` scores it like the others.

    Args:
        objects: the objects of each video, from ``<subset>_meta.json``.
        unseen_videos: names of the videos whose categories training never saw.
        task: what is predicted.
        compat: what happens to the last frame.
    """

    def __init__(
        self,
        objects: Mapping[str, Mapping[int, LvosObject]],
        *,
        unseen_videos: Collection[str],
        task: Literal["multiple", "single"] = "multiple",
        compat: Literal["official", "paper"] = "official",
    ) -> None:
        self.task = task
        self.compat = compat
        super().__init__(objects, unseen_videos=unseen_videos)
        self.name = f"LVOS unsupervised, {task}"

    def counted(self, known: LvosObject) -> range:
        """The frames on which an object is scored."""
        return known.frames[:-1] if self.compat == "official" else known.frames

    def compare(
        self, truth: Mapping[int, Region], prediction: FrameSegmentation, objects: Sequence[int]
    ) -> tuple[Sequence[float | Values], Sequence[float | Values]]:
        """J and F of each object with the salient mask, or ``float64[20]`` with every proposal."""
        size_hw = prediction.size_hw
        truths = [truth.get(o, Region.empty(size_hw)) for o in objects]
        if self.task == "single":
            salient, radius = union_region(prediction), boundary_radius(size_hw)
            return [region_j(salient, g) for g in truths], [region_f(salient, g, radius=radius) for g in truths]
        proposals = {p: region for p, region in frame_regions(prediction).items() if p <= MAX_PROPOSALS}
        j_pg, f_pg = proposal_jf(proposals, truths, size_hw=size_hw)
        return list(j_pg.T), list(f_pg.T)

    def reduce(self, state: OpenListed) -> ListedSummary:
        """A curve an object, with the proposal assigned to it.

        Raises:
            InputError: a listed frame never came, or an object lists none.
        """
        summary = super().reduce(state)
        curves, ends = summary["curves"], self.compat == "official"
        if self.task == "multiple" and curves:
            mean_jf_pg = np.stack([(c["j"].mean(axis=0) + c["f"].mean(axis=0)) / 2 for c in curves.values()], axis=1)
            if ends:
                # The frame that is never looked at belongs to the mean that decides.
                lengths = np.array([len(c["frames"]) for c in curves.values()])
                mean_jf_pg = mean_jf_pg * lengths / (lengths + 1)
            chosen = assigned_proposals(mean_jf_pg)
            for g, o in enumerate(curves):
                curves[o] = _of_proposal(curves[o], chosen.get(g))
        if ends:
            for o, curve in curves.items():
                curves[o] = _with_lost_end(curve)
        return summary


def _of_proposal(curve: Curve, proposal: int | None) -> Curve:
    """One of the candidates of an object; without one it scores 0."""
    if proposal is None:
        nothing = np.zeros(len(curve["frames"]))
        return Curve(frames=curve["frames"], j=nothing, f=nothing)
    return Curve(frames=curve["frames"], j=curve["j"][:, proposal], f=curve["f"][:, proposal])


def _with_lost_end(curve: Curve) -> Curve:
    """The curve and one more frame, on which everything is 0."""
    end = int(curve["frames"][-1]) + FRAME_STEP
    return make_curve([*curve["frames"].tolist(), end], np.append(curve["j"], 0), np.append(curve["f"], 0))


def stability(curve: Curve) -> float:
    """V of one object: the standard deviation of J&F over its frames; lower is better (metrics specification §5.8).

    The variance is rounded to four decimals before the root is taken, as the official program does.
    """
    jf = (curve["j"] + curve["f"]) / 2
    return math.sqrt(round(float(np.mean((jf.mean() - jf) ** 2)), 4)) if len(jf) else math.nan
