"""Training of the propagation network: a clip is followed from its first masks, and every frame is judged.

DEVA (Cheng et al., "Tracking Anything with Decoupled Video Segmentation", ICCV 2023), appendix; XMem (Cheng & Schwing,
ECCV 2022), appendix.

    frames [b, T, 3, H, W] ─► encode_image, all at once ─► features of T frames
                                                               │
    truth of frame 0 ─► encode_masks, deep ─► memory ──► read ─┴─► decode ─► masks of frame t ─► loss
                                                ▲        full softmax          │
                                                └────── encode_masks ◄─────────┘  deep update by chance

What is found on a frame, right or wrong, is what the next one is found from. Nothing is detached. Choices depend on
the numbers of the samples and of the iteration, and on nothing that went before: see `memory_plan`, `deep_plan`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.metrics import DavisSemiSupervised
from maskstream.propagation import NetworkPropagator, PropagationNetwork
from maskstream.propagation.attention import Keys, similarity
from maskstream.propagation.losses import bootstrapped_cross_entropy, hard_fraction, soft_dice
from maskstream.propagation.network import ImageFeatures, save_pretrained
from maskstream.propagation.network_features import DEVIATION, MEAN, NetworkFeatures
from maskstream.sinks.draw import draw_overlay
from maskstream.synthetic.batched import batch as batch_of_scenes
from maskstream.synthetic.batched import draw
from maskstream.synthetic.world import make_scene
from maskstream.types import Frame, FrameAnnotation, FrameSegmentation, InputError, LabelMap, Segment

from .clips import Clip, ClipBatch
from .guided import ClipGuide
from .recipe import ValidateRecipe

MEMORY, DEEP, SPOIL = 2, 3, 4
"""What chance is asked for, next to the numbers it depends on."""

LEAST_AREA = 0.002
"""Of the first picture that a thing covers to be an object of a validation video."""


def memory_plan(numbers: Sequence[int], frames: int, most: int, seed: int) -> Tensor:
    """Which earlier frames each frame is read from: all, or ``most`` of them at random (specification §15).

    Args:
        numbers: of the B samples; each decides for itself.
        frames: of a clip, T.
        most: frames to read from.
        seed: of the run.

    Returns:
        ``bool[B, T, T]``: sample, frame that reads, frame that is read.
    """
    plan = torch.ones(len(numbers), frames, frames, dtype=torch.bool).tril(-1)
    for row, number in enumerate(numbers):
        rng = np.random.default_rng([seed, number, MEMORY])
        for frame in range(most + 1, frames):
            plan[row, frame] = False
            plan[row, frame, rng.choice(frame, most, replace=False)] = True
    return plan


def deep_plan(iteration: int, frames: int, probability: float, seed: int) -> list[bool]:
    """On which frames sensory memory has its deep update: the first, and others by chance; one choice for a batch."""
    chosen = np.random.default_rng([seed, iteration, DEEP]).random(frames) < probability
    return [True, *chosen[1:].tolist()]


_CELLS = 5
"""Along the side of the random field that blobs are cut out of."""


def spoilt(masks_bnhw: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """Masks with mistakes in some samples: an object has blobs that are not its own, or lacks some that are.

    What a network finds on a few frames of training is seldom as wrong as what it may find after many, and whoever
    never saw a mistake does not mend it.

    Args:
        masks_bnhw: ``float32[b, n, H, W]``.
        probability: of a mistake, for each sample.
        rng: chance.
    """
    batch, objects, height, width = masks_bnhw.shape
    spoilt_b = torch.from_numpy(rng.random(batch) < probability)
    if not spoilt_b.any():
        return masks_bnhw
    field = torch.from_numpy(rng.standard_normal((batch, 1, _CELLS, _CELLS)).astype(np.float32))
    field = F.interpolate(field, size=(height, width), mode="bicubic", align_corners=False)
    share_b = torch.from_numpy(rng.uniform(0.03, 0.25, batch).astype(np.float32))
    least_b = torch.stack([one.flatten().quantile(1 - share) for one, share in zip(field, share_b, strict=True)])
    blobs_b1hw = (field > least_b[:, None, None, None]) & spoilt_b[:, None, None, None]
    blobs_b1hw = blobs_b1hw.to(masks_bnhw.device)
    chosen_bn = torch.zeros(batch, objects, dtype=torch.bool)
    chosen_bn[torch.arange(batch), torch.from_numpy(rng.integers(objects, size=batch))] = True
    adds_b = torch.from_numpy(rng.random(batch) < 0.5)
    value_bn = (chosen_bn & adds_b[:, None]).to(masks_bnhw)[:, :, None, None]
    # Blobs that are added take the place of all objects; those that are taken away are the chosen one's alone.
    touched_bn = (chosen_bn | adds_b[:, None]).to(masks_bnhw.device)[:, :, None, None]
    return torch.where(blobs_b1hw & touched_bn, value_bn, masks_bnhw)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the network finds on a frame.

    Attributes:
        log_odds_bnhw: ``float32[b, 1 + n, H, W]``, background first.
        masks_bnhw: ``float32[b, n, H, W]``, their softmax without background.
        auxiliary_bnhw: ``float32[b, 1 + n, H, W]``, log-odds of the auxiliary head; None if there is none.
    """

    log_odds_bnhw: Tensor
    masks_bnhw: Tensor
    auxiliary_bnhw: Tensor | None


