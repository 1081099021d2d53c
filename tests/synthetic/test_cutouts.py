from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from maskstream.synthetic.cutouts import _CONTROL, _LATTICE, _REACH, _thin_plate, draw_cutouts, read_cutouts
from maskstream.types import InputError

SIZE = (96, 160)


def write_pair(folder: Path, name: str, seed: int, *, masks: Path | None = None) -> None:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (9, 12, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(folder / f"{name}.jpg"), image)
    cv2.imwrite(str((masks or folder) / f"{name}.png"), blob(seed))


def blob(seed: int) -> NDArray[np.uint8]:
    mask = np.zeros((120, 160), np.uint8)
    cv2.ellipse(mask, (80, 60), (45, 25), 20 * seed, 0, 360, 255, -1)
    cv2.rectangle(mask, (60, 10), (75, 60), 255, -1)
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(3):
        write_pair(tmp_path, f"{seed}", seed)
    return tmp_path


@pytest.mark.parametrize("still", [0.0, 0.6])
@pytest.mark.parametrize("times", [None, (4, 3, 0, 1)], ids=["in order", "in another order"])
def test_the_next_frame_warped_by_the_flow_is_this_frame_where_it_is_visible(
    folder: Path, still: float, times: tuple[int, ...] | None
) -> None:
    clips = draw_cutouts(read_cutouts(folder), 3, SIZE, frames=5, seed=1, still=still, times=times)
    frames, (height, width) = clips.frames_bt3hw.float(), SIZE
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    to = torch.stack([x, y], -1) + clips.flow_bt2hw.permute(0, 1, 3, 4, 2)
    at = (to / torch.tensor([width / 2, height / 2]) - 1).flatten(0, 1)
    warped = F.grid_sample(frames[:, 1:].flatten(0, 1), at, align_corners=False).view_as(frames[:, 1:])
    error = (warped - frames[:, :-1]).abs().mean(2)
    of_objects = clips.entity_bthw[:, :-1] > 0
    assert error[~clips.occluded_bthw].mean() < 1.5
    assert error[~clips.occluded_bthw & of_objects].mean() < 4
    assert error[clips.occluded_bthw].mean() > 15
    ids = clips.entity_bthw[:, 1:].flatten(0, 1)[:, None].float()
    found = F.grid_sample(ids, at, mode="nearest", align_corners=False).view_as(error)
    agrees = found == clips.entity_bthw[:, :-1]
    assert agrees[~clips.occluded_bthw].float().mean() > 0.99
    assert clips.flow_bt2hw.abs().max() > 1


def test_what_stands_still_moves_as_the_background_does_but_more_if_it_is_near(folder: Path) -> None:
    clips = draw_cutouts(read_cutouts(folder), 12, SIZE, frames=9, seed=3, objects=(2, 3), still=1.0)
    assert not clips.is_thing_be.any()
    ratios = []
    for flow_2hw, entity_hw in zip(clips.flow_bt2hw[:, 0], clips.entity_bthw[:, 0], strict=True):
        ground = flow_2hw[:, entity_hw == 0].mean(1)
        for entity in entity_hw.unique()[1:]:
            own = flow_2hw[:, entity_hw == entity].mean(1)
            if ground.norm() > 0.5:
                assert torch.cosine_similarity(own, ground, dim=0) > 0.8
                ratios.append(float(own.norm() / ground.norm()))
    assert len(ratios) > 10
    assert 0.5 < min(ratios) < 1 < max(ratios) < 3


def test_without_still_objects_nothing_changes(folder: Path) -> None:
    cutouts = read_cutouts(folder)
    plain, still = (draw_cutouts(cutouts, 4, SIZE, frames=3, seed=4, still=share) for share in (0.0, 1e-9))
    assert torch.equal(plain.frames_bt3hw, still.frames_bt3hw) and torch.equal(plain.flow_bt2hw, still.flow_bt2hw)


