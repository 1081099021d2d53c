"""One job at a time, that can be watched and stopped."""

import threading

import pytest

from maskstream.studio.jobs import BusyError, Event, Job, Jobs
from maskstream.types import InputError


@pytest.fixture
def jobs():
    jobs = Jobs()
    yield jobs
    jobs.stop()


def watched(jobs: Jobs) -> list[Event]:
    events: list[Event] = []
    jobs.listen(events.append)
    return events


def test_a_job_is_told_of_from_its_progress_to_its_end(jobs):
    events = watched(jobs)

    def work(job: Job) -> dict[str, object]:
        for done in (1, 2):
            job.advance(done, 2)
            job.masks(7, [done])
        return {"download": "/a.zip", "message": "ready"}

    job = jobs.start("export", work)
    assert job.wait(10)
    assert [event["type"] for event in events] == ["job", "masks", "job", "masks", "ended"]
    first, masks, _, _, last = events
    assert (first["id"], first["what"], first["done"], first["total"]) == (1, "export", 1, 2)
    assert masks == {"type": "masks", "revision": 7, "frames": [1]}
    ended = {"type": "ended", "id": 1, "what": "export", "outcome": "done"}
    assert last == {**ended, "message": "ready", "download": "/a.zip"}
    assert jobs.start("next", lambda job: None).id == 2


def test_rate_and_time_left_follow_from_what_is_done(jobs, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("maskstream.studio.jobs.time.monotonic", lambda: now[0])
    job = Job(1, "count", lambda event: None)
    assert (job.to_plain()["rate"], job.to_plain()["left"]) == (None, None)
    now[0] = 130.0  # loading
    job.advance(0, 10)
    now[0] = 132.0
    job.advance(4, 10)
    assert (job.to_plain()["rate"], job.to_plain()["left"]) == (2.0, 3.0)


def test_only_one_job_runs_at_a_time(jobs):
    go_on = threading.Event()
    job = jobs.start("first", lambda job: (go_on.wait(10), None)[1])
    with pytest.raises(BusyError, match="first is under way: wait, or stop it"):
        jobs.start("second", lambda job: None)
    assert jobs.current is job
    go_on.set()
    assert job.wait(10)
    assert jobs.current is None
    assert jobs.start("second", lambda job: None).wait(10)


def test_a_job_stops_where_it_says_how_far_it_is(jobs):
    events = watched(jobs)
    began = threading.Event()
    reached: list[int] = []

    def work(job: Job) -> None:
        for done in range(10**9):
            reached.append(done)
            began.set()
            job.advance(done, 10**9)

    jobs.start("count", work)
    assert began.wait(10)
    jobs.stop()
    assert jobs.current is None
    assert (events[-1]["outcome"], events[-1]["message"]) == ("stopped", "")
    count = len(reached)
    jobs.stop()  # there is none
    assert len(reached) == count


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("the mask is too small"), "the mask is too small"),
        (RuntimeError("out of memory"), "export failed: out of memory"),
        (KeyError(), "export failed: KeyError"),
    ],
)
def test_a_job_that_fails_says_why(jobs, error, message):
    events = watched(jobs)

    def work(job: Job) -> None:
        raise error

    assert jobs.start("export", work).wait(10)
    assert (events[-1]["outcome"], events[-1]["message"]) == ("failed", message)
    assert jobs.current is None


def test_listeners_come_and_go(jobs):
    first: list[Event] = []
    second: list[Event] = []
    unsubscribe = jobs.listen(first.append)
    jobs.listen(second.append)
    jobs.tell({"type": "masks"})
    unsubscribe()
    unsubscribe()
    jobs.tell({"type": "masks"})
    assert (len(first), len(second)) == (1, 2)


def test_a_listener_may_begin_the_next_job_and_stop_jobs(jobs):
    """The end is told when the job is no longer under way, with nothing locked."""
    outcomes: list[str] = []
    last = threading.Event()

    def listener(event: Event) -> None:
        if event["type"] == "ended":
            outcomes.append(event["what"])
            jobs.stop()
            if event["what"] == "first":
                jobs.start("second", lambda job: None)
            else:
                last.set()

    jobs.listen(listener)
    jobs.start("first", lambda job: None)
    assert last.wait(10)
    assert outcomes == ["first", "second"]


def test_a_job_that_stops_itself_does_not_wait_for_itself(jobs):
    events = watched(jobs)

    def work(job: Job) -> None:
        jobs.stop()
        job.check()

    assert jobs.start("own", work).wait(10)
    assert events[-1]["outcome"] == "stopped"
