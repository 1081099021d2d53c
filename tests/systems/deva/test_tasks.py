"""Every task that is not offline, on a rendered scene, with a segmenter that sees the truth through noise.

Each is scored by its own metric, beside what copying the first result gives: that has to be clearly worse.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

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

SIZE = (120, 160)
FRAMES = 20
MISSED, MISNAMED = 0.15, 0.15


@dataclass(frozen=True)
class Film:
    frames: Sequence[Frame]
    truth: Sequence[FrameAnnotation]


@pytest.fixture(scope="module")
def film() -> Film:
    (sample,) = synthetic_videos(level="easy", seed=11, videos=1, frames=FRAMES, size_hw=SIZE)
    assert sample.read_image is not None
    truth = [sample.annotation(n) for n in range(FRAMES)]
    frames = [Frame(n, n / 24, sample.read_image(n)) for n in range(FRAMES)]
    return Film(frames, truth)


@dataclass
class NoisyOracle:
    """Misses some, moves all by up to a pixel, and calls some of them something else of their kind."""

    film: Film
    wanted: Callable[[bool | None], bool] = lambda is_thing: True
    context: int = 0

    def encode(self, frames: Sequence[Frame]) -> list[int]:
        return [frame.index for frame in frames]

    def segment(
        self,
        features: int,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[int] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        rng = np.random.default_rng([5, features])
        truth = self.film.truth[features].segmentation
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
    metric: Accumulator[Any, Any, Any], key: str, truth: Sequence[FrameAnnotation], results: Sequence[FrameSegmentation]
) -> float:
    meta = BurstSequence() if isinstance(metric, BurstOpenWorld) else None
    for annotation, result in zip(truth, results, strict=True):
        metric.update("film", result.frame_index, annotation, result, meta)
    metric.end_sequence("film")
    return 100 * metric.result().values[key]


def copied(results: Sequence[FrameSegmentation]) -> list[FrameSegmentation]:
    return [replace(results[0], frame_index=result.frame_index) for result in results]


@pytest.mark.parametrize(
    ("task", "metric", "key", "at_least"),
    [
        (Task.VPS, lambda: VideoPanopticQuality(WORLD), "VPQ_deva", 40),
        (Task.VSS, lambda: SemanticQuality(WORLD), "mIoU", 62),
        (Task.VIS, lambda: VideoInstanceAP(WORLD), "AP", 25),
        (Task.OWVS, BurstOpenWorld, "OWTA_all", 60),
        (Task.UVOS, ForegroundJ, "J", 50),
    ],
    ids=lambda value: value.value if isinstance(value, Task) else "",
)
def test_what_is_found_by_itself(film, task, metric, key, at_least):
    everything = task in (Task.VPS, Task.VSS)
    oracle = NoisyOracle(film) if everything else NoisyOracle(film, wanted=bool)
    deva = Deva(
        FlowPropagator(size=SIZE[0]),
        detector=oracle,
        label_space=WORLD,
        settings=DevaSettings(schedule="semi-online"),
    )
    session = deva.start(task, size_hw=SIZE)
    results = [result for frame in film.frames for result in session.step(frame)]
    results += session.finish()
    truth = film.truth if everything else [things_of(annotation) for annotation in film.truth]
    found, still = (scored(metric(), key, truth, each) for each in (results, copied(results)))
    assert found >= at_least
    assert still < at_least - 5


@pytest.mark.parametrize(("task", "at_least"), [(Task.VOS, 80), (Task.PVOS, 80), (Task.PET, 60)])
def test_what_is_pointed_at(film, task, at_least):
    first = film.truth[0] if task is Task.PVOS else things_of(film.truth[0])
    segments = first.segmentation.segments
    prompts: list[ObjectPrompt] = []
    for segment, mask in zip(segments, first.segmentation.masks_nhw(), strict=True):
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
    found, still = (scored(DavisSemiSupervised(), "J&F-Mean", truth, each) for each in (results, copied(results)))
    assert found >= at_least
    assert still < at_least - 5


def _only(truth: FrameAnnotation, ids: set[int]) -> FrameAnnotation:
    kept = [n for n, segment in enumerate(truth.segmentation.segments) if segment.id in ids]
    segments = tuple(truth.segmentation.segments[n] for n in kept)
    return replace(truth, segmentation=truth.segmentation.selected(kept, segments), crowd_ids=frozenset())
