"""How much faster the metrics are than the official programs, or than plain code in their shape; and their memory.

    python benchmarks/metrics.py [--official CHECKOUTS [--python PYTHON]]
    python benchmarks/metrics.py --memory

Renders moving shapes, scores a perturbed copy of them by `maskstream.metrics` and by other programs, and demands that
all numbers agree.

With ``--official``, the other programs are the official ones. CHECKOUTS is a folder with checkouts of
hkchengrex/Tracking-Anything-with-DEVA, google-research/deeplab2, youtubevos/cocoapi and
davisvideochallenge/davis2017-evaluation, each named as its repository. Each program runs in a process of its own, with
PYTHON if it needs packages that are not here; `metrics_official.py` says what is called and what is left out.

Without it, there is only the plain code below, which does what the official programs do: VPQ scans the pixels of every
window again, STQ makes a mask a class, VIS AP intersects run-length codes pair by pair, J & F dilates the whole picture
once an object. It shares no code with the library.

All sides start from what is in memory and end with the final numbers; none decodes a file. The library starts from the
pictures of VIPSeg, colours and all, where the official program does (VPQ, and STQ as on VIPSeg), from its own label
maps for STQ and J & F, and from run-length codes for VIS AP. Times are processor time of one thread, the best of five
runs taken in turn. Ends with exit code 1 when a ratio to the official program is below its target, or when anything is
slower than plain code.

With ``--memory``, VPQ scores more and more videos, and the most memory so far is printed; exit code 1 when it grows by
more than one video.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product, starmap
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from maskstream.metrics import (
    DEVA_WINDOWS,
    DavisSemiSupervised,
    PredictedTube,
    SegmentationTrackingQuality,
    TrueTube,
    VideoInstanceAP,
    VideoPanopticQuality,
)
from maskstream.types import RLE, Category, CategorySet, FrameAnnotation, FrameSegmentation, LabelMap, Segment

SIZE = (480, 854)
RUNS = 5
TOLERANCE = 1e-12
REPOSITORIES = ("Tracking-Anything-with-DEVA", "deeplab2", "cocoapi", "davis2017-evaluation")
THINGS, CLASSES = 58, 124
CATEGORIES = CategorySet("124 classes", tuple(Category(n, str(n), is_thing=n < THINGS) for n in range(CLASSES)))

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Ids = NDArray[np.int64]
Pictures = NDArray[np.uint8]
Scores = dict[str, float]
Frames = Iterable[tuple[FrameAnnotation, FrameSegmentation]]
Run = Callable[[], tuple[float, Scores]]
"""Scores once; gives the processor time in seconds, and the numbers."""


@dataclass(frozen=True)
class Side:
    """Truth or prediction of a video: ``int32[T, H, W]`` with 0 for void, and the category of every id from 1."""

    labels_thw: Labels
    category_of: Mapping[int, int]


Videos = Sequence[tuple[Side, Side]]


@dataclass(frozen=True)
class Row:
    """One line of the table: seconds of a whole run by side ("plain", "official", "ours")."""

    metric: str
    seconds: Mapping[str, float]
    frames: int
    target: float

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as long as ours the other sides take."""
        return {side: seconds / self.seconds["ours"] for side, seconds in self.seconds.items() if side != "ours"}


@dataclass(frozen=True)
class Official:
    """Where the official programs are, and which Python runs them."""

    checkouts: Path
    python: str

    @contextmanager
    def running(self, program: str, data: Path) -> Iterator[Run]:
        """A program of `metrics_official.py`, waiting for its turns in a process of its own."""
        script = Path(__file__).with_name("metrics_official.py")
        command = [self.python, str(script), program, str(self.checkouts), str(data)]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=one_thread
        ) as process:
            asked, answered = process.stdin, process.stdout
            assert asked is not None and answered is not None

            def run() -> tuple[float, Scores]:
                print("run", file=asked, flush=True)
                answer = answered.readline()
                if not answer:
                    raise RuntimeError(f"the official program for {program} ended; its own message is above")
                seconds, scores = json.loads(answer)
                return seconds, scores

            yield run


