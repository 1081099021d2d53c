"""Tube-Link on a video: tubes as frames come, and tracks through them (Tube-Link, §3.1 and 3.3; specification §6).

frames ─► wait for W of them ─► decode the tube ─┬─ vps: regions ─► link, embed, track ─┐
               ▲                                 ├─ vis: instances ─► slots ────────────┼─► results of W frames
               └─ the last few again (overlap) ──┴─ vss: classes ───────────────────────┘
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from maskstream.identity import ObjectTable
from maskstream.mask2former.network import ClipFeatures
from maskstream.mask2former.postprocess import (
    MIN_SCORE,
    MIN_VISIBLE,
    FrameSizes,
    class_values,
    instances,
    panoptic,
    surest_class,
)
from maskstream.mask2former.prediction import ClipPrediction
from maskstream.pretrained import Pixels
from maskstream.prompt_queue import refuse_prompts
from maskstream.regions import ClassRegions
from maskstream.types import (
    Category,
    CategorySet,
    Event,
    Frame,
    FrameSegmentation,
    InputError,
    LabelMap,
    Prompt,
    Segment,
    StateDict,
    Task,
    Track,
    check_arrival,
    pack_masks,
)

from .association import LinkMode
from .network import TubeLinkNetwork, cosine
from .tracker import Ids, NaiveTracker, OverlapTracker, QuasiDenseTracker, TrackerSettings, published
from .windows import check_window, tube_ends

Linking: TypeAlias = Literal["embedding", "query", "boxes", "naive", "slots", "overlap"]
"""How things of two tubes are told to be the same: by learned embeddings, by queries as they are, or by the features in
their boxes, in the quasi-dense tracker; by queries in the naive one; by the place that a query has when all queries of
both tubes are matched (what networks without embeddings can do, MinVIS); or by the overlap of their masks.
"""

WINDOWS = {Task.VPS: 6, Task.VIS: 4, Task.VSS: 6}
"""Frames of a tube, as published for VIPSeg, YouTube-VIS and VSPW."""

CHUNK = 36
"""Frames of instances whose classes are averaged in the authors' program; between chunks nothing is linked."""

_PAIRS, _A_FRAME = 100, 30
"""Pairs of query and class that a chunk may show, and of these a frame, in the authors' program."""

_LEAST_SCORE = 0.1
"""Of instances; those below are noise to look at, and hardly count in AP."""

