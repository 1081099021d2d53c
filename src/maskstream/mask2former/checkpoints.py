"""Weights of Mask2Former under the names of detectron2 and of mmdet 2, as the networks of `transformers` want them.

    file ─► split_core ─► the core, under our names ─► config_of: sizes, from shapes ─┐
              │                                        to_transformers: all there? ◄──┴─► load_core
              └─────────► the rest: what a system adds to it

Mask2Former's own code, MPVSS and UniVS name things as detectron2 does; Tube-Link does as mmdet 2. Nothing is ever taken
from a file's name. The tables below are those of the specifications of these systems.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from maskstream.files import write_text_atomic
from maskstream.pretrained import folder_of_kind, load_pretrained
from maskstream.types import InputError
from maskstream.weight_files import read_state, some

from .network import DEVIATION, MEAN, STRIDE

if TYPE_CHECKING:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, PreTrainedConfig

Family = Literal["detectron2", "mmdet"]
"""Whose names entries have."""

KINDS = ("mask2former",)
"""What ``model_type`` is called in folders of `transformers`."""

USUAL = (
    "facebook/mask2former-swin-tiny-coco-panoptic (the authors' code is MIT, and was CC BY-NC 4.0 at first: see the "
    "model's page for its weights)"
)
"""A model for those who have none."""

SUFFIXES = (".pth", ".pt", ".pkl", ".safetensors")
"""Of files of weights."""

_POINTS = 4
"""That a head of deformable attention looks at on every level, in all published weights."""

_STAGES = ["stage1", "stage2", "stage3", "stage4"]

_BACKBONE = "model.pixel_level_module.encoder."
_PIXELS = "model.pixel_level_module.decoder."
_QUERIES = "model.transformer_module."

_NAMES: dict[Family, tuple[tuple[str, str, str], ...]] = {
    "detectron2": (
        (
            "backbone.",
            _BACKBONE,
            """
            stem.conv1.weight               embedder.embedder.convolution.weight
            stem.conv1.norm.*               embedder.embedder.normalization.*
            res#.#.conv#.weight             encoder.stages.{0:-2}.layers.{1}.layer.{2:-1}.convolution.weight
            res#.#.conv#.norm.*             encoder.stages.{0:-2}.layers.{1}.layer.{2:-1}.normalization.*
            res#.#.shortcut.weight          encoder.stages.{0:-2}.layers.{1}.shortcut.convolution.weight
            res#.#.shortcut.norm.*          encoder.stages.{0:-2}.layers.{1}.shortcut.normalization.*

            patch_embed.proj.*              swin.embeddings.patch_embeddings.projection.*
            patch_embed.norm.*              swin.embeddings.norm.*
            layers.#.blocks.#.norm1.*       swin.encoder.layers.{0}.blocks.{1}.layernorm_before.*
            layers.#.blocks.#.norm2.*       swin.encoder.layers.{0}.blocks.{1}.layernorm_after.*
            layers.#.blocks.#.attn.qkv.*    swin.encoder.layers.{0}.blocks.{1}.attention.{qkv}_proj.*
            layers.#.blocks.#.attn.proj.*   swin.encoder.layers.{0}.blocks.{1}.attention.o_proj.*
            layers.#.blocks.#.attn.relative_position_bias_table \
                       swin.encoder.layers.{0}.blocks.{1}.attention.relative_position_bias.relative_position_bias_table
            layers.#.blocks.#.attn.relative_position_index      DROPPED
            layers.#.blocks.#.mlp.*         swin.encoder.layers.{0}.blocks.{1}.mlp.*
            layers.#.downsample.*           swin.encoder.layers.{0}.downsample.*
            norm#.*                         hidden_states_norms.stage{0:+1}.*
            """,
        ),
        (
            "sem_seg_head.pixel_decoder.",
            _PIXELS,
            """
            input_proj.#.#.*                          input_projections.{0}.{1}.*
            transformer.level_embed                   level_embed
            transformer.encoder.layers.#.self_attn.*  encoder.layers.{0}.self_attn.*
            transformer.encoder.layers.#.norm1.*      encoder.layers.{0}.self_attn_layer_norm.*
            transformer.encoder.layers.#.linear1.*    encoder.layers.{0}.fc1.*
            transformer.encoder.layers.#.linear2.*    encoder.layers.{0}.fc2.*
            transformer.encoder.layers.#.norm2.*      encoder.layers.{0}.final_layer_norm.*
            adapter_1.weight                          adapter_1.0.weight
            adapter_1.norm.*                          adapter_1.1.*
            layer_1.weight                            layer_1.0.weight
            layer_1.norm.*                            layer_1.1.*
            mask_features.*                           mask_projection.*
            """,
        ),
        (
            "sem_seg_head.predictor.",
            _QUERIES,
            """
            transformer_cross_attention_layers.#.multihead_attn.*      decoder.layers.{0}.cross_attn.*
            transformer_cross_attention_layers.#.norm.*                decoder.layers.{0}.cross_attn_layer_norm.*
            transformer_self_attention_layers.#.self_attn.in_proj_*    decoder.layers.{0}.self_attn.{qkv}_proj.*
            transformer_self_attention_layers.#.self_attn.out_proj.*   decoder.layers.{0}.self_attn.out_proj.*
            transformer_self_attention_layers.#.norm.*                 decoder.layers.{0}.self_attn_layer_norm.*
            transformer_ffn_layers.#.linear1.*                         decoder.layers.{0}.fc1.*
            transformer_ffn_layers.#.linear2.*                         decoder.layers.{0}.fc2.*
            transformer_ffn_layers.#.norm.*                            decoder.layers.{0}.final_layer_norm.*
            decoder_norm.*                                             decoder.layernorm.*
            mask_embed.layers.#.*                                      decoder.mask_predictor.mask_embedder.{0}.0.*
            query_feat.weight                                          queries_features.weight
            static_query.weight                                        queries_features.weight
            query_embed.weight                                         queries_embedder.weight
            level_embed.weight                                         level_embed.weight
            """,
        ),
        ("sem_seg_head.predictor.", "", "class_embed.* class_predictor.*"),
        ("", "", "criterion.empty_weight criterion.empty_weight"),
    ),
    "mmdet": (
        (
            "backbone.",
            _BACKBONE,
            """
            conv1.weight                embedder.embedder.convolution.weight
            bn1.*                       embedder.embedder.normalization.*
            layer#.#.conv#.weight       encoder.stages.{0:-1}.layers.{1}.layer.{2:-1}.convolution.weight
            layer#.#.bn#.*              encoder.stages.{0:-1}.layers.{1}.layer.{2:-1}.normalization.*
            layer#.#.downsample.0.*     encoder.stages.{0:-1}.layers.{1}.shortcut.convolution.*
            layer#.#.downsample.1.*     encoder.stages.{0:-1}.layers.{1}.shortcut.normalization.*

            patch_embed.projection.*    swin.embeddings.patch_embeddings.projection.*
            patch_embed.norm.*          swin.embeddings.norm.*
            stages.#.blocks.#.norm1.*   swin.encoder.layers.{0}.blocks.{1}.layernorm_before.*
            stages.#.blocks.#.norm2.*   swin.encoder.layers.{0}.blocks.{1}.layernorm_after.*
            stages.#.blocks.#.attn.w_msa.qkv.*     swin.encoder.layers.{0}.blocks.{1}.attention.{qkv}_proj.*
            stages.#.blocks.#.attn.w_msa.proj.*    swin.encoder.layers.{0}.blocks.{1}.attention.o_proj.*
            stages.#.blocks.#.attn.w_msa.relative_position_bias_table \
                       swin.encoder.layers.{0}.blocks.{1}.attention.relative_position_bias.relative_position_bias_table
            stages.#.blocks.#.attn.w_msa.relative_position_index     DROPPED
            stages.#.blocks.#.ffn.layers.0.0.*     swin.encoder.layers.{0}.blocks.{1}.mlp.fc1.*
            stages.#.blocks.#.ffn.layers.1.*       swin.encoder.layers.{0}.blocks.{1}.mlp.fc2.*
            stages.#.downsample.*                  swin.encoder.layers.{0}.downsample.*            REORDERED
            norm#.*                     hidden_states_norms.stage{0:+1}.*

            x2.0.*     x2.0.*
            x4.0.*     x4.0.*
            x8.0.*     x8.0.*
            x16.0.*    x16.0.*
            x32.0.*    x32.0.*
            """,
        ),
        (
            "panoptic_head.pixel_decoder.",
            _PIXELS,
            """
            input_convs.#.conv.*                      input_projections.{0}.0.*
            input_convs.#.gn.*                        input_projections.{0}.1.*
            level_encoding.weight                     level_embed
            encoder.layers.#.attentions.0.*           encoder.layers.{0}.self_attn.*
            encoder.layers.#.norms.0.*                encoder.layers.{0}.self_attn_layer_norm.*
            encoder.layers.#.ffns.0.layers.0.0.*      encoder.layers.{0}.fc1.*
            encoder.layers.#.ffns.0.layers.1.*        encoder.layers.{0}.fc2.*
            encoder.layers.#.norms.1.*                encoder.layers.{0}.final_layer_norm.*
            lateral_convs.0.conv.weight               adapter_1.0.weight
            lateral_convs.0.gn.*                      adapter_1.1.*
            output_convs.0.conv.weight                layer_1.0.weight
            output_convs.0.gn.*                       layer_1.1.*
            mask_feature.*                            mask_projection.*
            """,
        ),
        (
            "panoptic_head.",
            _QUERIES,
            """
            transformer_decoder.layers.#.attentions.0.attn.*            decoder.layers.{0}.cross_attn.*
            transformer_decoder.layers.#.norms.0.*                      decoder.layers.{0}.cross_attn_layer_norm.*
            transformer_decoder.layers.#.attentions.1.attn.in_proj_*    decoder.layers.{0}.self_attn.{qkv}_proj.*
            transformer_decoder.layers.#.attentions.1.attn.out_proj.*   decoder.layers.{0}.self_attn.out_proj.*
            transformer_decoder.layers.#.norms.1.*                      decoder.layers.{0}.self_attn_layer_norm.*
            transformer_decoder.layers.#.ffns.0.layers.0.0.*            decoder.layers.{0}.fc1.*
            transformer_decoder.layers.#.ffns.0.layers.1.*              decoder.layers.{0}.fc2.*
            transformer_decoder.layers.#.norms.2.*                      decoder.layers.{0}.final_layer_norm.*
            transformer_decoder.post_norm.*                             decoder.layernorm.*
            mask_embed.0.*                                              decoder.mask_predictor.mask_embedder.0.0.*
            mask_embed.2.*                                              decoder.mask_predictor.mask_embedder.1.0.*
            mask_embed.4.*                                              decoder.mask_predictor.mask_embedder.2.0.*
            query_feat.weight                                           queries_features.weight
            query_embed.weight                                          queries_embedder.weight
            level_embed.weight                                          level_embed.weight
            """,
        ),
        ("panoptic_head.", "", "cls_embed.* class_predictor.*"),
    ),
}
"""How names begin there and here, and how they go on, by line; the first line that fits counts.

