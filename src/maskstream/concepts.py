"""What a session looks for: its categories, and concepts that a person names on the way."""

from __future__ import annotations

from collections.abc import Sequence

from maskstream.types import Category, CategorySet, InputError, StalePromptError, StateDict, TextPrompt


class Concepts:
    """Categories of a session. A concept becomes one more, from the frame of its prompt on.

    Args:
        categories: what is looked for from the beginning; None for everything the detector knows.
        reads: whether the detector looks for whatever it is told.
    """

    def __init__(self, categories: CategorySet | None, *, reads: bool) -> None:
        self._given = categories
        self._reads = reads
        self._prompts: list[TextPrompt] = []

    @property
    def categories(self) -> CategorySet | None:
        """Everything that is looked for on any frame; None for everything the detector knows."""
        return self._with(self._prompts)

    def on(self, frame_index: int) -> CategorySet | None:
        """What is looked for on a frame.

        Raises:
            InputError: the detector has to be told, and was told nothing at all.
        """
        if self._reads and self._given is None and not self._prompts:
            raise InputError("this model finds what it is told to look for: name classes, as in --classes cat,dog")
        return self._with([prompt for prompt in self._prompts if prompt.frame_index <= frame_index])

    def begin_between(self, last: int, frame_index: int) -> bool:
        """Whether a concept was asked for on this frame, or on one that was left out since the last."""
        return any(last < prompt.frame_index <= frame_index for prompt in self._prompts)

    def prompt_id(self, category: int | None) -> str | None:
        """The prompt that asks for a category, if one does."""
        return next((p.prompt_id for n, p in self._numbered(self._prompts) if n == category), None)

    def check(self, prompts: Sequence[TextPrompt], *, emitted: int) -> None:
        """Complain of prompts that do not fit.

        Args:
            prompts: that came.
            emitted: index of the last frame whose result has left.

        Raises:
            StalePromptError: a frame has left already.
            InputError: the detector does not read, a sentence is meant, or this is looked for already.
        """
        names = [*(() if self._given is None else self._given.names), *(p.text.strip() for p in self._prompts)]
        for prompt in prompts:
            if not self._reads:
                raise InputError(
                    f"the text prompt {prompt.text!r} needs a model that reads text, and a task without given objects; "
                    "this takes masks, boxes, points and scribbles"
                )
            if prompt.kind == "expression":
                raise InputError(
                    f"the sentence {prompt.text!r} has to be looked for all over the video, offline; as frames come, "
                    'only concepts are: say kind="concept" for every such object'
                )
            if prompt.frame_index <= emitted:
                raise StalePromptError(
                    f"the text prompt {prompt.text!r} is on frame {prompt.frame_index}, but frames up to {emitted} "
                    "were already emitted: give it a later frame_index"
                )
            if prompt.text.strip() in names:
                raise InputError(f"{prompt.text.strip()!r} is looked for already")
            names.append(prompt.text.strip())

    def add(self, prompts: Sequence[TextPrompt]) -> None:
        """Take prompts that were checked."""
        self._prompts += prompts

    def refuse_leftover(self, last: int) -> None:
        """Complain of a prompt whose frame never came; ``last`` is the last that did."""
        for prompt in self._prompts:
            if prompt.frame_index > last:
                raise InputError(
                    f"the text prompt {prompt.text!r} is on frame {prompt.frame_index}, "
                    f"but the video ended at frame {last}"
                )

    def state_dict(self) -> StateDict:
        """The prompts as plain data."""
        return {"prompts": [[prompt.text, prompt.prompt_id, prompt.frame_index] for prompt in self._prompts]}

    def load_state_dict(self, state: StateDict) -> None:
        """Undo `state_dict`; prompts that came meanwhile are dropped."""
        self._prompts = [TextPrompt(text, "concept", name, index) for text, name, index in state["prompts"]]

    def _with(self, prompts: Sequence[TextPrompt]) -> CategorySet | None:
        if not self._prompts and not (self._reads and self._given is None):
            return self._given
        given = CategorySet("words", ()) if self._given is None else self._given
        more = (Category(number, prompt.text.strip()) for number, prompt in self._numbered(prompts))
        return CategorySet(given.name, (*given.categories, *more))

    def _numbered(self, prompts: Sequence[TextPrompt]) -> list[tuple[int, TextPrompt]]:
        """Some of the prompts with the category each stands for; it is the same on every frame."""
        first = 1 + max((() if self._given is None else self._given.ids), default=0)
        return [(first + self._prompts.index(prompt), prompt) for prompt in prompts]
