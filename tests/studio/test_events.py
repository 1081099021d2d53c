"""Telling tabs what happens."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from maskstream.studio.events import MOST_TABS, Broadcast, Event
from maskstream.types import InputError

Answer = TypeVar("Answer")


def masks(revision: int, *frames: int) -> Event:
    return {"type": "masks", "revision": revision, "frames": list(frames)}


def job(number: str, done: int) -> Event:
    return {"type": "job", "id": number, "done": done}


def ended(number: str) -> Event:
    return {"type": "ended", "id": number}


def state(revision: int) -> Event:
    return {"type": "state", "revision": revision}


def finished(work: Coroutine[Any, Any, Answer]) -> Answer:
    """What comes of it, in a thread of its own: that of the tests may have the loop of a browser."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def told(*events: Event) -> list[Event]:
    """What a tab hears that was asleep while these happened."""

    async def run() -> list[Event]:
        broadcast = Broadcast()
        with broadcast.tab() as tab:
            for event in events:
                broadcast.publish(event)
            return await tab.take()

    return finished(run())


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([state(1), state(2)], [state(2)], id="the last state is the state"),
        pytest.param([masks(1, 5, 3), masks(2, 3, 4)], [masks(2, 3, 4, 5)], id="masks of all frames, once each"),
        pytest.param([job("1", 1), job("1", 2)], [job("1", 2)], id="how far the job is now"),
        pytest.param([job("1", 1), ended("1")], [ended("1")], id="a job that has ended is not under way"),
        pytest.param([ended("1"), job("2", 1)], [ended("1"), job("2", 1)], id="the next one is"),
        pytest.param([job("2", 1), ended("1")], [ended("1"), job("2", 1)], id="also where the end comes late"),
        pytest.param(
            [state(3), job("1", 9), ended("0"), masks(3, 1)],
            [masks(3, 1), ended("0"), job("1", 9), state(3)],
            id="masks first, the state last",
        ),
        pytest.param(
            [ended(str(n)) for n in range(20)], [ended(str(n)) for n in range(12, 20)], id="only the last ends are kept"
        ),
    ],
)
def test_a_tab_that_was_asleep_hears_what_matters_now(events: list[Event], expected: list[Event]):
    assert told(*events) == expected


def test_a_tab_that_never_listens_costs_the_frames_of_the_video_and_no_more():
    heard = told(*(event for n in range(20_000) for event in (masks(n, n % 100), job("1", n), state(n))))
    assert [event["type"] for event in heard] == ["masks", "job", "state"]
    assert heard[0]["frames"] == list(range(100))


def test_every_tab_hears_everything_from_other_threads_in_order():
    async def run() -> list[list[int]]:
        broadcast = Broadcast()

        async def listen() -> list[int]:
            heard: list[int] = []
            with broadcast.tab() as tab:
                ready.release()
                while not heard or heard[-1] != 999:
                    heard += [int(str(event["revision"])) for event in await tab.take()]
            return heard

        def speak() -> None:
            for _ in range(3):
                ready.acquire()
            for n in range(1000):
                broadcast.publish(state(n))

        ready = threading.Semaphore(0)
        speaker = threading.Thread(target=speak)
        speaker.start()
        heard = await asyncio.wait_for(asyncio.gather(*(listen() for _ in range(3))), 20)
        speaker.join()
        assert not broadcast._tabs
        return list(heard)

    for heard in finished(run()):
        assert heard == sorted(set(heard))
        assert heard[-1] == 999


def test_a_tab_waits_until_there_is_something():
    async def run() -> None:
        broadcast = Broadcast()
        with broadcast.tab() as tab:
            waiting = asyncio.create_task(tab.take())
            await asyncio.sleep(0.01)
            assert not waiting.done()
            broadcast.publish(state(1))
            assert await waiting == [state(1)]
            again = asyncio.create_task(tab.take())
            await asyncio.sleep(0.01)
            assert not again.done()
            again.cancel()

    finished(run())


def test_publishing_after_the_loop_has_ended_is_no_error():
    broadcast = Broadcast()

    async def leave_one() -> object:
        listening = broadcast.tab()
        listening.__enter__()
        return listening

    kept = finished(leave_one())
    broadcast.publish(state(1))
    assert kept is not None


def test_there_is_an_end_to_tabs():
    async def run() -> None:
        broadcast = Broadcast()
        listening = [broadcast.tab() for _ in range(MOST_TABS)]
        for tab in listening:
            tab.__enter__()
        with pytest.raises(InputError, match=f"{MOST_TABS} tabs are open: close one"), broadcast.tab():
            pass
        listening[0].__exit__(None, None, None)
        with broadcast.tab():
            pass

    finished(run())
