"""Contact sheets of the synthetic world, as they are in docs/images.

    python benchmarks/synthetic_sheets.py docs/images

Writes synthetic-categories.jpg, synthetic-levels.jpg and synthetic-truth.jpg, less than 300 KB together.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.sinks.draw import draw_overlay
from maskstream.synthetic.render import SyntheticFrame, compress, render
from maskstream.synthetic.scene import THINGS
from maskstream.synthetic.world import LEVELS, Level, make_scene
from maskstream.types import unpack_masks
from synthetic_categories import cut

SIZE = (150, 266)
QUALITY = 78
EXAMPLES, CROP = 5, 72
LEVEL_SEEDS = (1, 2, 3)
TRUTH_SEED, TRUTH_FRAME = 8, 34

Picture = NDArray[np.uint8]


def main() -> None:
    """Draw all sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    sheets = {"categories": categories(), "levels": levels(), "truth": truth()}
    for name, sheet in sheets.items():
        path = folder / f"synthetic-{name}.jpg"
        done, code = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        assert done
        path.write_bytes(code.tobytes())
        print(f"{path}: {sheet.shape[1]}×{sheet.shape[0]}, {path.stat().st_size // 1024} KB")


def categories() -> Picture:
    """Some individuals of each category, as crops of medium scenes."""
    crops = cut("medium", range(180), frames=(6,), side=CROP)
    images = crops.images_n3hw.permute(0, 2, 3, 1).numpy()
    labels_n = crops.labels_n.numpy()
    columns = []
    for category, name in enumerate(THINGS):
        chosen = images[labels_n == category][:EXAMPLES]
        columns.append(_below([_captioned(chosen[0], name), *chosen[1:]]))
    half = len(columns) // 2
    return _below([_beside(columns[:half]), _beside(columns[half:])])


def levels() -> Picture:
    """Three scenes of each level, half a second after they began."""
    rows = [
        _beside([_captioned(_picture(level, seed), f"{level}, seed {seed}") for seed in LEVEL_SEEDS])
        for level in LEVELS
    ]
    return _below(rows)


def truth() -> Picture:
    """What is known of one frame."""
    scene = make_scene(level="medium", seed=TRUTH_SEED, frames=TRUTH_FRAME + 2, aspect=SIZE[1] / SIZE[0])
    (frame,) = render(scene, SIZE, start=TRUTH_FRAME, stop=TRUTH_FRAME + 1)
    picture = frame.frame.image
    panoptic = draw_overlay(picture, frame.annotation.segmentation, alpha=0.8, labels=False)
    cells = {
        "picture": picture,
        "segments": panoptic,
        "depth order": _depth(frame),
        "flow": _flow(frame),
        "occluded on the next frame": np.where(frame.occluded[..., None], np.uint8(255), picture // 3),
        "amodal masks, points inside": _amodal(frame),
    }
    drawn = [_captioned(cell, name) for name, cell in cells.items()]
    return _below([_beside(drawn[:3]), _beside(drawn[3:])])


def _picture(level: Level, seed: int) -> Picture:
    scene = make_scene(level=level, seed=seed, frames=14, aspect=SIZE[1] / SIZE[0])
    (one,) = render(scene, SIZE, start=12, stop=13)
    return one.frame.image if scene.quality is None else compress(one.frame.image, scene.quality)


def _depth(frame: SyntheticFrame) -> Picture:
    """The nearer, the lighter."""
    count = len(frame.depth_order)
    shades = np.linspace(40, 255, count + 1).astype(np.uint8)
    grey = shades[frame.annotation.segmentation.label_map().numpy()]
    return np.repeat(grey[..., None], 3, axis=2)


def _flow(frame: SyntheticFrame) -> Picture:
    """Hue is where to, saturation how far."""
    length, angle = cv2.cartToPolar(frame.flow[..., 0], frame.flow[..., 1], angleInDegrees=True)
    far = np.clip(length / np.quantile(length, 0.99), 0, 1)
    hsv = np.stack([angle / 2, 255 * np.sqrt(far), np.full_like(far, 255)], axis=2)
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB), np.uint8)


def _amodal(frame: SyntheticFrame) -> Picture:
    """Outlines of whole things, as if each were alone, and a point in what is seen of each."""
    drawn = frame.frame.image // 2
    for mask in unpack_masks(frame.amodal).numpy():
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, (255, 230, 60), 1)
    for point in frame.points.values():
        cv2.circle(drawn, point, 3, (255, 60, 60), -1, cv2.LINE_AA)
    return drawn


def _captioned(picture: Picture, text: str) -> Picture:
    """With a line of text above it."""
    strip = np.full((16, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])


def _beside(pictures: Sequence[Picture]) -> Picture:
    return _joined(pictures, axis=1)


def _below(pictures: Sequence[Picture]) -> Picture:
    return _joined(pictures, axis=0)


def _joined(pictures: Sequence[Picture], *, axis: int) -> Picture:
    """With a white line between every two."""
    gap = list(pictures[0].shape)
    gap[axis] = 3
    pieces = [pictures[0]]
    for picture in pictures[1:]:
        pieces += [np.full(gap, 255, np.uint8), picture]
    return np.concatenate(pieces, axis=axis)


if __name__ == "__main__":
    main()
