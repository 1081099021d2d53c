"""What a recipe is trained on: its sources opened, and the batches of a process."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from maskstream.segmenters.motion_network import MotionConfig
from maskstream.synthetic.scene import WORLD
from maskstream.types import CategorySet, InputError, Task, VideoSample

from .augmentation import Aggressive, CopyPaste, LargeScaleJitter, Stable, Static
from .backbone import CropBatch, ThingCrops, stacked_crops
from .clicked import ClickBatch, ClickedPictures, PairClips, stacked_pictures
from .clips import Clip, ClipBatch, collate
from .flow import FlowBatch, FlowPairs, stacked_pairs
from .moving import FilmedPictures, MotionBatch, MovingPictures, stacked
from .pasted import PastedClips
from .prompted_clips import PromptedBatch, PromptedClips, stacked_prompts
from .recipe import CUTOUTS, FILMED, PAIRS, SYNTHETIC, Kind, Recipe, SourceRecipe, ValidateRecipe
from .recipe import Augmentation as AugmentationName
from .rendered import RenderedClips
from .sampling import Augmentation, GapSchedule, ImageClips, Mixture, Source, VideoClips, some_of
from .signals import ignore_stop_signals
from .target_clips import TargetBatch, TargetClips, TargetSource, stacked_targets
from .tubes import AnnotatedTubes, RenderedTubes, TubeBatch, Tubes, TubeSource, stacked_tubes

if TYPE_CHECKING:
    from maskstream.datasets import Dataset as LabelledDataset

S = TypeVar("S")
T = TypeVar("T")

_AUGMENTATIONS: dict[AugmentationName, Callable[[int, SourceRecipe], Augmentation]] = {
    "stable": lambda size, _: Stable(size=size),
    "aggressive": lambda size, _: Aggressive(size=size),
    "static": lambda size, _: Static(size=size),
    "large-scale": lambda size, source: LargeScaleJitter(size=size, scale=source.scale),
}


def batches(recipe: Recipe, accelerator: Accelerator, start: int) -> Iterator[ClipBatch]:
    """The batches of this process from an iteration on, on its device, ``train.accumulate`` for each iteration.

    Scenes alone are drawn on the device; everything else is made by worker processes.

    Raises:
        InputError: a source is missing, or has nothing to train on.
    """
    if [source.name for source in recipe.data.sources] == [SYNTHETIC]:
        numbers = _numbers(recipe, start, accelerator.process_index, accelerator.num_processes)
        rendered = _rendered(recipe, recipe.data.sources[0], accelerator.device)
        drawn = (rendered.batch(some) for some in numbers)
        return drawn if accelerator.device.type == "cpu" else _ahead(drawn)
    loader = _loader(recipe, accelerator, start, mixture(recipe), collate)
    return (batch.to(accelerator.device) for batch in loader)


def motion_batches(recipe: Recipe, accelerator: Accelerator, start: int) -> Iterator[MotionBatch]:
    """The same for networks that find what moves; made by worker processes."""
    loader = _loader(recipe, accelerator, start, moving_pictures(recipe, MotionConfig().gaps), stacked)
    return (batch.to(accelerator.device) for batch in loader)


def click_batches(recipe: Recipe, accelerator: Accelerator, start: int) -> Iterator[ClickBatch]:
    """The same for networks that are clicked; made by worker processes."""
    loader = _loader(recipe, accelerator, start, clicked_pictures(recipe), stacked_pictures)
    return (batch.to(accelerator.device) for batch in loader)


def tube_batches(recipe: Recipe, accelerator: Accelerator, start: int) -> Iterator[TubeBatch]:
    """The same for the query core; made by worker processes."""
    loader = _loader(recipe, accelerator, start, tubes(recipe), stacked_tubes)
    return (batch.to(accelerator.device) for batch in loader)


def _loader(
    recipe: Recipe, accelerator: Accelerator, start: int, samples: Dataset[S], collate_fn: Callable[[list[S]], T]
) -> DataLoader[T]:
    """The batches of this process, made by worker processes."""
    workers = recipe.train.workers if sys.platform == "linux" else 0  # others cannot fork; open data does not travel
    return DataLoader(
        samples,  # type: ignore[arg-type]  # what a loader gives is what its function makes of samples
        batch_sampler=_numbers(recipe, start, accelerator.process_index, accelerator.num_processes),  # iterated once
        collate_fn=collate_fn,
        num_workers=workers,
        worker_init_fn=_begin_worker,
        multiprocessing_context=multiprocessing.get_context("fork") if workers else None,
    )


def examples(samples: Dataset[S], collate_fn: Callable[[list[S]], T], plan: ValidateRecipe) -> list[T]:
    """Samples to measure on, as many as ``plan.videos``, in batches of 8; those of training have other numbers."""
    made = [samples[number] for number in range(plan.seed, plan.seed + plan.videos)]
    return [collate_fn(made[first : first + 8]) for first in range(0, len(made), 8)]


def clicked_pictures(recipe: Recipe) -> ClickedPictures:
    """The pictures of a recipe: of rendered scenes, of cut-outs that are pasted, and of those they were cut out of.

    Raises:
        InputError: there are other sources.
    """
    sources: list[tuple[Source, float]] = []
    of_one_frame = replace(recipe, task=replace(recipe.task, frames=1))
    for source in recipe.data.sources:
        if source.name not in (SYNTHETIC, CUTOUTS, PAIRS):
            raise InputError(f"there is no source {source.name!r} of clicked pictures: {SYNTHETIC}, {CUTOUTS}, {PAIRS}")
        if source.name == PAIRS:
            sources.append((PairClips(Path(_root(recipe, source)), size=recipe.data.size), _weight(source)))
        else:
            sources.append(_opened(of_one_frame, source))
    return ClickedPictures(sources, seed=recipe.train.seed)


def thing_crops(recipe: Recipe) -> ThingCrops:
    """The things of a recipe's pictures, in squares of a quarter of their area.

    Raises:
        InputError: there are other sources than rendered scenes.
    """
    other = next((source.name for source in recipe.data.sources if source.name != SYNTHETIC), None)
    if other is not None:
        raise InputError(f"there is no source {other!r} of things: {SYNTHETIC}")
    sources = [(_rendered(recipe, source), _weight(source)) for source in recipe.data.sources]
    return ThingCrops(sources, size=recipe.data.size // 2, seed=recipe.train.seed)


def crop_batches(recipe: Recipe, accelerator: Accelerator, start: int) -> Iterator[CropBatch]:
    """The same for backbones; made by worker processes."""
    loader = _loader(recipe, accelerator, start, thing_crops(recipe), stacked_crops)
    return (batch.to(accelerator.device) for batch in loader)


def flow_pairs(recipe: Recipe) -> FlowPairs:
    """Pairs of frames of a recipe's scenes, with their true flow.

    Raises:
        InputError: there are other sources than rendered scenes, or clips are no pairs.
    """
    other = next((source.name for source in recipe.data.sources if source.name != SYNTHETIC), None)
    if other is not None:
        raise InputError(f"there is no source {other!r} of true flow: {SYNTHETIC}")
    if recipe.task.frames != 2:
        raise InputError(f"flow is between 2 frames, not task.frames={recipe.task.frames}")
    sources = [(_rendered(recipe, source), _weight(source)) for source in _drawn_from(recipe)]
    return FlowPairs(sources, seed=recipe.train.seed)


def flow_batches(recipe: Recipe, accelerator: Accelerator, start: int) -> Iterator[FlowBatch]:
    """The same for FlowNetS; made by worker processes."""
    loader = _loader(recipe, accelerator, start, flow_pairs(recipe), stacked_pairs)
    return (batch.to(accelerator.device) for batch in loader)


def tubes(recipe: Recipe) -> Tubes:
    """The clips of a recipe, with everything in them: of rendered scenes, or of data sets.

    Raises:
        InputError: a source is missing, has nothing to train on, or is asked for what clips with everything cannot.
    """
    if recipe.data.mix == "batch":
        raise InputError("data.mix=batch: batches of the query core have clips of all sources, mix=sample")
    return Tubes([_tubes_of(recipe, source) for source in _drawn_from(recipe)], seed=recipe.train.seed)


def _tubes_of(recipe: Recipe, source: SourceRecipe) -> tuple[TubeSource, float]:
    """The clips of a source, with its weight."""
    if source.copy_paste:
        raise InputError(f"{source.key} has copy_paste: only objects that are tracked can be pasted, set it to 0")
    if source.name == SYNTHETIC:
        return RenderedTubes(_rendered(recipe, source)), _weight(source)
    opened = _dataset(recipe, source)
    made = AnnotatedTubes(
        _part(recipe, source, opened.videos),
        opened.categories.things_first(),
        frames=recipe.task.frames,
        augment=_augmentation(recipe, source),
        every=source.every,
        keyed=recipe.model.family == "mpvss",
    )
    return made, _weight_among(source, len(made))


def prompted_clips(recipe: Recipe) -> PromptedClips:
    """The clips of a recipe with prompts; every source has names of classes of its own.

    Raises:
        InputError: a source is missing, or has nothing to train on.
    """
    sources = []
    for source in _drawn_from(recipe):
        (made, weight), space = _tubes_of(recipe, source), _classes_learned(recipe, source)
        sources.append(((made, () if space is None else space.names), weight))
    plan = recipe.train
    return PromptedClips(sources, recipe.task, seed=plan.seed, batch=plan.batch, mix=recipe.data.mix)


def prompted_batches(recipe: Recipe, accelerator: Accelerator, start: int) -> Iterator[PromptedBatch]:
    """The same for UniVS; made by worker processes."""
    loader = _loader(recipe, accelerator, start, prompted_clips(recipe), stacked_prompts)
    return (batch.to(accelerator.device) for batch in loader)


def target_clips(recipe: Recipe) -> TargetClips:
    """The clips of a recipe with what is asked for in them; every source has a label space of its own.

    Raises:
        InputError: a source is missing, has nothing to train on, or nothing that the recipe asks for; or batches are to
            have clips of several sources.
    """
    plan = recipe.train
    if recipe.data.mix == "sample":
        raise InputError("data.mix=sample: batches of TarViS have clips of one source, mix=batch")
    sources = []
    for source in _drawn_from(recipe):
        kinds, space = _kinds(recipe, source), _space(recipe, source).things_first()
        made, weight = _tubes_of(recipe, source)
        sources.append((TargetSource(made, kinds, space), weight))
    return TargetClips(sources, recipe.task, seed=plan.seed, batch=plan.batch)


def target_batches(recipe: Recipe, accelerator: Accelerator, start: int) -> Iterator[TargetBatch]:
    """The same for TarViS; made by worker processes."""
    loader = _loader(recipe, accelerator, start, target_clips(recipe), stacked_targets)
    return (batch.to(accelerator.device) for batch in loader)


def target_spaces(recipe: Recipe) -> tuple[CategorySet, ...]:
    """The label spaces whose classes a TarViS of a recipe learns, things first.

    Raises:
        InputError: see `target_clips`, or two sources have other classes under one name.
    """
    spaces: dict[str, CategorySet] = {}
    for source in _drawn_from(recipe):
        if {"vis", "vps"} & set(_kinds(recipe, source)):
            space = _space(recipe, source).things_first()
            if spaces.setdefault(space.name, space).names != space.names:
                raise InputError(f"{source.key} has other classes of {space.name} than another source: leave one out")
    return tuple(spaces.values())


def _kinds(recipe: Recipe, source: SourceRecipe) -> dict[Kind, float]:
    """What clips of a source are asked for, with weights.

    Raises:
        InputError: nothing, or more than its labels allow.
    """
    allowed: list[Kind] = ["vis", "vps", "objects"]
    if source.name != SYNTHETIC:
        from maskstream.datasets.catalogue import find_dataset

        tasks = set(find_dataset(source.name).tasks)
        has: dict[Kind, bool] = {
            "vis": bool({Task.VIS, Task.VPS} & tasks),
            "vps": Task.VPS in tasks,
            "objects": bool(tasks - {Task.VSS}),
        }
        allowed = [kind for kind in allowed if has[kind]]
    wanted = allowed if source.kinds is None else source.kinds
    if not set(wanted) <= set(allowed):
        raise InputError(f"{source.key} cannot be taken for all of {', '.join(wanted)}: {', '.join(allowed) or 'none'}")
    weights = {kind: weight for kind in wanted if (weight := getattr(recipe.task.kinds, kind))}
    if not weights:
        raise InputError(f"task.kinds asks for nothing that {source.key} has: {', '.join(wanted) or 'none'}")
    return weights


def first_classes(recipe: Recipe) -> CategorySet:
    """What the first source of a recipe shows that says what it shows: what is meant where nobody says otherwise.

    Raises:
        InputError: no source does.
    """
    for source in _drawn_from(recipe):
        if (space := _classes_learned(recipe, source)) is not None:
            return space
    raise InputError("no source of the recipe names classes: take one that does, too")


def _classes_learned(recipe: Recipe, source: SourceRecipe) -> CategorySet | None:
    """What a source shows; None where objects have no class, or not all of a class are there (UniVS, appendix B.1)."""
    if source.name != SYNTHETIC:
        from maskstream.datasets.catalogue import find_dataset

        if not {Task.VIS, Task.VSS, Task.VPS} & set(find_dataset(source.name).tasks):
            return None
    return _space(recipe, source).things_first()


def _space(recipe: Recipe, source: SourceRecipe) -> CategorySet:
    return WORLD if source.name == SYNTHETIC else _dataset(recipe, source).categories


def tube_classes(recipe: Recipe) -> CategorySet:
    """What the clips of a recipe show, all of one label space.

    Raises:
        InputError: its sources have several.
    """
    spaces = {source.key: _space(recipe, source) for source in recipe.data.sources}
    (first, space), *others = spaces.items()
    for key, other in others:
        if other.names != space.names:
            raise InputError(
                f"{first} and {key} have other categories: the query core learns one label space at a time"
            )
    return space.things_first()


def moving_pictures(recipe: Recipe, gaps: Sequence[int]) -> MovingPictures:
    """The pictures of a recipe: of rendered scenes, perhaps of cut-outs that are pasted, and of videos.

    Raises:
        InputError: there are other sources, or a folder is missing.
    """
    sources = {source.name: source for source in recipe.data.sources}
    if SYNTHETIC not in sources or not set(sources) <= {SYNTHETIC, CUTOUTS, FILMED}:
        raise InputError(
            f"data.sources are {', '.join(sources)}: motion is learned from {SYNTHETIC}, {CUTOUTS} and {FILMED}"
        )
    longest = max(gaps)
    times = [longest - gap for gap in (0, *sorted(gaps, reverse=True))]
    cutouts, filmed = None, None
    if CUTOUTS in sources:
        from maskstream.synthetic.cutouts import read_cutouts

        cutouts = read_cutouts(_root(recipe, sources[CUTOUTS]))
    if FILMED in sources:
        folder = Path(_root(recipe, sources[FILMED]))
        videos = sorted(folder.glob("*.mp4"))
        if not videos:
            raise InputError(f"{folder} has no video: name a folder of .mp4 files")
        filmed = FilmedPictures(videos, gaps)
    scenes, pasted, real = (_weight(sources.get(name)) for name in (SYNTHETIC, CUTOUTS, FILMED))
    return MovingPictures(
        gaps=gaps,
        size=recipe.data.size,
        seed=recipe.train.seed,
        rendered=_rendered(recipe, sources[SYNTHETIC], times=times),
        cutouts=cutouts,
        filmed=filmed,
        weights=(scenes, pasted, real),
    )


def _weight(source: SourceRecipe | None) -> float:
    return 0.0 if source is None else 1.0 if source.weight is None else source.weight


def _weight_among(source: SourceRecipe, clips: int) -> float:
    """The weight of a source that has so many clips."""
    return float(clips * (1 if source.repeat is None else source.repeat)) if source.weight is None else source.weight


def _drawn_from(recipe: Recipe) -> list[SourceRecipe]:
    """The sources of a recipe but those that are switched off."""
    return [source for source in recipe.data.sources if source.weight != 0 and source.repeat != 0]


def _part(recipe: Recipe, source: SourceRecipe, videos: Sequence[VideoSample]) -> Sequence[VideoSample]:
    """What is used of the videos of a source."""
    fraction = source.fraction if recipe.data.fraction is None else recipe.data.fraction
    return some_of(videos, fraction, seed=recipe.train.seed)


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
    return Mixture(
        [_opened(recipe, source) for source in _drawn_from(recipe)],
        seed=recipe.train.seed,
        batch=recipe.train.batch,
        steps=recipe.train.steps,
        objects=recipe.task.objects,
        mix=recipe.data.mix,
    )


def _rendered(
    recipe: Recipe,
    source: SourceRecipe,
    device: torch.device | str = "cpu",
    *,
    times: Sequence[int] | None = None,
) -> RenderedClips:
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
        times=times,
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
    if source.name == SYNTHETIC:
        return _rendered(recipe, source), _weight(source)
    if source.name == CUTOUTS:
        return _pasted(recipe, source), _weight(source)
    videos = _part(recipe, source, _videos(recipe, source))
    name = recipe.data.augmentation or source.augmentation
    augment, length = _augmentation(recipe, source), recipe.task.frames
    clips: ImageClips | VideoClips
    if name == "static" or len(videos[0]) == 1:
        clips = ImageClips(videos, length=length, augment=augment)
    else:
        clips = VideoClips(videos, length=length, augment=augment, gaps=GapSchedule(every=source.every))
    return (_Pasted(clips, source.copy_paste) if source.copy_paste else clips), _weight_among(source, len(clips))


def _augmentation(recipe: Recipe, source: SourceRecipe) -> Augmentation:
    return _AUGMENTATIONS[recipe.data.augmentation or source.augmentation](recipe.data.size, source)


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
    from maskstream.datasets import DATASETS
    from maskstream.datasets.synthetic import is_synthetic

    root = None if is_synthetic(source.name) else _root(recipe, source)
    if source.name in DATASETS or is_synthetic(source.name):
        videos = _dataset(recipe, source).videos
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


def _dataset(recipe: Recipe, source: SourceRecipe) -> LabelledDataset:
    """The data set of a source.

    Raises:
        InputError: there is no such data set, nobody said where it is, or it is not there.
    """
    from maskstream.datasets import open_dataset
    from maskstream.datasets.synthetic import is_synthetic

    root = None if is_synthetic(source.name) else _root(recipe, source)
    return open_dataset(source.name, root, split=source.split)
