"""Sentences that describe what is to be followed (UniVS, §4.2; specification §10, RefVOS)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from maskstream.identity import ObjectTable
from maskstream.mask2former.clips import Clip
from maskstream.mask2former.network import ClipFeatures
from maskstream.types import Event, InputError, StalePromptError, StateDict, TextPrompt

from .network import Answers, ClipMaps, Prompts, UniVSNetwork
from .tracking import ClipMasks, Identities

ReadTexts: TypeAlias = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""From P texts to sentences ``float[P, D]`` and their words ``float[P, W, D]``."""


@dataclass(frozen=True, slots=True, eq=False)
class _Described:
    """An expression that is followed, since a frame, and what it says."""

    track_id: int
    text: str
    since: int
    sentence_d: Tensor = field(repr=False)
    words_wd: Tensor = field(repr=False)


class Expressions:
    """The sentences of a video, those that wait for their frame and those that are followed.

    Args:
        read: what they say; None: there is no text tower.
        identities: of nobody yet.
        device: of all tensors.
    """

    def __init__(self, read: ReadTexts | None, identities: Identities, device: torch.device) -> None:
        self._read = read
        self._identities = identities
        self._device = device
        self._waiting: list[TextPrompt] = []
        self._followed: list[_Described] = []
        self._masks = ClipMasks()

    def __len__(self) -> int:
        """How many are followed."""
        return len(self._followed)

    def check(self, texts: Sequence[TextPrompt], *, emitted: int, taken: Collection[str | None]) -> None:
        """Complain of sentences that do not fit.

        Args:
            texts: that came.
            emitted: index of the last frame whose result has left.
            taken: names of prompts that results carry already.

        Raises:
            StalePromptError: a frame has left already.
            InputError: nobody can read them, one asks for a class, is given twice, or has a word that nobody knows.
        """
        names = [*taken, *(text.prompt_id for text in self._waiting)]
        for text in texts:
            if self._read is None:
                raise InputError(
                    f"the text prompt {text.text!r} needs a text tower, and these weights have none: give its folder "
                    "(--text-encoder)"
                )
            if text.kind != "expression":
                raise InputError(
                    f'the text prompt {text.text!r} asks for any number of objects: say kind="expression" for one, or '
                    "name it as a class of the task vis or vps"
                )
            if text.frame_index <= emitted:
                raise StalePromptError(
                    f"the text prompt {text.text!r} is on frame {text.frame_index}, but frames up to {emitted} were "
                    "already emitted: give it a later frame_index"
                )
            if text.prompt_id in names:
                raise InputError(f"the sentence {text.prompt_id!r} is given twice: once is enough")
            names.append(text.prompt_id)
            self._read([text.text])

    def add(self, texts: Sequence[TextPrompt]) -> None:
        """Take sentences that were checked."""
        self._waiting += texts

    def waits(self, last: int) -> bool:
        """Whether one waits for a frame up to this index."""
        return any(text.frame_index <= last for text in self._waiting)

    def refuse_leftover(self, last: int) -> None:
        """Complain of a sentence whose frame never came; ``last`` is the last that did."""
        if self._waiting:
            text = self._waiting[0]
            raise InputError(
                f"the text prompt {text.text!r} is on frame {text.frame_index}, but the video ended at frame {last}"
            )

    def listen(self, clip: Clip[ClipFeatures], maps: ClipMaps, objects: ObjectTable) -> list[Event]:
        """Go on to a clip, and begin sentences whose frame is there."""
        self._masks.advance(clip.first, len(clip.frames), maps.mask_features_tchw)
        events = []
        due = [text for text in self._waiting if text.frame_index <= clip.frames[-1].index]
        self._waiting = [text for text in self._waiting if text not in due]
        for text in due:
            since = next(clip.first + t for t, frame in enumerate(clip.frames) if frame.index >= text.frame_index)
            record = objects.add(prompt_id=text.prompt_id)
            self._followed.append(self._understood(record.track_id, text.text, since))
            self._masks.add(1)
            self._identities.add(1)
            events.append(Event("born", record.track_id, "a person described it"))
        return events

    def prompts(self, network: UniVSNetwork, maps: ClipMaps) -> Prompts:
        """All that are followed."""
        sentences_pd = torch.stack([one.sentence_d for one in self._followed])
        words_pwd = torch.stack([one.words_wd for one in self._followed])
        return network.text_prompts("expression", sentences_pd, words_pwd, maps)

    def follow(self, clip: Clip[ClipFeatures], found: Answers, least: float) -> None:
        """What queries say; sentences may share pixels. Who is less like itself before is not there."""
        positions_t = torch.arange(clip.first, clip.stop, device=self._device)
        since_p = torch.tensor([one.since for one in self._followed], device=self._device)
        counts_pt = positions_t >= since_p[:, None]
        similarity_p = self._identities.similarity(found.embeddings_qtc)
        seen_p = ~self._identities.known_n | (similarity_p > least)
        self._masks.vote(found.masks_qthw.float(), seen_p[:, None] & counts_pt)
        self._identities.push(mean_where(found.embeddings_qtc, counts_pt), seen_p)

    def there(self, t: int) -> tuple[list[int], Tensor]:
        """Tracks that are on frame t of the clip, and their masks, ``float[P, h, w]``, logits."""
        which = [n for n in range(len(self)) if bool(self._masks.votes_nt[n, t])]
        return [self._followed[n].track_id for n in which], self._masks.sum_nthw[which, t]

    def forget(self, track_ids: Collection[int]) -> None:
        """Follow these no more."""
        kept = [n for n, one in enumerate(self._followed) if one.track_id not in track_ids]
        self._followed = [self._followed[n] for n in kept]
        self._masks.keep(kept)
        self._identities.keep(kept)

    def state_dict(self) -> StateDict:
        """Everything as plain data; texts are read again."""
        return {
            "waiting": [[text.text, text.prompt_id, text.frame_index] for text in self._waiting],
            "followed": [[one.track_id, one.text, one.since] for one in self._followed],
            "masks": self._masks.state_dict(),
            "identities": self._identities.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`."""
        self._waiting = [TextPrompt(text, "expression", name, index) for text, name, index in state["waiting"]]
        self._followed = [self._understood(*plain) for plain in state["followed"]]
        self._masks.load_state_dict(state["masks"], self._device)
        self._identities.load_state_dict(state["identities"])

    def _understood(self, track_id: int, text: str, since: int) -> _Described:
        assert self._read is not None
        sentences_pd, words_pwd = (x.to(self._device) for x in self._read([text]))
        return _Described(track_id, text, since, sentences_pd[0], words_pwd[0])


def mean_where(embeddings_ntc: Tensor, counts_nt: Tensor) -> Tensor:
    """Means over the frames that count, or over all where none does, ``float[N, C]``."""
    counts_nt = counts_nt | ~counts_nt.any(1, keepdim=True)
    weights_nt = counts_nt / counts_nt.sum(1, keepdim=True)
    return torch.einsum("ntc,nt->nc", embeddings_ntc, weights_nt)
