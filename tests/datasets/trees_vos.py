"""Miniature trees of the benchmarks of video object segmentation, built clause by clause from the specification.

Nothing of maskstream is used: pictures are written with Pillow, files by hand. Clauses are quoted from parts B and C.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 32)
FRAMES = 6
NAMES = ("bee", "ant")
"""In the order of lists, which is not the alphabet's."""

BALL, ROADBLOCK, SKY, ESCALATOR = 74, 47, 28, 5
"""Classes of VIPOSeg: a seen and an unseen thing, seen and unseen stuff."""


def labels(name: str, index: int) -> np.ndarray:
    """Ids of a frame. 1 moves, 2 vanishes on frame 3, 4 comes in on frame 2; the ids have a gap."""
    rng = np.random.default_rng(sorted(NAMES).index(name))
    ids = np.zeros(SIZE, np.uint8)
    top, left = rng.integers(1, 5, 2)
    ids[top : top + 7, left + index : left + index + 8] = 1
    if index != 3:
        ids[14 : 20 + top % 2, 3:12] = 2
    if index >= 2:
        ids[12:22, 18 - index : 27 - index] = 4
    return ids


def truth(name: str, *, first: int = 0, step: int = 1, digits: int = 5) -> dict[str, np.ndarray]:
    """The ids of every frame by stem."""
    return {f"{first + step * n:0{digits}d}": labels(name, n) for n in range(FRAMES)}


