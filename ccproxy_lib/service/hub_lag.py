"""How late the hub is: what is on its mind keeps everybody waiting."""

from __future__ import annotations

import time

import gevent

EVERY_S = 1.0


class HubLag:
    """Measures, once a second, how long after its time a timer fires.

    ``last_s`` is the newest reading, ``worst_s`` the worst since the start.
    """

    def __init__(self) -> None:
        self.last_s = 0.0
        self.worst_s = 0.0

    def start(self) -> None:
        """Begin to measure, for ever, in a greenlet of its own."""
        gevent.spawn(self._measure)

    def _measure(self) -> None:
        while True:
            due_s = time.monotonic() + EVERY_S
            gevent.sleep(EVERY_S)
            self.last_s = max(0.0, time.monotonic() - due_s)
            self.worst_s = max(self.worst_s, self.last_s)
