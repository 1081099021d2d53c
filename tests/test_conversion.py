"""Conversions between layouts: what is not named as lost comes back, and nothing is lost without being named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskstream.conversion import FORMATS, Feature, Format, convert, losses, survey
from maskstream.formats.journal import JournalWriter
from maskstream.types import (
    OBJECT,
    Category,
    CategorySet,
    Expression,
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    MaskstreamError,
    OutputError,
    Segment,
    VideoSample,
)

from .formats.clips import ANIMALS, Masks, box, clip, content, labels, masks

SIZE = (9, 13)
WRITTEN = [name for name, layout in FORMATS.items() if layout.write is not None]
ANY_LABELS = [name for name in WRITTEN if FORMATS[name].label_space is None and name != "soft"]
"""Layouts that take any label space and need no probabilities."""


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """A layout "memory" whose videos and categories are what is put into this list."""
    held: list[object] = []
    layout = Format("memory", lambda path, split: (held[1], held[0]), None, frozenset())  # type: ignore[arg-type,return-value]
    monkeypatch.setitem(FORMATS, "memory", layout)
    yield held


def read(path: Path, layout: str) -> tuple[CategorySet, Sequence[VideoSample]]:
    return FORMATS[layout].read(path, None)


def disjoint(*boxes: tuple[int, int, int, int, int]) -> Masks:
    """Objects by id, each a box behind the ones before."""
    free, found = np.ones(SIZE, bool), {}
    for number, left, top, right, bottom in boxes:
        found[number] = box(left, top, right, bottom) & free
        free &= ~found[number]
    return found


def two_videos(folder: Path) -> list[VideoSample]:
    """Objects with gaps between their ids, the same ids in both videos, parts and holes, one that comes and goes."""
    ring = box(1, 1, 8, 8) & ~box(3, 3, 6, 6)
    first = [
        {1: ring, 4: box(3, 3, 5, 5)},
        {4: box(9, 0, 13, 4) | box(9, 6, 10, 9)},
        {},
        {1: box(0, 0, 1, 1), 7: box(12, 8, 13, 9)},
    ]
    return [
        clip(first, name="ants", pictures=folder / "ants"),
        clip([{1: box(0, 0, 13, 9)}, {4: box(2, 2, 4, 4)}], name="bees", pictures=folder / "bees"),
    ]


@pytest.fixture
def davis(tmp_path: Path, memory: list[object]) -> Path:
    """`two_videos` as DAVIS."""
    memory[:] = [two_videos(tmp_path / "in"), OBJECT]
    convert(tmp_path, tmp_path / "davis", read_as="memory", write_as="davis")
    return tmp_path / "davis"


# What comes back.


def test_davis_to_youtube_vis_to_vipseg_to_coco_and_back_is_the_same(tmp_path, davis):
    expected = [content(video) for video in two_videos(tmp_path / "in")]
    steps = [("davis", "ytvis"), ("ytvis", "vipseg"), ("vipseg", "coco"), ("coco", "back")]
    lost = []
    for source, target in steps:
        layout = "davis" if target == "back" else target
        found = convert(tmp_path / source, tmp_path / target, read_as=source, write_as=layout, lossy=True)
        lost.append(losses(found, FORMATS[layout]))
        assert [content(video) for video in read(tmp_path / target, layout)[1]] == expected
    # VIPSeg has one value for background and void; that is all that happens on the way.
    assert lost == [
        [],
        ["2 of 2 videos: there is background: it becomes void"],
        ["2 of 2 videos: there are void pixels: they become background"],
        [],
    ]
    files = [p.relative_to(davis) for p in sorted(davis.rglob("*.png"))]
    assert len(files) == 6
    for file in files:
        with Image.open(davis / file) as first, Image.open(tmp_path / "back" / file) as second:
            assert np.array_equal(np.asarray(first), np.asarray(second))
    pictures = [p.relative_to(davis) for p in sorted(davis.rglob("*.jpg"))]
    assert len(pictures) == 6
    assert all((davis / p).read_bytes() == (tmp_path / "back" / p).read_bytes() for p in pictures)


@pytest.mark.parametrize(
    "layout", ["ytvos", "sav", "vos", "ytvis", "coco", "burst", "cvat", "label-studio", "alpha", "alpha-video"]
)
def test_objects_go_through_every_layout_that_holds_them(tmp_path, davis, layout):
    convert(davis, tmp_path / "there", read_as="davis", write_as=layout)
    convert(tmp_path / "there", tmp_path / "back", read_as=layout, write_as="davis")
    for file in sorted(p.relative_to(davis) for p in davis.rglob("*") if p.suffix in (".png", ".txt")):
        assert (davis / file).read_bytes() == (tmp_path / "back" / file).read_bytes()
    keeps_pictures = not layout.startswith("alpha")
    assert len(list((tmp_path / "back").rglob("*.jpg"))) == (6 if keeps_pictures else 0)


@st.composite
def scenes(draw: st.DrawFn, folder: Path) -> tuple[VideoSample, CategorySet]:
    """A video with any mixture of what layouts differ in."""
    rarely = st.integers(0, 4).map(lambda chance: chance == 4)
    space = draw(st.sampled_from([OBJECT, OBJECT, ANIMALS, MIXED]))
    ids = draw(st.lists(st.sampled_from([1, 2, 3, 254, 255, 300, 1200]), min_size=1, max_size=3, unique=True))
    may_overlap, scored, crowded, may_change, has_void, fills = (draw(rarely) for _ in range(6))
    category = {number: draw(st.sampled_from([*space.ids, None])) for number in ids}
    stems = draw(st.sampled_from([["00000", "00001", "00002"], ["00000", "00005", "00010"]]))
    annotated = (True, True, not draw(rarely))
    frames = []
    for index in range(3):
        free, segments, shapes = np.ones(SIZE, bool), [], []
        for number in draw(st.lists(st.sampled_from(ids), unique=True)):
            mask = draw(masks()) & (True if may_overlap else free)
            free &= ~mask
            new = draw(st.sampled_from(space.ids)) if may_change else category[number]
            thing = None if new is None else space[new].is_thing
            segments.append(Segment(number, number, new, 0.5 if scored else None, thing))
            shapes.append(mask)
        if fills and shapes:
            shapes[-1] = shapes[-1] | free
            free = np.zeros(SIZE, bool)
        stack = torch.from_numpy(np.array(shapes, bool).reshape(-1, *SIZE))
        void = torch.from_numpy(free & box(0, 0, 4, 4)) if has_void else None
        crowd = frozenset(s.id for s in segments[:1]) if crowded else frozenset()
        frames.append(FrameAnnotation(FrameSegmentation.from_masks(index, tuple(segments), stack), void, crowd))
    image = folder / "picture.png"
    if not image.exists():
        cv2.imwrite(str(image), np.zeros((*SIZE, 3), np.uint8))
    pictured = not draw(rarely)
    refs = tuple(FrameRef(s, image if pictured else None, a) for s, a in zip(stems, annotated, strict=True))
    return VideoSample("set/clip" if draw(rarely) else "clip", refs, frames.__getitem__), space


MIXED = CategorySet(
    "mixed", (Category(3, "sky", is_thing=False), Category(5, "cat", is_thing=True), Category(9, "sea", is_thing=False))
)


def told(video: VideoSample, space: CategorySet) -> list[object]:
    """All that a video says, in a form that can be compared."""
    frames: list[object] = []
    for index, frame in enumerate(video.frames):
        if not frame.annotated:
            frames.append((frame.stem, None))
            continue
        annotation = video.annotation(index)
        segmentation = annotation.segmentation
        objects = {}
        for segment, mask in zip(segmentation.segments, segmentation.masks_nhw(), strict=True):
            if mask.any():
                name = "object" if segment.category is None else space[segment.category].name
                crowd = segment.id in annotation.crowd_ids
                objects[segment.track_id] = (mask.numpy().tobytes(), name, segment.score, crowd)
        void = annotation.void
        frames.append((frame.stem, objects, void.numpy().tobytes() if void is not None and void.any() else None))
    return [video.name, frames]


@pytest.mark.parametrize("layout", ANY_LABELS)
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_is_not_named_as_lost_comes_back(tmp_path_factory, memory, layout, data):
    folder = tmp_path_factory.mktemp("any")
    video, space = data.draw(scenes(folder))
    memory[:] = [[video], space]
    try:
        convert(folder, folder / "out", read_as="memory", write_as=layout)
    except InputError as error:
        assert "has no place for all of it" in str(error)
        assert not (folder / "out").exists()
        # What is named can be left out, and the rest is there to be read.
        try:
            convert(folder, folder / "out", read_as="memory", write_as=layout, lossy=True)
        except InputError as problem:
            assert "would be left" in str(problem)
        else:
            (back,) = read(folder / "out", layout)[1]
            shown = [index for index, frame in enumerate(back.frames) if frame.annotated]
            assert all(back.annotation(index).segmentation.size_hw == SIZE for index in shown)
    else:
        found, (back,) = read(folder / "out", layout)
        assert told(back, found) == told(video, space)


@pytest.mark.parametrize("layout", ANY_LABELS)
def test_every_frame_is_read_once_to_look_and_once_to_write(tmp_path, memory, layout):
    asked: list[int] = []
    video = clip([disjoint((1, 0, 0, 5, 5), (2, 3, 3, 9, 9))] * 4, pictures=tmp_path / "in")

    def read_annotation(index: int) -> FrameAnnotation:
        asked.append(index)
        return video.annotation(index)

    memory[:] = [[replace(video, read_annotation=read_annotation)], OBJECT]
    convert(tmp_path, tmp_path / "out", read_as="memory", write_as=layout, lossy=True)
    assert asked == [0, 1, 2, 3] * 2


def test_progress_counts_the_frames_of_both_passes(tmp_path, davis):
    calls: list[tuple[int, int]] = []
    convert(davis, tmp_path / "out", read_as="davis", write_as="coco", on_frame=lambda *call: calls.append(call))
    assert calls == [*((n, 12) for n in range(1, 13)), (12, 12)]


# What is lost.


def one(frames=None, **fields) -> VideoSample:
    """A video of one frame with one object in a corner, or these."""
    return clip([{1: box(0, 0, 3, 3)}] if frames is None else frames, **fields)


def changed(video: VideoSample, **fields) -> VideoSample:
    """The same with other fields of every annotation."""
    return replace(video, read_annotation=lambda index: replace(video.annotation(index), **fields))


def changing() -> VideoSample:
    video = clip([{1: box(0, 0, 3, 3)}] * 2)

    def read_annotation(index: int) -> FrameAnnotation:
        segmentation = video.annotation(index).segmentation
        return FrameAnnotation(segmentation.selected([0], (Segment(1, 1, 1 + index),)))

    return replace(video, read_annotation=read_annotation)


def crowd_at_first() -> VideoSample:
    video = clip([{1: box(0, 0, 3, 3)}] * 2)
    return replace(
        video,
        read_annotation=lambda index: replace(
            video.annotation(index), crowd_ids=frozenset() if index else frozenset({1})
        ),
    )


def soft() -> VideoSample:
    video = one()
    channels = torch.full((2, *SIZE), 0.5, dtype=torch.float16)
    segmentation = replace(video.annotation(0).segmentation, probabilities=channels)
    return replace(video, read_annotation=lambda _: FrameAnnotation(segmentation))


SKY = replace(MIXED, categories=MIXED.categories[:1])
FULL = {1: box(0, 0, 13, 9)}


@pytest.mark.parametrize(
    "video, space, layout, sentence",
    [
        pytest.param(
            one([{1: box(0, 0, 3, 3), 2: box(2, 2, 5, 5)}]), OBJECT, "davis", "masks overlap: only", id="overlaps"
        ),
        pytest.param(one(), ANIMALS, "alpha", "objects have categories: these are left out", id="categories"),
        pytest.param(
            one(categories={1: None}), ANIMALS, "coco", "objects have no category: these objects", id="no category"
        ),
        pytest.param(changing(), ANIMALS, "ytvis", "objects change their category", id="changing"),
        pytest.param(one(categories={1: 3}), SKY, "coco", "there is stuff: it is left out", id="stuff"),
        pytest.param(
            one([disjoint((1, 0, 0, 3, 3), (2, 4, 4, 5, 5))], categories={1: 3, 2: 5}),
            MIXED,
            "label-studio",
            "there are things and stuff: they are not told apart",
            id="things and stuff",
        ),
        pytest.param(
            one([disjoint((1, 0, 0, 3, 3), (2, 4, 4, 5, 5))]),
            ANIMALS,
            "vspw",
            "frames have several objects of one category: these become one",
            id="instances",
        ),
        pytest.param(one(), ANIMALS, "yolo", "objects have numbers: they get others", id="numbers"),
        pytest.param(
            one([FULL], categories={1: 2}), ANIMALS, "vipseg", "made from category and number", id="numbers of VIPSeg"
        ),
        pytest.param(clip([FULL] * 2), OBJECT, "yolo", "it is not said which is which", id="tracks"),
        pytest.param(one(scores={1: 0.5}), OBJECT, "cvat", "objects have scores: these are left out", id="scores"),
        pytest.param(soft(), OBJECT, "ytvis", "there are probabilities: these are not kept", id="probabilities"),
        pytest.param(
            changed(one(), crowd_ids=frozenset({1})), OBJECT, "burst", "there are crowds: they become", id="crowds"
        ),
        pytest.param(crowd_at_first(), OBJECT, "ytvis", "they become one on all", id="crowds at times"),
        pytest.param(
            changed(one(), void=torch.ones(SIZE, dtype=torch.bool)), OBJECT, "sav", "there are void pixels", id="void"
        ),
        pytest.param(one(), OBJECT, "vipseg", "there is background: it becomes void", id="background"),
        pytest.param(
            replace(one([FULL, FULL]), frames=(FrameRef("00000"), FrameRef("00001", annotated=False))),
            OBJECT,
            "davis",
            "frames have no labels: these frames are left out",
            id="frames without labels",
        ),
        pytest.param(
            one(stems=["00005"]), OBJECT, "alpha-video", "frames have names: they are numbered", id="names of frames"
        ),
        pytest.param(one([{}]), OBJECT, "sav", "no object is ever visible: the video is left out", id="no object"),
        pytest.param(one(), OBJECT, "yolo", "frames have no picture", id="no picture"),
        pytest.param(
            replace(one(), read_expressions=lambda: {"0": Expression("the cat", (1,))}),
            OBJECT,
            "ytvos",
            "there are sentences: these are left out",
            id="sentences",
        ),
        pytest.param(one(name="a/b"), OBJECT, "vos", "the name has a slash: it gets a hyphen", id="slash"),
        pytest.param(one([{255: box(0, 0, 1, 1)}]), OBJECT, "davis", "numbers beyond 254", id="large numbers"),
    ],
)
def test_every_loss_is_named_and_nothing_is_written(tmp_path, memory, video, space, layout, sentence):
    memory[:] = [[video], space]
    with pytest.raises(InputError, match="To convert it so, say --lossy") as caught:
        convert(tmp_path, tmp_path / "out", read_as="memory", write_as=layout)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_every_feature_is_lost_somewhere_and_held_somewhere_else():
    layouts = [FORMATS[name] for name in WRITTEN]
    nobody_holds = {f for f in Feature if not any(f in layout.holds | layout.with_pictures for layout in layouts)}
    assert nobody_holds == {Feature.EXPRESSIONS}
    assert all(any(f not in layout.holds for layout in layouts) for f in Feature)


def test_losses_count_videos(tmp_path):
    found = survey([one(), one([{1: box(0, 0, 3, 3), 2: box(2, 2, 5, 5)}], name="b")], OBJECT)
    assert (found.videos, found.frames) == (2, 2)
    assert losses(found, FORMATS["davis"]) == ["1 of 2 videos: masks overlap: only the one on top is kept"]


def test_a_lossy_conversion_keeps_the_mask_on_top(tmp_path, memory):
    memory[:] = [[one([{1: box(0, 0, 3, 3), 2: box(2, 2, 5, 5)}], scores={1: 0.9, 2: 0.1})], OBJECT]
    convert(tmp_path, tmp_path / "out", read_as="memory", write_as="davis", lossy=True)
    (video,) = read(tmp_path / "out", "davis")[1]
    assert content(video) == content(one([{1: box(0, 0, 3, 3), 2: box(2, 2, 5, 5) & ~box(0, 0, 3, 3)}]))


def test_numbers_that_are_too_large_are_counted_anew(tmp_path, memory):
    memory[:] = [[one([disjoint((300, 0, 0, 2, 2), (7, 4, 4, 6, 6))])], OBJECT]
    convert(tmp_path, tmp_path / "out", read_as="memory", write_as="davis", lossy=True)
    (video,) = read(tmp_path / "out", "davis")[1]
    assert content(video) == content(one([disjoint((2, 0, 0, 2, 2), (1, 4, 4, 6, 6))]))


def test_more_objects_than_there_are_numbers_are_refused(tmp_path, memory):
    pixels = [(n, x, y) for n, (y, x) in enumerate(np.ndindex(20, 20), 1)]
    frame = {n: box(x, y, x + 1, y + 1, (20, 20)) for n, x, y in pixels}
    memory[:] = [[clip([frame], size_hw=(20, 20))], OBJECT]
    with pytest.raises(InputError, match="clip has 400 objects: DAVIS-2017 ends at 254"):
        convert(tmp_path, tmp_path / "out", read_as="memory", write_as="davis", lossy=True)
    assert not list(tmp_path.iterdir())


def test_hyphens_must_not_make_two_videos_one(tmp_path, memory):
    memory[:] = [[one(name="a/b"), one(name="a-b")], OBJECT]
    with pytest.raises(InputError, match="two videos of one name, as DAVIS-2017 would call them"):
        convert(tmp_path, tmp_path / "out", read_as="memory", write_as="davis", lossy=True)


# Categories.


def mapping(folder: Path, **categories: str | None) -> Path:
    path = folder / "map.json"
    path.write_text(json.dumps(categories))
    return path


def test_categories_of_any_name_go_from_youtube_vis_to_coco(tmp_path, memory):
    memory[:] = [[one([disjoint((1, 0, 0, 2, 2), (2, 4, 4, 6, 6))], categories={1: 2, 2: 1})], ANIMALS]
    convert(tmp_path, tmp_path / "a", read_as="memory", write_as="ytvis")
    convert(tmp_path / "a", tmp_path / "b", read_as="ytvis", write_as="coco")
    space, (video,) = read(tmp_path / "b", "coco")
    assert labels(video, space) == {1: 'a "big" dog & co', 2: "cat"}


def test_objects_without_categories_become_the_class_object(tmp_path, davis):
    convert(davis, tmp_path / "out", read_as="davis", write_as="ytvis")
    space, videos = read(tmp_path / "out", "ytvis")
    assert space.names == ("object",)
    assert labels(videos[0], space) == {1: "object", 4: "object", 7: "object"}


def test_a_map_names_drops_and_joins_categories(tmp_path, memory):
    frame = disjoint((1, 0, 0, 2, 2), (2, 4, 4, 6, 6), (3, 8, 0, 9, 1))
    memory[:] = [[one([frame], categories={1: 3, 2: 5, 3: 9})], MIXED]
    chosen = mapping(tmp_path, sky=None, cat="animal", sea="water")
    convert(tmp_path, tmp_path / "out", read_as="memory", write_as="cvat", category_map=chosen, lossy=True)
    space, (video,) = read(tmp_path / "out", "cvat")
    assert labels(video, space) == {2: "animal", 3: "water"}


@pytest.mark.parametrize("layout, category", [("kitti-step", "car"), ("mots", "pedestrian")])
def test_layouts_with_their_own_categories_need_a_map(tmp_path, davis, layout, category):
    with pytest.raises(InputError, match=f"{layout} has the categories .* so not 'object': say with --map"):
        convert(davis, tmp_path / "out", read_as="davis", write_as=layout)
    chosen = mapping(tmp_path, object=category)
    convert(davis, tmp_path / "out", read_as="davis", write_as=layout, category_map=chosen, lossy=True)
    space, videos = read(tmp_path / "out", layout)
    assert set(labels(videos[0], space).values()) == {category}
    expected = [sorted(frame.values()) for frame in content(two_videos(tmp_path / "in")[0])]
    assert [sorted(frame.values()) for frame in content(videos[0])] == expected


def test_what_people_drew_are_things_in_panoptic_layouts(tmp_path, davis):
    convert(davis, tmp_path / "cvat", read_as="davis", write_as="cvat")
    assert [c.is_thing for c in read(tmp_path / "cvat", "cvat")[0].categories] == [None]
    convert(tmp_path / "cvat", tmp_path / "vipseg", read_as="cvat", write_as="vipseg", lossy=True)
    assert [c.is_thing for c in read(tmp_path / "vipseg", "vipseg")[0].categories] == [True]


def test_things_stuff_and_crowds_go_through_vipseg(tmp_path, memory):
    frame = disjoint((1, 0, 0, 13, 4), (2, 0, 4, 13, 9))
    video = changed(one([frame], categories={1: 3, 2: 5}), crowd_ids=frozenset({2}))
    memory[:] = [[video], MIXED]
    found = convert(tmp_path, tmp_path / "out", read_as="memory", write_as="vipseg", lossy=True)
    assert [sentence.split(": ")[1] for sentence in losses(found, FORMATS["vipseg"])] == [
        "objects have several categories"
    ]
    space, (back,) = read(tmp_path / "out", "vipseg")
    kinds = {s.id: (space[s.category or 0].name, s.is_thing) for s in back.annotation(0).segmentation.segments}
    assert sorted(kinds.values()) == [("cat", True), ("sky", False)]
    assert [kinds[number] for number in back.annotation(0).crowd_ids] == [("cat", True)]


# Files, pictures and splits.


@pytest.mark.parametrize("layout", ["ytvis", "coco"])
def test_labels_alone_may_be_one_file(tmp_path, davis, layout):
    convert(davis, tmp_path / "labels.json", read_as="davis", write_as=layout)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["davis", "in", "labels.json"]
    _, videos = read(tmp_path / "labels.json", layout)
    assert [content(video) for video in videos] == [content(video) for video in two_videos(tmp_path / "in")]


def test_a_file_of_cvat_holds_one_video(tmp_path, davis, memory):
    with pytest.raises(InputError, match=r"a\.xml cannot hold 2 videos: name a folder instead"):
        convert(davis, tmp_path / "a.xml", read_as="davis", write_as="cvat")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["davis", "in"]
    memory[:] = [[one()], OBJECT]
    convert(tmp_path, tmp_path / "a.xml", read_as="memory", write_as="cvat")
    assert content(read(tmp_path / "a.xml", "cvat")[1][0]) == content(one())


def test_pictures_may_stay_behind(tmp_path, davis):
    convert(davis, tmp_path / "out", read_as="davis", write_as="coco", images="none")
    assert not list((tmp_path / "out").rglob("*.jpg"))


def test_frames_without_labels_are_kept_where_their_pictures_are(tmp_path, memory):
    video = clip([FULL, {}, FULL], pictures=tmp_path / "in")
    sparse = replace(video, frames=tuple(replace(f, annotated=n != 1) for n, f in enumerate(video.frames)))
    memory[:] = [[sparse], OBJECT]
    for layout in ("vos", "sav", "ytvos", "burst", "label-studio"):
        convert(tmp_path, tmp_path / layout, read_as="memory", write_as=layout)
        (back,) = read(tmp_path / layout, layout)[1]
        assert [frame.annotated for frame in back.frames] == [True, False, True], layout
    with pytest.raises(InputError, match="frames have no labels: these frames are left out"):
        convert(tmp_path, tmp_path / "none", read_as="memory", write_as="vos", images="none")


def test_a_split_may_be_named(tmp_path, davis):
    (davis / "ImageSets" / "2017" / "train.txt").write_text("bees\n")
    (davis / "ImageSets" / "2017" / "val.txt").write_text("ants\n")
    for split, name in ((None, "ants"), ("train", "bees")):
        convert(davis, tmp_path / name, read_as="davis", write_as="davis", split=split)
        assert (tmp_path / name / "ImageSets" / "2017" / "val.txt").read_text() == f"{name}\n"


def test_the_output_of_a_run_can_be_converted(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    video = one([{1: box(0, 0, 3, 3)}, {2: box(2, 2, 5, 5)}], scores={1: 0.5})
    with JournalWriter(run / "segments.jsonl", size_hw=SIZE) as journal:
        for index in range(2):
            journal.write(video.annotation(index).segmentation, index / 24)
    with pytest.raises(InputError, match="objects have scores"):
        convert(run, tmp_path / "out", read_as="maskstream", write_as="ytvis")
    convert(run, tmp_path / "out", read_as="maskstream", write_as="label-studio")
    (back,) = read(tmp_path / "out", "label-studio")[1]
    assert (back.name, content(back)) == ("run", content(video))
    assert back.annotation(0).segmentation.segments[0].score == 0.5


def test_probabilities_go_through_soft_masks(tmp_path, memory):
    channels = torch.from_numpy(np.stack([~box(0, 0, 3, 3), box(0, 0, 3, 3)]).astype(np.float16))
    segmentation = replace(one().annotation(0).segmentation, probabilities=channels)
    memory[:] = [[replace(one(), read_annotation=lambda _: FrameAnnotation(segmentation))], OBJECT]
    convert(tmp_path, tmp_path / "a", read_as="memory", write_as="soft")
    convert(tmp_path / "a", tmp_path / "b", read_as="soft", write_as="soft")
    for folder in ("a", "b"):
        (video,) = read(tmp_path / folder, "soft")[1]
        found = video.annotation(0).segmentation.probabilities
        assert found is not None
        assert torch.equal(found.float(), channels.float())
    with pytest.raises(InputError, match="it has no probabilities; ask for soft results"):
        memory[:] = [[one()], OBJECT]
        convert(tmp_path, tmp_path / "c", read_as="memory", write_as="soft")


# Bad input.


@pytest.mark.parametrize(
    "read_as, write_as, message",
    [
        pytest.param("davies", "coco", "there is no layout 'davies'; known: davis, ytvos", id="source"),
        pytest.param("davis", "cocoa", "there is no layout 'cocoa'; known: davis, ytvos", id="target"),
        pytest.param("davis", "maskstream", "is read, but not written here: choose one of davis", id="only read"),
    ],
)
def test_unknown_layouts_are_refused_with_a_list(tmp_path, davis, read_as, write_as, message):
    with pytest.raises(InputError, match=message):
        convert(davis, tmp_path / "out", read_as=read_as, write_as=write_as)


def test_a_damaged_picture_is_named_and_nothing_is_left(tmp_path, davis):
    path = davis / "Annotations" / "480p" / "ants" / "00001.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"ants/00001\.png cannot be read as a PNG mask") as caught:
        convert(davis, tmp_path / "out", read_as="davis", write_as="coco")
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["davis", "in"]


def test_a_number_used_twice_is_named(tmp_path, davis):
    convert(davis, tmp_path / "a.json", read_as="davis", write_as="coco")
    plain = json.loads((tmp_path / "a.json").read_text())
    plain["annotations"][1]["track_id"] = plain["annotations"][0]["track_id"]
    (tmp_path / "a.json").write_text(json.dumps(plain))
    with pytest.raises(InputError, match=r"a\.json, annotation 2 of image 1: this id is used twice"):
        convert(tmp_path / "a.json", tmp_path / "out", read_as="coco", write_as="davis")


def test_a_mask_without_a_picture_is_named(tmp_path, davis):
    (davis / "JPEGImages" / "480p" / "ants" / "00001.jpg").unlink()
    with pytest.raises(InputError, match=r"ants/00001\.png belongs to no picture"):
        convert(davis, tmp_path / "out", read_as="davis", write_as="coco")


@pytest.mark.parametrize("layout", FORMATS)
def test_a_folder_of_something_else_is_one_clear_line(tmp_path, layout):
    (tmp_path / "notes.txt").write_text("nothing of the kind")
    with pytest.raises(InputError) as caught:
        convert(tmp_path, tmp_path / "out", read_as=layout, write_as="coco")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"there is no .*missing"):
        convert(tmp_path / "missing", tmp_path / "out", read_as=layout, write_as="coco")


@pytest.mark.parametrize(
    "layout, split, message",
    [
        pytest.param("davis", "valid", "there is no split 'valid'; there are val, train", id="unknown"),
        pytest.param("cvat", "val", "has no splits, so no 'val'", id="none"),
    ],
)
def test_unknown_splits_are_refused(tmp_path, layout, split, message):
    with pytest.raises(InputError, match=message):
        convert(tmp_path, tmp_path / "out", read_as=layout, write_as="coco", split=split)


@pytest.mark.parametrize("name", ["full", "file.json"])
def test_what_exists_is_not_overwritten(tmp_path, davis, name):
    target = tmp_path / name
    if name == "full":
        (target / "mine").mkdir(parents=True)
    else:
        target.write_text("mine")
    with pytest.raises(OutputError, match=f"{name} exists: remove it"):
        convert(davis, target, read_as="davis", write_as="coco")


def test_hidden_labels_cannot_be_converted(tmp_path, memory):
    memory[:] = [[replace(one(), read_annotation=None)], OBJECT]
    with pytest.raises(MaskstreamError, match="clip: this data set does not show the labels"):
        convert(tmp_path, tmp_path / "out", read_as="memory", write_as="coco")