_AT_ONCE = 8
"""Frames that go through the backbone together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TubeLinkSettings:
    """How a video is cut into tubes, and tubes are linked.

    Attributes:
        window: W, frames of a tube; None: what the network is meant for, or as published for the task.
        overlap: frames that a tube sees again; what is written already stays.
        linking: how things are followed; None: by embeddings where the network has them, else by places.
        link: how queries look at those of the tube before; None: as the network was trained.
        min_score: score from which something is shown; None: 0.8 for regions, as published, and for instances 0.1, but
            all of them with ``compat``.
        min_visible: see `postprocess.panoptic`.
        tracker: of the quasi-dense tracker.
        compat: as the authors' program does where it is wrong and its numbers depend on it (specification §12.6, 12.7
            and 12.9).
    """

    window: int | None = None
    overlap: int = 0
    linking: Linking | None = None
    link: LinkMode | None = None
    min_score: float | None = None
    min_visible: float = MIN_VISIBLE
    tracker: TrackerSettings = field(default_factory=TrackerSettings)
    compat: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Tube:
    """A tube that was decoded; the first ``skipped`` frames are only seen again."""

    features: ClipFeatures
    prediction: ClipPrediction
    sizes: FrameSizes
    skipped: int


class TubeLinkSession:
    """The state of one video.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        task: "vps", "vis" or "vss".
        own: what its classes mean.
        shown: what each of them is called in results; others are not shown.
        size_hw: of the video.
        settings: see there.

    Raises:
        InputError: the window is too small, or embeddings are asked of a network that has none.
    """

    def __init__(
        self,
        network: TubeLinkNetwork,
        pixels: Pixels,
        *,
        task: Task,
        own: CategorySet,
        shown: Mapping[int, Category],
        size_hw: tuple[int, int],
        settings: TubeLinkSettings,
    ) -> None:
        self._network = network
        self._pixels = pixels
        self._task = task
        self._shown = shown
        # Where nobody says, objects of a class are counted.
        self._is_thing = [shown.get(n, category).is_thing is not False for n, category in enumerate(own.categories)]
        self._size_hw = size_hw
        self._settings = settings
        self._window = settings.window or network.config.window or WINDOWS[task]
        check_window(self._window, settings.overlap)
        learned = network.association is not None
        self._linking: Linking = settings.linking or ("embedding" if learned else "slots")
        if self._linking == "embedding" and not learned:
            raise InputError("this network has no embeddings to link by: link by slots, query or overlap instead")
        self._link: LinkMode = settings.link or network.config.link
        self._is_chunked = task is Task.VIS and settings.compat
        self.latency = (CHUNK if self._is_chunked else self._window) - 1
        self._device = next(network.parameters()).device
        self._last_index = -1
        self._new: list[Frame] = []
        self._seen_again: list[Frame] = []
        self._features: ClipFeatures | None = None  # of the frames that are seen again
        self._windows = 0
        self._frames = 0
        self._previous_qc: Tensor | None = None
        self._mean_logits_qk: Tensor | None = None
        tracker = published(settings.tracker) if settings.compat else settings.tracker
        self._quasi_dense = QuasiDenseTracker(tracker)
        self._naive = NaiveTracker()
        self._overlap = OverlapTracker()
        self._objects = ObjectTable()
        self._regions = ClassRegions(shown)
        self._track_of: dict[tuple[object, ...], int] = {}
        self._removed: set[int] = set()

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Nothing can be pointed at.

        Raises:
            InputError: something is.
        """
        refuse_prompts(prompts, "Tube-Link")

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

    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        """Take the next frame; results come when a tube is full. Every frame is segmented, whether forced or not.

        Raises:
            InputError: the frame is of another size, or comes out of order.
        """
        check_arrival(frame, self._size_hw, self._last_index)
        self._last_index = frame.index
        self._new.append(frame)
        wanted = CHUNK if self._is_chunked else self._window - len(self._seen_again)
        return self._results() if len(self._new) == wanted else []

    def finish(self) -> Iterator[FrameSegmentation]:
        """Results of the frames that are left; the last of them fills what is missing of its tube."""
        if self._new:
            yield from self._results()

    def tracks(self) -> list[Track]:
        """Every object that was ever visible."""
        return (self._regions if self._task is Task.VSS else self._objects).tracks()

    @torch.no_grad()
    def _results(self) -> list[FrameSegmentation]:
        """Of the frames that wait."""
        frames, self._new = self._new, []
        if self._is_chunked:
            found = self._chunk(frames)
        else:
            answer = {Task.VPS: self._panoptic, Task.VIS: self._instances, Task.VSS: self._semantic}[self._task]
            found = answer(frames, self._decoded(frames))
        self._windows += 1
        self._frames += len(frames)
        return found

    # Tubes.

    def _decoded(self, frames: Sequence[Frame]) -> Tube:
        """Answers for the frames that are seen again, the new ones, and copies of the last.

        A tube of instances is not filled (specification §6).
        """
        overlap = self._settings.overlap
        features, sizes = self._encoded(frames)
        if self._features is not None:
            features = ClipFeatures.joined([self._features, features])
        again = len(self._seen_again)
        if overlap:
            self._seen_again = [*self._seen_again, *frames][-overlap:]
            self._features = features.on_frames(slice(-overlap, None))
        missing = 0 if self._task is Task.VIS else self._window - again - len(frames)
        if missing:
            last = [features.on_frames(slice(-1, None))] * missing
            features = ClipFeatures.joined([features, *last])
        (prediction,) = self._network.core.decode(features)
        return Tube(features, prediction, sizes, again)

    def _encoded(self, frames: Sequence[Frame]) -> tuple[ClipFeatures, FrameSizes]:
        """Features of frames, ``[1, T, …]``, and their sizes."""
        parts = []
        for first in range(0, len(frames), _AT_ONCE):
            pixels_t3hw = self._pixels(frames[first : first + _AT_ONCE]).to(self._device)
            padded_hw = (pixels_t3hw.shape[2], pixels_t3hw.shape[3])
            parts.append(self._network.core.features(pixels_t3hw[None]))
        return ClipFeatures.joined(parts), FrameSizes(self._size_hw, self._pixels.resized_hw(self._size_hw), padded_hw)

    # Panoptic regions.

    def _panoptic(self, frames: Sequence[Frame], tube: Tube) -> list[FrameSegmentation]:
        settings, prediction = self._settings, tube.prediction
        regions = panoptic(
            prediction.classes_bqc[0],
            prediction.masks_bqthw[0],
            tube.sizes,
            stuff_k=torch.tensor([not is_thing for is_thing in self._is_thing], device=self._device),
            min_score=MIN_SCORE if settings.min_score is None else settings.min_score,
            min_visible=settings.min_visible,
        )
        classes, queries, scores = (x.tolist() for x in (regions.classes_s, regions.queries_s, regions.scores_s))
        areas_ts = torch.stack(
            [torch.bincount(x.flatten(), minlength=len(classes) + 1)[1:] for x in regions.segments_thw]
        )
        things = sorted((s for s in range(len(classes)) if self._is_thing[classes[s]]), key=lambda s: queries[s])
        followed = self._gathered(things, areas_ts)
        ids = self._followed(tube, followed, queries, scores, regions.segments_thw)
        track_of_thing = dict(zip(followed, ids, strict=True))
        events: list[Event] = []
        tracks: dict[int, int] = {}
        for s, label in enumerate(classes):
            if label not in self._shown:
                continue
            if self._is_thing[label]:
                key = self._key_of_thing(s, label, queries[s], track_of_thing)
            else:
                key = ("stuff", label)
            track_id = self._track(key, label, scores[s], events)
            if track_id is not None:
                tracks[s] = track_id
        return [
            self._frame_of_regions(
                frame, regions.segments_thw[n], areas_ts[n], tracks, events if n == tube.skipped else []
            )
            for n, frame in enumerate(frames, start=tube.skipped)
        ]

    def _gathered(self, things: list[int], areas_ts: Tensor) -> list[int]:
        """Things that are followed: those that are on any frame of the tube.

        The authors' program begins its list anew on a frame without things (specification §12.6).
        """
        if not self._settings.compat:
            return things
        followed: list[int] = []
        for areas_s in areas_ts:
            there = [s for s in things if areas_s[s] > 0]
            followed = [s for s in things if s in followed or s in there] if there else []
        return followed

    def _followed(
        self, tube: Tube, things: list[int], queries: list[int], scores: list[float], segments_thw: Tensor
    ) -> Ids:
        """Tracks of the things of a tube."""
        queries_qc = tube.prediction.queries_bqc[0]
        wanted = [queries[s] for s in things]
        masks_nhw = torch.stack([segments_thw[-1] == s + 1 for s in things]) if things else segments_thw[:0] > 0
        if self._linking == "overlap":
            first_nhw = torch.stack([segments_thw[0] == s + 1 for s in things]) if things else masks_nhw
            return self._overlap.update(first_nhw, masks_nhw)
        if self._linking == "slots":
            return [self._places(queries_qc)[q] for q in wanted]
        embeddings_nc = queries_qc[wanted]
        if self._linking == "boxes":
            masks_nthw = torch.stack([segments_thw == s + 1 for s in things]) if things else segments_thw[None][:0] > 0
            embeddings_nc = box_features(tube, masks_nthw)
        elif self._linking == "embedding":
            others = None if self._previous_qc is None else self._previous_qc[None]
            linked_bqc = self._network.linked(queries_qc[None], others, self._link)
            self._previous_qc = linked_bqc[0]
            assert self._network.association is not None
            embeddings_nc = self._network.association.embed(self._previous_qc)[wanted]
        tracker = self._naive if self._linking == "naive" else self._quasi_dense
        return tracker.update(embeddings_nc, [scores[s] for s in things], masks_nhw, self._frames)

    def _places(self, queries_qc: Tensor) -> list[int]:
        """Of every query the place of that of the tube before which it resembles (specification §6, VIS.3)."""
        if self._previous_qc is None:
            self._previous_qc = queries_qc
            return list(range(len(queries_qc)))
        old, new = linear_sum_assignment((1 - cosine(self._previous_qc, queries_qc)).cpu().numpy())
        self._previous_qc = queries_qc[torch.as_tensor(new)]  # old ascends
        place_of = dict(zip(new.tolist(), old.tolist(), strict=True))
        return [place_of[q] for q in range(len(queries_qc))]

    def _key_of_thing(
        self, segment: int, label: int, query: int, track_of_thing: dict[int, int | None]
    ) -> tuple[object, ...]:
        """What tells the object of a segment from all others of the video."""
        track = track_of_thing.get(segment)
        if self._settings.compat:  # ids are those of the authors' results: class and instance, which may collide
            instance = query + 1 if segment not in track_of_thing else 0 if track is None else track + 1
            return ("thing", label, instance)
        return ("alone", self._windows, query) if track is None else ("thing", track)

    def _frame_of_regions(
        self, frame: Frame, segments_hw: Tensor, areas_s: Tensor, tracks: dict[int, int], events: list[Event]
    ) -> FrameSegmentation:
        visible = [s for s in tracks if areas_s[s] > 0]
        for s in visible:
            self._objects[tracks[s]].seen(frame.index)
        segments, labels, renamed = self._objects.segments([tracks[s] for s in visible])
        number_s = torch.zeros(len(areas_s) + 1, dtype=torch.int32, device=segments_hw.device)
        number_s[[s + 1 for s in visible]] = torch.tensor(labels[1:], dtype=torch.int32, device=segments_hw.device)
        return FrameSegmentation(
            frame.index,
            self._size_hw,
            segments,
            LabelMap(number_s[segments_hw]),
            events=(*events, *renamed),
        )

    # Instances.

    def _instances(self, frames: Sequence[Frame], tube: Tube) -> list[FrameSegmentation]:
        """Instances by the place of their query; classes are means over the tubes so far."""
        prediction = tube.prediction
        order_q = torch.tensor(self._places(prediction.queries_bqc[0])).argsort()
        logits_qk = prediction.classes_bqc[0][order_q]
        before = logits_qk if self._mean_logits_qk is None else self._mean_logits_qk
        self._mean_logits_qk = before + (logits_qk - before) / (self._windows + 1)
        found = instances(
            self._mean_logits_qk,
            prediction.masks_bqthw[0][order_q],
            tube.sizes,
            things_k=torch.tensor(
                [k in self._shown and is_thing for k, is_thing in enumerate(self._is_thing)], device=self._device
            ),
            min_score=_LEAST_SCORE if self._settings.min_score is None else self._settings.min_score,
        )
        events: list[Event] = []
        tracks: dict[int, int] = {}
        taken: set[int] = set()
        for n, (place, label, score) in enumerate(
            zip(found.queries_n.tolist(), found.classes_n.tolist(), found.scores_n.tolist(), strict=True)
        ):
            if place in taken:  # a query has one class, its surest
                continue
            taken.add(place)
            track_id = self._track(("thing", place), label, score, events)
            if track_id is not None:
                tracks[n] = track_id
        return [
            self._frame_of_instances(frame, found.masks_nthw[:, tube.skipped + t], tracks, events if t == 0 else [])
            for t, frame in enumerate(frames)
        ]

    def _frame_of_instances(
        self, frame: Frame, masks_nhw: Tensor, tracks: dict[int, int], events: list[Event]
    ) -> FrameSegmentation:
        visible = [n for n in tracks if masks_nhw[n].any()]
        for n in visible:
            self._objects[tracks[n]].seen(frame.index)
        segments, _, renamed = self._objects.segments([tracks[n] for n in visible])
        masks = pack_masks(masks_nhw[visible])
        return FrameSegmentation(frame.index, self._size_hw, segments, masks, events=(*events, *renamed))

    def _chunk(self, frames: Sequence[Frame]) -> list[FrameSegmentation]:
        """Instances of up to 36 frames, as the authors' program has them (specification §6, VIS)."""
        features, sizes = self._encoded(frames)
        self._previous_qc = None
        logits: list[Tensor] = []
        masks: list[Tensor] = []
        overlap, last = self._settings.overlap, 0
        for number, end in enumerate(tube_ends(len(frames), self._window, overlap)):
            first = last - overlap if number else 0
            part = features.on_frames(slice(first, end))
            (prediction,) = self._network.core.decode(part)
            order_q = torch.tensor(self._places(prediction.queries_bqc[0])).argsort()
            logits.append(prediction.classes_bqc[0][order_q])
            masks.append(prediction.masks_bqthw[0][order_q][:, last - first :])
            last = end
        mean_qk, masks_qthw = torch.stack(logits).mean(0), torch.cat(masks, 1)
        scores_qk = mean_qk.float().softmax(-1)[:, :-1]
        flat_n = scores_qk.flatten().topk(min(_PAIRS, scores_qk.numel())).indices.tolist()
        ranks = {divmod(n, scores_qk.shape[1]): rank for rank, n in enumerate(flat_n)}
        return [
            self._frame_of_chunk(frame, mean_qk, masks_qthw[:, t, None], sizes, ranks) for t, frame in enumerate(frames)
        ]

    def _frame_of_chunk(
        self,
        frame: Frame,
        logits_qk: Tensor,
        masks_q1hw: Tensor,
        sizes: FrameSizes,
        ranks: dict[tuple[int, int], int],
    ) -> FrameSegmentation:
        found = instances(logits_qk, masks_q1hw, sizes, min_score=self._settings.min_score or 0.0, count=_PAIRS)
        segments, kept, events = [], [], list[Event]()
        pairs = zip(found.queries_n.tolist(), found.classes_n.tolist(), found.scores_n.tolist(), strict=True)
        for n, (query, label, score) in list(enumerate(pairs))[:_A_FRAME]:
            if label not in self._shown or not self._is_thing[label]:
                continue
            track_id = self._track(("chunk", self._windows, ranks[query, label]), label, score, events)
            if track_id is None:
                continue
            self._objects[track_id].seen(frame.index)
            segments.append(Segment(track_id, track_id, self._shown[label].id, score, is_thing=True))
            kept.append(n)
        masks = pack_masks(found.masks_nthw[kept, 0])
        return FrameSegmentation(frame.index, self._size_hw, tuple(segments), masks, events=tuple(events))

    # Classes.

    def _semantic(self, frames: Sequence[Frame], tube: Tube) -> list[FrameSegmentation]:
        """Every pixel to the class that all queries are surest of, among those that are shown."""
        prediction, sizes = tube.prediction, tube.sizes
        height, width = sizes.content_hw
        results = []
        for t, frame in enumerate(frames):
            values_khw = class_values(
                prediction.classes_bqc[0], prediction.masks_bqthw[0, :, tube.skipped + t], sizes.padded_hw
            )
            labels_hw, _ = surest_class(values_khw[self._regions.classes, :height, :width], sizes.source_hw)
            results.append(self._regions.result(frame.index, labels_hw))
        return results

    # Objects.

    def _track(self, key: tuple[object, ...], label: int, score: float | None, events: list[Event]) -> int | None:
        """The track of an object, new if it was not there before; None if a person took it away."""
        category = self._shown[label]
        track_id = self._track_of.get(key)
        if track_id in self._removed:
            return None
        if track_id is None:
            track_id = self._objects.add(is_thing=category.is_thing).track_id
            if key[0] != "alone":  # these do not come again
                self._track_of[key] = track_id
            events.append(Event("born", track_id, "found, and like nothing before"))
        self._objects[track_id].vote(category.id, score)
        return track_id

    # State.

    def state_dict(self) -> StateDict:
        """Everything the next step depends on; features are made again."""
        return {
            "last_index": self._last_index,
            "new": [_to_plain(frame) for frame in self._new],
            "seen_again": [_to_plain(frame) for frame in self._seen_again],
            "windows": self._windows,
            "frames": self._frames,
            "previous": self._previous_qc,
            "mean_logits": self._mean_logits_qk,
            "quasi_dense": self._quasi_dense.state_dict(),
            "naive": self._naive.state_dict(),
            "overlap": self._overlap.state_dict(),
            "objects": self._objects.state_dict(),
            "regions": self._regions.state_dict(),
            "track_of": [[list(key), track_id] for key, track_id in self._track_of.items()],
            "removed": sorted(self._removed),
        }

    @torch.no_grad()
    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._last_index = state["last_index"]
        self._new = [_from_plain(plain) for plain in state["new"]]
        self._seen_again = [_from_plain(plain) for plain in state["seen_again"]]
        self._features = self._encoded(self._seen_again)[0] if self._seen_again else None
        self._windows, self._frames = state["windows"], state["frames"]
        self._previous_qc, self._mean_logits_qk = state["previous"], state["mean_logits"]
        self._quasi_dense.load_state_dict(state["quasi_dense"])
        self._naive.load_state_dict(state["naive"])
        self._overlap.load_state_dict(state["overlap"])
        self._objects.load_state_dict(state["objects"])
        self._regions.load_state_dict(state["regions"])
        self._track_of = {tuple(key): track_id for key, track_id in state["track_of"]}
        self._removed = set(state["removed"])


