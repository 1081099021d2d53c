"""Training of the motion network: pictures of rendered clips and cut-outs, the flow between them, and what moves.

    clip of frames t, t - 10, t - 6, t - 1 ─► jitter, JPEG ─► DIS ─► minus camera ─► MotionBatch.inputs
    its true flow ─► minus camera ─► objects that move ─► MotionBatch.ids

Flow is what DIS makes of the pictures, with all its errors, as on real video. An object moves if its true flow over the
longest gap is not the camera's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from maskstream.segmenters.camera_motion import fit_camera_flow, motion_evidence, residual_motion
from maskstream.segmenters.motion import MotionSegmenter
from maskstream.segmenters.motion_network import CHANNELS_OF_GAP, MotionNetwork, motion_inputs, save_motion_network
from maskstream.synthetic.batched import Clips
from maskstream.synthetic.cutouts import Cutouts, draw_cutouts
from maskstream.types import InputError

from .augmentation import STRONG_JITTER
from .clips import Clip
from .pasted import MOST_NOISE
from .rendered import RenderedClips, grainy

STILL, MOVES = 0.6, 1.5
"""Pixels over the longest gap: what moves less is background, what moves more an object, and between it is unsure."""

UNSURE = -1
"""In place of an id."""

_DOUBTFUL = 0.2
"""Evidence of the method without weights that is neither motion nor none."""

_LEAST_AREA = 0.002


@dataclass(frozen=True, slots=True, eq=False)
class MotionBatch:
    """B pictures with what is known of motion in them.

    Attributes:
        inputs_bchw: ``float32[B, C, H, W]``, see `motion_inputs`.
        pictures_b3hw: ``uint8[B, 3, H, W]``, RGB, to look at.
        evidence_bhw: ``float32[B, H, W]``, what the method without weights says.
        ids_bhw: ``int64[B, H, W]`` of objects that move; 0 for background, `UNSURE`.
    """

    inputs_bchw: Tensor
    pictures_b3hw: Tensor
    evidence_bhw: Tensor
    ids_bhw: Tensor

    def to(self, device: torch.device | str) -> MotionBatch:
        """The same on another device."""
        return MotionBatch(*(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__))


class MovingPictures(torch.utils.data.Dataset[MotionBatch]):
    """Pictures that nobody has seen before: each number gives another one, always the same.

    Args:
        gaps: of the network.
        size: side of the picture.
        seed: of the run.
        rendered: scenes to draw; their frames are t and then t - gap, the longest gap first.
        cutouts: objects and backgrounds to paste, if any.
        filmed: real pictures, if any.
        weights: how often scenes, cut-outs and real pictures are drawn.
    """

    def __init__(
        self,
        *,
        gaps: Sequence[int],
        size: int,
        seed: int,
        rendered: RenderedClips,
        cutouts: Cutouts | None = None,
        filmed: FilmedPictures | None = None,
        weights: tuple[float, float, float] = (1.0, 0.0, 0.0),
    ) -> None:
        self._gaps = tuple(gaps)
        self._size = size
        self._seed = seed
        self._rendered = rendered
        self._cutouts = cutouts
        self._filmed = filmed
        self._chances = np.array(weights) / sum(weights)

    def __getitem__(self, number: int) -> MotionBatch:
        """A batch of one picture."""
        rng = np.random.default_rng([self._seed, number])
        kind = rng.choice(3, p=self._chances)
        if kind == 2 and self._filmed is not None:
            return self._filmed.example(self._size, rng)
        drawn = self._pasted(self._cutouts, rng) if kind == 1 and self._cutouts else self._rendered.drawn(rng)
        frames_t3hw = drawn.frames_bt3hw[0]
        frames_t3hw = grainy(frames_t3hw, int(rng.integers(MOST_NOISE + 1)), int(rng.integers(2**63)))
        frames_thw3 = frames_t3hw.permute(0, 2, 3, 1).contiguous().numpy()
        entity_hw = drawn.entity_bthw[0, 0].numpy().astype(np.int32)
        clip = Clip(frames_thw3, np.broadcast_to(entity_hw, frames_thw3.shape[:3]), number)
        frames_thw3 = _compressed(STRONG_JITTER(clip, rng).frames_thw3, rng)
        ids_hw = moving(entity_hw, drawn.flow_bt2hw[0, 0].numpy(), drawn.is_thing_be[0].numpy())
        return _example(frames_thw3, ids_hw, self._gaps)

    def _pasted(self, cutouts: Cutouts, rng: np.random.Generator) -> Clips:
        longest, pace, seed = max(self._gaps), int(rng.integers(1, 4)), int(rng.integers(2**63))
        times = [pace * (longest - gap) for gap in (0, *sorted(self._gaps, reverse=True))]

        def drawn(some: Sequence[int], *, motion: bool) -> Clips:
            return draw_cutouts(
                cutouts,
                1,
                (self._size, self._size),
                frames=pace * longest + 1,
                times=some,
                seed=seed,
                objects=(2, 7),
                still=0.55,
                motion=motion,
            )

        # Flow is wanted over the longest gap alone, and takes longer than pictures.
        first, others = drawn(times[:2], motion=True), drawn(times[2:], motion=False)
        return replace(
            first,
            frames_bt3hw=torch.cat([first.frames_bt3hw, others.frames_bt3hw], dim=1),
            entity_bthw=torch.cat([first.entity_bthw, others.entity_bthw], dim=1),
        )


class FilmedPictures:
    """Pictures of real videos, labelled by the method without weights.

    It is right about most of a picture. Where it finds no object, but some evidence, nobody is sure. So the network
    sees real flow, real parallax and real noise, of which the truth is not known.

    Args:
        videos: to take pictures of.
        gaps: of the network.
        each: pictures of a video, evenly spread.
        size: short side of the pictures; smaller ones stay as they are.

    Raises:
        InputError: a video is too short.
    """

    def __init__(self, videos: Sequence[Path], gaps: Sequence[int], *, each: int = 24, size: int = 240) -> None:
        from maskstream.video import open_video  # training can do without what reads video

        segmenter, self._examples = MotionSegmenter(size=size, gaps=gaps), list[MotionBatch]()
        for path in videos:
            features = [segmenter.encode([frame])[0] for frame in open_video(path)]
            if len(features) <= segmenter.context:
                raise InputError(f"{path} has {len(features)} frames: more than {segmenter.context} are needed")
            for index in np.unique(np.linspace(segmenter.context, len(features) - 1, each).astype(int)):
                past = features[index - segmenter.context : index]
                found = segmenter.segment(features[index], context=past)
                ids_hw = np.zeros(features[index].shape[:2], np.int32)
                for number, mask in enumerate(found.masks_nhw.numpy(), start=1):
                    ids_hw[mask > 0] = number
                frames = [features[index], *(past[-gap] for gap in sorted(gaps, reverse=True))]
                made = _example(np.stack([frame.numpy() for frame in frames]), ids_hw, gaps)
                made.ids_bhw[(made.evidence_bhw > _DOUBTFUL) & (made.ids_bhw == 0)] = UNSURE
                self._examples.append(replace(made, inputs_bchw=made.inputs_bchw.half()))

    def example(self, size: int, rng: np.random.Generator) -> MotionBatch:
        """A square of one of them, perhaps mirrored.

        Raises:
            InputError: the picture is smaller than that.
        """
        whole = self._examples[int(rng.integers(len(self._examples)))]
        height, width = whole.ids_bhw.shape[1:]
        if size > min(height, width):
            raise InputError(f"data.size is {size}, but the short side of a video is {min(height, width)}")
        top, left = (int(rng.integers(side - size + 1)) for side in (height, width))
        window = (..., slice(top, top + size), slice(left, left + size))
        inputs, picture = whole.inputs_bchw[window].float(), whole.pictures_b3hw[window]
        ids, evidence = whole.ids_bhw[window], whole.evidence_bhw[window]
        if rng.random() < 0.5:
            inputs, picture, ids, evidence = (x.flip(-1) for x in (inputs, picture, ids, evidence))
            for gap in range((inputs.shape[1] - 3) // CHANNELS_OF_GAP):
                inputs[:, [3 + CHANNELS_OF_GAP * gap, 5 + CHANNELS_OF_GAP * gap]] *= -1
        return MotionBatch(inputs, picture, evidence, ids)


def moving(
    entity_hw: NDArray[np.int32], flow_2hw: NDArray[np.float32], is_thing_e: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Which things move by themselves.

    Args:
        entity_hw: ``int32[h, w]``, ids of entities.
        flow_2hw: ``float32[2, h, w]``, their true flow over the longest gap.
        is_thing_e: ``bool[E]``; what is no thing is background, whatever it does.

    Returns:
        ``int32[h, w]``: 1, 2 … on things that move, `UNSURE` where nobody would see it, 0 elsewhere.
    """
    ids_hw = np.zeros_like(entity_hw)
    thing_hw = is_thing_e[entity_hw]
    flow = np.ascontiguousarray(flow_2hw.transpose(1, 2, 0))
    camera = fit_camera_flow(flow, ~thing_hw)
    if camera is None:  # things fill the picture: nobody can tell what the camera did
        ids_hw[thing_hw] = UNSURE
        return ids_hw
    speed_hw = np.hypot(*(flow - camera).transpose(2, 0, 1))
    number = 0
    for entity in np.unique(entity_hw[thing_hw]):
        mask = entity_hw == entity
        speed = float(np.quantile(speed_hw[mask], 0.75))
        if speed > MOVES and mask.mean() >= _LEAST_AREA:
            number += 1
            ids_hw[mask] = number
        elif speed > STILL:
            ids_hw[mask] = UNSURE
    return ids_hw


