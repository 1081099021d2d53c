"""YouTube-VOS 2018 and 2019: seen and unseen categories, objects that enter late (Xu et al., 2018)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .accumulator import Report, Scores
from .curves import mean
from .listed import ListedObject, ListedObjects, ListedSummary, grouped_curves

CONVENTION = (
    "provenance: convention. The scoring program of YouTube-VOS is not public; G follows its published description, "
    "and only the numbers of its server are official"
)


@dataclass(frozen=True, slots=True)
class YoutubeObject:
    """An object of ``meta.json``: its category, and the frame numbers listed for it; on the first it is given."""

    category: str
    frames: tuple[int, ...]


class YoutubeVos(ListedObjects):
    """G of YouTube-VOS, the mean of J and F over seen and unseen categories (metrics specification §6).

    An object is scored on the frames listed for it after the one on which its mask is given. No void.

    Args:
        objects: the objects of each video, from ``meta.json``.
        seen_categories: those of the training set.
    """

    name = "YouTube-VOS"

    def __init__(self, objects: Mapping[str, Mapping[int, YoutubeObject]], *, seen_categories: Collection[str]) -> None:
        super().__init__(
            {
                video: {
                    o: ListedObject(
                        frames=known.frames[1:], group="seen" if known.category in seen_categories else "unseen"
                    )
                    for o, known in objects_of_video.items()
                }
                for video, objects_of_video in objects.items()
            }
        )

    def score(self, summaries: Mapping[str, ListedSummary]) -> Report:
        """Means over the objects, not the categories, of either group."""
        rows: dict[str, Scores] = {}
        groups: dict[str, list[Scores]] = {"seen": [], "unseen": []}
        for name, (group, curve) in grouped_curves(summaries).items():
            rows[name] = {"J": mean(curve["j"]), "F": mean(curve["f"])}
            groups[group].append(rows[name])
        parts = {f"{column}{g[0]}": mean([row[column] for row in groups[g]]) for g in groups for column in "JF"}
        return Report(self.name, {"G": sum(parts.values()) / 4, **parts}, per_video=rows, notes=(CONVENTION,))
