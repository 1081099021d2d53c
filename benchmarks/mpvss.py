"""Semantic segmentation of video by carrying masks: quality and cost of every way, on videos of the synthetic world.

    python benchmarks/mpvss.py --runs runs/mpvss --flow runs/flow/weights --refined runs/refined/weights
                               [--seeds 0 1 2] [--steps 2400] [--videos 8]
    python benchmarks/mpvss.py --runs runs/mpvss --only fused       # one variant, as a first look
    python benchmarks/mpvss.py --speed                              # of networks as large as published, random weights

Every variant of the recipe ``mpvss-tiny`` is trained, each with several seeds, into a folder of its own under
``--runs``; what is complete there is not trained again, and what was interrupted goes on. They begin with what
``maskstream train flow-tiny`` learned of true flow: pixel flow from ``--flow``, all others from ``--refined``, which
was trained with ``model.flow=refined model.init=core-tiny``. Then every way of carrying masks is measured with a key
frame every 2, 5 and 10 frames, on the same videos, which none was trained on; what was measured already is kept in
benchmarks/results/mpvss.jsonl and not done again, nor trained for; ``--scores`` names another file. Ways without
training have no seeds.

Numbers are percent: mean over seeds ± half of the 95 % interval (Student's t). Where a difference is more than two of
its standard deviations over seeds, it is "as in the paper" or "the other way round"; otherwise "within noise". mVC8: of
pixels whose true class stays for 8 frames, those that stand still in the prediction. Costs are multiply-adds a frame,
averaged, as the paper counts, without optical flow of no weights; times are of one thread's processor.

Adaptive key frames, on the same videos and on those of level hard, which have cuts: thresholds of error and motion are
multiplied by one number, so that there are as many key frames as with a fixed interval, at most two intervals apart;
only pictures decide it.

Rendered scenes have true flow: of pixels, the same for all queries, and of objects, one for each query. What the second
is above the first, on these videos, is what can be expected of query flow above pixel flow.

``--speed``: Swin-T with random weights on 480p, a key frame every 5 frames, against every frame by itself, ours and
that of `transformers`. All take turns in one process. Ends with exit code 1 below 2.2 and 3 times.

Tables go to the terminal and to benchmarks/results/mpvss.md; those of ``--speed`` to the terminal.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch

from mask2former import swin_tiny
from maskstream.mask2former import use_fast_attention
from maskstream.mask2former.network import with_classes
from maskstream.metrics import SemanticQuality, VideoConsistency
from maskstream.pretrained import Pixels
from maskstream.shipped import weights_of
from maskstream.synthetic.render import render
from maskstream.synthetic.scene import WORLD, Scene
from maskstream.synthetic.videos import video_seed
from maskstream.synthetic.world import LEVELS, Level, make_scene
from maskstream.systems.mpvss import KeySettings, Motion, Mpvss, MpvssNetwork, MpvssSettings, load_mpvss
from maskstream.systems.mpvss.cost import cost
from maskstream.systems.mpvss.keys import KeyPolicy
from maskstream.systems.mpvss.network import motion_config
from maskstream.systems.mpvss.session import Carrying
from maskstream.types import Frame, FrameAnnotation, Task
from study import Journal, Scores, gaps, judged, trained, with_interval
from true_flow import TrueFlowSession, Whose

SEED = 3_000_017
"""Of the first video; neither training nor its validation has it."""

SIZE, FRAMES = (128, 224), 40
INTERVALS = (2, 5, 10)
TOLD = {"mIoU": "mIoU", "mVC": "mVC8"}
"""Metrics of quality, and what tables call them."""

RESULTS = Path(__file__).parent / "results" / "mpvss.md"
SCORES = RESULTS.with_suffix(".jsonl")

TRAINED: dict[str, tuple[str, ...]] = {
    "fused": (),
    "pixel": ("model.flow=pixel",),
    "query": ("model.flow=query",),
    "random": ("model.flow=query", "model.flow_query=random"),
    "learned": ("model.flow=query", "model.flow_query=learned"),
    "refined": ("model.flow=refined",),
}
"""By name, what is changed in the recipe. The paper's Query-learned are queries of the key frame, "query" here."""


