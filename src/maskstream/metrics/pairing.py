"""Which prediction belongs to which ground truth: by name, never by position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from maskstream.types import InputError

TruthT = TypeVar("TruthT")
PredictedT = TypeVar("PredictedT")


def paired_names(
    truth: Mapping[str, TruthT],
    predicted: Mapping[str, PredictedT],
    *,
    what: str = "video",
    where: str = "",
    allow_missing: bool = False,
    allow_extra: bool = False,
) -> Iterator[tuple[str, TruthT, PredictedT | None]]:
    """Pair what is annotated with what is predicted, in sorted order of the names.

    Args:
        truth: by name, such as folders by video or files by frame.
        predicted: likewise.
        what: what a name stands for.
        where: where the predictions are, to begin a message with.
        allow_missing: give None where a prediction is missing, for `Accumulator.update` to count.
        allow_extra: pass over predictions that have no ground truth. Right for frames, because results may be denser
            than annotations; a video that nobody annotated is rather a mistake.

    Returns:
        Name, truth, and prediction or None. Names are checked before the first pair.

    Raises:
        InputError: a name is missing or too many, and must not be.
    """
    prefix = f"{where}: " if where else ""
    missing, extra = sorted(truth.keys() - predicted.keys()), sorted(predicted.keys() - truth.keys())
    if missing and not allow_missing:
        raise InputError(
            f"{prefix}no prediction for the {what} {_first(missing)}: add it, or allow missing ones, "
            "which then count as empty"
        )
    if extra and not allow_extra:
        raise InputError(f"{prefix}the ground truth has no {what} {_first(extra)}: remove it from the prediction")
    return ((name, truth[name], predicted.get(name)) for name in sorted(truth))


def _first(names: list[str]) -> str:
    return f"{names[0]} (and {len(names) - 1} more)" if len(names) > 1 else names[0]
