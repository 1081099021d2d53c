import json

import numpy as np
import pytest

from maskstream.datasets.referring import INFOS, read_mevis, read_ref_davis, read_ref_ytvos
from maskstream.types import Expression, InputError, Task

from . import trees_referring as trees

SPLITS = {"ref-davis": "val", "ref-ytvos": "train", "mevis": "valid_u"}
TREES = {"ref-davis": trees.ref_davis, "ref-ytvos": trees.ref_ytvos, "mevis": trees.mevis}


def masks_by_track(annotation):
    segmentation = annotation.segmentation
    return {
        segment.track_id: mask.numpy()
        for segment, mask in zip(segmentation.segments, segmentation.masks_nhw(), strict=True)
        if mask.any()
    }


def assert_masks(annotation, expected):
    found = masks_by_track(annotation)
    assert sorted(found) == sorted(n for n, mask in expected.items() if mask.any())
    assert all(np.array_equal(mask, expected[n]) for n, mask in found.items())


# Ref-DAVIS17.


def test_four_text_files_number_the_expressions_of_every_object(tmp_path):
    dataset = read_ref_davis(trees.ref_davis(tmp_path), "val")
    assert [video.name for video in dataset.videos] == ["classic-car", "goat"]
    car, goat = dataset.videos
    assert car.expressions() == {
        str(4 * (k - 1) + a): Expression(f"un café dit {a}" if k == 1 else f"a car says {a}", (k,))
        for k in (1, 2)
        for a in range(4)
    }
    assert [one.text for one in goat.expressions().values()] == [f'a "goat" says {a}' for a in range(4)]
    assert dataset.numbers == {"classic-car": tuple("01234567"), "goat": tuple("0123")}


@pytest.mark.parametrize("root", ["", "DAVIS"], ids=["the folder of both", "DAVIS with the texts inside"])
def test_ref_davis_is_found_from_either_folder(tmp_path, root):
    trees.ref_davis(tmp_path)
    (tmp_path / "davis_text_annotations").rename(tmp_path / root / "davis_text_annotations")
    assert len(read_ref_davis(tmp_path / root, "val").videos) == 2


@pytest.mark.parametrize("tree", [trees.ref_davis, trees.ref_davis_derived], ids=["texts", "meta_expressions"])
def test_ref_davis_has_objects_and_void(tmp_path, tree):
    for video in read_ref_davis(tree(tmp_path), "val").videos:
        assert [frame.stem for frame in video.frames] == ["00000", "00001", "00002"]
        assert video.frames[0].image == tmp_path / "DAVIS" / "JPEGImages" / "480p" / video.name / "00000.jpg"
        for index, ids in enumerate(trees.davis_ids(video.name)):
            annotation = video.annotation(index)
            assert_masks(annotation, {n: ids == n for n in (1, 2)})
            assert annotation.void is not None
            assert np.array_equal(annotation.void.numpy(), ids == 255)


def test_derived_expressions_are_preferred_to_texts(tmp_path):
    dataset = read_ref_davis(trees.ref_davis_derived(tmp_path), "val")
    assert dataset.videos[0].expressions()["6"] == Expression("2 as 2 says", (2,))


# Ref-YouTube-VOS.


def test_validation_videos_are_those_listed_in_valid_and_not_in_test(tmp_path):
    dataset = read_ref_ytvos(trees.ref_ytvos(tmp_path), "valid")
    assert [video.name for video in dataset.videos] == ["v1", "v2"]
    assert dataset.hidden
    assert dataset.videos[0].expressions() == {"0": Expression("someone"), "1": Expression("someone else")}
    with pytest.raises(InputError, match="v1: this data set does not show the labels"):
        dataset.videos[0].annotation(0)


def test_the_training_set_says_whom_an_expression_means(tmp_path):
    dataset = read_ref_ytvos(trees.ref_ytvos(tmp_path), "train")
    assert not dataset.hidden
    for seed, video in enumerate(dataset.videos):
        assert [frame.stem for frame in video.frames] == list(trees.YTVOS_STEMS)
        assert video.expressions()["1"] == Expression("the other", (2,))
        for index, ids in enumerate(trees.scene(seed)):
            assert_masks(video.annotation(index), {n: ids == n for n in (1, 2)})


