"""What DEVA's parts are worth on noisy proposals: ablations in the manner of its Tables 5 and 6.

    python benchmarks/deva_ablation.py [--videos 20] [--seeds 3] [--workers 1] [--json scores.json]

The videos are scenes of the synthetic world that nothing was tuned or trained on, of the level "medium". Every scheme
sees them through the same detector: the true things, spoilt. Outlines are off, objects are missed on single frames and
on short runs of frames, some are cut in two, and things are seen that are not there. The noise is fixed by the
constants below and by video, seed and frame alone, so on one frame every scheme is shown the same. All schemes run on
flow propagation with default settings. Scores of proposals are spoilt too, but no scheme goes by them: none sets a
least score or a greatest number of objects.

Prints the mean over videos and seeds of HOTA, its parts DetA and AssA, and VPQ of things (the mean over windows that
DEVA reports; what is no thing is a region of its own, so that what is found there counts against a scheme). Then the
differences of schemes, with 95 % bootstrap intervals of their means over videos; and for each ordering of the paper
whether the interval says so. Everything is in percent.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.metrics import DEVA_WINDOWS, VideoPanopticQuality
from maskstream.metrics.hota import TrackedFrame, hota_counts, hota_scores
from maskstream.propagation import FlowPropagator
from maskstream.synthetic.videos import synthetic_videos
from maskstream.synthetic.world import Level
from maskstream.systems.deva import Deva, DevaSettings
from maskstream.types import (
    OBJECT,
    Category,
    CategorySet,
    Frame,
    FrameAnnotation,
    FrameSegmentation,
    LabelMap,
    ObjectPrompt,
    Proposals,
    Segment,
    Task,
    mask_overlaps,
)

Clip: TypeAlias = tuple[tuple[Frame, FrameSegmentation], ...]
Mask = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

LEVEL: Level = "medium"
HELD_OUT = 777  # seed of the videos
SIZE = (160, 284)
FRAMES = 48

# The noise. Lengths are fractions of the short side.
OUTLINE = 0.01  # grown or shrunk by up to
SHIFT = 0.01  # moved by up to, along each axis
MISSED = 0.2  # chance of a proposal to be missing
FLICKER, FLICKER_RUN = 0.03, (2, 5)  # chance of an object on a frame to begin a run of so many frames without it
SPLIT = 0.05  # chance of a proposal to be cut in two
FALSE, FALSE_RADIUS = 0.5, (0.04, 0.12)  # mean number of ellipses a frame that are on no other frame, and their axes
SMALLEST = 0.001  # of the picture; what is smaller is not seen
SCORE, FALSE_SCORE = (0.8, 0.15), (0.5, 0.2)  # mean and standard deviation
EMBEDDING_SIZE, EMBEDDING_NOISE = 16, 0.5  # length of the noise beside an object's own vector of length 1

VOTED = "consensus + merge"
ONLINE = "merge only"
TABLE_5 = {
    VOTED: DevaSettings(schedule="semi-online"),
    "2 frames vote": DevaSettings(schedule="semi-online", voting_frames=2),
    "4 frames vote": DevaSettings(schedule="semi-online", voting_frames=4),
    "5 frames vote": DevaSettings(schedule="semi-online", voting_frames=5),
    "merge every 3rd": DevaSettings(schedule="semi-online", detection_every=3),
    "merge every 7th": DevaSettings(schedule="semi-online", detection_every=7),
    "not aligned": DevaSettings(schedule="semi-online", alignment="none"),
}
"""With the clip of 3, merged every 5th frame and aligned, of the first row; a clip of 1 is the first row below."""
TABLE_6 = {
    ONLINE: DevaSettings(),
    "TrustImageSeg": DevaSettings(temporal="trust-image"),
    "ShortTrack": DevaSettings(temporal="short-track"),
    "query association": DevaSettings(temporal="query"),
    "mask IoU + flow": DevaSettings(temporal="mask-iou-flow"),
    "mask IoU": DevaSettings(temporal="mask-iou"),
}
SCHEMES = TABLE_5 | TABLE_6
CLAIMS = (
    (VOTED, ONLINE),
    (VOTED, "2 frames vote"),
    (VOTED, "merge every 7th"),
    (VOTED, "not aligned"),
    *((ONLINE, other) for other in TABLE_6 if other != ONLINE),
)
"""What the paper's tables say by more than a point of VPQ."""

