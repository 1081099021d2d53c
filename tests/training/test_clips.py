import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskstream.training.clips import Clip, choose_objects, collate, pick
from maskstream.types import InputError


def labels(*frames: list[int]) -> NDArray[np.int32]:
    """Frames of one row of pixels."""
    return np.array(frames, np.int32)[:, None]


@pytest.mark.parametrize(
    "given_labels, expected",
    [
        pytest.param(labels([0, 1, 2], [2, 1, 0]), labels([0, 1, 2], [2, 1, 0]), id="numbered already"),
        pytest.param(labels([9, 0, 4], [4, 4, 9]), labels([2, 0, 1], [1, 1, 2]), id="gaps are closed, in order"),
        pytest.param(labels([5, 0, 0], [5, 3, 7]), labels([1, 0, 0], [1, 0, 0]), id="later objects are background"),
        pytest.param(labels([0, 0, 0], [1, 2, 3]), labels([0, 0, 0], [0, 0, 0]), id="an empty first frame"),
        pytest.param(labels([2, 2, 2], [0, 2, 8]), labels([1, 1, 1], [0, 1, 0]), id="no background on the first"),
    ],
)
def test_objects_are_those_of_the_first_frame(given_labels: NDArray[np.int32], expected: NDArray[np.int32]) -> None:
    chosen = choose_objects(given_labels, 3, np.random.default_rng(0))
    assert chosen.dtype == np.int32
    np.testing.assert_array_equal(chosen, expected)


@given(ids=st.lists(st.integers(0, 400), min_size=6, max_size=6), most=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_every_chosen_object_keeps_its_pixels_on_all_frames(ids: list[int], most: int, seed: int) -> None:
    before = np.array(ids, np.int32).reshape(2, 1, 3)
    after = choose_objects(before, most, np.random.default_rng(seed))
    on_first = set(before[0].flatten().tolist()) - {0}
    count = int(after.max())
    assert count == min(most, len(on_first))
    for number in range(1, count + 1):
        (object_id,) = set(before[after == number].tolist())
        assert object_id in on_first
        np.testing.assert_array_equal(after == number, before == object_id)


def test_chance_chooses_every_one_of_too_many_objects() -> None:
    first = labels([1, 2, 3, 4])
    kept = [np.flatnonzero(choose_objects(first, 2, np.random.default_rng(seed))[0, 0]) for seed in range(60)]
    assert {tuple(pair.tolist()) for pair in kept} == {(a, b) for b in range(4) for a in range(b)}


def test_no_chance_is_used_when_all_may_stay() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert pick(np.array([3, 5]), 2, rng).tolist() == [3, 5]
    assert rng.bit_generator.state == before


def clip(number: int, *, frames: int = 2, size_hw: tuple[int, int] = (4, 5)) -> Clip:
    rng = np.random.default_rng(number)
    return Clip(
        rng.integers(0, 256, (frames, *size_hw, 3), np.uint8), rng.integers(0, 4, (frames, *size_hw), np.int32), number
    )


def test_a_batch_holds_every_pixel_of_its_clips() -> None:
    clips = [clip(7), clip(3)]
    batch = collate(clips)
    assert len(batch) == 2
    assert batch.number_b.tolist() == [7, 3]
    assert (batch.frames_bt3hw.dtype, batch.labels_bthw.dtype) == (torch.uint8, torch.int64)
    for row, one in enumerate(clips):
        np.testing.assert_array_equal(batch.frames_bt3hw[row].permute(0, 2, 3, 1).numpy(), one.frames_thw3)
        np.testing.assert_array_equal(batch.labels_bthw[row].numpy(), one.labels_thw)


def test_a_batch_moves_to_a_device_as_a_whole() -> None:
    moved = collate([clip(1)]).to("meta")
    assert {tensor.device.type for tensor in (moved.frames_bt3hw, moved.labels_bthw, moved.number_b)} == {"meta"}


@pytest.mark.parametrize(
    "clips, message",
    [
        pytest.param([clip(0), clip(1, frames=3)], "2×4×5 and 3×4×5", id="lengths"),
        pytest.param([clip(0), clip(1, size_hw=(5, 5))], "2×4×5 and 2×5×5", id="sizes"),
        pytest.param([], "no clip at all", id="nothing"),
    ],
)
def test_clips_that_do_not_stack_are_refused(clips: list[Clip], message: str) -> None:
    with pytest.raises(InputError, match=message):
        collate(clips)


def test_frames_and_labels_of_a_clip_have_one_size() -> None:
    with pytest.raises(ValueError, match=r"\[2, 4, 5, 3\], labels \[2, 4, 6\]"):
        Clip(np.zeros((2, 4, 5, 3), np.uint8), np.zeros((2, 4, 6), np.int32), 0)
