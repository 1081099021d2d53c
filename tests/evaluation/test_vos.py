"""Protocols of video object segmentation: the golden numbers, truth as results, and results that are wrong."""

import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskstream.datasets import Dataset
from maskstream.evaluation.protocol import Options, Protocol
from maskstream.evaluation.results import results_folder
from maskstream.evaluation.vos import PROTOCOLS
from maskstream.formats import davis, viposeg
from maskstream.formats.indexed_png import read_masks
from maskstream.metrics import Report
from maskstream.types import FrameAnnotation, FrameRef, InputError, Task, VideoSample
from tests.datasets import trees_vos as trees
from tests.datasets.test_vos import EVERY_TREE, INFOS, only_first_masks
from tests.datasets.trees_vos import FRAMES, NAMES
from tests.formats import test_davis
from tests.metrics.fixtures_vos import golden, needs_fixtures, root

ALL = Options()
SOME = Options(allow_missing=True)


def opened(name: str, folder: Path, options: Options = ALL, *, split: str | None = None) -> Protocol[Dataset]:
    task = INFOS[name].tasks[0]
    return PROTOCOLS[name, task](INFOS[name].open(folder, split), task, options)


def scored(protocol: Protocol[Dataset], results: Path) -> dict[str, Report]:
    found, metrics = protocol.read_results(results), protocol.metrics()
    for video in protocol.dataset.videos:
        protocol.score(video, found, metrics)
    return {name: metric.result() for name, metric in metrics.items()}


def perfect(protocol: Protocol[Dataset], folder: Path) -> Path:
    protocol.write_results(folder, map(protocol.answers, protocol.dataset.videos))
    return folder


@pytest.fixture
def results(tmp_path):
    """Truth as results of a data set, and its protocol."""

    def make(name: str, options: Options = ALL) -> tuple[Protocol[Dataset], Path]:
        protocol = opened(name, EVERY_TREE[name](tmp_path / "truth"), options)
        return protocol, perfect(protocol, tmp_path / "results")

    return make


# The official numbers.

FIXTURES = {
    "davis-2017": ("davis", "davis/results_semi", "/semi-supervised", 1e-12),
    "davis-2017-unsupervised": ("davis", "davis/results_unsup", "/unsupervised", 1e-12),
    "davis-2016": ("davis16", "davis16/results", "/skip_first_and_last", 1e-9),
    "ytvos-2018": ("ytvos", "ytvos/results", "/aggregate_convention/values", 1e-12),
    "ytvos-2019": ("ytvos", "ytvos/results", "/aggregate_convention/values", 1e-12),
    "mose": ("mose", "mose/results", "/mosev2", 1e-9),
    "lvos": ("lvos", "lvos/results", "/semi-supervised", 1e-9),
    "sav": ("sav", "sav/results", "/skip_first_and_last", 1e-9),
    "viposeg": ("viposeg", "viposeg/results", "/values", 1e-9),
    "vos": ("vos_generic", "vos_generic/results", "/skip_first_and_last", 1e-9),
}
"""Truth and results, where the numbers are, and the tolerance of the specification (§14)."""


def golden_row(name: str, row: str) -> str:
    """What a row of ours is called in the file of expected numbers."""
    video, _, o = row.partition("/")
    names = {"davis-2016": f"{row}/255", "vos": row, "sav": f"{video}/{int(o or 0) - 1:03d}"}
    return names.get(name, row.replace("/", "_"))


@needs_fixtures
@pytest.mark.parametrize("name", FIXTURES)
def test_the_fixtures_give_the_official_numbers(name):
    folder, predicted, path, tolerance = FIXTURES[name]
    protocol = opened(name, root() / folder)
    report = scored(protocol, root() / predicted)["MOSE v2" if name == "mose" else protocol.headline[0]]
    tables = {f"/per_object/{golden_row(name, row)}/": values for row, values in report.per_video.items()}
    found = {
        f"{table}{key}": (100 if name in ("davis-2016", "sav", "vos") else 1) * value
        for table, values in (tables | {"/global/": report.values, "/": report.values}).items()
        for column, value in values.items()
        for key in (column, column.removesuffix("-Mean"))
    }
    expected = {key.removeprefix(path): value for key, value in golden(folder).items() if key.startswith(f"{path}/")}
    # The tests of the metrics look at single frames, and at objects that the official program lists in another order.
    passed_over = ("/per_frame", *(("/per_object",) if name == "davis-2017-unsupervised" else ()))
    compared = {key: value for key, value in expected.items() if not key.startswith(passed_over)}
    assert compared
    for key, value in compared.items():
        assert found[key] == pytest.approx(math.nan if value is None else value, rel=0, abs=tolerance, nan_ok=True), key


