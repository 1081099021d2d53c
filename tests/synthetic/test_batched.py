from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskstream.synthetic import batched
from maskstream.synthetic.batched import Clips, batch, draw
from maskstream.synthetic.render import SyntheticFrame, render
from maskstream.synthetic.scene import Scene, ShapeKind
from maskstream.synthetic.world import Level, make_scene
from maskstream.types import InputError

from .scenes import Body, build, disc, hand_made, photos, random_scene, with_camera

SIZE = (90, 151)


def world(level: Level, seed: int, painted_with: NDArray[np.uint8] | None = None) -> Scene:
    scene = make_scene(level=level, seed=seed, frames=4, aspect=SIZE[1] / SIZE[0], photos=painted_with)
    return replace(scene, shutter=0.0)


SCENES = [
    pytest.param(hand_made, id="hand-made"),
    pytest.param(lambda: random_scene(1), id="random"),
    pytest.param(lambda: random_scene(2, things=12), id="random, crowded"),
    pytest.param(lambda: replace(with_camera(random_scene(3, frames=4)), shutter=0.0), id="light and a cut"),
    pytest.param(lambda: world("easy", 1), id="easy world"),
    pytest.param(lambda: world("medium", 2), id="medium world"),
    pytest.param(lambda: world("hard", 3), id="hard world"),
    pytest.param(lambda: world("hard", 4, photos()), id="a world painted with photos"),
]


def ids_of(frame: SyntheticFrame) -> NDArray[np.int32]:
    ids: NDArray[np.int32] = frame.annotation.segmentation.panoptic_map().numpy()
    return ids


def same(one: Clips, other: Clips) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in Clips.__slots__)


@pytest.mark.parametrize("make", SCENES)
def test_it_draws_what_the_exact_renderer_draws(make: Callable[[], Scene]) -> None:
    scene = replace(make(), noise=0)
    clips = draw(batch([scene]), SIZE)
    for index, frame in enumerate(render(scene, SIZE)):
        labels = clips.entity_bthw[0, index].numpy() == ids_of(frame)
        assert labels.mean() >= 0.999
        difference = clips.frames_bt3hw[0, index].permute(1, 2, 0).numpy().astype(int) - frame.frame.image
        assert (np.abs(difference) <= 1).mean() >= 0.9999
        if index + 1 < scene.frame_count:
            flow = clips.flow_bt2hw[0, index].permute(1, 2, 0).numpy()
            assert (np.abs(flow - frame.flow).max(axis=2) <= 1e-3).mean() >= 0.999
            assert (clips.occluded_bthw[0, index].numpy() == frame.occluded).mean() >= 0.997


def test_a_scene_does_not_depend_on_those_beside_it() -> None:
    scenes = [random_scene(4), random_scene(5, things=9), hand_made(frames=3)]
    together = draw(batch(scenes), SIZE, noise=False)
    for row, scene in enumerate(scenes):
        alone = draw(batch([scene]), SIZE, noise=False)
        assert torch.equal(alone.entity_bthw[0], together.entity_bthw[row])
        assert torch.equal(alone.occluded_bthw[0], together.occluded_bthw[row])
        torch.testing.assert_close(alone.flow_bt2hw[0], together.flow_bt2hw[row])
        difference = alone.frames_bt3hw[0].int() - together.frames_bt3hw[row].int()
        assert difference.abs().max() <= 1


@pytest.mark.parametrize("pixels", [1, 3 * SIZE[0] * SIZE[1]], ids=["one frame at a time", "three at a time"])
def test_how_many_frames_are_drawn_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    scenes = batch([random_scene(6), random_scene(7)])
    monkeypatch.setitem(batched._PIXELS_AT_ONCE, "cpu", 2**24)
    whole = draw(scenes, SIZE, noise=False)
    monkeypatch.setitem(batched._PIXELS_AT_ONCE, "cpu", pixels)
    pieces = draw(scenes, SIZE, noise=False)
    assert torch.equal(whole.entity_bthw, pieces.entity_bthw)
    assert torch.equal(whole.occluded_bthw, pieces.occluded_bthw)
    assert (whole.frames_bt3hw.int() - pieces.frames_bt3hw.int()).abs().max() <= 1