def _compressed(frames_thw3: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Half of them blurred a little or compressed, all frames alike."""
    if rng.random() < 0.3:
        spread = float(rng.uniform(0.4, 1.2))
        frames_thw3 = np.stack([np.asarray(cv2.GaussianBlur(frame, (0, 0), spread)) for frame in frames_thw3])
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))]
        frames_thw3 = np.stack(
            [
                np.asarray(cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR))
                for frame in frames_thw3
            ]
        )
    return frames_thw3.astype(np.uint8)


def _example(frames_thw3: NDArray[np.uint8], ids_hw: NDArray[np.int32], gaps: Sequence[int]) -> MotionBatch:
    """From frames t, t - longest gap, …, t - shortest gap, to what the network sees."""
    picture = np.ascontiguousarray(frames_thw3[0])
    found = {}
    for gap, past in zip(sorted(gaps, reverse=True), frames_thw3[1:], strict=True):
        residual = residual_motion(picture, np.ascontiguousarray(past))
        if residual is not None:
            found[gap] = residual
    evidence = motion_evidence(list(found.values())) if found else np.zeros(ids_hw.shape, np.float32)
    return MotionBatch(
        torch.from_numpy(motion_inputs(picture, found, gaps))[None],
        torch.from_numpy(picture.transpose(2, 0, 1).copy())[None],
        torch.from_numpy(evidence)[None],
        torch.from_numpy(ids_hw.astype(np.int64))[None],
    )


def stacked(batches: Sequence[MotionBatch]) -> MotionBatch:
    """One batch of several."""
    return MotionBatch(*(torch.cat([getattr(b, name) for b in batches]) for name in MotionBatch.__slots__))


class MotionLearner(nn.Module):
    """The motion network with its loss.

    Args:
        network: to be trained.
        validation: the pictures on which `validate` measures.
    """

    def __init__(self, network: MotionNetwork, validation: Sequence[MotionBatch] = ()) -> None:
        super().__init__()
        self.network: MotionNetwork = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.validation = validation

    def forward(self, batch: MotionBatch, *, iteration: int, seed: int) -> dict[str, Tensor]:
        """The loss of a batch: cross-entropy and dice of what moves.

        Args:
            batch: pictures.
            iteration: of the run; changes nothing.
            seed: of the run; changes nothing.

        Returns:
            ``loss``, to be differentiated, and its parts ``ce`` and ``dice``.
        """
        del iteration, seed
        logits = self.network(batch.inputs_bchw)
        sure, truth = (batch.ids_bhw != UNSURE).float(), (batch.ids_bhw > 0).float()
        ce = F.binary_cross_entropy_with_logits(logits, truth, weight=sure, reduction="sum") / sure.sum().clamp(min=1)
        found = torch.sigmoid(logits) * sure
        shared, both = (found * truth).sum((1, 2)), found.sum((1, 2)) + truth.sum((1, 2))
        dice = (1 - (2 * shared + 1) / (both + 1)).mean()
        return {"loss": 2 * ce + dice, "ce": ce.detach(), "dice": dice.detach()}

    def save(self, folder: Path) -> None:
        """Write the network, as commands take it."""
        save_motion_network(self.network, folder)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """What moves in pictures that are not trained on, beside the method without weights.

        Returns:
            ``iou`` and ``classic_iou``, means over pictures in which something moves; nothing if there are none.
        """
        was_training = self.training
        ours: list[float] = []
        classic: list[float] = []
        self.eval()
        for batch in self.validation:
            moving_bhw = self.network(batch.inputs_bchw) > 0
            for found, scores in ((moving_bhw, ours), (batch.evidence_bhw > 0.5, classic)):
                sure, truth = batch.ids_bhw != UNSURE, batch.ids_bhw > 0
                shared, either = (found & truth).sum((1, 2)), ((found & sure) | truth).sum((1, 2))
                scores.extend((shared / either)[truth.any(2).any(1)].tolist())
        self.train(was_training)
        return {"iou": float(np.mean(ours)), "classic_iou": float(np.mean(classic))} if ours else {}

    @torch.no_grad()
    def strip(self, batch: MotionBatch) -> NDArray[np.uint8]:
        """Rows of pictures, what moves, the method without weights, and what is found.

        Returns:
            ``uint8[4 · H, B · W, 3]``, RGB.
        """
        was_training = self.training
        self.eval()
        found = self.network(batch.inputs_bchw) > 0
        self.train(was_training)
        pictures = batch.pictures_b3hw.permute(0, 2, 3, 1).cpu().numpy()
        maps = (batch.ids_bhw > 0, batch.evidence_bhw > 0.5, found)
        rows = [pictures, *(np.where(map_bhw.cpu().numpy()[..., None], pictures, pictures // 4) for map_bhw in maps)]
        return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
