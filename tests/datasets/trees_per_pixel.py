"""Miniature trees of the data sets with a label for every pixel, built clause by clause as the specification says.

All show one scene: pictures of codes, of which the builder of each data set makes what it calls them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskstream.datasets import Dataset, DatasetInfo
from maskstream.datasets.ade20k import INFOS as ADE20K_INFOS
from maskstream.datasets.camvid import INFOS as CAMVID_INFOS
from maskstream.datasets.cityscapes import INFOS as CITYSCAPES_INFOS
from maskstream.datasets.kitti_step import INFOS as KITTI_INFOS
from maskstream.datasets.mapillary import INFOS as MAPILLARY_INFOS
from maskstream.datasets.vipseg import INFOS as VIPSEG_INFOS
from maskstream.datasets.vspw import INFOS as VSPW_INFOS
from maskstream.types import Task

Codes = NDArray[np.int64]

VOID, SKY, ROAD, PERSON_1, PERSON_2, CAR, CAR_GROUP = range(7)
SIZE = (12, 20)
INFOS: dict[str, DatasetInfo] = {
    info.name: info
    for infos in (
        VIPSEG_INFOS,
        VSPW_INFOS,
        KITTI_INFOS,
        CITYSCAPES_INFOS,
        CAMVID_INFOS,
        ADE20K_INFOS,
        MAPILLARY_INFOS,
    )
    for info in infos
}


@dataclass(frozen=True)
class Region:
    """What a data set makes of a code: ``Segment.id``, the id of its category, and whether it is crowd."""

    id: int
    category: int
    crowd: bool = False


@dataclass(frozen=True)
class Tree:
    """A data set that was built, and what must be read from it.

    Attributes:
        name: of the data set.
        root: where it is.
        regions: by code; codes that are missing are void.
        videos: codes of the frames that are labelled, by video and name of the frame.
        nothing: codes that are neither a region nor void.
        split: which one was built.
    """

    name: str
    root: Path
    regions: Mapping[int, Region]
    videos: Mapping[str, Mapping[str, Codes]]
    nothing: frozenset[int] = frozenset()
    split: str = "val"
    paths: dict[str, Path] = field(default_factory=dict)

    def open(self, split: str | None = None) -> Dataset:
        return INFOS[self.name].open(self.root, split or self.split)


def scene(frames: int, *, seed: int, group: bool = True) -> list[Codes]:
    """Sky over road, void at the left; a person who walks, one who comes later, a car that leaves, and a group."""
    rng = np.random.default_rng(seed)
    top, speed = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    pictures = []
    for t in range(frames):
        codes = np.full(SIZE, SKY, np.int64)
        codes[6:] = ROAD
        codes[:, :2] = VOID
        codes[top : top + 6, 3 + speed * t % 12 : 6 + speed * t % 12] = PERSON_1
        if t >= 1:
            codes[2:7, 15:18] = PERSON_2
        if t < 3:
            codes[7:11, 8:14] = CAR
        if group:
            codes[9:, 16:] = CAR_GROUP
        pictures.append(codes)
    return pictures


def two_videos(names: tuple[str, str], stems: Sequence[str], **options: Any) -> dict[str, dict[str, Codes]]:
    return {
        name: dict(zip(stems, scene(len(stems), seed=seed, **options), strict=True)) for seed, name in enumerate(names)
    }


def as_values(codes: Codes, value_of: Mapping[int, int]) -> NDArray[np.int64]:
    values: NDArray[np.int64] = np.vectorize(value_of.__getitem__, otypes=[np.int64])(codes)
    return values


def save(path: Path, values: NDArray[np.int64], *, mode: str = "L") -> None:
    """Mode L, P, I;16, or RGB with red lowest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "RGB":
        image = Image.fromarray(np.stack([values & 255, values >> 8 & 255, values >> 16], axis=-1).astype(np.uint8))
    else:
        image = Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.uint8))
        if mode == "P":
            image.putpalette([n for n in range(256) for _ in range(3)])
    image.save(path)


def touch(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def dump(path: Path, plain: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain))


