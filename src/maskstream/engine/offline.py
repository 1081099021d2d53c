"""What needs the whole video, as a session: so that it is written, and continued, as every other run is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from maskstream.types import (
    Frame,
    FrameSegmentation,
    InputError,
    Prompt,
    StateDict,
    Track,
)


class OfflineSession:
    """What an `OfflineSegmenter` says, behind the `Session` contract. The work is done when the first frame comes.

    Only the place in the video is saved: a run that was interrupted works the video through again, and goes on where
    it was.

    Args:
        answer: gives one result for each frame that will come, in order, when it is told the prompts. It complains of
            prompts at once, and does nothing else before the first result is asked for; see `OfflineSegmenter.run`.
    """

    latency = 0

    def __init__(self, answer: Callable[[Sequence[Prompt]], Iterator[FrameSegmentation]]) -> None:
        self._answer = answer
        self._prompts: list[Prompt] = []
        self._results: Iterator[FrameSegmentation] | None = None
        self._seen: dict[int, tuple[str | None, dict[int, int], int, int]] = {}

    def prompt(self, prompts: Sequence[Prompt]) -> None:
        """Say where objects are; see `Session.prompt`.

        Raises:
            InputError: a prompt does not fit, or frames have come already.
        """
        if self._results is not None:
            raise InputError("prompts on any frame have to be there before the first frame comes")
        self._answer([*self._prompts, *prompts])  # complains
        self._prompts += prompts

    def remove(self, object_ids: Sequence[int]) -> None:
        """Objects stay.

        Raises:
            InputError: one is to be removed.
        """
        if object_ids:
            raise InputError(f"object {object_ids[0]} cannot be removed where a video is gone over in both directions")

    def step(self, frame: Frame, *, force_key: bool = False) -> list[FrameSegmentation]:
        """The result of this frame."""
        if self._results is None:
            self._results = self._answer(self._prompts)
        for result in self._results:
            if result.frame_index == frame.index:
                self._note(result)
                return [result]
        raise InputError(f"frame {frame.index} came, but the video has no such frame any more")

    def finish(self) -> Iterator[FrameSegmentation]:
        """Nothing is held back."""
        yield from ()

    def tracks(self) -> list[Track]:
        """Every object that was visible on the frames that came."""
        return [
            Track(track_id, {c: n / sum(votes.values()) for c, n in votes.items()}, prompt_id, first, last)
            for track_id, (prompt_id, votes, first, last) in sorted(self._seen.items())
        ]

    def state_dict(self) -> StateDict:
        """The tracks so far; results are found again."""
        return {"seen": [[track_id, *seen] for track_id, seen in self._seen.items()]}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue where `state_dict` was taken; results of frames that do not come again are passed over."""
        self._seen = {
            track_id: (name, dict(votes), first, last) for track_id, name, votes, first, last in state["seen"]
        }

    def _note(self, result: FrameSegmentation) -> None:
        for segment, area in zip(result.segments, result.areas().tolist(), strict=True):
            if area:
                name, votes, first, _ = self._seen.get(
                    segment.track_id, (segment.prompt_id, {}, result.frame_index, result.frame_index)
                )
                if segment.category is not None:
                    votes[segment.category] = votes.get(segment.category, 0) + 1
                self._seen[segment.track_id] = name, votes, first, result.frame_index