METRICS = ("HOTA", "DetA", "AssA", "VPQ")
COMPARED = ("HOTA", "VPQ")  # the first decides

RESAMPLES = 10_000
BACKGROUND = Segment(10**6, 10**6, category=0, is_thing=False)
LABELS = CategorySet("object and background", (Category(0, "background", is_thing=False), *OBJECT.categories))


class NoisyDetector:
    """The truth, spoilt; features are the place in the video."""

    context = 0

    def __init__(self, clip: Clip, video: int, seed: int) -> None:
        self._found = {frame.index: noisy(truth, video, seed) for frame, truth in clip}
        self.runs = 0

    def encode(self, frames: Sequence[Frame]) -> list[int]:
        """Only the place in the video."""
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
        """What this frame always shows."""
        self.runs += 1
        return self._found[features]


def noisy(truth: FrameSegmentation, video: int, seed: int) -> Proposals:
    """What the detector makes of a frame."""
    rng = np.random.default_rng([1, video, seed, truth.frame_index])
    masks: list[Mask] = []
    embeddings: list[FloatArray] = []
    scores: list[float] = []
    for segment, true in zip(truth.segments, truth.masks_nhw().numpy(), strict=True):
        missed, split = rng.random(2) < (MISSED, SPLIT)
        mask = spoilt(true, rng)
        own_c = np.random.default_rng([2, video, seed, segment.track_id]).normal(size=EMBEDDING_SIZE)
        own_c /= np.linalg.norm(own_c)
        absent = flickers(truth.frame_index, video, seed, segment.track_id)
        for part in halves(mask, rng) if split else [mask]:
            noise = rng.normal(size=EMBEDDING_SIZE) * EMBEDDING_NOISE / EMBEDDING_SIZE**0.5
            score = rng.normal(*SCORE)
            if not (missed or absent or part.mean() < SMALLEST):
                masks.append(part)
                embeddings.append(own_c + noise)
                scores.append(score)
    for _ in range(rng.poisson(FALSE)):
        masks.append(ellipse(rng))
        embeddings.append(rng.normal(size=EMBEDDING_SIZE) / EMBEDDING_SIZE**0.5)
        scores.append(rng.normal(*FALSE_SCORE))
    count = len(masks)
    return Proposals(
        torch.from_numpy(np.array(masks, dtype=bool).reshape(count, *SIZE)),
        (OBJECT.ids[0],) * count,
        tuple(float(np.clip(score, 0, 1)) for score in scores),
        (True,) * count,
        torch.from_numpy(np.array(embeddings, dtype=np.float32).reshape(count, EMBEDDING_SIZE)),
    )


def flickers(index: int, video: int, seed: int, track_id: int) -> bool:
    """Whether an object is in the middle of a run of frames without it."""
    shortest, longest = FLICKER_RUN
    for ago in range(min(longest, index + 1)):
        rng = np.random.default_rng([3, video, seed, track_id, index - ago])
        if rng.random() < FLICKER and rng.integers(shortest, longest, endpoint=True) > ago:
            return True
    return False


def spoilt(mask: Mask, rng: np.random.Generator) -> Mask:
    """A mask with another outline, moved a little."""
    grown = round(rng.uniform(-OUTLINE, OUTLINE) * min(SIZE))
    across, down = np.rint(rng.uniform(-SHIFT, SHIFT, 2) * min(SIZE))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(grown) + 1,) * 2)
    changed = (cv2.dilate if grown > 0 else cv2.erode)(mask.astype(np.uint8), kernel)
    return cv2.warpAffine(changed, np.array([[1, 0, across], [0, 1, down]]), SIZE[::-1]) > 0


