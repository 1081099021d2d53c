"""YouTube-VIS: what is written is read again, and it is what other tools expect."""

import json

import numpy as np
import pytest

from maskstream.formats import youtube_vis
from maskstream.formats.youtube_vis import (
    YoutubeVisFile,
    YoutubeVisResults,
    tubes_of,
    write_youtube_vis,
    write_youtube_vis_results,
)
from maskstream.types import OBJECT, InputError, Track, decode_rle
from tests.datasets.trees_tracks import FRAMES, NAMES, SIZE, decoded, masks

from .track_samples import CATEGORIES, CROWD, video


def load(path):
    return json.loads(path.read_text())


def test_truth_is_read_as_it_was_written(tmp_path):
    write_youtube_vis(tmp_path, [video(video_id=40), video(NAMES[1], unlabelled=(1, 4))], CATEGORIES)
    file = YoutubeVisFile(tmp_path / "valid/instances.json")
    assert file.category_names == {1: "car", 2: "pedestrian"}  # things
    assert {n: (entry.name, len(entry.files)) for n, entry in file.videos.items()} == {
        40: (NAMES[0], FRAMES),
        2: (NAMES[1], FRAMES - 2),
    }
    assert file.videos[2].files[1] == f"{NAMES[1]}/00010.jpg"
    for video_id, name, kept in ((40, NAMES[0], range(FRAMES)), (2, NAMES[1], (0, 2, 3, 5))):
        tubes = file.tubes(video_id)
        assert [(tube.category, tube.crowd) for tube in tubes] == [(1, False), (2, False), (1, True)]
        for tube, wanted in zip(tubes, masks(name).values(), strict=True):
            for position, index in enumerate(kept):
                code, mask = tube.masks[position], wanted[index]
                assert (code is None) == (mask is None)
                if code is not None and mask is not None:
                    assert np.array_equal(decode_rle([code], SIZE)[0].numpy(), mask)
                    assert tube.areas is not None
                    assert tube.areas[position] == mask.sum()
    assert (tmp_path / "valid/JPEGImages" / NAMES[1] / "00010.jpg").is_file()
    assert not (tmp_path / "valid/JPEGImages" / NAMES[1] / "00005.jpg").exists()


def test_results_have_scores_categories_and_null_for_nothing(tmp_path):
    write_youtube_vis_results(tmp_path, [video(video_id=40, scores={1: 0.1234567, 2: 0.75})], CATEGORIES)
    results = load(tmp_path / "results.json")
    assert [(one["video_id"], one["category_id"], one["score"]) for one in results] == [
        (40, 1, 1.0),  # no score is 1; the best comes first
        (40, 2, 0.75),
        (40, 1, 0.12346),
    ]
    vanishing = results[1]["segmentations"]
    assert [one is None for one in vanishing] == [False, False, False, True, False, False]
    first = masks(NAMES[0])[2][0]
    assert first is not None
    assert np.array_equal(decoded(vanishing[0]), first)


def test_results_are_read_as_they_were_written(tmp_path):
    truth = video(video_id=40, scores={1: 0.5, 2: 0.75, CROWD: 0.25})
    write_youtube_vis(tmp_path, [truth], CATEGORIES)
    write_youtube_vis_results(tmp_path, [truth], CATEGORIES)
    videos = YoutubeVisFile(tmp_path / "valid/instances.json").videos
    (sequence, sample), *others = YoutubeVisResults(tmp_path / "results.json", videos, (1, 2)).items()
    assert (sequence, sample.name, sample.video_id, others) == ("40", NAMES[0], 40, [])
    assert [frame.stem for frame in sample.frames] == [frame.stem for frame in truth.frames]
    assert [dict(track.category_scores) for track in sample.tracks()] == [{2: 0.75}, {1: 0.5}, {1: 0.25}]
    wanted = [masks(NAMES[0])[track] for track in (2, 1, CROWD)]
    for index in range(FRAMES):
        found = sample.annotation(index).segmentation
        here = {n: mask for n, of in enumerate(wanted, 1) if (mask := of[index]) is not None}
        assert [segment.track_id for segment in found.segments] == list(here)
        assert np.array_equal(found.masks_nhw().numpy(), np.stack(list(here.values())))


def test_a_track_with_several_categories_is_a_prediction_for_each(tmp_path):
    tracks = [Track(1, {1: 0.9, 2: 0.3}, None, 0, 5), Track(2, {}, None, 0, 5)]
    write_youtube_vis_results(tmp_path, [video(tracks=tracks, scores={1: 0.5, 2: 0.6, 5: 0.1})], CATEGORIES)
    found = [(one["category_id"], one["score"]) for one in load(tmp_path / "results.json")]
    assert found == [(1, 0.9), (2, 0.6), (2, 0.3), (1, 0.1)]


def test_no_more_predictions_are_written_than_servers_read(tmp_path, monkeypatch):
    monkeypatch.setattr(youtube_vis, "MOST_PREDICTIONS", 1)
    write_youtube_vis_results(tmp_path, [video(scores={1: 0.2, 2: 0.3, CROWD: 0.4})], CATEGORIES)
    assert [(one["category_id"], one["score"]) for one in load(tmp_path / "results.json")] == [(1, 0.4), (2, 0.3)]


def test_the_category_of_one_class_results_is_that_class(tmp_path):
    with pytest.raises(InputError, match="0b97736357: track 2 has category 2, which object has not: map categories"):
        write_youtube_vis_results(tmp_path, [video()], OBJECT)


def test_a_video_of_which_no_frame_is_annotated_cannot_be_truth(tmp_path):
    with pytest.raises(InputError, match="there is no annotated frame"):
        write_youtube_vis(tmp_path, [video(unlabelled=range(FRAMES))], CATEGORIES)


def test_tubes_of_a_sample_are_its_things_by_track():
    tubes = tubes_of(video(scores={1: 0.5}))
    assert [(t.id, t.category, t.score, t.crowd) for t in tubes] == [
        (1, 1, 0.5, False),
        (2, 2, None, False),
        (5, 1, None, True),
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"video_id": 3}, r"results\.json has predictions for video 3, .* the ids are 1 to 1"),
        ({"category_id": 4}, r"results\.json, prediction 1 of video 1: category 4 is none of 1, 2"),
        ({"score": float("nan")}, "prediction 1 of video 1: the score is nan"),
        ({"score": None}, "prediction 1 of video 1: this is not as it should be"),
        ({"segmentations": [None]}, "prediction 1 of video 1: there are 1 segmentations"),
    ],
)  # fmt: skip
def test_wrong_results_are_one_line_with_the_name_of_the_file(tmp_path, change, message):
    write_youtube_vis(tmp_path, [video()], CATEGORIES)
    write_youtube_vis_results(tmp_path, [video()], CATEGORIES)
    results = load(tmp_path / "results.json")
    (tmp_path / "results.json").write_text(json.dumps([results[0] | change, *results[1:]]))
    videos = YoutubeVisFile(tmp_path / "valid/instances.json").videos
    with pytest.raises(InputError, match=message):
        YoutubeVisResults(tmp_path / "results.json", videos, (1, 2))["1"].annotation(0)
