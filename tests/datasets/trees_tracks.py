"""Miniature trees of the benchmarks whose truth is JSON or text, built clause by clause from the specification.

Nothing of maskstream is used: run lengths are pycocotools', files are written by hand. Clauses are quoted from C and D.
"""

import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

Mask = NDArray[np.bool_]
Plain = dict[str, Any]

SIZE = (20, 36)
FRAMES = 6
NAMES = ("0b97736357", "003234408d")
"""In the order of the file, which is not the alphabet's."""
PERSON, DOG = 26, 9
"""In the list of 2021."""

_2019 = """
person giant_panda lizard parrot skateboard sedan ape dog snake monkey hand rabbit duck cat cow fish train horse turtle
bear motorbike giraffe leopard fox deer owl surfboard airplane truck zebra tiger elephant snowboard boat shark mouse
frog eagle earless_seal tennis_racket
"""
_2021 = """
airplane bear bird boat car cat cow deer dog duck earless_seal elephant fish flying_disc fox frog giant_panda giraffe
horse leopard lizard monkey motorbike mouse parrot person rabbit shark skateboard snake snowboard squirrel surfboard
tennis_racket tiger train truck turtle whale zebra
"""
_OVIS = """
Person Bird Cat Dog Horse Sheep Cow Elephant Bear Zebra Giraffe Poultry Giant_panda Lizard Parrot Monkey Rabbit Tiger
Fish Turtle Bicycle Motorcycle Airplane Boat Vehical
"""
YTVIS_2019, YTVIS_2021, OVIS = _2019.split(), _2021.split(), _OVIS.split()
COCO_VAL = "annotations/instances_val2017.json"


def masks(name: str) -> dict[int, list[Mask | None]]:
    """Masks of a video by object: 1 moves over 2, which vanishes on frame 3; 5 comes in on frame 2, a crowd."""
    rng = np.random.default_rng(NAMES.index(name))
    top, left = rng.integers(1, 4, 2)
    found: dict[int, list[Mask | None]] = {1: [], 2: [], 5: []}
    for index in range(FRAMES):
        found[1].append(_box(top, left + index, 8, 9))
        found[2].append(None if index == 3 else _box(6, 5, 7, 10))
        found[5].append(None if index < 2 else _box(14, 20 - index, 5, 11))
    return found


def disjoint(name: str) -> dict[int, list[Mask | None]]:
    """`masks`, of which the later one is on top."""
    found = masks(name)
    for index in range(FRAMES):
        above = np.zeros(SIZE, bool)
        for of in reversed(found.values()):
            mask = of[index]
            if mask is not None:
                of[index], above = mask & ~above, above | mask
    return found


def category(track: int) -> int:
    return DOG if track == 2 else PERSON


def _box(top: int, left: int, height: int, width: int) -> Mask:
    mask = np.zeros(SIZE, bool)
    mask[top : top + height, left : left + width] = True
    mask[top, left] = False  # not only boxes
    return mask


def compressed(mask: Mask) -> Plain:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": code["counts"].decode("ascii")}


def uncompressed(mask: Mask) -> Plain:
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()}


def decoded(code: Plain) -> Mask:
    mask: Mask = coco_mask.decode(code).astype(bool)
    return mask


def box_polygon(top: int, left: int, height: int, width: int) -> list[float]:
    return [left, top, left + width, top, left + width, top + height, left, top + height]


def write_json(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def change_json(path: Path, change) -> Path:
    """Let ``change`` do something to what a file says."""
    value = json.loads(path.read_text())
    change(value)
    return write_json(path, value)


def png(path: Path, values: NDArray[np.integer]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16)).save(path)


# C5 to C7


def listed(names: list[str]) -> list[Plain]:
    """C5: 'categories{id,name}'; 'Class ids 1..40'."""
    return [{"id": number, "name": name, "supercategory": "object"} for number, name in enumerate(names, 1)]


def instances(names: list[str] = YTVIS_2021) -> Plain:
    """C5: 'videos{id,width,height,length,file_names[]}, annotations{id,video_id,category_id,segmentations[len],…}'."""
    videos: list[Plain] = []
    annotations: list[Plain] = []
    for number, name in enumerate(NAMES, 7):
        files = [f"{name}/{5 * n:05d}.jpg" for n in range(FRAMES)]  # 'Annotated every 5th frame'
        videos.append({"id": number, "width": SIZE[1], "height": SIZE[0], "length": FRAMES, "file_names": files})
        for track, found in masks(name).items():
            # 'Segmentation per frame: RLE (compressed or uncompressed) or polygon or null'
            encode = uncompressed if track == 5 else compressed
            annotations.append(
                {
                    "id": 10 * number + track,
                    "video_id": number,
                    "category_id": category(track),
                    "iscrowd": int(track == 5),
                    "areas": [None if mask is None else int(mask.sum()) for mask in found],
                    "bboxes": [None if mask is None else [0, 0, 1, 1] for mask in found],
                    "segmentations": [None if mask is None else encode(mask) for mask in found],
                }
            )
    # The annotations of the two videos take turns, as nothing says that they do not.
    annotations.sort(key=lambda one: one["id"] % 10)
    return {"info": {}, "videos": videos, "annotations": annotations, "categories": listed(names)}


