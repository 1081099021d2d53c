"""All models that commands take by name: those in the package, methods without weights, and those of the hub.

What is said of others' models is what their authors published: licences and data as in their repositories, sizes as
counted from configurations. Where that is not known for certain, it says so; what is said without having been seen on a
page of theirs is marked as `KnownModel.unchecked`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from maskstream.files import file_digest
from maskstream.pretrained import cached_folder, is_pretrained, parts_of, read_config
from maskstream.shipped import WEIGHTLESS, WEIGHTS, Kind, Shipped, shipped
from maskstream.types import InputError, Task

Place: TypeAlias = Literal["package", "hub"]
Fact: TypeAlias = Literal["licence", "size", "data"]

NOT_STATED = "not stated"
"""Of what is not known for certain."""

ANY_WORDS, ONE_CLASS = "any words", "object"
"""Label spaces of models that find what they are told, and of those that know objects only."""

_KNOWN_CLASSES = (Task.VSS, Task.VIS, Task.VPS, Task.UVOS, Task.OWVS)
_INSTANCES = (Task.VIS, Task.UVOS, Task.OWVS)
_POINTED_AT = (Task.VOS, Task.PET)
_FOLLOWED = (Task.VOS, Task.PVOS, Task.PET)
_ANYTHING = (Task.UVOS, Task.OWVS)
_WORDS = (Task.VSS, Task.VIS, Task.VPS, Task.REFVOS)

_OF_KIND: dict[Kind, tuple[Task, ...]] = {
    "propagator": (Task.VOS, Task.PVOS),
    "segmenter": _ANYTHING,
    "prompter": _POINTED_AT,
    "weights": (),
}
"""What a system can do with a part of this kind, whatever else it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model, a method, or two models that work together.

    Attributes:
        name: by which commands take it.
        about: it, in a line.
        options: of commands, that take it.
        tasks: that are possible with it.
        label_space: what its categories mean, if it has any.
        licence: of the weights.
        parameters: how many, in millions; None if that is not stated, 0 for a method without weights.
        seen: data that it was trained on, as published; None if that is not stated.
        origin: who made it, where it is told.
        place: where its weights come from.
        unchecked: what of this could not be compared with a page of those who publish it.
    """

    name: str
    about: str
    options: tuple[str, ...]
    tasks: tuple[Task, ...]
    label_space: str
    licence: str
    parameters: float | None
    seen: tuple[str, ...] | None
    origin: str
    place: Place
    unchecked: tuple[Fact, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...] | None:
        """Where it is on this machine, of a pair both; none for a method; None if it is not here, or not all of it."""
        if self.place == "package":
            return tuple(model.folder for model in shipped() if model.name == self.name)
        found = [cached_folder(part) for part in parts_of(self.name)]
        here = tuple(folder for folder in found if folder is not None)
        return here if len(here) == len(found) else None

    @property
    def nbytes(self) -> int | None:
        """Of its weights; None if it is not on this machine."""
        folders = self.folders
        if folders is None:
            return None
        return sum(file.stat().st_size for folder in folders for file in folder.glob("*.safetensors"))

    @property
    def sha256(self) -> str | None:
        """Of the weights of a network in the package."""
        return file_digest(self.folders[0] / WEIGHTS) if self.place == "package" and self.folders else None


def known_models() -> list[KnownModel]:
    """All of them: of the package, then of the hub."""
    methods = [_method(kind, name, about) for kind, of_kind in WEIGHTLESS.items() for name, about in of_kind.items()]
    return [*methods, *map(_of_package, shipped()), *HUB]


def find_model(name: str) -> KnownModel:
    """A model of the table by its name.

    Raises:
        InputError: there is none of this name.
    """
    found = next((model for model in known_models() if model.name == name), None)
    if found is None:
        raise InputError(f"no model {name!r} is known here: see 'maskstream models'")
    return found


def _method(kind: Kind, name: str, about: str) -> KnownModel:
    return KnownModel(
        name=name,
        about=about,
        options=(f"--{kind}",),
        tasks=_OF_KIND[kind],
        label_space=ONE_CLASS,
        licence="Apache-2.0",
        parameters=0,
        seen=(),
        origin="maskstream",
        place="package",
    )


def _of_package(model: Shipped) -> KnownModel:
    options: tuple[str, ...] = (f"--{model.kind}",)
    tasks, space = _OF_KIND[model.kind], ONE_CLASS
    if is_pretrained(str(model.folder)):  # it knows classes, and systems that decode clips can be built around it
        from maskstream.segmenters.label_spaces import label_space

        options = (*options, "--model tubelink --weights", "--model mpvss --weights")
        tasks, space = _KNOWN_CLASSES, label_space(read_config(model.folder)["id2label"]).name
    return KnownModel(
        name=model.name,
        about=model.about,
        options=options,
        tasks=tasks,
        label_space=space,
        licence=model.licence,
        parameters=_parameters(model.folder / WEIGHTS),
        seen=model.seen,
        origin="maskstream",
        place="package",
    )


def _parameters(file: Path) -> float:
    """Of a file of weights, in millions."""
    from safetensors import safe_open

    with safe_open(file, "numpy") as tensors:
        counts = [math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys()]  # noqa: SIM118
    return float(sum(counts)) / 1e6


def _of_hub(
    name: str,
    about: str,
    options: Iterable[str],
    tasks: Iterable[Task],
    label_space: str,
    licence: str,
    parameters: float | None,
    seen: Iterable[str] | None,
    origin: str,
    *,
    unchecked: tuple[Fact, ...] = (),
) -> KnownModel:
    return KnownModel(
        name=name,
        about=about,
        options=tuple(options),
        tasks=tuple(tasks),
        label_space=label_space,
        licence=licence,
        parameters=parameters,
        seen=None if seen is None else tuple(seen),
        origin=origin,
        place="hub",
        unchecked=unchecked,
    )


_COCO, _ADE20K, _CITYSCAPES = ("COCO",), ("ADE20K",), ("Cityscapes",)
_QUERIES = ("--segmenter",)
_CORES = ("--segmenter", "--model tubelink --weights", "--model mpvss --weights")
_SAM = ("--prompter", "--segmenter")
_SAM_VIDEO = "--model sam2 --weights"
_APACHE = "Apache-2.0"


def _page(code: str) -> str:
    """A licence that only the page of the model can tell, and that of the authors' code."""
    return f"see its page; the code is {code}"


