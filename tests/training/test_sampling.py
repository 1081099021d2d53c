import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from maskstream.training.clips import Clip
from maskstream.training.sampling import (
    GapSchedule,
    ImageClips,
    Mixture,
    VideoClips,
    choose_frames,
    some_of,
)
from maskstream.types import (
    FrameAnnotation,
    FrameRef,
    FrameSegmentation,
    InputError,
    LabelMap,
    Segment,
    VideoSample,
)

SIZE = (3, 4)


def video(
    number: int, *, frames: int, annotated: Sequence[int] | None = None, empty: Sequence[int] = ()
) -> VideoSample:
    """Pixels say which video and frame it is. Segment 5, of track 50, is on the left, but on empty frames."""

    def image(index: int) -> NDArray[np.uint8]:
        return np.full((*SIZE, 3), (number, index, 0), np.uint8)

    def annotation(index: int) -> FrameAnnotation:
        assert annotated is None or index in annotated, "this frame has no labels"
        left = torch.zeros(SIZE, dtype=torch.int32)
        left[:, :2] = index not in empty
        return FrameAnnotation(FrameSegmentation(index, SIZE, (Segment(5, 50),), LabelMap(left)))

    refs = tuple(FrameRef(f"{n:05d}", annotated=annotated is None or n in annotated) for n in range(frames))
    return VideoSample(f"v{number}", refs, annotation, read_image=image)


def origin(clip: Clip) -> tuple[int, list[int]]:
    """Which video, and which frames."""
    return int(clip.frames_thw3[0, 0, 0, 0]), clip.frames_thw3[:, 0, 0, 1].tolist()


def make(source: VideoClips | ImageClips, number: int, progress: float = 0.0) -> Clip:
    return source.clip(number, progress=progress, rng=np.random.default_rng([1, number]))


# Frames of a clip.


@given(st.data())
def test_neighbours_in_a_clip_are_no_farther_apart_than_the_gap(data: st.DataObject) -> None:
    frames = data.draw(st.integers(1, 40))
    length, gap = data.draw(st.integers(1, frames)), data.draw(st.integers(1, 20))
    chosen = choose_frames(frames, length, gap, np.random.default_rng(data.draw(st.integers(0, 2**32))))
    assert len(set(chosen)) == length
    assert chosen in (sorted(chosen), sorted(chosen, reverse=True))
    assert 0 <= min(chosen) <= max(chosen) < frames
    assert all(abs(a - b) <= gap for a, b in itertools.pairwise(chosen))


def test_every_clip_that_is_allowed_can_happen_in_both_directions() -> None:
    allowed = {
        frames
        for frames in itertools.combinations(range(6), 3)
        if all(b - a <= 2 for a, b in itertools.pairwise(frames))
    }
    seen = Counter(tuple(choose_frames(6, 3, 2, np.random.default_rng(seed))) for seed in range(1500))
    assert set(seen) == allowed | {frames[::-1] for frames in allowed}
    backwards = sum(count for frames, count in seen.items() if frames[0] > frames[-1])
    assert 675 < backwards < 825


def test_a_video_that_is_too_short_has_no_clip() -> None:
    with pytest.raises(InputError, match="a clip of 4 frames cannot be cut from a video of 3"):
        choose_frames(3, 4, 5, np.random.default_rng(0))


