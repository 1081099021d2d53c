"""Reads the golden fixtures of the J & F family, evaluates them, and brings both sides to one flat table.

Each ``evaluate_*`` returns what the metric gives in the nesting and the unit of the fixture's ``expected.json``.
The folder of fixtures is named by the environment variable MASKSTREAM_FIXTURES; without it the cases are skipped.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskstream.formats import read_label_png
from maskstream.metrics.accumulator import Accumulator, Report
from maskstream.metrics.davis_unsupervised import DavisUnsupervised
from maskstream.metrics.lvos import Lvos, LvosObject
from maskstream.metrics.mose import MoseV2
from maskstream.metrics.referring import Mevis, RefDavis
from maskstream.metrics.viposeg import Viposeg, ViposegObject
from maskstream.metrics.vos import Davis2016, DavisSemiSupervised, GenericVos, SaV
from maskstream.metrics.ytvos import YoutubeObject, YoutubeVos
from maskstream.types import FrameAnnotation, FrameSegmentation, LabelMap, Segment, decode_rle

Nested = Any
AnyMetric = Accumulator[Any, Any, None]
Flat = dict[str, float | None]

needs_fixtures = pytest.mark.skipif(
    "MASKSTREAM_FIXTURES" not in os.environ, reason="set MASKSTREAM_FIXTURES to the folder of golden fixtures"
)

SKIPS = {"skip_first_and_last": True, "all_frames": False}


def frame_of_labels(labels, *, frame_index=0, ids=()) -> FrameSegmentation:
    """A frame from an array of ids; ids that are listed but absent become empty segments."""
    labels = np.asarray(labels)
    present = sorted({*np.unique(labels[labels > 0]).tolist(), *ids})
    positions = np.searchsorted(present, labels) + 1 if present else np.zeros_like(labels)
    values = torch.from_numpy(np.where(labels > 0, positions, 0).astype(np.int32))
    segments = tuple(Segment(o, o) for o in present)
    return FrameSegmentation(frame_index, (labels.shape[0], labels.shape[1]), segments, LabelMap(values))


def frame_of_masks(masks: Mapping[int, Any], *, size_hw, frame_index=0) -> FrameSegmentation:
    """A frame from masks that may overlap, by id."""
    stacked = np.stack(list(masks.values())) if masks else np.zeros((0, *size_hw))
    segments = tuple(Segment(o, o) for o in masks)
    return FrameSegmentation.from_masks(frame_index, segments, torch.from_numpy(stacked.astype(bool)))


def feed(metric: AnyMetric, sequence_id: str, truths, preds, *, first=0, step=1) -> None:
    """Evaluate a video of arrays of ids or of ready-made frames, and end it."""
    for n, (truth, pred) in enumerate(zip(truths, preds, strict=True)):
        index = first + step * n
        true_frame = truth if isinstance(truth, FrameSegmentation) else frame_of_labels(truth, frame_index=index)
        pred_frame = pred if isinstance(pred, FrameSegmentation) else frame_of_labels(pred, frame_index=index)
        metric.update(sequence_id, index, FrameAnnotation(true_frame), pred_frame)
    metric.end_sequence(sequence_id)


def root() -> Path:
    return Path(os.environ["MASKSTREAM_FIXTURES"])


def flatten(nested: Nested, prefix: str = "") -> Flat:
    """Every number of nested dictionaries and lists by its path; lists count from 0."""
    if isinstance(nested, dict | list):
        items = nested.items() if isinstance(nested, dict) else enumerate(nested)
        return {path: v for key, value in items for path, v in flatten(value, f"{prefix}/{key}").items()}
    if isinstance(nested, str):
        return {}
    return {prefix: None if nested is None or math.isnan(nested) else float(nested)}


def golden_cases(*folders: str) -> list[Any]:
    """A parameter set (folder, path of the value) for every golden number; one that skips without fixtures."""
    if "MASKSTREAM_FIXTURES" not in os.environ:
        return [pytest.param(folder, "", marks=needs_fixtures, id=folder) for folder in folders]
    return [pytest.param(f, path, id=f + path) for f in folders for path in golden(f)]


@lru_cache
def golden(folder: str) -> Flat:
    expected = json.loads((root() / folder / "expected.json").read_text())
    return flatten(_as_multiset(expected) if folder == "davis" else _without_provenance(expected))


@lru_cache
def measured(folder: str) -> Flat:
    nested = EVALUATE[folder]()
    return flatten(_as_multiset(nested) if folder == "davis" else nested)


def assert_golden(folder: str, path: str, tolerance: float) -> None:
    assert set(golden(folder)) <= set(measured(folder))
    expected, value = golden(folder)[path], measured(folder)[path]
    if expected is None or value is None:
        assert expected == value
    else:
        assert value == pytest.approx(expected, rel=0, abs=tolerance)


def feed_folders(metric: AnyMetric, sequence_id: str, truth: Path, pred: Path) -> None:
    """Evaluate two folders of label pictures whose frames are named alike by their index."""
    frames = sorted(truth.glob("*.png"))
    for path in frames:
        index = int(path.stem)
        true_frame = frame_of_labels(read_label_png(path), frame_index=index)
        pred_frame = frame_of_labels(read_label_png(pred / path.name), frame_index=index)
        metric.update(sequence_id, index, FrameAnnotation(true_frame), pred_frame)
    metric.end_sequence(sequence_id)


def evaluate_davis() -> Nested:
    base = root() / "davis"
    nested = {}
    protocols: list[tuple[str, AnyMetric, str, str]] = [
        ("semi-supervised", DavisSemiSupervised(), "Annotations", "results_semi"),
        ("unsupervised", DavisUnsupervised(), "Annotations_unsupervised", "results_unsup"),
    ]
    for name, metric, truth, pred in protocols:
        for sequence in (base / "DAVIS/ImageSets/2017/val.txt").read_text().split():
            feed_folders(metric, sequence, base / "DAVIS" / truth / "480p" / sequence, base / pred / sequence)
        report = metric.result()
        per_object = {
            key.replace("/", "_"): {("J" if k == "J-Mean" else "F" if k == "F-Mean" else k): v for k, v in row.items()}
            for key, row in report.per_video.items()
        }
        summaries = metric.state_dict()["summaries"]
        per_frame = {
            s: {k.upper(): [curves[o][k].tolist() for o in sorted(curves)] for k in "jf"}
            for s, curves in summaries.items()
        }
        nested[name] = {"global": report.values, "per_object": per_object, "per_frame": per_frame}
    return nested


def _as_multiset(davis: Nested) -> Nested:
    """The unsupervised rows of each sequence sorted: the reference lists them in the order of proposals (§5.5)."""
    unsupervised = davis["unsupervised"]
    rows: dict[str, list[Any]] = {}
    for key, row in unsupervised["per_object"].items():
        rows.setdefault(key.rsplit("_", 1)[0], []).append(row)
    ordered = {s: sorted(group, key=lambda row: (row["J"], row["F"])) for s, group in rows.items()}
    frames = {
        s: [list(pair) for pair in sorted(zip(v["J"], v["F"], strict=True))]
        for s, v in unsupervised["per_frame"].items()
    }
    return {
        "semi-supervised": _without_provenance(davis["semi-supervised"]),
        "unsupervised": {"global": unsupervised["global"], "per_object": ordered, "per_frame": frames},
    }


def _without_provenance(nested: Nested) -> Nested:
    if not isinstance(nested, dict):
        return nested
    return {k: _without_provenance(v) for k, v in nested.items() if k not in ("produced_by", "frames")}


def _percent(report: Report, key: Callable[[str], tuple[str, str]]) -> Nested:
    per_object: dict[str, Any] = {}
    for name, row in report.per_video.items():
        sequence, o = key(name)
        per_object.setdefault(sequence, {})[o] = {column: 100 * row[column] for column in "JF"}
    return {"global": {k: 100 * v for k, v in report.values.items()}, "per_object": per_object}


def _sequence_and_object(name: str) -> tuple[str, str]:
    sequence, _, o = name.rpartition("/")
    return sequence, o


def evaluate_davis16(metric_class=GenericVos) -> Nested:
    nested = {}
    for setting, skip in SKIPS.items():
        metric = metric_class(skip_first_last=skip)
        for truth in sorted((root() / "davis16/Annotations/480p").iterdir()):
            feed_folders(metric, truth.name, truth, root() / "davis16/results" / truth.name)
        nested[setting] = _percent(metric.result(), _sequence_and_object)
    return nested


def davis16_report(*, skip_first_last: bool) -> Report:
    metric = Davis2016(skip_first_last=skip_first_last)
    for truth in sorted((root() / "davis16/Annotations/480p").iterdir()):
        feed_folders(metric, truth.name, truth, root() / "davis16/results" / truth.name)
    return metric.result()


def evaluate_vos_generic() -> Nested:
    nested = {}
    for setting, skip in SKIPS.items():
        metric = GenericVos(skip_first_last=skip)
        for truth in sorted((root() / "vos_generic/Annotations").iterdir()):
            feed_folders(metric, truth.name, truth, root() / "vos_generic/results" / truth.name)
        nested[setting] = _percent(metric.result(), _sequence_and_object)
    return nested


def evaluate_sav() -> Nested:
    base = root() / "sav"
    nested = {}
    for setting, skip in SKIPS.items():
        metric = SaV(skip_first_last=skip)
        for video in (base / "sav_val/sav_val.txt").read_text().split():
            truth, pred = base / "sav_val/Annotations_6fps" / video, base / "results" / video
            # Folders count objects from 0, ids from 1.
            objects = {int(folder.name) + 1: folder.name for folder in truth.iterdir()}
            for name in sorted({path.name for path in truth.glob("*/*.png")}):
                listed = {o: folder for o, folder in objects.items() if (truth / folder / name).exists()}
                sides = [{o: read_label_png(side / f / name) > 0 for o, f in listed.items()} for side in (truth, pred)]
                size_hw = next(iter(sides[0].values())).shape
                true_frame, pred_frame = (frame_of_masks(masks, size_hw=size_hw) for masks in sides)
                metric.update(video, int(Path(name).stem), FrameAnnotation(true_frame), pred_frame)
            metric.end_sequence(video)
        nested[setting] = _percent(
            metric.result(), lambda name: (name.split("/")[0], f"{int(name.split('/')[1]) - 1:03d}")
        )
    return nested


def evaluate_lvos() -> Nested:
    base = root() / "lvos"
    videos = json.loads((base / "valid/valid_meta.json").read_text())["videos"]
    objects = {
        video: {
            int(o): LvosObject(int(known["frame_range"]["start"]), int(known["frame_range"]["end"]))
            for o, known in meta["objects"].items()
        }
        for video, meta in videos.items()
    }
    metric = Lvos(objects, unseen_videos=(base / "unseen_videos.txt").read_text().split())
    for video in videos:
        feed_folders(metric, video, base / "valid/Annotations" / video, base / "results" / video)
    report = metric.result()
    per_object = {name.replace("/", "_"): row for name, row in report.per_video.items()}
    return {"semi-supervised": {"global": report.values, "per_object": per_object}}


def evaluate_mose() -> Nested:
    base = root() / "mose"
    videos = json.loads((base / "valid/meta.json").read_text())["videos"]
    v1 = GenericVos()
    v2 = MoseV2({video: [int(o) for o in meta["objects"]] for video, meta in videos.items()})
    for metric in (v1, v2):
        for video in videos:
            feed_folders(metric, video, base / "valid/Annotations" / video, base / "results" / video)
    report = v2.result()
    per_object = {name.replace("/", "_"): row for name, row in report.per_video.items()}
    return {
        "mosev2": {"global": report.values, "per_object": per_object},
        "mosev1_style": _percent(v1.result(), _sequence_and_object),
    }


def evaluate_ytvos() -> Nested:
    base = root() / "ytvos"
    videos = json.loads((base / "valid/meta.json").read_text())["videos"]
    objects = {
        video: {
            int(o): YoutubeObject(known["category"], tuple(int(frame) for frame in known["frames"]))
            for o, known in meta["objects"].items()
        }
        for video, meta in videos.items()
    }
    metric = YoutubeVos(objects, seen_categories=json.loads((base / "seen_categories.json").read_text()))
    for video in videos:
        feed_folders(metric, video, base / "valid_gt_all/Annotations" / video, base / "results/Annotations" / video)
    summaries = metric.state_dict()["summaries"]
    per_frame = {
        video: {o: {k.upper(): curve[k].tolist() for k in "jf"} for o, curve in summary["curves"].items()}
        for video, summary in summaries.items()
    }
    return {"per_frame": {"values": per_frame}, "aggregate_convention": {"values": metric.result().values}}


def evaluate_viposeg() -> Nested:
    base = root() / "viposeg"
    classes = json.loads((base / "valid/obj_class.json").read_text())
    objects: dict[str, dict[int, ViposegObject]] = {}
    for video, class_of in classes.items():
        for reference in sorted((base / "valid/Annotations" / video).glob("*.png")):
            for o in np.unique(read_label_png(reference)).tolist():
                if o:
                    given = ViposegObject(int(class_of[str(o)]), int(reference.stem))
                    objects.setdefault(video, {})[o] = given
    metric = Viposeg(objects)
    for video in classes:
        feed_folders(metric, video, base / "valid/Annotations_gt" / video, base / "results" / video)
    return {"values": metric.result().values}


def evaluate_ref_davis() -> Nested:
    base = root() / "ref_davis"
    metric = RefDavis()
    for annotator in metric.annotators:
        for video in (base / "DAVIS/ImageSets/2017/val.txt").read_text().split():
            truth = base / "DAVIS/Annotations_unsupervised/480p" / video
            feed_folders(metric, f"{annotator}/{video}", truth, base / "results" / annotator / video)
    report = metric.result()
    return {"annotators": {a: report.per_video[a] for a in metric.annotators}, "mean": report.values}


def evaluate_mevis() -> Nested:
    base = root() / "mevis"
    videos = json.loads((base / "valid_u/meta_expressions.json").read_text())["videos"]
    codes = json.loads((base / "valid_u/mask_dict.json").read_text())
    metric = Mevis()
    for video, meta in videos.items():
        for expression, known in meta["expressions"].items():
            for n, frame in enumerate(meta["frames"]):
                pred = read_label_png(base / "results" / video / expression / f"{frame}.png")
                masks = {
                    o + 1: decode_rle([codes[str(o)][n]], pred.shape)[0].numpy()
                    for o in known["anno_id"]
                    if codes[str(o)][n]
                }
                truth = FrameAnnotation(frame_of_masks(masks, size_hw=pred.shape))
                metric.update(f"{video}/{expression}", int(frame), truth, frame_of_labels(pred))
            metric.end_sequence(f"{video}/{expression}")
    report = metric.result()
    per_expression = {n.replace("/", "_"): {k: row[k] for k in "JF"} for n, row in report.per_video.items()}
    return {"global": report.values, "per_expression": per_expression}


EVALUATE: dict[str, Callable[[], Nested]] = {
    "davis": evaluate_davis,
    "davis16": evaluate_davis16,
    "vos_generic": evaluate_vos_generic,
    "sav": evaluate_sav,
    "lvos": evaluate_lvos,
    "mose": evaluate_mose,
    "ytvos": evaluate_ytvos,
    "viposeg": evaluate_viposeg,
    "ref_davis": evaluate_ref_davis,
    "mevis": evaluate_mevis,
}
