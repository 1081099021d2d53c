"""``evaluation.html``: the numbers, how they spread over videos, and the worst videos as strips of pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskstream.metrics import Report, Scores
from maskstream.metrics.accumulator import empty_segmentation
from maskstream.sinks.draw import draw_overlay
from maskstream.sinks.page import count, embedded, facts_section, write_page
from maskstream.types import FrameSegmentation, MaskstreamError, VideoSample
from maskstream.video.images import read_image

from .run import Evaluation, Opened

WORST = 5
"""Videos that are shown."""
PICTURES = 6
"""Frames of each."""
_BINS = 20
_OPEN_ROWS = 12
_NO_PICTURE = 60  # the grey behind masks of which there is no picture


def write_evaluation(path: Path, evaluation: Evaluation, opened: Opened, *, facts: Mapping[str, str]) -> None:
    """Write the page of an evaluation.

    Args:
        path: of the page.
        evaluation: the numbers.
        opened: truth and results, of which the worst videos are shown; pictures only where the files are there.
        facts: how they were found, name and value.
    """
    metric, value = evaluation.headline
    videos = count(len(evaluation.video_scores), "video")
    write_page(
        path,
        title=f"{evaluation.dataset}, {evaluation.split}",
        summary=f"{value} {percent(evaluation.score)} ({metric}) · {evaluation.task.value} · {videos}",
        sections=[
            *(_values(name, report) for name, report in evaluation.reports.items()),
            _spread(evaluation),
            _worst(evaluation, opened),
            *(_rows(f"{name}, by class", "class", report.per_class) for name, report in evaluation.reports.items()),
            *(_rows(f"{name}, by video", "video", report.per_video) for name, report in evaluation.reports.items()),
            facts_section("How", facts),
        ],
        style=_STYLE,
    )


def percent(score: float) -> str:
    """A fraction as people read it; a dash where it is undefined."""
    return "–" if math.isnan(score) else f"{100 * score:.1f}"


def _values(name: str, report: Report) -> str:
    cells = []
    for value, score in report.values.items():
        low_high = report.intervals.get(value)
        spread = "" if low_high is None else f"<small>{percent(low_high[0])} – {percent(low_high[1])}</small>"
        cells.append(f"<div><b>{percent(score)}</b>{spread}<span>{escape(value)}</span></div>")
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in report.notes)
    return f'<section>\n<h2>{escape(name)}</h2>\n<div class="values">{"".join(cells)}</div>{notes}\n</section>'


def _spread(evaluation: Evaluation) -> str:
    """How many videos have which score, as bars."""
    scores = [score for score in evaluation.video_scores.values() if not math.isnan(score)]
    if len(scores) < 2:
        return ""
    heights, _ = np.histogram(np.clip(scores, 0, 1), bins=_BINS, range=(0, 1))
    tallest = max(1, int(heights.max()))
    bars = []
    for n, number in enumerate(heights.tolist()):
        height = round(96 * number / tallest)
        title = f"{n * 100 // _BINS} to {(n + 1) * 100 // _BINS}: {count(number, 'video')}"
        bars.append(
            f'<rect x="{n * 50 + 2}" y="{100 - height}" width="46" height="{height}"><title>{title}</title></rect>'
        )
    axis = '<span class="axis"><span>0</span><span>50</span><span>100</span></span>'
    drawn = f'<svg class="spread" viewBox="0 0 1000 100" preserveAspectRatio="none" role="img">{"".join(bars)}</svg>'
    return f"<section>\n<h2>{escape(evaluation.headline[1])} of the videos</h2>\n{drawn}{axis}\n</section>"


def _worst(evaluation: Evaluation, opened: Opened) -> str:
    by_name = {video.name: video for video in opened.dataset.videos if video.name in _worst_names(evaluation)}
    parts = []
    for name in _worst_names(evaluation):
        heading = f"<h3>{escape(name)}<small>{percent(evaluation.video_scores[name])}</small></h3>"
        try:
            parts.append(heading + _strip(by_name[name], opened))
        except MaskstreamError as error:  # a page about results must not fail for want of a picture
            parts.append(f'{heading}<p class="note">{escape(str(error))}</p>')
    return f"<section>\n<h2>The worst videos: truth above, prediction below</h2>\n{''.join(parts)}\n</section>"


def _worst_names(evaluation: Evaluation) -> list[str]:
    return [name for name, score in evaluation.video_scores.items() if not math.isnan(score)][:WORST]


def _strip(video: VideoSample, opened: Opened) -> str:
    sequence = opened.protocol.sequences(video)[0]
    found = opened.results.get(sequence)
    position = {} if found is None else {frame.stem: n for n, frame in enumerate(found.frames)}
    annotated = [n for n, frame in enumerate(video.frames) if frame.annotated]
    shown = sorted({annotated[round(k)] for k in np.linspace(0, len(annotated) - 1, min(PICTURES, len(annotated)))})
    above, below = [], []
    for index in shown:
        stem = video.frames[index].stem
        truth = opened.protocol.truth(video, sequence, index).segmentation
        prediction = empty_segmentation(index, truth.size_hw)
        if found is not None and stem in position:
            prediction = found.annotation(position[stem]).segmentation
        picture = _picture(video, index, truth.size_hw)
        above.append(_figure(picture, truth, f"truth of {stem}", stem))
        below.append(_figure(picture, prediction, f"prediction of {stem}", ""))
    return f'<div class="strip">{"".join(above)}{"".join(below)}</div>'


def _figure(picture: NDArray[np.uint8], segmentation: FrameSegmentation, alt: str, caption: str) -> str:
    if segmentation.size_hw != picture.shape[:2]:
        return f'<figure><p class="note">{segmentation.size_hw[0]}×{segmentation.size_hw[1]}</p></figure>'
    image = embedded(draw_overlay(picture, segmentation, labels=False), alt=alt, width=240)
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _picture(video: VideoSample, index: int, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture of a frame, or a grey one where it is not there or of another size."""
    path = video.frames[index].image
    if video.read_image is not None:
        image = video.read_image(index)
    elif path is not None and path.is_file() and path.stat().st_size:
        image = read_image(path)
    else:
        return np.full((*size_hw, 3), _NO_PICTURE, np.uint8)
    return image if image.shape[:2] == size_hw else np.full((*size_hw, 3), _NO_PICTURE, np.uint8)