# VIPSeg (C2).

VIPSEG_STEMS = [f"{n:08d}" for n in (3, 9, 21, 27, 33, 39, 51, 57)]


def vipseg_raw(root: Path) -> Tree:
    # "frame numbers may start anywhere and have gaps" (B4)
    videos = two_videos(("0_aaa", "12_bbb"), VIPSEG_STEMS, group=False)
    # "0 void; stuff = class id 1..124; thing = class id·100 + instance (instance from 0)"; needs 14 bits
    raw = {VOID: 0, SKY: 29, ROAD: 19, PERSON_1: 6100, PERSON_2: 6101, CAR: 4900}
    for name, frames in videos.items():
        for stem, codes in frames.items():
            save(root / "panomasks" / name / f"{stem}.png", as_values(codes, raw), mode="I;16")
    # "keep a trailing newline when writing", others do not (B6)
    (root / "val.txt").write_text("0_aaa\n 12_bbb ")
    (root / "test.txt").write_text("99_hidden\n")
    touch(root / "imgs" / "99_hidden" / "00000000.jpg", b"jpeg")
    # "Ignore files starting with '.'" (B5)
    touch(root / "panomasks" / "0_aaa" / "._00000003.png")
    regions = {code: Region(value, (value if value < 125 else value // 100) - 1) for code, value in raw.items() if code}
    return Tree("vipseg", root, regions, videos)


def vipseg_720p(root: Path) -> Tree:
    videos = two_videos(("0_aaa", "12_bbb"), VIPSEG_STEMS)
    ids = {VOID: 0, SKY: 7, ROAD: 300, PERSON_1: 70000, PERSON_2: 70001, CAR: 16777215, CAR_GROUP: 9}
    classes = {SKY: 28, ROAD: 18, PERSON_1: 60, PERSON_2: 60, CAR: 48, CAR_GROUP: 48}
    home = root / "VIPSeg_720P"
    plain: dict[str, Any] = {"videos": [], "annotations": []}
    for name, frames in videos.items():
        images, rows = [], []
        for stem, codes in frames.items():
            save(home / "panomasksRGB" / name / f"{stem}.png", as_values(codes, ids), mode="RGB")
            # "file_name in images may end in .png in the ground-truth json; pair by stem"
            images.append({"id": stem, "file_name": f"{stem}.png", "height": SIZE[0], "width": SIZE[1]})
            rows.append({"image_id": stem, "file_name": f"{stem}.png", "segments_info": listed(codes, ids, classes)})
        plain["videos"].append({"video_id": name, "images": images})
        plain["annotations"].append({"video_id": name, "annotations": rows})
    names = {28: "sky", 18: "road", 60: "person", 48: "car"}
    plain["categories"] = [
        {"id": n, "name": names.get(n, f"class {n}"), "isthing": int(n in (60, 48)), "color": [n, 0, 0]}
        for n in range(124)
    ]
    dump(home / "panoptic_gt_VIPSeg_val.json", plain)
    regions = {code: Region(ids[code], classes[code], code == CAR_GROUP) for code in classes}
    return Tree("vipseg", root, regions, videos, paths={"json": home / "panoptic_gt_VIPSeg_val.json"})


def listed(codes: Codes, ids: Mapping[int, int], classes: Mapping[int, int]) -> list[dict[str, Any]]:
    """``segments_info``, in no particular order."""
    return [
        {
            "id": ids[code],
            "category_id": classes[code],
            "iscrowd": int(code == CAR_GROUP),
            "area": int((codes == code).sum()),
        }
        for code in (ROAD, CAR, SKY, PERSON_2, PERSON_1, CAR_GROUP)
        if (codes == code).any()
    ]


# KITTI-STEP (C3).


def kitti_step(root: Path) -> Tree:
    videos = two_videos(("0002", "0006"), [f"{n:06d}" for n in range(5)])
    # "R = class (0..18 Cityscapes train ids, 255 void), G = instance // 256, B = instance % 256. Instance 0 on 11/13 =
    # crowd."
    parts = {VOID: (255, 0), SKY: (10, 0), ROAD: (0, 0), PERSON_1: (11, 1), PERSON_2: (11, 700), CAR: (13, 256)}
    parts[CAR_GROUP] = (13, 0)
    values = {code: c + (i // 256 << 8) + (i % 256 << 16) for code, (c, i) in parts.items()}
    for name, frames in videos.items():
        for stem, codes in frames.items():
            save(root / "panoptic_maps" / "val" / name / f"{stem}.png", as_values(codes, values), mode="RGB")
    touch(root / "images" / "test" / "0000" / "000000.png", b"png")
    regions = {code: Region((c + 1 << 16) + i, c, code == CAR_GROUP) for code, (c, i) in parts.items() if code != VOID}
    return Tree("kitti-step", root, regions, videos)


# VSPW (C1).


def vspw(root: Path) -> Tree:
    videos = two_videos(("1001_aaa", "988_f_Xvy_DCPt8"), [f"{n:08d}" for n in range(3, 39, 2)])
    # "8-bit; 0 = others (ignored), 1..124 classes, 255 void"
    values = {VOID: 255, SKY: 29, ROAD: 19, PERSON_1: 61, PERSON_2: 61, CAR: 49, CAR_GROUP: 0}
    home = root / "VSPW_480p"
    for name, frames in videos.items():
        for stem, codes in frames.items():
            save(home / "data" / name / "mask" / f"{stem}.png", as_values(codes, values))
            # "zero-byte images in some archives"
            touch(home / "data" / name / "origin" / f"{stem}.jpg", b"" if "988" in name else b"jpeg")
            save(home / "data" / name / "mask_42label" / f"{stem}.png", 0 * codes)
        # 'hidden "._" files'
        touch(home / "data" / name / "mask" / "._00000003.png", b"")
    (home / "val.txt").write_text("".join(f"{name}\n" for name in videos))
    (home / "test.txt").write_text("5_hidden\n")
    touch(home / "data" / "5_hidden" / "origin" / "00000000.jpg", b"jpeg")
    regions = {code: Region(value, value) for code, value in values.items() if value not in (0, 255)}
    return Tree("vspw", root, regions, videos, nothing=frozenset({CAR_GROUP}))


# Cityscapes and Cityscapes-VPS (C4).

_LABEL_IDS = {SKY: 23, ROAD: 7, PERSON_1: 24, PERSON_2: 24, CAR: 26, CAR_GROUP: 26}


def cityscapes(root: Path, *, snippets: bool = True) -> Tree:
    names = ["aachen_000000_000019", "frankfurt_000000_000294"]
    videos = {name: {name: scene(2, seed=n)[1]} for n, name in enumerate(names)}
    # "instanceIds ≥ 1000: class = v//1000, instance = v%1000; < 1000: stuff or group (crowd)"; 3 is out of roi
    instances = {VOID: 3, SKY: 23, ROAD: 7, PERSON_1: 24000, PERSON_2: 24001, CAR: 26000, CAR_GROUP: 26}
    for name, frames in videos.items():
        city = name.split("_")[0]
        base = root / "gtFine" / "val" / city
        for codes in frames.values():
            save(base / f"{name}_gtFine_instanceIds.png", as_values(codes, instances), mode="I;16")
            save(base / f"{name}_gtFine_labelIds.png", as_values(codes, _LABEL_IDS | {VOID: 3}))
            save(base / f"{name}_gtFine_color.png", 0 * codes, mode="RGB")
        touch(root / "leftImg8bit" / "val" / city / f"{name}_leftImg8bit.png", b"png")
        if snippets:
            (root / "leftImg8bit_sequence" / "val" / city).mkdir(parents=True)
    touch(root / "leftImg8bit" / "test" / "berlin" / "berlin_000000_000019_leftImg8bit.png", b"png")
    regions = {code: Region(instances[code], _LABEL_IDS[code], code == CAR_GROUP) for code in _LABEL_IDS}
    return Tree("cityscapes", root, regions, videos)


def cityscapes_vps(root: Path, *, all_frames: bool = True) -> Tree:
    ids = {VOID: 0, SKY: 7, ROAD: 300, PERSON_1: 70000, PERSON_2: 70001, CAR: 16777215, CAR_GROUP: 9}
    classes = {SKY: 10, ROAD: 0, PERSON_1: 11, PERSON_2: 11, CAR: 13, CAR_GROUP: 13}
    home = root / "cityscapes_vps"
    plain: dict[str, Any] = {"images": [], "annotations": []}
    videos: dict[str, dict[str, Codes]] = {}
    for v, (video, first) in enumerate((("0005", 1736), ("0010", 3000))):
        videos[video] = {}
        for n, codes in enumerate(scene(6, seed=v)):
            # "<video %04d>_<frame %04d>_<city>_<seq>_<frame>_newImg8bit.png (the original annotated one ends in
            # _leftImg8bit.png)"; ground truth "_final_mask.png resp. _gtFine_color.png"
            stem = f"{video}_{6 * v + n:04d}_frankfurt_000000_{first + 5 * n:06d}"
            image, mask = ("leftImg8bit", "gtFine_color") if n == 3 else ("newImg8bit", "final_mask")
            save(home / "val" / "panoptic_video" / f"{stem}_{mask}.png", as_values(codes, ids), mode="RGB")
            plain["images"].append({"id": stem, "file_name": f"{stem}_{image}.png", "width": 20, "height": 12})
            segments = listed(codes, ids, classes)
            plain["annotations"].append(
                {"image_id": stem, "file_name": f"{stem}_{mask}.png", "segments_info": segments}
            )
            videos[video][stem] = codes
        if all_frames:
            # "500 videos of 30 frames … 6 annotated frames each (5th, 10th, …, 30th)"
            for n in range(30):
                name = f"{video}_{30 * v + n:04d}_frankfurt_000000_{first - 4 + n:06d}_newImg8bit.png"
                touch(home / "val" / "img_all" / name, b"png")
    plain["categories"] = [{"id": n, "trainId": n, "name": f"city {n}", "isthing": int(n >= 11)} for n in range(19)]
    # 'a misspelt "panpotic" variant exists'
    dump(home / "panpotic_gt_val_city_vps.json", plain)
    dump(home / "panoptic_im_test_city_vps.json", {"images": plain["images"], "categories": plain["categories"]})
    regions = {code: Region(ids[code], classes[code], code == CAR_GROUP) for code in classes}
    path = home / "panpotic_gt_val_city_vps.json"
    return Tree("cityscapes-vps", root, regions, videos, paths={"json": path, "masks": home / "val" / "panoptic_video"})


# CamVid, ADE20K, Mapillary (D).


def camvid(root: Path) -> Tree:
    home = root / "CamVid"
    # "Numbers have a different digit count per drive"; "sort by number"
    videos = {
        "0016E5": dict(zip(("0016E5_07959", "0016E5_07961"), scene(2, seed=0), strict=True)),
        "Seq05VD": dict(zip(("Seq05VD_f990", "Seq05VD_f02010"), scene(2, seed=1), strict=True)),
    }
    # "11 classes + 11 = void: 0 Sky … 3 Road … 8 Car, 9 Pedestrian"
    values = {VOID: 11, SKY: 0, ROAD: 3, PERSON_1: 9, PERSON_2: 9, CAR: 8, CAR_GROUP: 8}
    lines = []
    for frames in videos.values():
        for stem, codes in frames.items():
            save(home / "valannot" / f"{stem}.png", as_values(codes, values))
            # "two absolute paths per line (prefix /SegNet/CamVid must be re-rooted …)"
            lines.append(f"/SegNet/CamVid/val/{stem}.png /SegNet/CamVid/valannot/{stem}.png")
    (home / "val.txt").write_text("\n".join(reversed(lines)))
    regions = {code: Region(value + 1, value) for code, value in values.items() if value != 11}
    return Tree("camvid", root, regions, videos)


def ade20k(root: Path, *, instances: bool = True) -> Tree:
    home = root / "ADEChallengeData2016"
    videos = {f"ADE_val_0000000{n}": {f"ADE_val_0000000{n}": scene(2, seed=n)[1]} for n in (1, 2)}
    # "mask 0 = void, class = v−1": 3 sky, 7 road, 13 person, 21 car
    values = {VOID: 0, SKY: 3, ROAD: 7, PERSON_1: 13, PERSON_2: 13, CAR: 21, CAR_GROUP: 21}
    # "annotations_instance PNG: R=class, G=instance"; person is the 4th thing, car the 9th
    things = {VOID: 0, SKY: 0, ROAD: 0, PERSON_1: 4 + 256, PERSON_2: 4 + 512, CAR: 9 + 768, CAR_GROUP: 0}
    for name, frames in videos.items():
        for codes in frames.values():
            save(home / "annotations" / "validation" / f"{name}.png", as_values(codes, values))
            if instances:
                folder = home / "annotations_instance" / "validation"
                save(folder / f"{name}.png", as_values(codes, things), mode="RGB")
    regions = {code: Region(value, value) for code, value in values.items() if value}
    if instances:
        numbers = {PERSON_1: 256 * 13 + 1, PERSON_2: 256 * 13 + 2, CAR: 256 * 21 + 3}
        regions |= {code: Region(number, values[code]) for code, number in numbers.items()}
        del regions[CAR_GROUP]  # things that are no instance are void
    return Tree("ade20k", root, regions, videos, split="validation")


def mapillary(root: Path, *, version: str = "1.2") -> Tree:
    videos = {name: {name: scene(2, seed=n)[1]} for n, name in enumerate(("-Aa_1", "_b2"))}
    names = ["construction--flat--road", "nature--sky", "human--person", "object--vehicle--car", "void--unlabeled"]
    labels = [
        {"name": n, "readable": n.split("--")[-1], "instances": n.startswith(("human", "object")), "color": [1, 2, 3]}
        | {"evaluate": not n.startswith("void")}
        for n in names
    ]
    dump(root / f"config_v{version}.json", {"labels": labels})
    # "instances PNG 16 bit: label=v//256, id=v%256"
    values = {VOID: 4 * 256, SKY: 256, ROAD: 0, PERSON_1: 512, PERSON_2: 513, CAR: 768, CAR_GROUP: 769}
    for name, frames in videos.items():
        for codes in frames.values():
            folder = root / "validation" / (f"v{version}" if version == "2.0" else "") / "instances"
            save(folder / f"{name}.png", as_values(codes, values), mode="I;16")
    touch(root / "testing" / "images" / "x.jpg", b"jpeg")
    regions = {code: Region(value + 1, value // 256 + 1) for code, value in values.items() if code != VOID}
    name = "mapillary" if version == "1.2" else "mapillary-2.0"
    return Tree(name, root, regions, videos, split="validation")


TREES: dict[str, Callable[[Path], Tree]] = {
    "vipseg-raw": vipseg_raw,
    "vipseg-720p": vipseg_720p,
    "kitti-step": kitti_step,
    "vspw": vspw,
    "cityscapes": cityscapes,
    "cityscapes-stills": lambda root: cityscapes(root, snippets=False),
    "cityscapes-vps": cityscapes_vps,
    "cityscapes-vps-labelled-frames": lambda root: cityscapes_vps(root, all_frames=False),
    "camvid": camvid,
    "ade20k": ade20k,
    "ade20k-semantic": lambda root: ade20k(root, instances=False),
    "mapillary": mapillary,
    "mapillary-2.0": lambda root: mapillary(root, version="2.0"),
}

SCORED: list[tuple[str, Task]] = [
    *((name, Task.VPS) for name in TREES if name.startswith(("vipseg", "kitti", "cityscapes", "mapillary"))),
    *((name, Task.VSS) for name in TREES if name.startswith(("vspw", "camvid", "ade20k", "mapillary"))),
    *((name, Task.VSS) for name in ("cityscapes", "cityscapes-stills")),
    ("ade20k", Task.VPS),
]
"""Trees and the tasks for which they can be scored."""
