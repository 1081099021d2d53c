"""Every task that is not offline, on rendered scenes, with a segmenter that sees the truth through noise.

Each is scored by its own metric, beside copying the first result and, where every change of an id or a name costs,
beside the same segmenter followed by overlap alone. Both have to be clearly worse.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from maskstream.metrics import (
    BurstOpenWorld,
    BurstSequence,
    DavisSemiSupervised,
    ForegroundJ,
    SemanticQuality,
    VideoInstanceAP,
    VideoPanopticQuality,
)
from maskstream.metrics.accumulator import Accumulator
from maskstream.propagation import FlowPropagator
from maskstream.segmenters import GrabCutSegmenter
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos
from maskstream.systems.deva import Deva, DevaSettings
from maskstream.types import (
    CategorySet,
    Frame,
    FrameAnnotation,
    FrameSegmentation,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    Proposals,
    Task,
)

from .parts import Oracle

SIZE = (120, 160)
FRAMES = 20
MISSED, MISNAMED = 0.15, 0.15
CLEARLY = 5
"""Points of a metric."""


@dataclass(frozen=True)
class Film:
    name: str
    frames: Sequence[Frame]
    truth: Sequence[FrameAnnotation]


@pytest.fixture(scope="module")
def films() -> list[Film]:
    made = []
    for sample in synthetic_videos(level="easy", seed=11, videos=3, frames=FRAMES, size_hw=SIZE):
        assert sample.read_image is not None
        truth = [sample.annotation(n) for n in range(FRAMES)]
        made.append(Film(sample.name, [Frame(n, n / 24, sample.read_image(n)) for n in range(FRAMES)], truth))
    return made


@dataclass
class NoisyOracle(Oracle):
    """Misses some, moves all by up to a pixel, and calls some of them something else of their kind."""

    film: Film
    wanted: Callable[[bool | None], bool] = lambda is_thing: True

    def at(self, index: int, categories: CategorySet | None) -> Proposals:
        rng = np.random.default_rng([5, index])
        truth = self.film.truth[index].segmentation
        masks, names, kinds = [], [], []
        for segment, mask in zip(truth.segments, truth.masks_nhw(), strict=True):
            missed, misnamed = rng.random(2) < (MISSED, MISNAMED)
            shift = rng.integers(-1, 2, 2).tolist()
            if missed or not mask.any() or not self.wanted(segment.is_thing):
                continue
            alike = [c.id for c in WORLD.categories if c.is_thing is segment.is_thing]
            masks.append(mask.roll(tuple(shift), (0, 1)))
            names.append(int(rng.choice(alike)) if misnamed else segment.category)
            kinds.append(segment.is_thing)
        if not masks:
            return Proposals.none(SIZE)
        return Proposals(torch.stack(masks), tuple(names), (0.9,) * len(masks), tuple(kinds))


def things_of(truth: FrameAnnotation) -> FrameAnnotation:
    kept = [n for n, segment in enumerate(truth.segmentation.segments) if segment.is_thing]
    segments = tuple(truth.segmentation.segments[n] for n in kept)
    return replace(truth, segmentation=truth.segmentation.selected(kept, segments), crowd_ids=frozenset())


def scored(
    metric: Accumulator[Any, Any, Any],
    key: str,
    answers: Sequence[tuple[str, Sequence[FrameAnnotation], Sequence[FrameSegmentation]]],
) -> float:
    meta = BurstSequence() if isinstance(metric, BurstOpenWorld) else None
    for name, truth, results in answers:
        for annotation, result in zip(truth, results, strict=True):
            metric.update(name, result.frame_index, annotation, result, meta)
        metric.end_sequence(name)
    return 100 * metric.result().values[key]


def copied(results: Sequence[FrameSegmentation]) -> list[FrameSegmentation]:
    return [replace(results[0], frame_index=result.frame_index) for result in results]


@pytest.mark.parametrize(
    ("task", "metric", "key"),
    [
        (Task.VPS, lambda: VideoPanopticQuality(WORLD), "VPQ_deva"),
        (Task.VSS, lambda: SemanticQuality(WORLD), "mIoU"),
        (Task.VIS, lambda: VideoInstanceAP(WORLD), "AP"),
        (Task.OWVS, BurstOpenWorld, "OWTA_all"),
        (Task.UVOS, ForegroundJ, "J"),
    ],
    ids=lambda value: value.value if isinstance(value, Task) else "",
)
def test_what_is_found_by_itself(films, task, metric, key):
    everything = task in (Task.VPS, Task.VSS)

    def watched(film: Film, settings: DevaSettings) -> list[FrameSegmentation]:
        oracle = NoisyOracle(film) if everything else NoisyOracle(film, wanted=bool)
        deva = Deva(FlowPropagator(size=SIZE[0]), detector=oracle, label_space=WORLD, settings=settings)
        session = deva.start(task, size_hw=SIZE)
        results = [result for frame in film.frames for result in session.step(frame)]
        return [*results, *session.finish()]

    results = [watched(film, DevaSettings(schedule="semi-online")) for film in films]
    truths = [film.truth if everything else [things_of(truth) for truth in film.truth] for film in films]
    names = [film.name for film in films]
    found = scored(metric(), key, list(zip(names, truths, results, strict=True)))
    still = scored(metric(), key, list(zip(names, truths, map(copied, results), strict=True)))
    assert found > still + CLEARLY
    if task in (Task.VPS, Task.VIS):
        by_overlap = [watched(film, DevaSettings(temporal="mask-iou")) for film in films]
        assert found > scored(metric(), key, list(zip(names, truths, by_overlap, strict=True))) + CLEARLY


@pytest.mark.parametrize("task", [Task.VOS, Task.PVOS, Task.PET], ids=lambda task: task.value)
def test_what_is_pointed_at(films, task):
    answers, still = [], []
    for film in films:
        first = film.truth[0] if task is Task.PVOS else things_of(film.truth[0])
        prompts: list[ObjectPrompt] = []
        for segment, mask in zip(first.segmentation.segments, first.segmentation.masks_nhw(), strict=True):
            rows, columns = np.nonzero(mask.numpy())
            if not len(rows):
                continue
            middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
            point = PointPrompt(0, segment.id, ((float(columns[middle]), float(rows[middle])),))
            prompts.append(point if task is Task.PET else MaskPrompt(0, segment.id, mask))
        session = Deva(FlowPropagator(size=SIZE[0]), prompter=GrabCutSegmenter()).start(task, size_hw=SIZE)
        session.prompt(prompts)
        results = [result for frame in film.frames for result in session.step(frame)]
        given = {prompt.object_id for prompt in prompts}
        truth = [_only(annotation, given) for annotation in film.truth]
        answers.append((film.name, truth, results))
        still.append((film.name, truth, copied(results)))
    assert (
        scored(DavisSemiSupervised(), "J&F-Mean", answers) > scored(DavisSemiSupervised(), "J&F-Mean", still) + CLEARLY
    )


def _only(truth: FrameAnnotation, ids: set[int]) -> FrameAnnotation:
    kept = [n for n, segment in enumerate(truth.segmentation.segments) if segment.id in ids]
    segments = tuple(truth.segmentation.segments[n] for n in kept)
    return replace(truth, segmentation=truth.segmentation.selected(kept, segments), crowd_ids=frozenset())
