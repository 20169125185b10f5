"""Greenlets that do one job after another.

To make a greenlet and to end it takes longer than to serve a command: the kernel
maps memory for its stack, and takes that back.  So those that have done their job
wait for the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from gevent import getcurrent
from gevent.hub import get_hub
from gevent.pool import Pool
from greenlet import greenlet

# So many wait for a job at most; a burst of VMs or clients leaves no more behind.
MAX_IDLE = 32


class Crew(Pool):
    """Runs jobs, ``size`` of them at once at most (None: any number).

    Nobody gets to know the greenlet of a job, so nobody can end it.
    """

    def __init__(self, size: int | None = None) -> None:
        super().__init__(size)
        self._hub = get_hub()
        self._jobs: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._idle: list[greenlet] = []
        self._max_idle = MAX_IDLE

    def spawn(self, job: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        """Have a job done soon.  Errors that it leaves uncaught end as those of any greenlet."""
        self._jobs.append((job, args))
        if self._idle:
            self._hub.loop.run_callback(self._idle.pop().switch)
        else:
            super().spawn(self._work)

    def join(self, timeout: float | None = None, raise_error: bool = False) -> bool:
        """Wait until all jobs are done; those that wait for one are let go."""
        self._max_idle = 0
        while self._idle:
            self._hub.loop.run_callback(self._idle.pop().switch)
        return super().join(timeout, raise_error)

    def _work(self) -> None:
        """Do a job for each time that it is woken."""
        while self._jobs:
            job, args = self._jobs.popleft()
            job(*args)
            del job, args  # they must not be kept until the next one
            # Where the pool is full, somebody waits for one of its greenlets to end.
            if len(self._idle) >= self._max_idle or self.full():
                return
            self._idle.append(getcurrent())
            self._wait_for_job()

    def _wait_for_job(self) -> None:
        self._hub.switch()


def is_idle(each: greenlet) -> bool:
    """Whether a greenlet does nothing but wait for a job."""
    frame = each.gr_frame
    return frame is not None and frame.f_code is Crew._wait_for_job.__code__
