"""From a recipe to a folder: what it names is opened and built, the loop runs, weights and a report are written.

OUT/run.json           what was asked for
    recipe.yaml        every setting
    curve.csv          a row an iteration; validation.csv, pictures/ a row and a picture a validation
    checkpoints/       to continue from
    weights/           the network, as commands take it
    report.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from accelerate import Accelerator

from maskstream.files import write_text_atomic
from maskstream.mask2former.checkpoints import load_core
from maskstream.mask2former.criterion import SetCriterion
from maskstream.mask2former.network import ClipMask2Former, with_classes
from maskstream.mask2former.sizes import CORE_SIZES, load_backbone, new_network
from maskstream.propagation.network import NetworkConfig, PropagationNetwork, load_checkpoint
from maskstream.segmenters.click import ClickConfig, ClickNetwork, load_click_network
from maskstream.segmenters.motion_network import MotionConfig, MotionNetwork, load_motion_network
from maskstream.shipped import shipped
from maskstream.sinks.folder import OwnedFolder
from maskstream.synthetic.scene import THINGS
from maskstream.systems.mpvss.checkpoints import take_flow
from maskstream.systems.mpvss.motion import Motion
from maskstream.systems.mpvss.motion import MotionConfig as FlowConfig
from maskstream.systems.mpvss.network import MpvssNetwork, motion_config, read_motion
from maskstream.systems.tarvis.label_spaces import marked
from maskstream.systems.tarvis.network import PART as TARVIS
from maskstream.systems.tarvis.network import TarViSConfig, TarViSNetwork, read_tarvis
from maskstream.systems.tubelink.losses import AssociationLoss, TubeCriterion
from maskstream.systems.tubelink.network import TubeLinkConfig, TubeLinkNetwork, take_association
from maskstream.systems.univs.network import PART, UniVSConfig, UniVSNetwork, read_univs
from maskstream.systems.univs.text import load_text, new_text
from maskstream.types import OBJECT, InputError

from .backbone import BackboneLearner, stacked_crops
from .checkpoint import newest
from .clicked import ClickLearner, stacked_pictures
from .core import CoreLearner
from .curve import CURVE, VALIDATION, read_curve
from .data import (
    batches,
    click_batches,
    clicked_pictures,
    crop_batches,
    examples,
    first_classes,
    flow_batches,
    flow_pairs,
    motion_batches,
    moving_pictures,
    prompted_batches,
    target_batches,
    target_spaces,
    thing_crops,
    tube_batches,
    tube_classes,
)
from .flow import FlowLearner, stacked_pairs
from .initial import load_image_backbone, load_mask_backbone
from .loop import CHECKPOINTS, Learner, Progress, accelerator_for, train
from .moving import MotionLearner, stacked
from .mpvss import MpvssLearner
from .propagation import PropagationLearner
from .recipe import FILMED, ModelRecipe, Recipe, recipe_text, what_decides
from .report import write_report
from .schedule import mixed
from .tarvis import TarViSLearner, retargeted, tarvis_from_core
from .tubelink import TubeLinkLearner
from .tubes import cut
from .univs import UniVSLearner, grammar, univs_from_core

if TYPE_CHECKING:
    from transformers import Mask2FormerForUniversalSegmentation

B = TypeVar("B")

WEIGHTS = "weights"
_LAST = 20
"""Iterations over whose losses the mean is told."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How far a run is.

    Attributes:
        done: iterations.
        steps: of the recipe.
        loss: mean of the last 20.
        scores: of the last validation.
        stopped_by: "signal" or "time", where it ended before all were done.
        leads: whether this is the first of several processes, or the only one.
        processes: how many share the batches.
    """

    done: int
    steps: int
    loss: float
    scores: Mapping[str, float]
    stopped_by: str | None
    leads: bool
    processes: int


class _Folder(OwnedFolder):
    """The output folder; a complete run goes on when it gets more steps."""

    def reopen(self) -> None:
        self._write_run(complete=False)


def run_recipe(
    recipe: Recipe,
    output: Path,
    *,
    overwrite: bool = False,
    cpu: bool = False,
    board: bool = False,
    on_step: Callable[[Progress], None] = lambda _: None,
) -> Summary:
    """Train as a recipe says, from the beginning or from where an earlier run of it was.

    Args:
        recipe: what to train, on what, how.
        output: folder, for one recipe.
        overwrite: begin anew what is there of another one.
        cpu: leave GPUs alone.
        board: write files for TensorBoard, too.
        on_step: called after every iteration, by the first process.

    Raises:
        InputError: the recipe does not fit together, data or weights are missing, or a checkpoint is damaged.
        OutputError: the folder belongs to something else, or cannot be written.
        DivergedError: the loss is infinite or NaN.
    """
    accelerator = accelerator_for(recipe.train, cpu=cpu)
    summary = _run(recipe, output, accelerator, overwrite=overwrite, board=board, on_step=on_step)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return summary


def _run(
    recipe: Recipe,
    output: Path,
    accelerator: Accelerator,
    *,
    overwrite: bool,
    board: bool,
    on_step: Callable[[Progress], None],
) -> Summary:
    request = {"command": "train", **what_decides(recipe)}
    leads = accelerator.is_main_process
    if leads:
        _Folder(output, request, overwrite=overwrite)
    accelerator.wait_for_everyone()
    folder = _Folder(output, request)
    steps, checkpoint = recipe.train.steps, newest(output / CHECKPOINTS)
    done = 0 if checkpoint is None else int(checkpoint.name)
    if done > steps:
        raise InputError(
            f"{output} is at iteration {done}, and train.steps={steps} is behind it: give more, or --overwrite"
        )
    if done == steps and folder.complete:
        return _summary(output, Progress(done, steps, {}), accelerator)
    if leads:
        folder.reopen()
        write_text_atomic(output / "recipe.yaml", recipe_text(recipe))
    what = (recipe, output, accelerator, on_step, board)
    if recipe.model.family == "motion":
        progress = _fit(build_motion_learner(recipe), motion_batches, *what)
    elif recipe.model.family == "click":
        progress = _fit(build_click_learner(recipe), click_batches, *what)
    elif recipe.model.family == "backbone":
        progress = _fit(build_backbone_learner(recipe), crop_batches, *what)
    elif recipe.model.family == "tubelink":
        progress = _fit(build_tubelink_learner(recipe), tube_batches, *what)
    elif recipe.model.family == "mpvss":
        progress = _fit(build_mpvss_learner(recipe), tube_batches, *what)
    elif recipe.model.family == "univs":
        progress = _fit(build_univs_learner(recipe), prompted_batches, *what)
    elif recipe.model.family == "tarvis":
        progress = _fit(build_tarvis_learner(recipe), target_batches, *what)
    elif recipe.model.family == "flow":
        progress = _fit(build_flow_learner(recipe), flow_batches, *what)
    elif recipe.model.family == "core":
        progress = _fit(build_core_learner(recipe), tube_batches, *what)
    else:
        progress = _fit(build_learner(recipe), batches, *what)
    if leads:
        write_report(output, recipe)
        if progress.done == steps:
            folder.finish()
    return _summary(output, progress, accelerator)


def _fit(
    learner: Learner[B],
    batches: Callable[[Recipe, Accelerator, int], Iterator[B]],
    recipe: Recipe,
    output: Path,
    accelerator: Accelerator,
    on_step: Callable[[Progress], None],
    board: bool,
) -> Progress:
    """Train and write the weights."""
    leads = accelerator.is_main_process
    best, progress = train(
        learner,
        partial(batches, recipe, accelerator),
        recipe,
        output,
        accelerator=accelerator,
        on_step=on_step if leads else lambda _: None,
        board=board,
    )
    if leads:
        best.save(output / WEIGHTS)
    return progress


def _summary(output: Path, progress: Progress, accelerator: Accelerator) -> Summary:
    losses, scores = read_curve(output / CURVE).get("loss", []), read_curve(output / VALIDATION)
    return Summary(
        progress.done,
        progress.steps,
        float(np.mean(losses[-_LAST:])) if losses else float("nan"),
        {name: values[-1] for name, values in list(scores.items())[1:] if values},
        progress.stopped_by,
        accelerator.is_main_process,
        accelerator.num_processes,
    )


# The model.


def build_learner(recipe: Recipe) -> PropagationLearner:
    """The network of a recipe, with its loss and its validation.

    Raises:
        InputError: weights cannot be read, or are of another network.
    """
    task = recipe.task
    torch.manual_seed(mixed(recipe.train.seed, 0))
    return PropagationLearner(
        build_network(recipe.model),
        objects=task.objects,
        memory_frames=task.memory_frames,
        deep_update=task.deep_update,
        auxiliary=task.auxiliary,
        bootstrap=task.bootstrap,
        hardest=task.hardest,
        mistakes=task.mistakes,
        frozen_normalisation=recipe.model.frozen_normalisation,
        validation=recipe.validate,
    )


def build_motion_learner(recipe: Recipe) -> MotionLearner:
    """The motion network of a recipe, with its loss and its validation.

    Raises:
        InputError: weights cannot be read.
    """
    torch.manual_seed(mixed(recipe.train.seed, 0))
    init = recipe.model.init
    network = MotionNetwork(MotionConfig()) if init is None else load_motion_network(Path(init))
    true = replace(recipe.data, sources=tuple(source for source in recipe.data.sources if source.name != FILMED))
    pictures = moving_pictures(replace(recipe, data=true), network.config.gaps)
    return MotionLearner(network, examples(pictures, stacked, recipe.validate))


def build_click_learner(recipe: Recipe) -> ClickLearner:
    """The click network of a recipe, with its loss and its validation.

    Raises:
        InputError: weights cannot be read.
    """
    torch.manual_seed(mixed(recipe.train.seed, 0))
    init = recipe.model.init
    network = ClickNetwork(ClickConfig()) if init is None else load_click_network(Path(init))
    pictures = clicked_pictures(recipe)
    return ClickLearner(network, examples(pictures, stacked_pictures, recipe.validate))


def build_core_learner(recipe: Recipe) -> CoreLearner:
    """The query core of a recipe, with its loss and its validation.

    Raises:
        InputError: weights cannot be read, no size is named, or data sets do not fit together.
    """
    torch.manual_seed(mixed(recipe.train.seed, 0))
    names = tube_classes(recipe).names
    clips = ClipMask2Former(_core(recipe.model, names), time_code=recipe.task.frames > 1)
    task = recipe.task
    return CoreLearner(clips.train(), points=task.points, auxiliary=task.auxiliary, validation=recipe.validate)


def build_tubelink_learner(recipe: Recipe) -> TubeLinkLearner:
    """Tube-Link of a recipe, with its losses and its validation.

    Raises:
        InputError: weights cannot be read, no size is named, data sets do not fit together, or tubes are not equal.
    """
    torch.manual_seed(mixed(recipe.train.seed, 0))
    task, space = recipe.task, tube_classes(recipe)
    shared = task.overlap * (task.tubes - 1)
    if (task.frames + shared) % task.tubes or task.frames + shared < task.tubes * (task.overlap + 1):
        raise InputError(f"clips of {task.frames} frames are not {task.tubes} tubes of one length: change task.frames")
    kinds = [category.is_thing is not False for category in space.categories]
    things = sum(kinds)
    stuff_slots = len(space) - things if task.slots else 0
    config = TubeLinkConfig(
        stuff_slots=stuff_slots, association=task.association and task.tubes > 1, link=task.link, window=task.window
    )
    network = TubeLinkNetwork(_core(recipe.model, space.names), config)
    if recipe.model.init is not None:
        take_association(network, Path(_begun_from(recipe.model.init)))
    criterion = TubeCriterion(stuff_slots=stuff_slots, criterion=SetCriterion(points=task.points))
    association = AssociationLoss(
        things=things, stuff_slots=stuff_slots, points=task.points, link=task.link, assignment=task.assignment
    )
    return TubeLinkLearner(
        network.train(),
        tubes=task.tubes,
        overlap=task.overlap,
        criterion=criterion,
        association=association if config.association else None,
        validation=recipe.validate,
    )


_TINY_MOTION = {
    "widths": (16, 32, 64, 128, 128, 256),
    "feedforward": 512,
    "motion_dim": 64,
    "decoder_widths": (64, 64, 64, 32),
    "consistent": True,
}
"""Sizes of the motion module beside ``core-tiny``."""

_FLOWNET_WIDTHS = (512, 256, 128, 64)
"""Of the expanding part, as published; that of the method is narrower, because it begins from maps of queries."""


def build_mpvss_learner(recipe: Recipe) -> MpvssLearner:
    """MPVSS of a recipe, with its loss and its validation.

    Raises:
        InputError: weights cannot be read, there are none to begin from, or they are of another kind of flow.
    """
    torch.manual_seed(mixed(recipe.train.seed, 0))
    model = recipe.model
    if model.init is None:
        raise InputError(
            "the motion module is trained beside a Mask2Former that was trained before: name it with --from"
        )
    if recipe.task.frames != 2:
        raise InputError(f"a key frame and another are 2 frames, not task.frames={recipe.task.frames}")
    core = _core(model, tube_classes(recipe).names)
    flow, query = model.flow or "fused", model.flow_query or "key"
    sizes = _TINY_MOTION if model.size == "tiny" else {"decoder_widths": _FLOWNET_WIDTHS} if flow == "pixel" else {}
    motion = read_motion(Path(_begun_from(model.init))) or Motion(motion_config(core, **sizes, flow=flow, query=query))
    own = motion.config
    if (own.flow, own.query) != (model.flow or own.flow, model.flow_query or own.query):
        raise InputError(
            f"{model.init} has {own.flow} flow of {own.query} queries: leave out model.flow and model.flow_query, or "
            "begin from a Mask2Former alone"
        )
    if model.flow_encoder is not None:
        take_flow(Path(model.flow_encoder), motion)
    return MpvssLearner(
        MpvssNetwork(core, motion),
        points=recipe.task.points,
        validation=recipe.validate,
        frozen_eval=model.frozen_eval,
    )


def build_flow_learner(recipe: Recipe) -> FlowLearner:
    """FlowNetS of a recipe, for the motion module of MPVSS, with its loss and its validation.

    Raises:
        InputError: weights cannot be read, sources are no scenes, or the kind of flow needs what is not there.
    """
    torch.manual_seed(mixed(recipe.train.seed, 0))
    model = recipe.model
    sizes = _TINY_MOTION if model.size == "tiny" else {"decoder_widths": _FLOWNET_WIDTHS}
    if model.flow == "refined":
        if model.init is None:
            raise InputError("maps that queries refine are made for a Mask2Former: name it with --from")
        own = {**sizes, "flow": "refined", "query": "learned"}
        motion = read_motion(Path(_begun_from(model.init))) or Motion(
            motion_config(load_core(_begun_from(model.init)), **own)
        )
        if motion.config.flow != "refined":
            raise InputError(f"{model.init} has {motion.config.flow} flow: leave out model.flow")
        if model.flow_encoder is not None:
            take_flow(Path(model.flow_encoder), motion)
    elif model.flow in (None, "pixel"):
        motion = Motion(FlowConfig(**sizes, flow="pixel"))
        if model.init is not None:
            take_flow(Path(model.init), motion)
    else:
        raise InputError(f"true flow is learned by pixel or refined flow, not by model.flow={model.flow}")
    return FlowLearner(motion, examples(flow_pairs(recipe), stacked_pairs, recipe.validate))


def build_univs_learner(recipe: Recipe) -> UniVSLearner:
    """UniVS of a recipe, with its losses and its validation.

    Raises:
        InputError: weights cannot be read, no size is named, or clips are not equal.
    """
    torch.manual_seed(mixed(recipe.train.seed, 0))
    model, task = recipe.model, recipe.task
    first, *_ = cut(task.frames, task.tubes, task.overlap)
    begun = None if model.init is None else Path(_begun_from(model.init))
    text = None if model.text is None else load_text(model.text).requires_grad_(False)
    if begun is not None and (begun / f"{PART}.json").is_file():
        network, own = read_univs(begun)
        text = text or own
        if text is None:
            raise InputError(f"{begun} has no text tower: name one with model.text")
        text.requires_grad_(model.text is None and len(text.templates) == 1)  # a small one goes on learning
        network.requires_grad_(True)
    else:
        space = first_classes(recipe)
        text = text or new_text([*grammar(), *space.names])
        network = UniVSNetwork(_core(model, space.names), UniVSConfig(text_dim=text.dim))
        if begun is not None:
            network = univs_from_core(network, text.names(space.names))
    window = task.window or first.stop
    network.config = replace(network.config, separation=task.separation, proca=task.proca, frames=window)
    return UniVSLearner(
        network,
        text,
        task=task,
        frozen=model.frozen,
        frozen_normalisation=model.frozen_normalisation,
        validation=recipe.validate,
    )


def build_tarvis_learner(recipe: Recipe) -> TarViSLearner:
    """TarViS of a recipe, with its losses and its validation.

    Raises:
        InputError: weights cannot be read, no size is named, or sources do not have what they are asked for.
    """
    torch.manual_seed(mixed(recipe.train.seed, 0))
    model, task, spaces = recipe.model, recipe.task, target_spaces(recipe)
    begun = None if model.init is None else Path(_begun_from(model.init))
    known = read_tarvis(begun) if begun is not None and (begun / f"{TARVIS}.json").is_file() else None
    core = _core(model, (*spaces, OBJECT)[0].names) if known is None else known.core
    config = (
        known.config
        if known is not None
        else TarViSConfig(
            label_spaces=(),
            classes=(),
            object_layers=model.object_layers,
            object_hidden=core.config.dim_feedforward,
            neck_hidden=core.config.encoder_feedforward_dim,
        )
    )
    config = replace(
        config,
        label_spaces=tuple(space.name for space in spaces),
        classes=tuple(len(space) for space in spaces),
        names=tuple(name for space in spaces for name in marked(space)),
        object_queries=task.object_queries,
        grid=task.grid,
        frames=task.window or config.frames,
    )
    network = TarViSNetwork(core, config) if known is None else retargeted(known, config)
    if known is None and begun is not None:
        network = tarvis_from_core(network)
    return TarViSLearner(
        network.requires_grad_(True),
        task=task,
        frozen_normalisation=model.frozen_normalisation,
        validation=recipe.validate,
    )


def build_backbone_learner(recipe: Recipe) -> BackboneLearner:
    """The backbone of a query core, with its loss and its validation.

    Raises:
        InputError: weights cannot be read, or no size is named.
    """
    torch.manual_seed(mixed(recipe.train.seed, 0))
    backbone = _core(recipe.model, THINGS).model.pixel_level_module.encoder
    return BackboneLearner(backbone.train(), examples(thing_crops(recipe), stacked_crops, recipe.validate))


def _begun_from(init: str) -> str:
    """Where a query core is that is named, in the package or elsewhere."""
    own = next((model for model in shipped() if model.name == init and model.kind in ("segmenter", "weights")), None)
    return init if own is None else str(own.folder)


def _core(model: ModelRecipe, names: Sequence[str]) -> Mask2FormerForUniversalSegmentation:
    if model.init is not None:  # its backbone is trained already
        return with_classes(load_core(_begun_from(model.init)), names)
    if model.size is None or model.size not in CORE_SIZES:
        known = ", ".join(CORE_SIZES)
        raise InputError(
            f"model.size is {model.size}: the query core has {known}, or weights to begin from with --from"
        )
    network = new_network(CORE_SIZES[model.size](names))
    if model.image_backbone is not None:
        load_backbone(network, model.image_backbone)
    return network


def build_network(model: ModelRecipe) -> PropagationNetwork:
    """The network of a recipe with the weights it begins from; the others are random.

    Raises:
        InputError: weights cannot be read, or are of another network.
    """
    if model.init is not None:
        network = load_checkpoint(model.init)
        if model.size is not None and network.config != _config(model.size):
            raise InputError(f"{model.init} is not of the size {model.size}: leave model.size=null to take its own")
        return network
    if model.size is None:
        raise InputError("model.size is empty: name one, or weights to begin from with --from")
    network = PropagationNetwork(_config(model.size))
    if model.image_backbone is not None:
        load_image_backbone(network, Path(model.image_backbone))
    if model.mask_backbone is not None:
        load_mask_backbone(network, Path(model.mask_backbone))
    return network


def _config(size: str) -> NetworkConfig:
    return {"small": NetworkConfig.small, "deva": NetworkConfig.deva, "xmem": NetworkConfig.xmem}[size]()
