"""Whether the categories of the synthetic world can be learnt, and not by their colours.

    python benchmarks/synthetic_categories.py [--scenes 1050] [--test-scenes 120] [--epochs 10] [--level L] [--seed 0]

Renders scenes and cuts a square around every thing that can be recognised: at least half of its amodal mask is visible,
and that mask is at least 24 pixels long and does not touch the border of the picture. The square is 1.2 times as long,
and scaled to 48×48; whatever else is in it stays.

A small convolutional network learns the categories of such crops and is tested on scenes of other seeds: 90 % should be
right. Two baselines know nothing but colours, as histograms of 8×8×8 bins: of the whole crop, and of the pixels of the
visible mask. Each is learnt by nearest neighbours and by a network with one hidden layer; none should reach 40 %. A
target that is missed makes the exit code 1. How much colours tell grows with the number of scenes: fewer flatter.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from maskstream.synthetic.render import SyntheticFrame, render
from maskstream.synthetic.scene import THINGS
from maskstream.synthetic.world import LEVELS, Level, make_scene
from maskstream.types import unpack_masks

PICTURE_HW = (240, 426)
FRAMES = (0, 24, 48)  # of each scene, a second apart
TEST_SEEDS = 1_000_000  # where they begin
SIDE, BINS, BATCH = 48, 8, 64
LEAST_VISIBLE, LEAST_LENGTH, MARGIN = 0.5, 24, 1.2
LEARNABLE, BY_COLOUR = 90, 40  # percent


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """N crops.

    Attributes:
        images_n3hw: ``uint8[N, 3, 48, 48]``, RGB.
        around_nk: ``float32[N, 512]``, colours of the crops.
        inside_nk: ``float32[N, 512]``, colours of the visible masks.
        labels_n: ``int64[N]``, categories from 0.
    """

    images_n3hw: Tensor
    around_nk: Tensor
    inside_nk: Tensor
    labels_n: Tensor


def main() -> int:
    """Train, test and print; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=1050, help="to learn from")
    parser.add_argument("--test-scenes", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--level", choices=list(LEVELS), default="medium")
    parser.add_argument("--seed", type=int, default=0, help="of the networks")
    options = parser.parse_args()
    torch.set_num_threads(1)  # on a busy machine threads of small layers wait for each other most of the time

    began = time.perf_counter()
    train = cut(options.level, range(options.scenes))
    test = cut(options.level, range(TEST_SEEDS, TEST_SEEDS + options.test_scenes))
    print(f"{len(train.labels_n)} crops to learn from, {len(test.labels_n)} to test on: {_since(began)}", flush=True)

    began = time.perf_counter()
    network = learn_shapes(train, epochs=options.epochs, seed=options.seed)
    found_n = predict(network, _scaled(test.images_n3hw))
    weights = sum(parameter.numel() for parameter in network.parameters())
    print(f"network of {weights} weights: {_since(began)}", flush=True)

    commonest = int(train.labels_n.mode().values)
    accuracy = share_right(found_n, test)
    by_colour = dict(share_by_colour(train, test, seed=options.seed))
    print(f"{'crops':32}{accuracy:5.1f} %   at least {LEARNABLE}")
    for name, share in by_colour.items():
        print(f"{name:32}{share:5.1f} %   below {BY_COLOUR}")
    print(f"{'always the commonest':32}{share_right(torch.full_like(found_n, commonest), test):5.1f} %")
    print_confusions(found_n, test)
    return int(accuracy < LEARNABLE or max(by_colour.values()) >= BY_COLOUR)


def cut(level: Level, seeds: Iterable[int], *, frames: Sequence[int] = FRAMES, side: int = SIDE) -> Crops:
    """The crops of some frames of the scenes of these seeds, ``side`` pixels wide."""
    found = [crop for seed in seeds for frame in _frames(level, seed, frames) for crop in _crops(frame, side)]
    return Crops(*(torch.from_numpy(np.stack(values)) for values in zip(*found, strict=True)))


def _frames(level: Level, seed: int, frames: Sequence[int]) -> Iterator[SyntheticFrame]:
    height, width = PICTURE_HW
    scene = make_scene(level=level, seed=seed, frames=frames[-1] + 1, aspect=width / height)
    for index in frames:
        yield from render(scene, PICTURE_HW, start=index, stop=index + 1, motion=False)


def _crops(frame: SyntheticFrame, side: int) -> Iterator[tuple[NDArray[np.generic], ...]]:
    """Rows of `Crops`."""
    image, segmentation = frame.frame.image, frame.annotation.segmentation
    height, width = segmentation.size_hw
    whole_of = dict(zip(frame.amodal_ids, unpack_masks(frame.amodal).numpy(), strict=True))
    for segment, visible in zip(segmentation.segments, segmentation.masks_nhw().numpy(), strict=True):
        if not segment.is_thing or segment.category is None:
            continue
        whole = whole_of[segment.id]
        left, top, wide, tall = cv2.boundingRect(whole.astype(np.uint8))
        touches = min(left, top) == 0 or left + wide == width or top + tall == height
        if touches or max(wide, tall) < LEAST_LENGTH or visible.sum() < LEAST_VISIBLE * whole.sum():
            continue
        reach = round(max(wide, tall) * MARGIN)
        # What would be beyond the border is a copy of the border.
        square = cv2.getRectSubPix(image, (reach, reach), (left + (wide - 1) / 2, top + (tall - 1) / 2))
        crop = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA if reach > side else cv2.INTER_LINEAR)
        label = np.array(segment.category - 1)
        yield crop.transpose(2, 0, 1), _histogram(crop.reshape(-1, 3)), _histogram(image[visible]), label


