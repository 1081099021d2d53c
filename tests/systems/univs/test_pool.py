"""The memory pool: what is read equals what the authors' growing store would give (specification §8, check 8)."""

import pytest
import torch

from maskstream.systems.univs.pool import MemoryPool
from maskstream.systems.univs.prompts import Tokens

TOKENS, CHANNELS = 2, 3
CPU = torch.device("cpu")


class GrowingStore:
    """As the authors keep it: tokens of all frames, for ever."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.tokens = torch.zeros(0, 0, TOKENS, CHANNELS)
        self.appeared: list[int] = []

    def advance(self, stop: int) -> None:
        new = stop - self.tokens.shape[1]
        self.tokens = torch.cat([self.tokens, torch.zeros(len(self.tokens), new, TOKENS, CHANNELS)], 1)

    def add(self, of_frames: list[torch.Tensor], at: list[int]) -> None:
        new = torch.zeros(len(at), self.tokens.shape[1], TOKENS, CHANNELS)
        new[:, -len(of_frames) :] = torch.stack(of_frames, 1)
        self.tokens = torch.cat([self.tokens, new])
        self.appeared += at

    def write(self, position: int, tokens: torch.Tensor, which: torch.Tensor) -> None:
        for n in which.nonzero()[:, 0].tolist():
            for later in range(position, self.tokens.shape[1]):
                self.tokens[n, later] = tokens[n]

    def remembered(self) -> torch.Tensor:
        first = torch.stack([self.tokens[n, at] for n, at in enumerate(self.appeared)])
        return torch.cat([first[:, None], self.tokens[:, -self.frames :]], 1)


def tokens_of(values):
    return Tokens(values, -values)


@pytest.mark.parametrize("memory", [5, 10])
@pytest.mark.parametrize(("length", "stride"), [(5, 1), (5, 3), (5, 5), (1, 1)])
def test_what_is_read_is_what_a_growing_store_would_give(memory, length, stride):
    generator = torch.Generator().manual_seed(memory + stride)

    def drawn(count):
        return torch.randn(count, TOKENS, CHANNELS, generator=generator)

    pool, store = MemoryPool(memory, tokens=TOKENS, channels=CHANNELS, device=CPU), GrowingStore(memory)
    stored = []
    for clip in range(12):
        first, stop = clip * stride, clip * stride + length
        pool.advance(stop)
        store.advance(stop)
        for position in range(first, stop - stride):
            values = drawn(len(pool))
            which = torch.rand(len(pool), generator=generator) > 0.3
            pool.write(position, tokens_of(values), which)
            store.write(position, values, which)
        if clip % 4 == 0:
            values = [drawn(2) for _ in range(length)]
            pool.add([tokens_of(x) for x in values], [first, stop - 1])
            store.add(values, [first, stop - 1])
        if clip == 6:
            pool.keep([0, 3])
            store.tokens, store.appeared = store.tokens[[0, 3]], [store.appeared[n] for n in (0, 3)]
        read = torch.stack([tokens.content_nrc for tokens in pool.remembered()], 1)
        assert torch.equal(read, store.remembered())
        codes = torch.stack([tokens.code_nrc for tokens in pool.remembered()], 1)
        assert torch.equal(codes, -read)
        stored.append(sum(x.numel() for x in pool.state_dict()["tokens"]) / len(pool))
    assert len(set(stored[-3:])) == 1  # of a target, however long the video is


def test_the_frame_an_object_was_pointed_out_on_is_remembered_for_ever_and_may_be_another_one():
    pool = MemoryPool(2, tokens=1, channels=1, device=CPU)
    pool.advance(1)
    pool.add([tokens_of(torch.full((1, 1, 1), 7.0))], [0])
    for stop in range(2, 9):
        pool.advance(stop)
        pool.write(stop - 1, tokens_of(torch.full((1, 1, 1), float(stop))), torch.tensor([True]))
    assert [float(tokens.content_nrc) for tokens in pool.remembered()] == [7.0, 7.0 + 0, 8.0]
    pool.pin({0: 7})
    pool.advance(20)
    assert [float(tokens.content_nrc) for tokens in pool.remembered()] == [8.0, 0.0, 0.0]


def test_state_goes_on_where_it_was_taken_and_is_not_written_to():
    pool = MemoryPool(3, tokens=1, channels=1, device=CPU)
    pool.advance(3)
    pool.add([tokens_of(torch.ones(2, 1, 1))] * 3, [0, 2])
    state = pool.state_dict()
    pool.write(0, tokens_of(torch.zeros(2, 1, 1)), torch.tensor([True, True]))
    again = MemoryPool(3, tokens=1, channels=1, device=CPU)
    again.load_state_dict(state)
    again.advance(9)
    assert [tokens.content_nrc.flatten().tolist() for tokens in again.remembered()] == [[1, 1], [0, 0], [0, 0], [0, 0]]