def ytvis_2019(base: Path) -> Path:
    """C5: 'train/JPEGImages/<vid>/<%05d>.jpg, train.json (2021: train/instances.json), valid.json, test.json'."""
    write_json(base / "valid.json", instances(YTVIS_2019))
    plain = instances(YTVIS_2019)
    del plain["annotations"]  # 'test.json (no annotations field)'
    write_json(base / "test.json", plain)
    return base


def ytvis_2021(base: Path) -> Path:
    """C5: '2021: train/instances.json'."""
    write_json(base / "valid/instances.json", instances())
    write_json(base / "train/instances.json", instances())
    write_json(base / "test/instances.json", instances() | {"annotations": None})
    (base / "valid/JPEGImages").mkdir()
    return base


def ovis(base: Path) -> Path:
    """C6: 'annotations_{train,valid,test}.json, {train,valid,test}/<video>/img_%07d.jpg'."""
    plain = instances(OVIS)
    for video, name in zip(plain["videos"], NAMES, strict=True):
        video["file_names"] = [f"{name}/img_{n + 1:07d}.jpg" for n in range(FRAMES)]
    for one in plain["annotations"]:
        one["category_id"] = 1 if one["category_id"] == PERSON else 4
    (base / "valid" / NAMES[0]).mkdir(parents=True)
    write_json(base / "annotations_valid.json", plain)
    return base


def uvo(base: Path) -> Path:
    """C7: 'VideoDenseSet/UVO_video_val_dense.json (single class "object", id 1)'; 'ytid, start_idx'."""
    plain = instances(["object"])
    for video in plain["videos"]:
        # Two clips of one video: 'first frame in the clip'.
        start = 0 if video["id"] == 7 else 90
        video.update(ytid="-0WTQWwJuzQ", start_idx=start, file_names=[f"-0WTQWwJuzQ/{n}.png" for n in range(FRAMES)])
        if start:
            del video["file_names"]  # 'frames extracted to uvo_videos_dense_frames/<ytid>/<n>.png'
    for one in plain["annotations"]:
        one["category_id"] = 1
    write_json(base / "VideoDenseSet/UVO_video_val_dense.json", plain)
    (base / "uvo_videos_dense_frames").mkdir()
    return base


# C13

BABY, ACORN = 805, 1
BURST_NAMES = {"YFCC100M/v_25685": NAMES[0], "ArgoVerse/side_camera": NAMES[1]}


def burst_file(index: int) -> str:
    return f"frame{1 + 3 * index:04d}.jpg"


def burst_sequences(*, first: bool = False) -> list[Plain]:
    """C13: 'JSON: split, categories, sequences[{id,seq_name,dataset,width,height,fps,all_image_paths,…}]'."""
    sequences = []
    for number, (full, name) in enumerate(BURST_NAMES.items(), 1):
        collection, _, sequence = full.partition("/")
        found = disjoint(name)  # 'masks must not overlap for open-world'
        annotated = range(0, FRAMES, 2)  # every other frame of those that are listed
        segmentations: list[Plain] = []
        seen: set[int] = set()
        for index in annotated:
            here = {track: mask for track, of in found.items() if (mask := of[index]) is not None}
            entries = {}
            for track, mask in here.items():
                if first and track in seen:
                    continue
                # 'rle is only the COCO counts string; size from the sequence'
                entries[str(track)] = {"rle": compressed(mask)["counts"], "is_gt": True, "score": 1.0}
                if first:
                    y, x = (int(values[3]) for values in np.nonzero(mask))
                    # 'documentation shows the point as a list; the data is an x/y dictionary — accept both'
                    entries[str(track)]["point"] = {"x": x, "y": y} if track == 1 else [x, y]
                    entries[str(track)]["bbox"] = [x, y, 2, 2]
            seen |= here.keys()
            segmentations.append(entries)
        sequences.append(
            {
                "id": number,
                "seq_name": sequence,
                "dataset": collection,
                "width": SIZE[1],
                "height": SIZE[0],
                "fps": 30,
                "all_image_paths": [burst_file(index) for index in range(FRAMES)],
                "annotated_image_paths": [burst_file(index) for index in annotated],
                "neg_category_ids": [50],
                "not_exhaustive_category_ids": [7] if number == 1 else [],
                # 'Track keys are strings'
                "track_category_ids": {"1": BABY, "2": ACORN, "5": BABY},
                "segmentations": segmentations,
            }
        )
    return sequences


def burst(base: Path) -> Path:
    """C13: '{val,test}/{all_classes,…,first_frame_annotations}.json, info/{categories,class_split}.json'."""
    categories = [{"id": n, "name": name} for n, name in ((ACORN, "acorn"), (7, "alligator"), (BABY, "baby"))]
    head = {"split": "val", "categories": categories}
    write_json(base / "annotations/val/all_classes.json", head | {"sequences": burst_sequences()})
    write_json(base / "annotations/val/first_frame_annotations.json", head | {"sequences": burst_sequences(first=True)})
    write_json(base / "annotations/info/categories.json", categories)
    write_json(base / "annotations/info/class_split.json", {"common": [BABY], "uncommon": [ACORN, 7], "all": []})
    return base