def _histogram(colours_n3: NDArray[np.generic]) -> NDArray[np.float32]:
    """Square roots of shares, so that Euclidean distances are Hellinger's."""
    bins_n = (colours_n3.astype(np.int64) * BINS // 256) @ (BINS * BINS, BINS, 1)
    return np.sqrt(np.bincount(bins_n, minlength=BINS**3) / len(bins_n)).astype(np.float32)


def learn_shapes(crops: Crops, *, epochs: int, seed: int) -> nn.Module:
    """Train a small network on crops that are moved and recoloured."""
    torch.manual_seed(seed)
    # Strides instead of pooling: several times faster on a CPU.
    network = nn.Sequential(
        *_convolution(3, 32, kernel=5, stride=2),
        *_convolution(32, 64, stride=2),
        *_convolution(64, 64),
        *_convolution(64, 128, stride=2),
        *_convolution(128, 128),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(128 * (SIDE // 16) ** 2, len(THINGS)),
    )
    _fit(network, crops.images_n3hw, crops.labels_n, epochs=epochs, rate=4e-3, change=_augmented)
    return network


def _convolution(before: int, width: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, width, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]


def _augmented(images_n3hw: Tensor) -> Tensor:
    """Mirrored, turned, scaled, shifted, channels exchanged, lighter or darker; levels from -1 to 1."""
    count = len(images_n3hw)
    turn, zoom = _between(-0.4, 0.4, count), _between(0.85, 1.15, count)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    across, down = _between(-0.1, 0.1, count), _between(-0.1, 0.1, count)
    cosine, sine = zoom * turn.cos(), zoom * turn.sin()
    maps_n6 = torch.stack([cosine * mirror, -sine, across, sine * mirror, cosine, down], dim=1)
    grid = functional.affine_grid(maps_n6.view(count, 2, 3), list(images_n3hw.shape), align_corners=False)
    images = functional.grid_sample(_scaled(images_n3hw), grid, padding_mode="border", align_corners=False)
    channels_n3 = torch.rand(count, 3).argsort(1)
    images = images.gather(1, channels_n3[:, :, None, None].expand_as(images))
    return images * _between(0.8, 1.2, count, 1, 1, 1) + _between(-0.1, 0.1, count, 3, 1, 1)


def _between(low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape)


def _scaled(images_n3hw: Tensor) -> Tensor:
    """Levels from -1 to 1."""
    return images_n3hw.float() / 127.5 - 1


def _fit(
    network: nn.Module,
    inputs: Tensor,
    labels_n: Tensor,
    *,
    epochs: int,
    rate: float,
    change: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Train and leave it ready to predict."""
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    steps = epochs * (len(labels_n) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    network.train()
    for _ in range(epochs):
        order = torch.randperm(len(labels_n))
        for some in torch.split(order[: len(order) // BATCH * BATCH], BATCH):
            chosen = inputs[some]
            answers = network(chosen if change is None else change(chosen))
            loss = functional.cross_entropy(answers, labels_n[some], label_smoothing=0.05)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    network.eval()


@torch.inference_mode()
def predict(network: nn.Module, inputs: Tensor) -> Tensor:
    """Categories, ``int64[N]``."""
    return torch.cat([network(some).argmax(1) for some in torch.split(inputs, BATCH)])


def share_by_colour(train: Crops, test: Crops, *, seed: int) -> Iterator[tuple[str, float]]:
    """What was looked at and how, and the percentage right."""
    pairs = {"crop": (train.around_nk, test.around_nk), "mask": (train.inside_nk, test.inside_nk)}
    for what, (known_nk, asked_nk) in pairs.items():
        yield f"colours of the {what}, neighbours", share_right(_vote(known_nk, train.labels_n, asked_nk), test)
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(BINS**3, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, len(THINGS)))
        _fit(network, known_nk, train.labels_n, epochs=20, rate=2e-3)
        yield f"colours of the {what}, network", share_right(predict(network, asked_nk), test)


def _vote(known_nk: Tensor, labels_n: Tensor, asked_mk: Tensor, *, neighbours: int = 9) -> Tensor:
    """The commonest category of the nearest, ``int64[M]``."""
    nearest = torch.cdist(asked_mk, known_nk).topk(neighbours, largest=False).indices
    return labels_n[nearest].mode(1).values


def share_right(found_n: Tensor, crops: Crops) -> float:
    """In percent."""
    return 100 * float((found_n == crops.labels_n).float().mean())


def print_confusions(found_n: Tensor, crops: Crops) -> None:
    """Each category, the worst first: how many are right, and what the others were taken for."""
    print(f"\n{'category':12}{'crops':>6}{'right':>8}   taken for")
    confused = torch.zeros(len(THINGS), len(THINGS), dtype=torch.int64)
    confused.index_put_((crops.labels_n, found_n), torch.ones_like(found_n), accumulate=True)
    rows = [(row[truth] / max(1, sum(row)), truth, row) for truth, row in enumerate(confused.tolist())]
    for share, truth, row in sorted(rows):
        others = sorted(((count, THINGS[other]) for other, count in enumerate(row) if count and other != truth))
        taken_for = ", ".join(f"{name} {count}" for count, name in others[:-4:-1])
        print(f"{THINGS[truth]:12}{sum(row):6}{100 * share:6.1f} %   {taken_for}")


def _since(began: float) -> str:
    return f"{time.perf_counter() - began:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
