"""The training loop: one for every model, from a laptop to a cluster.

    batches(i) ─► learner(batch, iteration=i, seed=…) ─► losses ─► gradient, clipped ─► AdamW ─► average
                                                           │                              │
                          curve.csv, a row an iteration ◄──┘                              ▼
                                               checkpoints/, validation.csv, pictures/ now and then

What an iteration does is a function of its number and of the weights: samples, learning rate and the state of torch's
generators follow from it. A run that is killed and started again goes on from its newest checkpoint to the same curve;
processes share a batch, and their gradient is that of one process that has it all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from maskstream.types import InputError, MaskstreamError

from .checkpoint import Trained, newest, read_checkpoint, write_checkpoint
from .curve import Record
from .recipe import Recipe, TrainRecipe
from .schedule import learning_rate, mixed
from .signals import StopSignals

CHECKPOINTS = "checkpoints"
_MOMENTS = {"fp32": torch.float32, "bf16": torch.bfloat16}

B = TypeVar("B")
B_contra = TypeVar("B_contra", contravariant=True)


class Learner(Protocol[B_contra]):
    """What can be trained: an `nn.Module` that knows its loss."""

    def __call__(self, batch: B_contra, *, iteration: int, seed: int) -> Mapping[str, Tensor]:
        """Means over the samples of a batch: ``loss``, which is differentiated, and others to look at.

        Chance follows from the numbers of iteration, samples and seed, and from torch's generator.
        """
        ...

    def validate(self) -> Mapping[str, float]:
        """Scores on videos that are not trained on, by name; fractions."""
        ...

    def strip(self, batch: B_contra) -> NDArray[np.uint8]:
        """A picture of what it finds in a batch, ``uint8[H, W, 3]`` RGB."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was trained, as commands take it."""
        ...


@runtime_checkable
class Grouped(Protocol):
    """A learner not all of whose parameters are trained alike."""

    def parameter_groups(self, plan: TrainRecipe) -> list[dict[str, Any]]:
        """Groups as optimisers of torch take them; ``lr_scale`` is what the learning rate is multiplied by."""
        ...


class DivergedError(MaskstreamError):
    """The loss is no number any more."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        done: iterations that are done.
        steps: how many there are.
        values: the row of the curve of the last one.
        stopped_by: "signal" or "time", where it ends before all are done.
    """

    done: int
    steps: int
    values: Mapping[str, float]
    stopped_by: str | None = None


def accelerator_for(plan: TrainRecipe, *, cpu: bool = False) -> Accelerator:
    """Devices and processes as ``accelerate launch`` has set them up, else one GPU or the CPU.

    Statistics of normalisation are those of the first process (DEVA, specification §15).

    Raises:
        InputError: the device cannot compute in this precision, or processes are to do more than share batches.
    """
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
    precision = "no" if plan.precision == "fp32" else plan.precision
    try:
        accelerator = Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=[ddp])
    except ValueError as error:
        raise InputError(f"train.precision={plan.precision} does not work here: {error}") from error
    kind, parts = accelerator.distributed_type, accelerator.num_processes * plan.accumulate
    if kind not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise InputError(f"accelerate is set up for {kind.value}: processes can share batches (DDP), and nothing else")
    if plan.batch % parts:
        raise InputError(f"train.batch is {plan.batch}: {parts} equal parts, one for each process, are not possible")
    return accelerator


def train(
    learner: Learner[B],
    batches: Callable[[int], Iterator[B]],
    recipe: Recipe,
    folder: Path,
    *,
    accelerator: Accelerator,
    on_step: Callable[[Progress], None] = lambda _: None,
    board: bool = False,
) -> tuple[Learner[B], Progress]:
    """Train until the steps are done, the time is over, or a signal asks to stop.

    Args:
        learner: an `nn.Module`; it is moved to the device and trained in place.
        batches: gives this process's batches from an iteration on, ``train.accumulate`` of them for each.
        recipe: of it, ``train``, ``checkpoint`` and ``validate.every``; not what the learner and the batches are.
        folder: gets ``checkpoints/``, ``curve.csv``, ``validation.csv`` and ``pictures/``; what is there is continued.
        accelerator: of `accelerator_for`.
        on_step: called after every iteration.
        board: write files for TensorBoard, too.

    Returns:
        What to use: the average if there is one, else the learner. And how far the run is.

    Raises:
        InputError: the checkpoint to continue from is damaged, or of another model.
        OutputError: the folder cannot be written.
        DivergedError: the loss is infinite or NaN.
    """
    began, plan, leads = time.monotonic(), recipe.train, accelerator.is_main_process
    run = _Run(learner, plan, accelerator)
    done = run.resume(folder / CHECKPOINTS)
    progress = Progress(done, plan.steps, {})
    with StopSignals() as stop, Record(folder, done, board=board) if leads else nullcontext() as record:
        source = batches(done)
        while done < plan.steps:
            since = time.monotonic()
            losses, batch = run.step(done, source)
            late = time.monotonic() - began >= 60 * (plan.max_minutes or float("inf"))
            values, (asked, late) = _agreed(losses, (stop.asked, late), accelerator)
            done += 1
            if not np.isfinite(values["loss"]):
                raise DivergedError(_diverged(done, values["loss"], newest(folder / CHECKPOINTS)))
            values |= {"lr": learning_rate(plan, done - 1), "seconds": time.monotonic() - since}
            complete = done == plan.steps
            stopped_by = None if complete else "signal" if asked else "time" if late else None
            progress = Progress(done, plan.steps, values, stopped_by)
            if record is not None:
                record.add(done, values)
                if complete or done % recipe.validate.every == 0:
                    record.add_validation(done, *run.validate(batch))
            if complete or stopped_by or done % recipe.checkpoint.every == 0:
                run.save(folder / CHECKPOINTS, done, recipe)
            on_step(progress)
            if stopped_by:
                break
    accelerator.wait_for_everyone()
    return run.best, progress


