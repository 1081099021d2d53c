"""Masks out in every layout, and in from every layout."""

import json
import stat
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import av
import numpy as np
import pytest
from PIL import Image

from maskstream.conversion import FORMATS
from maskstream.formats import write_label_png
from maskstream.formats.png import read_label_png
from maskstream.studio.editing import Editor
from maskstream.studio.exporting import OVERLAY, category_set, check_format, export, file_name, read_masks, unpacked
from maskstream.studio.project import Project
from maskstream.types import InputError
from maskstream.video.decoding import Damage, decode_pictures, opened

from .scenes import FRAMES, SIZE, make_soft, new_project, square, strip, write_video

WRITABLE = [name for name, layout in FORMATS.items() if layout.write is not None]
CATEGORIES = {1: "car", 2: "person"}
OF_LAYOUT = {"kitti-step": {1: "car", 2: "person"}, "mots": {1: "car", 2: "pedestrian"}}


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4")


@pytest.fixture
def project(tmp_path: Path, video: Path):
    made = new_project(tmp_path / "my clip", video)
    yield made
    made.close()


def label_maps(project: Project) -> list[np.ndarray]:
    return [project.label_map(n) for n in range(FRAMES)]


def unzipped(path: Path, folder: Path) -> Path:
    with ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


# Out, and in again.


@pytest.mark.parametrize("name", WRITABLE)
def test_what_is_exported_is_what_is_imported(project: Project, tmp_path: Path, name: str):
    done: list[tuple[int, int]] = []
    written = export(
        project,
        tmp_path / "exports",
        name,
        categories=OF_LAYOUT.get(name, CATEGORIES),
        on_frame=lambda *at: done.append(at),
    )
    assert written.path == tmp_path / "exports" / f"my-clip-{name}.zip"
    assert done[-1][0] == done[-1][1]
    assert [at for at, _ in done] == sorted(at for at, _ in done)
    imported = read_masks(project, unzipped(written.path, tmp_path / "unzipped"), name)
    shown: dict[int, dict[int, tuple[np.ndarray, int | None]]] = {frame: {} for frame in range(FRAMES)}
    for frame, segmentation in imported.frames():
        for segment, mask in zip(segmentation.segments, segmentation.masks_nhw().numpy(), strict=True):
            if mask.any():
                shown[frame][segment.track_id] = mask, segment.category
    for frame in range(FRAMES - 1):
        true = sorted(mask.tobytes() for mask in (square(frame), strip(frame)) if mask.any())
        assert sorted(mask.tobytes() for mask, _ in shown[frame].values()) == true, frame
    assert shown[FRAMES - 1] == {}
    if name in ("ytvos", "coco", "ytvis", "vipseg", "burst", "cvat", "yolo", "label-studio"):
        for mask, category in shown[3].values():
            assert category is not None
            assert imported.categories[category].name == ("car" if np.array_equal(mask, square(3)) else "person")


@pytest.mark.parametrize("name", ["davis", "coco", "alpha-video"])
def test_the_same_again_is_the_same_bytes_and_replaces_the_file(project: Project, tmp_path: Path, name: str):
    first = export(project, tmp_path, name, categories=CATEGORIES).path.read_bytes()
    again = export(project, tmp_path, name, categories=CATEGORIES)
    assert again.path.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [again.path.name]


def test_ids_and_names_of_frames_are_those_of_the_project(project: Project, tmp_path: Path):
    root = unzipped(export(project, tmp_path, "davis", categories=CATEGORIES).path, tmp_path / "out")
    masks = sorted((root / "Annotations" / "480p" / "my-clip").iterdir())
    assert [mask.stem for mask in masks] == [f"{n:05d}" for n in range(FRAMES - 1)]  # nobody labelled the last
    for n, mask in enumerate(masks):
        assert np.array_equal(read_label_png(mask), project.label_map(n))
    assert len(list((root / "JPEGImages" / "480p" / "my-clip").iterdir())) == FRAMES - 1


def test_a_layout_that_numbers_frames_has_all_of_them(project: Project, tmp_path: Path):
    root = unzipped(export(project, tmp_path, "alpha-video", categories={1: ""}).path, tmp_path / "out")
    with av.open(str(root / "my-clip" / "1.mkv")) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES


def test_only_the_objects_that_were_asked_for_are_written(project: Project, tmp_path: Path):
    root = unzipped(export(project, tmp_path, "vos", categories={2: ""}).path, tmp_path / "out")
    for n, mask in enumerate(sorted((root / "Annotations" / "my-clip").iterdir())):
        assert np.array_equal(read_label_png(mask), 2 * strip(n))


