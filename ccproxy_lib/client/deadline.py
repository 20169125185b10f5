"""How long a call may still take."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What one wait of the operating system may be asked for.
LONGEST_WAIT_S = 3600.0


class Deadline:
    """The end of a time of ``timeout_s`` seconds from now; None is never."""

    __slots__ = ("_end_s", "timeout_s")

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self._end_s = math.inf if timeout_s is None else time.monotonic() + timeout_s

    def passed(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._end_s

    def left_s(self) -> float:
        """Return how long to wait at most, over 0, before looking again."""
        return min(max(self._end_s - time.monotonic(), 0.001), LONGEST_WAIT_S)


@contextmanager
def held(
    lock: threading.Lock, deadline: Deadline, late: Callable[[Deadline], Exception]
) -> Iterator[None]:
    """Hold ``lock``; raises what ``late`` makes of the deadline once that has passed."""
    while not lock.acquire(timeout=deadline.left_s()):
        if deadline.passed():
            raise late(deadline)
    try:
        yield
    finally:
        lock.release()
