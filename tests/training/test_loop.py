"""The loop: exact to the bit after a kill, the same gradient however samples are shared out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskstream.training.checkpoint import newest, read_checkpoint
from maskstream.training.curve import read_curve
from maskstream.training.loop import DivergedError, Progress, accelerator_for
from maskstream.training.recipe import CheckpointRecipe
from maskstream.types import InputError
from tests.training.toy import ROOT, ToyLearner, run_twice, toy_recipe, toy_run

VARIANTS = {
    "plain": {},
    "an average": {"ema": 0.8},
    "accumulated": {"accumulate": 2},
    "bf16": {"precision": "bf16"},
}


def losses(folder: Path) -> list[tuple[float, ...]]:
    """The curve without what the clock says."""
    curve = read_curve(folder / "curve.csv")
    return list(zip(*(values for name, values in curve.items() if name != "seconds"), strict=True))


@pytest.fixture(autouse=True)
def _forget_precision():
    """Accelerate keeps the precision of a process; each test has its own."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


class StopAtError(Exception):
    pass


def stopping_at(iteration):
    def on_step(progress: Progress) -> None:
        if progress.done == iteration:
            raise StopAtError

    return on_step


def test_a_run_leaves_curves_checkpoints_and_pictures(tmp_path):
    _, progress = toy_run(toy_recipe(), tmp_path)
    assert (progress.done, progress.stopped_by) == (12, None)
    curve = read_curve(tmp_path / "curve.csv")
    assert curve["iteration"] == list(range(1, 13))
    assert list(curve) == ["iteration", "loss", "absolute", "grad_norm", "lr", "seconds"]
    assert read_curve(tmp_path / "validation.csv")["iteration"] == [3, 6, 9, 12]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["00000008", "00000012"]
    assert len(list((tmp_path / "pictures").iterdir())) == 4


def test_training_makes_the_loss_smaller(tmp_path):
    toy_run(toy_recipe(steps=150, batch=16, lr=0.02), tmp_path)
    loss = read_curve(tmp_path / "curve.csv")["loss"]
    assert np.mean(loss[-20:]) < 0.5 * np.mean(loss[:20])


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("at", [2, 4, 7, 11], ids="stopped after {}".format)
def test_a_run_that_broke_off_continues_to_the_same_curve_and_weights(tmp_path, settings, at):
    recipe, whole, broken = toy_recipe(**settings), tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    expected, _ = toy_run(recipe, whole)
    with pytest.raises(StopAtError):
        toy_run(recipe, broken, on_step=stopping_at(at))
    found, _ = toy_run(recipe, broken)
    assert losses(broken) == losses(whole)
    assert read_curve(broken / "validation.csv") == read_curve(whole / "validation.csv")
    states = expected.state_dict(), found.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_with_bf16_moments_a_run_that_broke_off_continues_to_the_same_curve(tmp_path):
    recipe = replace(toy_recipe(), checkpoint=CheckpointRecipe(every=4, moments="bf16"))
    for name in ("whole", "broken", "exact"):
        (tmp_path / name).mkdir()
    toy_run(recipe, tmp_path / "whole")
    toy_run(toy_recipe(), tmp_path / "exact")
    with pytest.raises(StopAtError):
        toy_run(recipe, tmp_path / "broken", on_step=stopping_at(6))
    toy_run(recipe, tmp_path / "broken")
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole") != losses(tmp_path / "exact")
    checkpoint = read_checkpoint(newest(tmp_path / "whole" / "checkpoints") or tmp_path)
    assert {t.dtype for name, t in checkpoint.tensors.items() if "exp_avg" in name} == {torch.bfloat16}


def test_slices_of_a_run_make_the_curve_of_a_whole_one(tmp_path):
    for name in ("whole", "sliced"):
        (tmp_path / name).mkdir()
    toy_run(toy_recipe(), tmp_path / "whole")
    stops = []
    for _ in range(12):
        _, progress = toy_run(toy_recipe(max_minutes=1e-9), tmp_path / "sliced")  # one iteration each
        stops.append((progress.done, progress.stopped_by))
    assert stops == [*((n, "time") for n in range(1, 12)), (12, None)]
    assert losses(tmp_path / "sliced") == losses(tmp_path / "whole")


def test_more_steps_continue_a_run_that_was_complete(tmp_path):
    for name in ("whole", "longer"):
        (tmp_path / name).mkdir()
    settings = {"schedule": "constant"}
    toy_run(toy_recipe(**settings), tmp_path / "whole")
    toy_run(toy_recipe(**settings, steps=5), tmp_path / "longer")
    toy_run(toy_recipe(**settings), tmp_path / "longer")
    assert losses(tmp_path / "longer") == losses(tmp_path / "whole")


def test_a_run_that_is_done_does_nothing(tmp_path):
    toy_run(toy_recipe(), tmp_path)
    before = losses(tmp_path)
    _, progress = toy_run(toy_recipe(), tmp_path)
    assert (progress.done, progress.values, losses(tmp_path)) == (12, {}, before)


