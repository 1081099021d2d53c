import numpy as np
import pytest
import torch

from maskstream.types import (
    BoxPrompt,
    CategorySet,
    Frame,
    InputError,
    MaskPrompt,
    PointPrompt,
    Proposals,
    ScribblePrompt,
    Task,
    TextPrompt,
    prompt_id,
)


@pytest.mark.parametrize("mask", [np.array([[0, 3]]), torch.tensor([[0, 255]]), [[False, True]]])
def test_a_mask_prompt_takes_any_array_and_anything_but_zero_counts(mask):
    assert MaskPrompt(0, 1, mask).mask.tolist() == [[False, True]]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: MaskPrompt(0, 1, np.zeros((2, 2, 3))), id="a colour picture as mask"),
        pytest.param(lambda: MaskPrompt(-1, 1, np.zeros((2, 2))), id="a frame before the first"),
        pytest.param(lambda: MaskPrompt(0, 0, np.zeros((2, 2))), id="object 0, which is background"),
        pytest.param(lambda: BoxPrompt(0, 1, (5, 0, 5, 9)), id="a box without area"),
        pytest.param(lambda: PointPrompt(0, 1, ()), id="no point"),
        pytest.param(lambda: PointPrompt(0, 1, ((1, 1),), (True, False)), id="more signs than points"),
        pytest.param(lambda: PointPrompt(0, 1, ((1, 1),), (False,)), id="only a negative point, on nothing"),
        pytest.param(lambda: ScribblePrompt(0, 1, ()), id="an empty stroke"),
        pytest.param(lambda: TextPrompt("  "), id="an empty text"),
    ],
)
def test_a_prompt_that_says_nothing_is_refused(make):
    with pytest.raises(InputError):
        make()


def test_points_are_positive_unless_said_otherwise():
    assert PointPrompt(0, 1, ((1, 2), (3, 4))).positive == (True, True)


def test_every_prompt_has_a_name():
    assert prompt_id(BoxPrompt(0, 4, (0, 0, 1, 1))) == "object-4"
    assert prompt_id(TextPrompt("a red car")) == "a red car"
    assert prompt_id(TextPrompt("a red car", prompt_id="7")) == "7"


def test_there_are_nine_tasks_and_four_are_prompted():
    assert len(Task) == 9
    assert {task.value for task in Task if task.is_prompted} == {"vos", "pvos", "refvos", "pet"}


def test_a_label_space_is_looked_up_by_id():
    animals = CategorySet.from_names(["cat", " dog"])
    assert animals.ids == (1, 2)
    assert animals[2].name == "dog"
    with pytest.raises(InputError, match="no category 3"):
        animals[3]


def test_a_label_space_names_each_category_once():
    with pytest.raises(InputError, match="name cat twice"):
        CategorySet.from_names(["cat", "cat"])


def test_a_frame_is_rgb_bytes():
    with pytest.raises(InputError, match="float64"):
        Frame(3, 0.1, np.zeros((2, 2, 3)))  # type: ignore[arg-type]


def test_proposals_keep_their_fields_together():
    proposals = Proposals(torch.ones((3, 2, 2), dtype=torch.bool), scores=(0.1, None, 0.9))
    kept = proposals.keep([True, False, True])
    assert len(kept) == 2
    assert kept.scores == (0.1, 0.9)
    assert kept.is_thing == (None, None)
    with pytest.raises(InputError, match="3 proposals but 1 scores"):
        Proposals(torch.ones((3, 2, 2)), scores=(0.5,))
