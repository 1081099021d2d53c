"""Checkpoints of TarViS's authors (specification §2 and 3).

file ─► entries of the core, as detectron2 names them ─► core_in ─► Mask2Former ─┬─► TarViSNetwork
   └──► the rest: TargetModules ─────────────────────────────────────────────────┘
config.yaml ─► which label spaces, and how many queries of an object
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch import Tensor

from maskstream.mask2former.checkpoints import core_in, read_floats
from maskstream.types import InputError
from maskstream.weight_files import check_fits

from .network import TargetModules, TarViSConfig, TarViSNetwork

SHORT_SIDE = 576
"""Of pictures of OVIS and VIPSeg, as their numbers were measured."""

_NAMES = {"youtube-vis": "ytvis-2021"}
"""Label spaces that are called otherwise here."""

_CORE = {
    "backbone.backbone.": "backbone.",
    "backbone.fpn.": "sem_seg_head.pixel_decoder.",
    "decoder.scale_embed.": "sem_seg_head.predictor.level_embed.",
    "decoder.mask_embeds.instance.": "sem_seg_head.predictor.mask_embed.",
    "decoder.transformer_": "sem_seg_head.predictor.transformer_",
    "decoder.decoder_norm.": "sem_seg_head.predictor.decoder_norm.",
}
"""How entries of the core begin, and as in Mask2Former."""

_OWN_OF_NECK = re.compile(r"backbone\.fpn\.transformer\.(level_embed_3d|encoder\.temporal_layers\..*)")

_UNUSED = re.compile(
    r"pixel_mean|pixel_std|vos_query_extractor\.bg_grid_size|decoder\.mask_embeds\.free\..*"
    r"|decoder\.proj_layers\.(vos|background_vos)\..*|.*\.scaling_factors"
)
"""Is in files, and in no computation of a task that was published."""

_GROUPS = {"object": "vos", "object_background": "background_vos"}
"""Groups of queries that are called otherwise here."""

_TABLES = {
    "object": "embedding_container._vos_queries",
    "object_background": "embedding_container._background_vos_queries",
    "instance": "embedding_container._instance_queries",
    "background": "embedding_container._background_queries",
    "semantic": "embedding_container._semantic_queries",
}
"""Tables of queries by group. The first row is the code of all; what they begin with is in the others."""

_THEIRS = (
    (r"neck\.level_codes", "backbone.fpn.transformer.level_embed_3d"),
    (r"neck\.layers\.(\d+)\.attention\.(.*)", r"backbone.fpn.transformer.encoder.temporal_layers.\1.self_attn.\2"),
    (r"neck\.layers\.(\d+)\.attention_norm\.(.*)", r"backbone.fpn.transformer.encoder.temporal_layers.\1.norm1.\2"),
    (r"neck\.layers\.(\d+)\.expand\.(.*)", r"backbone.fpn.transformer.encoder.temporal_layers.\1.linear1.\2"),
    (r"neck\.layers\.(\d+)\.contract\.(.*)", r"backbone.fpn.transformer.encoder.temporal_layers.\1.linear2.\2"),
    (r"neck\.layers\.(\d+)\.norm\.(.*)", r"backbone.fpn.transformer.encoder.temporal_layers.\1.norm2.\2"),
    (r"class_embedders\.(.*)", r"decoder.proj_layers.\1"),
    (r"encoder\.kinds\.background", "vos_query_extractor.bg_query_embed"),
    (r"encoder\.kinds\.(\w+)", r"vos_query_extractor.\1_object_query_embed"),
    (r"encoder\.layers\.(\d+)\.self_attention\.(.*)", r"vos_query_extractor.self_attn_layers.\1.attn.\2"),
    (r"encoder\.layers\.(\d+)\.self_norm\.(.*)", r"vos_query_extractor.self_attn_layers.\1.norm.\2"),
    (r"encoder\.layers\.(\d+)\.attention\.(.*)", r"vos_query_extractor.cross_attn_layers.\1.attn.\2"),
    (r"encoder\.layers\.(\d+)\.attention_norm\.(.*)", r"vos_query_extractor.cross_attn_layers.\1.norm.\2"),
    (r"encoder\.layers\.(\d+)\.expand\.(.*)", r"vos_query_extractor.ffn_layers.\1.mlp.0.\2"),
    (r"encoder\.layers\.(\d+)\.contract\.(.*)", r"vos_query_extractor.ffn_layers.\1.mlp.2.\2"),
    (r"encoder\.layers\.(\d+)\.norm\.(.*)", r"vos_query_extractor.ffn_layers.\1.norm.\2"),
    (r"encoder\.scales\.(.*)", r"vos_query_extractor.proj_point_features.\1"),
    (r"encoder\.begin\.(.*)", r"vos_query_extractor.point_vos_query_extractor.layers.\1"),
)
"""Entries of `TargetModules` beside those of `_TABLES`, and as in checkpoints; the first that fits counts."""


def read_authors(file: Path, settings: Path | None = None) -> TarViSNetwork:
    """TarViS from files of its authors.

    Args:
        file: ``.pth`` as they published it; the state of their training, which is in it, too, is left.
        settings: their ``config.yaml``; None: it lies beside.

    Returns:
        The network, for inference, in float32 on the CPU.

    Raises:
        InputError: a file is not there, is damaged, incomplete, or of another network, or they do not fit each other.
    """
    config = _config(settings or file.with_name("config.yaml"))
    state = read_floats(file)
    try:
        core_state, rest = _split(state)
        core, more = core_in(core_state, family="detectron2", tells_classes=False)
        network = TarViSNetwork(core, _sized(config, rest))
        network.targets.load_state_dict(_converted({**rest, **more}, network.targets))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    return network.eval().requires_grad_(False)


def _config(file: Path) -> TarViSConfig:
    """Label spaces in the order of their rows, which is that of the alphabet, and queries of an object.

    Raises:
        InputError: the file is not there, or says something else.
    """
    if not file.is_file():
        raise InputError(f"{file} is not there: it comes with the checkpoint, and says what its rows are of")
    try:
        plain = yaml.safe_load(file.read_text(encoding="utf-8"))
        classes = {
            name: int(plain["DATASETS"][name]["NUM_CLASSES"])
            for name in sorted(plain["TRAINING"]["DATASET_LIST"])
            if plain["DATASETS"][name]["TYPE"] in ("panoptic_seg", "instance_seg")
        }
        object_queries = int(plain["MODEL"]["NUM_VOS_QUERIES_PER_OBJECT"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file} is no settings file of TarViS ({reason}): give the one of the checkpoint") from None
    names = (name.lower().replace("_", "-") for name in classes)
    return TarViSConfig(
        label_spaces=tuple(_NAMES.get(name, name) for name in names),
        classes=tuple(classes.values()),
        object_queries=object_queries,
    )


def _sized(config: TarViSConfig, rest: Mapping[str, Tensor]) -> TarViSConfig:
    """With what entries alone say.

    Raises:
        InputError: rows of classes are not as many as the settings say.
    """
    rows, wanted = _table(rest, "semantic").shape[0] - 1, sum(config.classes)
    if rows != wanted:
        named = ", ".join(f"{n} of {name}" for name, n in zip(config.label_spaces, config.classes, strict=True))
        raise InputError(
            f"there are queries of {rows} classes, but config.yaml says {wanted} ({named or 'of nothing'}): give the "
            "config.yaml of this checkpoint"
        )
    layers = [re.match(r"vos_query_extractor\.ffn_layers\.(\d+)\.", name) for name in rest]
    return replace(
        config,
        background=_table(rest, "background").shape[0] - 1,
        object_layers=1 + max((int(found[1]) for found in layers if found), default=-1),
    )


def _split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Entries of the core as detectron2 names those of Mask2Former, and the rest.

    Raises:
        InputError: there are no queries of instances.
    """
    core, rest = {}, {}
    for name, tensor in state.items():
        begin = next((x for x in _CORE if name.startswith(x)), None)
        if begin is None or _OWN_OF_NECK.fullmatch(name):
            rest[name] = tensor
        else:
            core[_CORE[begin] + name.removeprefix(begin).replace("multihead_attn._attn.", "multihead_attn.")] = tensor
    table = _table(rest, "instance")
    code_1c, content_qc = table[:1], table[1:]
    core["sem_seg_head.predictor.query_feat.weight"] = content_qc
    core["sem_seg_head.predictor.query_embed.weight"] = code_1c.expand_as(content_qc)
    return core, rest