def test_a_damaged_checkpoint_stops_the_run_instead_of_being_passed_over(tmp_path):
    toy_run(toy_recipe(), tmp_path)
    (tmp_path / "checkpoints" / "00000012" / "shard-00000.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"damaged.*remove .*00000012 to continue from the checkpoint before"):
        toy_run(toy_recipe(steps=14), tmp_path)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_good(tmp_path):
    class Diverging(ToyLearner):
        def forward(self, batch, *, iteration, seed):
            found = super().forward(batch, iteration=iteration, seed=seed)
            return {"loss": found["loss"] * (float("nan") if iteration == 6 else 1)}

    with pytest.raises(DivergedError, match=r"nan at iteration 7.*00000004 is from before"):
        toy_run(toy_recipe(), tmp_path, learner=Diverging())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000004"]


def test_the_average_is_what_is_measured_and_given_back(tmp_path):
    learner = ToyLearner()
    best, _ = toy_run(toy_recipe(ema=0.5), tmp_path, learner=learner)
    assert best is not learner
    average = read_curve(tmp_path / "validation.csv")["score"][-1]
    assert average == pytest.approx(float(best.out.weight.detach().mean()))
    assert average != pytest.approx(float(learner.out.weight.detach().mean()))


def test_gradients_are_clipped_and_their_norm_is_told_from_before(tmp_path):
    learner = ToyLearner()
    before = learner.out.weight.detach().clone()
    recipe = toy_recipe(steps=1, clip_norm=1e-12, weight_decay=0, lr=1e-3, warmup=0)
    toy_run(recipe, tmp_path, learner=learner)
    assert read_curve(tmp_path / "curve.csv")["grad_norm"][0] > 1
    moved = (learner.out.weight.detach() - before).abs().max()
    assert float(moved) < 1e-6  # AdamW's epsilon is larger than what is left of the gradient


def test_without_clipping_the_norm_is_told_too(tmp_path):
    toy_run(toy_recipe(steps=2, clip_norm=None), tmp_path)
    assert min(read_curve(tmp_path / "curve.csv")["grad_norm"]) > 0


def test_accumulated_parts_give_the_gradient_of_the_whole_batch(tmp_path):
    gradients = []
    for name, parts in (("whole", 1), ("parts", 4)):
        (tmp_path / name).mkdir()
        learner = ToyLearner(chance=0, statistics=False)
        toy_run(toy_recipe(steps=4, accumulate=parts), tmp_path / name, learner=learner)
        gradients.append(losses(tmp_path / name))
    assert np.allclose(gradients[0], gradients[1], rtol=1e-5)


def test_a_batch_that_processes_cannot_share_equally_is_refused():
    recipe = toy_recipe()
    with pytest.raises(InputError, match="5: 2 equal parts"):
        accelerator_for(replace(recipe.train, batch=5, accumulate=2), cpu=True)


# Processes of their own.


def start(folder: Path, settings: dict[str, object]) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.training.toy", str(folder), json.dumps(settings), "statistics"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_killed_run_continues_to_the_same_curve_to_the_bit(tmp_path):
    settings: dict[str, object] = {"ema": 0.9, "steps": 12}
    (tmp_path / "whole").mkdir()
    toy_run(toy_recipe(**settings), tmp_path / "whole")
    killed = start(tmp_path / "killed", settings)
    assert killed.stdout is not None
    for line in killed.stdout:
        if int(line) == 6:
            killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert newest(tmp_path / "killed" / "checkpoints") == tmp_path / "killed" / "checkpoints" / "00000004"
    again = start(tmp_path / "killed", settings)
    assert again.stdout is not None
    assert list(map(int, again.stdout)) == list(range(5, 13))
    assert again.wait() == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_a_checkpoint_of_where_it_is(tmp_path, number):
    run = start(tmp_path / "run", {"steps": 100_000})
    assert run.stdout is not None
    done = 0
    for line in run.stdout:
        done = int(line)
        if done == 5:
            run.send_signal(number)
    assert run.wait() == 0
    found = newest(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert 5 <= int(found.name) == done < 100_000


def first_moments(folder: Path) -> torch.Tensor:
    """AdamW's average of gradients; after one iteration, a tenth of the gradient."""
    tensors = read_checkpoint(newest(folder / "checkpoints") or folder).tensors
    return torch.cat([tensor.flatten() for name, tensor in sorted(tensors.items()) if name.endswith("exp_avg")])


@pytest.mark.parametrize(("steps", "accumulate"), [(1, 1), (6, 2)], ids=["one step", "six steps in two parts each"])
def test_two_processes_have_the_gradients_of_one_with_twice_the_batch(tmp_path, steps, accumulate):
    settings: dict[str, object] = {"steps": steps, "batch": 8, "clip_norm": None}
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    toy_run(toy_recipe(**settings), one, learner=ToyLearner(chance=0, statistics=False))
    two.mkdir()
    run_twice("tests.training.toy", str(two), json.dumps({**settings, "accumulate": accumulate}), "no statistics")
    single, double = (read_curve(folder / "curve.csv") for folder in (one, two))
    assert np.allclose(single["loss"], double["loss"], rtol=1e-6)
    assert np.allclose(single["grad_norm"], double["grad_norm"], rtol=1e-6)
    expected, found = first_moments(one), first_moments(two)
    assert float((expected - found).norm() / expected.norm()) < 1e-6
