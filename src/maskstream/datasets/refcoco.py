"""RefCOCO, RefCOCO+ and RefCOCOg: sentences about objects of COCO images (datasets specification D).

An image is a video of one frame. Its objects are those that a sentence of the split is about, numbered from 1.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from maskstream.formats.indexed_png import an_object
from maskstream.formats.json_files import Json
from maskstream.formats.long_json import Shards, reading
from maskstream.formats.run_lengths import check_codes, frame_of, read_code
from maskstream.types import OBJECT, Expression, FrameAnnotation, FrameRef, InputError, Task, VideoSample

from .dataset import DatasetInfo, LazyVideos
from .places import contents
from .referring import ReferringDataset, text_prompts

PICKLES = ("refs(unc).p", "refs(umd).p", "refs(google).p")
"""The usual one of each data set first: unc for RefCOCO and RefCOCO+, umd for RefCOCOg."""

_DAMAGED = (pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError)
"""All that unpickling raises, depending on where the damage is."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence, and the annotations it is about: those of an entry of ``images``, or one of them."""

    text: str
    entry: str
    annotation: int | None = None


@dataclass(frozen=True, slots=True)
class _Image:
    """An image, and what is said about it, by number."""

    file_name: str
    sentences: dict[str, _Sentence] = field(default_factory=dict)


def read_refcoco(root: Path, split: str) -> ReferringDataset:
    """Open RefCOCO, RefCOCO+ or RefCOCOg, whichever is there.

    Args:
        root: the folder with ``refs(…).p`` and ``instances.json``; or one with ``instances_SPLIT.json``, in which
            every entry of ``images`` has sentences of its own; or such a file itself.
        split: which part.

    Raises:
        InputError: something is missing, is no such file, or has nothing of this split.
    """
    folders = (root, root / "refcoco")
    pickles = [folder / name for folder in folders for name in PICKLES]
    flat = [root] if root.is_file() else [folder / f"instances_{split}.json" for folder in folders]
    found = next((path for path in (*pickles, *flat) if path.is_file()), None)
    if found is None:
        raise InputError(f"{root} has no {PICKLES[0]} and no instances_{split}.json of RefCOCO; {contents(root)}")
    is_pickle = found.suffix == ".p"
    instances = found.with_name("instances.json") if is_pickle else found
    shards = Shards(instances, "annotations", by=("image_id",), what="annotations as COCO has them")
    with reading(instances, "the list of images"):
        entries = {str(one["id"]): one for one in shards.rest["images"]}
        images = _pickled(found, split) if is_pickle else _flat(entries)
    around = [base / inner for base in found.parents[:2] for inner in ("train2014", "images/mscoco/images/train2014")]
    pictures = next((folder for folder in around if folder.is_dir()), around[0])

    def make(name: str) -> VideoSample:
        return _sample(name, images[name], shards, entries, pictures)

    numbers = {name: tuple(image.sentences) for name, image in images.items()}
    return ReferringDataset("refcoco", split, root, OBJECT, LazyVideos(tuple(images), make), numbers)


def _sample(name: str, image: _Image, shards: Shards, entries: Mapping[str, Json], pictures: Path) -> VideoSample:
    @cache
    def objects() -> list[Json]:
        """The annotations that sentences are about, in the order of the sentences."""
        about = [one for sentence in image.sentences.values() for one in _about(sentence, shards)]
        return list({one["id"]: one for one in about}.values())

    @cache
    def expressions() -> dict[str, Expression]:
        with reading(shards.path, name):
            track_of = {one["id"]: track for track, one in enumerate(objects(), 1)}
            return {
                number: Expression(sentence.text, tuple(track_of[one["id"]] for one in _about(sentence, shards)))
                for number, sentence in image.sentences.items()
            }

    def read(index: int) -> FrameAnnotation:
        with reading(shards.path, name):
            entry = entries[str(objects()[0]["image_id"])]
            size_hw = (int(entry["height"]), int(entry["width"]))
            codes = {track: read_code(one["segmentation"], size_hw) for track, one in enumerate(objects(), 1)}
            shown = {track: code for track, code in codes.items() if code is not None}
            check_codes(list(shown.values()))
            return FrameAnnotation(frame_of(index, size_hw, list(map(an_object, shown)), list(shown.values())))

    return VideoSample(
        name,
        (FrameRef(name, pictures / image.file_name),),
        read,
        read_prompts=lambda task: text_prompts(name, expressions(), task),
        read_expressions=expressions,
    )


