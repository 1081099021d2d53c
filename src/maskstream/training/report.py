"""``report.html`` of a run: its curves, what it found at last, and its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.sinks.page import count, embedded, facts_section, write_page

from .curve import CURVE, ITERATION, PICTURES, VALIDATION, read_curve
from .recipe import Recipe
from .strict import Plain, to_plain

_POINTS = 400
"""Of a drawn curve; longer ones are means of stretches."""
_NOT_DRAWN = (ITERATION, "seconds")


def write_report(folder: Path, recipe: Recipe) -> None:
    """Write the page of a run from what is in its folder.

    Raises:
        InputError: a curve is damaged.
    """
    curve, validation = read_curve(folder / CURVE), read_curve(folder / VALIDATION)
    done = int(curve[ITERATION][-1]) if curve.get(ITERATION) else 0
    scores = " · ".join(f"{name} {100 * values[-1]:.1f}" for name, values in _scores(validation).items() if values)
    write_page(
        folder / "report.html",
        title=folder.resolve().name,
        summary=" · ".join(filter(None, (recipe.about, f"iteration {done} of {recipe.train.steps}", scores))),
        sections=[
            _plots("Validation", validation, _scores(validation)),
            _plots("Training", curve, {name: values for name, values in curve.items() if name not in _NOT_DRAWN}),
            _pictures(folder / PICTURES),
            facts_section("Time", _time(curve)),
            facts_section("Recipe", dict(_settings(to_plain(recipe)))),
        ],
        style=_STYLE,
    )


def smoothed(values: Sequence[float], points: int) -> NDArray[np.float64]:
    """Means of equal stretches of a curve, at most so many."""
    finite = np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return np.array([part.mean() for part in np.array_split(finite, min(points, len(finite)))])


def _scores(validation: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: values for name, values in validation.items() if name != ITERATION}


def _plots(heading: str, table: Mapping[str, list[float]], curves: Mapping[str, list[float]]) -> str:
    if not table.get(ITERATION):
        return ""
    drawn = "".join(_plot(name, values, int(table[ITERATION][-1])) for name, values in curves.items())
    return f'<section>\n<h2>{heading}</h2>\n<div class="plots">{drawn}</div>\n</section>'


def _plot(name: str, values: Sequence[float], last: int) -> str:
    """A curve as SVG, from its least value to its greatest."""
    means = smoothed(values, _POINTS)
    low, high = float(means.min()), float(means.max())
    heights = 100 - 100 * (means - low) / (high - low or 1)
    across = np.linspace(0, 1000, len(means)) if len(means) > 1 else np.array([500.0])
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, heights, strict=True))
    if len(means) == 1:
        points += f" {across[0] + 1:.1f},{heights[0]:.1f}"
    drawn = (
        f'<svg viewBox="0 -4 1000 108" preserveAspectRatio="none" role="img"><title>{escape(name)}</title>'
        f'<polyline points="{points}" vector-effect="non-scaling-stroke"/></svg>'
    )
    ends = f'<span class="axis"><span>{high:.4g}</span><span>{low:.4g}</span></span>'
    caption = f"<figcaption><span>{escape(name)}</span><span>{values[-1]:.4g} at {last}</span></figcaption>"
    return f'<figure class="plot"><div>{drawn}{ends}</div>{caption}</figure>'


def _pictures(folder: Path) -> str:
    """The picture of the last validation."""
    newest = max(folder.glob("*.png"), default=None) if folder.is_dir() else None
    picture = None if newest is None else cv2.imdecode(np.fromfile(newest, np.uint8), cv2.IMREAD_COLOR)
    if newest is None or picture is None:
        return ""
    heading = f"Pictures, truth and prediction at iteration {int(newest.stem)}"
    image = embedded(np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8), alt=heading, width=1120)
    return f"<section>\n<h2>{heading}</h2>\n{image}\n</section>"


def _time(curve: Mapping[str, list[float]]) -> dict[str, str]:
    seconds = curve.get("seconds", [])
    if not seconds:
        return {}
    return {
        "spent on iterations": f"{sum(seconds) / 60:.1f} minutes",
        "an iteration": f"{float(np.median(seconds)):.3f} s (median of {count(len(seconds), 'iteration')})",
    }


def _settings(plain: Plain, place: str = "") -> list[tuple[str, str]]:
    """The settings by their paths."""
    if isinstance(plain, dict):
        return [pair for key, value in plain.items() for pair in _settings(value, f"{place}.{key}".lstrip("."))]
    if isinstance(plain, list) and any(isinstance(one, dict) for one in plain):
        return [
            pair
            for one in plain
            if isinstance(one, dict)
            for pair in _settings(
                {k: v for k, v in one.items() if v is not None}, f"{place}.{one.get('as') or one['name']}"
            )
        ]
    return [] if plain is None else [(place, str(plain))]


_STYLE = """
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 18px; }
.plot div { position: relative; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 6px; }
.plot svg { display: block; width: 100%; height: 120px; fill: none; stroke: #4f7cac; stroke-width: 1.5; }
.plot .axis { position: absolute; inset: 4px 8px; display: flex; flex-direction: column; text-align: right;
  justify-content: space-between; font-size: 11px; color: var(--soft); font-variant-numeric: tabular-nums; }
"""
