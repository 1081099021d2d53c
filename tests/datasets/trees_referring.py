"""Miniature trees of referring data sets, built clause by clause (datasets specification C14 to C16, D)."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from maskstream.formats.palette import davis_palette

SIZE = (18, 26)


def scene(seed, *, frames=3, objects=2):
    """``int[T, H, W]``: rectangles that move, and stop one another; object n has the value n."""
    draw = np.random.default_rng(seed)
    ids = np.zeros((frames, *SIZE), np.int64)
    for number in range(1, objects + 1):
        top, left = int(draw.integers(0, 8)), int(draw.integers(0, 12))
        for index in range(frames):
            ids[index, top : top + 8, left + index : left + index + 9] = number
    return ids


def picture(path, values, *, mode="P"):
    """A PNG: palette, grey, 16 bit, or colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "RGB":
        values = np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)
    image = Image.fromarray(np.asarray(values).astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette(davis_palette().tobytes())
    image.save(path)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def code(mask):
    """A mask as COCO's compressed run lengths."""
    packed = coco_mask.encode(np.asfortranarray(np.asarray(mask).astype(np.uint8)))
    return {"size": list(packed["size"]), "counts": packed["counts"].decode()}


def runs(mask):
    """A mask as uncompressed run lengths."""
    column = np.asarray(mask).T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], column.astype(int), [1 - int(column[-1])]])))
    return {"size": list(np.shape(mask)), "counts": np.diff(edges, prepend=0).tolist()}


DAVIS_VIDEOS = {"classic-car": 2, "goat": 1}
"""Videos of the split, and how many objects they have."""


def davis_ids(video):
    ids = scene(len(video), frames=3, objects=DAVIS_VIDEOS[video])
    ids[:, :2, :2] = 255
    return ids


def ref_davis(root: Path):
    """Ref-DAVIS17 as it is published."""
    for video in DAVIS_VIDEOS:
        masks = root / "DAVIS" / "Annotations_unsupervised" / "480p" / video
        for index, ids in enumerate(davis_ids(video)):
            picture(masks / f"{index:05d}.png", ids)
        # B5: archives have leftovers of macOS.
        write(masks / "._00000.png", "leftover")
    # B6: the last line ends, or not.
    write(root / "DAVIS" / "ImageSets" / "2017" / "val.txt", "\n".join(DAVIS_VIDEOS))
    write(root / "DAVIS" / "ImageSets" / "2017" / "train.txt", "bear\n")
    # "annot1 files UTF-8, annot2 files Latin-1. Name fixes: clasic-car→classic-car, …"
    texts = root / "davis_text_annotations"
    for annotator, stem in enumerate(
        ("Davis17_annot1", "Davis17_annot1_full_video", "Davis17_annot2", "Davis17_annot2_full_video")
    ):
        lines = [
            f'clasic-car 2 "a car says {annotator}"',
            f'clasic-car 1 "un café dit {annotator}"',
            f'goat 1 "a "goat" says {annotator}"',
            f'bear 1 "of another split {annotator}"',
        ]
        texts.mkdir(parents=True, exist_ok=True)
        (texts / f"{stem}.txt").write_bytes("\r\n".join(lines).encode("utf-8" if annotator < 2 else "latin-1"))
    return root


def ref_davis_derived(root: Path):
    """The same with ``meta_expressions.json`` (C15 schema) instead of texts, and frames by name."""
    ref_davis(root)
    videos = {}
    for video, objects in DAVIS_VIDEOS.items():
        expressions = {
            str(4 * (k - 1) + a): {"exp": f"{k} as {a} says", "obj_id": str(k)}
            for k in range(1, objects + 1)
            for a in range(4)
        }
        videos[video] = {"expressions": expressions, "frames": [f"{n:05d}" for n in range(3)]}
    write(root / "meta_expressions" / "valid" / "meta_expressions.json", {"videos": videos})
    return root


YTVOS_STEMS = ("00000", "00005", "00010")


def ref_ytvos(root: Path):
    """Ref-YouTube-VOS: a training set with labels, a validation set without, a test set listed in it."""
    meta = root / "meta_expressions"
    described = {"expressions": {"0": {"exp": "someone"}, "1": {"exp": "someone else"}}, "frames": list(YTVOS_STEMS)}
    write(meta / "valid" / "meta_expressions.json", {"videos": {"v1": described, "t1": described, "v2": described}})
    write(meta / "test" / "meta_expressions.json", {"videos": {"t1": described}})
    train = {
        "expressions": {"0": {"exp": "the first", "obj_id": "1"}, "1": {"exp": "the other", "obj_id": "2"}},
        "frames": list(YTVOS_STEMS),
    }
    write(meta / "train" / "meta_expressions.json", {"videos": {"a1": train, "b2": train}})
    for seed, video in enumerate(("a1", "b2")):
        for stem, ids in zip(YTVOS_STEMS, scene(seed), strict=True):
            picture(root / "train" / "Annotations" / video / f"{stem}.png", ids)
    return root