``#`` is an index, ``{0}`` is the first of them and ``{0:-1}`` one less; ``*`` is the same on both sides. With
``{qkv}``, a third of the rows each goes to q, k and v. REORDERED: the last axis is of 2×2 patches, and the order of
Swin's authors is another. DROPPED: is computed anew.
"""

_UNNAMED = re.compile(r"sem_seg_head\.(?!pixel_decoder\.|predictor\.)")
"""In the first files of detectron2, whatever of the head is not its predictor is of the pixel decoder."""


def load_core(path: Path | str) -> Mask2FormerForUniversalSegmentation:
    """A Mask2Former, whoever published it.

    Args:
        path: a file of weights named as detectron2 or mmdet 2 does (``.pth``, ``.pkl``, ``.safetensors``); a folder of
            `transformers`; or a name on the hub.

    Returns:
        The network in float32 on the CPU, in evaluation mode; it can be trained.

    Raises:
        InputError: the file or model is not there, is damaged, of another kind, incomplete, or holds more.
    """
    from transformers import Mask2FormerForUniversalSegmentation

    from . import stdc  # noqa: F401  # makes itself known to `transformers`

    file = Path(path).expanduser()
    if not is_file_of_weights(file):
        folder, _ = folder_of_kind(str(path), KINDS, usual=USUAL)
        return load_pretrained(Mask2FormerForUniversalSegmentation, folder).requires_grad_(True)
    state = read_floats(file)
    try:
        return _network(*_whole(state))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def is_file_of_weights(path: Path) -> bool:
    """Whether a name is that of a file, which may not be there, and not of a folder or a model of the hub."""
    return path.suffix in SUFFIXES and not path.is_dir()


def read_core(file: Path, *, family: Family) -> tuple[Mask2FormerForUniversalSegmentation, dict[str, Tensor]]:
    """The Mask2Former in a checkpoint of a system, as `load_core` has it, and what the system adds to it.

    Args:
        file: of weights.
        family: whose names the system's authors use.

    Returns:
        The network; and the rest in float32, under the names it has there.

    Raises:
        InputError: the file is not there, is damaged, of another kind, or a part of the Mask2Former is missing.
    """
    try:
        return core_in(read_floats(file), family=family)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def core_in(
    state: Mapping[str, Tensor], *, family: Family, tells_classes: bool = True
) -> tuple[Mask2FormerForUniversalSegmentation, dict[str, Tensor]]:
    """As `read_core`, from what is in a file.

    Args:
        state: of a checkpoint.
        family: whose names the system's authors use.
        tells_classes: whether the system tells classes as Mask2Former does. UniVS does not; what would tell them is
            then made, for one class.

    Raises:
        InputError: see `read_core`.
    """
    if (found := family_of(state)) != family:
        raise InputError(f"entries are named as {found} does, and not as {family}: give the authors' checkpoint")
    core, rest = split_core(state)
    return _network(*_checked(core, family, tells_classes=tells_classes)), rest


def read_floats(file: Path) -> dict[str, Tensor]:
    """What `read_state` reads, in float32."""
    state = read_state(file)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def save_core(network: Mask2FormerForUniversalSegmentation, folder: Path, *, short_side: int) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.

    Args:
        network: whose weights are written.
        folder: for them; what is there of the same names is written anew.
        short_side: of pictures as the network wants to see them, in pixels.
    """
    network.save_pretrained(folder)
    how = {
        "image_processor_type": "Mask2FormerImageProcessor",
        "size": {"shortest_edge": short_side},
        "size_divisor": STRIDE,
        "image_mean": [level / 255 for level in MEAN],
        "image_std": [level / 255 for level in DEVIATION],
    }
    write_text_atomic(folder / "preprocessor_config.json", json.dumps(how, indent=2))


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a whole Mask2Former, under the names of `transformers`.

    What nobody publishes is made: weights of classes in the loss if absent (1, and 0.1 for "nothing"), counts of
    batches, and a norm of Swin that is never used.

    Args:
        state: named as detectron2 or mmdet 2 does.

    Returns:
        Exactly what `Mask2FormerForUniversalSegmentation` of `config_of` the same state has.

    Raises:
        InputError: names are of neither, an entry is missing, superfluous, there twice, of another shape or not finite.
    """
    return _whole(state)[1]


def config_of(state: Mapping[str, Tensor]) -> Mask2FormerConfig:
    """Backbone, sizes, numbers of queries, layers and classes, from shapes alone.

    Args:
        state: named as detectron2 or mmdet 2 does. Without what tells classes, as in UniVS, it is of one class.

    Raises:
        InputError: names are of neither, or what tells a size is missing.
    """
    return _config(split_core(state)[0], family_of(state))


def split_core(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Entries of Mask2Former, and those that a system adds to it.

    Args:
        state: named as detectron2 or mmdet 2 does.

    Returns:
        The core under the names of `transformers`, unchecked; and the rest, as it was.

    Raises:
        InputError: names are of neither, or two entries mean the same.
    """
    family = family_of(state)
    core: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in state.items():
        converted = _converted(name, tensor, family)
        if converted is None:
            rest[name] = tensor
        elif twice := core.keys() & converted.keys():
            raise InputError(f"{name}, named as {family} does, means what another entry does already ({min(twice)})")
        else:
            core.update(converted)
    return core, rest