def test_what_a_layout_has_no_place_for_is_said(project: Project, tmp_path: Path):
    assert export(project, tmp_path, "davis", categories=CATEGORIES).lost == (
        "objects have categories: these are left out",
        "frames have no labels: these frames are left out",
    )
    assert "objects have numbers: they get others" in export(project, tmp_path, "yolo", categories=CATEGORIES).lost


@pytest.mark.parametrize("name", ["alpha", "alpha-video", "soft"])
def test_probabilities_are_written_on_the_side_of_one_half_that_the_mask_is_on(project, tmp_path: Path, name: str):
    make_soft(project, 1, 2)
    labels = project.label_map(2)
    root = unzipped(export(project, tmp_path, name, categories={1: "", 2: ""}).path, tmp_path / "out")
    imported = read_masks(project, root, name)
    segmentation = dict(imported.frames())[2]
    assert segmentation.probabilities is not None
    place = [segment.track_id for segment in segmentation.segments].index(1)
    levels = (segmentation.probabilities[1 + place].float() * 255).round().numpy()
    assert set(np.unique(levels[labels == 1])) == {200}
    assert set(np.unique(levels[labels != 1])) == {90}
    assert np.array_equal(segmentation.masks_nhw()[place].numpy(), labels == 1)


def test_pictures_of_a_folder_keep_their_names_and_bytes(tmp_path: Path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for n in range(3):
        Image.new("RGB", SIZE[::-1], (40 * n, 0, 0)).save(folder / f"shot{n}.jpg")
    project = Project.create(tmp_path / "of-frames", folder)
    Editor(project).adopt([(1, {5: square(1)})])
    root = unzipped(export(project, tmp_path, "vos", categories={1: ""}).path, tmp_path / "out")
    assert [p.name for p in sorted((root / "Annotations" / "of-frames").iterdir())] == ["shot1.png"]
    shown = sorted((root / "JPEGImages" / "of-frames").iterdir())
    assert [p.name for p in shown] == ["shot0.jpg", "shot1.jpg", "shot2.jpg"]
    assert [p.read_bytes() for p in shown] == [p.read_bytes() for p in sorted(folder.iterdir())]
    project.close()


# The overlay.


def test_the_overlay_is_the_video_with_the_masks_on_it(project: Project, tmp_path: Path):
    done: list[tuple[int, int]] = []
    written = export(project, tmp_path, OVERLAY, categories=CATEGORIES, on_frame=lambda *at: done.append(at))
    assert written.path.name == "my-clip-overlay.mp4"
    assert done == [*((n, FRAMES) for n in range(1, FRAMES + 1)), (FRAMES, FRAMES)]
    with opened(str(written.path), name="overlay") as (container, stream):
        pictures = [p.to_ndarray(format="rgb24") for p in decode_pictures(container, stream, Damage())]
    assert len(pictures) == FRAMES
    inside = pictures[2][18:24, 14:20].reshape(-1, 3).astype(int).mean(axis=0)
    assert inside[0] - inside[1] > 40  # object 1 is red in the palette of the house
    assert np.abs(pictures[2][2:6, 50:60].astype(int) - 50).max() < 12
    assert list(tmp_path.glob(".*")) == []


def test_the_overlay_has_the_colours_that_were_chosen(project: Project, tmp_path: Path):
    written = export(project, tmp_path, OVERLAY, categories={1: ""}, colours={1: (0, 0, 255)})
    with opened(str(written.path), name="overlay") as (container, stream):
        picture = [p.to_ndarray(format="rgb24") for p in decode_pictures(container, stream, Damage())][2]
    inside = picture[18:24, 14:20].reshape(-1, 3).astype(int).mean(axis=0)
    assert inside[2] - inside[0] > 40


def test_the_overlay_has_the_sound_of_the_video(project: Project, tmp_path: Path, video: Path):
    with_sound = tmp_path / "sound.mp4"
    with av.open(str(with_sound), "w") as target, av.open(str(video)) as source:
        copied = target.add_stream_from_template(source.streams.video[0])
        audio = target.add_stream("aac", rate=16000, layout="mono")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        target.mux(audio.encode(sound))
        target.mux(audio.encode(None))
    written = export(project, tmp_path, OVERLAY, categories=CATEGORIES, audio_from=with_sound)
    with av.open(str(written.path)) as container:
        assert len(container.streams.audio) == 1


# What goes wrong.


@pytest.mark.parametrize("name", ["davis", OVERLAY])
def test_an_export_that_is_stopped_leaves_nothing_and_keeps_the_earlier_one(project, tmp_path: Path, name: str):
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise StoppedError

    folder = tmp_path / "exports"
    with pytest.raises(StoppedError):
        export(project, folder, name, categories=CATEGORIES, on_frame=stop)
    assert list(folder.iterdir()) == []
    whole = export(project, folder, name, categories=CATEGORIES).path
    before = whole.read_bytes()
    with pytest.raises(StoppedError):
        export(project, folder, name, categories=CATEGORIES, on_frame=stop)
    assert whole.read_bytes() == before
    assert list(folder.iterdir()) == [whole]


def test_what_a_killed_export_left_is_no_hindrance(project: Project, tmp_path: Path):
    (tmp_path / ".my-clip-davis.files" / "half").mkdir(parents=True)
    (tmp_path / "..my-clip-davis.files.partial" / "half").mkdir(parents=True)
    export(project, tmp_path, "davis", categories=CATEGORIES)


def test_without_masks_there_is_nothing_to_export(tmp_path: Path, video: Path):
    empty = Project.create(tmp_path / "empty", video)
    with pytest.raises(InputError, match="nothing to export yet: no frame has a mask"):
        export(empty, tmp_path, "davis", categories={})
    empty.close()


def test_a_layout_with_categories_of_its_own_says_which_object_has_another(project: Project, tmp_path: Path):
    with pytest.raises(InputError, match=r"MOTS has a place for .*pedestrian.* and nothing else, but object 1 is"):
        export(project, tmp_path, "mots", categories={1: "fish", 2: "car"})
    with pytest.raises(InputError, match=r"object 2 has no category"):
        export(project, tmp_path, "mots", categories={1: "car", 2: ""})
    assert list(tmp_path.glob("*.zip")) == []


@pytest.mark.parametrize("name", ["nonsense", "cityscapes-vps", "../davis", ""])
def test_a_layout_that_is_not_written_is_refused(project: Project, tmp_path: Path, name: str):
    with pytest.raises(InputError, match=r"there is no layout .* to write: overlay, davis, "):
        export(project, tmp_path, name, categories=CATEGORIES)


def test_an_overlay_is_not_read():
    with pytest.raises(InputError, match="to read"):
        check_format(OVERLAY, write=False)
    check_format("cityscapes-vps", write=False)


def test_large_numbers_of_objects_are_made_small_where_a_layout_ends(project: Project, tmp_path: Path, monkeypatch):
    far = {0: 0, 1: 300, 2: 1200}
    maps = [np.vectorize(far.get)(labels).astype(np.int32) for labels in label_maps(project)]
    monkeypatch.setattr(project, "label_map", lambda frame: maps[frame])
    written = export(project, tmp_path, "davis", categories={300: "", 1200: ""})
    root = unzipped(written.path, tmp_path / "out")
    assert set(np.unique(read_label_png(root / "Annotations" / "480p" / "my-clip" / "00003.png"))) == {0, 1, 2}
    assert "objects have numbers beyond 254: they are numbered anew" in written.lost


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my clip.mp4", "my-clip"), ("../../etc", "etc"), ("été", "t"), ("日本", "video"), ("a" * 200, "a" * 80)],
)
def test_names_of_files_fit_every_system_and_address(name: str, expected: str):
    assert file_name(name) == expected