@dataclass(frozen=True)
class Way:
    """A line of the tables.

    Attributes:
        label: what it says.
        trained: which network; None: the core that all begin from.
        carrying: see `Carrying`; None: every frame is a key frame.
        paper: mIoU in the paper's tables, by table; Swin-T, but for Table 2.
        whose: true flow carries masks instead.
    """

    label: str
    trained: str | None
    carrying: Carrying | None
    paper: Mapping[str, float] = field(default_factory=dict, compare=False)
    whose: Whose | None = None


EVERY_FRAME = Way("every frame by itself", None, None, {"3": 41.2, "2": 83.3})
OWN_HEADS = Way("every frame by itself, heads of MPVSS", "fused", None)
COPIES = Way("copies", None, "copy", {"3": 37.5})
OPTICAL = Way("optical flow without weights", None, "flow")
TRUE_OF_PIXELS = Way("true flow of pixels", None, "copy", whose="pixels")
TRUE_OF_OBJECTS = Way("true flow of objects", None, "copy", whose="objects")
PIXEL = Way("pixel flow, learned", "pixel", "motion", {"3": 38.4, "H": 79.6})
MPVSS = Way("query-based flow (MPVSS)", "fused", "motion", {"3": 39.9, "H": 80.7, "2": 81.7})

WAYS = (
    EVERY_FRAME,
    OWN_HEADS,
    COPIES,
    TRUE_OF_PIXELS,
    TRUE_OF_OBJECTS,
    OPTICAL,
    Way("optical flow without weights, both directions", None, "bidirectional"),
    Way("optical flow without weights, DFF", None, "dff"),
    Way("optical flow without weights, Accel", None, "accel"),
    PIXEL,
    Way("pixel flow, learned, both directions", "pixel", "bidirectional", {"H": 80.2}),
    Way("pixel flow, learned, DFF", "pixel", "dff", {"2": 79.9}),
    Way("pixel flow, learned, Accel", "pixel", "accel", {"2": 81.4}),
    Way("query flow, random queries", "random", "motion", {"3": 38.1}),
    Way("query flow, learned queries", "learned", "motion"),
    Way("query flow, queries of the key frame", "query", "motion", {"3": 39.2}),
    Way("pixel flow that queries refined", "refined", "motion", {"3": 38.5}),
    MPVSS,
    Way("query-based flow (MPVSS), both directions", "fused", "bidirectional"),
)

ADAPTIVE = (COPIES, OPTICAL, MPVSS)
CUTS: Level = "hard"
"""Videos of this level have cuts."""

CAP = 2
"""Intervals from one adaptive key frame to the next at most."""


@dataclass(frozen=True)
class Film:
    """A video with its truth."""

    name: str
    scene: Scene
    frames: list[Frame]
    truth: list[FrameAnnotation]


@cache
def films(count: int, level: Level) -> list[Film]:
    """Rendered videos."""
    found = []
    for number in range(count):
        scene = make_scene(level=level, seed=video_seed(SEED, number), frames=FRAMES, aspect=SIZE[1] / SIZE[0])
        drawn = list(render(scene, SIZE, motion=False))
        frames = [Frame(n, n / 24, one.frame.image) for n, one in enumerate(drawn)]
        found.append(Film(f"{number}", scene, frames, [one.annotation for one in drawn]))
    return found


def key_share(keys: KeySettings, videos: Sequence[Film]) -> float:
    """Key frames as a share of all."""
    policies = ((KeyPolicy(keys), film) for film in videos)
    found = [policy.is_key(frame.image) for policy, film in policies for frame in film.frames]
    return float(np.mean(found))


def adaptive(interval: int, videos: Sequence[Film]) -> KeySettings:
    """Adaptive key frames, as many as with a fixed interval."""
    wanted, usual = key_share(KeySettings(interval=interval), videos), KeySettings()

    def scaled(scale: float) -> KeySettings:
        return KeySettings(
            interval=CAP * interval, adaptive=True, error=scale * usual.error, motion=scale * usual.motion
        )

    low, high = 1e-3, 10.0
    for _ in range(14):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if key_share(scaled(middle), videos) > wanted else (low, middle)
    return scaled(high)