def _about(sentence: _Sentence, shards: Shards) -> Sequence[Json]:
    """The annotations that a sentence is about.

    Raises:
        InputError: there are none, or an id is there twice.
    """
    about = [one for one in shards[sentence.entry] if sentence.annotation in (None, one["id"])]
    what = f"image {sentence.entry}" if sentence.annotation is None else f"annotation {sentence.annotation}"
    if not about:
        raise InputError(f"there is no annotation of {what}, which {sentence.text!r} is about")
    if len({one["id"] for one in about}) < len(about):
        raise InputError(f"there is an annotation of {what} twice")
    return about


def _pickled(path: Path, split: str) -> dict[str, _Image]:
    """The images of a split, from a list with an entry for every object."""
    images: dict[str, _Image] = {}
    refs = _unpickle(path)
    with reading(path, "the references"):
        for ref in refs:
            if ref["split"] == split:
                name = f"COCO_train2014_{ref['image_id']:012d}"
                image = images.setdefault(name, _Image(f"{name}.jpg"))
                for one in ref["sentences"]:
                    number = str(one["sent_id"])
                    if number in image.sentences:
                        raise InputError(f"sentence {number} is there twice")
                    image.sentences[number] = _Sentence(str(one["sent"]), str(ref["image_id"]), int(ref["ann_id"]))
        if not images:
            known = ", ".join(sorted({str(ref["split"]) for ref in refs})) or "none"
            raise InputError(f"there is none of the split {split}, but of {known}")
    return images


def _flat(entries: Mapping[str, Json]) -> dict[str, _Image]:
    """The images of a file in which every entry of ``images`` has sentences about all of its annotations."""
    images: dict[str, _Image] = {}
    for key, entry in entries.items():
        file_name = Path(str(entry["file_name"])).name
        image = images.setdefault(Path(file_name).stem, _Image(file_name))
        for text in entry["expressions"] if "expressions" in entry else [entry["caption"]]:
            image.sentences[str(len(image.sentences))] = _Sentence(str(text), key)
    return images


class _PlainData(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries, and nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every class and function."""
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which a list of references has no need of")


def _unpickle(path: Path) -> list[Any]:
    try:
        with path.open("rb") as file:
            plain = _PlainData(file, encoding="latin-1").load()  # written by Python 2
    except _DAMAGED as error:
        raise InputError(f"{path} cannot be read as references of RefCOCO: {error}") from error
    if not isinstance(plain, list):
        raise InputError(f"{path} holds no list of references of RefCOCO, but a {type(plain).__name__}")
    return plain


INFOS = (
    DatasetInfo(
        name="refcoco",
        title="RefCOCO, RefCOCO+ or RefCOCOg",
        tasks=(Task.REFVOS,),
        splits=("val", "testA", "testB", "test", "train"),
        home="https://github.com/lichengunc/refer",
        licence="that of COCO: annotations CC BY 4.0, images from Flickr",
        about="Images of COCO train2014: 50k, 50k and 49k objects; 142k, 141k and 95k expressions.",
        layout="""\
refs(unc).p, refs(umd).p or refs(google).p
instances.json
train2014/COCO_train2014_000000000009.jpg
or instances_{val,testA,testB,test,train}.json, with sentences in the entries of images""",
        results="IMAGE/EXPRESSION/IMAGE.png    0 and 255",
        read=read_refcoco,
        notes=(
            "testA and testB belong to RefCOCO and RefCOCO+, test to RefCOCOg.",
            "Keep the images of val and the tests out of joint training on COCO.",
        ),
    ),
)