class _Run(Generic[B]):
    """The weights and all that changes with them."""

    def __init__(self, learner: Learner[B], plan: TrainRecipe, accelerator: Accelerator) -> None:
        self._plan = plan
        self._accelerator = accelerator
        self.module = cast(nn.Module, learner).to(accelerator.device)
        groups = learner.parameter_groups(plan) if isinstance(learner, Grouped) else self.module.parameters()
        optimiser = AdamW(groups, lr=plan.lr, weight_decay=plan.weight_decay)
        self._ema = None if plan.ema is None else _average(self.module, plan.ema)
        self._trained = Trained(self.module, optimiser, self._ema, accelerator.scaler)
        self.best = cast(Learner[B], self.module if self._ema is None else self._ema.module)
        self._model, self._optimiser = accelerator.prepare(self.module, optimiser)

    def resume(self, checkpoints: Path) -> int:
        """Go back to the newest checkpoint; how many iterations are done there, 0 if there is none."""
        path, done = newest(checkpoints), 0
        if path is not None:
            checkpoint = read_checkpoint(path)
            self._trained.restore(checkpoint, where=path)
            done = checkpoint.iteration
        of_each = self._accelerator.gather(torch.tensor([done], device=self._accelerator.device))
        if bool((of_each != done).any()):
            raise InputError(
                f"processes find different checkpoints in {checkpoints}: give them a folder that they share"
            )
        return done

    def step(self, iteration: int, source: Iterator[B]) -> tuple[dict[str, Tensor], B]:
        """One iteration, from 0: its losses, the norm of its gradient before clipping, and the last of its batches."""
        plan, accelerator, parts = self._plan, self._accelerator, self._plan.accumulate
        torch.manual_seed(mixed(plan.seed, iteration))
        for group in self._optimiser.param_groups:
            group["lr"] = group.get("lr_scale", 1.0) * learning_rate(plan, iteration)
        losses: dict[str, Tensor] = {}
        for part in range(parts):
            batch = next(source)
            with nullcontext() if part == parts - 1 else accelerator.no_sync(self._model):
                found = self._model(batch, iteration=iteration, seed=plan.seed)
                accelerator.backward(found["loss"] / parts)
            for name, value in found.items():
                losses[name] = losses.get(name, 0) + value.detach() / parts
        norm = accelerator.clip_grad_norm_(self.module.parameters(), plan.clip_norm or float("inf"))
        self._optimiser.step()
        self._optimiser.zero_grad()
        if self._ema is not None:
            self._ema.update_parameters(self.module)
        return {**losses, "grad_norm": norm}, batch

    def validate(self, batch: B) -> tuple[Mapping[str, float], NDArray[np.uint8]]:
        """Scores, and a picture."""
        cast(nn.Module, self.best).eval()
        with torch.no_grad():
            found = self.best.validate(), self.best.strip(batch)
        self.module.train()
        return found

    def save(self, checkpoints: Path, done: int, recipe: Recipe) -> None:
        """Write a checkpoint. All processes take part, because bf16 moments are rounded in all of them."""
        keep = recipe.checkpoint
        checkpoint = self._trained.checkpoint(done, moments=_MOMENTS[keep.moments])
        if self._accelerator.is_main_process:
            write_checkpoint(checkpoints, checkpoint, shard_bytes=int(1e6 * keep.shard_mb), keep=keep.keep)


def _average(module: nn.Module, decay: float) -> AveragedModel:
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


def _agreed(
    values: Mapping[str, Tensor], flags: tuple[bool, ...], accelerator: Accelerator
) -> tuple[dict[str, float], list[bool]]:
    """Means of values over all processes, and which flags any of them raised; one transfer from the device."""
    own = torch.stack([value.float() for value in values.values()])
    raised = torch.tensor(flags, dtype=torch.float32).to(own.device)
    means: list[float] = accelerator.reduce(torch.cat([own, raised]), "mean").tolist()
    return dict(zip(values, means, strict=False)), [mean > 0 for mean in means[len(values) :]]


def _diverged(done: int, loss: float, checkpoint: Path | None) -> str:
    kept = "there is no checkpoint yet" if checkpoint is None else f"{checkpoint} is from before"
    return (
        f"the loss is {loss} at iteration {done}, training has diverged: lower train.lr or raise train.warmup; {kept}"
    )
