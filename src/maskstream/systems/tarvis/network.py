"""TarViS: targets as queries (Athar et al., "TarViS: A Unified Approach for Target-based Video Segmentation", CVPR
2023; specification §1 to 8).

frames ─► backbone ─► temporal neck ─► levels at strides 32, 16, 8 ─┬─► decode ─► a tube of each query
                               └─► mask features at stride 4 ───────┤
categories: instances, background, a query of each class ───────────┤   instances · classes ─► which class
objects: background cells, parts of masks, points (ObjectEncoder) ──┘   greatest of its queries ─► mask of an object

A task is which groups of queries go in; weights are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstream.mask2former.checkpoints import KINDS, save_core
from maskstream.mask2former.decoder import Stage, decode
from maskstream.mask2former.network import ClipFeatures, clip_levels, normalised
from maskstream.mask2former.parts import fill, read_settings, write_part
from maskstream.mask2former.prediction import ClipPrediction
from maskstream.pretrained import folder_of_kind, load_pretrained
from maskstream.types import InputError

from .neck import TemporalNeck, neck_features
from .targets import ObjectEncoder, ObjectQueries, PointTargets, largest_of_each

if TYPE_CHECKING:
    from transformers import Mask2FormerForUniversalSegmentation

PART = "tarvis"
"""What files are called that hold what is added."""

STRIDE = 64
"""Pictures are padded to multiples of it, for the windows of the neck."""

PADDING = 128
"""The level of what is added, before it is normalised. All attention sees it."""

Group: TypeAlias = Literal["instance", "background", "semantic", "object_background", "object"]
"""Of queries. A group shares its code; what its queries begin with is learned but for the last two."""

Maps: TypeAlias = tuple[Tensor, ...]
"""Of the backbone, ``float[X, C', h, w]`` each, at strides 4, 8, 16 and 32, of X frames by themselves."""

_GROUPS: tuple[Group, ...] = ("instance", "background", "semantic", "object_background", "object")


@dataclass(frozen=True, slots=True, kw_only=True)
class TarViSConfig:
    """What a TarViS has beside its query core, whose learned queries are those of instances.

    Attributes:
        label_spaces: what categories are told from; there is a query of each class of each.
        classes: how many each has.
        background: queries of background, for categories.
        object_queries: of an object with a mask, in training.
        multiplier: so many times as many otherwise, as published.
        object_layers: of the object encoder.
        object_hidden: width of its feed-forward parts.
        neck_hidden: width of those of the temporal neck.
        frames: of the clips that it is meant for.
        grid: whether what no mask covers has queries, too, where objects are pointed out.
        names: of all classes, those of a label space after those of the one before; a star stands behind those of
            things. Without, they are known by their label spaces.
    """

    label_spaces: tuple[str, ...]
    classes: tuple[int, ...]
    background: int = 1
    object_queries: int = 4
    multiplier: int = 2
    object_layers: int = 4
    object_hidden: int = 2048
    neck_hidden: int = 1024
    frames: int = 12
    grid: bool = True
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class CategoryAnswers:
    """What queries say of B clips when asked for categories.

    Attributes:
        instances: a class of the label space and a tube of each; the last class is "nothing".
        semantic_bkthw: ``float[B, K, T, h, w]``, logits of the classes.
        background_bthw: ``float[B, T, h, w]``, the greatest of the background.
        classes_bkc: ``float[B, K, C]``, queries of the classes, not normalised.
    """

    instances: ClipPrediction
    semantic_bkthw: Tensor
    background_bthw: Tensor
    classes_bkc: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ObjectAnswers:
    """What queries say of B clips when asked for N objects.

    Attributes:
        masks_bnthw: ``float[B, N, T, h, w]``, logits, the greatest of each object's queries.
        background_bthw: ``float[B, T, h, w]``, the greatest of the cells; without a grid ``float[0, T, h, w]``.
        queries_bqc: ``float[B, Q, C]``, those of objects, not normalised.
    """

    masks_bnthw: Tensor
    background_bthw: Tensor
    queries_bqc: Tensor


class TargetModules(nn.Module):
    """What TarViS adds to a Mask2Former.

    Args:
        channels: C.
        heads: of attention.
        layers: of the pixel decoder.
        config: see there.
    """

    def __init__(self, channels: int, *, heads: int, layers: int, config: TarViSConfig) -> None:
        super().__init__()
        self.neck = TemporalNeck(channels, heads=heads, hidden=config.neck_hidden, layers=layers)
        self.codes = nn.ParameterDict({group: nn.Parameter(torch.randn(channels)) for group in _GROUPS})
        self.background = nn.Parameter(torch.randn(config.background, channels))
        self.semantic = nn.ParameterDict(
            {
                name: nn.Parameter(torch.randn(count, channels))
                for name, count in zip(config.label_spaces, config.classes, strict=True)
            }
        )
        self.mask_embedders = nn.ModuleDict(
            {group: _perceptron(channels) for group in _GROUPS if group != "instance"}  # that is the core's
        )
        self.class_embedders = nn.ModuleDict(
            {group: nn.Linear(channels, channels) for group in ("instance", "background", "semantic")}
        )
        self.encoder = ObjectEncoder(
            channels, heads=heads, hidden=config.object_hidden, layers=config.object_layers, grid=config.grid
        )


class TarViSNetwork(nn.Module):
    """A query core with other kinds of targets.

    Args:
        core: of `transformers`; its parameters are this one's. Its queries and its embedding of masks are those of
            instances; codes of its queries and its class predictor are not used.
        config: what else there is.

    Raises:
        InputError: a label space has no class, or its name has a dot.
    """

    def __init__(self, core: Mask2FormerForUniversalSegmentation, config: TarViSConfig) -> None:
        super().__init__()
        if len(config.label_spaces) != len(config.classes) or min(config.classes, default=1) < 1:
            raise InputError(
                f"label spaces {config.label_spaces} have {config.classes} classes: give each at least one"
            )
        if dotted := [name for name in config.label_spaces if "." in name]:
            raise InputError(f"the name of label space {dotted[0]} has a dot: call it otherwise")
        self.core = core
        self.config = config
        self.targets = TargetModules(
            core.config.hidden_dim,
            heads=core.config.num_attention_heads,
            layers=len(core.model.pixel_level_module.decoder.encoder.layers),
            config=config,
        )

    @property
    def queries_of_object(self) -> int:
        """How many an object with a mask has, in training or otherwise."""
        return self.config.object_queries * (1 if self.training else self.config.multiplier)

    def features(self, pixels_bt3hw: Tensor) -> ClipFeatures:
        """Of all frames of B clips; those of a frame depend on the others.

        Args:
            pixels_bt3hw: ``float[B, T, 3, H, W]``, from `padded_pixels`.

        Raises:
            InputError: there is no frame, or a side is no multiple of 64.
        """
        batch, frames, _, height, width = pixels_bt3hw.shape
        if not batch or not frames:
            raise InputError("the clip has no frame: give at least one")
        if height % STRIDE or width % STRIDE:
            raise InputError(
                f"pictures are {height}×{width}, but sides have to be multiples of {STRIDE}: use padded_pixels"
            )
        return self.joined(self.maps(pixels_bt3hw.flatten(0, 1)), frames=frames)

    def maps(self, pixels_x3hw: Tensor) -> Maps:
        """What `joined` makes features of.

        Args:
            pixels_x3hw: ``float[X, 3, H, W]``, as for `features`.
        """
        return tuple(self.core.model.pixel_level_module.encoder(pixels_x3hw).feature_maps)

    def joined(self, maps: Maps, *, frames: int) -> ClipFeatures:
        """Features of clips whose frames went through the backbone before; as `features`.

        Args:
            maps: of the frames of all clips, one clip after the other.
            frames: T.
        """
        return neck_features(self.core.model.pixel_level_module.decoder, self.targets.neck, maps, frames=frames)

    def encode(self, features_tchw: Tensor, masks_nthw: Tensor, points: PointTargets | None = None) -> ObjectQueries:
        """Objects of a clip as queries; see `ObjectEncoder`.

        Args:
            features_tchw: mask features of the frames that masks are of.
            masks_nthw: ``bool[N, T, H, W]`` at the size of the padded pictures; N may be 0.
            points: of further objects.
        """
        found: ObjectQueries = self.targets.encoder(features_tchw, masks_nthw, points, parts=self.queries_of_object)
        return found

    def categories(
        self, features: ClipFeatures, label_space: str, *, every_stage: bool = False
    ) -> list[CategoryAnswers]:
        """Instances and classes of pixels (VIS, VPS).

        Args:
            features: of B clips.
            label_space: whose classes.
            every_stage: before the first layer and after each, as training wants it; otherwise the last answer alone.

        Raises:
            InputError: the network does not know the label space.
        """
        if label_space not in self.config.label_spaces:
            known = ", ".join(self.config.label_spaces) or "none"
            raise InputError(f"this TarViS knows no label space {label_space}: give one of {known}")
        contents = {
            "instance": self.core.model.transformer_module.queries_features.weight,
            "background": self.targets.background,
            "semantic": self.targets.semantic[label_space],
        }
        batch = len(features.mask_features_btchw)
        stages, groups = self._decode(
            features, {name: x_qc.expand(batch, -1, -1) for name, x_qc in contents.items()}, every_stage=every_stage
        )
        return [self._category_answers(stage, groups) for stage in stages]

    def objects(
        self, features: ClipFeatures, encoded: Sequence[ObjectQueries], *, every_stage: bool = False
    ) -> list[ObjectAnswers]:
        """Masks of objects that were pointed out (VOS, PET).

        Args:
            features: of B clips.
            encoded: the objects of each clip, with as many queries.
            every_stage: see `categories`.

        Raises:
            InputError: there are no objects for a clip, or clips have other numbers of queries.
        """
        if len(encoded) != len(features.mask_features_btchw) or len({x.counts for x in encoded}) > 1:
            raise InputError(
                f"{len(features.mask_features_btchw)} clips, but queries {[x.counts for x in encoded]}: encode the "
                "objects of each clip, with as many of each kind"
            )
        counts = encoded[0].counts
        if not counts:
            raise InputError("there is no object: give a mask or a point")
        stages, groups = self._decode(
            features,
            {
                "object_background": torch.stack([x.background_gc for x in encoded]),
                "object": torch.stack([x.objects_qc for x in encoded]),
            },
            every_stage=every_stage,
        )
        return [_object_answers(stage, groups, counts) for stage in stages]

    def _decode(
        self, features: ClipFeatures, contents: Mapping[str, Tensor], *, every_stage: bool
    ) -> tuple[list[Stage], dict[str, slice]]:
        """Groups of queries together: all see each other. And where each group is (specification §7)."""
        module = self.core.model.transformer_module
        groups, before = {}, 0
        for name, content_bqc in contents.items():
            groups[name] = slice(before, before := before + content_bqc.shape[1])
        codes = [self.targets.codes[name].expand_as(content_bqc) for name, content_bqc in contents.items()]
        stages = decode(
            module.decoder,
            torch.cat(list(contents.values()), 1),
            torch.cat(codes, 1),
            clip_levels(module, features),
            features.mask_features_btchw,
            embed_masks=self._mask_embeddings(groups),
            every_stage=every_stage,
        )
        return (stages if every_stage else stages[-1:]), groups

    def _mask_embeddings(self, groups: Mapping[str, slice]) -> Callable[[Tensor], Tensor]:
        instances = self.core.model.transformer_module.decoder.mask_predictor.mask_embedder
        embedders = {**self.targets.mask_embedders, "instance": instances}
        return lambda normed_bqc: torch.cat([embedders[name](normed_bqc[:, at]) for name, at in groups.items()], 1)

    def _category_answers(self, stage: Stage, groups: Mapping[str, slice]) -> CategoryAnswers:
        assert stage.masks_bqthw is not None
        instance, background, semantic = (groups[name] for name in ("instance", "background", "semantic"))
        embedded = {
            name: embed(stage.normed_bqc[:, groups[name]]) for name, embed in self.targets.class_embedders.items()
        }
        to_classes, to_background = (
            torch.einsum("bic,bkc->bik", embedded["instance"], embedded[name]) for name in ("semantic", "background")
        )
        classes_bik = torch.cat([to_classes, to_background.amax(2, keepdim=True)], 2)
        return CategoryAnswers(
            ClipPrediction(classes_bik, stage.masks_bqthw[:, instance], stage.queries_bqc[:, instance]),
            stage.masks_bqthw[:, semantic],
            stage.masks_bqthw[:, background].amax(1),
            stage.queries_bqc[:, semantic],
        )


def padded_pixels(frames_bt3hw: Tensor) -> Tensor:
    """Pictures as the network wants them: padded with grey at the right and at the bottom, then normalised.

    Args:
        frames_bt3hw: ``uint8[B, T, 3, H, W]``, RGB.

    Returns:
        ``float32[B, T, 3, H', W']``.
    """
    height, width = frames_bt3hw.shape[-2:]
    return normalised(F.pad(frames_bt3hw, (0, -width % STRIDE, 0, -height % STRIDE), value=PADDING))


def save_tarvis(network: TarViSNetwork, folder: Path, *, short_side: int) -> None:
    """Write a network: the core as `transformers` takes it, and beside it what TarViS adds.

    Args:
        network: to write.
        folder: is made.
        short_side: of pictures that it is meant for.
    """
    save_core(network.core, folder, short_side=short_side)
    write_part(folder, PART, network.config, network.targets)


def read_tarvis(folder: Path) -> TarViSNetwork:
    """What `save_tarvis` wrote, for inference, in float32 on the CPU.

    Raises:
        InputError: there is no such network, or it is damaged or of another kind.
    """
    from transformers import Mask2FormerForUniversalSegmentation

    from maskstream.mask2former import stdc  # noqa: F401  # makes itself known to `transformers`

    folder, _ = folder_of_kind(str(folder), KINDS, usual="one that training wrote")
    config = read_settings(folder, PART, TarViSConfig)
    if config is None:
        raise InputError(f"{folder} is a Mask2Former without targets: train a TarViS from it, or give a folder of one")
    network = TarViSNetwork(load_pretrained(Mask2FormerForUniversalSegmentation, folder), config)
    fill(network.targets, folder, PART)
    return network.eval().requires_grad_(False)


def _object_answers(stage: Stage, groups: Mapping[str, slice], counts: Sequence[int]) -> ObjectAnswers:
    assert stage.masks_bqthw is not None
    cells_bgthw = stage.masks_bqthw[:, groups["object_background"]]
    return ObjectAnswers(
        largest_of_each(stage.masks_bqthw[:, groups["object"]], counts),
        cells_bgthw.amax(1) if cells_bgthw.shape[1] else cells_bgthw.flatten(0, 1),
        stage.queries_bqc[:, groups["object"]],
    )


def _perceptron(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(channels, channels)]
    for _ in range(2):
        layers += [nn.ReLU(), nn.Linear(channels, channels)]
    return nn.Sequential(*layers)
