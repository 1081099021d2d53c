"""``report.html``: one page about a run, complete in itself: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .draw import display_colours
from .page import count, embedded, facts_section, write_page

_THUMBNAILS = 10
_CURVE_POINTS = 400
_OPEN_ROWS = 40  # more tracks than this are folded away, the ones seen longest first
_LISTED_RUNS = 8
_CHART_WIDTH, _CURVE_HEIGHT, _BAR_TOP, _CHART_HEIGHT = 1000, 30, 34, 40


@dataclass(frozen=True, slots=True)
class TrackRow:
    """What the report says of one track.

    Attributes:
        track_id: the object.
        label: its category, or the prompt that asked for it.
        frames: positions (from 0) of the frames it is visible on, ascending.
        areas: its area on each of them, as a fraction of the picture.
    """

    track_id: int
    label: str
    frames: Sequence[int]
    areas: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.areas):
            raise ValueError(f"track {self.track_id} has {len(self.frames)} frames but {len(self.areas)} areas")
        if any(later <= earlier for earlier, later in pairwise(self.frames)):
            raise ValueError(f"the frames of track {self.track_id} do not ascend")


def write_report(
    path: Path,
    *,
    title: str,
    overlay: Path | None,
    run: Mapping[str, str],
    tracks: Sequence[TrackRow],
    frame_count: int,
    charts: Sequence[str] = (),
) -> None:
    """Write the report of a run. The same facts give the same bytes; the file appears whole or not at all.

    Args:
        path: of the page.
        title: what was segmented.
        overlay: the overlay video, shown as thumbnails along time; None for none.
        run: facts about the run, name and value, shown in their order.
        tracks: every object, in the order to show them.
        frame_count: how many frames were segmented; positions of tracks lie below it.
        charts: sections of HTML to show after the thumbnails.

    Raises:
        VideoError: the overlay cannot be read.
        ValueError: a track is visible beyond the last frame.
    """
    for track in tracks:
        if track.frames and not 0 <= track.frames[0] <= track.frames[-1] < frame_count:
            raise ValueError(f"track {track.track_id} is visible on frame {track.frames[-1]} of {frame_count}")
    film = _film_strip(overlay) if overlay is not None else ""
    write_page(
        path,
        title=title,
        summary=f"{count(frame_count, 'frame')} · {count(len(tracks), 'track')}",
        sections=[film, *charts, _track_section(tracks, frame_count), facts_section("Run", run)],
        style=_STYLE,
    )


def _film_strip(overlay: Path) -> str:
    from maskstream.video import open_video

    video = open_video(overlay)
    length = video.frame_count or 0
    positions = sorted({round(float(p)) for p in np.linspace(0, length - 1, min(_THUMBNAILS, length))})
    figures = []
    for frame in (video[position] for position in positions):
        caption = f"frame {frame.index}<span>{frame.timestamp:.2f} s</span>"
        image = embedded(frame.image, alt=f"overlay of frame {frame.index}")
        figures.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return '<section class="film">\n' + "\n".join(figures) + "\n</section>" if figures else ""


def _track_section(tracks: Sequence[TrackRow], frame_count: int) -> str:
    if not tracks:
        return '<section>\n<h2>Tracks</h2>\n<p class="none">No object was found.</p>\n</section>'
    longest = sorted(range(len(tracks)), key=lambda n: (-len(tracks[n].frames), n))
    shown, folded = sorted(longest[:_OPEN_ROWS]), sorted(longest[_OPEN_ROWS:])
    parts = ["<section>", "<h2>Tracks</h2>", _track_table([tracks[n] for n in shown], frame_count)]
    if folded:
        summary = f"{count(len(folded), 'more track')}, visible on fewer frames"
        table = _track_table([tracks[n] for n in folded], frame_count)
        parts.append(f"<details>\n<summary>{summary}</summary>\n{table}\n</details>")
    return "\n".join([*parts, "</section>"])


def _track_table(tracks: Sequence[TrackRow], frame_count: int) -> str:
    axis = (
        f'<span class="axis"><span>0</span><span>presence and area</span><span>{max(0, frame_count - 1)}</span></span>'
    )
    head = "".join(
        f"<th{kind}>{name}</th>"
        for name, kind in (
            ("Track", ""),
            ("Object", ""),
            ("Frames", ' class="number"'),
            ("Visible", ' class="number"'),
            ("Area", ' class="number" title="mean, as a share of the picture"'),
            (axis, ' class="time"'),
        )
    )
    rows = "\n".join(_track_row(track, frame_count) for track in tracks)
    return f'<div class="wide"><table class="tracks">\n<tr>{head}</tr>\n{rows}\n</table></div>'


def _track_row(track: TrackRow, frame_count: int) -> str:
    red, green, blue = display_colours([track.track_id])[0].tolist()
    colour = f"#{red:02x}{green:02x}{blue:02x}"
    span = f"{track.frames[0]}–{track.frames[-1]}" if track.frames else "–"
    share = f"{100 * len(track.frames) / max(1, frame_count):.0f} %"
    area = f"{100 * sum(track.areas) / len(track.areas):.2f} %" if track.areas else "–"
    cells = (
        f'<td class="id"><i class="chip" style="background:{colour}"></i>{track.track_id}</td>'
        f'<td class="label">{escape(track.label)}</td>'
        f'<td class="number">{span}</td>'
        f'<td class="number">{len(track.frames)}<small>{share}</small></td>'
        f'<td class="number">{area}</td>'
        f'<td class="time">{_chart(track, frame_count, colour)}</td>'
    )
    return f'<tr id="track-{track.track_id}">{cells}</tr>'


def _chart(track: TrackRow, frame_count: int, colour: str) -> str:
    """Area over time as steps, each track to its own height, and below it a bar where the track is visible.

    A column of a long video is many frames; where the track is visible on only some of them the bar is pale.
    """
    columns = min(_CURVE_POINTS, max(1, frame_count))
    areas, presence = _per_column(track, columns, max(1, frame_count))
    edges = [round(_CHART_WIDTH * column / columns) for column in range(columns + 1)]
    highest = max(areas.max(initial=0.0), 1e-12)
    curves, bars = [], []
    for first, end in _runs(np.flatnonzero(presence > 0).tolist()):
        steps = (
            f"V{_CURVE_HEIGHT - round((_CURVE_HEIGHT - 2) * float(areas[column]) / highest)}H{edges[column + 1]}"
            for column in range(first, end)
        )
        curves.append(f"M{edges[first]} {_CURVE_HEIGHT}{''.join(steps)}V{_CURVE_HEIGHT}z")
    for kind, columns_of_kind in (("all", presence == 1), ("some", (presence > 0) & (presence < 1))):
        for first, end in _runs(np.flatnonzero(columns_of_kind).tolist()):
            bars.append(_bar(kind, edges[first], edges[end]))
    words = _words(track, frame_count)
    return (
        f'<svg viewBox="0 0 {_CHART_WIDTH} {_CHART_HEIGHT}" preserveAspectRatio="none" role="img" fill="{colour}">'
        f"<title>{words}</title>"
        f'{_bar("rail", 0, _CHART_WIDTH)}<path class="area" d="{"".join(curves)}"/>{"".join(bars)}</svg>'
    )


def _bar(kind: str, start: int, end: int) -> str:
    return (
        f'<rect class="{kind}" x="{start}" y="{_BAR_TOP}" width="{end - start}" height="{_CHART_HEIGHT - _BAR_TOP}"/>'
    )


def _per_column(track: TrackRow, columns: int, frame_count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean area where visible, and the share of frames on which it is, for each column of one frame or more."""
    column_of_visible = np.asarray(track.frames, dtype=np.int64) * columns // frame_count
    column_of_frame = np.arange(frame_count, dtype=np.int64) * columns // frame_count
    seen = np.bincount(column_of_visible, minlength=columns)
    total = np.bincount(column_of_visible, weights=np.asarray(track.areas, dtype=np.float64), minlength=columns)
    return total / np.maximum(seen, 1), seen / np.bincount(column_of_frame, minlength=columns)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Stretches of consecutive numbers: first, and one past the last."""
    breaks = [n for n in range(1, len(numbers)) if numbers[n] != numbers[n - 1] + 1]
    return [(numbers[a], numbers[b - 1] + 1) for a, b in pairwise([0, *breaks, len(numbers)]) if b > a]


def _words(track: TrackRow, frame_count: int) -> str:
    runs = _runs(track.frames)
    listed = ", ".join(str(first) if end == first + 1 else f"{first}–{end - 1}" for first, end in runs[:_LISTED_RUNS])
    rest = f" and {len(runs) - _LISTED_RUNS} more stretches" if len(runs) > _LISTED_RUNS else ""
    where = f": {listed}{rest}" if runs else ""
    largest = f"; at most {100 * max(track.areas):.2f} % of the picture" if track.areas else ""
    return f"track {track.track_id}: visible on {len(track.frames)} of {count(frame_count, 'frame')}{where}{largest}"


_STYLE = """
.id { white-space: nowrap; font-weight: 600; font-variant-numeric: tabular-nums; }
.chip { display: inline-block; width: 13px; height: 13px; margin-right: 9px; border-radius: 4px; vertical-align: -1px;
  box-shadow: inset 0 0 0 1px rgba(128, 128, 128, .35); }
.label { max-width: 240px; overflow-wrap: anywhere; }
.time { width: 46%; min-width: 280px; }
.axis { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: 40px; }
.rail { fill: var(--rail); }
.area { opacity: .42; }
.some { opacity: .5; }
"""