def given(frames: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Where objects come in, and only those."""
    seen: set[int] = set()
    found = {}
    for stem, ids in frames.items():
        new = set(np.unique(ids).tolist()) - seen - {0}
        seen |= new
        if new:
            found[stem] = np.where(np.isin(ids, list(new)), ids, 0)
    return found


def png(path: Path, values: np.ndarray, *, mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette([200, 10, 10] * 256)  # "Read indices, never RGB": the colours say nothing
    image.save(path)


def jpegs(folder: Path, stems) -> None:
    """Placeholders: no reader opens them."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        (folder / f"{stem}.jpg").write_bytes(b"\xff")


def litter(folder: Path) -> None:
    """B5: 'Ignore files starting with "." and non-images (several archives contain macOS leftovers …)'."""
    (folder / "._00000.png").write_bytes(b"junk")
    (folder / "Thumbs.db").write_bytes(b"junk")


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def lines(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row} \n" for row in rows))


def masks(folder: Path, frames: Mapping[str, np.ndarray], *, mode: str = "P") -> None:
    for stem, ids in frames.items():
        png(folder / f"{stem}.png", ids, mode=mode)


def davis(base: Path, *, images: bool = True) -> Path:
    """C8: 'DAVIS/JPEGImages/{480p,Full-Resolution}/<seq>/%05d.jpg, Annotations/480p/<seq>/%05d.png …'."""
    root = base / "DAVIS"
    for name in NAMES:
        frames = truth(name)
        masks(root / "Annotations/480p" / name, {s: np.where(i == 4, 255, i) for s, i in frames.items()})
        # 'Annotations_unsupervised/480p/… (2019 re-annotation: salient objects, 255 = void)'
        masks(root / "Annotations_unsupervised/480p" / name, {s: np.where(i == 4, 255, i) for s, i in frames.items()})
        litter(root / "Annotations/480p" / name)
        if images:
            jpegs(root / "JPEGImages/480p" / name, frames)
    # 'test-dev: only frame 0 annotated'
    masks(root / "Annotations/480p/secret", {"00000": labels("ant", 0)})
    jpegs(root / "JPEGImages/480p/secret", truth("ant"))
    # 'Unsupervised test-dev/challenge use other sequences (lists in ImageSets/2019, no annotations)'
    jpegs(root / "JPEGImages/480p/other", truth("ant"))
    lines(root / "ImageSets/2017/val.txt", NAMES)
    lines(root / "ImageSets/2017/test-dev.txt", ["secret"])
    lines(root / "ImageSets/2019/test-dev.txt", ["other"])
    return root


def davis16(base: Path) -> Path:
    """C8: '2016: … one merged object, masks 0/255'; '2016 list files … contain path pairs instead of names'."""
    for name in NAMES:
        masks(base / "Annotations/480p" / name, {s: 255 * (i > 0) for s, i in truth(name).items()}, mode="L")
    pairs = [
        f"/JPEGImages/480p/{name}/{stem}.jpg /Annotations/480p/{name}/{stem}.png"
        for name in NAMES
        for stem in truth(name)
    ]
    lines(base / "ImageSets/480p/val.txt", pairs)
    lines(base / "ImageSets/2016/dev.txt", ["ant"])
    return base


def ytvos(base: Path, *, with_truth: bool = True) -> Path:
    """C9: 'valid/Annotations/<vid>/ = only the PNGs in which some object is given (first appearance)'."""
    videos = {}
    categories = {1: "dog", 2: "cat", 4: "whale"}
    for name in NAMES:
        frames = truth(name, step=5)  # 'annotated every 5th frame'
        masks(base / "valid/Annotations" / name, given(frames))
        jpegs(base / "valid/JPEGImages" / name, frames)
        if with_truth:
            masks(base / "valid_gt_all/Annotations" / name, frames)
        # 'in valid the frames list gives where the object must be predicted (first entry = given frame)'
        starts = {1: 0, 2: 0, 4: 2}
        videos[name] = {
            "objects": {str(o): {"category": categories[o], "frames": list(frames)[n:]} for o, n in starts.items()}
        }
    write_json(base / "valid/meta.json", {"videos": videos})
    train = {"x": {"objects": {"1": {"category": "dog", "frames": []}, "2": {"category": "cat", "frames": []}}}}
    write_json(base / "train/meta.json", {"videos": train})
    return base


def mose(base: Path) -> Path:
    """C10: '{train,valid}/{JPEGImages,Annotations}/<video>/%05d.{jpg,png}, meta_{train,valid}.json'."""
    for name in NAMES:
        masks(base / "valid/Annotations" / name, truth(name))
        jpegs(base / "valid/JPEGImages" / name, truth(name))
    objects = {name: {"length": FRAMES, "objects": ["1", "2", "4"]} for name in NAMES}
    write_json(base / "meta_valid.json", {"videos": objects})
    return base


def lvos(base: Path) -> Path:
    """C11: 'names 00000001, 00000006, … (8 digits, step 5)'; 'objects→frame_range{start,end,frame_nums} (strings)'."""
    videos = {}
    for name in NAMES:
        frames = truth(name, first=1, step=5, digits=8)
        masks(base / "valid/Annotations" / name, frames)
        masks(base / "test/Annotations" / name, given(frames))
        jpegs(base / "test/JPEGImages" / name, frames)
        ranges = {1: ("1", "26"), 2: ("1", "26"), 4: ("11", "26")}
        videos[name] = {"objects": {str(o): {"frame_range": {"start": a, "end": b}} for o, (a, b) in ranges.items()}}
    for split in ("valid", "test"):
        write_json(base / split / f"{split}_meta.json", {"videos": videos})
    lines(base / "unseen_videos.txt", ["ant"])
    return base


def sav(base: Path) -> Path:
    """C12: 'Annotations_6fps/<id>/<obj %03d>/%05d.png (binary, names multiples of 4)', JPEGs at 24 fps."""
    root = base / "sav_val"
    for name in NAMES:
        for o, frames in sav_truth(name).items():
            masks(root / "Annotations_6fps" / name / f"{o - 1:03d}", {s: 255 * m for s, m in frames.items()}, mode="L")
        jpegs(root / "JPEGImages_24fps" / name, [f"{n:05d}" for n in range(4 * FRAMES)])
    lines(root / "sav_val.txt", NAMES)
    return base


def sav_truth(name: str) -> dict[int, dict[str, np.ndarray]]:
    """The masks of objects 1, 2 and 3; the third is a part of the first, and not annotated on the first frame."""
    frames = truth(name, step=4)
    whole = {s: ids == 1 for s, ids in frames.items()}
    part = {s: mask & (np.arange(SIZE[1]) % 2 == 0) for s, mask in list(whole.items())[1:]}
    return {1: whole, 2: {s: ids == 2 for s, ids in frames.items()}, 3: part}


def viposeg(base: Path) -> Path:
    """C17: 'Annotations = reference PNG(s) only (several per video, new objects only); Annotations_gt = all frames'."""
    classes, videos = {}, {}
    for name in NAMES:
        frames = truth(name, step=11, digits=8)
        masks(base / "valid/Annotations_gt" / name, frames)
        masks(base / "valid/Annotations" / name, given(frames))
        # 'obj_class: {vid:{"<obj>":"<class 0..123>"}}'; a number does as well
        classes[name] = {"1": str(BALL), "2": SKY if name == "ant" else ESCALATOR, "4": str(ROADBLOCK)}
        shown = {o: [s for s, ids in frames.items() if (ids == o).any()] for o in (1, 2, 4)}
        videos[name] = {"objects": {str(o): {"frames": stems} for o, stems in shown.items()}}
    write_json(base / "valid/obj_class.json", classes)
    write_json(base / "valid/meta.json", {"videos": videos})
    return base


def folder(base: Path) -> Path:
    """Any folder of masks: 16-bit and sparse, with ids beyond 255."""
    for name in NAMES:
        frames = {s: 100 * ids.astype(np.uint16) for s, ids in truth(name).items()}
        masks(base / "Annotations/480p" / name, dict(list(frames.items())[::2]), mode="I;16")
        jpegs(base / "JPEGImages/480p" / name, frames)
    return base
