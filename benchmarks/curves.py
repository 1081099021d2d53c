"""Keep what a training run showed: its curve, thinned, and a picture of it.

    python benchmarks/curves.py RUN OUT      # writes OUT/curve.csv, OUT/validation.csv and OUT/curve.png

Every row of curve.csv is the mean of 20 iterations.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.files import atomic_path, write_text_atomic
from maskstream.training.curve import CURVE, VALIDATION, read_curve

EVERY = 20
SIZE_HW = (360, 640)
MARGIN = 50


def thinned(columns: dict[str, list[float]]) -> dict[str, list[float]]:
    """Means of every 20 rows; times and numbers of iterations are the last of them."""
    kept: dict[str, list[float]] = {}
    for name, values in columns.items():
        parts = [values[first : first + EVERY] for first in range(0, len(values), EVERY)]
        last = name in ("iteration", "seconds")
        kept[name] = [part[-1] if last else float(np.mean(part)) for part in parts]
    return kept


def table(columns: dict[str, list[float]]) -> str:
    """As CSV."""
    rows = [",".join(columns)]
    rows += [",".join(f"{value:.6g}" for value in row) for row in zip(*columns.values(), strict=True)]
    return "\n".join(rows) + "\n"


def drawn(iterations: list[float], losses: list[float]) -> NDArray[np.uint8]:
    """The curve, the loss on a logarithmic scale."""
    height, width = SIZE_HW
    picture = np.full((height, width, 3), 255, np.uint8)
    logs = np.log(np.maximum(losses, 1e-6))
    low, high = float(logs.min()), float(logs.max())
    x = MARGIN + (width - 2 * MARGIN) * np.array(iterations) / max(iterations)
    y = height - MARGIN - (height - 2 * MARGIN) * (logs - low) / max(high - low, 1e-9)
    cv2.polylines(picture, [np.stack([x, y], axis=1).astype(np.int32)], False, (180, 90, 20), 2, cv2.LINE_AA)
    for value, row in ((high, MARGIN), (low, height - MARGIN)):
        cv2.putText(picture, f"{np.exp(value):.3g}", (4, row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    label = f"loss over {max(iterations):.0f} iterations"
    cv2.putText(picture, label, (MARGIN, height - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return picture


def main() -> None:
    """Read the run, write what is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    curve = thinned(dict(read_curve(options.run / CURVE)))
    write_text_atomic(options.out / "curve.csv", table(curve))
    write_text_atomic(options.out / "validation.csv", table(dict(read_curve(options.run / VALIDATION))))
    with atomic_path(options.out / "curve.png") as temporary:
        temporary.write_bytes(cv2.imencode(".png", drawn(curve["iteration"], curve["loss"]))[1].tobytes())
    losses = curve["loss"]
    print(f"{curve['iteration'][-1]:.0f} iterations, loss {losses[0]:.3f} to {losses[-1]:.3f}: {options.out}")


if __name__ == "__main__":
    main()