def mevis_masks():
    """By ``anno_id``, ``bool[T, H, W]``; objects of a video overlap, and are not always there."""
    first, second = scene(3, objects=1) > 0, np.roll(scene(3, objects=1) > 0, 4, axis=2)
    third = scene(4, objects=1) > 0
    second[1] = False
    return {3: first, 11: second, 4: third}


def mevis(root: Path):
    """MeViS: ``obj_id`` and ``anno_id`` lists; run lengths of all kinds, null where an object is not."""
    stems = ["00000", "00001", "00002"]
    one = {
        "expressions": {
            "0": {"exp": "those that move", "obj_id": [0, 1], "anno_id": [3, 11]},
            "1": {"exp": "the last", "obj_id": [1], "anno_id": [11]},
        },
        "frames": stems,
        "vid_id": 0,
    }
    other = {"expressions": {"0": {"exp": "it", "obj_id": [0], "anno_id": [4]}}, "frames": stems, "vid_id": 1}
    write(root / "valid_u" / "meta_expressions.json", {"videos": {"m1": one, "m2": other}})
    forms = {3: code, 11: code, 4: runs}
    masks = {str(n): [forms[n](mask) if mask.any() else None for mask in frames] for n, frames in mevis_masks().items()}
    write(root / "valid_u" / "mask_dict.json", masks)
    hidden = {"expressions": {"0": {"exp": "someone"}}, "frames": stems}
    write(root / "valid" / "meta_expressions.json", {"videos": {"h1": hidden}})
    return root


def python2_pickle(value):
    """As Python 2 wrote plain data: texts are bytes in Latin-1."""
    return _python2(value) + b"."


def _python2(value):
    if isinstance(value, dict):
        return b"}(" + b"".join(_python2(k) + _python2(v) for k, v in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, str):
        return b"U" + bytes([len(value)]) + value.encode("latin-1")
    return b"I%d\n" % value


CAR, DOG, CROWD = 901, 77, 5
IMAGE = "COCO_train2014_000000000042"


def refcoco_masks():
    car, dog, crowd = (np.zeros(SIZE, bool) for _ in range(3))
    car[2:6, 3:9], car[8:10, 3:9] = True, True  # two polygons
    dog[4:12, 5:15] = True  # overlaps the car
    crowd[:, 20:] = True
    return {CAR: car, DOG: dog, CROWD: crowd}


def instances(root: Path):
    """``instances.json`` over COCO train2014."""
    masks = refcoco_masks()
    polygons = {
        CAR: [[3, 2, 9, 2, 9, 6, 3, 6], [3, 8, 9, 8, 9, 10, 3, 10]],
        DOG: [[5, 4, 15, 4, 15, 12, 5, 12]],
        CROWD: runs(masks[CROWD]),
        1: [[0, 0, 3, 0, 3, 3]],
    }
    annotations = [
        {"id": n, "image_id": 7 if n == 1 else 42, "category_id": 1, "segmentation": s, "iscrowd": int(n == CROWD)}
        for n, s in polygons.items()
    ]
    images = [{"id": n, "height": SIZE[0], "width": SIZE[1], "file_name": f"x{n}.jpg"} for n in (7, 42)]
    write(root / "instances.json", {"images": images, "annotations": annotations, "categories": []})


def references():
    """The list in ``refs(unc).p``: an entry an object, sentences numbered over all."""

    def ref(annotation, image, split, *sentences):
        said = [{"sent_id": n, "sent": text, "raw": text, "tokens": text.split()} for n, text in sentences]
        return {"ann_id": annotation, "image_id": image, "split": split, "category_id": 1, "sentences": said}

    return [
        ref(CAR, 42, "val", (10, "red car"), (11, "café on the left")),
        ref(1, 7, "train", (1, "corner")),
        ref(CROWD, 42, "val", (13, "people")),
        ref(DOG, 42, "val", (12, "dog")),
    ]


def refcoco(root: Path):
    """RefCOCO as it is published: "pickles are Python-2 (latin-1)"."""
    instances(root)
    (root / "refs(unc).p").write_bytes(python2_pickle(references()))
    return root


def refcoco_flat(root: Path):
    """ "flattened JSON per split": every entry of ``images`` has sentences of its own."""
    polygon = [[5, 4, 15, 4, 15, 12, 5, 12]]
    size = {"height": SIZE[0], "width": SIZE[1]}
    images = [
        {"id": 0, "file_name": f"train2014/{IMAGE}.jpg", "expressions": ["dog", "the dog"], **size},
        {"id": 1, "file_name": f"{IMAGE}.jpg", "caption": "both", **size},
    ]
    annotations = [
        {"id": 0, "image_id": 0, "segmentation": polygon},
        {"id": 1, "image_id": 1, "segmentation": polygon},
        {"id": 2, "image_id": 1, "segmentation": [[20, 0, 26, 0, 26, 18, 20, 18]]},
    ]
    write(root / "instances_val.json", {"images": images, "annotations": annotations})
    return root
