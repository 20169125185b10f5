"""Greenlets that are used again."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from ccproxy_lib.service.crew import MAX_IDLE, Crew, is_idle


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    with gevent.Timeout(5):
        yield


def settle() -> None:
    """Let all run that can."""
    for _ in range(5):
        gevent.idle()


class Job:
    """Notes the greenlet that does it, and ends when it is told to."""

    def __init__(self) -> None:
        self.by: gevent.Greenlet[..., object] | None = None
        self.may_end = Event()

    def __call__(self) -> None:
        self.by = gevent.getcurrent()
        self.may_end.wait()


def test_jobs_one_after_another_are_done_by_one_greenlet() -> None:
    crew = Crew()
    done = []
    for number in range(3):
        crew.spawn(lambda number: done.append((number, gevent.getcurrent())), number)
        settle()
    assert [number for number, _ in done] == [0, 1, 2]
    assert len({by for _, by in done}) == 1


def test_jobs_at_once_are_begun_in_order_by_greenlets_of_their_own() -> None:
    crew = Crew()
    crew.spawn(lambda: None)
    settle()  # one of the two is used again, and one is new
    begun = []
    jobs = [Job(), Job()]
    for job in jobs:
        crew.spawn(lambda job: (begun.append(job), job()), job)
    settle()
    assert begun == jobs
    assert jobs[0].by is not jobs[1].by
    for job in jobs:
        job.may_end.set()
    assert crew.join()


def test_a_greenlet_without_a_job_is_idle_and_keeps_nothing_of_the_last_one() -> None:
    crew = Crew()
    job = Job()
    crew.spawn(job.__call__)
    settle()
    by = job.by
    assert by is not None and not is_idle(by)
    job.may_end.set()
    settle()
    assert is_idle(by)
    gone = weakref.ref(job)
    del job
    assert gone() is None


def test_a_job_that_fails_takes_its_greenlet_with_it_and_no_other(capsys) -> None:
    crew = Crew()
    crew.spawn(lambda: 1 // 0)
    settle()
    assert "ZeroDivisionError" in capsys.readouterr().err
    job = Job()
    crew.spawn(job)
    settle()
    assert job.by is not None
    job.may_end.set()
    assert crew.join()


def test_no_more_wait_for_jobs_than_is_worth_it() -> None:
    crew = Crew()
    for _ in range(MAX_IDLE + 10):
        crew.spawn(lambda: None)
    settle()
    assert len(crew) == MAX_IDLE


def test_a_full_crew_tells_those_who_wait_for_room() -> None:
    """As the accept loop does, by a link to the semaphore."""
    crew = Crew(2)
    jobs = [Job(), Job()]
    for job in jobs:
        assert not crew.full()
        crew.spawn(job)
    assert crew.full()
    settle()
    jobs[0].may_end.set()
    assert crew.wait_available(5)
    assert not crew.full()
    jobs[1].may_end.set()
    settle()
    # This one is used again, and does not take away the room of another.
    again = Job()
    crew.spawn(again)
    assert not crew.full()
    settle()
    assert again.by is jobs[1].by
    again.may_end.set()
    assert crew.join()


def test_a_crew_ends_when_all_jobs_are_done() -> None:
    crew = Crew()
    crew.spawn(lambda: None)
    settle()
    job = Job()
    crew.spawn(lambda: None)
    crew.spawn(job)
    settle()
    assert not crew.join(0.01)
    job.may_end.set()
    assert crew.join()
    assert len(crew) == 0
