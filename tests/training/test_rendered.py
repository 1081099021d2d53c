from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskstream.synthetic.batched import batch, draw
from maskstream.synthetic.scene import Scene
from maskstream.synthetic.world import Level
from maskstream.training import rendered
from maskstream.training.rendered import RenderedClips
from maskstream.types import InputError

from ..synthetic.scenes import photos


def clips(
    *,
    level: Level = "medium",
    frames: int = 3,
    size: int = 48,
    objects: int = 3,
    seed: int = 0,
    step: int = 2,
    stuff: bool = False,
    window: tuple[float, float] = (0.5, 1.0),
    least_area: float = 0.002,
    painted_with: NDArray[np.uint8] | None = None,
    device: str = "cpu",
) -> RenderedClips:
    return RenderedClips(
        level=level, frames=frames, size=size, objects=objects, seed=seed, step=step, stuff=stuff, window=window,
        least_area=least_area, photos=painted_with, device=device,
    )  # fmt: skip


def test_a_sample_does_not_depend_on_those_beside_it() -> None:
    together = clips(level="hard").batch([4, 9, 2])
    assert together.number_b.tolist() == [4, 9, 2]
    for row, number in enumerate([4, 9, 2]):
        alone = clips(level="hard").batch([number], progress=0.7)
        assert torch.equal(alone.frames_bt3hw[0], together.frames_bt3hw[row])
        assert torch.equal(alone.labels_bthw[0], together.labels_bthw[row])


def test_another_number_and_another_seed_are_another_sample() -> None:
    frames = [clips(seed=seed).batch([number]).frames_bt3hw for seed, number in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])


def test_a_mixture_gets_the_sample_that_a_batch_has() -> None:
    whole = clips().batch([6])
    one = clips().clip(6, progress=0.5, rng=np.random.default_rng([0, 6]))
    assert one.number == 6
    np.testing.assert_array_equal(one.frames_thw3, whole.frames_bt3hw[0].permute(0, 2, 3, 1).numpy())
    np.testing.assert_array_equal(one.labels_thw, whole.labels_bthw[0].numpy())


@pytest.mark.parametrize("objects, stuff", [(1, False), (3, False), (3, True), (99, True)])
def test_objects_are_numbered_and_large_enough_on_the_first_frame(objects: int, stuff: bool) -> None:
    found = clips(objects=objects, stuff=stuff, least_area=0.01).batch(range(12))
    for labels_thw in found.labels_bthw:
        count = int(labels_thw.max())
        areas = labels_thw[0].flatten().bincount(minlength=count + 1)[1:]
        assert 1 <= count <= objects
        assert areas.min() >= 0.01 * 48**2


def test_stuff_is_an_object_only_when_asked_for() -> None:
    things, everything = (clips(objects=99, stuff=stuff).batch(range(8)).labels_bthw > 0 for stuff in (False, True))
    assert things.float().mean() < 0.6
    assert everything.float().mean() > 0.9


@pytest.mark.parametrize("number", range(6))
def test_a_step_leaves_frames_out(number: int) -> None:
    every, second = clips(frames=5, step=1), clips(frames=3, step=2)
    assert torch.equal(every.batch([number]).labels_bthw[:, ::2], second.batch([number]).labels_bthw)


def test_a_longer_step_moves_more() -> None:
    def overlap(step: int) -> float:
        labels = clips(frames=2, step=step, objects=1).batch(range(16)).labels_bthw > 0
        return float((labels[:, 0] & labels[:, 1]).sum() / (labels[:, 0] | labels[:, 1]).sum())

    assert overlap(8) < overlap(1) - 0.1


def still(scene: Scene, index: int) -> Scene:
    """One frame of a scene."""
    parts = scene.parts
    shown = replace(parts, place_tp23=parts.place_tp23[[index]], shown_tp=parts.shown_tp[[index]])
    return replace(scene, parts=shown, light_t3=scene.light_t3[[index]], cuts=())


