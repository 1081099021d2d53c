"""Models of `transformers`, from a folder or a hub, and how they want to see pictures.

Pictures are prepared here and not by the library's processors, which need torchvision. What a processor would do is
read from the same file, ``preprocessor_config.json`` (or ``processor_config.json``).
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstream.types import Frame, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AND = "+"
"""Between a model that finds boxes of what words say, and one that finds masks in boxes."""

NetworkT = TypeVar("NetworkT", bound=nn.Module)

_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]
_PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
_BLOCK = 1 << 20
_MODES = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
"""Of `F.interpolate`, for Pillow's numbers of them."""


def is_pretrained(name: str) -> bool:
    """Whether a name is that of a model of `transformers`: a folder of one, two models, or one of the hub."""
    folder = Path(name).expanduser()
    if folder.exists():
        config = folder / "config.json"
        return config.is_file() and "model_type" in config.read_text(encoding="utf-8")
    if AND in name:
        return True
    return len(folder.parts) == 2 and not folder.is_absolute()


def parts_of(name: str) -> list[str]:
    """The models that a name stands for: one, or a pair."""
    return [name] if Path(name).expanduser().exists() else name.split(AND, maxsplit=1)


def pretrained_folder(name: str) -> Path:
    """Where a model lies on this machine: a folder as it is, or a model of the hub, fetched if it is not here yet.

    Raises:
        InputError: it is neither, or the hub cannot be reached and the model is not on this machine.
    """
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if folder.exists():
        raise InputError(f"{name} is no folder of a model: config.json is not in it")
    return _cached(name) or _fetched(name)


