"""Cut-outs from videos without labels."""

import numpy as np
import pytest

from maskstream.engine.cutouts import SHARE, random_shape, write_cutouts
from maskstream.synthetic import write_sample
from maskstream.synthetic.cutouts import read_cutouts
from maskstream.types import InputError
from maskstream.video import VideoWriter


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "sample.mp4"
    write_sample(path, frames=13, size_hw=(96, 128), objects=2)
    return path


def test_what_moves_is_cut_out_of_some_frames(clip, tmp_path):
    seen: list[int] = []
    pairs = write_cutouts([clip], tmp_path / "out", every=6, size=96, on_frame=seen.append)
    assert seen == list(range(1, 14))
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert pairs == len(names) // 2 >= 2
    assert {int(name.split("-")[1]) % 6 for name in names} == {0}
    found = read_cutouts(tmp_path / "out")
    assert found.objects_n4ss.shape == (pairs, 4, 160, 160)
    assert (found.objects_n4ss[:, 3] > 0).flatten(1).any(1).all()


def test_the_same_video_gives_the_same_files(clip, tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        write_cutouts([clip], folder, every=8, size=96)
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one == two


def test_where_nothing_moves_nothing_is_written(tmp_path):
    with VideoWriter(tmp_path / "still.mp4", size_hw=(96, 128)) as writer:
        for n in range(8):
            writer.write(np.full((96, 128, 3), 90, np.uint8), n / 24)
    with pytest.raises(InputError, match=r"nothing moves in .*still\.mp4"):
        write_cutouts([tmp_path / "still.mp4"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_left_alone(clip, tmp_path):
    with pytest.raises(InputError, match="is there already"):
        write_cutouts([clip], tmp_path)


def test_random_shapes_are_cut_out_of_the_same_frames(clip, tmp_path):
    plain = write_cutouts([clip], tmp_path / "plain", every=6, size=96)
    pairs = write_cutouts([clip], tmp_path / "out", every=6, size=96, shapes=2)
    names = {path.stem for path in (tmp_path / "out").iterdir()}
    shapes = {name for name in names if "-shape" in name}
    assert pairs == len(names) == plain + len(shapes)
    assert shapes == {f"sample-{frame:05d}-shape{n}" for frame in (0, 6, 12) for n in (0, 1)}


def test_a_random_shape_is_one_piece_of_some_size():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = random_shape((60, 80), rng)
        assert SHARE[0] < mask.mean() < SHARE[1]
        assert mask.shape == (60, 80) and mask.dtype == bool
