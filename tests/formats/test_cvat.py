from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given

from maskstream.formats.cvat import boxed_runs, read_cvat, write_cvat, write_cvat_file
from maskstream.types import CategorySet, InputError, MaskstreamWarning

from .clips import ANIMALS, box, clip, content, labels, videos

CAT = CategorySet.from_names(["cat"])

EXPORT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>5</id><name>walk.mp4</name><size>4</size><mode>interpolation</mode>
      <labels><label><name>car</name><color>#ff8000</color><attributes></attributes></label></labels>
      <original_size><width>6</width><height>4</height></original_size>
    </task>
    <dumped>2018-09-25 16:05:07.134046+03:00</dumped>
  </meta>
  {tracks}
</annotations>
"""
"""As CVAT writes it (docs.cvat.ai/docs/other/xml_format, "Interpolation")."""


def exported(folder, tracks, **replaced):
    text = EXPORT.format(tracks=tracks)
    for old, new in replaced.items():
        text = text.replace(f"<{old}>", f"<{new}>").replace(f"</{old}>", f"</{new}>")
    path = folder / "export.xml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "mask, box_xywh, runs",
    [
        # Row 0: .XX, row 1: X.X: one outside, two inside and … read on from row to row.
        pytest.param(["....", ".XX.", "X.X."], (0, 1, 3, 2), [1, 3, 1, 1], id="begins outside"),
        pytest.param(["XX..", "X..."], (0, 0, 2, 2), [0, 3, 1], id="begins inside"),
        pytest.param(["....", "..X."], (2, 1, 1, 1), [0, 1], id="one pixel"),
    ],
)
def test_a_mask_is_runs_along_the_rows_of_its_box(mask, box_xywh, runs):
    assert boxed_runs(np.array([[pixel == "X" for pixel in row] for row in mask])) == (box_xywh, runs)


@given(frames=videos())
def test_masks_and_ids_come_back(tmp_path_factory, frames):
    path = tmp_path_factory.mktemp("cvat") / "clip.xml"
    video = clip(frames)
    write_cvat_file(path, video, CAT)
    categories, (read,) = read_cvat(path)
    assert content(read) == content(video)
    assert (read.name, categories.names) == ("clip", ("cat",))
    assert [frame.stem for frame in read.frames] == [frame.stem for frame in video.frames]


def test_labels_and_pictures_come_back(tmp_path):
    frames = [{4: box(0, 0, 2, 2), 7: box(1, 1, 5, 5)}, {4: box(3, 3, 5, 5)}]
    first = clip(frames, categories={4: 2, 7: 1}, pictures=tmp_path / "in", stems=["010", "020"])
    second = clip([{1: box(0, 0, 1, 1)}], name="other")
    write_cvat(tmp_path / "out", [first, second], ANIMALS)
    categories, read = read_cvat(tmp_path / "out")
    assert [video.name for video in read] == ["clip", "other"]
    assert categories.names == ANIMALS.names
    assert labels(read[0], categories) == {4: 'a "big" dog & co', 7: "cat"}
    assert [frame.stem for frame in read[0].frames] == ["010", "020"]
    assert all(frame.image is not None and frame.image.exists() for frame in read[0].frames)


def test_every_mask_is_a_track_that_ends_on_the_next_frame_as_cvat_wants_it(tmp_path):
    frames = [{3: box(0, 0, 2, 2)}, {3: box(1, 0, 3, 2)}]
    write_cvat_file(tmp_path / "clip.xml", clip(frames), CAT)
    tracks = ElementTree.parse(tmp_path / "clip.xml").findall("track")
    shapes = [[(m.get("frame"), m.get("outside"), m.get("keyframe")) for m in track] for track in tracks]
    assert shapes == [[("0", "0", "1"), ("1", "1", "1")], [("1", "0", "1")]]
    assert [track.findtext("mask/attribute[@name='track_id']") for track in tracks] == ["3", "3"]


def test_what_cvat_exports_is_read(tmp_path):
    path = exported(
        tmp_path,
        """
  <track id="0" label="car" source="manual">
    <mask frame="1" keyframe="1" outside="0" occluded="0" rle="1, 2" left="2" top="1" width="3" height="1" z_order="0">
    </mask>
    <mask frame="2" keyframe="1" outside="1" occluded="0" rle="1, 2" left="2" top="1" width="3" height="1" z_order="0">
    </mask>
  </track>
  <track id="1" label="car" source="manual">
    <polygon frame="1" points="0.00,0.00;2.00,0.00;2.00,2.00;0.00,2.00" outside="0" occluded="0" keyframe="1">
    </polygon>
    <box frame="3" xtl="4.00" ytl="2.00" xbr="6.00" ybr="4.00" outside="0" occluded="0" keyframe="0"></box>
  </track>
  <track id="2" label="wheel" source="manual">
    <mask frame="3" keyframe="1" outside="0" occluded="0" rle="0, 1" left="0" top="3" width="1" height="1" z_order="0">
      <attribute name="track_id">9</attribute>
    </mask>
  </track>""",
    )
    categories, (video,) = read_cvat(path)
    assert [(c.id, c.name, c.colour) for c in categories.categories] == [(1, "car", (255, 128, 0)), (2, "wheel", None)]
    assert (video.name, len(video)) == ("walk.mp4", 4)
    # Objects without the attribute are numbered behind those that have it.
    assert content(video) == [
        {},
        {10: [(1, 3), (1, 4)], 11: [(0, 0), (0, 1), (1, 0), (1, 1)]},
        {},
        {11: [(2, 4), (2, 5), (3, 4), (3, 5)], 9: [(3, 0)]},
    ]


def test_pieces_with_one_track_id_are_one_object(tmp_path):
    piece = """<track id="{}" label="car"><box frame="0" keyframe="1" outside="0" xtl="{}" ytl="0" xbr="{}" ybr="1">
      <attribute name="track_id">5</attribute></box></track>"""
    path = exported(tmp_path, piece.format(0, 0, 1) + piece.format(1, 3, 4))
    assert content(read_cvat(path)[1][0])[0] == {5: [(0, 0), (0, 3)]}


def test_shapes_that_are_no_regions_are_left_out_aloud(tmp_path):
    path = exported(tmp_path, '<track id="0" label="car"><points frame="0" keyframe="1" points="1,1" /></track>')
    with pytest.warns(MaskstreamWarning, match=r"export\.xml: 1 shapes that are no regions"):
        _, (video,) = read_cvat(path)
    assert content(video)[0] == {}


MASK = '<mask frame="0" keyframe="1" outside="0" rle="{}" left="{}" top="0" width="2" height="1" />'


@pytest.mark.parametrize(
    "tracks, message",
    [
        pytest.param("<track>", "cannot be read as XML", id="cut off"),
        pytest.param('<image id="0" name="a.jpg"></image>', "is 'CVAT for images'", id="for images"),
        pytest.param('<track id="0" label="a" /><track id="0" label="a" />', "two tracks with the id 0", id="ids"),
        pytest.param('<track label="car" />', "is not 'CVAT for video 1.1': KeyError('id')", id="no id"),
        pytest.param(
            f'<track id="0" label="car">{MASK.format("0, x", 0)}</track>', "is not 'CVAT for video 1.1'", id="no number"
        ),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path, tracks, message):
    path = exported(tmp_path, tracks)
    with pytest.raises(InputError, match=r"export\.xml") as caught:
        read_cvat(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rle, left",
    [pytest.param("0, 3", 0, id="more runs than box"), pytest.param("0, 2", 5, id="beyond the frame")],
)
def test_a_mask_that_does_not_fit_names_its_frame(tmp_path, rle, left):
    path = exported(tmp_path, f'<track id="0" label="car">{MASK.format(rle, left)}</track>')
    _, (video,) = read_cvat(path)
    with pytest.raises(InputError, match=r"export\.xml, frame 0: the mask of track 0 .* does not fit a frame of 4×6"):
        video.annotation(0)


def test_a_file_without_the_size_of_frames_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"does not say how large its frames are \(original_size\)"):
        read_cvat(exported(tmp_path, "", original_size="other"))


def test_missing_pictures_are_counted(tmp_path):
    write_cvat(tmp_path, [clip([{}, {}, {}], pictures=tmp_path / "in")], CAT)
    (tmp_path / "clip" / "images" / "00001.jpg").unlink()
    with pytest.raises(InputError, match=r"images has 2 pictures, but .*annotations\.xml has 3 frames"):
        read_cvat(tmp_path / "clip")


def test_two_videos_of_one_name_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no annotations\.xml: export the task"):
        read_cvat(tmp_path)
    for name in ("a.xml", "b.xml"):
        write_cvat_file(tmp_path / name, clip([{}]), CAT)
    with pytest.raises(InputError, match=r"b\.xml and .*a\.xml are both the video clip: rename one"):
        read_cvat(tmp_path)


def test_an_object_without_category_is_refused(tmp_path):
    video = clip([{3: box(0, 0, 1, 1)}], categories={3: None})
    with pytest.raises(InputError, match="object 3 of clip has no category, which CVAT needs"):
        write_cvat_file(tmp_path / "a.xml", video, CAT)
