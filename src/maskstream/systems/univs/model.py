"""UniVS as a system (Li et al., "UniVS: Unified and Universal Video Segmentation with Prompts as Queries",
CVPR 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from maskstream.mask2former import use_fast_attention
from maskstream.mask2former.checkpoints import is_file_of_weights
from maskstream.pretrained import Pixels, pretrained_folder
from maskstream.segmenters.label_spaces import label_space, shown_categories
from maskstream.segmenters.queries import pyramid_pixels
from maskstream.types import CategorySet, InputError, Task, check_task

from .categories import CategorySession
from .checkpoints import SHORT_SIDE, read_authors
from .expressions import ReadTexts
from .network import UniVSNetwork, read_univs
from .prompted import PromptedSession
from .settings import UniVSSettings
from .text import TextEncoder, category_rows, load_text

_NEEDS_TEXT = (
    "these weights come without a text tower, which is what reads names and sentences: give its folder as text "
    "(--text-encoder)"
)

_LONG_SIDE = 1333
"""Most of the long side, as published."""

_UNNAMED = "LABEL_0"
"""What `transformers` calls the first class of a network that nobody gave names."""


class UniVS:
    """Prompts as queries, for six tasks. Satisfies the `VideoSegmenter` contract.

    Args:
        network: for inference.
        pixels: how it wants to see pictures.
        text: what reads names and sentences; with it any category can be looked for.
        space: categories that are looked for where nobody says. None: what the network's classes are called, if they
            have names.
        names_kd: ``float[K, D]``, embeddings of the names of ``space``, where there is no text tower.
        settings: how a video is cut into clips, and what is followed through them.

    Raises:
        InputError: names or the tower do not fit the network.
    """

    def __init__(
        self,
        network: UniVSNetwork,
        pixels: Pixels,
        *,
        text: TextEncoder | None = None,
        space: CategorySet | None = None,
        names_kd: Tensor | None = None,
        settings: UniVSSettings | None = None,
    ) -> None:
        self.network = network
        self.pixels = pixels
        self.text = text
        self.settings = settings or UniVSSettings()
        self.open_vocabulary = text is not None
        dim = text.dim if text is not None else network.config.text_dim if names_kd is None else names_kd.shape[1]
        if dim != network.config.text_dim:
            raise InputError(
                f"the network knows texts of {network.config.text_dim} numbers, and what reads them gives {dim}: give "
                "the text tower that it was trained with"
            )
        if names_kd is not None and (space is None or len(space) != len(names_kd)):
            raise InputError(
                f"there are embeddings of {len(names_kd)} names: say in a label space of as many what they are"
            )
        self.label_space = _own_space(network) if space is None else space
        self._names_kd = names_kd
        self._known_names: dict[tuple[str, ...], Tensor] = {}
        self.label_spaces: Mapping[str, CategorySet] = (
            {} if self.label_space is None else {self.label_space.name: self.label_space}
        )
        tasks = {Task.VOS, Task.PVOS} | (set() if text is None else {Task.REFVOS})
        if text is not None or names_kd is not None:
            tasks |= {Task.VIS, Task.VPS, Task.VSS}
        self.tasks = frozenset(tasks)

    def start(
        self,
        task: Task,
        *,
        size_hw: tuple[int, int],
        fps: float | None = None,
        categories: CategorySet | str | None = None,
        soft: bool = False,
        seed: int = 0,
    ) -> CategorySession | PromptedSession:
        """Begin a video; see `VideoSegmenter.start`. ``seed`` is of places that are drawn by chance, if they are.

        Raises:
            InputError: the task needs a text tower that is missing, it is not said what to look for, a word of a name
                is unknown, or probabilities are asked for.
        """
        if task in (Task.VIS, Task.VPS, Task.VSS, Task.REFVOS) and task not in self.tasks:
            raise InputError(f"this model cannot do {task.value!r}: {_NEEDS_TEXT}")
        check_task(task, self.tasks)
        if soft:
            raise InputError("UniVS gives no probabilities of regions: leave out what asks for them")
        if not task.is_prompted:
            wanted, names_kd = self._named(categories)
            return CategorySession(
                self.network,
                self.pixels,
                task=task,
                categories=wanted,
                names_kd=names_kd,
                size_hw=size_hw,
                settings=self.settings,
                seed=seed,
            )
        able = task is Task.PVOS and categories is not None and (self.open_vocabulary or self._names_kd is not None)
        named, names = self._named(categories) if able else (None, None)
        return PromptedSession(
            self.network,
            self.pixels,
            task=task,
            size_hw=size_hw,
            settings=self.settings,
            read=self._reader(),
            categories=named,
            names_kd=names,
            seed=seed,
        )

    def _reader(self) -> ReadTexts | None:
        """What expressions say."""
        return None if self.text is None else torch.no_grad()(self.text.expressions)

    def _named(self, categories: CategorySet | str | None) -> tuple[CategorySet, Tensor]:
        """What to look for, and embeddings of its names.

        Raises:
            InputError: it is not said, nothing of it is known, or a word of a name is unknown.
        """
        own = self.label_space
        if self.text is None:
            assert own is not None and self._names_kd is not None
            shown = shown_categories(own, categories)
            return CategorySet(own.name, tuple(shown.values())), self._names_kd[list(shown)]
        if isinstance(categories, str) and (own is None or categories != own.name):
            known = "none" if own is None else own.name
            raise InputError(f"unknown label space {categories!r}; this model has: {known}; or give the categories")
        wanted = categories if isinstance(categories, CategorySet) else own
        if wanted is None:
            raise InputError("this model finds what it is told to look for: name classes, as in --classes cat,dog")
        if wanted.names not in self._known_names:
            with torch.no_grad():
                self._known_names[wanted.names] = self.text.names(wanted.names)
        return wanted, self._known_names[wanted.names]


def load_univs(
    name: str,
    *,
    settings: UniVSSettings | None = None,
    space: CategorySet | None = None,
    text: str | None = None,
    short_side: int | None = None,
    device: torch.device | str = "cpu",
) -> UniVS:
    """UniVS from a folder, or from a file of its authors.

    Args:
        name: a folder that training wrote, on this machine or on the hub; or a file for `checkpoints.read_authors`.
        settings: see `UniVS`.
        space: see `UniVS`.
        text: the folder of a text tower, where the weights have none of their own; or the authors' file of embeddings
            of names, for the names of ``space`` alone.
        short_side: of what the network sees; None: what the folder says, and 640 for a file.
        device: where it runs.

    Raises:
        InputError: there is no such model, or its files are damaged or of another kind.
    """
    file = Path(name).expanduser()
    tower: TextEncoder | None = None
    if is_file_of_weights(file):
        network, pixels = read_authors(file), Pixels(shortest=SHORT_SIDE, longest=_LONG_SIDE)
    else:
        folder = pretrained_folder(name)
        network, tower = read_univs(folder)
        pixels = Pixels.of(folder)
    names_kd: Tensor | None = None
    if text is not None and is_file_of_weights(Path(text).expanduser()):
        if space is None:
            raise InputError(f"{text} has names of many data sets: say with a label space which are meant")
        tower, names_kd = None, category_rows(Path(text).expanduser(), space.name)
    elif text is not None:
        tower = load_text(text)
    use_fast_attention(network.core)
    return UniVS(
        network.to(device),
        pyramid_pixels(pixels, short_side),
        text=None if tower is None else tower.to(device),
        space=space,
        names_kd=names_kd,
        settings=settings,
    )


def _own_space(network: UniVSNetwork) -> CategorySet | None:
    """What the network's classes are called, if they have names."""
    names = {int(n): str(name) for n, name in (network.core.config.id2label or {}).items()}
    return None if not names or names.get(0) == _UNNAMED else label_space(names)
