"""Run one official metric program on data that `metrics.py` left in a folder; started by it, with ``--official``.

    python metrics_official.py PROGRAM CHECKOUTS DATA

CHECKOUTS holds checkouts of the public repositories, named as on GitHub. DATA is a folder with ``videos.npz``, or with
JSON for ``vis-ap``. For every line on stdin the program runs once, and its processor time in seconds and its
numbers come out as a line of JSON. Needs NumPy, OpenCV, pycocotools, SciPy, Pillow, tqdm, scikit-image and Matplotlib,
but not maskstream, so that it can run in an environment of its own.

Nothing of the programs is edited. Where a file would be decoded, a picture in memory is put in its place. What NumPy
has dropped or changed since is set back before a program runs; each function says what.
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

Scores = dict[str, float]
Run = Callable[[], Scores]
Labels = NDArray[np.int32]

WHOLE = 999
"""What DEVA's program gives as the window that is the whole video."""


class SegmentInfo(TypedDict):
    """A segment as the JSON of VIPSeg lists it."""

    id: int
    category_id: int
    area: int
    iscrowd: int


class FrameInfo(TypedDict):
    """The segments of a frame."""

    segments_info: list[SegmentInfo]


@dataclass(frozen=True)
class Side:
    """Truth or prediction of a video: ``int32[T, H, W]`` with 0 for void, and the category of every id."""

    labels_thw: Labels
    category_of: list[int]

    def listed(self) -> list[FrameInfo]:
        """The segments of every frame, those that are visible."""
        frames = []
        for labels_hw in self.labels_thw:
            ids, areas = np.unique(labels_hw, return_counts=True)
            found = [(int(n), int(area)) for n, area in zip(ids, areas, strict=True) if n]
            infos = [SegmentInfo(id=n, category_id=self.category_of[n], area=area, iscrowd=0) for n, area in found]
            frames.append(FrameInfo(segments_info=infos))
        return frames

    def pictures(self) -> NDArray[np.uint8]:
        """``uint8[T, H, W, 3]``: id = R + 256 G + 65536 B."""
        return np.stack([self.labels_thw >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)

    def encoded(self) -> Labels:
        """``int32[T, H, W]``: class and id in one number; class 255 is void."""
        values = [255 << 16, *(category << 16 | n for n, category in enumerate(self.category_of) if n)]
        return np.array(values, np.int32)[self.labels_thw]


@dataclass(frozen=True)
class Data:
    """What is scored: videos, how many categories there are, and how many of them, the first, are things."""

    videos: list[tuple[Side, Side]]
    classes: int
    things: int

    @classmethod
    def load(cls, folder: Path) -> Data:
        """Read what `metrics.py` saved."""
        with np.load(folder / "videos.npz") as arrays:

            def side(name: str) -> Side:
                return Side(arrays[f"{name}_labels"], arrays[f"{name}_categories"].tolist())

            videos = [(side(f"truth{n}"), side(f"prediction{n}")) for n in range(int(arrays["videos"]))]
            return cls(videos, int(arrays["classes"]), int(arrays["things"]))


def main() -> None:
    """Answer every line of stdin with a timed run."""
    program, checkouts, data = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    cv2.setNumThreads(1)
    os.environ["TQDM_DISABLE"] = "1"
    prepare: dict[str, Callable[[Path, Path], Run]] = {
        "vpq": vpq,
        "stq": stq,
        "stq-vipseg": stq_vipseg,
        "vis-ap": vis_ap,
        "jf": jf,
    }
    with redirect_stdout(StringIO()):
        run = prepare[program](checkouts, data)
    for _ in sys.stdin:
        with redirect_stdout(StringIO()):
            start = time.process_time()
            scores = run()
            seconds = time.process_time() - start
        print(json.dumps([seconds, scores]), flush=True)


def deva(checkouts: Path, name: str) -> ModuleType:
    """A module of ``deva.vps_metrics``, without the networks that importing ``deva`` itself would bring."""
    package = ModuleType("deva")
    package.__path__ = [str(checkouts / "Tracking-Anything-with-DEVA" / "deva")]
    sys.modules["deva"] = package
    return import_module(f"deva.vps_metrics.{name}")


def vpq(checkouts: Path, path: Path) -> Run:
    """``vpq_compute_single_core`` for every window and video, in turn instead of in a pool, and ``pq_average``."""
    module, data = deva(checkouts, "eval_vpq_vipseg"), Data.load(path)
    categories = {n: {"id": n, "isthing": int(n < data.things)} for n in range(data.classes)}
    pictures: dict[str, NDArray[np.uint8]] = {}
    videos = []
    for number, video in enumerate(data.videos):
        names = []
        for whose, side in zip(("truth", "prediction"), video, strict=True):
            named = {f"{whose} {number} {t}": picture for t, picture in enumerate(side.pictures())}
            pictures |= named
            names.append(list(named))
        truth, prediction = video
        videos.append(list(zip(truth.listed(), prediction.listed(), *names, names[0], strict=True)))
    module.__dict__["read_im"] = pictures.__getitem__

    def run() -> Scores:
        scores: Scores = {}
        for window in (1, 2, 4, 6, 8, 10, WHOLE):
            total = module.PQStat()
            for frames in copy.deepcopy(videos):
                total += module.vpq_compute_single_core(categories, window, frames)
            label = "inf" if window == WHOLE else str(window)
            for suffix, is_thing in (("", None), ("_things", True), ("_stuff", False)):
                group, _ = total.pq_average(categories, isthing=is_thing)
                for name, key in (("VPQ", "pq"), ("SQ", "sq"), ("RQ", "rq")):
                    scores[f"{name}_{label}{suffix}"] = float(group[key])
        return scores

    return run


def stq(checkouts: Path, path: Path) -> Run:
    """``STQuality`` of deeplab2's NumPy implementation, from maps of class and instance.

    ``np.float32`` is set to ``np.float64``: the program multiplies single-precision counts by a Python float, which
    NumPy 1 made double precision and NumPy 2 does not.
    """
    sys.path.insert(0, str(checkouts / "deeplab2" / "evaluation" / "numpy"))
    module, data = import_module("segmentation_and_tracking_quality"), Data.load(path)
    np.__dict__["float32"] = np.float64
    videos = [(truth.encoded(), prediction.encoded()) for truth, prediction in data.videos]

    def run() -> Scores:
        metric = module.STQuality(data.classes, list(range(data.things)), 255, 16, 2**24)
        for number, (true_thw, pred_thw) in enumerate(videos):
            for true_hw, pred_hw in zip(true_thw, pred_thw, strict=True):
                metric.update_state(true_hw, pred_hw, number)
        result = metric.result()
        return {"STQ": float(result["STQ"]), "AQ": float(result["AQ"]), "SQ": float(result["IoU"])}

    return run


def stq_vipseg(checkouts: Path, path: Path) -> Run:
    """``eval_stq`` of DEVA, whole: the small JSON files are read, but pictures come from memory."""
    module, data = deva(checkouts, "eval_stq_vipseg"), Data.load(path)
    categories = [{"id": n, "isthing": int(n < data.things)} for n in range(data.classes)]
    folder = TemporaryDirectory()
    submitted, truths = Path(folder.name, "submitted"), Path(folder.name, "truths")
    submitted.mkdir()
    truths.mkdir()
    pictures: dict[str, NDArray[np.uint8]] = {}
    videos, true_lists, pred_lists = [], [], []
    for number, (truth, prediction) in enumerate(data.videos):
        name = str(number)
        files = [f"{t}.png" for t in range(len(truth.labels_thw))]
        videos.append({"video_id": name, "images": [{"file_name": file} for file in files]})
        true_lists.append({"video_id": name, "annotations": truth.listed()})
        pred_lists.append({"video_id": name, "annotations": prediction.listed()})
        for place, side in ((truths, truth), (submitted / "pan_pred", prediction)):
            pictures |= {str(place / name / file): one for file, one in zip(files, side.pictures(), strict=True)}
    listing = Path(folder.name, "truth.json")
    listing.write_text(json.dumps({"categories": categories, "videos": videos, "annotations": true_lists}))
    (submitted / "pred.json").write_text(json.dumps({"annotations": pred_lists}))
    module.__dict__["Image"] = SimpleNamespace(open=pictures.__getitem__)

    def run() -> Scores:
        # The folder lives as long as the run that uses it. Full precision is only in what is printed.
        with redirect_stdout(StringIO()) as printed:
            module.eval_stq(str(Path(folder.name, "submitted")), str(truths), str(listing))
        found = dict(re.findall(r"^(STQ|AQ|IoU) ?:(.*)$", printed.getvalue(), re.MULTILINE))
        return {"STQ": float(found["STQ"]), "AQ": float(found["AQ"]), "SQ": float(found["IoU"])}

    return run


def vis_ap(checkouts: Path, path: Path) -> Run:
    """``YTVOS.loadRes`` of parsed results, and ``YTVOSeval``: evaluate, accumulate and summarize.

    The mask functions are its own where they are built, else those of pycocotools. JSON is parsed before the clock
    starts; ``loadRes`` finds areas and boxes. ``np.float`` and ``unicode`` are set to ``float`` and ``str``, and
    ``np.linspace`` takes a number of samples that is a float.
    """
    # What the checkout lacks, its compiled part unless that was built, is found in the installed package.
    import_module("pycocotools").__path__.insert(0, str(checkouts / "cocoapi" / "PythonAPI" / "pycocotools"))
    data, scorer = import_module("pycocotools.ytvos"), import_module("pycocotools.ytvoseval")
    linspace = np.linspace

    def whole_linspace(start: float, stop: float, num: float, *, endpoint: bool) -> NDArray[np.float64]:
        return linspace(start, stop, int(num), endpoint=endpoint)

    np.__dict__.update(float=float, linspace=whole_linspace)
    data.__dict__["unicode"] = str
    truth = data.YTVOS(str(path / "truth.json"))
    results = json.loads((path / "prediction.json").read_text())
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

    def run() -> Scores:
        # What it finds it writes into the results: it gets new ones.
        evaluation = scorer.YTVOSeval(truth, truth.loadRes([dict(one) for one in results]), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        # -1 is its way to say undefined.
        return {name: float(value) for name, value in zip(names, evaluation.stats, strict=True) if value >= 0}

    return run


def jf(checkouts: Path, path: Path) -> Run:
    """``DAVISEvaluation._evaluate_semisupervised`` and ``db_statistics``, from a stack of the masks of all objects."""
    sys.path.insert(0, str(checkouts / "davis2017-evaluation"))
    evaluation = import_module("davis2017.evaluation").DAVISEvaluation
    statistics = import_module("davis2017.utils").db_statistics
    videos = []
    for truth, prediction in Data.load(path).videos:
        ids_o111 = np.arange(1, truth.labels_thw[0].max() + 1)[:, None, None, None]
        videos.append(tuple(side.labels_thw[None, 1:-1] == ids_o111 for side in (truth, prediction)))

    def run() -> Scores:
        objects: dict[str, list[tuple[float, float, float]]] = {"J": [], "F": []}
        for truth_othw, pred_othw in videos:
            values = evaluation._evaluate_semisupervised(truth_othw, pred_othw, None, ("J", "F"))
            for name, values_ot in zip(objects, values, strict=True):
                objects[name] += [statistics(values_t) for values_t in values_ot]
        scores = {
            f"{name}-{of}": float(value)
            for name, rows in objects.items()
            for of, value in zip(("Mean", "Recall", "Decay"), np.mean(rows, axis=0), strict=True)
        }
        return {"J&F-Mean": (scores["J-Mean"] + scores["F-Mean"]) / 2, **scores}

    return run


if __name__ == "__main__":
    main()
