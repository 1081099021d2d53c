"""A recipe: what is trained, on what, and how. YAML in the package or of one's own, read strictly.

recipes/propagate-small.yaml ─┐
train.steps=200 … ────────────┴─► load_recipe ─► Recipe ─► run
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, cast

from maskstream.synthetic.world import Level
from maskstream.types import InputError

from .strict import (
    AtLeastThree,
    Count,
    Fraction,
    Natural,
    NotNegative,
    Plain,
    Positive,
    parse,
    read,
    to_plain,
    with_override,
)

SHIPPED = Path(__file__).parents[1] / "recipes"
SYNTHETIC = "synthetic"
"""The source that is rendered as training goes."""
CUTOUTS = "cutouts"
"""The source whose root holds pictures with masks, which are pasted on each other and move."""
FILMED = "clips"
"""The source whose root holds videos, which the method without weights labels; for the motion network."""
PAIRS = "pairs"
"""The source whose root is the same, and whose pictures are taken as they are; for the click network."""

Kind: TypeAlias = Literal["vis", "vps", "objects"]
"""What a clip is asked for in TarViS: instances, regions with everything else, or objects that are pointed out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecipe:
    """What is trained.

    Attributes:
        family: of the model; "core" is the query core, `maskstream.mask2former`, and "backbone" its backbone alone;
            "tubelink", "mpvss", "univs" and "tarvis" are built around it.
        size: of the propagation network, or "tiny", "r50" or "swin-t" of the query core; None: that of the weights it
            starts from. Of "mpvss" and "flow" that of the motion module: "tiny", otherwise as published.
        frozen_normalisation: keep the statistics of batch normalisation as they are, as published.
        frozen_eval: of "mpvss": what does not learn is as it is in use. False is what the authors' program does:
            statistics of batch normalisation move all the same, and paths of Swin are dropped.
        init: folder or file of weights to start from.
        image_backbone: file of ImageNet weights to start the pixel encoder from, of a ResNet-50 as torchvision names
            them; for the query core a folder or a name of the hub, of the same kind of backbone, and only without init.
        mask_backbone: the same for the mask encoder, of a ResNet-18.
        flow_encoder: to start the motion encoder from: file of a trained FlowNetS, or folder of weights of "flow",
            of which more is taken where it fits.
        flow: of "mpvss", what moves masks: query flow "fused" with pixel flow (the method), "query" flow by itself,
            "pixel" flow as FlowNet finds it, or pixel flow that queries "refined"; None: that of the weights it starts
            from, else the method's. Of "flow" one of the last two; None: "pixel".
        flow_query: where queries of the flow come from: the "key" frame (the method), "learned", or "random" and never
            trained; None: the same.
        text: folder or name of the hub of a CLIP text tower, for "univs"; it stays as it is. None: that of the weights,
            or a small new one that is trained, too.
        frozen: what of a "univs" stays as it is: nothing, the backbone, or the pixel decoder, too.
        object_layers: of the object encoder of a new "tarvis".
    """

    family: Literal[
        "propagation", "motion", "click", "core", "backbone", "tubelink", "mpvss", "flow", "univs", "tarvis"
    ] = "propagation"
    size: Literal["small", "deva", "xmem", "tiny", "r50", "swin-t"] | None = "deva"
    frozen_normalisation: bool = True
    frozen_eval: bool = True
    init: str | None = None
    image_backbone: str | None = None
    mask_backbone: str | None = None
    flow_encoder: str | None = None
    flow: Literal["fused", "query", "pixel", "refined"] | None = None
    flow_query: Literal["key", "learned", "random"] | None = None
    text: str | None = None
    frozen: Literal["nothing", "backbone", "pixels"] = "nothing"
    object_layers: Count = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class KindsRecipe:
    """How often a batch is of which kind, beside others that its source has; see `Kind`.

    Attributes:
        vis: weight.
        vps: weight.
        objects: weight.
    """

    vis: NotNegative = 0.3
    vps: NotNegative = 0.3
    objects: NotNegative = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecipe:
    """What a step looks at, and its loss: the unrolled step of DEVA, specification §15, and that of the query core.

    Attributes:
        frames: of a clip.
        objects: of a clip at most; of TarViS, where objects are pointed out.
        memory_frames: that a query reads at most.
        deep_update: how probable it is after a frame.
        auxiliary: weight of the auxiliary loss; of the query core, of the classes of places.
        bootstrap: iterations between which the fraction of pixels that count goes from 1 to ``hardest``.
        hardest: this fraction at last.
        mistakes: how probable it is that what was found in a sample is spoilt on a frame, for training to mend it.
        points: of a clip at which the masks of the query core are compared with the truth; of UniVS and TarViS, of each
            frame, and of TarViS in VIS also those at which classes of pixels are.
        tubes: of a clip, for Tube-Link and UniVS; 2: things of one and the other learn to be the same.
        overlap: frames that two tubes share.
        slots: whether the last queries stand for the classes of stuff, each for one.
        link: whether queries of a tube look at those of the one before.
        association: whether embeddings are learned where there are two tubes.
        assignment: by what queries are told to be of a thing, for that: its masks in all frames of the tube, its mask
            in the first alone, or every query whose tube overlaps it.
        window: frames of a tube that the trained network decodes at a time, where nobody says otherwise.
        prompting: whether there are queries of prompts, for UniVS, beside those that are learned.
        proca: whether these look at what their prompts point at.
        separation: who sees whom; see `systems.univs.network.Separation`.
        tokens: of a visual prompt.
        visual: how probable visual prompts are where names of classes could be prompts.
        expressions: how probable sentences are where there are some.
        reid: weight of each group of the loss of embeddings.
        kinds: of batches, for TarViS.
        point_share: how probable it is that an object is pointed out with a point, not with its mask.
        reference: frame on which objects are pointed out: any on which one is seen, or the first of these.
        object_queries: of an object with a mask, in training.
        grid: whether what no mask covers has queries beside those of objects.
        vps_points: of each frame at which classes of pixels are compared in VPS.
    """

    frames: Count = 8
    objects: Count = 3
    memory_frames: Count = 3
    deep_update: Fraction = 0.2
    auxiliary: NotNegative = 0.1
    bootstrap: tuple[Natural, Natural] = (10_000, 35_000)
    hardest: Fraction = 0.3
    mistakes: Fraction = 0.0
    points: Count = 12_544
    tubes: Count = 1
    overlap: Natural = 0
    slots: bool = False
    link: Literal["attention", "none"] = "attention"
    association: bool = True
    assignment: Literal["tube", "frame", "dense"] = "tube"
    window: Count | None = None
    prompting: bool = True
    proca: bool = True
    separation: Literal["sep", "sep-blocked", "sep-l2p", "none"] = "sep"
    tokens: Count = 32
    visual: Fraction = 0.31
    expressions: Fraction = 0.3
    reid: NotNegative = 0.5
    kinds: KindsRecipe = field(default_factory=KindsRecipe)
    point_share: Fraction = 0.3
    reference: Literal["any", "first"] = "any"
    object_queries: Count = 4
    grid: bool = True
    vps_points: Count = 25_088