def main() -> None:
    """Time everything and print the table, or print memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, metavar="CHECKOUTS")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if options.memory:
        sys.exit(not memory_is_bounded())
    official = Official(options.official.resolve(), options.python) if options.official else None
    missing = [name for name in REPOSITORIES if official and not (official.checkouts / name).is_dir()]
    if missing:
        parser.error(f"{options.official} has no folder {missing[0]}: it must hold {', '.join(REPOSITORIES)}")
    rows = [
        vpq(official),
        stq(official),
        stq_vipseg(official),
        vis_ap(official, videos=3, objects=10, guesses=10),
        vis_ap(official, videos=20, objects=2, guesses=5),
        jf(official, objects=6),
        jf(official, objects=2),
    ]
    print(f"{'ms a frame, and ratio to ours':32} {'ours':>6} {'plain':>15} {'official':>15} {'target':>7}")
    for row in rows:
        cells = {side: 1000 * seconds / row.frames for side, seconds in row.seconds.items()}
        others = "".join(
            f" {cells[side]:7.1f} {row.ratios[side]:6.1f}×" if side in cells else f"{'–':>16}"
            for side in ("plain", "official")
        )
        print(f"{row.metric:32} {cells['ours']:6.2f}{others} {row.target:6.0f}×")
    on_target = (row.ratios.get("official", math.inf) >= row.target for row in rows)
    no_slower = (row.ratios.get("plain", math.inf) >= 1 for row in rows)
    sys.exit(not (all(on_target) and all(no_slower)))


def timed(score: Callable[[], Scores]) -> tuple[float, Scores]:
    """Processor time of one run, and what it gave."""
    start = time.process_time()
    scores = score()
    return time.process_time() - start, scores


def compare(
    metric: str,
    *,
    plain: Callable[[], Scores] | None,
    official: Official | None,
    program: str,
    save: Callable[[Path], None],
    ours: Callable[[], Scores],
    frames: int,
    target: float,
) -> Row:
    """Time all sides and demand that everything the others compute is the same as ours.

    Args:
        metric: what the table calls it.
        plain: the plain code, if there is some.
        official: where the official programs are, if they are to run.
        program: which of them.
        save: writes what it reads into a folder.
        ours: the library.
        frames: how many frames a run scores.
        target: the ratio wanted.
    """
    with ExitStack() as stack:
        sides: dict[str, Run] = {"plain": partial(timed, plain)} if plain else {}
        if official:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            save(folder)
            sides["official"] = stack.enter_context(official.running(program, folder))
        sides["ours"] = partial(timed, ours)
        # In turn, so that what else the machine does meets all.
        runs = [{side: run() for side, run in sides.items()} for _ in range(RUNS)]
    first = {side: scores for side, (_, scores) in runs[0].items()}
    found = first.pop("ours")
    for side, expected in first.items():
        for name, value in expected.items():
            if not math.isclose(found[name], value, rel_tol=0, abs_tol=TOLERANCE):
                raise AssertionError(f"{metric}: {name} is {found[name]!r}, but {value!r} by the {side} side")
        print(f"{metric}: {len(expected)} numbers of the {side} side agree", flush=True)
    return Row(metric, {side: min(run[side][0] for run in runs) for side in sides}, frames, target)


# What is scored.


def moving_shapes(seed: int, *, frames: int, shapes: int) -> tuple[Side, Side]:
    """Shapes that drift over six stripes of stuff; predictions are shifted, and some get lost, new or another class."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    stripes = 6
    category_of = {n: int(rng.integers(THINGS, CLASSES)) for n in range(1, stripes + 1)}
    category_of |= {n: int(rng.integers(0, THINGS)) for n in range(stripes + 1, stripes + shapes + 1)}
    start, velocity = rng.random((shapes, 2)), rng.normal(0, 6, (shapes, 2))
    radii = rng.uniform(0.05, 0.3, (shapes, 2))
    true_thw, pred_thw = np.zeros((2, frames, height, width), np.int32)
    for t in range(frames):
        for image, shift in ((true_thw[t], 0), (pred_thw[t], 3)):
            image[:] = 1 + (np.arange(width) + 10 * shift) * stripes // (width + 60)
            for n, (centre, speed, radius) in enumerate(zip(start, velocity, radii, strict=True)):
                if shift and rng.random() < 0.1:
                    continue
                y, x = centre * SIZE + t * speed + shift * rng.normal(0, 1, 2)
                axes = (int(radius[1] * width), int(radius[0] * height))
                cv2.ellipse(image, (int(x), int(y)), axes, 20.0 * n, 0, 360, stripes + 1 + n, -1)
        true_thw[t, : height // 20] = 0
    tracks = list(category_of)
    # Predicted ids are of the prediction's own numbering; a seventh of the tracks breaks in the middle.
    new_ids = np.concatenate([[0], rng.permutation(len(tracks)) + 1]).astype(np.int32)
    broken = np.where(rng.random(len(new_ids)) < 1 / 7, new_ids + len(tracks), new_ids).astype(np.int32)
    pred_thw = np.concatenate([new_ids[pred_thw[: frames // 2]], broken[pred_thw[frames // 2 :]]])
    wrong = {n: int(rng.integers(0, CLASSES)) if rng.random() < 0.1 else category_of[n] for n in tracks}
    pred_category = {int(ids[n]): wrong[n] for n in tracks for ids in (new_ids, broken)}
    return Side(true_thw, category_of), Side(pred_thw, pred_category)


def segmentations(side: Side) -> list[FrameSegmentation]:
    """The frames of a side as the library takes them: ids that are visible, and a map of their positions."""
    found = []
    for index, labels_hw in enumerate(side.labels_thw):
        ids = [int(n) for n in np.unique(labels_hw) if n]
        segments = tuple(Segment(n, n, side.category_of[n], 1.0, side.category_of[n] < THINGS) for n in ids)
        position_of = np.zeros(int(labels_hw.max()) + 1, np.int32)
        position_of[ids] = np.arange(1, len(ids) + 1)
        labels = LabelMap(torch.from_numpy(position_of[labels_hw]))
        found.append(FrameSegmentation(index, SIZE, segments, labels))
    return found


def paired(video: tuple[Side, Side]) -> list[tuple[FrameAnnotation, FrameSegmentation]]:
    """Truth and prediction, frame by frame."""
    truths, predictions = (segmentations(side) for side in video)
    return [(FrameAnnotation(truth), prediction) for truth, prediction in zip(truths, predictions, strict=True)]


@dataclass(frozen=True)
class Pictured:
    """A side as VIPSeg's files hold it: pictures ``uint8[T, H, W, 3]`` of ids, and the listed segments of each."""

    pictures: Pictures
    segments: Sequence[tuple[Segment, ...]]

    @classmethod
    def of(cls, side: Side) -> Pictured:
        """The files of a side, decoded."""
        octets = np.ascontiguousarray(side.labels_thw, "<i4").view(np.uint8).reshape(*side.labels_thw.shape, 4)
        return cls(np.ascontiguousarray(octets[..., :3]), [frame.segments for frame in segmentations(side)])

    def read(self) -> Iterator[FrameSegmentation]:
        """The frames as the library takes them, one by one."""
        for index, (picture, segments) in enumerate(zip(self.pictures, self.segments, strict=True)):
            ids_hw = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA).view("<i4")[..., 0] & 0xFFFFFF
            position_of = np.zeros(int(ids_hw.max()) + 1, np.int32)
            position_of[[segment.id for segment in segments]] = np.arange(1, len(segments) + 1)
            yield FrameSegmentation(index, SIZE, segments, LabelMap(torch.from_numpy(position_of.take(ids_hw))))


def read_pairs(truth: Pictured, prediction: Pictured) -> Iterator[tuple[FrameAnnotation, FrameSegmentation]]:
    """Truth and prediction, frame by frame, as they are read."""
    for true_frame, pred_frame in zip(truth.read(), prediction.read(), strict=True):
        yield FrameAnnotation(true_frame), pred_frame


def count_frames(videos: Videos) -> int:
    """Frames of all videos."""
    return sum(len(truth.labels_thw) for truth, _ in videos)


def save_videos(videos: Videos, folder: Path) -> None:
    """Leave the label maps for an official program."""
    arrays: dict[str, Labels | Ids] = {name: np.array(n) for name, n in (("classes", CLASSES), ("things", THINGS))}
    for number, video in enumerate(videos):
        for name, side in zip((f"truth{number}", f"prediction{number}"), video, strict=True):
            categories = [side.category_of.get(n, 0) for n in range(max(side.category_of) + 1)]
            arrays |= {f"{name}_labels": side.labels_thw, f"{name}_categories": np.array(categories)}
    np.savez(folder / "videos.npz", videos=np.array(len(videos)), allow_pickle=False, **arrays)


def accumulated(
    metric: VideoPanopticQuality | SegmentationTrackingQuality | DavisSemiSupervised, videos: Iterable[Frames]
) -> Scores:
    """The values of a metric over all videos."""
    for number, frames in enumerate(videos):
        for truth, prediction in frames:
            metric.update(str(number), prediction.frame_index, truth, prediction)
        metric.end_sequence(str(number))
    return metric.result().values


# VPQ: every window of every size scans its pixels again.


def vpq(official: Official | None) -> Row:
    """The whole set of windows."""
    videos = [moving_shapes(0, frames=12, shapes=12)]
    pictured = [(Pictured.of(truth), Pictured.of(prediction)) for truth, prediction in videos]
    return compare(
        "VPQ, windows 1 2 4 6 8 10 ∞",
        plain=lambda: plain_vpq(videos),
        official=official,
        program="vpq",
        save=partial(save_videos, videos),
        ours=lambda: accumulated(VideoPanopticQuality(CATEGORIES, windows=DEVA_WINDOWS), starmap(read_pairs, pictured)),
        frames=count_frames(videos),
        target=10,
    )


def memory_is_bounded() -> bool:
    """Print the most memory so far while one video of 24 frames is scored under more and more names."""
    video = moving_shapes(0, frames=24, shapes=12)
    frames = paired(video)
    size = sum(side.labels_thw.nbytes for side in video) / 2**20
    metric = VideoPanopticQuality(CATEGORIES, windows=DEVA_WINDOWS)
    most: list[float] = []
    for number in range(1, 257):
        for truth, prediction in frames:
            metric.update(str(number), prediction.frame_index, truth, prediction)
        metric.end_sequence(str(number))
        if number in (1, 16, 256):
            most.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
            print(
                f"VPQ after {number:3} videos of {size:.0f} MiB of label maps: at most {most[-1]:.1f} MiB", flush=True
            )
    return most[-1] - most[0] < size


def plain_vpq(videos: Videos) -> Scores:
    """VPQ_k of every window and VPQ_deva."""
    scores: Scores = {}
    for k in DEVA_WINDOWS:
        tp, fp, fn, iou = np.zeros((4, CLASSES))
        for truth, prediction in videos:
            length = len(truth.labels_thw)
            size = int(min(k, length))
            for first in range(length - size + 1):
                window = slice(first, first + size)
                count_window(truth, prediction, window, tp, fp, fn, iou)
        occurs = tp + fp + fn > 0
        quality = iou[occurs] / (tp + fp / 2 + fn / 2)[occurs]
        scores[f"VPQ_{'inf' if k == math.inf else int(k)}"] = float(quality.mean())
    finite = [value for name, value in scores.items() if name != "VPQ_inf"]
    return {"VPQ_deva": (scores["VPQ_inf"] + sum(finite) / len(finite)) / 2, **scores}


def count_window(
    truth: Side,
    prediction: Side,
    window: slice,
    tp: NDArray[np.float64],
    fp: NDArray[np.float64],
    fn: NDArray[np.float64],
    iou: NDArray[np.float64],
) -> None:
    """Match the tubes of one window."""
    true_thw, pred_thw = truth.labels_thw[window].astype(np.uint64), prediction.labels_thw[window].astype(np.uint64)
    offset = np.uint64(256**3)
    true_area, pred_area = histogram(true_thw), histogram(pred_thw)
    shared = {divmod(key, 256**3): count for key, count in histogram(true_thw * offset + pred_thw).items()}
    true_matched, pred_matched = set(), set()
    for (g, p), count in shared.items():
        if g and p and truth.category_of[g] == prediction.category_of[p]:
            union = true_area[g] + pred_area[p] - count - shared.get((0, p), 0)
            if count / union > 0.5:
                tp[truth.category_of[g]] += 1
                iou[truth.category_of[g]] += count / union
                true_matched.add(g)
                pred_matched.add(p)
    for g in true_area:
        if g and g not in true_matched:
            fn[truth.category_of[g]] += 1
    for p in pred_area:
        if p and p not in pred_matched and shared.get((0, p), 0) / pred_area[p] <= 0.5:
            fp[prediction.category_of[p]] += 1


def histogram(values: NDArray[np.uint64] | Ids) -> dict[int, int]:
    """How often every value occurs."""
    keys, counts = np.unique(values, return_counts=True)
    return dict(zip(keys.tolist(), counts.tolist(), strict=True))


# STQ: a mask for every class of things, a pass over the picture for everything that is counted.


def stq(official: Official | None) -> Row:
    """One video after the other; both sides have label maps."""
    videos = [moving_shapes(seed, frames=20, shapes=12) for seed in range(2)]
    frames = [paired(video) for video in videos]
    encoded = [(encode(truth), encode(prediction)) for truth, prediction in videos]
    return compare(
        "STQ, 124 classes",
        plain=lambda: plain_stq(encoded),
        official=official,
        program="stq",
        save=partial(save_videos, videos),
        ours=lambda: accumulated(SegmentationTrackingQuality(CATEGORIES, crowd="none"), frames),
        frames=count_frames(videos),
        target=5,
    )


def stq_vipseg(official: Official | None) -> Row:
    """The same from the pictures of VIPSeg, and the first segment of a video is crowd."""
    videos = [moving_shapes(seed, frames=20, shapes=12) for seed in range(2)]
    pictured = [(Pictured.of(truth), Pictured.of(prediction)) for truth, prediction in videos]
    return compare(
        "STQ as on VIPSeg",
        plain=None,
        official=official,
        program="stq-vipseg",
        save=partial(save_videos, videos),
        ours=lambda: accumulated(SegmentationTrackingQuality(CATEGORIES, crowd="first"), starmap(read_pairs, pictured)),
        frames=count_frames(videos),
        target=5,
    )


def encode(side: Side) -> Ids:
    """``int64[T, H, W]``: class and id in one number; class 255 is void."""
    value_of = np.full(max(side.category_of) + 1, 255 << 16, np.int64)
    for number, category in side.category_of.items():
        value_of[number] = category << 16 | number
    return value_of[side.labels_thw]


def plain_stq(videos: Sequence[tuple[Ids, Ids]]) -> Scores:
    """STQ, AQ and SQ."""
    confusion = np.zeros((CLASSES + 1, CLASSES + 1), np.int64)
    association, tracks = 0.0, 0
    for true_thw, pred_thw in videos:
        true_area, pred_area, shared = Counter[int](), Counter[int](), Counter[int]()
        for true_hw, pred_hw in zip(true_thw, pred_thw, strict=True):
            true_class, pred_class = np.minimum(true_hw >> 16, CLASSES), np.minimum(pred_hw >> 16, CLASSES)
            pairs = (true_class * (CLASSES + 1) + pred_class).ravel()
            confusion += np.bincount(pairs, minlength=confusion.size).reshape(confusion.shape)
            true_thing, pred_thing = np.zeros(SIZE, np.bool_), np.zeros(SIZE, np.bool_)
            for category in range(THINGS):
                true_thing = np.logical_or(true_thing, true_class == category)
                pred_thing = np.logical_or(pred_thing, pred_class == category)
            true_area.update(histogram(true_hw[true_thing]))
            pred_area.update(histogram(pred_hw[pred_thing]))
            both = np.logical_and(true_thing, pred_thing)
            shared.update(histogram(true_hw[both] << 32 | pred_hw[both]))
        for key, count in shared.items():
            g, p = key >> 32, key & 0xFFFFFFFF
            association += count * (count / (true_area[g] + pred_area[p] - count)) / true_area[g]
        tracks += len(true_area)
    confusion[CLASSES] = 0  # what is void in the truth
    both_c = confusion.diagonal()
    union_c = confusion.sum(axis=0) + confusion.sum(axis=1) - both_c
    aq, sq = association / tracks, float((both_c[union_c > 0] / union_c[union_c > 0]).mean())
    return {"STQ": math.sqrt(aq * sq), "AQ": aq, "SQ": sq}


# VIS AP: every prediction with every truth of its category, frame by frame.

RANGES = ((0.0, 1e10), (0.0, 128.0**2), (128.0**2, 256.0**2), (256.0**2, 1e10))
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Tube:
    """A tube and, for predictions, its score."""

    masks: list[RLE | None]
    category: int
    score: float = 0.0


def vis_ap(official: Official | None, *, videos: int, objects: int, guesses: int) -> Row:
    """Four categories; ten objects with ten guesses each are as crowded as OVIS, two with five as YouTube-VIS."""
    tubes = [instances(seed, objects=objects, guesses=guesses) for seed in range(videos)]
    categories = CategorySet("four", tuple(Category(n, str(n)) for n in range(1, 5)))

    def ours() -> Scores:
        metric = VideoInstanceAP(categories)
        for number, (truths, predicted) in enumerate(tubes):
            metric.update_video(
                number,
                [TrueTube(tube.masks, tube.category) for tube in truths],
                [PredictedTube(tube.masks, tube.category, tube.score) for tube in predicted],
            )
        return metric.result().values

    return compare(
        f"VIS AP, {objects * guesses} predictions of {objects}",
        plain=lambda: plain_vis_ap(tubes),
        official=official,
        program="vis-ap",
        save=partial(save_tubes, tubes),
        ours=ours,
        frames=sum(len(truths[0].masks) for truths, _ in tubes),
        target=3,
    )


def save_tubes(videos: Sequence[tuple[list[Tube], list[Tube]]], folder: Path) -> None:
    """Leave truth and prediction as the JSON files of YouTube-VIS."""
    annotations: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    for video_id, (truths, guesses) in enumerate(videos, start=1):
        for tube in truths:
            common = {"video_id": video_id, "category_id": tube.category, "segmentations": tube.masks}
            areas = [int(coco_mask.area(code)) if code else None for code in tube.masks]
            annotations.append({**common, "id": len(annotations) + 1, "areas": areas, "iscrowd": 0})
        for tube in guesses:
            common = {"video_id": video_id, "category_id": tube.category, "segmentations": tube.masks}
            results.append({**common, "score": tube.score})
    listed = [{"id": n + 1, "height": SIZE[0], "width": SIZE[1]} for n in range(len(videos))]
    categories = [{"id": n, "name": str(n)} for n in range(1, 5)]
    truth = {"videos": listed, "categories": categories, "annotations": annotations}
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "prediction.json").write_text(json.dumps(results))


def instances(seed: int, *, objects: int, guesses: int) -> tuple[list[Tube], list[Tube]]:
    """Truths, and some predictions of each that are shifted by more and more; a tube has gaps."""
    rng = np.random.default_rng(seed)
    truth, _ = moving_shapes(seed, frames=20, shapes=objects)
    truths, predicted = [], []
    for number in range(7, 7 + objects):
        category = int(rng.integers(1, 5))
        masks_thw = truth.labels_thw == number
        truths.append(Tube([run_lengths(mask) for mask in masks_thw], category))
        for shift in range(0, 40, 40 // guesses):
            moved = np.roll(masks_thw, rng.integers(-shift - 2, shift + 3, 2), axis=(1, 2))
            gaps = rng.random(len(moved)) < 0.1
            masks = [None if gap else run_lengths(mask) for mask, gap in zip(moved, gaps, strict=True)]
            said = category if rng.random() < 0.8 else int(rng.integers(1, 5))
            predicted.append(Tube(masks, said, float(rng.random())))
    return truths, predicted


def run_lengths(mask: Mask) -> RLE | None:
    """The code of a mask, or None for an empty one."""
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return RLE(size=list(mask.shape), counts=code["counts"].decode("ascii")) if mask.any() else None


def plain_vis_ap(videos: Sequence[tuple[list[Tube], list[Tube]]]) -> Scores:
    """AP, AP50, AP75, the three sizes, AR1 and AR10."""
    by_category = {category: [judged(category, *video) for video in videos] for category in range(1, 5)}
    precision: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
    recall: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
    for results, area, limit in product(by_category.values(), range(4), (1, 10, 100)):
        curves = curve(results, area, limit)
        if curves is not None:
            precision.setdefault((area, limit), []).append(curves[0])
            recall.setdefault((area, limit), []).append(curves[1])
    sizes = {name: float(np.mean(precision[area, 100])) for area, name in enumerate(("AP", "APs", "APm", "APl"))}
    return {
        **sizes,
        "AP50": float(np.mean([one[0] for one in precision[0, 100]])),
        "AP75": float(np.mean([one[5] for one in precision[0, 100]])),
        "AR1": float(np.mean(recall[0, 1])),
        "AR10": float(np.mean(recall[0, 10])),
    }


@dataclass(frozen=True)
class Judged:
    """One category of one video: scores, and for every area range and threshold what became of each prediction."""

    scores: list[float]
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    truths: list[int]


def judged(category: int, all_truths: Sequence[Tube], all_guesses: Sequence[Tube]) -> Judged:
    """Match for every area range and every threshold anew."""
    truths = [tube for tube in all_truths if tube.category == category]
    guesses = sorted((tube for tube in all_guesses if tube.category == category), key=lambda tube: -tube.score)[:100]
    ious = [[pair_iou(guess, truth) for truth in truths] for guess in guesses]
    true_areas, areas = [average_area(tube) for tube in truths], [average_area(tube) for tube in guesses]
    right, ignored = np.zeros((2, len(RANGES), len(THRESHOLDS), len(guesses)), np.bool_)
    counts = []
    for a, (low, high) in enumerate(RANGES):
        out = [not low <= area <= high for area in true_areas]
        order = sorted(range(len(truths)), key=lambda g: out[g])
        counts.append(out.count(False))
        for t, threshold in enumerate(THRESHOLDS.tolist()):
            taken: set[int] = set()
            for d in range(len(guesses)):
                best, match = min(threshold, 1 - 1e-10), -1
                for g in order:
                    if g in taken:
                        continue
                    if match >= 0 and out[g] and not out[match]:
                        break
                    if ious[d][g] >= best:
                        best, match = ious[d][g], g
                taken.add(match)
                taken.discard(-1)
                right[a, t, d] = match >= 0 and not out[match]
                ignored[a, t, d] = out[match] if match >= 0 else not low <= areas[d] <= high
    return Judged([tube.score for tube in guesses], right, ignored, counts)


def pair_iou(guess: Tube, truth: Tube) -> float:
    """Intersection over union of two tubes, from the merged codes of every frame."""
    shared = union = 0.0
    for first, second in zip(guess.masks, truth.masks, strict=True):
        if first and second:
            shared += float(coco_mask.area(coco_mask.merge([first, second], intersect=True)))
            union += float(coco_mask.area(coco_mask.merge([first, second], intersect=False)))
        elif first or second:
            union += float(coco_mask.area(first or second))
    return shared / union if union else 0.0


def average_area(tube: Tube) -> float:
    """Over the frames with a mask."""
    areas = [int(coco_mask.area(code)) for code in tube.masks if code]
    return sum(areas) / len(areas) if areas else 0.0


def curve(results: Sequence[Judged], area: int, limit: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Precision at the 101 recalls, and the last recall, at every threshold; None without a truth."""
    truths = sum(one.truths[area] for one in results)
    if not truths:
        return None
    scores = np.concatenate([one.scores[:limit] for one in results])
    order = np.argsort(-scores, kind="mergesort")
    right = np.concatenate([one.right[area, :, :limit] for one in results], axis=1)[:, order]
    ignored = np.concatenate([one.ignored[area, :, :limit] for one in results], axis=1)[:, order]
    precision, recall = np.zeros((len(THRESHOLDS), len(RECALLS))), np.zeros(len(THRESHOLDS))
    for t in range(len(THRESHOLDS)):
        tp, fp = np.cumsum(right[t]), np.cumsum(~right[t] & ~ignored[t])
        reached, exact = tp / truths, (tp / (tp + fp + np.spacing(1))).tolist()
        recall[t] = reached[-1] if len(reached) else 0.0
        for d in range(len(exact) - 1, 0, -1):
            exact[d - 1] = max(exact[d - 1], exact[d])
        for r, d in enumerate(np.searchsorted(reached, RECALLS, side="left").tolist()):
            precision[t, r] = exact[d] if d < len(exact) else 0.0
    return precision, recall


# J & F: every object on the whole picture.


def jf(official: Official | None, *, objects: int) -> Row:
    """DAVIS-2017 semi-supervised, whose videos have two objects on average."""
    videos = [objects_of(seed, objects) for seed in range(2)]
    frames = [paired(video) for video in videos]
    return compare(
        f"J & F, {objects} objects",
        plain=lambda: plain_jf([(truth.labels_thw, prediction.labels_thw) for truth, prediction in videos]),
        official=official,
        program="jf",
        save=partial(save_videos, videos),
        ours=lambda: accumulated(DavisSemiSupervised(), frames),
        frames=count_frames(videos),
        target=3,
    )


def objects_of(seed: int, objects: int) -> tuple[Side, Side]:
    """Objects on nothing; the prediction has moved by a few pixels a frame."""
    truth, _ = moving_shapes(seed, frames=14, shapes=objects)
    true_thw = np.maximum(truth.labels_thw - 6, 0)
    rng = np.random.default_rng(seed)
    pred_thw = np.stack([np.roll(labels, rng.integers(-9, 10, 2), axis=(0, 1)) for labels in true_thw])
    category_of = dict.fromkeys(range(1, objects + 1), 0)
    return Side(true_thw, category_of), Side(pred_thw, category_of)


def plain_jf(videos: Sequence[tuple[Labels, Labels]]) -> Scores:
    """Means of J and F over objects, first and last frame left out."""
    j, f = [], []
    for true_thw, pred_thw in videos:
        for number in range(1, int(true_thw[0].max()) + 1):
            pairs = [(true == number, pred == number) for true, pred in zip(true_thw, pred_thw, strict=True)][1:-1]
            j.append(np.mean([plain_j(true, pred) for true, pred in pairs]))
            f.append(np.mean([plain_f(true, pred) for true, pred in pairs]))
    return {"J&F-Mean": float(np.mean(j) + np.mean(f)) / 2, "J-Mean": float(np.mean(j)), "F-Mean": float(np.mean(f))}


def plain_j(true: Mask, pred: Mask) -> float:
    """Intersection over union."""
    union = np.sum(true | pred)
    return float(np.sum(true & pred) / union) if union else 1.0


def plain_f(true: Mask, pred: Mask) -> float:
    """Boundary accuracy with both contours dilated on the whole picture."""
    radius = math.ceil(0.008 * math.hypot(*true.shape))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.uint8)
    true_edge, pred_edge = contour(true), contour(pred)
    true_near, pred_near = (cv2.dilate(edge.astype(np.uint8), disk) > 0 for edge in (true_edge, pred_edge))
    true_count, pred_count = np.sum(true_edge), np.sum(pred_edge)
    if not true_count or not pred_count:
        return float(true_count == pred_count)
    precision = float(np.sum(pred_edge & true_near) / pred_count)
    recall = float(np.sum(true_edge & pred_near) / true_count)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(mask: Mask) -> Mask:
    """Pixels that differ from their neighbour to the east, south or south-east."""
    east, south, diagonal = np.zeros((3, *mask.shape), np.bool_)
    east[:, :-1], south[:-1], diagonal[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    edge: Mask = (mask ^ east) | (mask ^ south) | (mask ^ diagonal)
    edge[-1], edge[:, -1] = mask[-1] ^ east[-1], mask[:, -1] ^ south[:, -1]
    edge[-1, -1] = False
    return edge


if __name__ == "__main__":
    main()
