"""A model over a data set: which road it takes, and that it is better than copying."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskstream.api import evaluate
from maskstream.datasets import open_dataset
from maskstream.engine import predict
from maskstream.engine.predict import Request, Summary, predict_to_folder
from maskstream.engine.presets import Preset, preset_of
from maskstream.formats import read_label_png
from maskstream.propagation import FlowPropagator
from maskstream.segmenters.saliency import SoftSegmenter
from maskstream.sinks.folder import OwnedFolder
from maskstream.synthetic.layouts import write_dataset
from maskstream.synthetic.videos import synthetic_videos
from maskstream.systems.deva import Deva, DevaSettings
from maskstream.types import (
    CategorySet,
    Frame,
    FrameSegmentation,
    InputError,
    LabelMap,
    ObjectPrompt,
    Prompt,
    Proposals,
    Segment,
    StateDict,
    Task,
    Track,
    VideoSegmenter,
)
from maskstream.video import SampleVideo
from tests.systems.deva.parts import MaskState, StillPropagator

SIZE = (72, 128)
FRAMES = 16
CLEARLY = 0.08


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rendered videos in the layouts of the benchmarks."""
    root = tmp_path_factory.mktemp("sets")
    for task in (Task.REFVOS, Task.UVOS, Task.VOS):
        videos = synthetic_videos(level="easy", seed=3, videos=2, frames=FRAMES, size_hw=SIZE)
        write_dataset(root / task.value, task, videos)
    lists = root / "vos" / "ImageSets"
    (lists / "2017").rename(lists / "2016")  # DAVIS-2016 takes all objects as one
    _describe(root / "uvos")
    return root


def _describe(root: Path) -> None:
    """Ref-DAVIS17: four people describe each object of DAVIS-2017, the first and the third in the same words."""
    videos = {}
    for video in open_dataset("davis-2017-unsupervised", root).videos:
        tracks = sorted({s.track_id for t in range(FRAMES) for s in video.annotation(t).segmentation.segments})
        said = [(f"{video.name} {track} {'abac'[who]}", track) for track in tracks for who in range(4)]
        expressions = {str(n): {"exp": text, "obj_id": str(track)} for n, (text, track) in enumerate(said)}
        videos[video.name] = {"expressions": expressions, "frames": [frame.stem for frame in video.frames]}
    folder = root / "meta_expressions" / "valid"
    folder.mkdir(parents=True)
    (folder / "meta_expressions.json").write_text(json.dumps({"videos": videos}))


@dataclass
class Seen:
    """A frame by its picture: which objects a sentence, or nobody, means on it."""

    index: int
    of: dict[str, Tensor]
    all: Tensor


class Oracle:
    """Knows the truth by the picture. It blurs it, and on every fourth frame shifts it, and is unsure.

    Attributes:
        asked: positions of frames, with the sentence.
    """

    context = 0

    def __init__(self, dataset: str, root: Path) -> None:
        self.asked: list[tuple[int, str]] = []
        self.truth: dict[bytes, Seen] = {}
        for video in open_dataset(dataset, root).videos:
            said = video.expressions()
            for frame in SampleVideo(video):
                shown = video.annotation(frame.index).segmentation
                masks = dict(zip([s.track_id for s in shown.segments], shown.masks_nhw(), strict=True))
                nothing = torch.zeros(SIZE, dtype=torch.bool)
                of = {one.text: sum((masks.get(t, nothing) for t in one.track_ids), nothing) for one in said.values()}
                self.truth[frame.image.tobytes()] = Seen(frame.index, of, sum(masks.values(), nothing))

    def encode(self, frames: Sequence[Frame]) -> list[Seen]:
        return [self.truth[frame.image.tobytes()] for frame in frames]

    def segment(
        self,
        features: Seen,
        prompts: Sequence[ObjectPrompt] = (),
        *,
        context: Sequence[Seen] = (),
        categories: CategorySet | None = None,
        exclude: Tensor | None = None,
    ) -> Proposals:
        assert categories is not None
        (sentence,) = categories.names
        self.asked.append((features.index, sentence))
        unsure = features.index % 4 == 1
        return Proposals(noisy(features.of[sentence], unsure=unsure)[None], scores=(0.1 if unsure else 0.9,))

    def saliency(self, image: NDArray[np.uint8]) -> NDArray[np.floating]:
        seen = self.truth[image.tobytes()]
        self.asked.append((seen.index, ""))
        soft: NDArray[np.floating] = noisy(seen.all, unsure=seen.index % 4 == 1).numpy()
        return soft