def family_of(names: Iterable[str]) -> Family:
    """Whose names they are.

    Raises:
        InputError: nobody's whose are known, or those of mmdet 3.
    """
    names = list(names)
    if any(name.startswith("sem_seg_head.") for name in names):
        return "detectron2"
    heads = [name for name in names if name.startswith("panoptic_head.")]
    if later := [name for name in heads if re.search(r"\.layers\.\d+\.(self_attn|cross_attn|ffn)\.", name)]:
        raise InputError(
            f"entries are named as mmdet 3 does ({some(later)}), which is not read: give weights that mmdet 2 wrote"
        )
    if heads:
        return "mmdet"
    if any(name.startswith(_PIXELS) for name in names):
        raise InputError("entries are named as transformers does: give the folder with config.json that they lie in")
    begins = sorted({name.split(".", 1)[0] for name in names})
    raise InputError(
        f"entries are named neither as detectron2 (sem_seg_head) nor as mmdet 2 (panoptic_head) does, but begin with "
        f"{some(begins)}: give the checkpoint of a Mask2Former"
    )


def _network(config: Mask2FormerConfig, weights: Mapping[str, Tensor]) -> Mask2FormerForUniversalSegmentation:
    from transformers import Mask2FormerForUniversalSegmentation

    network = Mask2FormerForUniversalSegmentation(config)
    network.load_state_dict(weights)
    network.train(False)
    return network


