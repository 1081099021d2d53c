"""How the videos of each benchmark are run, as published for DEVA (specification §10-12)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from maskstream.datasets.synthetic import is_synthetic, layout_of

Schedule: TypeAlias = Literal["online", "semi-online", "offline"]


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings for a benchmark. What does not say otherwise is the same on all of them.

    Attributes:
        size: short side at which masks are carried; None: what suits the propagator, 480 for published networks.
        stride: frames are processed every so often; annotated ones always.
        schedule: "online", "semi-online" or "offline", which goes over the whole video: for sentences, and for what is
            salient where the segmenter finds that.
        voting_frames: frames that vote, semi-online (n).
        detection_every: detections are merged on one frame in so many (d).
        max_missed: misses in a row that an object survives (L); None: what suits the segmenter, which is 5, as
            published, for networks of known classes and masks of one's own, and 10 for words.
        max_objects: most objects found and followed at once; None: what suits the segmenter.
        memory_every: networks memorise one frame in so many (r), as often as detections are merged.
        key_frames: frames that agree on where a sentence's object, or what is salient, is (m).
        first_objects: so many objects a video are kept, those that appear first, on one frame the larger first; None
            for all.
    """

    size: int | None = None
    stride: int = 1
    schedule: Schedule = "semi-online"
    voting_frames: int = 3
    detection_every: int = 5
    max_missed: int | None = None
    max_objects: int | None = None
    memory_every: int = 5
    key_frames: int = 10
    first_objects: int | None = None


PRESETS: dict[str, Preset] = {
    # Carried at 480 pixels, written at the size of the 720p copy.
    "vipseg": Preset(),
    # Every third frame meets every annotated one.
    "burst": Preset(stride=3),
    # Published as it comes, without a vote.
    "ytvis-2019": Preset(schedule="online"),
    "davis-2016": Preset(schedule="offline"),
    "saliency": Preset(schedule="offline"),
    "davis-2017-unsupervised": Preset(first_objects=20),
    # The authors' program takes five key frames here; the paper says ten.
    "ref-davis": Preset(schedule="offline", key_frames=5),
    # Pictures as they are, which are 720 pixels high.
    "ref-ytvos": Preset(size=720, schedule="offline"),
    "mevis": Preset(schedule="offline"),
    "refcoco": Preset(schedule="offline"),
}
"""By data set; those that are not here are run as `Preset` says, video object segmentation among them."""


def preset_of(dataset: str) -> Preset:
    """The settings for a data set.

    For a synthetic one they are those of the benchmark whose layout it has, but at the size that suits the propagator,
    as its pictures are smaller.
    """
    preset = PRESETS.get(layout_of(dataset), Preset())
    return replace(preset, size=None) if is_synthetic(dataset) else preset
