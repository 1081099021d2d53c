"""The simplest real parts: a propagator that moves masks by so many pixels a frame, detectors that follow a script."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from maskstream.systems.deva import AssociationSession, DevaSession
from maskstream.types import (
    BoxPrompt,
    CategorySet,
    Frame,
    FrameSegmentation,
    MaskPrompt,
    ObjectPrompt,
    PointPrompt,
    Proposals,
    StateDict,
)

SIZE = (6, 8)
WIDE = (4, 40)


def frame(index: int, size_hw: tuple[int, int] = SIZE) -> Frame:
    return Frame(index, index / 24, np.zeros((*size_hw, 3), dtype=np.uint8))


def region(x0: int, y0: int, x1: int, y1: int, size_hw: tuple[int, int] = SIZE) -> Tensor:
    mask = torch.zeros(size_hw, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


LEFT, RIGHT, TOP = region(0, 1, 3, 5), region(5, 1, 8, 5), region(0, 0, 8, 1)


def wide(x0: int, x1: int) -> Tensor:
    """Some columns of a wide frame."""
    return region(x0, 0, x1, WIDE[0], WIDE)


def found(*masks: Tensor, **fields: object) -> Proposals:
    return Proposals(torch.stack(masks), **fields)  # type: ignore[arg-type]


@dataclass(frozen=True)
class MaskState:
    """Masks as they were on a frame."""

    index: int
    ids: tuple[int, ...] = ()
    masks_nhw: Tensor = field(default_factory=lambda: torch.zeros((0, *SIZE)))


class ShiftingPropagator:
    """Everything moves to the right at one speed; ``advances`` notes the frames that moved a state on."""

    def __init__(self, velocity: int = 1, size_hw: tuple[int, int] = SIZE) -> None:
        self.velocity = velocity
        self.size = size_hw
        self.advances: list[int] = []

    def start(self) -> MaskState:
        return MaskState(0, (), torch.zeros((0, *self.size)))

    def object_ids(self, state: MaskState) -> tuple[int, ...]:
        return state.ids

    def encode(self, frame: Frame) -> int:
        return frame.index

    def size_hw(self, features: int) -> tuple[int, int]:
        return self.size

    def read(self, state: MaskState, features: int, *, advance: bool = True) -> tuple[MaskState, Tensor]:
        masks = self._moved(state.masks_nhw, features - state.index)
        if advance:
            self.advances.append(features)
            state = MaskState(features, state.ids, masks)
        return state, _with_background(masks)

    def write(self, state: MaskState, features: int, masks_nhw: Tensor, object_ids: Sequence[int]) -> MaskState:
        assert state.index == features or not state.ids, "only the frame that was read last may be written"
        assert masks_nhw.shape == (len(object_ids), *self.size)
        kept = 1 - masks_nhw.float().sum(0).clamp_max(1)
        masks = {i: m * kept for i, m in zip(state.ids, state.masks_nhw, strict=True)}
        masks |= dict(zip(object_ids, masks_nhw.float(), strict=True))
        return MaskState(features, tuple(masks), torch.stack(list(masks.values())) if masks else state.masks_nhw)

    def align(self, source: int, masks_nhw: Tensor, target: int) -> Tensor:
        return _with_background(self._moved(masks_nhw.float(), target - source))

    def remove(self, state: MaskState, object_ids: Sequence[int]) -> MaskState:
        assert set(object_ids) <= set(state.ids)
        keep = [n for n, i in enumerate(state.ids) if i not in object_ids]
        return replace(state, ids=tuple(state.ids[n] for n in keep), masks_nhw=state.masks_nhw[keep])

    def state_dict(self, state: MaskState) -> StateDict:
        return {"index": state.index, "ids": list(state.ids), "masks_nhw": state.masks_nhw}

    def load_state_dict(self, plain: StateDict) -> MaskState:
        return MaskState(plain["index"], tuple(plain["ids"]), plain["masks_nhw"])

    def _moved(self, masks_nhw: Tensor, frames: int) -> Tensor:
        """What leaves on one side does not come back on the other."""
        pixels, width = self.velocity * frames, self.size[1]
        moved = torch.zeros_like(masks_nhw)
        if abs(pixels) < width:
            moved[..., max(pixels, 0) : width + min(pixels, 0)] = masks_nhw[
                ..., max(-pixels, 0) : width - max(pixels, 0)
            ]
        return moved


class StillPropagator(ShiftingPropagator):
    """Nothing moves: the baseline that copies masks."""

    def __init__(self, size_hw: tuple[int, int] = SIZE) -> None:
        super().__init__(0, size_hw)


class ScriptedDetector:
    """Answers what the script says for the frame, and notes what it was asked.

    Attributes:
        asked: for each question the frame and the frames it was shown as context.
        excluded: for each question the region that needs no proposal.
        categories: for each question what to look for.
    """

    def __init__(self, script: dict[int, Proposals], context: int = 0) -> None:
        self.script = script
        self.context = context
        self.asked: list[tuple[int, list[int]]] = []
        self.excluded: list[Tensor | None] = []
        self.categories: list[CategorySet | None] = []

    @property
    def frames(self) -> list[int]:
        """The frames it was asked about."""
        return [index for index, _ in self.asked]

    def encode(self, frames: Sequence[Frame]) -> list[int]:
        return [frame.index for frame in frames]

    def segment(
        self,
        features: int,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[int] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        self.asked.append((features, list(context)))
        self.excluded.append(exclude)
        self.categories.append(categories)
        return self.script.get(features, Proposals.none(SIZE))


class Oracle:
    """A segmenter that sees of a frame its number alone: what it finds is what `at` says."""

    context = 0

    def encode(self, frames: Sequence[Frame]) -> list[int]:
        return [frame.index for frame in frames]

    def segment(
        self,
        features: int,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[int] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        return self.at(features, categories)

    def at(self, index: int, categories: CategorySet | None) -> Proposals:
        raise NotImplementedError


class BoxFiller:
    """A box is filled; points add or take away a pixel from the mask they refine."""

    context = 0

    def encode(self, frames: Sequence[Frame]) -> list[int]:
        return [frame.index for frame in frames]

    def segment(
        self,
        features: int,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[int] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        masks = {prompt.object_id: torch.zeros(SIZE, dtype=torch.bool) for prompt in prompts}
        for prompt in prompts:
            mask = masks[prompt.object_id]
            if isinstance(prompt, BoxPrompt):
                x0, y0, x1, y1 = map(int, prompt.box_xyxy)
                mask[y0:y1, x0:x1] = True
            elif isinstance(prompt, MaskPrompt):
                mask |= prompt.mask
            elif isinstance(prompt, PointPrompt):
                for (x, y), positive in zip(prompt.points_xy, prompt.positive, strict=True):
                    mask[int(y), int(x)] = positive
        return Proposals(torch.stack(list(masks.values())))


def visible(result: FrameSegmentation) -> dict[int, Tensor]:
    """The masks of a frame that have a pixel, by ``track_id``."""
    masks = zip(result.segments, result.masks_nhw(), strict=True)
    return {segment.track_id: mask for segment, mask in masks if mask.any()}


def step(session: DevaSession | AssociationSession, index: int, size_hw: tuple[int, int] = SIZE) -> dict[int, Tensor]:
    """The visible masks of one frame of a session that holds nothing back."""
    (result,) = session.step(frame(index, size_hw))
    assert result.frame_index == index
    return visible(result)


def same(masks: dict[int, Tensor], expected: dict[int, Tensor]) -> bool:
    return masks.keys() == expected.keys() and all(torch.equal(masks[i], expected[i]) for i in masks)


def watch(
    session: DevaSession | AssociationSession, frames: int | Iterable[int], size_hw: tuple[int, int] = SIZE
) -> list[FrameSegmentation]:
    """All results of a whole video."""
    indices = range(frames) if isinstance(frames, int) else frames
    results = [result for index in indices for result in session.step(frame(index, size_hw))]
    return [*results, *session.finish()]


def described(result: FrameSegmentation) -> tuple[object, ...]:
    """A result as plain data, to compare."""
    soft = None if result.probabilities is None else result.probabilities.tolist()
    return result.frame_index, result.segments, result.label_map().tolist(), soft, result.events


def _with_background(masks_nhw: Tensor) -> Tensor:
    return torch.cat([1 - masks_nhw.sum(0, keepdim=True), masks_nhw])