def box_features(tube: Tube, masks_nthw: Tensor) -> Tensor:
    """Means of the mask features in the boxes of objects, ``float[N, C]`` ("RoI features" of Table 8f).

    Args:
        tube: of T frames.
        masks_nthw: ``bool[N, T, H, W]``, at the size of the video; each is on at least one frame.
    """
    features_tchw = tube.features.mask_features_btchw[0]
    rows_nth, columns_ntw = (_filled(masks_nthw.any(axis)).float() for axis in (3, 2))
    height, width = (
        -(-content * side // padded)
        for content, padded, side in zip(
            tube.sizes.content_hw, tube.sizes.padded_hw, features_tchw.shape[2:], strict=True
        )
    )
    inside_nth, inside_ntw = (F.adaptive_max_pool1d(x, size) for x, size in ((rows_nth, height), (columns_ntw, width)))
    total_nc = torch.einsum("nth,ntw,tchw->nc", inside_nth, inside_ntw, features_tchw[:, :, :height, :width])
    count_n = (inside_nth.sum(2) * inside_ntw.sum(2)).sum(1)
    return total_nc / count_n.clamp(min=1)[:, None]


def _filled(there_ntx: Tensor) -> Tensor:
    """From the first to the last of what is there."""
    up, down = there_ntx.long().cumsum(2), there_ntx.long().flip(2).cumsum(2).flip(2)
    return (up > 0) & (down > 0)


def _to_plain(frame: Frame) -> StateDict:
    return {"index": frame.index, "timestamp": frame.timestamp, "image": torch.from_numpy(frame.image)}


def _from_plain(plain: StateDict) -> Frame:
    return Frame(plain["index"], plain["timestamp"], plain["image"].numpy())
