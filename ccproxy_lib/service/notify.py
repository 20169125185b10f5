"""Keeping the service manager informed while the daemon serves."""

from __future__ import annotations

import os
from collections.abc import Callable

import gevent

from ccproxy_lib.host.notify import Manager, Notifier

# At most so often the status is told, and what was not taken is said again.
STATUS_EVERY_S = 1.0
# The manager gives up on us when there was no ping for all of its time.
PINGS_PER_TIME = 2


class ManagerReport:
    """Tells ``manager`` that the daemon serves, what it is doing, and that it ends.

    Pings come from the hub's timers, so they stop when the hub does not turn.
    """

    def __init__(self, manager: Manager) -> None:
        self._notifier = Notifier(manager.address)
        self._watchdog_s = manager.watchdog_s
        self._ready = ["READY=1"]
        if os.getpid() != manager.pid:
            self._ready.append(f"MAINPID={os.getpid()}")
        self._stopping = False

    def serving(self, status: Callable[[], str]) -> None:
        """The socket answers; ``status`` returns one line that says what is going on."""
        gevent.spawn(self._tell, status)
        if self._watchdog_s is not None:
            gevent.spawn(self._ping, self._watchdog_s / PINGS_PER_TIME)

    def stopping(self) -> None:
        """The daemon is about to end; nothing but this is told from now on."""
        self._stopping = True
        self._notifier.send("STOPPING=1", "STATUS=Stopping")
        self._notifier.close()

    def _tell(self, status: Callable[[], str]) -> None:
        """Follow the status; the greenlet that says so when it has changed."""
        told = ""
        while not self._stopping:
            current = status()
            ready = () if told else self._ready
            if current != told and self._notifier.send(*ready, f"STATUS={current}"):
                told = current
            gevent.sleep(STATUS_EVERY_S)

    def _ping(self, every_s: float) -> None:
        """Say that the hub turns; the greenlet of the watchdog."""
        while not self._stopping:
            self._notifier.send("WATCHDOG=1")
            gevent.sleep(every_s)