def test_a_frame_without_a_mask_is_not_annotated(tmp_path):
    trees.ref_ytvos(tmp_path)
    (tmp_path / "train" / "Annotations" / "a1" / "00005.png").unlink()
    assert [frame.annotated for frame in read_ref_ytvos(tmp_path, "train").videos[0].frames] == [True, False, True]


def test_a_validation_set_may_show_its_labels_as_synthetic_ones_do(tmp_path):
    trees.ref_ytvos(tmp_path)
    (tmp_path / "meta_expressions" / "valid").rename(tmp_path / "elsewhere")
    for folder in (tmp_path, tmp_path / "meta_expressions"):
        (folder / "train").rename(folder / "valid")
    assert not read_ref_ytvos(tmp_path, "val").hidden


# MeViS.


@pytest.mark.parametrize("root", [".", "valid_u", ".."], ids=["folder of splits", "split", "parent"])
def test_objects_of_mevis_are_numbered_within_their_video_and_may_overlap(tmp_path, root):
    trees.mevis(tmp_path / "MeViS")
    one, other = read_mevis((tmp_path / "MeViS" / root).resolve(), "valid_u").videos
    masks = trees.mevis_masks()
    assert one.expressions() == {"0": Expression("those that move", (1, 2)), "1": Expression("the last", (2,))}
    assert other.expressions() == {"0": Expression("it", (1,))}
    for index in range(3):
        assert_masks(one.annotation(index), {1: masks[3][index], 2: masks[11][index]})
        assert_masks(other.annotation(index), {1: masks[4][index]})
    assert masks_by_track(one.annotation(0))[1][masks[11][0]].any()


def test_hidden_labels_of_mevis_stay_hidden(tmp_path):
    dataset = read_mevis(trees.mevis(tmp_path), "valid")
    assert dataset.hidden
    assert dataset.videos[0].expressions() == {"0": Expression("someone")}


# All of them.


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_sentences_are_prompts_that_carry_the_number_of_the_expression(tmp_path, info):
    video = info.open(TREES[info.name](tmp_path), SPLITS[info.name]).videos[0]
    prompts = video.prompts(Task.REFVOS)
    assert [(p.prompt_id, p.text) for p in prompts] == [(n, one.text) for n, one in video.expressions().items()]
    assert {p.kind for p in prompts} == {"expression"}
    with pytest.raises(InputError, match="sentences for refvos, but no prompts for the task vos"):
        video.prompts(Task.VOS)


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_nothing_but_lists_is_read_on_opening(tmp_path, info):
    root = TREES[info.name](tmp_path)
    for path in (*root.rglob("*.png"), *root.rglob("mask_dict.json")):
        path.write_bytes(b"")
    assert len(info.open(root, SPLITS[info.name]).videos) == 2


def edit_meta(path, change):
    plain = json.loads(path.read_text())
    change(plain["videos"])
    path.write_text(json.dumps(plain))


def spoil(path, content):
    return lambda root: (root / path).write_bytes(content)


def change(path, edit):
    return lambda root: edit_meta(root / path, edit)


def edit_masks(edit):
    def spoiled(root):
        path = root / "valid_u" / "mask_dict.json"
        path.write_text(edit(path.read_text()))

    return spoiled


DAVIS_MASK = "DAVIS/Annotations_unsupervised/480p/classic-car/00000.png"
TEXT = "davis_text_annotations/Davis17_annot2.txt"