def _table(rest: Mapping[str, Tensor], group: str) -> Tensor:
    if (name := _TABLES[group]) not in rest or rest[name].dim() != 2 or len(rest[name]) < 1:
        raise InputError(f"there is no table {name}: this is no TarViS, or the checkpoint is incomplete")
    return rest[name]


def _converted(rest: Mapping[str, Tensor], modules: TargetModules) -> dict[str, Tensor]:
    """Entries beside the Mask2Former, as `TargetModules` wants them.

    Raises:
        InputError: one is unknown, missing, of another shape, or not finite.
    """
    ours = modules.state_dict()
    plain = {name: theirs for name in ours if (theirs := _theirs(name)) is not None}
    channels = len(ours["codes.object"])
    tables = {name: torch.Size([_rows(rest, modules, group), channels]) for group, name in _TABLES.items()}
    wanted = {theirs: ours[name].shape for name, theirs in plain.items()} | tables
    check_fits({k: v for k, v in rest.items() if not _UNUSED.fullmatch(k)}, wanted, what="what targets need")
    found = {name: rest[theirs] for name, theirs in plain.items()}
    found |= {f"codes.{group}": rest[name][0] for group, name in _TABLES.items()}
    found["background"] = rest[_TABLES["background"]][1:]
    sizes = [len(table) for table in modules.semantic.values()]
    spaces = torch.split(rest[_TABLES["semantic"]][1:], sizes)
    return found | {f"semantic.{name}": rows for name, rows in zip(modules.semantic, spaces, strict=True)}


def _rows(rest: Mapping[str, Tensor], modules: TargetModules, group: str) -> int:
    """Of the table of a group, with the one of its code."""
    if group == "semantic":
        return 1 + sum(len(table) for table in modules.semantic.values())
    if group == "object":
        return 1
    # The core has as many queries of instances as there are. Those of the background of objects are never read: what
    # they begin with comes from the object encoder.
    return len(_table(rest, group))


def _theirs(ours: str) -> str | None:
    """What an entry is called in checkpoints; None if it is a part of a table."""
    if found := re.fullmatch(r"mask_embedders\.(\w+)\.(\d)\.(.*)", ours):
        group, layer, part = found.groups()
        return f"decoder.mask_embeds.{_GROUPS.get(group, group)}.layers.{int(layer) // 2}.{part}"
    for pattern, theirs in _THEIRS:
        if re.fullmatch(pattern, ours):
            return re.sub(pattern, theirs, ours)
    return None