def halves(mask: Mask, rng: np.random.Generator) -> list[Mask]:
    """A mask cut by a line through its centre."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return [mask]
    angle = rng.uniform(0, np.pi)
    y, x = np.indices(mask.shape)
    side = (x - columns.mean()) * np.cos(angle) + (y - rows.mean()) * np.sin(angle) > 0
    return [mask & side, mask & ~side]


def ellipse(rng: np.random.Generator) -> Mask:
    """Something that is not there."""
    centre = rng.uniform(0, SIZE[::-1])
    axes = rng.uniform(*FALSE_RADIUS, 2) * min(SIZE)
    drawn = np.zeros(SIZE, dtype=np.uint8)
    cv2.ellipse(drawn, (centre.tolist(), (2 * axes).tolist(), rng.uniform(0, 180)), 1, cv2.FILLED)
    return drawn > 0


@dataclass(frozen=True, slots=True)
class Row:
    """Scores of one scheme on one video with one seed, fractions, and what it took."""

    scheme: str
    video: int
    seed: int
    scores: dict[str, float]
    detector_runs: int
    seconds: float


@cache
def clip(video: int) -> Clip:
    """The frames of a video, and its things."""
    *_, sample = synthetic_videos(level=LEVEL, seed=HELD_OUT, videos=video + 1, frames=FRAMES, size_hw=SIZE)
    assert sample.read_image is not None
    assert sample.fps is not None
    things = []
    for index in range(FRAMES):
        truth = sample.annotation(index).segmentation
        frame = Frame(index, index / sample.fps, sample.read_image(index))
        things.append((frame, things_of(truth)))
    return tuple(things)


def things_of(truth: FrameSegmentation) -> FrameSegmentation:
    """Without stuff."""
    chosen = [n for n, segment in enumerate(truth.segments) if segment.is_thing]
    return truth.selected(chosen, tuple(truth.segments[n] for n in chosen))


def run(video: int, seed: int) -> list[Row]:
    """All schemes on one video with one seed."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    for scheme, settings in SCHEMES.items():
        detector = NoisyDetector(clip(video), video, seed)
        session = Deva(FlowPropagator(size=min(SIZE)), detector=detector, settings=settings).start(
            Task.OWVS, size_hw=SIZE
        )
        began = time.perf_counter()
        results = [result for frame, _ in clip(video) for result in session.step(frame)]
        results += session.finish()
        seconds = time.perf_counter() - began
        rows.append(
            Row(scheme, video, seed, score([truth for _, truth in clip(video)], results), detector.runs, seconds)
        )
    return rows


def score(truths: Sequence[FrameSegmentation], results: Sequence[FrameSegmentation]) -> dict[str, float]:
    """HOTA with its parts, and VPQ of things."""
    vpq = VideoPanopticQuality(LABELS, windows=DEVA_WINDOWS)
    tracked = []
    for truth, result in zip(truths, results, strict=True):
        tracked.append(tracked_frame(truth, result))
        on_ground = FrameAnnotation(with_background(truth))
        vpq.update("clip", result.frame_index, on_ground, with_background(result))
    vpq.end_sequence("clip")
    hota = hota_scores(hota_counts(tracked))
    return {name: hota[name] for name in METRICS[:3]} | {"VPQ": vpq.result().values["VPQ_deva_things"]}


def tracked_frame(truth: FrameSegmentation, result: FrameSegmentation) -> TrackedFrame:
    """Who is visible on a frame, and the IoU of every two."""
    overlaps = mask_overlaps(truth.masks, len(truth.segments), result.masks, len(result.segments))
    true_ids, found_ids = (np.array([s.track_id for s in side.segments], dtype=np.int64) for side in (truth, result))
    return TrackedFrame(true_ids, found_ids, overlaps.iou_gp()).select(overlaps.areas_g > 0, overlaps.areas_p > 0)


