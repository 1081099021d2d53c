"""ADE20K as SceneParse150 has it (Zhou et al., CVPR 2017; datasets specification D)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maskstream.formats.id_picture import IdPicture
from maskstream.formats.png import read_label_png
from maskstream.formats.semantic_png import read_semantic_png
from maskstream.types import FrameAnnotation, FrameRef, InputError, Segment, Task, VideoSample

from .classes import ADE20K
from .dataset import Dataset, DatasetInfo, LazyVideos
from .places import find, pictures

_VOID = 0
_THINGS = tuple(category.id for category in ADE20K.categories if category.is_thing)
"""Class n of the instance task, from 1, is the n-th of these."""


@dataclass(frozen=True, slots=True, eq=False)
class Ade20k(Dataset):
    """Pictures with classes, and with instances where ``annotations_instance`` is there.

    Both disagree on some pixels, so that a picture has two annotations.
    """

    def semantic(self, name: str) -> FrameAnnotation:
        """The classes of a picture, by its name: a segment for each.

        Raises:
            InputError: the file is missing or damaged.
        """
        values = {number: number for number in ADE20K.ids}
        return read_semantic_png(self._file("annotations", name), 0, ADE20K, values, void=(_VOID,))

    def panoptic(self, name: str) -> FrameAnnotation:
        """Stuff of a picture, and instances on top of it; things that are no instance are void.

        Raises:
            InputError: a file is missing or damaged, or they do not fit each other.
        """
        classes_file, instances_file = self._file("annotations", name), self._file("annotations_instance", name)
        classes, instances = read_label_png(classes_file), read_label_png(instances_file, encoding="rgb")
        if classes.shape != instances.shape:
            raise InputError(f"{instances_file} and {classes_file} differ in size: {instances.shape}, {classes.shape}")
        picture = IdPicture(classes.astype("int64") + 256 * instances.astype("int64"))
        void, segments = [], {}
        for code in picture.ids:
            category, thing, instance = code % 256, code >> 8 & 255, code >> 16 & 255
            if instance:
                if not 1 <= thing <= len(_THINGS):
                    raise InputError(
                        f"{instances_file} has the class {thing} in its red channel, beyond {len(_THINGS)}"
                    )
                category = _THINGS[thing - 1]
                segments[code] = Segment(256 * category + instance, 256 * category + instance, category, is_thing=True)
            elif category == _VOID or category in _THINGS:
                void.append(code)
            elif category not in ADE20K.ids:
                raise InputError(f"{classes_file} has the value {category}, beyond {ADE20K.ids[-1]}")
            else:
                segments[code] = Segment(category, category, category, is_thing=False)
        return FrameAnnotation(picture.segmentation(0, segments), picture.where(void))

    def _file(self, kind: str, name: str) -> Path:
        return self.root / kind / self.split / f"{name}.png"


def read_ade20k(root: Path, split: str) -> Dataset:
    """Open a split. Pictures are annotated with instances where these are there.

    Raises:
        InputError: there is no folder of its masks.
    """
    places = ("", "ADEChallengeData2016/")
    found = find(root, *(f"{place}annotations/{split}" for place in places), what=f"the {split} split of ADE20K")
    home = found.parent.parent
    with_instances = (home / "annotations_instance" / split).is_dir()

    def video(name: str) -> VideoSample:
        image = home / "images" / split / f"{name}.jpg"
        read = dataset.panoptic if with_instances else dataset.semantic
        return VideoSample(name, (FrameRef(name, image),), lambda index: read(name))

    dataset = Ade20k("ade20k", split, home, ADE20K, LazyVideos(list(pictures(found)), video))
    return dataset


INFOS = (
    DatasetInfo(
        name="ade20k",
        title="ADE20K (SceneParse150)",
        tasks=(Task.VSS, Task.VPS),
        splits=("validation", "training"),
        home="http://sceneparsing.csail.mit.edu",
        licence="research",
        about="22,210 pictures (20,210 training, 2,000 validation), 150 classes, 100 of them things.",
        layout="ADEChallengeData2016/annotations/validation/IMAGE.png\n"
        "ADEChallengeData2016/annotations_instance/validation/IMAGE.png for instances\n"
        "ADEChallengeData2016/images/validation/IMAGE.jpg",
        results="vss: IMAGE.png, grey, classes 1 to 150\nvps: pred.json, pan_pred/IMAGE.png",
        read=read_ade20k,
        notes=("Pictures, not video: each is a video of one frame.", "Masks have 0 for void."),
    ),
)