@needs_fixtures
def test_mose_is_scored_as_version_1_too():
    reports = scored(opened("mose", root() / "mose"), root() / "mose/results")
    expected = golden("mose")
    for key, value in reports["MOSE v1"].values.items():
        assert 100 * value == pytest.approx(expected[f"/mosev1_style/global/{key}"], abs=1e-9)


# Truth given as results.

PERFECT = {
    **{name: ("J&F-Mean", "J-Mean", "F-Mean", "J-Recall") for name in FIXTURES if name.startswith("davis")},
    "ytvos-2018": ("G", "Js", "Fs", "Ju", "Fu"),
    "ytvos-2019": ("G", "Js", "Fs", "Ju", "Fu"),
    "mose": ("J&F", "J", "F"),
    "lvos": ("J&F-Mean", "J-seen", "F-seen", "J-unseen", "F-unseen"),
    "sav": ("J&F", "J", "F"),
    "vos": ("J&F", "J", "F"),
    "viposeg": ("overall_iou", "thing_seen_miou", "thing_unseen_biou", "stuff_seen_miou", "stuff_unseen_biou"),
}


@pytest.mark.parametrize("name", PERFECT)
def test_truth_given_as_results_scores_perfectly(results, name):
    protocol, folder = results(name)
    reports = scored(protocol, folder)
    headline = reports[protocol.headline[0]]
    assert protocol.headline[1] in headline.values
    assert {key: headline.values[key] for key in PERFECT[name]} == dict.fromkeys(PERFECT[name], 1)
    for report in reports.values():
        assert not [note for note in report.notes if "no prediction" in note]


@pytest.mark.parametrize(
    "name, write, write_results",
    [
        ("davis-2017", davis.write_davis, davis.write_davis_results),
        ("davis-2017-unsupervised", davis.write_davis_unsupervised, davis.write_davis_unsupervised_results),
        ("viposeg", viposeg.write_viposeg, viposeg.write_viposeg_results),
    ],
)
def test_what_the_writers_of_truth_write_is_read(tmp_path, name, write, write_results):
    write(tmp_path / "truth", [test_davis.video()], test_davis.CATEGORIES)
    write_results(tmp_path / "results", [test_davis.video()], test_davis.CATEGORIES)
    protocol = opened(name, tmp_path / "truth")
    values = scored(protocol, tmp_path / "results")[protocol.headline[0]].values
    # Classes of this world are not those of VIPOSeg, so some of its groups are empty.
    scores = {key: v for key, v in values.items() if key.endswith(("Mean", "iou")) and not math.isnan(v)}
    assert scores == dict.fromkeys(scores or ["nothing"], 1)


def test_unsupervised_davis_2016_is_scored_like_the_other(results):
    protocol, folder = results("davis-2016")
    other = PROTOCOLS["davis-2016", Task.UVOS](protocol.dataset, Task.UVOS, ALL)
    assert scored(other, folder)["DAVIS-2016"].values["J&F-Mean"] == 1


def test_mose_without_meta_file_is_scored_as_version_1_only(results):
    protocol, folder = results("mose")
    assert list(scored(protocol, folder)) == ["MOSE v1", "MOSE v2"]
    (folder.parent / "truth/meta_valid.json").unlink()
    reports = scored(opened("mose", folder.parent / "truth"), folder)
    assert {name: report.values["J&F"] for name, report in reports.items()} == {"MOSE v1": 1}


def test_objects_are_known_by_id_and_by_frame(results):
    protocol, folder = results("ytvos-2019")
    for path in (folder / "Annotations/ant").iterdir():
        ids = np.asarray(Image.open(path)).copy()
        trees.png(path, np.where(ids == 1, 4, np.where(ids == 4, 1, ids)))
    rows = scored(protocol, folder)["YouTube-VOS"].per_video
    assert {row: values["J"] for row, values in rows.items()} == {
        "ant/1": pytest.approx(0, abs=0.3),
        "ant/2": 1,
        "ant/4": pytest.approx(0, abs=0.3),
        "bee/1": 1,
        "bee/2": 1,
        "bee/4": 1,
    }