@pytest.mark.parametrize("size_hw", [(1, 1), (7, 100), (64, 64), (65, 33)])
def test_every_size_is_drawn(size_hw: tuple[int, int]) -> None:
    clips = draw(batch([hand_made()]), size_hw)
    assert clips.frames_bt3hw.shape == (1, 4, 3, *size_hw)
    assert clips.occluded_bthw.shape == (1, 3, *size_hw)


def test_where_nothing_is_it_is_black_and_void_and_not_seen_again() -> None:
    scene = build([Body(1, ShapeKind.ELLIPSE, lambda t: disc(0.5, 0.5, 0.25), colour=(1, 1, 1))], (1,))
    clips = draw(batch([scene]), (64, 64))
    nothing = clips.entity_bthw == 0
    assert nothing[..., 0, 0].all()
    assert not nothing[..., 32, 32].any()
    assert clips.frames_bt3hw[..., :4, :4].max() == 0
    assert torch.equal(clips.occluded_bthw, nothing[:, :-1])


def test_nothing_corresponds_across_a_cut() -> None:
    scene = with_camera(random_scene(8, frames=4))
    clips = draw(batch([scene, replace(scene, cuts=())]), SIZE)
    assert clips.occluded_bthw[0].flatten(1).all(dim=1).tolist() == [False, True, False]
    assert not clips.flow_bt2hw[0, 1].any()
    assert not clips.occluded_bthw[1].flatten(1).all(dim=1).any()


def test_a_clip_of_one_frame_has_no_flow() -> None:
    clips = draw(batch([hand_made(frames=1)]), (16, 16))
    assert clips.flow_bt2hw.shape == (1, 0, 2, 16, 16)


def test_tables_say_what_entities_are() -> None:
    clips = draw(batch([hand_made(), random_scene(9, frames=4, things=2)]), (32, 32))
    for row, scene in enumerate([hand_made(), random_scene(9, frames=4, things=2)]):
        for entity in scene.entities:
            assert clips.category_be[row, entity.id] == entity.category
            assert clips.is_thing_be[row, entity.id] == entity.is_thing
    assert not clips.category_be[:, 0].any()
    there = clips.entity_bthw[0] == 3
    assert (clips.category_bthw()[0][there] == 1).all()


def test_noise_has_the_deviation_of_the_scene_and_follows_the_generator() -> None:
    grey = Body(1, ShapeKind.EVERYWHERE, colour=(0.5, 0.5, 0.5))
    scenes = batch([replace(build([grey], (15,), frames=1), noise=8)])
    clean = draw(scenes, (128, 128), noise=False).frames_bt3hw.float()
    noisy = [draw(scenes, (128, 128), generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert (noisy[0].frames_bt3hw - clean).std().item() == pytest.approx(8, abs=0.3)
    assert same(noisy[0], noisy[1])
    assert not same(noisy[0], noisy[2])


@pytest.mark.parametrize(
    "scenes", [pytest.param([], id="none"), pytest.param([hand_made(frames=2), hand_made(frames=3)], id="two lengths")]
)
def test_scenes_that_do_not_stack_are_refused(scenes: list[Scene]) -> None:
    with pytest.raises(InputError, match="number of frames"):
        batch(scenes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same() -> None:
    scenes = batch([random_scene(10), random_scene(11)])
    here, there = draw(scenes, SIZE, noise=False), draw(scenes.to("cuda"), SIZE, noise=False)
    assert (here.entity_bthw == there.entity_bthw.cpu()).float().mean() >= 0.9999
    assert (here.frames_bt3hw.int() - there.frames_bt3hw.cpu().int()).abs().max() <= 2
