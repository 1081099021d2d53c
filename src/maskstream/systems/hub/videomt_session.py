"""VidEoMT on a video: every frame at once, and objects followed by their queries.

frame ─► network ─┬─ vps: regions ───► same query, same object? ─┐
           ▲  │   ├─ vis: instances ─► same query, same object? ─┼─► result of the frame
           │  │   └─ vss: classes ───────────────────────────────┘
           └──┴─ queries

A query is carried from frame to frame, so what it shows is one object: this is how the authors follow objects. Ids of
`transformers` are positions in the list of what a frame shows, and change when anything before them comes or goes.

A query may also let go of an object and take another. It shows another one where its mask is too far from the last one
that it showed (`shows_another`): that object gets a new id, and the old one is not used again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from maskstream.identity import ObjectTable
from maskstream.mask2former.postprocess import (
    MIN_SCORE,
    MIN_VISIBLE,
    FrameSizes,
    class_values,
    instances,
    panoptic,
    surest_class,
)
from maskstream.pretrained import Pixels
from maskstream.prompt_queue import refuse_prompts
from maskstream.regions import ClassRegions
from maskstream.types import (
    Category,
    CategorySet,
    Event,
    Frame,
    FrameSegmentation,
    LabelMap,
    Prompt,
    StateDict,
    Task,
    Track,
    check_arrival,
    mask_boxes,
    pack_masks,
)

from .videomt_network import Answer, answer

if TYPE_CHECKING:
    from transformers import VideomtForUniversalSegmentation

INSTANCE_MIN_SCORE = 0.5
"""Score from which an instance is shown, as in `transformers`."""

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels of the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideomtSettings:
    """How answers become objects.

    Attributes:
        min_score: score from which something is shown; None: 0.8 for regions and 0.5 for instances, as published.
        min_visible: see `postprocess.panoptic`.
        reach: how far an object may move in a frame, in lengths of its longer side, before it is another one; None: any
            distance, so that a query is one object for ever, as published.
    """

    min_score: float | None = None
    min_visible: float = MIN_VISIBLE
    reach: float | None = 1.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a query showed when it last showed something.

    Attributes:
        track_id: of the object.
        label: its class then.
        frame_index: when that was.
        box: around its mask.
    """

    track_id: int
    label: int
    frame_index: int
    box: Box


def shows_another(before: Sighting, label: int, frame_index: int, box: Box, *, reach: float) -> bool:
    """Whether a query shows another object than it last did.

    The same object is where it was: the boxes meet. It may also have moved there, ``reach`` times its longer side for
    every frame since, if it is of the same class.

    Args:
        before: what it last showed.
        label: the class of what it shows now.
        frame_index: of now.
        box: around its mask now.
        reach: lengths of the longer side in a frame.
    """
    (left, top, right, bottom), (x0, y0, x1, y1) = before.box, box
    apart = max(left - x1, x0 - right, top - y1, y0 - bottom, 0.0)
    # An object that comes into the picture, or from behind something, is longer than what was seen of it first.
    side = max(right - left, bottom - top, x1 - x0, y1 - y0)
    allowed = reach * side * (frame_index - before.frame_index) if label == before.label else 0.0
    return apart > allowed


def surest_only(classes_qc: Tensor) -> Tensor:
    """Class logits by which every query is of its surest class, with the score that it had, or nothing.

    Args:
        classes_qc: ``float[Q, K + 1]``, logits; the last class is "nothing".
    """
    best_q, labels_q = classes_qc.float().softmax(-1)[:, :-1].max(-1)
    only_qc = torch.zeros_like(classes_qc, dtype=torch.float32)
    only_qc[:, -1] = 1 - best_q
    return only_qc.scatter(1, labels_q[:, None], best_q[:, None]).log()


