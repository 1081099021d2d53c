"""What a run writes on the way: curves as CSV, for TensorBoard too if asked for, and pictures.

curve.csv                 a row an iteration
validation.csv            a row a validation
pictures/00000500.png     what was found then
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskstream.files import atomic_path, write_text_atomic
from maskstream.types import InputError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CURVE, VALIDATION, PICTURES, BOARD = "curve.csv", "validation.csv", "pictures", "tensorboard"
ITERATION = "iteration"


def read_curve(path: Path) -> dict[str, list[float]]:
    """The columns of a curve; none if there is no file, or nothing in it.

    A row that a killed run left unfinished is left out.

    Raises:
        InputError: the file is no curve.
    """
    if not path.exists() or not path.stat().st_size:
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = [*csv.reader(file)] or [[]]
    if head[:1] != [ITERATION]:
        raise InputError(f"{path} is no curve of a run: its first column is not {ITERATION}")
    values = [_numbers(row, len(head)) for row in rows]
    if values and values[-1] is None:
        values.pop()
    if None in values:
        raise InputError(f"{path} is damaged: remove it; training goes on without its past")
    return {name: [row[n] for row in values if row] for n, name in enumerate(head)}


def _numbers(row: Sequence[str], columns: int) -> list[float] | None:
    """The values of a row, or None if something is missing."""
    try:
        return [float(cell) for cell in row] if len(row) == columns else None
    except ValueError:
        return None


class Curve:
    """A curve that is being written, to the end of its file.

    Args:
        path: of the CSV file.
        after: the iteration that the run continues after; rows beyond are of work that was lost, and are removed.

    Raises:
        InputError: the file that is there is no curve.
    """

    def __init__(self, path: Path, *, after: int) -> None:
        self._columns: list[str] = []
        if kept := read_curve(path):
            self._columns = list(kept)
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))[: 1 + sum(number <= after for number in kept[ITERATION])]
            write_text_atomic(path, "".join(f"{','.join(row)}\n" for row in rows))
        self._file = path.open("a", encoding="utf-8", newline="", buffering=1)
        self._rows = csv.writer(self._file, lineterminator="\n")

    def close(self) -> None:
        """Write nothing more."""
        self._file.close()

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Write a row; it is in the file at once. Nine digits tell every float32 from its neighbours.

        Raises:
            ValueError: its columns are not those of the rows before.
        """
        columns = [ITERATION, *values]
        if not self._columns:
            self._columns = columns
            self._rows.writerow(columns)
        if columns != self._columns:
            raise ValueError(f"a row of {', '.join(columns)} in a curve of {', '.join(self._columns)}")
        self._rows.writerow([iteration, *(f"{value:.9g}" for value in values.values())])


class Record:
    """The curves and pictures of a run.

    Args:
        folder: where to write them.
        after: the iteration that the run continues after.
        board: write files for TensorBoard, too.

    Raises:
        InputError: TensorBoard is not installed, or a file that is there is no curve.
    """

    def __init__(self, folder: Path, after: int, *, board: bool = False) -> None:
        self._pictures = folder / PICTURES
        self._board = _board(folder / BOARD, after) if board else None
        self._curve = Curve(folder / CURVE, after=after)
        self._validation = Curve(folder / VALIDATION, after=after)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self._curve.close()
        self._validation.close()
        if self._board is not None:
            self._board.close()

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Write what an iteration gave."""
        self._curve.add(iteration, values)
        self._show("train", iteration, values)

    def add_validation(self, iteration: int, scores: Mapping[str, float], picture: NDArray[np.uint8]) -> None:
        """Write what a validation gave, and its picture, ``uint8[H, W, 3]`` RGB."""
        self._validation.add(iteration, scores)
        self._show("validation", iteration, scores)
        self._pictures.mkdir(exist_ok=True)
        with atomic_path(self._pictures / f"{iteration:08d}.png") as temporary:
            Image.fromarray(picture).save(temporary)

    def _show(self, group: str, iteration: int, values: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, iteration)


def _board(folder: Path, after: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("TensorBoard is not installed: pip install 'maskstream[tensorboard]'") from error
    return SummaryWriter(str(folder), purge_step=after + 1)
