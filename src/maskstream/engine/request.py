"""What decides the result of a run, so that continuing it can be told from asking for something else."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path

from maskstream._version import __version__
from maskstream.files import file_digest
from maskstream.shipped import ADVISED, CONFIG, WEIGHTLESS, WEIGHTS, Kind, weights_of

_END = 1 << 20


def weight_digests(names: Mapping[Kind, str]) -> dict[str, str]:
    """Digests of the files of weights that a system consists of, as "propagator/model.safetensors".

    Args:
        names: by kind; of the package, paths, or methods that have no weights.

    Raises:
        InputError: a file cannot be read.
    """
    digests: dict[str, str] = {}
    for kind, given in names.items():
        name = given.removeprefix(ADVISED) if kind == "propagator" else given
        if name in WEIGHTLESS[kind]:
            continue
        from maskstream.pretrained import is_pretrained, parts_of, pretrained_folder, weight_files

        if is_pretrained(name):
            folders = [pretrained_folder(part) for part in parts_of(name)]
            digests |= {
                f"{kind}/{f.name}/{file.relative_to(f).as_posix()}": file_digest(file)
                for f in folders
                for file in weight_files(f)
            }
            continue
        checkpoint = weights_of(name, kind)
        files = [checkpoint / CONFIG, checkpoint / WEIGHTS] if checkpoint.is_dir() else [checkpoint]
        digests |= {f"{kind}/{file.name}": file_digest(file) for file in files}
    return digests


def source_identity(source: str) -> dict[str, str | int]:
    """What tells one source from another without reading gigabytes: name, size, and a digest of both ends."""
    path = Path(source)
    if path.is_file():
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.sha256(file.read(_END))
            file.seek(max(size - _END, 0))
            digest.update(file.read(_END))
        return {"name": path.name, "bytes": size, "sha256_of_ends": digest.hexdigest()}
    if path.is_dir():
        listing = sorted((entry.name, entry.stat().st_size) for entry in path.iterdir())
        digest = hashlib.sha256(repr(listing).encode())
        return {"name": path.name, "files": len(listing), "sha256_of_listing": digest.hexdigest()}
    return {"name": source}


def library_versions() -> dict[str, str]:
    """Versions of everything that touches the pixels."""
    import av
    import cv2
    import numpy as np
    import torch

    return {
        "maskstream": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "av": av.__version__,
    }
