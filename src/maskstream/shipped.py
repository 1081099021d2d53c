"""The weights in the package, each with its card.

weights/propagate-small/config.json         what the network is
                        model.safetensors   its weights
                        README.md           its card: YAML about it, then what a reader wants to know
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from maskstream.types import InputError

FOLDER = Path(__file__).parent / "weights"
CARD, CONFIG, WEIGHTS = "README.md", "config.json", "model.safetensors"

Kind: TypeAlias = Literal["propagator", "segmenter", "prompter", "weights"]

WEIGHTLESS: dict[Kind, dict[str, str]] = {
    "propagator": {"flow": "optical flow carries masks, colour draws their outlines"},
    "segmenter": {"motion": "what the camera's own motion does not explain, snapped to edges"},
    "prompter": {"grabcut": "geodesic growth and GrabCut around boxes, clicks and scribbles"},
    "weights": {},
}
"""What needs no weights, in a line, by kind and name."""

ADVISED = "flow+"
"""Before the name of a propagator: optical flow is to carry masks, and the network to advise it."""

_ALSO: dict[Kind, tuple[Kind, ...]] = {"segmenter": ("weights",)}
"""As what else a network may be taken: systems that decode clips can be built around what segments pictures."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """A network in the package.

    Attributes:
        name: by which commands take it.
        kind: what it does: carries masks, finds objects, turns prompts into masks, or is all that a system needs.
        about: it, in a line.
        licence: of its weights.
        seen: benchmark data it was trained on; empty if none.
        folder: where it is.
        nbytes: of its weights.
        size: short side at which it works best, if that is not up to whoever uses it.
    """

    name: str
    kind: Kind
    about: str
    licence: str
    seen: tuple[str, ...]
    folder: Path
    nbytes: int
    size: int | None


def shipped() -> list[Shipped]:
    """All networks in the package, by name."""
    return [_read(path.parent) for path in sorted(FOLDER.glob(f"*/{CARD}"))]


def weights_of(name: str, kind: Kind) -> Path:
    """Where weights are that somebody named.

    Args:
        name: of a network in the package, or a path; of a propagator, perhaps after `ADVISED`.
        kind: of what is wanted.

    Raises:
        InputError: there is neither.
    """
    if kind == "propagator":
        name = name.removeprefix(ADVISED)
    if (FOLDER / name / CARD).is_file():
        model = _read(FOLDER / name)
        if kind in (model.kind, *_ALSO.get(model.kind, ())):
            return model.folder
        raise InputError(f"{name} is a {model.kind}, not a {kind}")
    path = Path(name)
    if not path.exists():
        known = (*WEIGHTLESS[kind], *(model.name for model in shipped() if model.kind == kind))
        raise InputError(f"unknown {kind} {name!r}; known: {', '.join(known)}, or the path of weights")
    return path


def _read(folder: Path) -> Shipped:
    import yaml

    front = (folder / CARD).read_text(encoding="utf-8").split("---\n")[1]
    card = yaml.safe_load(front)
    assert card["kind"] in get_args(Kind)
    size = (folder / WEIGHTS).stat().st_size
    return Shipped(
        folder.name, card["kind"], card["about"], card["licence"], tuple(card["seen"]), folder, size, card.get("size")
    )