def measure(weights: str, way: Way, keys: KeySettings, videos: Sequence[Film]) -> Scores:
    """Fractions ``mIoU`` and ``mVC``; ``share`` of key frames; ``GMAC`` and ``ms`` a frame."""
    system = load_mpvss(weights, settings=MpvssSettings(keys=keys, carrying=way.carrying))
    quality, consistency = SemanticQuality(WORLD), VideoConsistency(windows=(8,))
    times = []
    for film in videos:
        began = time.process_time()
        if way.whose is None:
            session = system.start(Task.VSS, size_hw=SIZE, categories=WORLD)
        else:
            session = TrueFlowSession(system, film.scene, size_hw=SIZE, whose=way.whose)
        results = [*(result for frame in film.frames for result in session.step(frame)), *session.finish()]
        times.append(1000 * (time.process_time() - began) / FRAMES)
        for metric in (quality, consistency):
            for index, result in enumerate(results):
                metric.update(film.name, index, film.truth[index], result)
            metric.end_sequence(film.name)
    share, price = key_share(keys, videos), cost(system.network, system.pixels.resized_hw(SIZE), carrying=way.carrying)
    return {
        "mIoU": quality.result().values["mIoU"],
        "mVC": consistency.result().values["mVC8"],
        "share": share,
        "GMAC": (share * price.key + (1 - share) * price.between) / 1e9,
        "ms": median(times),
    }


Found = dict[tuple[Way, int, bool, Level], list[Scores]]
"""By way, interval, whether it is fixed, and level of the videos: the scores of each seed."""


def everything(options: argparse.Namespace) -> Found:
    """Train and measure what is not there yet."""

    @cache
    def weights(name: str, seed: int) -> Path:
        settings = (
            "train.ema=0.99",  # runs are short
            f"model.init={options.core}",
            f"model.flow_encoder={(options.flow if name == 'pixel' else options.refined) or 'null'}",
            *TRAINED[name],
        )
        return trained("mpvss-tiny", settings, options.runs, name=name, seed=seed, steps=options.steps)

    journal, found = Journal(options.scores), Found()
    parts: list[tuple[Level, bool, Sequence[Way]]] = [(options.level, True, WAYS), (options.level, False, ADAPTIVE)]
    parts += [(CUTS, fixed, ADAPTIVE) for fixed in (True, False)]
    for level, fixed, ways in parts:
        videos = films(options.videos, level)
        for interval in INTERVALS:
            keys = KeySettings(interval=interval) if fixed else adaptive(interval, videos)
            for way in ways:
                if way.trained is not None and options.only and way.trained not in options.only:
                    continue
                every = way.carrying is None
                own = KeySettings(interval=1) if every else keys
                for seed in options.seeds[:1] if way.trained is None else options.seeds:

                    def measured(
                        way: Way = way, own: KeySettings = own, seed: int = seed, videos: Sequence[Film] = videos
                    ) -> Scores:
                        from_core = str(weights_of(options.core, "segmenter"))
                        folder = from_core if way.trained is None else str(weights(way.trained, seed))
                        return measure(folder, way, own, videos)

                    begun = options.flow is not None and (way.trained == "pixel" or "refined")
                    made = None if way.trained is None else (seed, options.steps, begun)
                    key = (way.trained, way.whose or way.carrying, own, made, options.core, options.videos, level)
                    scores = journal.scores(key, measured)
                    found.setdefault((way, interval, fixed, level), []).append(scores)
                    told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
                    kind = "" if fixed else " adaptive"
                    print(f"{way.label} | {interval}{kind} | {level} | {told}", flush=True)
    return found


