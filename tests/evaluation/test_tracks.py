"""Protocols of tracks in JSON and text: the golden numbers, truth as results, and results that are wrong."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from maskstream.datasets import Dataset
from maskstream.evaluation import burst, instances, mots
from maskstream.evaluation.protocol import Options, Protocol
from maskstream.formats.category_map import CategoryMap, one_class
from maskstream.metrics import Report
from maskstream.types import Category, CategorySet, InputError, Task, VideoSample
from tests.datasets import trees_tracks as trees
from tests.datasets.test_tracks import INFOS, TREES
from tests.datasets.trees_tracks import DOG, PERSON, change_json
from tests.metrics.fixtures_tracks import FIXTURES, expected, needs_fixtures

PROTOCOLS = instances.PROTOCOLS | burst.PROTOCOLS | mots.PROTOCOLS
CASES = list(PROTOCOLS)
IDS = [f"{name} {task.value}" for name, task in CASES]
ROOT = Path(FIXTURES or "")


def opened(
    name: str, root: Path, task: Task | None = None, options: Options | None = None, *, split: str | None = None
) -> Protocol[Dataset]:
    wanted = task or INFOS[name].tasks[0]
    return PROTOCOLS[name, wanted](INFOS[name].open(root, split), wanted, options or Options())


def scored(protocol: Protocol[Dataset], results: Path | Mapping[str, VideoSample]) -> Report:
    found = protocol.read_results(results) if isinstance(results, Path) else results
    metrics = protocol.metrics()
    for video in protocol.dataset.videos:
        protocol.score(video, found, metrics)
    return metrics[protocol.headline[0]].result()


def truth_as_results(protocol: Protocol[Dataset], folder: Path) -> Path:
    folder.mkdir()
    protocol.write_results(folder, map(protocol.answers, protocol.dataset.videos))
    return folder


def in_one_class(name: str, root: Path) -> Options:
    return Options(categories=one_class(INFOS[name].open(root).categories))


def close(values: Mapping[str, float], golden: Mapping[str, Any], tolerance: float, scale: float = 1.0) -> bool:
    """Whether all golden values are there and equal."""
    return {name: scale * values[name] for name in golden} == pytest.approx(
        {name: math.nan if value is None else value for name, value in golden.items()},
        rel=0,
        abs=tolerance,
        nan_ok=True,
    )


# The official numbers.


@needs_fixtures
@pytest.mark.parametrize("where", ["instances_gt.json", "."], ids=["file", "folder"])
def test_youtube_vis_gives_the_official_numbers(where):
    report = scored(opened("ytvis-2021", ROOT / "ytvis" / where), ROOT / "ytvis")
    golden = expected("ytvis")
    assert close(report.values, golden["stats"], 1e-12)
    for category, row in golden["per_category"].items():
        assert close(report.per_class[f"cat{category}"], row, 1e-12)


@needs_fixtures
@pytest.mark.parametrize("name, is_mapped", [("uvo", False), ("uvo", True), ("ytvis-2019", True)])
def test_without_categories_uvo_and_the_label_space_object_give_the_official_numbers(name, is_mapped):
    options = in_one_class(name, ROOT / "ytvis") if is_mapped else None
    report = scored(opened(name, ROOT / "ytvis", options=options), ROOT / "ytvis/results.json")
    golden = {k: v for k, v in expected("ytvis")["class_agnostic_uvo_style"].items() if k != "note"}
    assert close(report.values, golden, 1e-12)


BURST_FILES = {
    "class_guided": Task.VIS,
    "exemplar_guided": Task.PET,
    "exemplar_guided_dummy_categories": Task.VOS,
    "open_world": Task.OWVS,
}


@needs_fixtures
@pytest.mark.parametrize("task", BURST_FILES)
@pytest.mark.parametrize("kind", ["official", "mask_similarity"])
def test_burst_gives_the_official_numbers_with_boxes_and_with_masks(kind, task):
    options = Options(compat="official" if kind == "official" else "paper")
    results = ROOT / f"burst/results/{task}.json" if task.endswith("categories") else ROOT / "burst/results"
    report = scored(opened("burst", ROOT / "burst", BURST_FILES[task], options), results)
    # On paper the category of an exemplar is irrelevant.
    golden = expected("burst")[kind][task if kind == "official" else task.removesuffix("_dummy_categories")]
    flat = {f"{m}_{group}": v for m, row in golden.items() if m != "task" for group, v in row.items()}
    assert close(report.values, flat, 1e-6, scale=100)


@needs_fixtures
def test_one_burst_run_gives_what_the_file_of_each_group_gives():
    whole = scored(opened("burst", ROOT / "burst", Task.OWVS), ROOT / "burst/results")
    for group in ("common", "uncommon"):
        file = ROOT / f"burst/annotations/val/{group}_classes.json"
        alone = scored(opened("burst", file, Task.OWVS), ROOT / "burst/results")
        assert alone.values["OWTA_all"] == whole.values[f"OWTA_{group}"]


@needs_fixtures
def test_kitti_mots_gives_the_official_numbers():
    report = scored(opened("kitti-mots", ROOT / "kitti_mots"), ROOT / "kitti_mots/results")
    for category, row in expected("kitti_mots")["values"].items():
        golden = {k: v for k, v in row.items() if k in report.per_class[category]}
        assert {"HOTA", "sMOTSA", "MOTSA", "MOTSP", "IDF1"} <= golden.keys()
        assert close(report.per_class[category], golden, 1e-9)


# Truth given as results.


@pytest.mark.parametrize("name, task", CASES, ids=IDS)
def test_truth_given_as_results_scores_perfectly(tmp_path, name, task):
    protocol = opened(name, TREES[name](tmp_path / "truth"), task)
    values = scored(protocol, truth_as_results(protocol, tmp_path / "results")).values
    wanted = {
        "AP": ("AP", "AP50", "AR100", "APs"),
        "BURST": ("OWTA_all", "OWTA_common", "OWTA_uncommon", "DetRe_all")
        if task is Task.OWVS
        else ("HOTA_all", "HOTA_common", "HOTA_uncommon", "AP_all"),
        "MOTS": ("car/HOTA", "pedestrian/HOTA", "car/sMOTSA", "pedestrian/MOTSA"),
    }[protocol.headline[0]]
    assert {k: values[k] for k in wanted} == pytest.approx(dict.fromkeys(wanted, 1.0), abs=1e-12)
    assert protocol.headline[1] in values


@pytest.mark.parametrize("name, task", [case for case in CASES if case[0] != "burst"])
def test_everything_can_be_scored_as_one_class(tmp_path, name, task):
    root = TREES[name](tmp_path / "truth")
    protocol = opened(name, root, task, in_one_class(name, root))
    values = scored(protocol, truth_as_results(protocol, tmp_path / "results")).values
    assert values["object/HOTA" if name == "kitti-mots" else "AP"] == pytest.approx(1.0, abs=1e-12)
    assert protocol.headline[1] in values


def test_burst_is_scored_in_its_own_categories_only(tmp_path):
    root = trees.burst(tmp_path)
    with pytest.raises(InputError, match="scored in its own categories"):
        opened("burst", root, options=in_one_class("burst", root)).metrics()


def test_the_numbers_of_a_video_are_found_under_its_sequence(tmp_path):
    protocol = opened("ytvis-2021", trees.ytvis_2021(tmp_path / "truth"))
    report = scored(protocol, truth_as_results(protocol, tmp_path / "results"))
    names = [sequence for video in protocol.dataset.videos for sequence in protocol.sequences(video)]
    assert list(report.per_video) == names == ["7", "8"]


# Categories of tubes.


def test_wrong_categories_cost_nothing_in_one_class_and_everything_in_their_own(tmp_path):
    root = trees.ytvis_2021(tmp_path / "truth")
    own = opened("ytvis-2021", root)
    results = truth_as_results(own, tmp_path / "results")

    def swap(plain):
        for one in plain:
            one["category_id"] = {PERSON: DOG, DOG: PERSON}[one["category_id"]]

    change_json(results / "results.json", swap)
    assert scored(own, results).values["AP"] == 0
    assert scored(opened("ytvis-2021", root, options=in_one_class("ytvis-2021", root)), results).values["AP"] == 1


def test_a_map_of_categories_joins_and_drops_them(tmp_path):
    root = trees.ytvis_2021(tmp_path / "truth")
    target = CategorySet("animals", (Category(1, "animal", is_thing=True),))
    data = INFOS["ytvis-2021"].open(root)
    to_animals = dict.fromkeys(data.categories.ids) | {DOG: 1}
    options = Options(categories=CategoryMap(target, to_animals))
    protocol = opened("ytvis-2021", root, options=options)
    report = scored(protocol, truth_as_results(protocol, tmp_path / "results"))
    assert report.per_class.keys() == {"animal"}
    assert report.values["AP"] == pytest.approx(1.0)


def test_predictions_at_hand_are_scored_as_those_in_a_file(tmp_path):
    protocol = opened("ytvis-2021", trees.ytvis_2021(tmp_path / "truth"))
    at_hand = {str(video.video_id): video for video in protocol.dataset.videos}
    written = truth_as_results(protocol, tmp_path / "results")
    assert scored(protocol, at_hand).values == pytest.approx(scored(protocol, written).values, nan_ok=True)


def test_uvo_writes_one_category_whatever_was_predicted(tmp_path):
    protocol = opened("uvo", trees.uvo(tmp_path / "truth"))
    results = truth_as_results(protocol, tmp_path / "results")
    assert {one["category_id"] for one in json.loads((results / "results.json").read_text())} == {1}
    change_json(results / "results.json", lambda plain: [one.update(category_id=99) for one in plain])
    assert scored(protocol, results).values["AR100"] == 1


# Missing and wrong results.


@pytest.mark.parametrize("name", ["ytvis-2021", "uvo"])
def test_an_empty_list_of_predictions_scores_zero(tmp_path, name):
    results = trees.write_json(tmp_path / "results.json", [])
    protocol = opened(name, TREES[name](tmp_path / "truth"))
    values = scored(protocol, results).values
    assert (values["AP"], values["AR100"]) == (0, 0)


@pytest.mark.parametrize(
    "name, split, message",
    [
        ("ytvis-2019", "test", r"test\.json has no annotations: the labels of ytvis-2019 test are hidden"),
        ("ytvis-2021", "test", r"instances\.json has no annotations"),
        ("kitti-mots", "test", "the labels of KITTI-MOTS test are hidden"),
    ],
)
def test_hidden_labels_are_refused_before_the_first_video(tmp_path, name, split, message):
    protocol = opened(name, TREES[name](tmp_path), split=split)
    with pytest.raises(InputError, match=message):
        protocol.metrics()


def test_results_of_unknown_videos_are_refused_by_name(tmp_path):
    vis = opened("ytvis-2021", trees.ytvis_2021(tmp_path / "vis"))
    results = truth_as_results(vis, tmp_path / "vis-results")
    change_json(results / "results.json", lambda plain: plain[3].update(video_id=12))
    with pytest.raises(InputError, match=r"results\.json has predictions for video 12"):
        vis.read_results(results)

    tracking = opened("burst", trees.burst(tmp_path / "burst"))
    results = truth_as_results(tracking, tmp_path / "burst-results")
    change_json(results / "exemplar_guided.json", lambda plain: plain["sequences"][0].update(dataset="TAO"))
    with pytest.raises(InputError, match=r"exemplar_guided\.json has the sequence TAO/v_25685"):
        tracking.read_results(results)

    kitti = opened("kitti-mots", trees.kitti_mots(tmp_path / "kitti"))
    results = truth_as_results(kitti, tmp_path / "kitti-results")
    (results / "0099.txt").write_text("")
    with pytest.raises(InputError, match="the sequence 0099, which KITTI-MOTS val has not"):
        kitti.read_results(results)


@pytest.mark.parametrize("file, number", [("truth/valid/instances.json", 72), ("results/results.json", 2)])
def test_a_damaged_mask_is_said_with_its_file_and_number(tmp_path, file, number):
    protocol = opened("ytvis-2021", trees.ytvis_2021(tmp_path / "truth"))
    results = truth_as_results(protocol, tmp_path / "results")

    def damage(plain):
        tubes = plain if isinstance(plain, list) else plain["annotations"]
        of_first_video = [one for one in tubes if one["video_id"] == 7]
        of_first_video[1]["segmentations"][0]["counts"] = "0z"

    change_json(tmp_path / file, damage)
    protocol = opened("ytvis-2021", tmp_path / "truth")
    message = rf"{file}, annotation or prediction {number} of video 7: a run-length code is damaged"
    with pytest.raises(InputError, match=message):
        scored(protocol, results)


@pytest.mark.parametrize("name, task", [case for case in CASES if case[0] != "kitti-mots"])
def test_a_folder_without_the_file_of_results_says_its_name(tmp_path, name, task):
    protocol = opened(name, TREES[name](tmp_path / "truth"), task)
    (tmp_path / "results").mkdir()
    with pytest.raises(InputError, match=r"there is no .*results/\w+\.json: name \w+\.json or the folder"):
        protocol.read_results(tmp_path / "results")


def test_burst_results_with_other_names_of_files_are_refused(tmp_path):
    protocol = opened("burst", trees.burst(tmp_path / "truth"))
    results = truth_as_results(protocol, tmp_path / "results")

    def rename(plain):
        for sequence in plain["sequences"]:
            sequence["annotated_image_paths"] = [f"x/{path}" for path in sequence["annotated_image_paths"]]
            del sequence["all_image_paths"]

    change_json(results / "exemplar_guided.json", rename)
    with pytest.raises(InputError, match="they have 'x/frame0001' where the data set has 'frame0001'"):
        scored(protocol, results)


def test_burst_ignores_frames_that_nobody_annotated(tmp_path):
    protocol = opened("burst", trees.burst(tmp_path / "truth"))
    results = truth_as_results(protocol, tmp_path / "results")
    before = scored(protocol, results).values

    def clutter(plain):
        for sequence in plain["sequences"]:
            sequence["segmentations"][1] = sequence["segmentations"][4]

    change_json(results / "exemplar_guided.json", clutter)
    assert scored(protocol, results).values == pytest.approx(before, nan_ok=True)


def test_a_mots_prediction_inside_the_region_to_ignore_counts_for_nothing(tmp_path):
    protocol = opened("kitti-mots", trees.kitti_mots(tmp_path / "truth"))
    results = truth_as_results(protocol, tmp_path / "results")
    values = trees.kitti_values(trees.NAMES[0], 4)
    code = trees.compressed(values == 10000)["counts"]
    with (results / "0002.txt").open("a") as file:
        file.write(f"4 1777 1 {trees.SIZE[0]} {trees.SIZE[1]} {code}\n")
    assert scored(protocol, results).values["car/MOTSA"] == 1


def test_mots_predictions_that_overlap_are_refused(tmp_path):
    protocol = opened("kitti-mots", trees.kitti_mots(tmp_path / "truth"))
    results = truth_as_results(protocol, tmp_path / "results")
    line = (results / "0002.txt").read_text().splitlines()[0]
    (results / "0002.txt").write_text(f"{line}\n{line.replace(' 1001 ', ' 1777 ')}\n")
    with pytest.raises(InputError, match=r"0002, frame 0: the predicted segments .* overlap"):
        scored(protocol, results)
