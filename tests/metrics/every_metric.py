"""Every metric on random tiny videos, for the promises that all of them make."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskstream.metrics import (
    DEVA_WINDOWS,
    Accumulator,
    BurstGuided,
    BurstOpenWorld,
    BurstSequence,
    Davis2016,
    DavisSemiSupervised,
    DavisUnsupervised,
    Flicker,
    ForegroundJ,
    GenericVos,
    Lvos,
    LvosObject,
    LvosUnsupervised,
    Mevis,
    MoseV2,
    Mots,
    RefCoco,
    RefDavis,
    RefYoutubeVos,
    SaV,
    SegmentationTrackingQuality,
    SemanticQuality,
    VideoConsistency,
    VideoInstanceAP,
    VideoPanopticQuality,
    Viposeg,
    ViposegObject,
    YoutubeObject,
    YoutubeVos,
)
from maskstream.types import Category, CategorySet, FrameAnnotation, FrameSegmentation, LabelMap, Segment

AnyMetric = Accumulator[Any, Any, Any]
Labels = NDArray[np.int64]

CATEGORIES = CategorySet(
    "test",
    (
        Category(4, "baby", is_thing=True),
        Category(13, "alligator", is_thing=True),
        Category(1, "acorn", is_thing=False),
    ),
)
NAMES = [f"v{n}" for n in range(6)]
# Copies that the oracle of the bootstrap makes; lists of objects must know them.
ALL_NAMES = [name + copy for name in NAMES for copy in ("", *(f"-{k}" for k in range(6)))]
OBJECTS = (1, 2, 3)
FRAMES = 5
ANYTHING = (17, 5, 300)
SHUFFLED = (2, 3, 1)  # the largest id decides how many proposals there are


@dataclass(frozen=True)
class Case:
    """A metric and how to feed it.

    Attributes:
        make: a new metric.
        sequences: the names of the sequences of a video.
        frames: how many a sequence has.
        meta: what `update` gets beside.
        renamed: other ids that the predicted ids 1 to 3 may have without a consequence, or None.
        by_contour: the values that look at contours, which are not the same in a mirror.
    """

    make: Callable[[], AnyMetric]
    sequences: Callable[[str], Sequence[str]] = lambda name: [name]
    frames: int = FRAMES
    meta: BurstSequence | None = None
    renamed: tuple[int, int, int] | None = None
    by_contour: Callable[[str], bool] = lambda value: False


def _contours(value: str) -> bool:
    return not value.endswith(("J", "J-Mean", "J-Recall", "J-Decay", "Js", "Ju", "J-seen", "J-unseen", "_miou"))


def _every_object(value: Any) -> dict[str, dict[int, Any]]:
    return {name: dict.fromkeys(OBJECTS, value) for name in ALL_NAMES}


def _lvos(name: str, o: int) -> LvosObject:
    return LvosObject(1, 1 + 5 * (FRAMES - 1) - 5 * (o == 2))


_lvos_objects = {name: {o: _lvos(name, o) for o in OBJECTS} for name in ALL_NAMES}
_unseen = [name for name in ALL_NAMES if name[1] in "135"]
_two_expressions: Callable[[str], Sequence[str]] = lambda name: [f"{name}/0", f"{name}/1"]  # noqa: E731
_sentence = partial(Case, sequences=_two_expressions, renamed=ANYTHING)

CASES: dict[str, Case] = {
    "VPQ": Case(lambda: VideoPanopticQuality(CATEGORIES, windows=DEVA_WINDOWS), renamed=ANYTHING),
    "STQ": Case(lambda: SegmentationTrackingQuality(CATEGORIES), renamed=ANYTHING),
    "STQ paper": Case(lambda: SegmentationTrackingQuality(CATEGORIES, crowd="none", compat="paper"), renamed=ANYTHING),
    "semantic": Case(lambda: SemanticQuality(CATEGORIES), renamed=ANYTHING),
    "mVC": Case(lambda: VideoConsistency(windows=(2, 4)), renamed=ANYTHING),
    "mVC paper": Case(lambda: VideoConsistency(windows=(2, 4), compat="paper"), renamed=ANYTHING),
    "foreground J": Case(lambda: ForegroundJ(foreground=[4, 13]), renamed=ANYTHING),
    "flicker": Case(Flicker, renamed=ANYTHING),
    "VIS AP": Case(lambda: VideoInstanceAP(CATEGORIES), renamed=ANYTHING),
    "VIS AP class-agnostic": Case(lambda: VideoInstanceAP(CATEGORIES, class_agnostic=True), renamed=ANYTHING),
    "DAVIS semi-supervised": Case(DavisSemiSupervised, by_contour=_contours),
    "DAVIS unsupervised": Case(DavisUnsupervised, by_contour=lambda _: True, renamed=SHUFFLED),
    "DAVIS-2016": Case(Davis2016, by_contour=_contours, renamed=ANYTHING),
    "generic": Case(GenericVos, by_contour=_contours),
    "SA-V": Case(SaV, by_contour=_contours),
    "LVOS": Case(lambda: Lvos(_lvos_objects, unseen_videos=_unseen), by_contour=_contours),
    "LVOS unsupervised": Case(
        lambda: LvosUnsupervised(_lvos_objects, unseen_videos=_unseen), by_contour=lambda _: True, renamed=(17, 5, 11)
    ),
    "LVOS salient": Case(
        lambda: LvosUnsupervised(_lvos_objects, unseen_videos=_unseen, task="single", compat="paper"),
        by_contour=_contours,
        renamed=ANYTHING,
    ),
    "MOSE v2": Case(lambda: MoseV2(dict.fromkeys(ALL_NAMES, OBJECTS)), by_contour=_contours),
    "YouTube-VOS": Case(
        lambda: YoutubeVos(
            {
                name: {o: YoutubeObject("ape" if name in _unseen else "cat", (1, 6, 11)) for o in OBJECTS}
                for name in ALL_NAMES
            },
            seen_categories=["cat"],
        ),
        by_contour=_contours,
    ),
    "VIPOSeg": Case(
        lambda: Viposeg(_every_object(ViposegObject(2, 1)) | {n: {1: ViposegObject(5, 1)} for n in _unseen}),
        by_contour=_contours,
    ),
    "Ref-DAVIS": Case(
        RefDavis,
        sequences=lambda name: [f"anno_{a}/{name}" for a in range(4)],
        by_contour=lambda _: True,
        renamed=SHUFFLED,
    ),
    "MeViS": _sentence(Mevis, by_contour=_contours),
    "Ref-YouTube-VOS": _sentence(RefYoutubeVos, by_contour=_contours),
    "RefCOCO": _sentence(RefCoco, frames=1),
    "BURST class": Case(lambda: BurstGuided("class"), meta=BurstSequence(negative=frozenset({13})), renamed=ANYTHING),
    "BURST exemplar": Case(lambda: BurstGuided("exemplar", similarity="mask"), meta=BurstSequence(), renamed=ANYTHING),
    "BURST exemplar paper": Case(lambda: BurstGuided("exemplar", compat="paper"), meta=BurstSequence()),
    "BURST open world": Case(BurstOpenWorld, meta=BurstSequence(), renamed=ANYTHING),
    "MOTS": Case(lambda: Mots(CATEGORIES), renamed=ANYTHING),
}


def frame(
    labels: Labels, index: int, scores: Sequence[float] = (), names: Sequence[int] = OBJECTS
) -> FrameSegmentation:
    """A frame of labels 0 to 3; ``names`` are the ids they are given."""
    present = [n for n in OBJECTS if (labels == n).any()]
    positions = np.zeros(4, np.int32)
    positions[present] = np.arange(1, len(present) + 1)
    kinds = [(c.id, c.is_thing) for c in CATEGORIES.categories]
    segments = tuple(
        Segment(names[n - 1], names[n - 1], kinds[n - 1][0], scores[n] if scores else None, kinds[n - 1][1])
        for n in present
    )
    height, width = labels.shape
    return FrameSegmentation(index, (height, width), segments, LabelMap(torch.from_numpy(positions[labels])))


def labels_of(seed: int, frames: int) -> tuple[Labels, Labels, list[float]]:
    """Truth and prediction, ``int64[T, 6, 7]`` of 0 to 3, and a score a track that no other seed gives."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.repeat(rng.integers(0, 4, (frames, 3, 4)), 2, axis=1), 2, axis=2)[:, :, :7]
    truth[0, 0, :3] = OBJECTS
    pred = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 4, truth.shape))
    pred[rng.random(frames) < 0.2] = 0
    return truth, pred, rng.random(4).tolist()


def feed(
    metric: AnyMetric,
    case: Case,
    name: str,
    seed: int,
    *,
    mirror: bool = False,
    names: Sequence[int] = OBJECTS,
    missing: Callable[[int], bool] = lambda n: False,
    allow_missing: bool = False,
) -> None:
    """Give a metric a video, and end it."""
    for k, sequence in enumerate(case.sequences(name)):
        truth, pred, scores = labels_of(1000 * seed + k, case.frames)
        if sequence.startswith("anno_"):
            truth = labels_of(1000 * seed, case.frames)[0]
        for n in range(case.frames):
            index = 1 + 5 * n
            true_n, pred_n = (side[n, :, ::-1].copy() if mirror else side[n] for side in (truth, pred))
            found = None if missing(n) else frame(pred_n, index, scores, names)
            annotated = FrameAnnotation(frame(true_n, index))
            metric.update(sequence, index, annotated, found, case.meta, allow_missing=allow_missing)
        metric.end_sequence(sequence)