def _sam(size: str, parameters: float) -> KnownModel:
    about = "what boxes, clicks and scribbles mean, and everything in a picture"
    origin = "Kirillov et al., ICCV 2023; github.com/facebookresearch/segment-anything"
    tasks = (*_POINTED_AT, *_ANYTHING)
    return _of_hub(f"facebook/sam-vit-{size}", about, _SAM, tasks, ONE_CLASS, _APACHE, parameters, ["SA-1B"], origin)


def _sam2(size: str, parameters: float) -> KnownModel:
    about = "what is pointed at, followed; and everything in a picture"
    seen = ["SA-1B", "SA-V", "videos of its makers", "benchmarks among these: not stated"]
    origin = "Ravi et al., ICLR 2025; github.com/facebookresearch/sam2"
    name, options, tasks = f"facebook/sam2.1-hiera-{size}", (_SAM_VIDEO, *_SAM), (*_FOLLOWED, *_ANYTHING)
    return _of_hub(name, about, options, tasks, ONE_CLASS, _APACHE, parameters, seen, origin, unchecked=("data",))


def _videomt(size: str, data: str, label_space: str, seen: str, parameters: float, tasks: Iterable[Task]) -> KnownModel:
    return _of_hub(
        f"tue-mps/videomt-dinov2-{size}-{data}",
        "a plain ViT that carries its queries from frame to frame",
        ["--model videomt --weights"],
        tasks,
        label_space,
        _page("MIT"),
        parameters,
        [seen, "what it began from, a segmenter on DINOv2: not stated"],
        "Norouzi et al., CVPR 2026; github.com/tue-mps/videomt",
    )


def _mask2former(size: str, data: str, label_space: str, parameters: float, seen: Iterable[str]) -> KnownModel:
    tasks = {"semantic": (Task.VSS,), "instance": _INSTANCES}.get(data.split("-")[1], _KNOWN_CLASSES)
    return _of_hub(
        f"facebook/mask2former-swin-{size}-{data}",
        "masked attention: a class and a mask from each query",
        _CORES,
        tasks,
        label_space,
        _page("MIT"),
        parameters,
        seen,
        "Cheng et al., CVPR 2022; github.com/facebookresearch/Mask2Former",
    )


def _oneformer(data: str, label_space: str, seen: Iterable[str]) -> KnownModel:
    return _of_hub(
        f"shi-labs/oneformer_{data}_swin_large",
        "one network that is told whether to see regions, instances or classes",
        _QUERIES,
        _KNOWN_CLASSES,
        label_space,
        _page("MIT"),
        218.8,
        seen,
        "Jain et al., CVPR 2023; github.com/SHI-Labs/OneFormer",
    )


def _eomt(name: str, label_space: str, tasks: Iterable[Task], seen: Iterable[str]) -> KnownModel:
    return _of_hub(
        f"tue-mps/{name}",
        "a plain ViT with queries in its last blocks",
        _QUERIES,
        tasks,
        label_space,
        _page("MIT"),
        316.7,
        seen,
        "Kerssies et al., CVPR 2025; github.com/tue-mps/eomt",
    )


_DINO = "Liu et al., ECCV 2024; github.com/IDEA-Research/GroundingDINO"
_GOLD = ["Objects365", "GoldG", "Cap4M"]
_EVERY_CLASS = (Task.VSS, Task.VIS, Task.VPS)

