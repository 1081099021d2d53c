"""How the videos of each benchmark are run, as published for DEVA (specification §10-12)."""

from __future__ import annotations

from dataclasses import dataclass

from maskstream.datasets.synthetic import layout_of


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings for a benchmark.

    Attributes:
        size: short side at which masks are carried; None: what suits the propagator, 480 for published networks.
        stride: frames are processed every so often; annotated ones always.
        max_objects: most objects found and followed at once; None for no limit.
        why: where this comes from.
    """

    size: int | None = None
    stride: int = 1
    max_objects: int | None = None
    why: str = "480 pixels and every frame, as published for benchmarks without a setting of their own"


PRESETS: dict[str, Preset] = {
    "burst": Preset(stride=3, why="every third frame, which meets every annotated one"),
    "davis-2017-unsupervised": Preset(max_objects=20, why="the protocol counts 20 objects a video"),
    "vipseg": Preset(why="carried at 480 pixels, written at the size of the 720p copy"),
}
"""By data set; those that are not here are run as `Preset` says."""


def preset_of(dataset: str) -> Preset:
    """The settings for a data set; for a synthetic one, those of the benchmark whose layout it has."""
    return PRESETS.get(layout_of(dataset), Preset())