Augmentation: TypeAlias = Literal["stable", "aggressive", "static", "large-scale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecipe:
    """Where clips come from: a data set, or scenes and cut-outs that are drawn as training goes.

    Attributes:
        name: of the data set, or "synthetic", or "cutouts".
        as_: the name under which its root is given, where several sources are of one data set.
        split: of the data set; None: its first.
        weight: how often it is drawn from, beside others.
        repeat: instead of a weight: as often as it has videos, times this.
        every: how many frames of the video are from one annotated frame to the next; gaps are divided by it.
        augmentation: of its clips.
        scale: least and greatest of "large-scale" jitter; 1 makes the long side ``data.size``.
        copy_paste: how probable it is that objects of another clip are pasted.
        fraction: of its videos that is used.
        level: of rendered scenes.
        step: take every so many frames of a rendered scene; of cut-outs, up to so many.
        textures: a texture pack to paint rendered scenes with.
        stuff: take stuff for objects too, in rendered scenes.
        kinds: what it is taken for in TarViS; None: all that its labels allow.
    """

    name: str
    as_: str | None = None
    split: str | None = None
    weight: NotNegative | None = None
    repeat: Natural | None = None
    every: Count = 1
    augmentation: Augmentation = "stable"
    scale: tuple[Positive, Positive] = (0.1, 2.0)
    copy_paste: Fraction = 0.0
    fraction: Fraction = 1.0
    level: Level = "medium"
    step: Count = 1
    textures: str | None = None
    stuff: bool = False
    kinds: tuple[Kind, ...] | None = None

    @property
    def key(self) -> str:
        """Its name in messages, overrides and among the roots."""
        return self.as_ or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe:
    """What it is trained on.

    Attributes:
        sources: of clips.
        mix: sources in every batch, or one source per batch.
        size: of the sides of a clip in pixels.
        augmentation: of all sources, instead of their own.
        fraction: of the videos of all sources, instead of their own.
    """

    sources: tuple[SourceRecipe, ...]
    mix: Literal["sample", "batch"] = "sample"
    size: Count = 384
    augmentation: Augmentation | None = None
    fraction: Fraction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """How it is trained.

    Attributes:
        steps: iterations.
        batch: samples of an iteration, over all processes.
        lr: learning rate.
        schedule: of the learning rate after warm-up: "step" multiplies it by ``gamma`` at each of ``milestones``,
            "cosine" ends at 0, and so does "poly", with the power 0.9 of what is left.
        milestones: iterations.
        gamma: see ``schedule``.
        warmup: iterations over which the learning rate rises to ``lr``.
        weight_decay: of AdamW, on all parameters.
        backbone_lr: the learning rate of the query core's backbone, as a part of ``lr``.
        core_lr: that of the rest of the query core, likewise: what was learned before is not to be lost while what is
            new beside it learns fast.
        clip_norm: of the gradient; None: it is not clipped.
        accumulate: parts in which a process takes its samples of an iteration, to save memory.
        precision: of the computation; weights are fp32.
        ema: decay of the exponential moving average of the weights, which is what is validated and saved; None: there
            is none.
        seed: of everything random.
        max_minutes: stop after so long; the same command again continues.
        workers: processes that read clips.
    """

    steps: Count
    batch: Count = 16
    lr: Positive = 1e-5
    schedule: Literal["constant", "step", "cosine", "poly"] = "constant"
    milestones: tuple[Count, ...] = ()
    gamma: Positive = 0.1
    warmup: Natural = 0
    weight_decay: NotNegative = 0.001
    backbone_lr: Positive = 1.0
    core_lr: Positive = 1.0
    clip_norm: Positive | None = 3.0
    accumulate: Count = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    ema: Fraction | None = None
    seed: Natural = 14159265
    max_minutes: Positive | None = None
    workers: Natural = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecipe:
    """What is kept to continue from.

    Attributes:
        every: iterations.
        keep: the last so many.
        moments: precision of the optimiser's moments in the file. With bf16 training goes on with what was saved.
        shard_mb: size of a file at most, in 10⁶ bytes.
    """

    every: Count = 500
    keep: Count = 2
    moments: Literal["fp32", "bf16"] = "fp32"
    shard_mb: Positive = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateRecipe:
    """Rendered videos on which the model is measured while it is trained.

    Attributes:
        every: iterations.
        videos: how many.
        frames: of each; the first and the last are not scored.
        size: height and width.
        level: of the scenes.
        seed: of the scenes; those of training have others.
    """

    every: Count = 500
    videos: Natural = 8
    frames: AtLeastThree = 24
    size: tuple[Count, Count] = (128, 224)
    level: Level = "medium"
    seed: Natural = 1_000_003


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The whole of it.

    Attributes:
        about: it, in a line.
        model: what is trained.
        task: the unrolled step and its loss.
        data: what it is trained on.
        train: how.
        checkpoint: what is kept to continue from.
        validate: how it is measured.
        roots: folders of data sets, by the keys of sources.
    """

    about: str
    model: ModelRecipe = field(default_factory=ModelRecipe)
    task: TaskRecipe = field(default_factory=TaskRecipe)
    data: DataRecipe
    train: TrainRecipe
    checkpoint: CheckpointRecipe = field(default_factory=CheckpointRecipe)
    validate: ValidateRecipe = field(default_factory=ValidateRecipe)
    roots: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)


def recipe_names() -> list[str]:
    """The recipes of the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: of a recipe of the package, or a YAML file.
        overrides: such as "train.steps=200"; later ones win.

    Raises:
        InputError: there is no such recipe, or something in it is unknown, missing, of the wrong type or out of range.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SHIPPED / f"{name}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = f"known: {', '.join(recipe_names())}, and any FILE.yaml"
        raise InputError(f"there is no recipe {name} ({error.__class__.__name__}); {known}") from error
    values = parse(text, where=str(path))
    read(Recipe, values, where=f"in {path.name}")  # so that an error below is one of the overrides
    for assignment in overrides:
        values = with_override(values, assignment)
    return read(Recipe, values, where="on the command line" if overrides else f"in {path.name}")


def recipe_text(recipe: Recipe) -> str:
    """A recipe as YAML, with every setting."""
    import yaml

    text: str = yaml.safe_dump(to_plain(recipe), sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text


def what_decides(recipe: Recipe) -> dict[str, Plain]:
    """The settings that cannot change when a run is continued.

    Free are how long it goes on, what is kept and measured on the way, and where data is.
    """
    plain = cast(dict[str, Plain], to_plain(recipe))
    for key in ("about", "checkpoint", "validate", "roots"):
        del plain[key]
    for key in ("steps", "max_minutes", "workers"):
        del cast(dict[str, Plain], plain["train"])[key]
    return plain


def _check(recipe: Recipe) -> None:
    """What types do not say.

    Raises:
        InputError: settings contradict each other.
    """
    data, train, (start, end) = recipe.data, recipe.train, recipe.task.bootstrap
    if data.size % 16:
        raise InputError(f"data.size is {data.size}: a multiple of 16 is expected")
    if recipe.model.family == "propagation" and recipe.task.frames < 2:
        raise InputError("task.frames is 1: propagation is learned from 2 frames or more")
    if end <= start:
        raise InputError(f"task.bootstrap goes from {start} to {end}: it has to end after it starts")
    if (train.schedule == "step") != bool(train.milestones):
        raise InputError(
            f"train.schedule is {train.schedule} with {len(train.milestones)} train.milestones: step has some"
        )
    if train.batch % train.accumulate:
        raise InputError(f"train.batch of {train.batch} cannot be taken in {train.accumulate} equal parts")
    keys = [source.key for source in data.sources]
    if not keys or len(set(keys)) < len(keys):
        raise InputError(f"data.sources are {', '.join(keys) or 'empty'}: some are expected, each with another 'as'")
    for source in data.sources:
        if source.weight is not None and source.repeat is not None:
            raise InputError(f"data.sources.{source.key} has weight and repeat: give one of them")
