"""Checkpoints hold everything, in small files, and damage is found."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel

from maskstream.training.checkpoint import Checkpoint, Trained, newest, read_checkpoint, write_checkpoint
from maskstream.types import InputError
from tests.training.toy import WIDTH, ToyLearner

TENSORS = {
    "a": torch.arange(10, dtype=torch.float32),
    "large": torch.randn(7, 3, 11, generator=torch.Generator().manual_seed(0)),
    "one row": torch.randn(1, 500, generator=torch.Generator().manual_seed(1)),
    "number": torch.tensor(3),
    "empty": torch.zeros(0, 4),
    "half": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
}
CHECKPOINT = Checkpoint(12, TENSORS, {"scaler": {"scale": 2.0}})


def equal(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("shard_bytes", [1, 300, 1000, 10**6])
def test_what_is_written_is_read_whatever_the_size_of_shards(tmp_path, shard_bytes):
    path = write_checkpoint(tmp_path, CHECKPOINT, shard_bytes=shard_bytes, keep=1)
    found = read_checkpoint(path)
    assert (found.iteration, found.numbers) == (12, CHECKPOINT.numbers)
    assert equal(dict(found.tensors), TENSORS)


@pytest.mark.parametrize("shard_bytes", [200, 500, 1000, 5000])
def test_no_file_is_larger_than_was_asked_for(tmp_path, shard_bytes):
    path = write_checkpoint(tmp_path, CHECKPOINT, shard_bytes=shard_bytes, keep=1)
    shards = list(path.glob("*.safetensors"))
    assert max(shard.stat().st_size for shard in shards) <= shard_bytes
    held = sum(tensor.nbytes for shard in shards for tensor in load_file(shard).values())
    assert held == sum(tensor.nbytes for tensor in TENSORS.values())


def test_tensors_that_share_memory_are_written_like_any_others(tmp_path):
    tensor = torch.arange(6.0)
    shared = {"all": tensor, "again": tensor, "part": tensor[2:4], "turned": tensor.view(2, 3).T}
    path = write_checkpoint(tmp_path, Checkpoint(1, shared, {}), shard_bytes=10**6, keep=1)
    assert equal(dict(read_checkpoint(path).tensors), shared)


def test_only_the_last_checkpoints_are_kept(tmp_path):
    for iteration in (5, 100, 20):
        write_checkpoint(tmp_path, Checkpoint(iteration, {"a": torch.ones(2)}, {}), shard_bytes=100, keep=2)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [20, 100]
    found = newest(tmp_path)
    assert found is not None
    assert int(found.name) == 100


def test_where_there_is_no_checkpoint_there_is_no_newest_one(tmp_path):
    assert newest(tmp_path) is None
    assert newest(tmp_path / "missing") is None


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        pytest.param(flip_a_bit, "is damaged", id="a bit flipped"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-5]), "is damaged", id="cut short"),
        pytest.param(lambda path: path.unlink(), "lacks", id="a shard missing"),
    ],
)
def test_a_harmed_shard_is_named_with_what_to_do(tmp_path, harm, message):
    path = write_checkpoint(tmp_path, CHECKPOINT, shard_bytes=400, keep=1)
    harm(path / "shard-00001.safetensors")
    with pytest.raises(InputError, match=rf"{message}.*copy it again, or remove .*00000012") as raised:
        read_checkpoint(path)
    assert "shard-00001" in str(raised.value)


@pytest.mark.parametrize(
    "text", ["{", "[]", json.dumps({"schema": "maskstream/training-checkpoint", "version": 99})],
    ids=["no JSON", "a list", "a later version"],
)  # fmt: skip
def test_a_state_of_another_kind_is_refused(tmp_path, text):
    path = write_checkpoint(tmp_path, CHECKPOINT, shard_bytes=400, keep=1)
    (path / "state.json").write_text(text)
    with pytest.raises(InputError, match="state"):
        read_checkpoint(path)


def trained(*, steps=3, ema=True):
    """A learner after some steps."""
    learner = ToyLearner()
    everything = Trained(learner, AdamW(learner.parameters(), lr=0.1), AveragedModel(learner) if ema else None)
    step(everything, steps)
    return everything


def step(everything, steps):
    for iteration in range(steps):
        torch.manual_seed(iteration)
        everything.model(torch.randn(4, WIDTH), iteration=0, seed=0)["loss"].backward()
        everything.optimiser.step()
        everything.optimiser.zero_grad()
        if everything.ema is not None:
            everything.ema.update_parameters(everything.model)


def state(everything):
    averages = {} if everything.ema is None else {f"ema {k}": v for k, v in everything.ema.state_dict().items()}
    return {**everything.model.state_dict(), **averages}


@pytest.mark.parametrize("moments", [torch.float32, torch.bfloat16])
def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path, moments):
    first, second = trained(), trained(steps=0)
    path = write_checkpoint(tmp_path, first.checkpoint(3, moments=moments), shard_bytes=200, keep=1)
    second.restore(read_checkpoint(path), where=path)
    for everything in (first, second):
        step(everything, 4)
    assert equal(state(first), state(second))


def test_moments_in_bf16_take_half_and_are_what_training_goes_on_with(tmp_path):
    everything = trained(ema=False)
    weight = everything.model.into.weight
    before = everything.optimiser.state[weight]["exp_avg"].clone()
    path = write_checkpoint(tmp_path, everything.checkpoint(3, moments=torch.bfloat16), shard_bytes=10**6, keep=1)
    kept = read_checkpoint(path).tensors["optimiser/into.weight/exp_avg"]
    now = everything.optimiser.state[weight]["exp_avg"]
    assert kept.dtype == torch.bfloat16
    assert now.dtype == torch.float32
    assert torch.equal(kept.float(), now)
    assert torch.equal(before.bfloat16(), kept)
    assert not torch.equal(before, now)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    first, other = trained(), trained(steps=0)
    other.model.out = torch.nn.Linear(16, 3)
    path = write_checkpoint(tmp_path, first.checkpoint(3), shard_bytes=10**6, keep=1)
    with pytest.raises(InputError, match=r"of another model.*out\.weight"):
        other.restore(read_checkpoint(path), where=path)
