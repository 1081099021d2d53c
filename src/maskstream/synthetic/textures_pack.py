"""Texture packs: small tiles of the user's own pictures, which scenes are painted with.

    photos, videos ─► frames, shrunk ─► 64 × 64 tiles with enough texture ─► no two alike ─► PACK.npz

A pack holds the tiles, and for each the name and hash of the file it was cut from. It is made and read without a
network, and never leaves the user's machine unless they pass it on.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.files import atomic_path
from maskstream.types import InputError, OutputError, VideoError
from maskstream.video import open_video
from maskstream.video.images import is_image, natural_key
from maskstream.video.notices import warn

from .tiles import SIDE

MOST_TILES = 2000
"""25 MB."""
_FORMAT = "maskstream-textures-1"
_SHORT_SIDE = 384  # a picture is shrunk to this, so that a tile shows a surface and not a few pixels of it
_FRAMES_OF_A_VIDEO = 16
_CANDIDATES = 4  # for every tile wanted
_LEAST_CONTRAST = 10.0  # standard deviation of grey levels
_LEAST_DETAIL = 4.0  # mean step to the next pixel, in grey levels
_LEAST_DIFFERENCE = 12.0  # mean difference of two tiles at 8 × 8 pixels, in levels

Tile = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where tiles of a pack are from.

    Attributes:
        name: of the file.
        sha256: of its bytes, in hexadecimal.
        tiles: how many are from it.
    """

    name: str
    sha256: str
    tiles: int