@pytest.mark.parametrize(
    "every, expected",
    [
        pytest.param(1, [5, 5, 10, 10, 15, 15, 5, 5], id="DAVIS"),
        pytest.param(5, [1, 1, 2, 2, 3, 3, 1, 1], id="YouTube-VOS and OVIS"),
        pytest.param(30, [1] * 8, id="rarely annotated"),
    ],
)
def test_the_gap_grows_and_shrinks_as_published(every: int, expected: list[int]) -> None:
    schedule = GapSchedule(every=every)
    assert [schedule.at(done) for done in (0, 0.0999, 0.1, 0.2999, 0.3, 0.7999, 0.8, 1)] == expected


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"gaps": ()}, id="no gap"),
        pytest.param({"gaps": ((0.1, 5),)}, id="no beginning"),
        pytest.param({"gaps": ((0.0, 5), (0.5, 7), (0.3, 9))}, id="out of order"),
        pytest.param({"every": 0}, id="every no frame"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(wrong) -> None:
    with pytest.raises(InputError):
        GapSchedule(**wrong)


@pytest.mark.parametrize("fraction, count", [(0.1, 2), (0.5, 10), (0.51, 11), (1.0, 20), (0.001, 1)])
def test_a_part_of_the_data_is_within_every_larger_part(fraction: float, count: int) -> None:
    items = [f"v{n}" for n in range(20)]
    part = some_of(items, fraction)
    assert len(part) == count
    assert list(part) == sorted(part, key=items.index)
    assert set(part) <= set(some_of(items, min(1, fraction + 0.2)))


@pytest.mark.parametrize("fraction", [0, -1, 1.1])
def test_there_is_no_part_smaller_than_none_or_larger_than_all(fraction: float) -> None:
    with pytest.raises(InputError, match="fraction"):
        some_of([1, 2], fraction)


# Sources.


def test_videos_that_are_too_short_are_left_out() -> None:
    source = VideoClips([video(0, frames=2), video(1, frames=9), video(2, frames=3)], length=3)
    assert len(source) == 2
    assert {origin(make(source, n))[0] for n in range(30)} == {1, 2}


def test_too_short_videos_alone_are_an_error() -> None:
    with pytest.raises(InputError, match="none of 1 videos has 3 annotated frames"):
        VideoClips([video(0, frames=9, annotated=[0, 5])], length=3)


def test_only_annotated_frames_are_read_and_the_gap_counts_them() -> None:
    annotated = [0, 5, 10, 15, 20]
    source = VideoClips([video(0, frames=24, annotated=annotated)], length=2, gaps=GapSchedule(every=5))
    for number in range(20):
        _, (first, second) = origin(make(source, number))
        assert {first, second} <= set(annotated)
        assert abs(first - second) == 5


def test_the_gap_follows_the_run() -> None:
    source = VideoClips([video(0, frames=200)], length=2)

    def widest(progress: float) -> int:
        pairs = [origin(make(source, n, progress))[1] for n in range(200)]
        return max(abs(a - b) for a, b in pairs)

    assert [widest(done) for done in (0.0, 0.2, 0.5, 0.9)] == [5, 10, 15, 5]


def test_labels_are_tracks_and_neither_void_nor_crowds() -> None:
    label_map = torch.tensor([[1, 2, 3, 0]], dtype=torch.int32)
    segments = (Segment(5, 50), Segment(6, 60), Segment(7, 70))
    annotation = FrameAnnotation(
        FrameSegmentation(0, (1, 4), segments, LabelMap(label_map)),
        void=torch.tensor([[False, True, False, False]]),
        crowd_ids=frozenset({7}),
    )
    sample = VideoSample(
        "v", (FrameRef("0"),), lambda _: annotation, read_image=lambda _: np.zeros((1, 4, 3), np.uint8)
    )
    assert make(VideoClips([sample], length=1), 0).labels_thw.tolist() == [[[50, 0, 0, 0]]]


def test_a_clip_whose_first_frame_is_empty_is_chosen_anew() -> None:
    often_empty = video(0, frames=8, empty=range(4))
    firsts = [origin(make(VideoClips([often_empty], length=2), n))[1][0] for n in range(40)]
    assert sum(first < 4 for first in firsts) <= 3  # 1 of 2 ** 6 is expected to find none


def test_after_six_empty_clips_the_last_is_taken() -> None:
    calls: list[int] = []

    def count(clip: Clip, rng: np.random.Generator) -> Clip:
        calls.append(int(rng.integers(9)))
        return clip

    clip = make(VideoClips([video(0, frames=4, empty=range(4))], length=2, augment=count), 0)
    assert len(calls) == 6
    assert not clip.labels_thw.any()


def test_a_clip_counts_as_empty_when_its_augmentation_loses_the_objects() -> None:
    def crop(clip: Clip, rng: np.random.Generator) -> Clip:
        side = slice(0, 2) if rng.random() < 0.5 else slice(2, 4)
        return Clip(clip.frames_thw3[:, :, side], clip.labels_thw[:, :, side], clip.number)

    clips = [make(VideoClips([video(0, frames=4)], length=2, augment=crop), n) for n in range(20)]
    assert sum(clip.labels_thw[0].any() for clip in clips) >= 18  # without another attempt, half of them


def test_an_image_is_shown_on_every_frame() -> None:
    source = ImageClips([video(n, frames=1) for n in range(3)], length=4)
    clips = [make(source, n) for n in range(20)]
    assert len(source) == 3
    assert {origin(clip)[0] for clip in clips} == {0, 1, 2}
    for clip in clips:
        assert clip.labels_thw.shape == (4, *SIZE)
        assert (clip.frames_thw3 == clip.frames_thw3[:1]).all()
        assert (clip.labels_thw == clip.labels_thw[:1]).all()


def test_images_are_needed() -> None:
    with pytest.raises(InputError, match="no image"):
        ImageClips([], length=3)


def filed(folder: Path, picture: NDArray[np.uint8], name: str = "0.png") -> VideoSample:
    path = folder / name
    Image.fromarray(picture).save(path)
    truth = FrameAnnotation(FrameSegmentation(0, SIZE, (Segment(1, 1),), LabelMap(torch.ones(SIZE, dtype=torch.int32))))
    return VideoSample("v", (FrameRef("0", path),), lambda _: truth)


@pytest.mark.parametrize("channels", [pytest.param((3,), id="colour"), pytest.param((), id="grey")])
def test_pictures_are_read_as_rgb(tmp_path: Path, channels: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, *channels), np.uint8)
    clip = make(ImageClips([filed(tmp_path, picture, "naïve.png")], length=1), 0)
    np.testing.assert_array_equal(clip.frames_thw3[0], np.broadcast_to(picture.reshape(*SIZE, -1), (*SIZE, 3)))


def test_a_picture_of_another_size_than_its_labels_is_an_error(tmp_path: Path) -> None:
    source = ImageClips([filed(tmp_path, np.zeros((5, 4, 3), np.uint8))], length=1)
    with pytest.raises(InputError, match="v, frame 0: the picture is 5×4 but its labels are 3×4"):
        make(source, 0)