@pytest.mark.parametrize(
    "name, spoiling, message",
    [
        pytest.param("ref-davis", spoil(DAVIS_MASK, b"PNG"), r"classic-car/00000.png is not a PNG", id="damaged mask"),
        pytest.param(
            "ref-davis", spoil(TEXT, b"goat one"), r"annot2.txt, line 1: a line must be: VIDEO OBJECT", id="other text"
        ),
        pytest.param(
            "ref-davis",
            spoil(TEXT, b'goat 1 "a"\ngoat 1 "b"'),
            r"annot2.txt, line 2: object 1 of goat is described twice",
            id="described twice",
        ),
        pytest.param(
            "ref-davis",
            lambda root: (root / TEXT).unlink(),
            r"annot2.txt cannot be read as expressions of Ref-DAVIS17",
            id="text missing",
        ),
        pytest.param(
            "ref-davis",
            spoil("davis_text_annotations/Davis17_annot1.txt", b'goat 1 "caf\xe9"'),
            r"annot1.txt cannot be read as expressions",
            id="wrong encoding",
        ),
        pytest.param(
            "ref-davis",
            lambda root: (root / DAVIS_MASK).parent.rename(root / "elsewhere"),
            r"480p/classic-car has no annotation, but classic-car is in the split val",
            id="no masks of a video",
        ),
        pytest.param(
            "ref-davis",
            spoil("DAVIS/ImageSets/2017/val.txt", b"elephant\n"),
            r"there is no expression for elephant, a video of val",
            id="video without expression",
        ),
        pytest.param(
            "ref-ytvos",
            spoil("meta_expressions/train/meta_expressions.json", b'{"videos": {'),
            r"meta_expressions.json cannot be read as expressions",
            id="cut off",
        ),
        pytest.param(
            "ref-ytvos",
            spoil("meta_expressions/train/meta_expressions.json", b'{"info": {}, "images": []}'),
            r"meta_expressions.json lists no expressions",
            id="another JSON",
        ),
        pytest.param(
            "ref-ytvos",
            change("meta_expressions/train/meta_expressions.json", lambda videos: videos["b2"].pop("frames")),
            r"meta_expressions.json, b2: there is no 'frames'",
            id="no frames",
        ),
        pytest.param(
            "ref-ytvos",
            change("meta_expressions/train/meta_expressions.json", lambda v: v["b2"]["frames"].append("00000")),
            r"meta_expressions.json, b2: a frame is listed twice",
            id="frame twice",
        ),
        pytest.param(
            "ref-ytvos",
            change(
                "meta_expressions/train/meta_expressions.json",
                lambda v: v["a1"]["expressions"]["0"].update(obj_id="first"),
            ),
            r"meta_expressions.json, a1: this is not as it should be",
            id="obj_id is no number",
        ),
        pytest.param(
            "ref-ytvos",
            lambda root: (root / "meta_expressions").rename(root / "meta"),
            r"has no meta_expressions/train/meta_expressions.json .* it has meta/, train/",
            id="wrong root",
        ),
        pytest.param(
            "mevis",
            lambda root: (root / "valid_u" / "mask_dict.json").unlink(),
            r"there is no .*mask_dict.json, the masks of MeViS",
            id="no masks",
        ),
        pytest.param("mevis", spoil("valid_u/mask_dict.json", b""), r"mask_dict.json cannot be read", id="empty file"),
        pytest.param("mevis", spoil("valid_u/mask_dict.json", b"{}"), r"mask_dict.json has no masks", id="empty map"),
        pytest.param(
            "mevis",
            edit_masks(lambda t: t.replace('"11"', '"12"')),
            r"mask_dict.json has no object 11",
            id="unknown id",
        ),
        pytest.param(
            "mevis", edit_masks(lambda t: t.replace('"11"', '"3"')), r"mask_dict.json has object 3 twice", id="id twice"
        ),
        pytest.param(
            "mevis",
            edit_masks(lambda t: t[: t.index('"11"') + 40]),
            r"mask_dict.json, object 11: this is not",
            id="cut off",
        ),
        pytest.param(
            "mevis",
            edit_masks(lambda t: t.replace('"counts": "', '"counts": "zz')),
            r"mask_dict.json, object 3: a run-length code is damaged",
            id="damaged code",
        ),
        pytest.param(
            "mevis",
            edit_masks(lambda t: t.replace("null, ", "")),
            r"mask_dict.json, object 11: it has masks for 2 frames, but m1 has 3",
            id="too few masks",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line_that_names_the_file(tmp_path, name, spoiling, message):
    root = TREES[name](tmp_path)
    spoiling(root)
    info = next(info for info in INFOS if info.name == name)
    with pytest.raises(InputError, match=message) as refusal:
        for video in info.open(root, SPLITS[name]).videos:
            video.annotation(0)
    assert "\n" not in str(refusal.value)