# C3, KITTI-MOTS

KITTI_NAMES = {"0002": NAMES[0], "0006": NAMES[1]}


def kitti_values(name: str, index: int) -> NDArray[np.int64]:
    """'id = class·1000+instance, class 1 car 2 pedestrian 10 ignore; no overlaps'."""
    values = np.zeros(SIZE, np.int64)
    for track, of in masks(name).items():
        mask = of[index]
        if mask is not None:
            values[mask] = {1: 1001, 2: 2001, 5: 10000}[track]
    return values


def kitti_lines(values: NDArray[np.int64], index: int) -> list[str]:
    """'line = frame id class height width rle'."""
    return [
        f"{index} {value} {value // 1000} {SIZE[0]} {SIZE[1]} {compressed(values == value)['counts']}"
        for value in np.unique(values).tolist()
        if value
    ]


def kitti_mots(base: Path, *, pictures: bool = False) -> Path:
    """C3: 'instances_txt/<seq>.txt'; pictures are 16 bit."""
    for folder, name in KITTI_NAMES.items():
        frames = [kitti_values(name, index) for index in range(FRAMES)]
        if pictures:
            for index, values in enumerate(frames):
                png(base / f"instances/{folder}/{index:06d}.png", values)
        else:
            (base / "instances_txt").mkdir(parents=True, exist_ok=True)
            lines = [line for index, values in enumerate(frames) for line in kitti_lines(values, index)]
            (base / f"instances_txt/{folder}.txt").write_text("\n".join(lines) + "\n")
    rows = [f"{folder} empty 000000 {FRAMES:06d}\n" for folder in KITTI_NAMES]
    (base / "evaluate_mots.seqmap.val").write_text("".join(rows))
    return base


# D


def coco(base: Path) -> Path:
    """D: 'annotations/instances_val2017.json, val2017/%012d.jpg'; 'ids 1..90 with gaps'; 'crowd = uncompressed RLE'."""
    video = masks(NAMES[0])
    images, annotations = [], []
    for index, number in enumerate((139, 285)):
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "width": SIZE[1], "height": SIZE[0]})
        for track, of in video.items():
            mask = of[index + 2]
            assert mask is not None or track == 2
            if mask is not None:
                shape = [box_polygon(6, 5, 7, 10), box_polygon(1, 28, 4, 5)] if track == 2 else compressed(mask)
                annotations.append(
                    {
                        "id": 100 * number + track,
                        "image_id": number,
                        "category_id": 90 if track == 2 else 1,
                        "iscrowd": int(track == 5),
                        "area": 1.5,
                        "bbox": [0, 0, 1, 1],
                        "segmentation": uncompressed(mask) if track == 5 else shape,
                    }
                )
    categories = [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
    plain = {"images": images, "annotations": annotations, "categories": categories}
    write_json(base / COCO_VAL, plain)
    (base / "val2017").mkdir()
    return base


def lvis(base: Path) -> Path:
    """D: 'lvis_v1_{train,val}.json on COCO images (coco_url tells the folder; val contains train2017 images)'."""
    source = coco(base)
    plain = json.loads((source / COCO_VAL).read_text())
    for image in plain["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/train2017/{image.pop('file_name')}"
        image["neg_category_ids"], image["not_exhaustive_category_ids"] = [3], []
    write_json(base / "lvis_v1_val.json", plain)
    (base / "train2017").mkdir()
    return base


def sa1b(base: Path, *, packed: bool = False) -> Path:
    """D: 'sa_%06d.tar → sa_<id>.jpg + .json: image{…}, annotations[{segmentation RLE, …, predicted_iou, …}]'."""
    for number in (9, 10):
        base.mkdir(parents=True, exist_ok=True)
        found = [of[number - 6] for of in masks(NAMES[0]).values()]
        annotations = [
            {"id": 500 + n, "segmentation": compressed(mask), "predicted_iou": 0.9 + n / 100, "area": int(mask.sum())}
            for n, mask in enumerate(found)
            if mask is not None
        ]
        image = {"image_id": number, "width": SIZE[1], "height": SIZE[0], "file_name": f"sa_{number}.jpg"}
        write_json(base / f"sa_{number}.json", {"image": image, "annotations": annotations})
        Image.fromarray(np.full((*SIZE, 3), 10 * number, np.uint8)).save(base / f"sa_{number}.jpg")
    if packed:
        with tarfile.open(base / "sa_000000.tar", "w") as archive:
            for path in sorted(base.glob("sa_*.j*")):
                member = tarfile.TarInfo(f"./{path.name}")
                member.size = path.stat().st_size
                archive.addfile(member, BytesIO(path.read_bytes()))
                path.unlink()
    return base
