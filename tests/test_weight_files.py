"""Files of weights that others wrote: what is not a tensor is left where it is, and never run."""

import os
from collections import defaultdict, deque
from pathlib import Path

import pytest
import torch

from maskstream.types import InputError
from maskstream.weight_files import read_state, read_torch

WEIGHTS = torch.nn.Linear(2, 3).state_dict()


class Meter:
    """Of somebody's training."""

    def __init__(self) -> None:
        self.values = [1, 2]
        self.mean = torch.ones(3)


class Spy:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_state_of_a_training_is_left(tmp_path, zipped):
    mark = tmp_path / "mark"
    others = {
        "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict(),
        "meters": defaultdict(list, {"loss": [Meter()]}),
        "last": deque([Meter()]),
        "seen": {Meter()},
        "spy": Spy(mark),
    }
    path = tmp_path / "x.pth"
    torch.save({"model": WEIGHTS, **others}, path, _use_new_zipfile_serialization=zipped)
    found = read_state(path)
    assert found.keys() == WEIGHTS.keys() and all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)
    assert not mark.exists()
    with pytest.raises(InputError, match="holds more than tensors, which is not loaded"):
        read_torch(path)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["a weight", "the weights", "the file"])
def test_what_should_be_weights_is_not_run_either(tmp_path, kind):
    mark, path = tmp_path / "mark", tmp_path / "x.pth"
    spy = Spy(mark)
    torch.save(
        {"a weight": {"model": {**WEIGHTS, "more": spy}}, "the weights": {"model": spy}, "the file": spy}[kind], path
    )
    with pytest.raises(InputError, match="holds"):
        read_state(path)
    assert not mark.exists()


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"model": WEIGHTS, "meter": Meter()}, path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"x\.pth"):
        read_state(path)