def _whole(state: Mapping[str, Tensor]) -> tuple[Mask2FormerConfig, dict[str, Tensor]]:
    """See `config_of` and `to_transformers`."""
    family = family_of(state)
    core, rest = split_core(state)
    if rest:
        raise InputError(
            f"{len(rest)} of {len(state)} entries, named as {family} does, are no part of a Mask2Former with ResNet, "
            f"Swin or STDC ({some(list(rest))}): give its checkpoint, or load the system that they belong to"
        )
    return _checked(core, family)


def _checked(
    core: dict[str, Tensor], family: Family, *, tells_classes: bool = True
) -> tuple[Mask2FormerConfig, dict[str, Tensor]]:
    """Sizes, and all that a network of these has, from what `split_core` found."""
    config = _config(core, family)
    wanted = _blank(config)
    weights = {**_made(wanted, config.no_object_weight), **core}
    if not tells_classes:
        unused = (name for name in wanted if name.startswith("class_predictor."))
        weights = {name: torch.zeros(wanted[name].shape) for name in unused} | weights
    if missing := [name for name in wanted if name not in weights]:
        raise InputError(
            f"{len(missing)} of {len(wanted)} entries, named as {family} does, are missing; here they are called "
            f"{some(missing)}: the checkpoint is incomplete"
        )
    if superfluous := [name for name in core if name not in wanted]:
        raise InputError(
            f"{len(superfluous)} entries, named as {family} does, fit to nothing; here they are called "
            f"{some(superfluous)}: the checkpoint is of another network"
        )
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape:
            raise InputError(
                f"{name}, named as {family} does, is {list(weights[name].shape)} and not {list(tensor.shape)}, as its "
                "other entries say: the checkpoint is of another network"
            )
    if spoilt := [name for name, tensor in weights.items() if not tensor.is_meta and not tensor.isfinite().all()]:
        raise InputError(
            f"{len(spoilt)} entries, named as {family} does, have NaN or infinite values; here they are called "
            f"{some(spoilt)}: training diverged or the file is damaged; use an earlier checkpoint"
        )
    return config, {name: weights[name] for name in wanted}


