"""Every layout is read back with readers that know nothing but the specification, and scored against the results."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from maskstream.metrics import (
    BurstGuided,
    BurstOpenWorld,
    BurstSequence,
    DavisSemiSupervised,
    DavisUnsupervised,
    PredictedTube,
    RefYoutubeVos,
    SegmentationTrackingQuality,
    SemanticQuality,
    TrueTube,
    VideoInstanceAP,
    VideoPanopticQuality,
    Viposeg,
    ViposegObject,
)
from maskstream.metrics.vos import VOID_ID
from maskstream.synthetic.layouts import write_dataset
from maskstream.synthetic.scene import WORLD
from maskstream.synthetic.videos import synthetic_videos, video_seed
from maskstream.types import (
    RLE,
    CategorySet,
    Expression,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    LabelMap,
    OutputError,
    Segment,
    Task,
    VideoSample,
    decode_rle,
    encode_rle,
)

Ids = NDArray[np.int64]
FISH, BOAT, SKY, GRASS = (
    next(c.id for c in WORLD.categories if c.name == name) for name in ("fish", "boat", "sky", "grass")
)
CATEGORY = {1: SKY, 2: GRASS, 3: FISH, 5: BOAT, 7: FISH}
SIZE, FRAMES = (24, 40), 8
STUFF = (1, 2)


def ids_of_frame(index: int, *, shift: int) -> Ids:
    """Sky over grass, void on the left; a fish that swims, a boat that leaves, a fish that comes."""
    ids = np.ones(SIZE, np.int64)
    ids[12:] = 2
    ids[:, :3] = 0
    ids[4:12, 10 + index : 18 + index] = 3
    if index < 5:
        ids[14:20, 5 + shift : 14 + shift] = 5
    if index >= 3:
        ids[2:8, 30 - index : 37 - index] = 7
    return ids


def annotated(index: int, ids: Ids) -> FrameAnnotation:
    numbers = sorted({int(n) for n in np.unique(ids)} - {0}, reverse=True)  # in another order than the ids
    labels = np.zeros(ids.shape, np.int32)
    for position, number in enumerate(numbers, 1):
        labels[ids == number] = position
    segments = tuple(Segment(n, n, CATEGORY[n], is_thing=n not in STUFF) for n in numbers)
    segmentation = FrameSegmentation(index, SIZE, segments, LabelMap(torch.from_numpy(labels)))
    return FrameAnnotation(segmentation, void=torch.from_numpy(ids == 0))


def handmade() -> Iterator[VideoSample]:
    for number, shift in enumerate((0, 3)):

        def read(index: int, shift: int = shift) -> FrameAnnotation:
            return annotated(index, ids_of_frame(index, shift=shift))

        def picture(index: int, number: int = number) -> NDArray[np.uint8]:
            return np.full((*SIZE, 3), 30 * number + index, np.uint8)

        said = {
            "0": Expression("the fish", (3,)),
            "1": Expression("the thing", (3,)),
            "2": Expression("the boat", (5,)),
        }
        frames = tuple(FrameRef(f"{index:05d}") for index in range(FRAMES))
        yield VideoSample(f"v{number}", frames, read, picture, read_expressions=said.copy, fps=24.0)


def rendered() -> Iterator[VideoSample]:
    return synthetic_videos(level="hard", seed=3, videos=2, frames=6, size_hw=(48, 86))


def truth_ids(video: str) -> list[Ids]:
    return [ids_of_frame(index, shift={"v0": 0, "v1": 3}[video]) for index in range(FRAMES)]


def png(path: Path, *, mode: str) -> Ids:
    with Image.open(path) as image:
        assert image.mode == mode, path
        values: Ids = np.asarray(image).astype(np.int64)
        return values


def rgb_ids(path: Path) -> Ids:
    red, green, blue = np.moveaxis(png(path, mode="RGB"), -1, 0)
    ids: Ids = red + 256 * green + 65536 * blue
    return ids


def load(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def frame_of(index: int, ids: Ids, category_of: Mapping[int, int] | None = None) -> FrameSegmentation:
    numbers = sorted({int(n) for n in np.unique(ids)} - {0})
    labels = np.zeros(ids.shape, np.int32)
    for position, number in enumerate(numbers, 1):
        labels[ids == number] = position
    segments = tuple(Segment(n, n, None if category_of is None else category_of[n], 1.0) for n in numbers)
    return FrameSegmentation(index, ids.shape, segments, LabelMap(torch.from_numpy(labels)))


@pytest.fixture(scope="module", params=["handmade", "rendered"])
def written(request, tmp_path_factory):
    """Folders of truth and results of a task."""
    root = tmp_path_factory.mktemp(request.param)
    source = {"handmade": handmade, "rendered": rendered}[request.param]

    def write(task: Task) -> tuple[Path, Path]:
        truth, results = root / f"{task.value}-truth", root / f"{task.value}-results"
        write_dataset(truth, task, source())
        write_dataset(results, task, source(), as_predictions=True)
        return truth, results

    return write


@pytest.fixture
def truth_of(tmp_path):
    def write(task: Task) -> Path:
        root: Path = tmp_path / "set"
        write_dataset(root, task, handmade())
        return root

    return write


# What is in the files.


def test_davis_numbers_the_things_of_the_first_frame(truth_of):
    root = truth_of(Task.VOS)
    assert (root / "ImageSets" / "2017" / "val.txt").read_text() == "v0\nv1\n"
    assert names(root) == ["Annotations", "ImageSets", "JPEGImages"]
    for video in ("v0", "v1"):
        assert names(root / "JPEGImages" / "480p" / video) == [f"{n:05d}.jpg" for n in range(FRAMES)]
        for index, ids in enumerate(truth_ids(video)):
            mask = png(root / "Annotations" / "480p" / video / f"{index:05d}.png", mode="P")
            assert np.array_equal(mask, (ids == 3) * 1 + (ids == 5) * 2)


def test_davis_unsupervised_makes_void_and_things_that_come_later_void(truth_of):
    root = truth_of(Task.UVOS)
    for index, ids in enumerate(truth_ids("v1")):
        mask = png(root / "Annotations_unsupervised" / "480p" / "v1" / f"{index:05d}.png", mode="P")
        assert np.array_equal(mask, (ids == 3) * 1 + (ids == 5) * 2 + np.isin(ids, (0, 7)) * 255)


def test_youtube_vis_lists_things_with_codes_areas_and_boxes(truth_of):
    root = truth_of(Task.VIS)
    instances = load(root / "valid" / "instances.json")
    assert [c["name"] for c in instances["categories"]] == [c.name for c in WORLD.categories if c.is_thing]
    for video in instances["videos"]:
        assert (video["height"], video["width"], video["length"]) == (*SIZE, FRAMES)
        assert all((root / "valid" / "JPEGImages" / name).is_file() for name in video["file_names"])
    assert [(a["video_id"], a["category_id"]) for a in instances["annotations"]] == [
        (video, category) for video in (1, 2) for category in (FISH, BOAT, FISH)
    ]
    assert [a["id"] for a in instances["annotations"]] == [1, 2, 3, 4, 5, 6]
    ids = truth_ids("v1")
    for annotation, number in zip(instances["annotations"][3:], (3, 5, 7), strict=True):
        for index, code in enumerate(annotation["segmentations"]):
            mask = ids[index] == number
            assert (code is None) == (not mask.any())
            if code is not None:
                assert np.array_equal(decode_rle([code], SIZE)[0].numpy(), mask)
                assert annotation["areas"][index] == mask.sum()
                rows, columns = np.nonzero(mask)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                assert annotation["bboxes"][index] == [int(value) for value in box]


def test_vipseg_has_ids_that_say_category_and_object_and_lists_every_segment(truth_of):
    root = truth_of(Task.VPS)
    listing = load(root / "panoptic_gt_VIPSeg_val.json")
    assert listing["categories"] == load(root / "panoVIPSeg_categories.json")
    assert [(c["id"], c["name"]) for c in listing["categories"]] == [(c.id - 1, c.name) for c in WORLD.categories]
    assert [c["isthing"] for c in listing["categories"]] == [int(bool(c.is_thing)) for c in WORLD.categories]
    assert [video["video_id"] for video in listing["videos"]] == ["v0", "v1"]
    assert (root / "val.txt").read_text() == "v0\nv1\n"
    new_id = {n: 1000 * (category - 1) + n for n, category in CATEGORY.items()} | {0: 0}
    for video, rows in zip(listing["videos"], listing["annotations"], strict=True):
        name = video["video_id"]
        assert all((root / "images" / name / image["file_name"]).is_file() for image in video["images"])
        assert [row["image_id"] for row in rows["annotations"]] == [image["id"] for image in video["images"]]
        for ids, row in zip(truth_ids(name), rows["annotations"], strict=True):
            found = rgb_ids(root / "panomasksRGB" / name / row["file_name"])
            assert np.array_equal(found, np.vectorize(new_id.__getitem__)(ids))
            assert {s["id"]: s["category_id"] for s in row["segments_info"]} == {
                new_id[n]: CATEGORY[n] - 1 for n in np.unique(ids).tolist() if n
            }
            for segment in row["segments_info"]:
                x, y, width, height = segment["bbox"]
                mask = found == segment["id"]
                assert mask.sum() == mask[y : y + height, x : x + width].sum() == segment["area"]
                assert (
                    mask[y].any() and mask[:, x].any() and mask[y + height - 1].any() and mask[:, x + width - 1].any()
                )


def test_vspw_has_classes_from_1_and_void_255(truth_of):
    root = truth_of(Task.VSS)
    labels = load(root / "label_num_dic_final.json")
    assert labels == {"others": 0} | {c.name: c.id for c in WORLD.categories}
    assert (root / "val.txt").read_text() == "v0\nv1\n"
    value = CATEGORY | {0: 255}
    for index, ids in enumerate(truth_ids("v0")):
        assert (root / "data" / "v0" / "origin" / f"{index:05d}.jpg").is_file()
        mask = png(root / "data" / "v0" / "mask" / f"{index:05d}.png", mode="P")
        assert np.array_equal(mask, np.vectorize(value.__getitem__)(ids))


def test_ref_youtube_vos_has_masks_of_all_things_and_says_whom_an_expression_is_about(truth_of):
    root = truth_of(Task.REFVOS)
    videos = load(root / "meta_expressions" / "valid" / "meta_expressions.json")["videos"]
    stems = [f"{n:05d}" for n in range(FRAMES)]
    assert videos["v1"] == {
        "expressions": {
            "0": {"exp": "the fish", "obj_id": "3"},
            "1": {"exp": "the thing", "obj_id": "3"},
            "2": {"exp": "the boat", "obj_id": "5"},
        },
        "frames": stems,
    }
    objects = load(root / "valid" / "meta.json")["videos"]["v1"]["objects"]
    assert objects["5"] == {"category": "boat", "frames": stems[:5]}
    assert objects["7"] == {"category": "fish", "frames": stems[3:]}
    for stem, ids in zip(stems, truth_ids("v1"), strict=True):
        assert (root / "valid" / "JPEGImages" / "v1" / f"{stem}.jpg").is_file()
        assert np.array_equal(png(root / "valid" / "Annotations" / "v1" / f"{stem}.png", mode="P"), ids * (ids > 2))


@pytest.mark.parametrize("task", [Task.PET, Task.OWVS])
def test_burst_gives_a_mask_a_box_and_a_point_where_an_object_is_first_seen(truth_of, task):
    root = truth_of(task)
    whole = load(root / "annotations" / "val" / "all_classes.json")
    first = load(root / "annotations" / "val" / "first_frame_annotations.json")
    things = [c.id for c in WORLD.categories if c.is_thing]
    assert [c["id"] for c in load(root / "annotations" / "info" / "categories.json")] == things
    assert load(root / "annotations" / "info" / "class_split.json") == {"all": things, "common": things, "uncommon": []}
    for sequence, given in zip(whole["sequences"], first["sequences"], strict=True):
        folder = root / "frames" / "val" / sequence["dataset"] / sequence["seq_name"]
        assert all((folder / name).is_file() for name in sequence["all_image_paths"])
        assert sequence["annotated_image_paths"] == sequence["all_image_paths"]
        assert sequence["track_category_ids"] == {"3": FISH, "5": BOAT, "7": FISH}
        assert sequence["neg_category_ids"] == [c for c in things if c not in (FISH, BOAT)]
        ids = truth_ids(sequence["seq_name"])
        for index, entries in enumerate(sequence["segmentations"]):
            assert set(entries) == {str(n) for n in (3, 5, 7) if (ids[index] == n).any()}
            for track, entry in entries.items():
                code: RLE = {"size": [*SIZE], "counts": entry["rle"]}
                assert np.array_equal(decode_rle([code], SIZE)[0].numpy(), ids[index] == int(track))
        assert [sorted(entries) for entries in given["segmentations"]] == [
            {0: ["3", "5"], 3: ["7"]}.get(index, []) for index in range(FRAMES)
        ]
        for index, entries in enumerate(given["segmentations"]):
            for track, entry in entries.items():
                assert ids[index][entry["point"]["y"], entry["point"]["x"]] == int(track)
                assert len(entry["bbox"]) == 4


def test_viposeg_gives_new_regions_only_and_things_and_stuff_alike(truth_of):
    valid = truth_of(Task.PVOS) / "valid"
    assert names(valid / "Annotations" / "v0") == ["00000000.png", "00000003.png"]
    ids = truth_ids("v0")
    assert np.array_equal(png(valid / "Annotations" / "v0" / "00000000.png", mode="P"), ids[0])
    assert np.array_equal(png(valid / "Annotations" / "v0" / "00000003.png", mode="P"), ids[3] * (ids[3] == 7))
    for index in range(FRAMES):
        assert np.array_equal(png(valid / "Annotations_gt" / "v0" / f"{index:08d}.png", mode="P"), ids[index])
    assert load(valid / "obj_class.json")["v0"] == {str(n): str(category - 1) for n, category in CATEGORY.items()}
    objects = load(valid / "meta.json")["videos"]["v0"]["objects"]
    assert objects["7"]["frames"] == [f"{n:08d}" for n in range(3, FRAMES)]


def test_pictures_are_those_that_were_given(truth_of):
    root = truth_of(Task.VOS)
    picture = cv2.imread(str(root / "JPEGImages" / "480p" / "v1" / "00002.jpg"))
    assert picture is not None
    assert abs(picture.astype(int) - 32).max() <= 1


# Truth given as results scores perfectly.


def score_davis(truth: Path, results: Path) -> dict[str, float]:
    metric = DavisSemiSupervised()
    for name in (truth / "ImageSets" / "2017" / "val.txt").read_text().split():
        for index, file in enumerate(names(truth / "Annotations" / "480p" / name)):
            mask = png(truth / "Annotations" / "480p" / name / file, mode="P")
            found = png(results / name / file, mode="P")
            metric.update(name, index, FrameAnnotation(frame_of(index, mask)), frame_of(index, found))
        metric.end_sequence(name)
    values = metric.result().values
    return {name: values[name] for name in ("J&F-Mean", "J-Mean", "F-Mean")}


def score_davis_unsupervised(truth: Path, results: Path) -> dict[str, float]:
    metric = DavisUnsupervised()
    folder = truth / "Annotations_unsupervised" / "480p"
    for name in names(folder):
        for index, file in enumerate(names(folder / name)):
            mask = png(folder / name / file, mode="P")
            found = png(results / name / file, mode="P")
            void = torch.from_numpy(mask == VOID_ID)
            labelled = FrameAnnotation(frame_of(index, mask * (mask != VOID_ID)), void)
            metric.update(name, index, labelled, frame_of(index, found))
        metric.end_sequence(name)
    values = metric.result().values
    return {name: values[name] for name in ("J&F-Mean", "J-Mean", "F-Mean")}


def score_youtube_vis(truth: Path, results: Path) -> dict[str, float]:
    instances, predictions = load(truth / "valid" / "instances.json"), load(results / "results.json")
    categories = CategorySet.from_names([c["name"] for c in instances["categories"]])
    metric = VideoInstanceAP(categories)
    for video in instances["videos"]:
        mine = [
            [one for one in listed if one["video_id"] == video["id"]]
            for listed in (instances["annotations"], predictions)
        ]
        metric.update_video(
            video["id"],
            [TrueTube(one["segmentations"], one["category_id"], areas=one["areas"]) for one in mine[0]],
            [PredictedTube(one["segmentations"], one["category_id"], one["score"]) for one in mine[1]],
            length=video["length"],
        )
    values = metric.result().values
    return {name: values[name] for name in ("AP", "AP50", "AR100")}


def score_vipseg(truth: Path, results: Path) -> dict[str, float]:
    listing, predictions = load(truth / "panoptic_gt_VIPSeg_val.json"), load(results / "pred.json")
    rows = listing["categories"]
    categories = CategorySet(
        "vipseg", tuple(type(WORLD.categories[0])(c["id"], c["name"], bool(c["isthing"])) for c in rows)
    )
    metrics = VideoPanopticQuality(categories, windows=(1, 2, 4, math.inf)), SegmentationTrackingQuality(categories)
    for video, answer in zip(listing["annotations"], predictions["annotations"], strict=True):
        name = video["video_id"]
        assert answer["video_id"] == name
        for index, (row, found) in enumerate(zip(video["annotations"], answer["annotations"], strict=True)):
            sides = []
            for folder, listed in ((truth / "panomasksRGB", row), (results / "pan_pred", found)):
                ids = rgb_ids(folder / name / listed["file_name"])
                sides.append(frame_of(index, ids, {s["id"]: s["category_id"] for s in listed["segments_info"]}))
            for metric in metrics:
                metric.update(name, index, FrameAnnotation(sides[0]), sides[1])
        for metric in metrics:
            metric.end_sequence(name)
    vpq, stq = (metric.result().values for metric in metrics)
    return {"VPQ_1": vpq["VPQ_1"], "VPQ_inf": vpq["VPQ_inf"], **stq}


def score_vspw(truth: Path, results: Path) -> dict[str, float]:
    metric = SemanticQuality(WORLD)
    for name in (truth / "val.txt").read_text().split():
        for index, file in enumerate(names(truth / "data" / name / "mask")):
            mask = png(truth / "data" / name / "mask" / file, mode="P")
            found = png(results / name / file, mode="L")
            same = {n: n for n in range(1, 256)}
            void = torch.from_numpy(np.isin(mask, (0, 255)))
            labelled = FrameAnnotation(frame_of(index, mask * (mask != 255), same), void)
            metric.update(name, index, labelled, frame_of(index, found + 1, same))
        metric.end_sequence(name)
    values = metric.result().values
    return {name: values[name] for name in ("mIoU", "wIoU")}


def score_ref_youtube_vos(truth: Path, results: Path) -> dict[str, float]:
    metric = RefYoutubeVos()
    for name, video in load(truth / "meta_expressions" / "valid" / "meta_expressions.json")["videos"].items():
        assert video["expressions"]
        for number, expression in video["expressions"].items():
            for index, stem in enumerate(video["frames"]):
                mask = png(truth / "valid" / "Annotations" / name / f"{stem}.png", mode="P")
                found = png(results / "Annotations" / name / number / f"{stem}.png", mode="L")
                assert set(np.unique(found)) <= {0, 255}
                target = FrameAnnotation(frame_of(index, (mask == int(expression["obj_id"])) * 1))
                metric.update(f"{name}/{number}", index, target, frame_of(index, (found == 255) * 1))
            metric.end_sequence(f"{name}/{number}")
    return dict(metric.result().values)


def score_burst(truth: Path, results: Path, *, task: str) -> dict[str, float]:
    split = load(truth / "annotations" / "info" / "class_split.json")
    if task == "exemplar_guided":
        metric: BurstGuided | BurstOpenWorld = BurstGuided("exemplar", similarity="mask", common=split["common"])
    else:
        metric = BurstOpenWorld(similarity="mask", common=split["common"])
    listing, answers = load(truth / "annotations" / "val" / "all_classes.json"), load(results / f"{task}.json")
    for entry, answer in zip(listing["sequences"], answers["sequences"], strict=True):
        meta = BurstSequence(frozenset(entry["neg_category_ids"]), frozenset(entry["not_exhaustive_category_ids"]))
        name = f"{entry['dataset']}/{entry['seq_name']}"
        found = dict(zip(answer["annotated_image_paths"], answer["segmentations"], strict=True))
        for index, path in enumerate(entry["annotated_image_paths"]):
            true, pred = (
                burst_frame(entry, entry["segmentations"][index], index),
                burst_frame(answer, found[path], index),
            )
            metric.update(name, index, FrameAnnotation(true), pred, meta)
        metric.end_sequence(name)
    wanted = ("HOTA_all", "HOTA_common", "AP_all") if task == "exemplar_guided" else ("OWTA_all", "OWTA_common")
    return {name: metric.result().values[name] for name in wanted}


def burst_frame(sequence, entries, index: int) -> FrameSegmentation:
    size = (sequence["height"], sequence["width"])
    codes: list[RLE] = [{"size": [*size], "counts": entry["rle"]} for entry in entries.values()]
    kinds = sequence["track_category_ids"]
    segments = tuple(Segment(int(track), int(track), kinds[track], entry["score"]) for track, entry in entries.items())
    return FrameSegmentation.from_masks(index, segments, decode_rle(codes, size))


def score_viposeg(truth: Path, results: Path) -> dict[str, float]:
    valid = truth / "valid"
    classes, videos = load(valid / "obj_class.json"), load(valid / "meta.json")["videos"]
    objects = {}
    for name, video in videos.items():
        stems = names(valid / "Annotations_gt" / name)
        given = {n: stems.index(f"{one['frames'][0]}.png") for n, one in video["objects"].items()}
        objects[name] = {int(n): ViposegObject(int(classes[name][n]), at) for n, at in given.items()}
    metric = Viposeg(objects)
    for name in objects:
        for index, file in enumerate(names(valid / "Annotations_gt" / name)):
            true = frame_of(index, png(valid / "Annotations_gt" / name / file, mode="P"))
            metric.update(name, index, FrameAnnotation(true), frame_of(index, png(results / name / file, mode="P")))
        metric.end_sequence(name)
    values = {name: v for name, v in metric.result().values.items() if not math.isnan(v) and "decay" not in name}
    # Classes of this world fall into the groups of VIPSeg's by chance; an empty group counts 0 in the overall score.
    return {name: v for name, v in values.items() if name.endswith("iou")}


SCORES: dict[Task, Callable[[Path, Path], dict[str, float]]] = {
    Task.VOS: score_davis,
    Task.UVOS: score_davis_unsupervised,
    Task.VIS: score_youtube_vis,
    Task.VPS: score_vipseg,
    Task.VSS: score_vspw,
    Task.REFVOS: score_ref_youtube_vos,
    Task.PET: lambda truth, results: score_burst(truth, results, task="exemplar_guided"),
    Task.OWVS: lambda truth, results: score_burst(truth, results, task="open_world"),
    Task.PVOS: score_viposeg,
}


@pytest.mark.parametrize("task", Task, ids=lambda task: task.value)
def test_truth_given_as_results_scores_perfectly(written, task):
    scores = SCORES[task](*written(task))
    assert scores
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0), abs=1e-12)


# One folder, whole or not at all.


def test_a_data_set_that_fails_leaves_nothing_behind(tmp_path):
    def breaks() -> Iterator[VideoSample]:
        yield next(handmade())
        raise InputError("no more")

    with pytest.raises(InputError, match="no more"):
        write_dataset(tmp_path / "set", Task.VPS, breaks())
    assert names(tmp_path) == []


def test_what_a_killed_run_left_is_no_obstacle_and_an_empty_folder_is_filled(tmp_path):
    (tmp_path / ".set.partial" / "old").mkdir(parents=True)
    (tmp_path / "set").mkdir()
    write_dataset(tmp_path / "set", Task.VSS, handmade())
    assert names(tmp_path) == ["set"]
    assert names(tmp_path / "set") == ["data", "label_num_dic_final.json", "val.txt"]


def test_another_folder_is_never_written_over(tmp_path):
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(OutputError, match="exists: remove it, or name another folder"):
        write_dataset(tmp_path, Task.VSS, handmade())
    with pytest.raises(OutputError, match="exists"):
        write_dataset(tmp_path / "precious", Task.VSS, handmade())
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_category_of_another_label_space_is_refused(tmp_path):
    with pytest.raises(InputError, match="category"):
        write_dataset(tmp_path / "set", Task.VPS, handmade(), categories=CategorySet.from_names(["cat"]))


# Seeds.


def test_seeds_of_videos_are_frozen_and_all_different():
    assert [video_seed(0, n) for n in range(2)] == [1159028060720634, 2865243701271745]
    seeds = [video_seed(s, n) for s, n in itertools.product(range(-2, 20), range(200))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**53 for seed in seeds)


def test_a_smaller_set_is_the_beginning_of_a_larger_one_and_frames_are_counted_over_all():
    done: list[int] = []

    def codes(videos: int, frames: int) -> list[list[RLE]]:
        rendered = synthetic_videos(
            level="easy", seed=1, videos=videos, frames=frames, size_hw=(24, 42), on_frame=done.append
        )
        return [
            encode_rle(video.annotation(n).segmentation.masks_nhw()) for video in rendered for n in range(len(video))
        ]

    assert codes(2, 2)[:2] == codes(1, 2)
    assert done == [1, 2, 3, 4, 1, 2]
