"""A page that is complete in itself: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.files import write_text_atomic

THUMBNAIL_WIDTH = 320


def write_page(path: Path, *, title: str, summary: str, sections: Sequence[str], style: str = "") -> None:
    """Write a page. The same content gives the same bytes; the file appears whole or not at all.

    Args:
        path: of the page.
        title: its heading, plain text.
        summary: the line below it, plain text.
        sections: HTML, one after the other; empty ones are left out.
        style: CSS beside that of all pages.
    """
    body = "\n".join(section for section in sections if section)
    write_text_atomic(path, _PAGE.format(title=escape(title), summary=escape(summary), style=_STYLE + style, body=body))


def embedded(image: NDArray[np.uint8], *, alt: str, width: int = THUMBNAIL_WIDTH) -> str:
    """A picture, ``uint8[H, W, 3]`` RGB, as an ``img`` that carries its own data, at most ``width`` pixels wide."""
    scale = min(1.0, width / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    data = base64.b64encode(jpeg.tobytes()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(alt)}">'


def facts_section(heading: str, facts: Mapping[str, str]) -> str:
    """A table of names and values, or nothing."""
    if not facts:
        return ""
    rows = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    table = f'<div class="wide"><table class="facts">\n{rows}\n</table></div>'
    return f"<section>\n<h2>{escape(heading)}</h2>\n{table}\n</section>"


def count(number: int, noun: str) -> str:
    """A number and what it counts."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(",", "\N{NARROW NO-BREAK SPACE}")


_STYLE = """
:root { color-scheme: light dark; --page: #fafaf8; --card: #fff; --ink: #1c1d1f; --soft: #6d7075; --line: #e4e4e0;
  --rail: #ebebe7; }
@media (prefers-color-scheme: dark) { :root { --page: #141517; --card: #1c1e21; --ink: #e9e9e6; --soft: #94989e;
  --line: #2c2f33; --rail: #2a2d31; } .area { opacity: .6 !important; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { margin: 0; font-size: 26px; font-weight: 650; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 0 0 12px; font-size: 13px; font-weight: 600; letter-spacing: .06em; text-transform: uppercase;
  color: var(--soft); }
header p { margin: 4px 0 0; color: var(--soft); }
section { margin-top: 36px; }
.film { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 14px; margin-top: 28px; }
figure { margin: 0; }
img { display: block; width: 100%; border-radius: 6px; background: var(--rail); }
figcaption { display: flex; justify-content: space-between; margin-top: 4px; font-size: 12px; color: var(--soft);
  font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: 9px 14px; text-align: left; vertical-align: middle; border-top: 1px solid var(--line); }
tr:first-child > * { border-top: 0; }
th { font-size: 12px; font-weight: 500; color: var(--soft); white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
small { display: inline-block; min-width: 4.2em; font-size: 12px; color: var(--soft); }
.facts th { width: 1%; padding-right: 28px; font-size: 13px; vertical-align: top; }
.facts td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.none { margin: 0; padding: 28px; text-align: center; color: var(--soft); background: var(--card);
  border: 1px dashed var(--line); border-radius: 10px; }
details { margin-top: 14px; }
summary { padding: 8px 2px; color: var(--soft); cursor: pointer; }
details .wide { max-height: 70vh; overflow-y: auto; }
@media print { main { padding: 0; } .wide { overflow: visible; } }
"""


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title} · maskstream</title>
<style>{style}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
<p>{summary}</p>
</header>
{body}
</main>
</body>
</html>
"""