def test_objects_of_which_nobody_said_what_they_are_are_objects():
    assert category_set({1: "", 2: ""}, "x").names == ("object",)
    assert category_set({1: "fish", 2: "", 3: "cat"}, "x").names == ("object", "cat", "fish")
    assert category_set({1: "object", 2: "", 3: "cat"}, "x").names == ("cat", "object")
    assert category_set({1: "fish"}, "x").names == ("fish",)


# In.


def folder_of_masks(root: Path, names: list[str], *, video: str = "any", size_hw: tuple[int, int] = SIZE) -> Path:
    (root / "Annotations" / video).mkdir(parents=True)
    for n, name in enumerate(names):
        write_label_png(root / "Annotations" / video / f"{name}.png", np.full(size_hw, n % 3, np.int32))
    return root


def test_frames_are_matched_by_name_else_by_order(project: Project, tmp_path: Path):
    by_name = read_masks(project, folder_of_masks(tmp_path / "a", ["00002", "00004"]), "vos")
    assert [frame for frame, _ in by_name.frames()] == [2, 4]
    by_order = read_masks(project, folder_of_masks(tmp_path / "b", [f"f{n}" for n in range(FRAMES)]), "vos")
    assert [frame for frame, _ in by_order.frames()] == list(range(FRAMES))