def cached_folder(name: str) -> Path | None:
    """Where a model of the hub lies on this machine; None if it, or its weights, were not fetched.

    Raises:
        InputError: this can be no name of a model.
    """
    folder = _cached(name)
    complete = folder is not None and (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    return folder if complete else None


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model of the hub on this machine.

    Attributes:
        folder: where it is.
        files: how many it has.
        nbytes: of all of them.
        is_checked: whether they were compared with what the hub says they are; it could not be asked otherwise.
    """

    folder: Path
    files: int
    nbytes: int
    is_checked: bool


def fetch_pretrained(name: str) -> Fetched:
    """Get a model of the hub, or what is missing of it, and compare every file with its size and digest there.

    What is damaged is fetched anew, once.

    Args:
        name: OWNER/MODEL.

    Raises:
        InputError: there is no such model, the hub cannot be reached and the model is not here, it has no weights that
            can be read safely, or a file stays damaged.
    """
    _cached(name)  # refuses what is no name
    folder = _fetched(name)
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{name} has no weights as safetensors, and others are not read: choose another model")
    damaged = _damaged(name, folder)
    for file in damaged or ():
        _fetch_anew(name, folder, file)
    if damaged and (still := _damaged(name, folder)):
        raise InputError(
            f"{name} arrives damaged ({', '.join(still)} is not what the hub says it is): try again later, or from "
            "another network"
        )
    files = [file for file in folder.rglob("*") if file.is_file()]
    return Fetched(folder, len(files), sum(file.stat().st_size for file in files), damaged is not None)


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError:
        raise InputError(f"{name} is not there, and no name of a model either: name a folder, or OWNER/MODEL") from None


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED))
    except RepositoryNotFoundError:
        raise InputError(f"the hub knows no model {name} that is open to all: see its page for how to get it") from None
    except (LocalEntryNotFoundError, OSError) as error:
        if error.errno == errno.ENOSPC:
            raise InputError(f"{name} does not fit: no space is left on the disk of the hub's cache") from None
        raise InputError(
            f"{name} is not on this machine and the hub cannot be reached: where it can, run 'hf download {name}', "
            "copy the folder it names, and give its path"
        ) from None


def _damaged(name: str, folder: Path) -> list[str] | None:
    """Files of a snapshot that are missing or not what the hub says; None if it cannot be asked."""
    from huggingface_hub import HfApi

    try:
        about = HfApi().model_info(name, revision=folder.name, files_metadata=True)
    except Exception:  # whatever the library's transport raises, which differs between its versions
        return None
    wanted = [one for one in about.siblings or () if any(fnmatch(one.rfilename, kind) for kind in _WANTED)]
    return [
        one.rfilename
        for one in wanted
        if not _is_as_told(folder / one.rfilename, one.size, one.lfs.sha256 if one.lfs else None, one.blob_id)
    ]


def _is_as_told(file: Path, size: int | None, sha256: str | None, blob_id: str | None) -> bool:
    """Whether a file has this size and digest: of its content, or as git has it where that is not known."""
    if not file.is_file() or (size is not None and file.stat().st_size != size):
        return False
    if sha256 is None and blob_id is None:
        return True
    digest = hashlib.sha256() if sha256 else hashlib.sha1(f"blob {file.stat().st_size}\0".encode())
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == (sha256 or blob_id)


def _fetch_anew(name: str, folder: Path, file: str) -> None:
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(name, file, revision=folder.name, force_download=True)
    except Exception as error:  # see `_damaged`
        raise InputError(
            f"{file} of {name} is damaged and cannot be fetched anew ({type(error).__name__}): try again later"
        ) from None


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model.

    Raises:
        InputError: it cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{folder / 'config.json'} cannot be read: copy the model again") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise InputError(f"{folder / 'config.json'} does not say which kind of model it is (model_type)")
    return config


def read_processor(folder: Path) -> dict[str, Any]:
    """What a model says of how pictures are prepared.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    known = [folder / name for name in _PROCESSORS if (folder / name).is_file()]
    if not known:
        raise InputError(f"{folder} does not say how pictures are prepared: {_PROCESSORS[0]} is not in it")
    try:
        config = json.loads(known[0].read_text(encoding="utf-8"))
        plain: dict[str, Any] = dict(config.get("image_processor", config))
    except (OSError, ValueError, TypeError, AttributeError):
        raise InputError(f"{known[0]} cannot be read: copy the model again") from None
    return plain


def weight_files(folder: Path) -> list[Path]:
    """The files that decide what a model does, and a text tower in it."""
    parts = (folder, folder / "text")
    return [file for part in parts for kind in ("*.json", "*.safetensors") for file in sorted(part.glob(kind))]


def folder_of_kind(name: str, kinds: Collection[str], *, usual: str) -> tuple[Path, str]:
    """As `pretrained_folder`, for a model that must be of some kind.

    Args:
        name: of a folder, or a model of the hub.
        kinds: what ``model_type`` may be.
        usual: a model of that kind that others use, and its licence, for the message.

    Returns:
        The folder, and which of the kinds it is.

    Raises:
        InputError: there is no such model, or it is of another kind.
    """
    try:
        folder = pretrained_folder(name)
    except InputError as error:
        raise InputError(f"{error}; the usual one is {usual}") from None
    kind = str(read_config(folder)["model_type"])
    if kind not in kinds:
        raise InputError(f"{name} is a model of kind {kind}, not {' or '.join(kinds)}: the usual one is {usual}")
    return folder, kind


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """What cuts text into the tokens that a model knows.

    Raises:
        InputError: its files are missing or damaged.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in _VOCABULARIES):  # the library would go on with an empty one
        raise InputError(f"{folder} holds no tokenizer: {_VOCABULARIES[0]} is not in it")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the library raises whatever its parsers do, bare Exception among them
        raise InputError(
            f"{folder} holds no tokenizer that can be read ({type(error).__name__}): copy it again"
        ) from None
    return tokenizer


def load_pretrained(network: type[NetworkT], folder: Path, *, device: torch.device | str = "cpu") -> NetworkT:
    """A network of a class of `transformers`, with the weights of a folder, for inference.

    Raises:
        InputError: the weights are missing, damaged, or of another kind of model.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    # Several seconds at most, and each part of a system would show its own.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        loaded, found = network.from_pretrained(  # type: ignore[attr-defined]
            str(folder), dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (ImportError, OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{folder} holds no weights for {network.__name__}: {reason}") from None
    of_network = [key for key in found["missing_keys"] if not key.startswith("criterion.")]  # those are of the loss
    missing = sorted(of_network)
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} weights of {network.__name__}, as {missing[0]}: copy it again")
    result: NetworkT = loaded.eval().requires_grad_(False).to(device)
    return result


@dataclass(frozen=True, slots=True)
class Pixels:
    """How a network wants to see pictures.

    Attributes:
        shortest: short side they are brought to, or None.
        longest: most pixels of the long side, or None.
        exact_hw: the size they are brought to whatever their shape, or None.
        pad_hw: size they are padded to below and to the right, or None.
        divisor: both sides become multiples of it, 1 for none; the picture is padded as with ``pad_hw``.
        scale: what values 0 … 255 are multiplied by.
        mean: of RGB after that.
        std: of RGB after that.
        mode: of interpolation, as `F.interpolate` calls it.
        padding: value 0 … 255 of what is padded; None: zero once pictures are normalised.
    """

    shortest: int | None = None
    longest: int | None = None
    exact_hw: tuple[int, int] | None = None
    pad_hw: tuple[int, int] | None = None
    divisor: int = 1
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    mode: str = "bilinear"
    padding: float | None = None

    @classmethod
    def of(cls, folder: Path) -> Pixels:
        """From the processor's file of a model.

        Raises:
            InputError: there is none, or it cannot be read.
        """
        config = read_processor(folder)
        try:
            return cls.from_config(config)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(f"{folder} says in no known way how pictures are prepared: copy the model again") from None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Pixels:
        """From what a processor of `transformers` writes."""
        size, pad = config.get("size") or {}, config.get("pad_size") or {}
        if isinstance(size, int):
            size = {"shortest_edge": size, "longest_edge": config.get("max_size")}
        exact_hw = (size["height"], size["width"]) if "height" in size else None
        return cls(
            size.get("shortest_edge"),
            size.get("longest_edge"),
            exact_hw,
            (pad["height"], pad["width"]) if "height" in pad and config.get("do_pad", True) else None,
            int(config.get("size_divisor") or 1),
            float(config.get("rescale_factor") or 1 / 255) if config.get("do_rescale", True) else 1.0,
            tuple(config.get("image_mean") or (0.0, 0.0, 0.0)) if config.get("do_normalize", True) else (0.0,) * 3,
            tuple(config.get("image_std") or (1.0, 1.0, 1.0)) if config.get("do_normalize", True) else (1.0,) * 3,
            _MODES.get(2 if config.get("resample") is None else int(config["resample"]), "bilinear"),
        )

    def resized_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Size of a picture's content, without padding."""
        if self.exact_hw is not None:
            return self.exact_hw
        height, width = size_hw
        scale = self.shortest / min(size_hw) if self.shortest else (self.longest or max(size_hw)) / max(size_hw)
        if self.longest and max(size_hw) * scale > self.longest:
            scale = self.longest / max(size_hw)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def __call__(self, frames: Sequence[Frame]) -> Tensor:
        """Frames of one size, ``float32[B, 3, H, W]``."""
        pictures = torch.stack([torch.from_numpy(frame.image) for frame in frames]).permute(0, 3, 1, 2)
        height, width = self.resized_hw((pictures.shape[2], pictures.shape[3]))
        if (height, width) != tuple(pictures.shape[2:]):
            options = {} if self.mode == "nearest-exact" else {"align_corners": False, "antialias": True}
            pictures = F.interpolate(pictures, (height, width), mode=self.mode, **options)
        bottom, right = (-side % self.divisor for side in (height, width))
        if self.pad_hw is not None:
            bottom, right = max(self.pad_hw[0] - height, 0), max(self.pad_hw[1] - width, 0)
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        levels = pictures.float()
        if self.padding is not None:
            return (F.pad(levels, (0, right, 0, bottom), value=self.padding) * self.scale - mean) / std
        return F.pad((levels * self.scale - mean) / std, (0, right, 0, bottom))
