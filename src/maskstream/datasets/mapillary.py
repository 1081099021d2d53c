"""Mapillary Vistas 1.2 and 2.0 (Neuhold et al., ICCV 2017; datasets specification D)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from maskstream.formats.id_picture import IdPicture
from maskstream.formats.json_files import read_json, well_formed
from maskstream.formats.png import read_label_png
from maskstream.types import Category, CategorySet, FrameAnnotation, FrameRef, InputError, Segment, Task, VideoSample

from .dataset import Dataset, DatasetInfo, LazyVideos
from .places import find, pictures

_INSTANCES = 256


@dataclass(frozen=True, slots=True, eq=False)
class Mapillary(Dataset):
    """Pictures with instances.

    Attributes:
        category_of: category by label, the value in the files; None for labels that are not evaluated.
    """

    category_of: Mapping[int, int | None] = field(repr=False)


def read_mapillary(root: Path, split: str, *, version: str) -> Dataset:
    """Open a split of a version.

    Raises:
        InputError: its folder or the file that names the labels is missing.
    """
    configs = (f"config_v{version}.json", *(["config.json"] if version == "1.2" else []))
    what = f"the labels of Mapillary Vistas {version}"
    listing = find(root, *(f"{p}{name}" for p in ("", "mapillary_vistas/") for name in configs), what=what)
    home, hidden = listing.parent, split == "testing"
    categories, category_of = _labels(listing)
    images = find(home, f"{split}/images", what="pictures") if hidden else home / split / "images"
    if hidden:
        names, read = list(pictures(images)), None
    else:
        kinds = ("instances", "labels")
        masks = find(home, *(f"{split}/{p}{kind}" for kind in kinds for p in (f"v{version}/", "")), what="labels")
        per_label = _INSTANCES if masks.name == "instances" else 1
        names = list(pictures(masks))
        read = partial(read_label_file, categories=categories, category_of=category_of, per_label=per_label)

    def video(name: str) -> VideoSample:
        frames = (FrameRef(name, images / f"{name}.jpg"),)
        return VideoSample(name, frames, None if read is None else partial(read, masks / f"{name}.png"))

    title = "mapillary" if version == "1.2" else f"mapillary-{version}"
    return Mapillary(title, split, home, categories, LazyVideos(names, video), category_of)


def _labels(path: Path) -> tuple[CategorySet, dict[int, int | None]]:
    """The categories that are evaluated, counted from 1 as in ``panoptic_2018.json``, and what labels mean."""
    with well_formed(path, "the labels of Mapillary Vistas"):
        labels = read_json(path, what="the labels of Mapillary Vistas")["labels"]
        evaluated = [bool(label.get("evaluate", True)) for label in labels]
        categories = tuple(
            Category(n + 1, str(label["readable"]), bool(label["instances"]), tuple(label["color"]))
            for n, label in enumerate(labels)
            if evaluated[n]
        )
    return CategorySet("mapillary", categories), {n: n + 1 if yes else None for n, yes in enumerate(evaluated)}


def read_label_file(
    path: Path, frame_index: int, categories: CategorySet, category_of: Mapping[int, int | None], *, per_label: int
) -> FrameAnnotation:
    """``instances``: 256 times the label, plus the instance; or ``labels`` alone, where things are crowd.

    Labels that are not evaluated are void. ``Segment.id`` is the value, plus 1.

    Args:
        path: of the picture.
        frame_index: position of the frame.
        categories: the label space.
        category_of: what labels mean.
        per_label: 256 for instances, 1 for labels.

    Raises:
        InputError: it is missing, damaged, or has a label that nobody named.
    """
    picture = IdPicture(read_label_png(path))
    void, segments, crowd = [], {}, set()
    for value in picture.ids:
        label = value // per_label
        if label not in category_of:
            raise InputError(f"{path} has the label {label}, but {len(category_of)} are named")
        category = category_of[label]
        if category is None:
            void.append(value)
            continue
        is_thing = categories[category].is_thing
        segments[value] = Segment(value + 1, value + 1, category, is_thing=is_thing)
        if is_thing and per_label == 1:
            crowd.add(value + 1)
    return FrameAnnotation(picture.segmentation(frame_index, segments), picture.where(void), frozenset(crowd))


def _info(name: str, version: str, about: str) -> DatasetInfo:
    return DatasetInfo(
        name=name,
        title=f"Mapillary Vistas {version}",
        tasks=(Task.VSS, Task.VPS),
        splits=("validation", "training", "testing"),
        home="https://www.mapillary.com/dataset/vistas",
        licence="research, registration",
        about=f"25,000 pictures of streets (18,000 training, 2,000 validation), {about}.",
        layout=f"config_v{version}.json{' or config.json' * (version == '1.2')}\n"
        f"validation/instances/IMAGE.png or validation/v{version}/instances/IMAGE.png\n"
        "validation/images/IMAGE.jpg",
        results="vss: IMAGE.png, grey, labels as in the configuration\nvps: pred.json, pan_pred/IMAGE.png",
        read=partial(read_mapillary, version=version),
        notes=(
            "Pictures, not video: each is a video of one frame, of up to 12 megapixels and more.",
            "Category ids are labels, plus 1, as in the panoptic annotation.",
        ),
    )


INFOS = (
    _info("mapillary", "1.2", "65 classes that are evaluated, 37 of them things"),
    _info("mapillary-2.0", "2.0", "124 labels"),
)
