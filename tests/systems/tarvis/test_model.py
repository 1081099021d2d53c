"""TarViS from folders, with a network that was never trained: what it can do follows from what it has."""

import numpy as np
import pytest
import torch

from maskstream import load
from maskstream.mask2former.checkpoints import save_core
from maskstream.systems.tarvis import TarViSSettings, load_tarvis, save_tarvis
from maskstream.systems.tarvis.label_spaces import marked, spaces_of
from maskstream.systems.tarvis.network import TarViSConfig
from maskstream.types import Category, CategorySet, Frame, InputError, MaskPrompt, PointPrompt, Task

from .networks import small_tarvis

SIZE = (48, 80)
ALL = {Task.VIS, Task.VPS, Task.VSS, Task.VOS, Task.PVOS, Task.PET}
FARM = CategorySet("farm", (Category(0, "hen", True), Category(1, "pig", True), Category(2, "grass", False)))
CITY = CategorySet("city", (Category(0, "car", True), Category(1, "road", False)))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Folders of networks that know two label spaces, one, and none, and a Mask2Former."""
    folder = tmp_path_factory.mktemp("weights")
    spaces = {"two": (FARM, CITY), "one": (FARM,), "none": ()}
    for name, known in spaces.items():
        network = small_tarvis(
            4,
            label_spaces=tuple(space.name for space in known),
            classes=tuple(len(space) for space in known),
            names=tuple(text for space in known for text in marked(space)),
            frames=4,
        )
        save_tarvis(network, folder / name, short_side=64)
    save_core(network.core, folder / "pictures", short_side=64)
    return folder


def video(count):
    generator = np.random.default_rng(5)
    return [Frame(t, t / 10, generator.integers(0, 255, (*SIZE, 3), np.uint8)) for t in range(count)]


def test_what_a_model_can_do_follows_from_what_it_knows(weights):
    two, one, none = (load_tarvis(str(weights / name)) for name in ("two", "one", "none"))
    assert two.tasks == one.tasks == ALL and none.tasks == {Task.VOS, Task.PVOS, Task.PET}
    assert dict(two.label_spaces) == {"farm": FARM, "city": CITY} and dict(one.label_spaces) == {"farm": FARM}
    assert load_tarvis(str(weights / "two"), space="city").label_spaces == {"city": CITY}


def test_the_label_space_is_named_found_or_the_only_one(weights):
    two = load_tarvis(str(weights / "two"))

    def categories(session):
        results = [*(result for frame in video(5) for result in session.step(frame)), *session.finish()]
        return {segment.category for result in results for segment in result.segments}

    with pytest.raises(InputError, match="this TarViS knows farm, city: say which with --label-space"):
        two.start(Task.VSS, size_hw=SIZE)
    assert categories(two.start(Task.VSS, size_hw=SIZE, categories="city")) <= {0, 1}
    streets = CategorySet("streets", (Category(70, "road", False), Category(90, "car", True)))
    assert categories(two.start(Task.VSS, size_hw=SIZE, categories=streets)) <= {70, 90}
    named = load_tarvis(str(weights / "two"), space="farm")
    assert categories(named.start(Task.VSS, size_hw=SIZE)) <= {0, 1, 2}


def test_classes_of_published_label_spaces_are_known_by_name():
    config = TarViSConfig(label_spaces=("cityscapes-vps", "mine", "ovis", "ytvis-2021"), classes=(19, 7, 24, 40))
    spaces = spaces_of(config)
    assert list(spaces) == ["cityscapes-vps", "ytvis-2021"]  # of ovis 25 are known
    assert spaces["ytvis-2021"].names[:2] == ("airplane", "bear")


@pytest.mark.parametrize("task", [Task.VIS, Task.VPS, Task.VSS, Task.VOS, Task.PET])
def test_one_network_does_everything_in_turn(weights, task):
    """Hot swap: the weights are the same before and after, and so are results."""
    system = load("tarvis", weights=str(weights / "one"), size=64, min_score=0.01)
    before = {name: tensor.clone() for name, tensor in system.network.state_dict().items()}  # type: ignore[attr-defined]

    def run():
        session = system.start(task, size_hw=SIZE)
        if task is Task.VOS:
            mask = torch.zeros(SIZE, dtype=torch.bool)
            mask[8:30, 10:40] = True
            session.prompt([MaskPrompt(0, 3, mask)])
        elif task is Task.PET:
            session.prompt([PointPrompt(1, 5, ((30, 20),))])
        results = [*(result for frame in video(7) for result in session.step(frame)), *session.finish()]
        return [(result.frame_index, result.segments, result.masks_nhw().tolist()) for result in results]

    first = run()
    assert [index for index, _, _ in first] == list(range(7)) and first == run()
    after = system.network.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_clips_are_those_that_the_network_is_meant_for(weights):
    one = load_tarvis(str(weights / "one"))
    assert one.start(Task.VIS, size_hw=SIZE).latency == 3
    settings = TarViSSettings(frames=1)
    assert load_tarvis(str(weights / "one"), settings=settings).start(Task.VOS, size_hw=SIZE).latency == 0
    assert load("tarvis", weights=str(weights / "one"), window=6).start(Task.VPS, size_hw=SIZE).latency == 5


def test_pictures_are_padded_with_grey(weights):
    one = load_tarvis(str(weights / "one"), short_side=64)
    pixels = one.pixels([video(1)[0]])
    assert pixels.shape[2:] == (64, 128)  # of 64 × 107
    grey = (128 / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(pixels[0, :, 10, 120], grey, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere", {}, "nowhere"),
        ("pictures", {}, "is a Mask2Former without targets"),
        ("two", {"space": "sea"}, "unknown label space 'sea'; this TarViS knows: farm, city"),
        ("one", {"short_side": 8}, "short_side is at least 32"),
    ],
)
def test_what_cannot_be_loaded(weights, name, options, message):
    with pytest.raises(InputError, match=message):
        load_tarvis(str(weights / name), **options)