def make_textures(sources: Sequence[str | Path], path: str | Path, *, tiles: int = 500, seed: int = 0) -> int:
    """Make a texture pack; the same sources, options and versions give the same bytes.

    Args:
        sources: images, folders of images of any size, and videos.
        path: the pack to write, ``.npz``.
        tiles: how many at most.
        seed: of the places that tiles are cut from.

    Returns:
        How many tiles were found.

    Raises:
        InputError: an option is out of range, or no picture has enough texture.
        VideoError: a source does not exist or is neither image nor video.
        OutputError: the pack cannot be written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"a texture pack is an .npz file: name it {path.stem or 'textures'}.npz, not {path.name}")
    if not 1 <= tiles <= MOST_TILES:
        raise InputError(f"a texture pack holds 1 to {MOST_TILES} tiles, not {tiles}")
    files = _files(sources)
    random = np.random.default_rng(seed)
    if len(files) > _CANDIDATES * tiles:
        files = [files[n] for n in sorted(random.choice(len(files), _CANDIDATES * tiles, replace=False).tolist())]
    kept = -(-_CANDIDATES * tiles // len(files))
    candidates = [_candidates(file, kept, random) for file in files]
    chosen, origin = _choose(candidates, tiles)
    if not chosen:
        raise InputError(
            f"none of {len(files)} files has {SIDE}×{SIDE} pixels with enough texture: give photos of surfaces, "
            "such as grass, walls, fabric or water"
        )
    counts = np.bincount(origin, minlength=len(files)).tolist()
    used = [number for number, count in enumerate(counts) if count]
    provenance = [{"name": files[n].name, "sha256": _sha256(files[n]), "tiles": counts[n]} for n in used]
    rows = np.searchsorted(used, origin)
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                format=np.array(_FORMAT),
                tiles=np.stack(chosen),
                source=rows.astype(np.int32),
                provenance=np.array(json.dumps(provenance)),
            )
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    return len(chosen)


def load_textures(path: str | Path) -> NDArray[np.uint8]:
    """Tiles of a texture pack, ``uint8[M, 64, 64, 3]``, RGB.

    Raises:
        InputError: it does not exist, or is no texture pack.
    """
    tiles, _ = _load(Path(path))
    return tiles


def textures_from(path: str | Path) -> tuple[Provenance, ...]:
    """Which files the tiles of a pack are from.

    Raises:
        InputError: it does not exist, or is no texture pack.
    """
    _, provenance = _load(Path(path))
    return provenance


def _load(path: Path) -> tuple[NDArray[np.uint8], tuple[Provenance, ...]]:
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: make a texture pack with `maskstream textures SOURCES -o {path.name}`"
        )
    try:
        with np.load(path, allow_pickle=False) as pack:
            if str(pack["format"]) != _FORMAT:
                raise InputError(f"{path} is a texture pack of another version: make it again")
            tiles, provenance = pack["tiles"], json.loads(str(pack["provenance"]))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a texture pack: make one with `maskstream textures`") from error
    if tiles.dtype != np.uint8 or tiles.shape[1:] != (SIDE, SIDE, 3):
        raise InputError(f"{path} is not a texture pack: its tiles are {tiles.dtype}{list(tiles.shape)}")
    return tiles, tuple(Provenance(entry["name"], entry["sha256"], entry["tiles"]) for entry in provenance)


def _files(sources: Sequence[str | Path]) -> list[Path]:
    """Every source file, those of folders in natural order."""
    files: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            files += sorted((path for path in source.iterdir() if is_image(path)), key=natural_key)
        elif source.is_file():
            files.append(source)
        else:
            raise VideoError(f"{source} does not exist")
    if not files:
        raise InputError("no picture was given: name images, folders of images, or videos")
    return files


def _candidates(file: Path, most: int, random: np.random.Generator) -> list[Tile]:
    """Some tiles of a file, whichever chance prefers; a file that cannot be read has none."""
    found: list[tuple[float, Tile]] = []
    try:
        for picture in _pictures(file):
            found += [(random.random(), tile) for tile in _tiles(picture, random)]
            found = sorted(found, key=lambda pair: pair[0])[:most]
    except VideoError as error:
        warn(str(error))
    return [tile for _, tile in found]


def _pictures(file: Path) -> Iterator[NDArray[np.uint8]]:
    """The picture, or some of a video's from its beginning to its end."""
    video = open_video(file)
    stride = max(1, (video.frame_count or 1) // _FRAMES_OF_A_VIDEO)
    for number, frame in enumerate(open_video(video, stride=stride)):
        if number == _FRAMES_OF_A_VIDEO:
            return
        yield frame.image


def _tiles(picture: NDArray[np.uint8], random: np.random.Generator) -> Iterator[Tile]:
    """Tiles with enough texture, cut on a grid whose beginning is random."""
    scale = _SHORT_SIDE / min(picture.shape[:2])
    if scale < 1:
        size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    height, width = picture.shape[:2]
    if min(height, width) < SIDE:
        return
    top, left = (int(random.integers(0, extent % SIDE + 1)) for extent in (height, width))
    for row in range(top, height - SIDE + 1, SIDE):
        for column in range(left, width - SIDE + 1, SIDE):
            tile = picture[row : row + SIDE, column : column + SIDE]
            grey = tile.mean(axis=2)
            detail = float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2
            if detail >= _LEAST_DETAIL and grey.std() >= _LEAST_CONTRAST:
                yield tile.copy()


def _choose(candidates: Sequence[Sequence[Tile]], most: int) -> tuple[list[Tile], list[int]]:
    """The first tile of every file, then the next of every file, and so on; none like one before. And their files."""
    thumbnails = np.empty((most, 8 * 8 * 3), np.float32)
    chosen: list[Tile] = []
    origin: list[int] = []
    for turn in range(max(map(len, candidates), default=0)):
        for number, tiles in enumerate(candidates):
            if turn >= len(tiles):
                continue
            small = cv2.resize(tiles[turn], (8, 8), interpolation=cv2.INTER_AREA).reshape(-1).astype(np.float32)
            differences = np.abs(thumbnails[: len(chosen)] - small).mean(axis=1)
            if (differences < _LEAST_DIFFERENCE).any():
                continue
            thumbnails[len(chosen)] = small
            chosen.append(tiles[turn])
            origin.append(number)
            if len(chosen) == most:
                return chosen, origin
    return chosen, origin


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