def _rows(heading: str, what: str, table: Mapping[str, Scores]) -> str:
    """A table of many rows, folded away."""
    if not table:
        return ""
    columns = list(dict.fromkeys(name for row in table.values() for name in row))
    head = "".join(f'<th class="number">{escape(column)}</th>' for column in columns)
    rows = "\n".join(_row(name, row, columns) for name, row in table.items())
    body = f'<div class="wide"><table>\n<tr><th>{what}</th>{head}</tr>\n{rows}\n</table></div>'
    if len(table) > _OPEN_ROWS:
        body = f"<details>\n<summary>{count(len(table), 'row')}</summary>\n{body}\n</details>"
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>"


def _row(name: str, row: Scores, columns: Sequence[str]) -> str:
    cells = "".join(f'<td class="number">{percent(row.get(column, math.nan))}</td>' for column in columns)
    return f"<tr><td>{escape(name)}</td>{cells}</tr>"


_STYLE = """
.values { display: flex; flex-wrap: wrap; gap: 8px; }
.values div { min-width: 108px; padding: 10px 14px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.values b { display: block; font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; }
.values span { font-size: 12px; color: var(--soft); }
.values small { display: block; }
.note { margin: 8px 2px 0; font-size: 13px; color: var(--soft); }
h3 { display: flex; gap: 12px; margin: 18px 0 6px; font-size: 15px; font-weight: 600; }
.strip { display: grid; grid-template-columns: repeat(6, 1fr); gap: 4px 8px; }
.strip figcaption:empty { display: none; }
.spread { display: block; width: 100%; height: 100px; fill: #4f7cac; background: var(--rail); border-radius: 6px; }
.axis { display: flex; justify-content: space-between; font-size: 12px; color: var(--soft); }
"""