# Names.


class _Rule(NamedTuple):
    theirs: re.Pattern[str]
    ours: str
    last_word: str


class _Index(int):
    """A number in a name; formatted with ``-1``, one less."""

    def __format__(self, shift: str) -> str:
        return str(self + int(shift or 0))


@cache
def _rules(family: Family) -> tuple[_Rule, ...]:
    """The lines of the tables."""
    rules = []
    for their_begin, our_begin, table in _NAMES[family]:
        for line in filter(None, map(str.split, table.splitlines())):
            theirs = re.escape(their_begin + line[0]).replace(r"\#", r"(\d+)").replace(r"\*", "(?P<rest>.+)")
            ours = our_begin + line[1].replace("*", "{rest}")
            rules.append(_Rule(re.compile(theirs), ours, line[-1]))
    return tuple(rules)


def _converted(name: str, tensor: Tensor, family: Family) -> dict[str, Tensor] | None:
    """What an entry becomes: one, three, or none; None if it is no part of a Mask2Former."""
    if family == "detectron2" and (begin := _UNNAMED.match(name)):
        name = f"{begin[0]}pixel_decoder.{name[begin.end() :]}"
    for theirs, ours, last_word in _rules(family):
        if (found := theirs.fullmatch(name)) is None:
            continue
        if last_word == "DROPPED":
            return {}
        named = found.groupdict()
        indices = [_Index(group) for group in found.groups()[: theirs.groups - len(named)]]
        if "{qkv}" in ours:
            thirds = zip("qkv", tensor.chunk(3), strict=True)
            return {ours.format(*indices, qkv=letter, **named): third.clone() for letter, third in thirds}
        return {ours.format(*indices, **named): _reordered(tensor) if last_word == "REORDERED" else tensor}
    return None