def unroll(
    network: PropagationNetwork,
    frames_t: Sequence[Tensor],
    masks_bnhw: Tensor,
    selector_bn: Tensor,
    *,
    memory_btt: Tensor,
    deep_t: Sequence[bool],
    auxiliary: bool,
    guide: ClipGuide | None = None,
    spoil: Callable[[Tensor], Tensor] = lambda masks_bnhw: masks_bnhw,
) -> Iterator[Found]:
    """Follow objects through a clip (specification §15).

    Args:
        network: as it is to be trained.
        frames_t: T images ``float[b, 3, H, W]``, normalised.
        masks_bnhw: ``float[b, n, H, W]``, true masks of the first frame.
        selector_bn: ``bool[b, n]``, False where an object is padding.
        memory_btt: see `memory_plan`.
        deep_t: see `deep_plan`.
        auxiliary: whether to ask the auxiliary head.
        guide: of the clips, for networks that have one.
        spoil: what becomes of masks that were found before they are remembered.

    Yields:
        What is found on each frame but the first.
    """
    features_t = _encoded(network, frames_t)
    grid_hw = features_t[0].key_bchw.shape[2:]
    sensory = masks_bnhw.new_zeros(*masks_bnhw.shape[:2], network.config.sensory_dim, *grid_hw)
    value, sensory = network.encode_masks(frames_t[0], features_t[0], masks_bnhw, sensory, deep_update=True)
    memory, last = _Memory.of(features_t[0], value), len(frames_t) - 1
    for t in range(1, len(frames_t)):
        features = features_t[t]
        readout = memory.read(features, memory_btt[:, t, :t])
        odds = network.auxiliary(features, sensory) if auxiliary else None
        logits, sensory = network.decode(
            features,
            readout,
            sensory,
            masks_bnhw,
            update_sensory=t < last and not (deep_t[t] and network.config.one_update),
            guide_bnchw=None if guide is None else guide.at(t, masks_bnhw),
        )
        log_odds = network.log_odds(logits, selector_bn)
        masks_bnhw = torch.softmax(log_odds, dim=1)[:, 1:]
        yield Found(log_odds, masks_bnhw, None if odds is None else network.log_odds(odds, selector_bn, stride=16))
        if t < last:
            masks_bnhw = spoil(masks_bnhw)
            value, sensory = network.encode_masks(frames_t[t], features, masks_bnhw, sensory, deep_update=deep_t[t])
            memory = memory.joined(_Memory.of(features, value))