# What is written.


def held(video: VideoSample, step: int) -> VideoSample:
    """A prediction of every frame: the labels of the last frame that has some."""

    def read(index: int) -> FrameAnnotation:
        return video.annotation(index // step * step)

    return replace(video, read_annotation=read)


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


def test_youtube_vos_hands_in_every_fifth_frame_below_annotations(tmp_path):
    trees.ytvos(tmp_path / "truth")
    for name in NAMES:
        trees.jpegs(tmp_path / "truth/valid_all_frames/JPEGImages" / name, [f"{n:05d}" for n in range(5 * FRAMES)])
    protocol = opened("ytvos-2019", tmp_path / "truth")
    # A prediction has all frames; every fifth has labels.
    protocol.write_results(tmp_path / "results", [held(video, 5) for video in protocol.dataset.videos])
    assert written(tmp_path / "results") == {
        f"Annotations/{name}/{5 * n:05d}.png" for name in NAMES for n in range(FRAMES)
    }
    assert scored(protocol, tmp_path / "results")["YouTube-VOS"].values["G"] == 1


def test_test_results_of_lvos_are_below_annotations(tmp_path):
    trees.lvos(tmp_path)
    for split, above in (("valid", ""), ("test", "Annotations/")):
        protocol = opened("lvos", tmp_path, split=split)
        mask = tmp_path / "valid/Annotations/ant/00000001.png"
        sample = VideoSample("ant", (FrameRef("00000001"),), partial(read_masks, mask))
        protocol.write_results(tmp_path / f"{split}-results", [sample])
        assert written(tmp_path / f"{split}-results") == {f"{above}ant/00000001.png"}


def test_results_of_sa_v_have_every_object_on_annotated_frames(results):
    _, folder = results("sav")
    stems = [f"{4 * n:05d}" for n in range(FRAMES)]
    assert written(folder) == {f"{name}/{o:03d}/{stem}.png" for name in NAMES for o in range(3) for stem in stems}


def test_predictions_on_frames_without_labels_are_written_and_passed_over(tmp_path):
    protocol = opened("vos", trees.folder(tmp_path / "truth"))
    protocol.write_results(tmp_path / "results", [held(video, 2) for video in protocol.dataset.videos])
    assert len(written(tmp_path / "results")) == 2 * FRAMES
    assert scored(protocol, tmp_path / "results")["VOS"].values["J&F"] == 1


def test_a_saliency_map_is_cut_at_one_half(results):
    protocol, folder = results("davis-2016")
    for path in folder.rglob("*.png"):
        mask = np.asarray(Image.open(path))
        trees.png(path, np.where(mask, 140, 90) + np.arange(mask.shape[1]) % 3, mode="L")
    assert scored(protocol, folder)["DAVIS-2016"].values["J&F-Mean"] == 1


# Where results are.


@pytest.mark.parametrize("above", ["", "Annotations", "submission", "submission/Annotations/480p"])
def test_folders_around_results_are_passed(tmp_path, above):
    (tmp_path / above / "ant").mkdir(parents=True)
    (tmp_path / above / ".hidden").mkdir()
    assert results_folder(tmp_path, ["bee", "ant"]) == tmp_path / above


def test_hidden_files_and_others_beside_results_are_passed_over(results):
    protocol, folder = results("davis-2017")
    trees.litter(folder)
    trees.litter(folder / "ant")
    (folder / ".git").mkdir()
    assert scored(protocol, folder)["DAVIS-2017 semi-supervised"].values["J&F-Mean"] == 1


def test_a_folder_without_results_is_refused_by_name(tmp_path):
    (tmp_path / "wasp").mkdir()
    (tmp_path / "fly").mkdir()
    with pytest.raises(
        InputError, match="has no folder named like a video of the data set, such as bee; it has fly/, wasp/"
    ):
        results_folder(tmp_path, ["bee", "ant"])


# Results that are wrong.


@pytest.mark.parametrize("name", PERFECT)
def test_an_unknown_video_is_refused_by_name(results, name):
    protocol, folder = results(name)
    inner = results_folder(folder, NAMES)
    shutil.copytree(inner / "ant", inner / "wasp")
    with pytest.raises(InputError, match="the ground truth has no video wasp: remove it from the prediction"):
        protocol.read_results(folder)


@pytest.mark.parametrize("name", PERFECT)
def test_a_missing_frame_is_refused_by_name_unless_it_is_allowed(results, name):
    protocol, folder = results(name)
    inner = results_folder(folder, NAMES)
    stem = sorted({path.stem for path in (inner / "ant").rglob("*.png")})[2]
    for path in (inner / "ant").rglob(f"{stem}.png"):
        path.unlink()
    with pytest.raises(InputError, match=r"(ant, frame .*: there is no prediction|there is no mask .*/ant/)"):
        scored(protocol, folder)
    tolerant = type(protocol)(protocol.dataset, protocol.task, SOME)
    report = scored(tolerant, folder)[protocol.headline[0]]
    assert "1 frames of 1 videos had no prediction" in report.notes[-1]


def test_a_missing_video_is_refused_by_name_unless_it_is_allowed(results):
    protocol, folder = results("vos")
    shutil.rmtree(folder / "ant")
    with pytest.raises(InputError, match="ant, frame 0: there is no prediction"):
        scored(protocol, folder)
    tolerant = type(protocol)(protocol.dataset, protocol.task, SOME)
    assert scored(tolerant, folder)["VOS"].values["J"] == pytest.approx(0.5)


def test_a_mask_of_one_object_of_sa_v_may_not_be_missing(results):
    protocol, folder = results("sav")
    (folder / "ant/002/00008.png").unlink()
    with pytest.raises(
        InputError, match=r"there is no mask .*ant/002/00008.png: add it, empty where the object is not"
    ):
        protocol.read_results(folder)
    tolerant = type(protocol)(protocol.dataset, protocol.task, SOME)
    rows = scored(tolerant, folder)["SA-V"].per_video
    assert [row for row, values in rows.items() if values["J"] < 1] == ["ant/3"]


def test_a_prediction_of_another_size_and_a_damaged_one_are_refused_by_name(results):
    protocol, folder = results("mose")
    path = folder / "bee/00002.png"
    trees.png(path, np.zeros((5, 5)))
    with pytest.raises(InputError, match="bee, frame 2: the prediction is 5×5 but the ground truth 24×32"):
        scored(protocol, folder)
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"bee/00002.png is not a PNG picture"):
        scored(protocol, folder)


