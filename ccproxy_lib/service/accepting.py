"""Accepting clients, also when there is no descriptor left for another one."""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

import gevent
from gevent.server import StreamServer

from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.stream import PlainSocket

# How long not to accept after a failure, and how often to say so.
BACK_OFF_S = 0.5
REPORT_EVERY_S = 10.0

log = logging.getLogger(__name__)


class AcceptingServer(StreamServer):
    """A StreamServer that waits and tries again where accepting fails, and says so seldom."""

    _reported_s = float("-inf")

    def do_read(self) -> Any:
        """Accept one client; None, and a pause in accepting, if that fails."""
        try:
            descriptor, address = self.socket._accept()  # type: ignore[attr-defined]
        except (BlockingIOError, ConnectionAbortedError):
            return None
        except OSError as error:
            self._back_off(error)
            return None
        # Not gevent's socket: a connection makes a stream of it, which has all it needs.
        # Python would ask the kernel for what it is not told of it.
        family, kind = self.socket.family, socket.SOCK_STREAM
        return PlainSocket(family, kind, 0, fileno=descriptor), address

    def _back_off(self, error: OSError) -> None:
        if time.monotonic() - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = time.monotonic()
            fields = tags(reason=error.strerror, retry_s=BACK_OFF_S)
            log.error("cannot accept clients; those that are connected go on", extra=fields)
        self.stop_accepting()
        gevent.spawn_later(BACK_OFF_S, self._resume)

    def _resume(self) -> None:
        if self.started:
            self.start_accepting()