def with_background(segmentation: FrameSegmentation) -> FrameSegmentation:
    """The same with the background as one more segment."""
    segments = [Segment(s.track_id, s.track_id, OBJECT.ids[0], is_thing=True) for s in segmentation.segments]
    label_map = segmentation.label_map().clone()
    label_map[label_map == 0] = len(segments) + 1
    return FrameSegmentation(
        segmentation.frame_index, segmentation.size_hw, (*segments, BACKGROUND), LabelMap(label_map)
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two schemes, over videos: mean and 95 % interval of it, fractions."""

    better: str
    worse: str
    metric: str
    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What the interval says of the claim that the first is the better one."""
        return "holds" if self.low > 0 else "CONTRADICTED" if self.high < 0 else "NOT SHOWN, the interval contains 0"


def differences(scores: dict[str, dict[str, FloatArray]]) -> list[Difference]:
    """Of what is claimed, then of the voted and the merged with all other schemes; paired by video.

    Args:
        scores: by scheme and metric, ``float64[V]``, one value a video, the mean over seeds.
    """
    pairs = dict.fromkeys(
        [*CLAIMS, *((VOTED, other) for other in TABLE_5 if other != VOTED), *((VOTED, other) for other in TABLE_6)]
    )
    found = []
    for metric in COMPARED:
        for better, worse in pairs:
            per_video = scores[better][metric] - scores[worse][metric]
            draws = np.random.default_rng(0).integers(0, len(per_video), (RESAMPLES, len(per_video)))
            low, high = np.percentile(per_video[draws].mean(axis=1), [2.5, 97.5])
            found.append(Difference(better, worse, metric, float(per_video.mean()), float(low), float(high)))
    return found


def report(rows: Sequence[Row], found: Sequence[Difference]) -> None:
    """Print the tables and the verdicts."""
    print(f"{'mean':20}" + "".join(f"{name:>7}" for name in METRICS) + "  detector runs  ms/frame")
    for scheme in SCHEMES:
        own = [row for row in rows if row.scheme == scheme]
        means = "".join(f"{100 * np.mean([row.scores[name] for row in own]):7.1f}" for name in METRICS)
        speed = 1000 * np.mean([row.seconds for row in own]) / FRAMES
        print(f"{scheme:20}{means}{np.mean([row.detector_runs for row in own]):15.0f}{speed:10.0f}")
    print("\ndifferences with 95 % intervals")
    for one in found:
        name = f"{one.better} − {one.worse}"
        print(f"{name:40}{one.metric:5}{100 * one.mean:+6.1f}  [{100 * one.low:+.1f}, {100 * one.high:+.1f}]")
    print("\nclaims")
    for one in found:
        if (one.better, one.worse) in CLAIMS:
            print(f"{one.better} > {one.worse} in {one.metric}: {one.verdict}")


def main() -> None:
    """Run everything, print tables and verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3, help="of the noise, for every video")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if min(options.videos, options.seeds) < 1:
        parser.error("at least one video and one seed are needed")
    rows: list[Row] = []
    # Seeds of one video one after the other: whoever rendered it has it still.
    work = [(video, seed) for video in range(options.videos) for seed in range(options.seeds)]
    with ProcessPoolExecutor(options.workers) as pool:
        for done, of_one in enumerate(pool.map(run, *zip(*work, strict=True), chunksize=options.seeds), start=1):
            rows += of_one
            print(f"{done} of {len(work)} videos and seeds", file=sys.stderr, flush=True)
    scores = {
        scheme: {
            name: np.array(
                [
                    np.mean([row.scores[name] for row in rows if (row.scheme, row.video) == (scheme, video)])
                    for video in range(options.videos)
                ]
            )
            for name in METRICS
        }
        for scheme in SCHEMES
    }
    found = differences(scores)
    if options.json:
        plain = {"differences": [asdict(one) for one in found], "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(plain) + "\n")
    report(rows, found)


if __name__ == "__main__":
    main()