def _reordered(tensor: Tensor) -> Tensor:
    """Inputs of a merging of 2×2 patches, ``[…, 4C]``, as Swin's authors order them.

    mmdet has channels outermost and then (0, 0), (0, 1), (1, 0), (1, 1), as (row, column); Swin's authors have (0, 0),
    (1, 0), (0, 1), (1, 1) and then channels.
    """
    *outer, inputs = tensor.shape
    return tensor.view(*outer, inputs // 4, 4)[..., [0, 2, 1, 3]].transpose(-1, -2).flatten(-2)


# Sizes.


class _Sizes:
    """Shapes of the core, asked for by name."""

    def __init__(self, core: Mapping[str, Tensor], family: Family) -> None:
        self._core, self._family = core, family

    def __call__(self, name: str) -> torch.Size:
        """The shape of an entry.

        Raises:
            InputError: it is missing.
        """
        if name not in self._core:
            raise InputError(f"{name}, as it is called here, is missing among entries named as {self._family} does")
        return self._core[name].shape

    def count(self, pattern: str) -> int:
        """How many indices there are where ``#`` stands; they begin at 0."""
        known = re.compile(re.escape(pattern).replace(r"\#", r"(\d+)") + r"\..*")
        return max((int(found[1]) + 1 for name in self._core if (found := known.fullmatch(name))), default=0)

    def has(self, begin: str) -> bool:
        """Whether any entry begins so."""
        return any(name.startswith(begin) for name in self._core)


def _config(core: Mapping[str, Tensor], family: Family) -> Mask2FormerConfig:
    from transformers import Mask2FormerConfig

    sizes = _Sizes(core, family)
    levels = sizes(f"{_PIXELS}level_embed")[0]
    queries, width = sizes(f"{_QUERIES}queries_features.weight")
    return Mask2FormerConfig(
        backbone_config=_backbone_config(sizes),
        feature_size=sizes(f"{_PIXELS}adapter_1.0.weight")[0],
        mask_feature_size=sizes(f"{_PIXELS}mask_projection.weight")[0],
        hidden_dim=width,
        encoder_feedforward_dim=sizes(f"{_PIXELS}encoder.layers.0.fc1.weight")[0],
        encoder_layers=sizes.count(f"{_PIXELS}encoder.layers.#"),
        decoder_layers=1 + sizes.count(f"{_QUERIES}decoder.layers.#"),  # there is an answer before the first
        num_attention_heads=sizes(f"{_PIXELS}encoder.layers.0.self_attn.attention_weights.weight")[0]
        // (levels * _POINTS),
        dim_feedforward=sizes(f"{_QUERIES}decoder.layers.0.fc1.weight")[0],
        num_queries=queries,
        num_labels=sizes("class_predictor.weight")[0] - 1 if sizes.has("class_predictor.") else 1,  # type: ignore[call-arg]
    )


def _backbone_config(sizes: _Sizes) -> PreTrainedConfig:
    if sizes.has(f"{_BACKBONE}swin."):
        return _swin_config(sizes)
    if sizes.has(f"{_BACKBONE}embedder."):
        return _resnet_config(sizes)
    if sizes.has(f"{_BACKBONE}x2."):
        return _stdc_config(sizes)
    raise InputError("there is no backbone that is known here (ResNet, Swin or STDC): give the whole checkpoint")


def _resnet_config(sizes: _Sizes) -> PreTrainedConfig:
    from transformers import ResNetConfig

    stage = f"{_BACKBONE}encoder.stages."
    convolutions = sizes.count(f"{stage}0.layers.0.layer.#")
    return ResNetConfig(
        embedding_size=sizes(f"{_BACKBONE}embedder.embedder.convolution.weight")[0],
        hidden_sizes=[sizes(f"{stage}{n}.layers.0.layer.{convolutions - 1}.convolution.weight")[0] for n in range(4)],
        depths=[sizes.count(f"{stage}{n}.layers.#") for n in range(4)],
        layer_type="bottleneck" if convolutions == 3 else "basic",
        out_features=_STAGES,  # type: ignore[call-arg]  # of all backbones
    )


def _swin_config(sizes: _Sizes) -> PreTrainedConfig:
    from transformers import SwinConfig

    swin = f"{_BACKBONE}swin."
    width, _, patch, _ = sizes(f"{swin}embeddings.patch_embeddings.projection.weight")
    tables = [
        sizes(f"{swin}encoder.layers.{n}.blocks.0.attention.relative_position_bias.relative_position_bias_table")
        for n in range(4)
    ]
    return SwinConfig(
        patch_size=patch,
        embed_dim=width,
        depths=[sizes.count(f"{swin}encoder.layers.{n}.blocks.#") for n in range(4)],
        num_heads=[heads for _, heads in tables],
        window_size=(isqrt(tables[0][0]) + 1) // 2,  # a table has an entry for each of (2w - 1)² offsets
        mlp_ratio=sizes(f"{swin}encoder.layers.0.blocks.0.mlp.fc1.weight")[0] / width,
        qkv_bias=sizes.has(f"{swin}encoder.layers.0.blocks.0.attention.q_proj.bias"),
        drop_path_rate=0.3,
        out_features=_STAGES,  # type: ignore[call-arg]
    )


def _stdc_config(sizes: _Sizes) -> PreTrainedConfig:
    from .stdc import StdcConfig

    last = [sizes.count(f"{_BACKBONE}x{stride}.0.#") for stride in (4, 8, 16, 32)]  # numbered through all stages
    return StdcConfig(
        embedding_size=sizes(f"{_BACKBONE}x4.0.1.conv.weight")[0],
        depths=[after - before for before, after in pairwise(last)],
        out_features=_STAGES,  # type: ignore[call-arg]
    )


def _blank(config: Mask2FormerConfig) -> dict[str, Tensor]:
    """What a network has, without memory."""
    from transformers import Mask2FormerForUniversalSegmentation

    with torch.device("meta"):
        return dict(Mask2FormerForUniversalSegmentation(config).state_dict())


def _made(wanted: Mapping[str, Tensor], no_object_weight: float) -> dict[str, Tensor]:
    """What is in a network of `transformers` and in no checkpoint, or not in all."""
    made: dict[str, Tensor] = {}
    for name, tensor in wanted.items():
        if name.endswith(".num_batches_tracked"):
            made[name] = torch.zeros((), dtype=torch.int64)
        elif name.startswith(f"{_BACKBONE}swin.layernorm."):  # what comes out is normalised for each stage instead
            made[name] = torch.full(tensor.shape, float(name.endswith(".weight")))
        elif name == "criterion.empty_weight":
            made[name] = torch.tensor([1.0] * (len(tensor) - 1) + [no_object_weight])
    return made
