"""The agent's greenlets, and the one place where their errors arrive."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.pool import Group

from ccproxy_lib.errors import ProtocolError

BUG_STATUS = 1
# EX_SOFTWARE of sysexits.h: where a real agent powers its VM off.
POWERED_OFF_STATUS = 70

log = logging.getLogger(__name__)


class Life:
    """Runs jobs until one of them, a signal or :meth:`end` says that it is over."""

    def __init__(self) -> None:
        self._jobs = Group()
        self._over = Event()
        self._status = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            gevent.signal_handler(number, self.end, 128 + number)

    def spawn(self, job: Callable[..., None], *args: object) -> gevent.Greenlet[..., None]:
        """Run a job in a greenlet of its own; an error in it ends the agent."""
        return self._jobs.spawn(self._guard, job, *args)

    def end(self, status: int) -> None:
        """End with this exit status; only the first call counts."""
        if not self._over.is_set():
            self._status = status
            self._over.set()

    def wait(self) -> int:
        """Return the exit status once it is over and no job runs any more."""
        self._over.wait()
        self._jobs.kill()
        return self._status

    def _guard(self, job: Callable[..., None], *args: object) -> None:
        try:
            job(*args)
        except ProtocolError as error:
            log.error("powering off: %s", error)
            self.end(POWERED_OFF_STATUS)
        except Exception:
            log.exception("powering off: a bug in this agent")
            self.end(BUG_STATUS)