def test_objects_are_things_from_one_up(folder: Path) -> None:
    clips = draw_cutouts(read_cutouts(folder), 8, SIZE, frames=2, seed=2, objects=(1, 3))
    objects = clips.is_thing_be.sum(1)
    assert set(objects.tolist()) == {1, 2, 3}
    assert not clips.is_thing_be[:, 0].any()
    assert (clips.entity_bthw.flatten(1).amax(1) <= objects).all()
    assert (clips.entity_bthw.flatten(1) > 0).any()


def test_a_seed_is_a_clip(folder: Path) -> None:
    cutouts = read_cutouts(folder)
    one, again, other = (draw_cutouts(cutouts, 2, SIZE, frames=3, seed=seed).frames_bt3hw for seed in (7, 7, 8))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_thin_plate_moves_as_its_control_points_do() -> None:
    # A spline through an affine motion is that motion (Bookstein 1989, section II).
    side, fine = torch.linspace(-1, 1, _CONTROL), torch.linspace(-_REACH, _REACH, _LATTICE)
    y, x = torch.meshgrid(side, side, indexing="ij")
    moved = _thin_plate() @ (0.3 * x - 0.1 * y + 0.2).flatten()
    y, x = torch.meshgrid(fine, fine, indexing="ij")
    torch.testing.assert_close(moved, (0.3 * x - 0.1 * y + 0.2).flatten(), atol=1e-5, rtol=0)


def test_masks_may_lie_in_another_folder_and_tiles_behind(tmp_path: Path) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    write_pair(images, "dog", 1, masks=masks)
    red = np.zeros((1, 64, 64, 3), np.uint8)
    red[..., 0] = 200
    clips = draw_cutouts(read_cutouts(images, masks, textures=red), 1, SIZE, frames=2, seed=3)
    ground = clips.frames_bt3hw.permute(2, 0, 1, 3, 4)[:, clips.entity_bthw == 0].float()
    assert ground.median(dim=1).values.tolist() == [200, 0, 0]


def make_empty(folder: Path) -> None:
    for path in folder.glob("*.png"):
        cv2.imwrite(str(path), np.zeros((120, 160), np.uint8))


def make_small(folder: Path) -> None:
    cv2.imwrite(str(folder / "0.png"), np.full((60, 80), 255, np.uint8))


def remove_masks(folder: Path) -> None:
    for path in folder.glob("*.png"):
        path.unlink()


@pytest.mark.parametrize(
    "spoil, message",
    [
        pytest.param(make_empty, "empty", id="empty masks"),
        pytest.param(make_small, "60×80 but 0.jpg is 120×160", id="a mask of another size"),
        pytest.param(remove_masks, "dog.jpg and dog.png", id="no masks"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(folder: Path, spoil, message: str) -> None:
    spoil(folder)
    with pytest.raises(InputError, match=message):
        read_cutouts(folder)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is no folder"):
        read_cutouts(tmp_path / "nowhere")


def test_every_third_frame_is_that_of_the_whole_clip(folder: Path) -> None:
    cutouts = read_cutouts(folder)
    whole = draw_cutouts(cutouts, 2, SIZE, frames=7, seed=3)
    some = draw_cutouts(cutouts, 2, SIZE, frames=3, seed=3, step=3)
    assert torch.equal(some.frames_bt3hw, whole.frames_bt3hw[:, ::3])
    assert torch.equal(some.entity_bthw, whole.entity_bthw[:, ::3])


def test_without_motion_the_pictures_are_the_same(folder: Path) -> None:
    cutouts = read_cutouts(folder)
    whole, still = (draw_cutouts(cutouts, 2, SIZE, frames=4, seed=4, motion=motion) for motion in (True, False))
    assert torch.equal(whole.frames_bt3hw, still.frames_bt3hw)
    assert torch.equal(whole.entity_bthw, still.entity_bthw)
    assert still.flow_bt2hw.shape == (2, 0, 2, *SIZE)
    assert still.occluded_bthw.shape == (2, 0, *SIZE)
