"""YouTube-VOS 2018 and 2019: seen and unseen categories, objects that enter late (Xu et al., 2018)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .accumulator import Scores
from .additive import Terms
from .curves import Curve, mean
from .listed import ListedObject, ListedObjects, ListedSummary

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
    columns = ("J", "F")

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

    def row(self, curve: Curve) -> Scores:
        """J and F of one object."""
        return {"J": mean(curve["j"]), "F": mean(curve["f"])}

    def from_sums(self, sums: Terms) -> Scores:
        """Means over the objects, not the categories, of either group."""
        groups = self.group_means(sums)
        parts = {f"{column}{group[0]}": means[column] for group, means in groups.items() for column in self.columns}
        return {"G": sum(parts.values()) / 4, **parts}

    def notes(self, summaries: Mapping[str, ListedSummary]) -> Sequence[str]:
        """Whose number this is."""
        return (CONVENTION,)