HUB: tuple[KnownModel, ...] = (
    _sam("base", 93.7),
    _sam("large", 312.3),
    _sam("huge", 641.1),
    _sam2("tiny", 38.9),
    _sam2("small", 46.0),
    _sam2("base-plus", 80.8),
    _sam2("large", 224.4),
    _of_hub(
        "yonigozlan/EdgeTAM-hf",
        "what is pointed at, followed; a small SAM 2",
        [_SAM_VIDEO],
        _FOLLOWED,
        ONE_CLASS,
        _APACHE,
        None,
        None,
        "Zhou et al., CVPR 2025; github.com/facebookresearch/EdgeTAM",
    ),
    _of_hub(
        "facebook/sam3",
        "all that words name, found and followed; and what is pointed at; the hub gives it on request",
        ["--model sam3 --weights", _SAM_VIDEO],
        (Task.VIS, *_FOLLOWED),
        ANY_WORDS,
        "SAM License",
        848.0,
        ["SA-Co", "benchmarks among its parts: not stated"],
        "Carion et al., 2025; github.com/facebookresearch/sam3",
    ),
    _videomt("small", "ytvis2019", "ytvis-2019", "YouTube-VIS 2019", 24.1, _EVERY_CLASS),
    _videomt("base", "ytvis2019", "ytvis-2019", "YouTube-VIS 2019", 94.2, _EVERY_CLASS),
    _videomt("large", "ytvis2019", "ytvis-2019", "YouTube-VIS 2019", 317.7, _EVERY_CLASS),
    _videomt("large", "ytvis2021", "ytvis-2021", "YouTube-VIS 2021", 317.7, _EVERY_CLASS),
    _videomt("large", "ytvis2022", "ytvis-2021", "YouTube-VIS 2022", 317.7, _EVERY_CLASS),
    _videomt("large", "ovis", "ovis", "OVIS", 317.6, _EVERY_CLASS),
    _videomt("large", "vipseg", "vipseg", "VIPSeg", 322.7, _EVERY_CLASS),
    _videomt("large", "vspw", "vspw", "VSPW", 322.7, (Task.VSS,)),
    _mask2former("tiny", "coco-panoptic", "coco-panoptic", 47.4, _COCO),
    _mask2former("base", "coco-panoptic", "coco-panoptic", 106.9, _COCO),
    _mask2former("large", "coco-panoptic", "coco-panoptic", 215.5, _COCO),
    _mask2former("tiny", "coco-instance", "coco", 47.4, _COCO),
    _mask2former("small", "coco-instance", "coco", 68.7, _COCO),
    _mask2former("large", "coco-instance", "coco", 215.5, _COCO),
    _mask2former("tiny", "cityscapes-semantic", "cityscapes", 47.4, _CITYSCAPES),
    _mask2former("large", "cityscapes-panoptic", "cityscapes", 215.5, _CITYSCAPES),
    _mask2former("large", "ade-panoptic", "ade20k", 215.5, _ADE20K),
    _of_hub(
        "facebook/maskformer-swin-tiny-coco",
        "a class and a mask from each query",
        _QUERIES,
        _KNOWN_CLASSES,
        "coco-panoptic",
        _page("CC BY-NC 4.0"),
        41.8,
        _COCO,
        "Cheng et al., NeurIPS 2021; github.com/facebookresearch/MaskFormer",
    ),
    _oneformer("coco", "coco-panoptic", _COCO),
    _oneformer("ade20k", "ade20k", _ADE20K),
    _oneformer("cityscapes", "cityscapes", _CITYSCAPES),
    _eomt("coco_panoptic_eomt_large_640", "coco-panoptic", _KNOWN_CLASSES, _COCO),
    _eomt("coco_instance_eomt_large_640", "coco", _INSTANCES, _COCO),
    _eomt("ade20k_panoptic_eomt_large_640", "ade20k", _KNOWN_CLASSES, ("ADE20K", "COCO")),
    _of_hub(
        "IDEA-Research/grounding-dino-tiny+facebook/sam-vit-base",
        "what words say: boxes, then masks in them; any such detector and any SAM",
        _QUERIES,
        _WORDS,
        ANY_WORDS,
        _APACHE,
        266.0,
        [*_GOLD, "SA-1B"],
        _DINO,
    ),
    _of_hub(
        "IDEA-Research/grounding-dino-tiny",
        "boxes of what words say; with a SAM",
        ["--segmenter NAME+SAM"],
        _WORDS,
        ANY_WORDS,
        _APACHE,
        172.3,
        _GOLD,
        _DINO,
    ),
    _of_hub(
        "google/owlv2-base-patch16-ensemble",
        "boxes of what words say; with a SAM",
        ["--segmenter NAME+SAM"],
        _WORDS,
        ANY_WORDS,
        _page("Apache-2.0"),
        155.0,
        None,
        "Minderer et al., NeurIPS 2023; github.com/google-research/scenic",
    ),
    _of_hub(
        "CIDAS/clipseg-rd64-refined",
        "a soft mask for each phrase",
        _QUERIES,
        _WORDS,
        ANY_WORDS,
        _page("MIT, which does not cover weights"),
        None,
        ["PhraseCut"],
        "Lüddecke & Ecker, CVPR 2022; github.com/timojl/clipseg",
    ),
)
"""Models of the hub that are known to work here. Others of their families do, too."""