def _encoded(network: PropagationNetwork, frames_t: Sequence[Tensor]) -> list[ImageFeatures]:
    """Features of every frame, in one go."""
    together = network.encode_image(torch.cat(list(frames_t)))
    parts = (getattr(together, field.name).chunk(len(frames_t)) for field in fields(ImageFeatures))
    return [ImageFeatures(*of_frame) for of_frame in zip(*parts, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class _Memory:
    """M tokens, the places of some frames.

    Attributes:
        key_bmc: ``[b, M, Ck]``.
        shrinkage_bm: ``float32[b, M]``.
        value_bnmc: ``[b, n, M, Cv]``.
    """

    key_bmc: Tensor
    shrinkage_bm: Tensor
    value_bnmc: Tensor

    @classmethod
    def of(cls, features: ImageFeatures, value_bnchw: Tensor) -> _Memory:
        """What is remembered of one frame."""
        key = features.key_bchw.flatten(2).transpose(1, 2)
        return cls(key, features.shrinkage_b1hw.flatten(1), value_bnchw.flatten(3).transpose(2, 3))

    def joined(self, other: _Memory) -> _Memory:
        """Both."""
        return _Memory(
            torch.cat([self.key_bmc, other.key_bmc], dim=1),
            torch.cat([self.shrinkage_bm, other.shrinkage_bm], dim=1),
            torch.cat([self.value_bnmc, other.value_bnmc], dim=2),
        )

    def read(self, features: ImageFeatures, frames_bt: Tensor) -> Tensor:
        """What is remembered where a frame looks, by the softmax over all tokens of some frames (XMem, eq. 1).

        Args:
            features: of the frame.
            frames_bt: ``bool[b, t]``, of the t frames that are remembered, which count.

        Returns:
            ``[b, n, Cv, h, w]``.
        """
        query, selection = (x.flatten(2).transpose(1, 2) for x in (features.key_bchw, features.selection_bchw))
        with torch.autocast(query.device.type, enabled=False):
            s_bqm = torch.vmap(_similarity)(query, selection, self.key_bmc, self.shrinkage_bm)
            left_out_bm = (~frames_bt).repeat_interleave(query.shape[1], dim=1)
            weight_bqm = torch.softmax(s_bqm.masked_fill(left_out_bm.unsqueeze(1), -torch.inf), dim=2)
        read_bnqc = weight_bqm.to(self.value_bnmc.dtype).unsqueeze(1) @ self.value_bnmc
        return read_bnqc.transpose(2, 3).reshape(*read_bnqc.shape[:2], -1, *features.key_bchw.shape[2:])


def _similarity(query_qc: Tensor, selection_qc: Tensor, key_mc: Tensor, shrinkage_m: Tensor) -> Tensor:
    return similarity(query_qc, selection_qc, Keys(key_mc, shrinkage_m, None))


class PropagationLearner(nn.Module):
    """The propagation network with its loss.

    Args:
        network: to be trained.
        objects: most of them in a sample.
        memory_frames: most frames to read from.
        deep_update: probability of the deep update of sensory memory on a frame.
        auxiliary: weight of the loss of the auxiliary head; without effect on networks that have none.
        bootstrap: iterations at which fewer pixels begin to count, and as few as ever do; see `hard_fraction`.
        hardest: the fraction of pixels that counts in the end.
        mistakes: how probable it is that what was found in a sample is spoilt, on each frame; see `spoilt`.
        frozen_normalisation: keep the statistics of normalisations as they are, as for the published networks; their
            weights are trained in any case. A network that begins from chance needs its own statistics.
        validation: on what `validate` measures.

    Raises:
        InputError: videos for validation are too short.
    """

    def __init__(
        self,
        network: PropagationNetwork,
        *,
        objects: int = 3,
        memory_frames: int = 3,
        deep_update: float = 0.2,
        auxiliary: float = 0.1,
        bootstrap: tuple[int, int] = (10_000, 35_000),
        hardest: float = 0.3,
        mistakes: float = 0.0,
        frozen_normalisation: bool = True,
        validation: ValidateRecipe | None = None,
    ) -> None:
        super().__init__()
        self.validation = validation or ValidateRecipe()
        if self.validation.frames < 3:
            raise InputError(
                f"videos for validation have {self.validation.frames} frames: at least 3 are needed, because the first "
                "and the last are not scored"
            )
        self.network: PropagationNetwork = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objects = objects
        self.memory_frames = memory_frames
        self.deep_update = deep_update
        self.auxiliary = auxiliary if network.config.auxiliary else 0.0
        self.bootstrap = bootstrap
        self.hardest = hardest
        self.mistakes = mistakes
        self.frozen_normalisation = frozen_normalisation
        self.train()

    def train(self, mode: bool = True) -> PropagationLearner:
        """As for every module, but normalisations that are frozen stay in evaluation."""
        super().train(mode)
        if self.frozen_normalisation:
            self.network.eval()
        return self

    def forward(self, batch: ClipBatch, *, iteration: int, seed: int) -> dict[str, Tensor]:
        """The loss of a batch, summed over frames (specification §15).

        Args:
            batch: on the device of the network; height and width are multiples of 16.
            iteration: of the run, from 0.
            seed: of the run.

        Returns:
            ``loss``, to be differentiated, and its parts ``ce``, ``dice`` and ``auxiliary`` without their weights.
        """
        fraction = hard_fraction(iteration, *self.bootstrap, hardest=self.hardest)
        ce = dice = auxiliary = batch.frames_bt3hw.new_zeros((), dtype=torch.float32)
        for t, found in enumerate(self._follow(batch, iteration, seed), 1):
            labels = batch.labels_bthw[:, t]
            ce = ce + bootstrapped_cross_entropy(found.log_odds_bnhw, labels, fraction)
            dice = dice + soft_dice(found.masks_bnhw, labels, objects=self.objects)
            if found.auxiliary_bnhw is not None:
                auxiliary = auxiliary + bootstrapped_cross_entropy(found.auxiliary_bnhw, labels)
        loss = ce + dice + self.auxiliary * auxiliary
        return {"loss": loss, "ce": ce.detach(), "dice": dice.detach(), "auxiliary": auxiliary.detach()}

    def _follow(self, batch: ClipBatch, iteration: int, seed: int) -> Iterator[Found]:
        frames = batch.frames_bt3hw.shape[1]
        labels = batch.labels_bthw[:, 0]
        present_b = labels.flatten(1).amax(1)
        number_n = torch.arange(1, 1 + max(int(present_b.max()), 1), device=labels.device)
        memory = memory_plan(batch.number_b.tolist(), frames, self.memory_frames, seed)
        rng = np.random.default_rng([seed, iteration, SPOIL])
        first_bnhw = (labels.unsqueeze(1) == number_n[:, None, None]).float()
        return unroll(
            self.network,
            normalised(batch.frames_bt3hw).unbind(1),
            first_bnhw,
            number_n <= present_b[:, None],
            memory_btt=memory.to(labels.device),
            deep_t=deep_plan(iteration, frames, self.deep_update, seed),
            auxiliary=self.auxiliary > 0,
            guide=ClipGuide.of(batch, first_bnhw) if self.network.config.guide_dim else None,
            spoil=lambda masks_bnhw: spoilt(masks_bnhw, self.mistakes, rng) if self.training else masks_bnhw,
        )

    def save(self, folder: Path) -> None:
        """Write the network, as commands take it."""
        save_pretrained(self.network, folder)

    def validate(self) -> dict[str, float]:
        """Video object segmentation of rendered scenes, beside a baseline that repeats the first masks.

        Returns:
            ``j_and_f`` and ``copy_j_and_f``, J&F of DAVIS-2017 as fractions; nothing if there are no videos.
        """
        if not self.validation.videos:
            return {}
        ours, copied = DavisSemiSupervised(), DavisSemiSupervised()
        propagator = NetworkPropagator(self.network, size=None)  # sets the network to evaluation
        for clip in validation_clips(self.validation, device=propagator.device):
            name, count = str(clip.number), int(clip.labels_thw[0].max())
            for index, (labels, found) in enumerate(zip(clip.labels_thw, _tracked(propagator, clip), strict=True)):
                truth = FrameAnnotation(_segmented(index, labels, count))
                ours.update(name, index, truth, _segmented(index, found, count))
                copied.update(name, index, truth, _segmented(index, clip.labels_thw[0], count))
            ours.end_sequence(name)
            copied.end_sequence(name)
        self.train(self.training)
        return {"j_and_f": _j_and_f(ours), "copy_j_and_f": _j_and_f(copied)}

    @torch.no_grad()
    def strip(self, batch: ClipBatch) -> NDArray[np.uint8]:
        """What is found in the first sample of a batch: rows of frames, of the truth, and of what is found.

        Returns:
            ``uint8[3 · H, T · W, 3]``, RGB.
        """
        first = ClipBatch(batch.frames_bt3hw[:1], batch.labels_bthw[:1], batch.number_b[:1])
        was_training = self.training
        self.eval()
        found = [found.log_odds_bnhw[0].max(0).indices for found in self._follow(first, iteration=0, seed=0)]
        self.train(was_training)
        frames_thw3 = first.frames_bt3hw[0].permute(0, 2, 3, 1).contiguous().cpu().numpy()
        truth_thw = first.labels_bthw[0]
        rows = [list(frames_thw3), _painted(frames_thw3, truth_thw), _painted(frames_thw3, [truth_thw[0], *found])]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def normalised(frames_bt3hw: Tensor) -> Tensor:
    """Pictures of any number of axes, ``uint8[..., 3, H, W]``, as the network sees them."""
    mean, deviation = (torch.tensor(rgb, device=frames_bt3hw.device)[:, None, None] for rgb in (MEAN, DEVIATION))
    return (frames_bt3hw.float() / 255 - mean) / deviation


# Validation and pictures.


def validation_clips(plan: ValidateRecipe, *, device: torch.device | str = "cpu") -> Iterator[Clip]:
    """Whole rendered videos; objects are the things that can be seen on the first frame.

    Args:
        plan: which ones. Scenes that begin without a thing are passed over.
        device: where they are drawn.
    """
    clips = (_rendered(plan, seed, device) for seed in itertools.count(plan.seed))
    return itertools.islice((clip for clip in clips if clip.labels_thw[0].any()), plan.videos)


def _rendered(plan: ValidateRecipe, seed: int, device: torch.device | str) -> Clip:
    height, width = plan.size
    scene = make_scene(level=plan.level, seed=seed, frames=plan.frames, aspect=width / height)
    generator = torch.Generator(device).manual_seed(seed)
    clips = draw(batch_of_scenes([scene]).to(device), plan.size, generator=generator)
    entity_thw = clips.entity_bthw[0]
    area_e = torch.bincount(entity_thw[0].flatten(), minlength=clips.is_thing_be.shape[1])
    chosen_e = clips.is_thing_be[0] & (area_e >= LEAST_AREA * height * width)
    number_e = chosen_e.cumsum(0) * chosen_e
    frames_thw3 = clips.frames_bt3hw[0].permute(0, 2, 3, 1).contiguous()
    return Clip(frames_thw3.cpu().numpy(), number_e[entity_thw].int().cpu().numpy(), seed)


def _tracked(propagator: NetworkPropagator, clip: Clip) -> Iterator[NDArray[np.int32]]:
    """Labels ``int32[H, W]`` of every frame, from those of the first."""
    first = torch.from_numpy(clip.labels_thw[0])
    yield clip.labels_thw[0]
    number_n = range(1, 1 + int(first.max()))
    masks_nhw = LabelMap(first).masks_nhw(len(number_n))
    state = propagator.write(propagator.start(), _features(propagator, clip, 0), masks_nhw, number_n)
    for index in range(1, len(clip.labels_thw)):
        state, probabilities = propagator.read(state, _features(propagator, clip, index))
        yield probabilities.max(0).indices.int().cpu().numpy()


def _features(propagator: NetworkPropagator, clip: Clip, index: int) -> NetworkFeatures:
    return propagator.encode(Frame(index, float(index), clip.frames_thw3[index]))


def _segmented(index: int, labels_hw: NDArray[np.int32], count: int) -> FrameSegmentation:
    segments = tuple(Segment(n, n) for n in range(1, 1 + count))
    return FrameSegmentation(index, labels_hw.shape, segments, LabelMap(torch.from_numpy(labels_hw)))


def _j_and_f(metric: DavisSemiSupervised) -> float:
    return metric.result().values["J&F-Mean"]


def _painted(frames_thw3: NDArray[np.uint8], labels_thw: Sequence[Tensor] | Tensor) -> list[NDArray[np.uint8]]:
    """Frames with their objects in colours."""
    labels = [labels_hw.int().cpu().numpy() for labels_hw in labels_thw]
    most = max(int(labels_hw.max()) for labels_hw in labels)
    return [
        draw_overlay(frame, _segmented(index, labels_hw, most), labels=False)
        for index, (frame, labels_hw) in enumerate(zip(frames_thw3, labels, strict=True))
    ]