def test_a_window_shows_what_is_there_in_the_whole_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[tuple[Scene, int, NDArray[np.float64]]] = []
    look = rendered._look

    def remember(
        scene: Scene, index: int, window: tuple[float, float], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        looks.append((scene, index, look(scene, index, window, rng)))
        return looks[-1][-1]

    monkeypatch.setattr(rendered, "_look", remember)
    found = clips(frames=1, objects=99, stuff=True, least_area=0).batch(range(6))
    assert {np.sign(view[0, 0]) for _, _, view in looks} == {-1, 1}
    for labels_thw, (scene, index, view) in zip(found.labels_bthw, looks, strict=True):
        whole = draw(batch([still(scene, index)]), (450, 800)).entity_bthw[0, 0].numpy()
        middles = (np.arange(48) + 0.5) / 48
        x = ((middles - view[0, 2]) / view[0, 0] * 450).astype(int)
        y = ((middles - view[1, 2]) / view[1, 1] * 450).astype(int)
        assert 0 <= x.min() <= x.max() < 800
        assert 0 <= y.min() <= y.max() < 450
        there = whole[y[:, None], x]
        for number in range(1, int(labels_thw.max()) + 1):
            own = labels_thw[0].numpy() == number
            entity = np.bincount(there[own]).argmax()
            assert (own == (there == entity)).mean() > 0.98


def test_windows_have_the_sides_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = []
    look = rendered._look

    def remember(
        scene: Scene, index: int, window: tuple[float, float], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        view = look(scene, index, window, rng)
        sides.append(1 / view[1, 1])
        return view

    monkeypatch.setattr(rendered, "_look", remember)
    clips(frames=1, size=8, window=(0.25, 0.75)).batch(range(40))
    assert 0.25 <= min(sides) < 0.35
    assert 0.6 < max(sides) <= 0.75


def test_a_clip_without_an_object_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def empty() -> int:
        labels = clips(frames=1, least_area=0.08).batch(range(30)).labels_bthw
        return int((labels.flatten(1).amax(1) == 0).sum())

    with_retries = empty()
    monkeypatch.setattr(rendered, "_TRIES", 1)
    assert empty() >= 5
    assert with_retries <= 1


def test_pictures_have_the_grain_of_the_camera() -> None:
    frames = torch.full((2, 3, 64, 64), 128, dtype=torch.uint8)
    grainy = rendered.grainy(frames, 6, 1).float()
    assert 5.5 < grainy.std() < 6.5
    assert abs(grainy.mean() - 128) < 0.3
    assert torch.equal(grainy[:, 0], grainy[:, 1])
    assert not torch.equal(grainy[0], grainy[1])
    assert torch.equal(rendered.grainy(frames, 0, 1), frames)


def test_scenes_are_painted_with_photos() -> None:
    plain, painted = clips().batch(range(8)), clips(painted_with=photos().repeat(40, axis=0)).batch(range(8))
    assert not torch.equal(plain.frames_bt3hw, painted.frames_bt3hw)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_objects() -> None:
    here, there = (clips(device=device).batch(range(6)) for device in ("cpu", "cuda"))
    assert there.frames_bt3hw.device.type == there.number_b.device.type == "cuda"
    assert (here.labels_bthw == there.labels_bthw.cpu()).float().mean() > 0.999


@pytest.mark.parametrize(
    "wrong, message",
    [
        pytest.param({"level": "impossible"}, "no level 'impossible'", id="level"),
        pytest.param({"step": 0}, "1 or more", id="step"),
        pytest.param({"objects": 0}, "1 or more", id="objects"),
        pytest.param({"window": (0.5, 1.5)}, "at most 1 heights", id="window"),
        pytest.param({"window": (0.8, 0.5)}, "at most 1 heights", id="window, the wrong way round"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong, message: str) -> None:
    with pytest.raises(InputError, match=message):
        clips(**wrong)
