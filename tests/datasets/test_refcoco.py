import json
import os
import pickle

import numpy as np
import pytest

from maskstream.datasets.refcoco import read_refcoco
from maskstream.types import Expression, InputError, Task, TextPrompt

from . import trees_referring as trees


def masks_of(video):
    segmentation = video.annotation(0).segmentation
    return dict(zip([s.track_id for s in segmentation.segments], segmentation.masks_nhw().numpy(), strict=True))


@pytest.mark.parametrize("folder", ["", "refcoco"], ids=["its folder", "the folder of all three"])
def test_images_have_the_sentences_and_objects_of_the_split(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    trees.refcoco(tmp_path / folder)
    (video,) = read_refcoco(tmp_path, "val").videos
    assert video.name == trees.IMAGE
    assert video.expressions() == {
        "10": Expression("red car", (1,)),
        "11": Expression("café on the left", (1,)),
        "13": Expression("people", (2,)),
        "12": Expression("dog", (3,)),
    }
    masks = trees.refcoco_masks()
    found = masks_of(video)
    for track, annotation in enumerate((trees.CAR, trees.CROWD, trees.DOG), 1):
        assert np.array_equal(found[track], masks[annotation])
    assert video.prompts(Task.REFVOS)[3] == TextPrompt("dog", "expression", prompt_id="12")


def test_pictures_are_looked_for_where_the_toolbox_of_refcoco_has_them(tmp_path):
    data = tmp_path / "data" / "refcoco"
    data.mkdir(parents=True)
    trees.refcoco(data)
    (video,) = read_refcoco(data, "val").videos
    assert video.frames[0].image == data / "train2014" / f"{trees.IMAGE}.jpg"
    folder = tmp_path / "data" / "images" / "mscoco" / "images" / "train2014"
    folder.mkdir(parents=True)
    (video,) = read_refcoco(data, "val").videos
    assert video.frames[0].image == folder / f"{trees.IMAGE}.jpg"


@pytest.mark.parametrize("place", ["", "instances_val.json"], ids=["folder", "file"])
def test_flat_files_have_sentences_about_all_annotations_of_an_entry(tmp_path, place):
    (video,) = read_refcoco(trees.refcoco_flat(tmp_path) / place, "val").videos
    assert video.name == trees.IMAGE
    assert video.expressions() == {
        "0": Expression("dog", (1,)),
        "1": Expression("the dog", (1,)),
        "2": Expression("both", (2, 3)),
    }
    masks = trees.refcoco_masks()
    found = masks_of(video)
    assert all(np.array_equal(found[n], masks[o]) for n, o in ((1, trees.DOG), (2, trees.DOG), (3, trees.CROWD)))


def test_a_pickle_cannot_run_anything(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    trees.refcoco(tmp_path)
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(InputError, match=r"refs\(unc\).p cannot be read as references of RefCOCO: it wants .*system"):
        read_refcoco(tmp_path, "val")
    assert not (tmp_path / "ran").exists()


def with_references(change):
    def spoil(root):
        references = trees.references()
        change(references)
        (root / "refs(unc).p").write_bytes(trees.python2_pickle(references))

    return spoil


def with_instances(change):
    def spoil(root):
        plain = json.loads((root / "instances.json").read_text())
        change(plain)
        (root / "instances.json").write_text(json.dumps(plain))

    return spoil


def pickled(content):
    return lambda root: (root / "refs(unc).p").write_bytes(content)


@pytest.mark.parametrize(
    "spoil, message",
    [
        pytest.param(
            lambda root: (root / "refs(unc).p").unlink(), r"has no refs\(unc\).p and no instances", id="no refs"
        ),
        pytest.param(
            lambda root: (root / "instances.json").unlink(), r"there is no .*instances.json", id="no annotations"
        ),
        pytest.param(pickled(b""), r"refs\(unc\).p cannot be read", id="empty pickle"),
        pytest.param(pickled(b"\x80\x04garbage"), r"refs\(unc\).p cannot be read", id="damaged pickle"),
        pytest.param(
            pickled(pickle.dumps({"a": 1})), r"holds no list of references of RefCOCO, but a dict", id="a map"
        ),
        pytest.param(
            with_references(lambda refs: refs[0].pop("sentences")),
            r"refs\(unc\).p, the references: there is no 'sentences'",
            id="no sentences",
        ),
        pytest.param(
            with_references(lambda refs: refs[2]["sentences"][0].update(sent_id=10)),
            r"refs\(unc\).p, the references: sentence 10 is there twice",
            id="sentence twice",
        ),
        pytest.param(
            with_references(lambda refs: [ref.update(split="testA") for ref in refs]),
            r"refs\(unc\).p, the references: there is none of the split val, but of testA",
            id="another split",
        ),
        pytest.param(
            with_instances(lambda plain: plain["annotations"].pop(0)),
            r"instances.json, COCO\w+: there is no annotation of annotation 901, which 'red car' is about",
            id="no annotation",
        ),
        pytest.param(
            with_instances(lambda plain: plain["annotations"].append(plain["annotations"][0])),
            r"instances.json, COCO\w+: there is an annotation of annotation 901 twice",
            id="annotation twice",
        ),
        pytest.param(
            with_instances(lambda plain: plain["annotations"][0].update(segmentation=[[1, 2, 3, 4]])),
            r"instances.json, COCO\w+: a polygon is a list of three or more pairs",
            id="no polygon",
        ),
        pytest.param(
            with_instances(lambda plain: plain["images"].pop(1)),
            r"instances.json, COCO\w+: there is no '42'",
            id="no image",
        ),
        pytest.param(
            with_instances(lambda plain: plain.pop("images")),
            r"instances.json, the list of images: there is no 'images'",
            id="another JSON",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line_that_names_the_file(tmp_path, spoil, message):
    spoil(trees.refcoco(tmp_path))
    with pytest.raises(InputError, match=message) as refusal:
        for video in read_refcoco(tmp_path, "val").videos:
            video.annotation(0)
    assert "\n" not in str(refusal.value)
