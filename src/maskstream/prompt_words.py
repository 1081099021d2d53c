"""Prompts as words, such as ``--box 0:1:120,80,300,240`` on the command line; files of prompts have the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskstream.types import Point, Prompt

MASK_HELP = "FRAME:PATH, a label PNG; every id in it is an object. May be repeated, like all prompts."
BOX_HELP = "FRAME:ID:X0,Y0,X1,Y1, a box around object ID."
POINT_HELP = "FRAME:ID:X,Y a click on object ID; FRAME:ID:X,Y,- a click off it."
SCRIBBLE_HELP = "FRAME:ID:X,Y;X,Y;… a stroke on object ID; end it with ;- for a stroke off it."


def parse_prompts(
    *, masks: Sequence[str], boxes: Sequence[str], points: Sequence[str], scribbles: Sequence[str]
) -> list[Prompt]:
    """Read all prompts of a command line.

    Raises:
        InputError: one cannot be read; the message quotes it and shows the form.
    """
    from maskstream.types import BoxPrompt, PointPrompt, ScribblePrompt

    prompts: list[Prompt] = []
    for text in masks:
        prompts += _mask_prompts(text)
    for text in boxes:
        frame, object_id, rest = _head(text, "--box", BOX_HELP)
        x0, y0, x1, y1 = _numbers(rest, 4, text, "--box", BOX_HELP)
        prompts.append(BoxPrompt(frame, object_id, (x0, y0, x1, y1)))
    clicks: dict[tuple[int, int], list[tuple[Point, bool]]] = {}
    for text in points:
        frame, object_id, rest = _head(text, "--point", POINT_HELP)
        positive = not rest.endswith(",-")
        x, y = _numbers(rest.removesuffix(",-"), 2, text, "--point", POINT_HELP)
        clicks.setdefault((frame, object_id), []).append(((x, y), positive))
    for (frame, object_id), given in clicks.items():
        # Clicks on an object that only say "not here" refine what it already is.
        add = not any(positive for _, positive in given)
        prompts.append(
            PointPrompt(frame, object_id, tuple(p for p, _ in given), tuple(sign for _, sign in given), add=add)
        )
    for text in scribbles:
        frame, object_id, rest = _head(text, "--scribble", SCRIBBLE_HELP)
        positive = not rest.endswith(";-")
        stroke = [_numbers(pair, 2, text, "--scribble", SCRIBBLE_HELP) for pair in rest.removesuffix(";-").split(";")]
        prompts.append(ScribblePrompt(frame, object_id, tuple((x, y) for x, y in stroke), positive, add=not positive))
    return prompts


def parse_removals(texts: Sequence[str]) -> dict[int, list[int]]:
    """Read ``FRAME:ID`` pairs; return the ids to remove before each frame."""
    removals: dict[int, list[int]] = {}
    for text in texts:
        frame, object_id, rest = _head(text + ":", "--remove", "FRAME:ID")
        if rest:
            raise _unreadable(text, "--remove", "FRAME:ID")
        removals.setdefault(frame, []).append(object_id)
    return removals


def _mask_prompts(text: str) -> list[Prompt]:
    import numpy as np

    from maskstream.formats import read_label_png
    from maskstream.types import InputError, MaskPrompt

    frame, colon, path = text.partition(":")
    if not colon or not frame.isdigit() or not path:
        raise _unreadable(text, "--mask", MASK_HELP)
    labels = read_label_png(Path(path))
    # 255 is void in every palette benchmark, but the object itself in binary masks of 0 and 255.
    ids = [int(value) for value in np.unique(labels) if value != 0]
    void = None
    if 255 in ids and ids != [255]:
        ids.remove(255)
        void = labels == 255
    if not ids:
        raise InputError(f"{path} holds no object: all its pixels are background")
    if ids == [255]:
        return [MaskPrompt(int(frame), 1, labels == 255)]
    return [MaskPrompt(int(frame), object_id, labels == object_id, void) for object_id in ids]


def _head(text: str, option: str, form: str) -> tuple[int, int, str]:
    parts = text.split(":", 2)
    if len(parts) != 3 or not parts[0].isdigit() or not parts[1].isdigit():
        raise _unreadable(text, option, form)
    return int(parts[0]), int(parts[1]), parts[2]


def _numbers(text: str, count: int, whole: str, option: str, form: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise _unreadable(whole, option, form)
    return values


def _unreadable(text: str, option: str, form: str) -> Exception:
    from maskstream.types import InputError

    return InputError(f"{option} {text} cannot be read: it must be {form}")
