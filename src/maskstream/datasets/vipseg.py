"""VIPSeg (Miao et al., CVPR 2022; datasets specification C2): the 720p conversion, and the raw archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from maskstream.formats.id_picture import IdPicture
from maskstream.formats.json_files import Json, read_json, read_lines, well_formed
from maskstream.formats.panoptic import (
    PanopticFrame,
    frames_by_video,
    read_categories,
    read_panoptic_json,
)
from maskstream.formats.png import read_label_png
from maskstream.types import CategorySet, FrameAnnotation, FrameRef, InputError, Segment, Task, VideoSample

from .classes import VIPSEG
from .dataset import Dataset, DatasetInfo, LazyVideos
from .per_pixel import mask_folder_video
from .places import find

_RAW_CATEGORIES = "panoVIPSeg_categories.json"
_FIRST_INSTANCE = 125  # raw values below are classes; from here on they are 100 times the class, plus the instance


@dataclass(frozen=True, slots=True, eq=False)
class PanopticDataset(Dataset):
    """Videos whose segments are listed in a JSON file.

    Attributes:
        listed: entries of that file by video and name of the frame; empty where labels come from pictures alone.
    """

    listed: Mapping[str, Mapping[str, PanopticFrame]] = field(repr=False)

    def areas(self, video: VideoSample, index: int) -> dict[int, int] | None:
        """The areas that are listed for the segments of a frame, by id; None where nothing is listed.

        Raises:
            InputError: an entry lacks something.
        """
        frame = self.listed.get(video.name, {}).get(video.frames[index].stem)
        return None if frame is None else {number: row.area for number, row in frame.listed().items()}


def panoptic_video(
    name: str, frames: tuple[FrameRef, ...], listed: Mapping[str, PanopticFrame], categories: CategorySet
) -> VideoSample:
    """A video whose labels are listed by name of the frame.

    Args:
        name: of the video.
        frames: in order.
        listed: what is labelled.
        categories: the label space.
    """

    def read(index: int) -> FrameAnnotation:
        stem = frames[index].stem
        if stem not in listed:
            raise InputError(f"{name}: there are no labels of the frame {stem}")
        return listed[stem].annotation(index, categories)

    return VideoSample(name, frames, read)


def read_vipseg(root: Path, split: str) -> Dataset:
    """Open a split: from its JSON file, or from the raw masks where there is none.

    Raises:
        InputError: there is neither, or the JSON file is of another kind.
    """
    if root.is_file():
        return _converted(root, split)
    listing, names = f"panoptic_gt_VIPSeg_{split}.json", f"{split}.txt"
    places = ("", "VIPSeg_720P/", "VIPSeg/")
    what = f"the {split} split of VIPSeg"
    found = find(root, *(f"{place}{file}" for file in (listing, names) for place in places), what=what)
    return _converted(found, split) if found.name == listing else _raw(found, split)


def _converted(path: Path, split: str) -> PanopticDataset:
    """What the JSON file lists; pictures of ids are beside it, in ``panomasksRGB``."""
    plain = read_panoptic_json(path, what="the annotation of VIPSeg")
    categories = read_categories(plain["categories"], path, name="vipseg") if "categories" in plain else VIPSEG
    listed = frames_by_video(plain, path, path.parent / "panomasksRGB")
    stems = _stems(plain, path)
    unlabelled = sorted(stems.keys() - listed.keys())
    if unlabelled:
        raise InputError(f"{path} lists the video {unlabelled[0]}, but no annotations of it")
    images = _images(path.parent)

    def video(name: str) -> VideoSample:
        frames = tuple(FrameRef(s, images / name / f"{s}.jpg", annotated=s in listed[name]) for s in stems[name])
        return panoptic_video(name, frames, listed[name], categories)

    return PanopticDataset("vipseg", split, path, categories, LazyVideos(list(stems), video), listed)


def _stems(plain: Json, path: Path) -> dict[str, Sequence[str]]:
    """The names of the frames of every video, as ``videos`` of the file lists them."""
    with well_formed(path, "a list of videos with their frames, as VIPSeg has it"):
        return {
            str(video["video_id"]): [Path(str(image["file_name"])).stem for image in video["images"]]
            for video in plain["videos"]
        }


def _raw(names: Path, split: str) -> PanopticDataset:
    """What ``panomasks`` shows of the videos that a text file names; hidden for the test videos."""
    root = names.parent
    listing = root / _RAW_CATEGORIES
    categories = (
        read_categories(read_json(listing, what="categories"), listing, name="vipseg") if listing.exists() else VIPSEG
    )
    masks = root / "panomasks" if split == "test" else find(root, "panomasks", what="the masks of VIPSeg")
    images, read = _images(root), partial(read_raw_mask, categories=categories)

    def video(name: str) -> VideoSample:
        hidden = split == "test" and not (masks / name).is_dir()
        return mask_folder_video(name, images=images / name, masks=None if hidden else masks / name, read=read)

    videos = LazyVideos(read_lines(names, what="the names of videos"), video)
    return PanopticDataset("vipseg", split, root, categories, videos, {})


def read_raw_mask(path: Path, frame_index: int, categories: CategorySet) -> FrameAnnotation:
    """A 16-bit mask: 0 is void, class + 1 is stuff, 100 times (class + 1) plus the instance is a thing.

    Args:
        path: of the mask.
        frame_index: position of the frame.
        categories: the label space; ids are classes from 0.

    Raises:
        InputError: it is missing, damaged, or has a class that is not in the label space.
    """
    kinds = {category.id: category.is_thing for category in categories.categories}
    picture = IdPicture(read_label_png(path))
    segments = {}
    for value in picture.ids:
        category = (value if value < _FIRST_INSTANCE else value // 100) - 1
        if value and category not in kinds:
            raise InputError(f"{path} has the value {value}, of class {category}, which {categories.name} has not")
        if value:
            segments[value] = Segment(value, value, category, is_thing=kinds[category])
    return FrameAnnotation(picture.segmentation(frame_index, segments), picture.where([0]))


def _images(root: Path) -> Path:
    """The folder of the pictures, which has two names."""
    return root / "imgs" if (root / "imgs").is_dir() else root / "images"


INFOS = (
    DatasetInfo(
        name="vipseg",
        title="VIPSeg",
        tasks=(Task.VPS,),
        splits=("val", "train", "test"),
        home="https://github.com/VIPSeg-Dataset/VIPSeg-Dataset",
        licence="non-commercial research",
        about="3,536 videos (2,806 train, 343 val, 387 test) of VSPW at about 5 frames a second, 84,750 labelled "
        "frames, 58 classes of things and 66 of stuff.",
        layout="VIPSeg_720P/panoptic_gt_VIPSeg_val.json\n"
        "VIPSeg_720P/panomasksRGB/VIDEO/FRAME.png\n"
        "VIPSeg_720P/images/VIDEO/FRAME.jpg (or imgs)\n"
        "or, as it is downloaded: val.txt, panomasks/VIDEO/FRAME.png, imgs/VIDEO/FRAME.jpg",
        results="pred.json\npan_pred/VIDEO/FRAME.png",
        read=read_vipseg,
        notes=(
            "Published numbers are those of the 720p conversion: results are 720 pixels high.",
            "The order of segments in the JSON file decides the official STQ, which takes the first one of a video for "
            "a crowd.",
            "The labels of the test videos are hidden.",
            "The videos are those of VSPW and VIPOSeg, in the same splits.",
        ),
    ),
)
