import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

from maskstream.cli.textures import textures
from maskstream.synthetic.textures_pack import load_textures, make_textures, textures_from
from maskstream.types import InputError, MaskstreamWarning, OutputError, VideoError
from maskstream.video import VideoWriter


def noise(seed: int, height: int = 200, width: int = 260) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 6, width // 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def write(path: Path, image: NDArray[np.uint8]) -> Path:
    cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        write(folder / f"{seed}.png", noise(seed, 200 + 10 * seed))
    return folder


def test_tiles_are_cut_from_the_pictures(photos: Path, tmp_path: Path) -> None:
    count = make_textures([photos], tmp_path / "pack.npz", tiles=10)
    tiles = load_textures(tmp_path / "pack.npz")
    assert tiles.dtype == np.uint8
    assert tiles.shape == (count, 64, 64, 3)
    assert 3 <= count <= 10
    for tile in tiles:
        differences = [
            cv2.matchTemplate(noise(seed, 200 + 10 * seed), tile, cv2.TM_SQDIFF_NORMED).min() for seed in range(3)
        ]
        assert min(differences) < 1e-4


def test_a_pack_says_where_its_tiles_are_from(photos: Path, tmp_path: Path) -> None:
    count = make_textures([photos], tmp_path / "pack.npz", tiles=6)
    origins = textures_from(tmp_path / "pack.npz")
    assert [origin.name for origin in origins] == ["0.png", "1.png", "2.png"]
    assert origins[1].sha256 == hashlib.sha256((photos / "1.png").read_bytes()).hexdigest()
    assert sum(origin.tiles for origin in origins) == count


def test_a_seed_is_a_pack(photos: Path, tmp_path: Path) -> None:
    packs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_textures([photos], tmp_path / f"{name}.npz", tiles=8, seed=seed)
        packs.append((tmp_path / f"{name}.npz").read_bytes())
    assert packs[0] == packs[1]
    assert packs[0] != packs[2]


def test_no_two_tiles_are_alike(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.png", np.tile(noise(1, 64, 64), (3, 3, 1)))
    count = make_textures([tmp_path], tmp_path / "pack.npz", tiles=100)
    assert count == 1


def test_flat_places_are_left_out(tmp_path: Path) -> None:
    image = np.full((128, 128, 3), 130, np.uint8)
    image[:, 64:] = noise(2, 128, 64)
    write(tmp_path / "half.png", image)
    make_textures([tmp_path / "half.png"], tmp_path / "pack.npz")
    assert all(tile.std() > 10 for tile in load_textures(tmp_path / "pack.npz"))


def test_a_large_photo_is_shrunk_first(tmp_path: Path) -> None:
    write(tmp_path / "large.png", cv2.resize(noise(3, 400, 600), None, fx=5, fy=5).astype(np.uint8))
    make_textures([tmp_path / "large.png"], tmp_path / "pack.npz", tiles=2000)
    # At its own size there would be 31 × 46 tiles of smooth blobs; shrunk to 384 × 576 there are 6 × 9.
    assert 20 <= len(load_textures(tmp_path / "pack.npz")) <= 54


def test_videos_are_cut_from_beginning_to_end(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", size_hw=(128, 192)) as writer:
        for index in range(40):
            writer.write(noise(index // 20, 128, 192), index / 24)
    make_textures([tmp_path / "clip.mp4"], tmp_path / "pack.npz")
    tiles = load_textures(tmp_path / "pack.npz").astype(int)
    for seed in (0, 1):
        source = noise(seed, 128, 192)
        found = [cv2.matchTemplate(source, tile.astype(np.uint8), cv2.TM_CCOEFF_NORMED).max() > 0.9 for tile in tiles]
        assert any(found)


@pytest.mark.filterwarnings("default")
def test_a_broken_picture_among_others_is_skipped_with_a_warning(photos: Path, tmp_path: Path) -> None:
    (photos / "1.png").write_bytes(b"no picture")
    with pytest.warns(MaskstreamWarning, match=r"1\.png"):
        make_textures([photos], tmp_path / "pack.npz", tiles=4)
    assert [origin.name for origin in textures_from(tmp_path / "pack.npz")] == ["0.png", "2.png"]


@pytest.mark.parametrize(
    "name, tiles, error, message",
    [
        pytest.param("pack.zip", 5, InputError, "name it pack.npz", id="another kind of file"),
        pytest.param("pack.npz", 0, InputError, "1 to 2000 tiles, not 0", id="no tile"),
        pytest.param("pack.npz", 2001, InputError, "1 to 2000 tiles", id="too many tiles"),
        pytest.param("missing/pack.npz", 5, OutputError, "cannot be written", id="no such folder"),
    ],
)
def test_what_cannot_be_made_is_refused(
    photos: Path, tmp_path: Path, name: str, tiles: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_textures([photos], tmp_path / name, tiles=tiles)
    assert not (tmp_path / name).exists()


def test_pictures_without_texture_are_no_pack(tmp_path: Path) -> None:
    write(tmp_path / "grey.png", np.full((200, 200, 3), 128, np.uint8))
    with pytest.raises(InputError, match="enough texture"):
        make_textures([tmp_path], tmp_path / "pack.npz")
    assert not (tmp_path / "pack.npz").exists()


def test_sources_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture was given"):
        make_textures([tmp_path / "empty"], tmp_path / "pack.npz")
    with pytest.raises(VideoError, match="does not exist"):
        make_textures([tmp_path / "missing.jpg"], tmp_path / "pack.npz")


@pytest.mark.parametrize("content", [b"", b"PK nonsense", b"text"], ids=["empty", "a broken zip", "text"])
def test_what_is_no_pack_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pack.npz").write_bytes(content)
    with pytest.raises(InputError, match="is not a texture pack"):
        load_textures(tmp_path / "pack.npz")


def test_other_arrays_are_no_pack(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", tiles=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("other.npz", "array.npy"):
        with pytest.raises(InputError, match="is not a texture pack"):
            load_textures(tmp_path / name)
    with pytest.raises(InputError, match="maskstream textures"):
        load_textures(tmp_path / "missing.npz")


def test_the_command_says_how_many_tiles_it_found(photos: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(textures)
    done = CliRunner().invoke(app, [str(photos), "-o", str(tmp_path / "mine.npz"), "--tiles", "4"])
    assert done.exit_code == 0, done.output
    assert "mine.npz, 4 tiles" in done.output
    assert len(load_textures(tmp_path / "mine.npz")) == 4