def noisy(mask: Tensor, *, unsure: bool) -> Tensor:
    soft = torch.nn.functional.avg_pool2d(mask[None].float(), 3, 1, 1)[0]
    return torch.roll(soft, 6, dims=1) * 0.6 if unsure else soft


Road = Callable[..., tuple[float, Summary]]


@pytest.fixture
def road(roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Road:
    """Predict with a model, and score what it wrote."""

    def go(dataset: str, task: Task, folder: str, model: VideoSegmenter, **fields: Any) -> tuple[float, Summary]:
        monkeypatch.setattr(predict, "load", lambda **options: model)
        output = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        request = request_of(dataset, task, roots / folder, **fields)
        summary = predict_to_folder(request, OwnedFolder(output, {"command": "predict", **request.plain()}))
        score = evaluate(dataset, output, root=roots / folder, task=task).score
        assert json.loads((output / "run.json").read_text())["settings"]["key_frames"] == request.settings.key_frames
        return score, summary

    return go


def request_of(dataset: str, task: Task, root: Path, settings: Preset | None = None, **fields: Any) -> Request:
    split = open_dataset(dataset, root).split
    return Request(dataset, root, split, task, "own", {"model": "deva"}, settings or preset_of(dataset), **fields)


def reading(oracle: Oracle, *, copies: bool = False) -> Deva:
    propagator = StillPropagator(SIZE) if copies else FlowPropagator(size=72)
    return Deva(propagator, detector=oracle, open_vocabulary=True)


# ------------------------------------------------------------ sentences


@pytest.mark.parametrize("compat", ["paper", "official"])
@pytest.mark.parametrize(
    ("dataset", "folder", "key_frames"), [("ref-ytvos", "refvos", 10), ("ref-davis", "uvos", 5)], ids=str
)
def test_sentences_are_looked_for_all_over_the_video(road: Road, roots: Path, dataset, folder, key_frames, compat):
    oracle = Oracle(dataset, roots / folder)
    score, summary = road(dataset, Task.REFVOS, folder, reading(oracle), compat=compat)
    assert summary == Summary(2, 2 * FRAMES, 0, "offline")
    sentences = {
        one.text for video in open_dataset(dataset, roots / folder).videos for one in video.expressions().values()
    }
    assert len(oracle.asked) == key_frames * len(sentences)  # those that two people say are looked for once
    assert len({index for index, _ in oracle.asked}) == key_frames
    copied, _ = road(dataset, Task.REFVOS, folder, reading(oracle, copies=True), compat=compat)
    assert score > copied + CLEARLY, (score, copied)
    assert score > 0.75, score


def test_the_authors_program_follows_what_one_person_says_jointly(road: Road, roots: Path):
    """In its way, all sentences of an annotator have one key frame; in the paper's, each has its own."""

    class Fickle(Oracle):
        """Every sentence is best seen on another frame."""

        def segment(self, features: Seen, *args: Any, categories: CategorySet | None = None, **more: Any) -> Proposals:
            found = super().segment(features, *args, categories=categories, **more)
            assert categories is not None
            object_id = int(categories.names[0].split()[1])
            return replace(found, scores=(1.0 if features.index // 3 % 3 == object_id % 3 else 0.0,))

    keys: dict[str, set[int]] = {}
    for compat in ("paper", "official"):
        deva = reading(Fickle("ref-davis", roots / "uvos"))
        began: set[int] = set()

        class Noted(StillPropagator):
            def write(self, state: MaskState, features: int, masks_nhw: Tensor, object_ids: Sequence[int]) -> MaskState:
                began.add(len(object_ids))  # noqa: B023
                return super().write(state, features, masks_nhw, object_ids)

        deva.propagator = Noted(SIZE)
        road("ref-davis", Task.REFVOS, "uvos", deva, compat=compat)
        keys[compat] = began
    assert keys["paper"] == {1}
    assert max(keys["official"]) > 1


def test_a_model_that_cannot_read_says_so_and_can_answer_blindly(road: Road):
    deaf = Deva(FlowPropagator(size=72), detector=SoftSegmenter(lambda image: image[..., 0] / 255))
    with pytest.raises(InputError, match=r"cannot read.*--blind"):
        road("ref-ytvos", Task.REFVOS, "refvos", deaf)
    _, summary = road("ref-ytvos", Task.REFVOS, "refvos", deaf, blind=True)
    assert summary.schedule == "semi-online"


# ------------------------------------------------------------ what stands out


@pytest.mark.parametrize("compat", ["paper", "official"])
def test_what_stands_out_is_one_object_of_the_whole_video(road: Road, roots: Path, compat):
    oracle = Oracle("davis-2016", roots / "vos")
    soft = SoftSegmenter(oracle.saliency, min_score=0.1)
    deva = Deva(FlowPropagator(size=72), detector=soft, salient=True)
    score, summary = road("davis-2016", Task.UVOS, "vos", deva, compat=compat)
    assert summary.schedule == "offline"
    assert len(oracle.asked) == 2 * 10
    still = Deva(StillPropagator(SIZE), detector=soft, salient=True)
    copied, _ = road("davis-2016", Task.UVOS, "vos", still, compat=compat)
    assert score > copied + CLEARLY, (score, copied)
    assert score > 0.75, score


def test_a_model_that_finds_several_objects_goes_semi_online_unless_it_is_told_otherwise(road: Road, roots: Path):
    oracle = Oracle("davis-2016", roots / "vos")
    usual = DevaSettings(schedule="semi-online")
    deva = Deva(FlowPropagator(size=72), detector=SoftSegmenter(oracle.saliency), settings=usual)
    _, summary = road("davis-2016", Task.UVOS, "vos", deva)
    assert (summary.schedule, len(oracle.asked)) == ("semi-online", 2 * 10)  # 0 1 2, 5 6 7, 10 11 12 and 15
    oracle.asked.clear()
    _, summary = road("davis-2016", Task.UVOS, "vos", deva, schedule="offline", settings=Preset(key_frames=3))
    assert (summary.schedule, len(oracle.asked)) == ("offline", 2 * 3)


@pytest.mark.parametrize(
    ("dataset", "task", "folder", "schedule", "words"),
    [
        ("ref-ytvos", Task.REFVOS, "refvos", "online", "with --schedule offline, not online"),
        ("davis-2017-unsupervised", Task.OWVS, "uvos", "offline", "for owvs say --schedule online or semi-online"),
    ],
)
def test_a_schedule_that_does_not_suit_the_task_is_refused(road: Road, roots, dataset, task, folder, schedule, words):
    deva = reading(Oracle("ref-ytvos", roots / "refvos"))
    request = replace(request_of(dataset, Task.REFVOS, roots / folder), task=task, schedule=schedule)
    with pytest.raises(InputError, match=words):
        predict._schedule(request, deva, task)


def test_masks_that_are_given_may_be_followed_offline_too(road: Road):
    deva = Deva(FlowPropagator(size=72))
    onward, summary = road("davis-2016", Task.VOS, "vos", deva)
    assert summary.schedule is None
    offline, summary = road("davis-2016", Task.VOS, "vos", deva, schedule="offline")
    assert summary.schedule == "offline"
    assert offline == pytest.approx(onward, abs=0.02)


# ------------------------------------------------------------ the first objects


@dataclass
class Scripted:
    """Shows objects as the script says: for each frame the widths of rows, by track. Model and session at once."""

    script: list[dict[int, int]]
    tasks: frozenset[Task] = frozenset({Task.UVOS})
    open_vocabulary: bool = False
    latency: int = 0

    @property
    def label_spaces(self) -> dict[str, CategorySet]:
        return {}

    def start(self, task: Task, **options: object) -> "Scripted":
        return self

    def prompt(self, prompts: Sequence[Prompt]) -> None: ...

    def remove(self, object_ids: Sequence[int]) -> None: ...

    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        shown = self.script[min(frame.index, len(self.script) - 1)]
        labels = torch.zeros(SIZE, dtype=torch.int32)
        for n, width in enumerate(shown.values()):
            labels[n, :width] = n + 1
        return [FrameSegmentation(frame.index, SIZE, tuple(Segment(t, t) for t in shown), LabelMap(labels))]

    def finish(self) -> Iterator[FrameSegmentation]:
        return iter(())

    def tracks(self) -> list[Track]:
        return []

    def state_dict(self) -> StateDict:
        return {}

    def load_state_dict(self, state: StateDict) -> None: ...


COMES_LATE = [{300: 5, 7: 9}, {7: 9, 300: 5}, {7: 2, 300: 5, 4: 60, 5: 61}]


@pytest.mark.parametrize(
    ("limit", "compat", "widths"),
    [
        pytest.param(20, "paper", [{9, 5}, {9, 5}, {2, 5, 60, 61}], id="all fit"),
        pytest.param(3, "paper", [{9, 5}, {9, 5}, {2, 5, 61}], id="the first three, on a frame the larger first"),
        pytest.param(1, "paper", [{9}, {9}, {2}], id="one: not the one that becomes the largest"),
        pytest.param(4, "official", [{9, 5}, {9, 5}, {2, 5}], id="counted again on every frame, as released"),
        pytest.param(None, "paper", [{9, 5}, {9, 5}, {2, 5, 60, 61}], id="no limit"),
    ],
)
def test_the_objects_that_appear_first_are_written(roots, tmp_path, monkeypatch, limit, compat, widths):
    monkeypatch.setattr(predict, "load", lambda **options: Scripted(COMES_LATE))
    settings = Preset(first_objects=limit)
    request = request_of("davis-2017-unsupervised", Task.UVOS, roots / "uvos", settings, compat=compat)
    predict_to_folder(request, OwnedFolder(tmp_path / "out", {}))
    folder = next((tmp_path / "out" / "results").iterdir())
    for t, expected in enumerate(widths):
        ids, areas = np.unique(read_label_png(folder / f"{t:05d}.png"), return_counts=True)
        assert set(areas[ids > 0].tolist()) == expected
        assert ids.max() <= 20


def test_the_unsupervised_benchmark_keeps_twenty_objects_and_follows_any_number():
    preset = preset_of("davis-2017-unsupervised")
    assert (preset.first_objects, preset.max_objects) == (20, None)


# ------------------------------------------------------------ settings


def test_settings_reach_the_model_by_name(roots: Path, monkeypatch: pytest.MonkeyPatch):
    asked: dict[str, object] = {}

    def load(**options: object) -> Deva:
        asked.update(options)
        return Deva(StillPropagator(SIZE))

    monkeypatch.setattr(predict, "load", load)
    settings = Preset(
        size=70, schedule="online", voting_frames=2, detection_every=4, max_missed=6, max_objects=8, memory_every=9
    )
    predict._open(request_of("davis-2016", Task.VOS, roots / "vos", settings))
    assert asked == {
        "model": "deva",
        "task": Task.VOS,
        "size": 70,
        "schedule": "online",
        "voting_frames": 2,
        "detection_every": 4,
        "max_missed": 6,
        "max_objects": 8,
        "memory_every": 9,
        "label_space": None,
    }


@pytest.mark.parametrize(
    ("dataset", "schedule"),
    [
        ("vipseg", "semi-online"),
        ("burst", "semi-online"),
        ("ytvis-2019", "online"),
        ("davis-2016", "offline"),
        ("ref-davis", "offline"),
        ("ref-ytvos", "offline"),
        ("mose", "semi-online"),
        ("synthetic-refvos:v1-easy-seed0", "offline"),
    ],
)
def test_benchmarks_are_run_as_published(dataset, schedule):
    preset = preset_of(dataset)
    assert preset.schedule == schedule
    assert (preset.voting_frames, preset.detection_every, preset.memory_every) == (3, 5, 5)
    assert preset.key_frames == (5 if dataset == "ref-davis" else 10)
    assert preset.stride == (3 if dataset == "burst" else 1)
    assert preset.size == (720 if dataset == "ref-ytvos" else None)
