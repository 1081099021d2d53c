"""Scoring the data sets with a label for every pixel: golden values, perfect results, and bad ones."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskstream.datasets import Dataset
from maskstream.evaluation import panoptic, semantic
from maskstream.evaluation.protocol import Options, Protocol
from maskstream.formats.category_map import CategoryMap, one_class
from maskstream.metrics import Report
from maskstream.types import (
    OBJECT,
    FrameAnnotation,
    FrameSegmentation,
    InputError,
    MaskstreamWarning,
    Segment,
    Task,
    VideoSample,
)
from tests.datasets.trees_per_pixel import (
    INFOS,
    SCORED,
    TREES,
    Tree,
    cityscapes,
    cityscapes_vps,
    kitti_step,
    vipseg_720p,
    vspw,
)

PROTOCOLS = {**panoptic.PROTOCOLS, **semantic.PROTOCOLS}


def protocol_of(dataset: Dataset, task: Task, **options: Any) -> Protocol[Any]:
    return PROTOCOLS[dataset.name, task](dataset, task, Options(**options))


def score(protocol: Protocol[Any], results: Path) -> dict[str, Report]:
    found, metrics = protocol.read_results(results), protocol.metrics()
    for video in protocol.dataset.videos:
        protocol.score(video, found, metrics)
    return {name: metric.result() for name, metric in metrics.items()}


def write(protocol: Protocol[Any], path: Path, *, change: Any = lambda annotation: annotation) -> Path:
    """The truth, or what became of it, as results."""
    path.mkdir()

    def changed(answer: VideoSample) -> VideoSample:
        return replace(answer, read_annotation=lambda index: change(answer.annotation(index)))

    protocol.write_results(path, (changed(protocol.answers(video)) for video in protocol.dataset.videos))
    return path


# Golden values


def fixture(folder: str, name: str, task: Task) -> tuple[dict[str, Any], dict[str, Report]]:
    home = os.environ.get("MASKSTREAM_FIXTURES")
    if not home:
        pytest.skip("MASKSTREAM_FIXTURES does not name the folder of golden fixtures")
    root = Path(home) / folder
    expected = json.loads((root / "expected.json").read_text())
    return expected, score(protocol_of(INFOS[name].open(root), task), root / "results")


def check_windows(expected: Mapping[str, Any], values: Mapping[str, float]) -> None:
    for label, groups in expected["windows"].items():
        for group, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
            for name, official in (("VPQ", "pq"), ("SQ", "sq"), ("RQ", "rq")):
                value = 100 * values[f"{name}_{label}{suffix}"]
                assert value == pytest.approx(groups[group][official], abs=1e-9)


def test_vipseg_scores_as_three_official_programs_do():
    expected, reports = fixture("vipseg", "vipseg", Task.VPS)
    check_windows(expected["vpq_vipseg"], reports["VPQ"].values)
    check_windows(expected["vpq_deva"], reports["VPQ (DEVA)"].values)
    deva, own = reports["VPQ (DEVA)"].values, reports["VPQ"].values
    assert 100 * deva["VPQ_deva"] == pytest.approx(expected["vpq_deva"]["deva_vpq"]["All"], abs=1e-9)
    assert 100 * deva["VPQ_1246"] == pytest.approx(expected["vpq_deva"]["mean_1_2_4_6"]["All"], abs=1e-9)
    assert 100 * own["VPQ_1246"] == pytest.approx(expected["vpq_vipseg"]["mean_1_2_4_6"]["All"], abs=1e-9)
    assert 100 * own["VPQ_12468"] == pytest.approx(expected["vpq_vipseg"]["mean_1_2_4_6_8"]["All"], abs=1e-9)
    stq = {name: reports["STQ"].values[ours] for name, ours in (("STQ", "STQ"), ("AQ", "AQ"), ("IoU", "SQ"))}
    assert stq == pytest.approx({name: expected["stq"][name] for name in stq}, abs=1e-12)


def test_cityscapes_vps_scores_as_its_official_program_does():
    expected, reports = fixture("cityscapes_vps", "cityscapes-vps", Task.VPS)
    check_windows(expected, reports["VPQ"].values)
    for group, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
        value = 100 * reports["VPQ"].values[f"VPQ_1234{suffix}"]
        assert value == pytest.approx(expected["mean_1_2_3_4"][group], abs=1e-9)


def test_kitti_step_scores_as_its_official_program_does():
    expected, reports = fixture("kitti_step", "kitti-step", Task.VPS)
    values = reports["STQ"].values
    assert (values["STQ"], values["AQ"], values["SQ"]) == pytest.approx(
        (expected["STQ"], expected["AQ"], expected["SQ_IoU"]), abs=1e-12
    )
    assert reports["STQ"].per_video["0002"]["STQ"] == pytest.approx(expected["per_sequence"]["0002"]["STQ"], abs=1e-12)


def test_vspw_scores_as_its_official_programs_do():
    expected, reports = fixture("vspw", "vspw", Task.VSS)
    names = {"mIoU": "mIoU", "wIoU": "weighted_IoU", "pixel_accuracy": "pixel_accuracy", "video_mIoU": "video_mIoU"}
    for name, official in names.items():
        assert reports["mIoU"].values[name] == pytest.approx(expected["iou"][official], abs=1e-12)
    for name in ("mVC8", "mVC16"):
        assert reports["mVC"].values[name] == pytest.approx(expected["vc"][name], abs=1e-12)


# Perfect results


@pytest.mark.parametrize(("name", "task"), SCORED)
def test_the_truth_as_results_is_perfect(tmp_path, name, task):
    tree = TREES[name](tmp_path / "truth")
    protocol = protocol_of(tree.open(), task)
    reports = score(protocol, write(protocol, tmp_path / "results"))
    metric, value = protocol.headline
    assert reports[metric].values[value] == 1
    assert set(reports[metric].per_video) == set(tree.videos)
    defined = [v for report in reports.values() for v in report.values.values() if not math.isnan(v)]
    assert defined == [1] * len(defined)


@pytest.mark.parametrize(
    ("name", "task"),
    [("vipseg-720p", Task.VPS), ("kitti-step", Task.VPS), ("cityscapes-vps", Task.VPS), ("vspw", Task.VSS)],
)
def test_in_the_label_space_object_things_count_whatever_they_are_called(tmp_path, name, task):
    dataset = TREES[name](tmp_path / "truth").open()
    kinds = {category.id: category.is_thing for category in dataset.categories.categories}
    thing = next(number for number, is_thing in kinds.items() if is_thing)

    def renamed(annotation: FrameAnnotation) -> FrameAnnotation:
        found = annotation.segmentation
        segments = tuple(replace(s, category=thing) if s.is_thing else s for s in found.segments)
        return replace(annotation, segmentation=replace(found, segments=segments))

    mapping = one_class(dataset.categories)
    protocol = protocol_of(dataset, task, categories=mapping)
    results = write(protocol_of(dataset, task), tmp_path / "results", change=renamed)
    metric, value = protocol.headline
    assert protocol.categories == OBJECT
    assert score(protocol, results)[metric].values[value] == 1
    assert score(protocol_of(dataset, task), results)[metric].values[value] < 1


def test_dropped_categories_are_void(tmp_path):
    tree = vipseg_720p(tmp_path / "truth")
    dataset = tree.open()
    mapping = CategoryMap(OBJECT, {c.id: 1 if c.name == "person" else None for c in dataset.categories.categories})
    protocol = protocol_of(dataset, Task.VPS, categories=mapping)

    def all_persons(annotation: FrameAnnotation) -> FrameAnnotation:
        """What is not a person becomes one, and would be a false positive if it lay on anything that counts."""
        found = annotation.segmentation
        return replace(
            annotation, segmentation=replace(found, segments=tuple(replace(s, category=60) for s in found.segments))
        )

    reports = score(protocol, write(protocol_of(dataset, Task.VPS), tmp_path / "results", change=all_persons))
    assert reports["VPQ"].values["VPQ_1246"] == 1


# What the options change


def first_is_a_person(plain: Any) -> None:
    """List the first person first."""
    for video in plain["annotations"]:
        for row in video["annotations"]:
            row["segments_info"].sort(key=lambda segment: segment["id"] != 70000)


def test_the_segment_that_is_listed_first_is_officially_a_crowd(tmp_path):
    tree = vipseg_720p(tmp_path / "truth")
    plain = json.loads(tree.paths["json"].read_text())
    first_is_a_person(plain)
    tree.paths["json"].write_text(json.dumps(plain))
    dataset = tree.open()
    without_it = write(protocol_of(dataset, Task.VPS), tmp_path / "results", change=lambda a: without(a, 70000))
    official, paper = (
        score(protocol_of(dataset, Task.VPS, compat=c), without_it)["STQ"] for c in ("official", "paper")
    )
    assert official.values["AQ"] == 1
    assert paper.values["AQ"] < 1


def without(annotation: FrameAnnotation, number: int) -> FrameAnnotation:
    kept = [n for n, segment in enumerate(annotation.segmentation.segments) if segment.id != number]
    segments = tuple(annotation.segmentation.segments[n] for n in kept)
    return FrameAnnotation(annotation.segmentation.selected(kept, segments))


def test_listed_areas_count_officially_and_pixels_in_the_paper(tmp_path):
    tree = vipseg_720p(tmp_path / "truth")
    plain = json.loads(tree.paths["json"].read_text())
    for video in plain["annotations"]:
        for row in video["annotations"]:
            for segment in row["segments_info"]:
                segment["area"] = round(segment["area"] * 1.5)
    tree.paths["json"].write_text(json.dumps(plain))
    dataset = tree.open()
    results = write(protocol_of(dataset, Task.VPS), tmp_path / "results")
    with pytest.warns(MaskstreamWarning, match="the listed area of segment"):
        official = score(protocol_of(dataset, Task.VPS), results)["VPQ"].values
    with pytest.warns(MaskstreamWarning, match="the listed area of segment"):
        paper = score(protocol_of(dataset, Task.VPS, compat="paper"), results)["VPQ"].values
    assert official["VPQ_1246"] < 0.7
    assert paper["VPQ_1246"] == 1


# Results that are read although they could be nicer


def test_predictions_that_overlap_are_written_as_they_are_seen(tmp_path):
    dataset = vipseg_720p(tmp_path / "truth").open()

    def overlapping(annotation: FrameAnnotation) -> FrameAnnotation:
        """A weak segment below all others, everywhere."""
        found = annotation.segmentation
        masks_nhw = torch.cat([torch.ones(1, *found.size_hw, dtype=torch.bool), found.masks_nhw()])
        scored = tuple(replace(segment, score=0.9) for segment in found.segments)
        segments = (Segment(5, 5, 0, score=0.1), *scored)
        return FrameAnnotation(FrameSegmentation.from_masks(found.frame_index, segments, masks_nhw))

    protocol = protocol_of(dataset, Task.VPS)
    reports = score(protocol, write(protocol, tmp_path / "results", change=overlapping))
    assert reports["VPQ"].values["VPQ_1246"] == 1


def test_entries_without_a_name_are_in_the_order_of_the_annotation(tmp_path):
    protocol = protocol_of(cityscapes_vps(tmp_path / "truth").open(), Task.VPS)
    results = write(protocol, tmp_path / "results")
    plain = json.loads((results / "pred.json").read_text())
    rows = [{"segments_info": row["segments_info"]} for row in plain["annotations"]]
    (results / "pred.json").write_text(json.dumps({"annotations": rows}))
    assert score(protocol, results)["VPQ"].values["VPQ_1234"] == 1
    (results / "pred.json").write_text(json.dumps({"annotations": rows[:-1]}))
    with pytest.raises(
        InputError, match=r"pred.json is not a list of frames with their segments: an entry lacks 'file_name'"
    ):
        protocol.read_results(results)


def test_hidden_files_and_other_frames_of_results_do_not_matter(tmp_path):
    protocol = protocol_of(kitti_step(tmp_path / "truth").open(), Task.VPS)
    results = write(protocol, tmp_path / "results")
    (results / "0002" / "._000000.png").write_bytes(b"")
    (results / ".cache").mkdir()
    (results / "0002" / "000099.png").write_bytes((results / "0002" / "000000.png").read_bytes())
    (results / "run.json").write_text("{}")
    assert score(protocol, results)["STQ"].values["STQ"] == 1


def test_results_may_be_a_json_file_with_a_folder_of_its_name(tmp_path):
    protocol = protocol_of(cityscapes(tmp_path / "truth").open(), Task.VPS)
    results = write(protocol, tmp_path / "results")
    (results / "pred.json").rename(results / "cityscapes_panoptic_val.json")
    (results / "pan_pred").rename(results / "cityscapes_panoptic_val")
    for path in (results, results / "cityscapes_panoptic_val.json"):
        assert score(protocol, path)["PQ"].values["VPQ_1"] == 1


def test_names_of_cityscapes_results_may_go_on_and_show_whole_snippets(tmp_path):
    protocol = protocol_of(cityscapes(tmp_path / "truth").open(), Task.VSS)
    results = write(protocol, tmp_path / "results")
    for path in sorted(results.glob("*.png")):
        path.rename(path.with_name(f"{path.stem}_leftImg8bit_pred.png"))
    other = results / "aachen_000000_000018_x.png"
    other.write_bytes((results / "aachen_000000_000019_leftImg8bit_pred.png").read_bytes())
    assert score(protocol, results)["mIoU"].values["mIoU"] == 1
    other.rename(results / "aachen_000000_000019_color.png")
    with pytest.raises(InputError, match=r"are both of aachen_000000_000019: leave one of them"):
        protocol.read_results(results)


# Results that cannot be scored


def test_hidden_labels_are_told(tmp_path):
    dataset = vspw(tmp_path).open("test")
    protocol = protocol_of(dataset, Task.VSS)
    with pytest.raises(InputError, match=r"the labels of vspw test are hidden: its results are scored by the server"):
        protocol.score(dataset.videos[0], {}, protocol.metrics())


@pytest.mark.parametrize(
    ("name", "task", "lost", "message"),
    [
        ("vspw", Task.VSS, "1001_aaa/00000003.png", "1001_aaa, frame 0: there is no prediction: add it"),
        ("kitti-step", Task.VPS, "0002/000001.png", "0002, frame 1: there is no prediction"),
        ("camvid", Task.VSS, "0016E5/0016E5_07961.png", "0016E5, frame 1: there is no prediction"),
        ("mapillary", Task.VSS, "_b2.png", "_b2, frame 0: there is no prediction"),
        ("vipseg-720p", Task.VPS, "pan_pred/0_aaa/00000003.png", "there is no mask .*00000003.png"),
    ],
)
def test_a_missing_prediction_is_named(tmp_path, name, task, lost, message):
    protocol = protocol_of(TREES[name](tmp_path / "truth").open(), task)
    results = write(protocol, tmp_path / "results")
    (results / lost).unlink()
    with pytest.raises(InputError, match=message):
        score(protocol, results)


def test_missing_predictions_may_count_as_empty(tmp_path):
    dataset = kitti_step(tmp_path / "truth").open()
    results = write(protocol_of(dataset, Task.VPS), tmp_path / "results")
    (results / "0002" / "000001.png").unlink()
    report = score(protocol_of(dataset, Task.VPS, allow_missing=True), results)["STQ"]
    assert 0 < report.values["STQ"] < 1
    assert "1 frames of 1 videos had no prediction and count as empty, first 0002" in report.notes


def rewrite(path: Path, value: int) -> None:
    with Image.open(path) as image:
        values = np.array(image)
    values[0, 0] = value
    Image.fromarray(values).save(path)


def strange_folder(results: Path) -> None:
    (results / "7_unknown").mkdir()
    (results / "7_unknown" / "00000000.png").write_bytes(b"")


def add_video(results: Path) -> None:
    plain = json.loads((results / "pred.json").read_text())
    plain["annotations"].append({"video_id": "7_unknown", "annotations": []})
    (results / "pred.json").write_text(json.dumps(plain))


def drop_segment(results: Path) -> None:
    plain = json.loads((results / "pred.json").read_text())
    plain["annotations"][0]["annotations"][2]["segments_info"].pop(0)
    (results / "pred.json").write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("name", "task", "change", "message"),
    [
        ("vspw", Task.VSS, strange_folder, "results: the ground truth has no video 7_unknown"),
        ("kitti-step", Task.VPS, strange_folder, "results: the ground truth has no video 7_unknown"),
        ("vipseg-720p", Task.VPS, add_video, "results: the ground truth has no video 7_unknown"),
        ("vipseg-720p", Task.VPS, drop_segment, r"00000021.png has the id 18300, which pred.json does not list for it"),
        ("vipseg-720p", Task.VPS, lambda r: (r / "pred.json").unlink(), r"there is no .*pred.json, panoptic results"),
        (
            "vspw",
            Task.VSS,
            lambda r: rewrite(r / "1001_aaa" / "00000003.png", 124),
            "00000003.png has the value 124, which is no class of vspw: 124 values from 0 to 123",
        ),
        (
            "vspw",
            Task.VSS,
            lambda r: rewrite(r / "1001_aaa" / "00000003.png", 255),
            "00000003.png has the value 255, which is no class of vspw",
        ),
        (
            "cityscapes",
            Task.VSS,
            lambda r: rewrite(r / "aachen_000000_000019.png", 255),
            "aachen_000000_000019.png has the value 255, which is no class of cityscapes: 34 values from 0 to 33",
        ),
        (
            "cityscapes",
            Task.VSS,
            lambda r: (r / "aachen_000000_000019.png").rename(r / "bremen_000000_000019.png"),
            "results has bremen_000000_000019, which belongs to no drive of Cityscapes val",
        ),
        (
            "ade20k",
            Task.VSS,
            lambda r: rewrite(r / "ADE_val_00000001.png", 151),
            "ADE_val_00000001.png has the value 151, which is no class of ade20k",
        ),
        ("camvid", Task.VSS, lambda r: (r / "0016E5/0016E5_07961.png").write_bytes(b"no"), "07961.png is not a PNG"),
    ],
)
def test_results_that_do_not_fit_are_named(tmp_path, name, task, change, message):
    protocol = protocol_of(TREES[name](tmp_path / "truth").open(), task)
    results = write(protocol, tmp_path / "results")
    change(results)
    with pytest.raises(InputError, match=message):
        score(protocol, results)


def test_a_size_that_does_not_fit_is_told(tmp_path):
    protocol = protocol_of(vspw(tmp_path / "truth").open(), Task.VSS)
    results = write(protocol, tmp_path / "results")
    with Image.open(results / "1001_aaa" / "00000003.png") as image:
        image.resize((40, 24), Image.Resampling.NEAREST).save(results / "1001_aaa" / "00000003.png")
    with pytest.raises(InputError, match="1001_aaa, frame 0: the prediction is 24×40 but the ground truth 12×20"):
        score(protocol, results)


def test_ade20k_without_instances_cannot_be_scored_for_them(tmp_path):
    tree: Tree = TREES["ade20k-semantic"](tmp_path / "truth")
    protocol = protocol_of(tree.open(), Task.VPS)
    with pytest.raises(InputError, match=r"there is no mask .*annotations_instance"):
        protocol.score(tree.open().videos[0], {}, protocol.metrics())
