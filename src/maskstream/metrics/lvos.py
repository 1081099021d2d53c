"""LVOS: long videos, objects with ranges of their own, seen and unseen videos, stability (Hong et al., ICCV 2023)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from .accumulator import Report, Scores
from .curves import Curve, mean
from .listed import ListedObject, ListedObjects, ListedSummary, grouped_curves

FRAME_STEP = 5
"""Frame numbers of LVOS files advance by five."""


@dataclass(frozen=True, slots=True)
class LvosObject:
    """The range of an object, ``frame_range`` of the meta file: its first and its last frame number."""

    start: int
    end: int


class Lvos(ListedObjects):
    """LVOS semi-supervised (metrics specification §5.8).

    An object is scored on the frames of its own range but the first, which is given, and the last.

    Args:
        objects: the objects of each video, from ``<subset>_meta.json``.
        unseen_videos: names of the videos whose categories training never saw.
    """

    name = "LVOS semi-supervised"

    def __init__(self, objects: Mapping[str, Mapping[int, LvosObject]], *, unseen_videos: Collection[str]) -> None:
        super().__init__(
            {
                video: {
                    o: ListedObject(
                        frames=range(known.start, known.end + 1, FRAME_STEP)[1:-1],
                        group="unseen" if video in unseen_videos else "seen",
                    )
                    for o, known in objects_of_video.items()
                }
                for video, objects_of_video in objects.items()
            }
        )

    def score(self, summaries: Mapping[str, ListedSummary]) -> Report:
        """J, F and V of objects of seen and of unseen videos, and their means; lower V is better."""
        rows: dict[str, Scores] = {}
        groups: dict[str, list[Scores]] = {"seen": [], "unseen": []}
        for name, (group, curve) in grouped_curves(summaries).items():
            rows[name] = {"J": mean(curve["j"]), "F": mean(curve["f"]), "V": stability(curve)}
            groups[group].append(rows[name])
        values: Scores = {}
        for column in "JFV":
            for group, members in groups.items():
                values[f"{column}-{group}"] = mean([row[column] for row in members])
            values[f"{column}-Mean"] = (values[f"{column}-seen"] + values[f"{column}-unseen"]) / 2
        parts = [values[f"{column}-{group}"] for column in "JF" for group in groups]
        notes = tuple(
            f"no {group} video: means over both groups are undefined" for group in groups if not groups[group]
        )
        return Report(self.name, {"J&F-Mean": sum(parts) / 4, **values}, per_video=rows, notes=notes)


def stability(curve: Curve) -> float:
    """V of one object: the standard deviation of J&F over its frames; lower is better (metrics specification §5.8).

    The variance is rounded to four decimals before the root is taken, as the official program does.
    """
    jf = (curve["j"] + curve["f"]) / 2
    return math.sqrt(round(float(np.mean((jf.mean() - jf) ** 2)), 4)) if len(jf) else math.nan
