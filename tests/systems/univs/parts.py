"""A UniVS that sees colours and answers perfectly: what is painted in one is an object, and a prompt asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstream.mask2former.decoder import Level
from maskstream.mask2former.network import ClipFeatures
from maskstream.pretrained import Pixels
from maskstream.systems.univs import UniVS, UniVSConfig, UniVSSettings
from maskstream.systems.univs.network import Answers, ClipMaps, Prompts
from maskstream.types import Category, CategorySet, Frame, FrameSegmentation, Session, Task

SIZE = (64, 96)
COLOURS = 8
CHANNELS = 12
FARM = CategorySet("farm", (Category(10, "hen", True), Category(20, "pig", True), Category(30, "grass", False)))
HEN, PIG, GRASS = 0, 1, 2
PIXELS = Pixels(scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3, divisor=32)
FAR = 10.0


class PaintedNetwork(nn.Module):
    """Learnable query q finds colour q + 1, and says the class that it is told; a prompt the colour of its tokens.

    Args:
        labels: class of each colour.
        queries: how many colours learnable queries find.
    """

    def __init__(self, labels: Sequence[int], *, queries: int = COLOURS) -> None:
        super().__init__()
        self.somewhere = nn.Parameter(torch.zeros(1))
        self.labels = list(labels)
        self.queries = queries
        self.config = UniVSConfig(text_dim=CHANNELS, frames=5)
        self.core = SimpleNamespace(config=SimpleNamespace(hidden_dim=CHANNELS, id2label=None))
        self.encoded: list[int] = []
        self.clips: list[list[int]] = []
        self.asked: list[int] = []
        self.sureness = 6.0

    def features(self, pixels_t3hw: Tensor) -> ClipFeatures:
        self.encoded += pixels_t3hw[:, 2, 0, 0].int().tolist()
        return ClipFeatures((), pixels_t3hw[None, :, :1])

    def maps(self, features: ClipFeatures, frames_t: Tensor) -> ClipMaps:
        self.clips.append(frames_t.tolist())
        red_thw = features.mask_features_btchw[0, :, 0].long()
        colours_thwc = F.one_hot(red_thw[:, ::8, ::8], CHANNELS).float()
        height, width = colours_thwc.shape[1:3]
        content_tkc = colours_thwc.flatten(1, 2)
        level = Level(content_tkc, torch.zeros_like(content_tkc), (1, height, width))
        return ClipMaps((level,), red_thw[:, None, 2::4, 2::4].float(), frames_t.float())

    def text_prompts(self, kind: str, sentences_pd: Tensor, words_pwd: Tensor | None, maps: ClipMaps) -> Prompts:
        content_ptc = sentences_pd[:, None].expand(-1, len(maps.angles_t), -1)
        return Prompts("expression", content_ptc, content_ptc, content_ptc[:, :, None])

    def decode(self, maps: ClipMaps, prompts: Prompts | None = None, **options: object) -> list[Answers]:
        self.asked.append(0 if prompts is None else len(prompts))
        colours = list(range(1, self.queries + 1))
        if prompts is not None:
            seen_pc = prompts.tokens_pslc.sum((1, 2))
            seen_pc[:, 0] *= 0.01  # background is nobody
            colours += seen_pc.argmax(1).tolist()
        colour_q = torch.tensor(colours)
        is_colour = maps.mask_features_tchw[:, 0] == colour_q[:, None, None, None]
        masks = torch.where(is_colour & (colour_q > 0)[:, None, None, None], FAR, -FAR)
        embeddings = 4 * F.one_hot(colour_q, CHANNELS).float()[:, None].expand(-1, len(maps.angles_t), -1)
        return [Answers(embeddings, masks)]

    def class_logits(self, answers: Answers, names_kd: Tensor) -> Tensor:
        colours = answers.embeddings_qtc[:, 0].argmax(1).tolist()
        logits = torch.full((len(colours), len(names_kd)), -self.sureness)
        names = names_kd.argmax(1).tolist()
        for q, colour in enumerate(colours):
            label = self.labels[colour - 1] if 0 < colour <= len(self.labels) else None
            for k, name in enumerate(names):
                logits[q, k] = self.sureness if name == label else -self.sureness
        return logits


class ColourText(nn.Module):
    """Names are those of the farm, and sentences colours: "number 3"."""

    dim = CHANNELS
    length = 2

    def names(self, names: Sequence[str]) -> Tensor:
        return F.one_hot(torch.tensor([FARM.names.index(name) for name in names]), self.dim).float()

    def expressions(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        sentences = F.one_hot(torch.tensor([int(text.split()[-1]) for text in texts]), self.dim).float()
        return sentences, sentences[:, None].expand(-1, self.length, -1)


def system(labels: Sequence[int] = (HEN,) * COLOURS, *, reads: bool = True, **settings: object) -> UniVS:
    """UniVS that sees colours."""
    return UniVS(
        PaintedNetwork(labels),  # type: ignore[arg-type]
        PIXELS,
        text=ColourText() if reads else None,  # type: ignore[arg-type]
        space=FARM,
        settings=UniVSSettings(**settings),  # type: ignore[arg-type]
    )


def network_of(made: UniVS) -> PaintedNetwork:
    """What it sees with."""
    return cast("PaintedNetwork", made.network)


def painted(index: int, *boxes: tuple[int, int, int, int, int]) -> Frame:
    """A frame with boxes (colour, x0, y0, x1, y1), the later ones on top; its blue channel says its index."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 2] = index
    for colour, x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1, 0] = colour
    return Frame(index, index / 10, image)


def square(colour: int, x: int, y: int, side: int = 24) -> tuple[int, int, int, int, int]:
    return (colour, x, y, x + side, y + side)


def mask_of(frame: Frame, colour: int) -> Tensor:
    """Where a colour is."""
    return torch.from_numpy(frame.image[..., 0] == colour)


def start(made: UniVS, task: Task, **options: object) -> Session:
    return made.start(task, size_hw=SIZE, **options)  # type: ignore[arg-type]


def watch(session: Session, frames: Sequence[Frame]) -> list[FrameSegmentation]:
    """All results of a video."""
    return [*(result for frame in frames for result in session.step(frame)), *session.finish()]


def colours(result: FrameSegmentation, frame: Frame) -> dict[int, set[int]]:
    """By track, the colours that its mask covers by more than a rim."""
    found = {}
    red = torch.from_numpy(frame.image[..., 0])
    for segment, mask in zip(result.segments, result.masks_nhw(), strict=True):
        counts = torch.bincount(red[mask].long(), minlength=COLOURS + 1)
        if int(mask.sum()):
            found[segment.track_id] = {c for c, n in enumerate(counts.tolist()) if n > 0.3 * int(mask.sum())}
    return found