def quality_table(found: Found, level: Level) -> list[str]:
    """mIoU and mVC8 of every way."""
    columns = [f"{told}, every {n}" for told in TOLD.values() for n in INTERVALS]
    lines = [f"| masks | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for way in WAYS:
        if (way, INTERVALS[0], True, level) in found:
            cells = [
                with_interval([s[metric] for s in found[way, n, True, level]]) for metric in TOLD for n in INTERVALS
            ]
            lines.append(f"| {way.label} | {' | '.join(cells)} |")
    return lines


def cost_table(found: Found, level: Level) -> list[str]:
    """Multiply-adds and milliseconds a frame of every way."""
    columns = [f"{metric}, every {n}" for metric in ("GMAC", "ms") for n in INTERVALS]
    lines = [f"| masks | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for way in WAYS:
        if (way, INTERVALS[0], True, level) in found and way.whose is None:
            of = {n: found[way, n, True, level] for n in INTERVALS}
            macs = [f"{of[n][0]['GMAC']:.2f}" for n in INTERVALS]
            times = [f"{median(s['ms'] for s in of[n]):.0f}" for n in INTERVALS]
            lines.append(f"| {way.label} | {' | '.join([*macs, *times])} |")
    return lines


def adaptive_table(found: Found, level: Level) -> list[str]:
    """Adaptive key frames beside fixed ones, as many."""
    heads = ("masks", "videos", "fixed", "key frames", "mIoU", "adaptive: key frames", "mIoU", "difference")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for of in dict.fromkeys((level, CUTS)):
        for way in ADAPTIVE:
            for n in INTERVALS:
                if (way, n, False, of) in found:
                    fixed, other = found[way, n, True, of], found[way, n, False, of]
                    cells = [
                        of,
                        f"every {n}",
                        f"{100 * fixed[0]['share']:.1f} %",
                        with_interval([s["mIoU"] for s in fixed]),
                        f"{100 * other[0]['share']:.1f} %",
                        with_interval([s["mIoU"] for s in other]),
                        with_interval(gaps(fixed, other, "mIoU")),
                    ]
                    lines.append(f"| {way.label} | {' | '.join(cells)} |")
    return lines


def verdicts(found: Found, level: Level) -> list[str]:
    """Of every two ways that a table of the paper has, whether they are ordered as there, at interval 5."""
    lines = []
    there = [way for way in WAYS if (way, 5, True, level) in found]
    for table in ("3", "H", "2"):
        rows = sorted((way for way in there if table in way.paper), key=lambda way: way.paper[table])
        for n, first in enumerate(rows):
            for second in rows[n + 1 :]:
                difference = gaps(found[first, 5, True, level], found[second, 5, True, level], "mIoU")
                published = second.paper[table] - first.paper[table]
                lines.append(
                    f"* Table {table}, {second.label} − {first.label}: {with_interval(difference)} (paper "
                    f"{published:+.1f}), {judged(difference, published)}"
                )
    compared = [
        ("mIoU", TRUE_OF_OBJECTS, TRUE_OF_PIXELS),
        *(("mIoU", MPVSS, other) for other in (PIXEL, OPTICAL, COPIES)),
        ("mVC", TRUE_OF_OBJECTS, EVERY_FRAME),
        ("mVC", MPVSS, OWN_HEADS),
    ]
    for metric, one, other in compared:
        if (one, 5, True, level) in found and (other, 5, True, level) in found:
            each = [
                f"{with_interval(gaps(found[other, n, True, level], found[one, n, True, level], metric))} (every {n})"
                for n in INTERVALS
            ]
            lines.append(f"* {TOLD[metric]}, {one.label} − {other.label}: {', '.join(each)}")
    if (MPVSS, 5, True, level) in found:
        difference = gaps(found[EVERY_FRAME, 5, True, level], found[MPVSS, 5, True, level], "mVC")
        lines.append(
            f"* mVC8, every 5, {MPVSS.label} − {EVERY_FRAME.label}: {with_interval(difference)} (paper +1.4), "
            f"{judged(difference, 1.4)}"
        )
    return lines


def quality(options: argparse.Namespace) -> None:
    """Train, measure and write."""
    options.runs.mkdir(parents=True, exist_ok=True)
    found = everything(options)
    lines = [
        "# MPVSS on the synthetic world",
        "",
        f"`python benchmarks/mpvss.py`: {options.videos} videos of {FRAMES} frames, {SIZE[0]}×{SIZE[1]}, level "
        f"{options.level}; {options.steps} steps from {Path(options.core).name} and "
        f"{'true flow' if options.flow else 'random weights'}, seeds: {len(options.seeds)}. "
        "Percent; GMAC and ms a frame, of one thread's processor on whatever machine it was.",
        "",
        *("## Quality", "", *quality_table(found, options.level), ""),
        *("## Cost", "", *cost_table(found, options.level), ""),
        *("## Adaptive key frames at equal cost", "", *adaptive_table(found, options.level), ""),
        *("## Against the paper", "", *verdicts(found, options.level), ""),
    ]
    text = "\n".join(lines)
    options.output.write_text(text)
    print(text)


def speed(turns: int, *, interval: int = 5, size_hw: tuple[int, int] = (480, 853)) -> bool:
    """Milliseconds a frame of networks with random weights; whether targets are met."""
    names = [f"class {n}" for n in range(124)]
    core = use_fast_attention(with_classes(swin_tiny(), names))
    theirs = with_classes(swin_tiny(), names)
    torch.manual_seed(0)
    network = MpvssNetwork(core, Motion(motion_config(core))).eval().requires_grad_(False)
    pixels = Pixels(divisor=32)
    rng = np.random.default_rng(0)
    frames = [Frame(n, n / 24, rng.integers(0, 256, (*size_hw, 3), np.uint8)) for n in range(interval)]

    def per_frame() -> None:
        found = theirs(pixels([frames[0]]))
        classes_qc, masks_qhw = found.class_queries_logits[0], found.masks_queries_logits[0]
        # As their processor does for semantic segmentation, from classes and masks to a class for each pixel.
        masks_qhw = torch.nn.functional.interpolate(masks_qhw[None], (384, 384), mode="bilinear")[0]
        values_khw = torch.einsum("qc,qhw->chw", classes_qc.softmax(-1)[:, :-1], masks_qhw.sigmoid())
        torch.nn.functional.interpolate(values_khw[None], size_hw, mode="bilinear")[0].argmax(0)

    def ours(every: int, count: int) -> None:
        settings = MpvssSettings(keys=KeySettings(interval=every))
        session = Mpvss(network, pixels, settings=settings).start(Task.VSS, size_hw=size_hw)
        for frame in frames[:count]:
            session.step(frame)

    ways: dict[str, tuple[Callable[[], None], int]] = {
        "transformers, every frame": (per_frame, 1),
        "ours, every frame": (lambda: ours(1, 1), 1),
        f"ours, a key frame every {interval}": (lambda: ours(interval, interval), interval),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for turn in range(turns + 1):
            for name, (way, count) in ways.items():
                wall, began = time.perf_counter(), time.process_time()
                way()
                if turn:
                    times[name].append(1000 * (time.process_time() - began) / count)
                print(f"{name}: {(time.perf_counter() - wall) / count:.2f} s", file=sys.stderr, flush=True)
    ms = {name: median(each) for name, each in times.items()}
    key, own, carried = ms.values()
    print(f"Swin-T, {size_hw[0]}×{size_hw[1]}, 124 classes, {torch.get_num_threads()} threads, processor time")
    print("| | ms a frame | as fast as every frame of ours | of transformers |\n|---|---|---|---|")
    for name, value in ms.items():
        print(f"| {name} | {value:.0f} | {own / value:.2f} | {key / value:.2f} |")
    return own / carried >= 2.2 and key / carried >= 3


def main() -> None:
    """Whatever was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of runs")
    parser.add_argument("--core", default="core-tiny", help="weights that all begin from")
    parser.add_argument("--flow", help="folder of weights that pixel flow begins from; without, they are random")
    parser.add_argument("--refined", help="the same of what all others begin from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--level", default="medium", choices=LEVELS)
    parser.add_argument("--only", nargs="+", choices=list(TRAINED), help="variants that are trained and measured")
    parser.add_argument("--scores", type=Path, default=SCORES, help="what was measured before")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--speed", action="store_true", help="measure times of large networks instead")
    parser.add_argument("--turns", type=int, default=3, help="of --speed")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    cv2.setNumThreads(1)
    if options.speed:
        sys.exit(not speed(options.turns))
    if options.runs is None:
        parser.error("give a folder of runs, --runs, or --speed")
    if (options.flow is None) != (options.refined is None):
        parser.error("give both --flow and --refined, or neither")
    quality(options)


if __name__ == "__main__":
    main()
