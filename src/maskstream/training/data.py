"""What a recipe is trained on: its sources opened, and the batches of a process."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from maskstream.types import InputError, VideoSample

from .augmentation import Aggressive, CopyPaste, LargeScaleJitter, Stable, Static
from .clips import Clip, ClipBatch, collate
from .pasted import PastedClips
from .recipe import CUTOUTS, SYNTHETIC, Recipe, SourceRecipe
from .recipe import Augmentation as AugmentationName
from .rendered import RenderedClips
from .sampling import Augmentation, GapSchedule, ImageClips, Mixture, Source, VideoClips, some_of
from .signals import ignore_stop_signals

T = TypeVar("T")

_AUGMENTATIONS: dict[AugmentationName, Callable[[int], Augmentation]] = {
    "stable": lambda size: Stable(size=size),
    "aggressive": lambda size: Aggressive(size=size),
    "static": lambda size: Static(size=size),
    "large-scale": lambda size: LargeScaleJitter(size=size),
}


def batches(recipe: Recipe, accelerator: Accelerator, start: int) -> Iterator[ClipBatch]:
    """The batches of this process from an iteration on, on its device, ``train.accumulate`` for each iteration.

    Scenes alone are drawn on the device; everything else is made by worker processes.

    Raises:
        InputError: a source is missing, or has nothing to train on.
    """
    plan = recipe.train
    numbers = _numbers(recipe, start, accelerator.process_index, accelerator.num_processes)
    if [source.name for source in recipe.data.sources] == [SYNTHETIC]:
        rendered = _rendered(recipe, recipe.data.sources[0], accelerator.device)
        drawn = (rendered.batch(some) for some in numbers)
        return drawn if accelerator.device.type == "cpu" else _ahead(drawn)
    workers = plan.workers if sys.platform == "linux" else 0  # others cannot fork, and open data sets do not travel
    loader: DataLoader[Clip] = DataLoader(
        mixture(recipe),
        batch_sampler=numbers,  # iterated once
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_begin_worker,
        multiprocessing_context=multiprocessing.get_context("fork") if workers else None,
    )
    return (batch.to(accelerator.device) for batch in loader)


def _ahead(drawn: Iterator[T]) -> Iterator[T]:
    """Make the next batch while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, drawn, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, drawn, None)
            yield batch


def _numbers(recipe: Recipe, start: int, process: int, processes: int) -> Iterator[list[int]]:
    """The samples of each batch of a process: its share of an iteration, in equal parts."""
    plan = recipe.train
    size = plan.batch // (processes * plan.accumulate)
    for iteration in range(start, plan.steps):
        first = iteration * plan.batch + process * plan.accumulate * size
        for part in range(plan.accumulate):
            yield list(range(first + part * size, first + (part + 1) * size))


def _begin_worker(_: int) -> None:
    ignore_stop_signals()
    cv2.setNumThreads(0)


def mixture(recipe: Recipe) -> Mixture:
    """The samples of a recipe.

    Raises:
        InputError: a source is missing, or has nothing to train on.
    """
    sources = [source for source in recipe.data.sources if source.weight != 0 and source.repeat != 0]
    return Mixture(
        [_opened(recipe, source) for source in sources],
        seed=recipe.train.seed,
        batch=recipe.train.batch,
        steps=recipe.train.steps,
        objects=recipe.task.objects,
        mix=recipe.data.mix,
    )


def _rendered(recipe: Recipe, source: SourceRecipe, device: torch.device | str = "cpu") -> RenderedClips:
    photos = None
    if source.textures is not None:
        # Reading pictures brings the video reader along, which training can do without otherwise.
        from maskstream.synthetic.textures_pack import load_textures

        photos = load_textures(source.textures)
    return RenderedClips(
        level=source.level,
        frames=recipe.task.frames,
        size=recipe.data.size,
        objects=recipe.task.objects,
        seed=recipe.train.seed,
        step=source.step,
        stuff=source.stuff,
        photos=photos,
        device=device,
    )


def _pasted(recipe: Recipe, source: SourceRecipe) -> PastedClips:
    from maskstream.synthetic.cutouts import read_cutouts

    return PastedClips(
        read_cutouts(_root(recipe, source)),
        frames=recipe.task.frames,
        size=recipe.data.size,
        steps=(1, source.step),
        objects=(1, recipe.task.objects + 1),
    )


def _opened(recipe: Recipe, source: SourceRecipe) -> tuple[Source, float]:
    """A source with its weight. That of a data set is how many videos it has, unless the recipe says otherwise."""
    weight = 1.0 if source.weight is None else source.weight
    if source.name == SYNTHETIC:
        return _rendered(recipe, source), weight
    if source.name == CUTOUTS:
        return _pasted(recipe, source), weight
    fraction = source.fraction if recipe.data.fraction is None else recipe.data.fraction
    videos = some_of(_videos(recipe, source), fraction, seed=recipe.train.seed)
    name = recipe.data.augmentation or source.augmentation
    augment, length = _AUGMENTATIONS[name](recipe.data.size), recipe.task.frames
    clips: ImageClips | VideoClips
    if name == "static" or len(videos[0]) == 1:
        clips = ImageClips(videos, length=length, augment=augment)
    else:
        clips = VideoClips(videos, length=length, augment=augment, gaps=GapSchedule(every=source.every))
    if source.weight is None:
        weight = float(len(clips) * (1 if source.repeat is None else source.repeat))
    return (_Pasted(clips, source.copy_paste) if source.copy_paste else clips), weight


@dataclass(frozen=True, slots=True)
class _Pasted:
    """A source, on some of whose clips objects of another one are pasted."""

    source: Source
    chance: float

    def clip(self, number: int, *, progress: float, rng: np.random.Generator) -> Clip:
        clip = self.source.clip(number, progress=progress, rng=rng)
        if rng.random() >= self.chance:
            return clip
        return CopyPaste()(clip, rng, other=self.source.clip(number, progress=progress, rng=rng))


def _root(recipe: Recipe, source: SourceRecipe) -> str:
    """Where a source is.

    Raises:
        InputError: nobody said.
    """
    if source.key not in recipe.roots:
        raise InputError(f"the recipe takes {source.key}: say where it is with --data {source.key}=DIR")
    return recipe.roots[source.key]


def _videos(recipe: Recipe, source: SourceRecipe) -> Sequence[VideoSample]:
    """The labelled videos of a source: of a data set, or in any layout that can be converted.

    Raises:
        InputError: nobody said where it is, it is not there, or it is empty.
    """
    # Readers of data sets are imported for those who have some: they bring more along than training needs.
    from maskstream.datasets import DATASETS, open_dataset
    from maskstream.datasets.synthetic import is_synthetic

    root = None if is_synthetic(source.name) else _root(recipe, source)
    if source.name in DATASETS or is_synthetic(source.name):
        videos = open_dataset(source.name, root, split=source.split).videos
    else:
        from maskstream.conversion import FORMATS

        if source.name not in FORMATS:
            raise InputError(
                f"there is no source {source.name!r}: name {SYNTHETIC}, a data set ('maskstream datasets' lists them) "
                f"or a layout: {', '.join(FORMATS)}"
            )
        _, videos = FORMATS[source.name].read(Path(_root(recipe, source)), source.split)
    if not len(videos):
        raise InputError(f"{source.key} in {root} has no video")
    return videos