def test_masks_of_another_video_are_refused(project: Project, tmp_path: Path):
    with pytest.raises(InputError, match=r"any has 2 frames, but the video has 6, and their names differ \(x, 00000\)"):
        read_masks(project, folder_of_masks(tmp_path / "a", ["x", "y"]), "vos")
    with pytest.raises(InputError, match="the masks of frame 00000 are 24×64, but the video is 48×64"):
        list(read_masks(project, folder_of_masks(tmp_path / "b", ["00000"], size_hw=(24, 64)), "vos").frames())


def test_of_several_videos_that_of_the_project_is_taken(project: Project, tmp_path: Path):
    root = folder_of_masks(tmp_path / "a", ["00000"], video="first")
    folder_of_masks(root, ["00001"], video="second")
    with pytest.raises(InputError, match=r"a has 2 videos \(first, second\), and not one called my clip"):
        read_masks(project, root, "vos")
    folder_of_masks(root, ["00003"], video="my-clip")
    assert [frame for frame, _ in read_masks(project, root, "vos").frames()] == [3]


@pytest.mark.parametrize("name", list(FORMATS))
def test_what_is_not_in_a_layout_is_refused_in_one_line(project: Project, tmp_path: Path, name: str):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "page.json").write_text("{}")
    for path in (tmp_path / "nothing", tmp_path / "page.json", tmp_path / "missing"):
        with pytest.raises(InputError) as caught:
            list(read_masks(project, path, name).frames())
        assert "\n" not in str(caught.value)


# Archives.


def archive(path: Path, *entries: tuple[str | ZipInfo, bytes]) -> Path:
    with ZipFile(path, "w") as made:
        for name, content in entries:
            made.writestr(name, content)
    return path


def test_an_archive_is_unpacked_for_a_while(tmp_path: Path):
    made = archive(tmp_path / "a.zip", ("a/b.txt", b"b"), ("empty/", b""))
    with unpacked(made, tmp_path / "files") as root:
        assert {p.relative_to(root).as_posix() for p in root.rglob("*")} == {"a", "a/b.txt"}
        assert (root / "a" / "b.txt").read_bytes() == b"b"
    assert not (tmp_path / "files").exists()


def link_entry() -> ZipInfo:
    entry = ZipInfo("link")
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    "name",
    ["../out.txt", "a/../../out.txt", "/etc/out.txt", "a\\..\\..\\out.txt", "C:out.txt", "C:\\out.txt", link_entry()],
    ids=["up", "up from within", "absolute", "separators of Windows", "a drive", "a folder on a drive", "a link"],
)
def test_an_archive_that_leads_out_is_refused_and_nothing_is_left(tmp_path: Path, name: str | ZipInfo):
    made = archive(tmp_path / "a.zip", ("good.txt", b"good"), (name, b"/etc/passwd"))
    with pytest.raises(InputError, match="a link or leads out"), unpacked(made, tmp_path / "files"):
        pass
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip"}


def test_an_archive_that_grows_too_large_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("maskstream.studio.exporting._LARGEST_ARCHIVE", 2**20)
    made = tmp_path / "a.zip"
    with ZipFile(made, "w", compression=8) as packed:
        packed.writestr("zeros", b"\0" * (2**20 + 1))
    with pytest.raises(InputError, match="the archive holds more than"), unpacked(made, tmp_path / "files"):
        pass
    monkeypatch.setattr("maskstream.studio.exporting._MOST_FILES", 2)
    many = archive(tmp_path / "b.zip", *((f"{n}", b"") for n in range(3)))
    with pytest.raises(InputError, match="the archive has 3 files"), unpacked(many, tmp_path / "files"):
        pass


@pytest.mark.parametrize("damage", ["no archive", "cut off", "wrong bytes"])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: str):
    made = tmp_path / "a.zip"
    with ZipFile(made, "w", compression=8) as packed:
        packed.writestr("text.json", json.dumps(list(range(1000))))
    content = made.read_bytes()
    made.write_bytes(
        {"no archive": b"text", "cut off": content[:-30], "wrong bytes": content[:80] + b"\xff" * 40 + content[120:]}[
            damage
        ]
    )
    with pytest.raises(InputError, match="the archive cannot be read"), unpacked(made, tmp_path / "files"):
        pass
    assert not (tmp_path / "files").exists()
