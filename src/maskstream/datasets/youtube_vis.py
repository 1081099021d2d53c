"""YouTube-VIS 2019, 2021 and 2022, OVIS and UVO: tubes in one JSON file (datasets specification C5 to C7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from maskstream.formats.json_files import read_json
from maskstream.formats.youtube_vis import Tube, YoutubeVisFile
from maskstream.types import OBJECT, Category, CategorySet, InputError, Task, VideoSample

from .dataset import Dataset, DatasetInfo, LazyVideos
from .places import contents

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

YTVIS_2019, YTVIS_2021, OVIS = (
    CategorySet.from_names(names.split(), name=name, is_thing=True)
    for name, names in (("ytvis-2019", _2019), ("ytvis-2021", _2021), ("ovis", _OVIS))
)
_LISTS = {"YouTube-VIS 2019": YTVIS_2019, "YouTube-VIS 2021 or 2022": YTVIS_2021, "OVIS": OVIS}


@dataclass(frozen=True, slots=True, eq=False)
class TubeDataset(Dataset):
    """A data set whose objects are tubes.

    Attributes:
        file: its annotations, from where tubes come as they were written.
    """

    file: YoutubeVisFile = field(repr=False)

    def tubes(self, video: VideoSample) -> tuple[Tube, ...]:
        """The objects of a video in the order of the file; none where labels are hidden."""
        return () if video.video_id is None else self.file.tubes(video.video_id)


def read_youtube_vis(root: Path, split: str, *, name: str, categories: CategorySet) -> TubeDataset:
    """A data set in the layout of YouTube-VIS.

    Args:
        root: the file of annotations, the folder it is in, or one above.
        split: train, valid (or val) or test.
        name: of the data set.
        categories: its label space. A file of categories that are in no known data set has its own.

    Raises:
        InputError: there is no such file, or it is of another data set.
    """
    path = root if root.is_file() else _annotations(root, split)
    file = YoutubeVisFile(path)
    own = tuple(Category(number, text, is_thing=True) for number, text in file.category_names.items())
    if own:
        _check_categories(path, file.category_names, categories)
        categories = CategorySet(name, own)
    images = _images(path, split)
    id_of = {entry.name: entry.id for entry in file.videos.values()}
    videos = LazyVideos(list(id_of), lambda video: file.sample(id_of[video], images))
    return TubeDataset(name, split, root, categories, videos, file)


def _annotations(root: Path, split: str) -> Path:
    """The file of a split, by its usual names, or the only one in the folder that has videos and annotations."""
    names = [split, {"val": "valid", "valid": "val"}.get(split, split)]
    usual = [
        pattern.format(name)
        for name in names
        for pattern in (
            "{}.json",
            "{}/instances.json",
            "instances_{}.json",
            "annotations_{}.json",
            "annotations/{}.json",
            "annotations/annotations_{}.json",
            "UVO_video_{}_dense.json",
            "VideoDenseSet/UVO_video_{}_dense.json",
        )
    ]
    for prefix in ("", "*/"):
        found = [path for candidate in usual for path in sorted(root.glob(prefix + candidate))]
        if len(found) == 1 or (found and not prefix):
            return found[0]
    others = [path for path in sorted(root.glob("*.json")) if _has_tubes(path)]
    if len(others) == 1:
        return others[0]
    raise InputError(
        f"{root} has no {' or '.join(usual[:4])}, the annotations of the split {split}; {contents(root)}; "
        "name the file itself if it is called otherwise"
    )


def _has_tubes(path: Path) -> bool:
    try:
        plain = read_json(path, what="annotations")
    except InputError:
        return False
    return isinstance(plain, dict) and {"videos", "annotations"} <= plain.keys()


def _images(path: Path, split: str) -> Path:
    """The folder of the pictures of a file of annotations; the usual one if none is there."""
    name = {"val": "valid"}.get(split, split)
    usual = path.parent / "JPEGImages" if path.stem == "instances" else path.parent / name / "JPEGImages"
    others = (
        path.parent / name,
        path.parent.parent / name / "JPEGImages",
        path.parent.parent / name,
        path.parent / "uvo_videos_dense_frames",
        path.parent.parent / "uvo_videos_dense_frames",
    )
    return next((folder for folder in (usual, *others) if folder.is_dir()), usual)


def _check_categories(path: Path, listed: dict[int, str], wanted: CategorySet) -> None:
    """Refuse a file whose categories are those of another data set."""
    plain = {number: name.lower().replace(" ", "_") for number, name in listed.items()}

    def agreeing(known: CategorySet) -> int:
        return sum(plain.get(c.id) == c.name.lower() for c in known.categories)

    likeness = {title: agreeing(known) for title, known in _LISTS.items()}
    title = max(likeness, key=lambda one: likeness[one])
    if likeness[title] > max(agreeing(wanted), len(listed) // 2) and wanted != OBJECT:
        raise InputError(
            f"the categories of {path} are those of {title}, not of {wanted.name}: name that data set, or another file"
        )


_LAYOUT = """valid.json, train.json, test.json          or valid/instances.json; videos, categories, annotations
valid/JPEGImages/VIDEO/00000.jpg           not needed to evaluate"""
_RESULTS = """results.json   [{"video_id", "category_id", "score", "segmentations": [RLE or null for each frame]}]"""
_SPLITS = ("valid", "train", "test")
_HIDDEN = "Labels of valid and test are hidden; a file of annotations of one's own is scored as the server does."


def _youtube_vis(year: int, categories: CategorySet, about: str, *notes: str) -> DatasetInfo:
    return DatasetInfo(
        name=f"ytvis-{year}",
        title=f"YouTube-VIS {year}",
        tasks=(Task.VIS,),
        splits=_SPLITS,
        home="https://youtube-vos.org/dataset/vis",
        licence="CC BY 4.0",
        about=about,
        layout=_LAYOUT,
        results=_RESULTS,
        read=partial(read_youtube_vis, name=f"ytvis-{year}", categories=categories),
        notes=(*notes, _HIDDEN),
    )


INFOS = (
    _youtube_vis(
        2019,
        YTVIS_2019,
        "2,238, 302 and 343 videos (train, valid, test) with 4,883 objects of 40 classes; every fifth frame.",
        "Class ids are not those of 2021, and both years split the same videos: training on one and testing on the "
        "other leaks.",
    ),
    _youtube_vis(
        2021,
        YTVIS_2021,
        "2,985, 421 and 453 videos (train, valid, test) with 8,171 objects of 40 classes; every fifth frame.",
        "Class ids are not those of 2019.",
    ),
    _youtube_vis(
        2022,
        YTVIS_2021,
        "Training set and classes of 2021; the validation set has 71 long videos more.",
        "The server scores short and long videos apart; here all videos of the file are scored together.",
    ),
    DatasetInfo(
        name="ovis",
        title="OVIS",
        tasks=(Task.VIS,),
        splits=_SPLITS,
        home="https://songbai.site/ovis",
        licence="CC BY-NC-SA 4.0",
        about="607, 140 and 154 videos (train, valid, test) of up to 292 frames with 5,223 objects of 25 classes, "
        "heavily occluded.",
        layout=(
            "annotations_valid.json, annotations_train.json, annotations_test.json\n"
            "valid/VIDEO/img_0000001.jpg                not needed to evaluate"
        ),
        results=_RESULTS,
        read=partial(read_youtube_vis, name="ovis", categories=OVIS),
        notes=(
            "AP by degree of occlusion needs labels that are hidden.",
            "Some videos of MOSE come from here.",
            _HIDDEN,
        ),
    ),
    DatasetInfo(
        name="uvo",
        title="UVO, dense videos",
        tasks=(Task.OWVS, Task.VIS),
        splits=("val", "train", "test"),
        home="https://sites.google.com/view/unidentified-video-object",
        licence="see the page; the videos are from Kinetics-400",
        about="503, 256 and 264 videos (train, val, test) of 3 seconds, about 90 frames; every object on every frame.",
        layout=(
            "VideoDenseSet/UVO_video_val_dense.json\nuvo_videos_dense_frames/YTID/0.png         not needed to evaluate"
        ),
        results=f"{_RESULTS}; category_id is 1",
        read=partial(read_youtube_vis, name="uvo", categories=OBJECT),
        notes=("Categories are not compared; AR100 sums results up, with 100 predictions for each video.",),
    ),
)