class VideomtSession:
    """The state of one video. Nothing is held back, and nothing grows with it but the list of its objects.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        task: "vps", "vis" or "vss".
        own: what its classes mean.
        shown: what each of them is called in results; others are not shown.
        size_hw: of the video.
        settings: see there.
    """

    latency = 0

    def __init__(
        self,
        network: VideomtForUniversalSegmentation,
        pixels: Pixels,
        *,
        task: Task,
        own: CategorySet,
        shown: Mapping[int, Category],
        size_hw: tuple[int, int],
        settings: VideomtSettings,
    ) -> None:
        self._network = network
        self._pixels = pixels
        self._task = task
        self._shown = shown
        self._device = network.device
        # Where nobody says, objects of a class are counted.
        kinds = [shown.get(n, category).is_thing is not False for n, category in enumerate(own.categories)]
        self._is_thing_k = torch.tensor(kinds, device=self._device)
        self._is_shown_k = torch.tensor([n in shown for n in range(len(own))], device=self._device)
        self._size_hw = size_hw
        self._settings = settings
        self._last_index = -1
        self._carried_1qd: Tensor | None = None
        self._objects = ObjectTable()
        self._regions = ClassRegions(shown)
        self._sightings: dict[int, Sighting] = {}  # by query
        self._stuff: dict[int, int] = {}  # tracks by class
        self._removed: set[int] = set()

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Nothing can be pointed at.

        Raises:
            InputError: something is.
        """
        refuse_prompts(prompts, "VidEoMT")

    def remove(self, object_ids: Sequence[int]) -> None:
        """Show objects no more.

        Raises:
            InputError: one is not followed.
        """
        if self._task is Task.VSS:
            self._regions.remove(object_ids)
            return
        self._objects.remove(object_ids)
        self._removed |= set(object_ids)

    @torch.no_grad()
    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        """Segment the next frame. Every frame is segmented, whether forced or not.

        Raises:
            InputError: the frame is of another size, or comes out of order.
        """
        check_arrival(frame, self._size_hw, self._last_index)
        self._last_index = frame.index
        found = answer(self._network, self._pixels([frame]).to(self._device), self._carried_1qd)
        self._carried_1qd = found.carried_1qd
        results = {Task.VPS: self._panoptic, Task.VIS: self._instances, Task.VSS: self._semantic}
        return [results[self._task](frame.index, found)]

    def finish(self) -> Iterator[FrameSegmentation]:
        """Nothing is held back."""
        yield from ()

    def tracks(self) -> list[Track]:
        """Every object that was ever visible."""
        return (self._regions if self._task is Task.VSS else self._objects).tracks()

    # Results.

    def _panoptic(self, frame_index: int, found: Answer) -> FrameSegmentation:
        least = self._settings.min_score
        regions = panoptic(
            found.classes_qc,
            found.masks_qhw[:, None],
            self._sizes(found),
            stuff_k=~self._is_thing_k,
            min_score=MIN_SCORE if least is None else least,
            min_visible=self._settings.min_visible,
        )
        events: list[Event] = []
        tracks: dict[int, int] = {}
        boxes = self._boxes(found, regions.queries_s)
        rows = zip(
            regions.queries_s.tolist(), regions.classes_s.tolist(), regions.scores_s.tolist(), boxes, strict=True
        )
        for number, (query, label, score, box) in enumerate(rows, start=1):
            if label not in self._shown:
                continue
            if self._is_thing_k[label]:
                track_id = self._track_of_query(query, label, frame_index, box, events)
            else:
                track_id = self._track_of_stuff(label, events)
            if self._see(track_id, label, score, frame_index):
                tracks[number] = track_id
        segments, labels, renamed = self._objects.segments(list(tracks.values()))
        label_s = torch.zeros(len(regions.queries_s) + 1, dtype=torch.int32, device=self._device)
        label_s[list(tracks)] = torch.tensor(labels[1:], dtype=torch.int32, device=self._device)
        masks = LabelMap(label_s[regions.segments_thw[0]])
        return FrameSegmentation(frame_index, self._size_hw, segments, masks, events=(*events, *renamed))

    def _instances(self, frame_index: int, found: Answer) -> FrameSegmentation:
        least = self._settings.min_score
        things = instances(
            surest_only(found.classes_qc),
            found.masks_qhw[:, None],
            self._sizes(found),
            things_k=self._is_shown_k & self._is_thing_k,
            min_score=INSTANCE_MIN_SCORE if least is None else least,
        )
        events: list[Event] = []
        tracks: dict[int, int] = {}
        boxes = self._boxes(found, things.queries_n)
        rows = zip(things.queries_n.tolist(), things.classes_n.tolist(), things.scores_n.tolist(), boxes, strict=True)
        for n, (query, label, score, box) in enumerate(rows):
            track_id = self._track_of_query(query, label, frame_index, box, events)
            if self._see(track_id, label, score, frame_index):
                tracks[n] = track_id
        segments, _, renamed = self._objects.segments(list(tracks.values()))
        masks = pack_masks(things.masks_nthw[list(tracks), 0])
        return FrameSegmentation(frame_index, self._size_hw, segments, masks, events=(*events, *renamed))

    def _semantic(self, frame_index: int, found: Answer) -> FrameSegmentation:
        """Every pixel to the class that all queries are surest of, among those that are shown."""
        masks_hw = self._sizes(found).padded_hw
        values_khw = class_values(found.classes_qc, found.masks_qhw, masks_hw, wanted=self._regions.classes)
        labels_hw, _ = surest_class(values_khw, self._size_hw)
        return self._regions.result(frame_index, labels_hw)

    def _sizes(self, found: Answer) -> FrameSizes:
        """Masks are brought from their own size to that of the source in one step, as in `transformers`."""
        masks_hw = (found.masks_qhw.shape[1], found.masks_qhw.shape[2])
        return FrameSizes(self._size_hw, masks_hw, masks_hw)

    def _boxes(self, found: Answer, queries_n: Tensor) -> list[Box]:
        """Around the masks of queries, as exact as the network's masks are."""
        (height, width), (rows, columns) = self._size_hw, found.masks_qhw.shape[1:]
        boxes_n4 = mask_boxes(found.masks_qhw[queries_n] > 0).tolist()
        across, down = width / columns, height / rows
        return [(x0 * across, y0 * down, x1 * across, y1 * down) for x0, y0, x1, y1 in boxes_n4]

    # Objects.

    def _track_of_query(self, query: int, label: int, frame_index: int, box: Box, events: list[Event]) -> int:
        """The object that a query shows: the one it last showed, unless that is too far away."""
        before, reach = self._sightings.get(query), self._settings.reach
        if before is None:
            track_id = self._born(label, "its query showed nothing before", events)
        elif reach is not None and shows_another(before, label, frame_index, box, reach=reach):
            reason = f"its query showed object {before.track_id} before, which cannot have come here"
            track_id = self._born(label, reason, events)
        else:
            track_id = before.track_id
        self._sightings[query] = Sighting(track_id, label, frame_index, box)
        return track_id

    def _track_of_stuff(self, label: int, events: list[Event]) -> int:
        if label not in self._stuff:
            self._stuff[label] = self._born(label, "the first region of its class", events)
        return self._stuff[label]

    def _born(self, label: int, reason: str, events: list[Event]) -> int:
        track_id = self._objects.add(is_thing=self._shown[label].is_thing).track_id
        events.append(Event("born", track_id, reason))
        return track_id

    def _see(self, track_id: int, label: int, score: float, frame_index: int) -> bool:
        """Note that an object is on a frame; whether it is to be shown, which it is not once a person took it away."""
        if track_id in self._removed:
            return False
        self._objects[track_id].vote(self._shown[label].id, score)
        self._objects[track_id].seen(frame_index)
        return True

    # State.

    def state_dict(self) -> StateDict:
        """Everything the next step depends on."""
        return {
            "last_index": self._last_index,
            "carried": self._carried_1qd,
            "sightings": [[query, *astuple(sighting)] for query, sighting in self._sightings.items()],
            "stuff": [list(pair) for pair in self._stuff.items()],
            "objects": self._objects.state_dict(),
            "regions": self._regions.state_dict(),
            "removed": sorted(self._removed),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._last_index = state["last_index"]
        carried = state["carried"]
        self._carried_1qd = None if carried is None else carried.to(self._device)
        self._sightings = {
            query: Sighting(track_id, label, frame_index, tuple(box))
            for query, track_id, label, frame_index, box in state["sightings"]
        }
        self._stuff = dict(state["stuff"])
        self._objects.load_state_dict(state["objects"])
        self._regions.load_state_dict(state["regions"])
        self._removed = set(state["removed"])