@pytest.mark.parametrize("content", [None, b"", b"no picture"], ids=["missing", "nothing", "junk"])
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    sample = filed(tmp_path, np.zeros((*SIZE, 3), np.uint8))
    path = tmp_path / "0.png"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"0\.png cannot be read as an image"):
        make(ImageClips([sample], length=1), 0)


def test_labels_without_pictures_are_an_error() -> None:
    sample = video(0, frames=1)
    bare = VideoSample("v", sample.frames, sample.read_annotation)
    with pytest.raises(InputError, match="annotations but no pictures"):
        make(ImageClips([bare], length=1), 0)


# Mixtures.


class Fake:
    """Says in its pixels who it is, what chance said, and how much of the run was done."""

    def __init__(self, name: int, objects: int = 1) -> None:
        self.name, self.objects = name, objects

    def clip(self, number: int, *, progress: float, rng: np.random.Generator) -> Clip:
        frames = np.zeros((1, 1, 9, 3), np.uint8)
        frames[..., 0], frames[..., 1], frames[..., 2] = self.name, rng.integers(256), round(100 * progress)
        labels = np.arange(10, 19, dtype=np.int32)[None, None] * (np.arange(9) < self.objects)
        return Clip(frames, labels.astype(np.int32), number)


def mixture(mix="sample", *, weights: Sequence[float] = (3, 1), seed: int = 0, objects: int = 3) -> Mixture:
    sources = [(Fake(name, objects=9), weight) for name, weight in enumerate(weights)]
    return Mixture(sources, seed=seed, batch=8, steps=100, objects=objects, mix=mix)


def names(samples: Mixture) -> NDArray[np.int64]:
    return np.array([origin(samples[n])[0] for n in range(len(samples))])


def content(samples: Mixture, number: int) -> list[int]:
    return [*samples[number].frames_thw3.flatten().tolist(), *samples[number].labels_thw.flatten().tolist()]


@pytest.mark.parametrize("mix", ["sample", "batch"])
def test_a_sample_is_a_function_of_its_number(mix: str) -> None:
    numbers = [799, 3, 400, 4, 3]
    one, other = mixture(mix), mixture(mix)
    in_order = {n: content(other, n) for n in sorted(numbers)}
    assert [content(one, n) for n in numbers] == [in_order[n] for n in numbers]
    assert len({tuple(content(one, n)) for n in range(100)}) > 90
    assert content(mixture(mix, seed=1), 3) != content(one, 3)


@pytest.mark.parametrize("mix", ["sample", "batch"])
def test_sources_come_up_as_often_as_they_weigh(mix: str) -> None:
    first = (names(mixture(mix)) == 0).mean()
    assert 0.65 < first < 0.85


def test_a_batch_mixes_sources_unless_it_must_not() -> None:
    mixed, pure = (names(mixture(mix)).reshape(100, 8) for mix in ("sample", "batch"))
    assert (mixed != mixed[:, :1]).any(axis=1).mean() > 0.5
    assert (pure == pure[:, :1]).all()


def test_a_source_knows_how_much_of_the_run_is_done() -> None:
    samples = mixture()
    assert [samples[n].frames_thw3[0, 0, 0, 2] for n in (0, 7, 8, 400, 799)] == [0, 0, 1, 50, 99]


def test_a_mixture_keeps_so_many_objects_and_numbers_them() -> None:
    kept = [mixture(objects=3)[n].labels_thw for n in range(30)]
    assert all(set(labels.flatten().tolist()) == {0, 1, 2, 3} for labels in kept)
    assert len({labels.tobytes() for labels in kept}) > 20


def test_a_run_has_as_many_samples_as_its_iterations_take() -> None:
    assert len(mixture()) == 800
    for number in (-1, 800):
        with pytest.raises(IndexError, match=f"no sample {number}: the run has 800"):
            mixture()[number]


@pytest.mark.parametrize("weights", [(), (1, 0), (1, -1)], ids=["no source", "no weight", "less than nothing"])
def test_a_mixture_of_nothing_is_refused(weights: Sequence[float]) -> None:
    with pytest.raises(InputError, match="weights above 0"):
        mixture(weights=weights)


def test_workers_give_the_samples_that_the_process_itself_gives() -> None:
    samples = mixture()
    numbers = [5, 17, 2, 300]
    loaded = torch.utils.data.DataLoader(samples, batch_size=None, sampler=numbers, num_workers=2)
    for number, clip in zip(numbers, loaded, strict=True):
        assert clip.number == number
        np.testing.assert_array_equal(clip.frames_thw3, samples[number].frames_thw3)
        np.testing.assert_array_equal(clip.labels_thw, samples[number].labels_thw)


def test_sampling_needs_no_video_reader() -> None:
    script = (
        "import sys; sys.modules['av'] = None\n"
        "from maskstream.training import clips, rendered, sampling\n"
        "rendered.RenderedClips(level='easy', frames=2, size=16, objects=1, seed=0).batch([0])\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