def test_a_frame_that_is_not_named_by_a_number_is_refused(results):
    protocol, folder = results("lvos")
    path = folder.parent / "truth/valid/Annotations/ant/00000006.png"
    path.rename(path.with_stem("six"))
    with pytest.raises(InputError, match="ant: the frame six is not named by a number"):
        scored(protocol, folder)


def test_an_object_of_vi_p_o_seg_without_class_is_refused(results):
    protocol, folder = results("viposeg")
    trees.write_json(folder.parent / "truth/valid/obj_class.json", {name: {"1": 74, "2": 28} for name in NAMES})
    with pytest.raises(InputError, match=r"obj_class.json has no class for object 4 of bee"):
        opened("viposeg", folder.parent / "truth").metrics()
    assert protocol.metrics()


# Hidden labels.


@pytest.mark.parametrize(
    "name, build, split",
    [
        pytest.param("davis-2017", trees.davis, "test-dev", id="DAVIS test-dev"),
        pytest.param("davis-2017-unsupervised", trees.davis, "test-dev", id="DAVIS unsupervised test-dev"),
        pytest.param("mose", only_first_masks, "valid", id="MOSE valid as released"),
        pytest.param("lvos", trees.lvos, "test", id="LVOS test"),
        pytest.param("ytvos-2019", lambda base: trees.ytvos(base, with_truth=False), "valid", id="YouTube-VOS valid"),
    ],
)
def test_a_split_whose_labels_are_hidden_is_not_scored(tmp_path, name, build, split):
    protocol = opened(name, build(tmp_path / "truth"), split=split)
    video = protocol.dataset.videos[0]
    trees.masks(tmp_path / "results" / video.name, {frame.stem: trees.labels("ant", 0) for frame in video.frames})
    with pytest.raises(InputError, match=f"{name} {split} has only the masks that are given.* labels are hidden"):
        scored(protocol, tmp_path / "results")
