"""The daemon: accepting clients, and coming to an orderly end."""

from __future__ import annotations

import logging
import signal
import socket
import time

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer

from ccproxy_lib.host.listener import Listener
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.commands import HANDLERS
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.state.limits import Limits

# Larger than the default, so that a burst of output leaves in one go; the kernel
# caps it.
CLIENT_SEND_BUFFER_BYTES = 1 << 20

log = logging.getLogger(__name__)


class Daemon:
    """One proxy on one socket.

    In pod mode it serves one VM and ends when that is unregistered and its last
    session has drained.
    """

    def __init__(self, listener: Listener, limits: Limits, pod: bool = False) -> None:
        self._listener = listener
        self._limits = limits
        self._stopping = Event()
        on_vm_closed = self._stopping.set if pod else lambda: None
        self.proxy = Proxy(listener.uri, limits, HANDLERS, on_vm_closed)
        self._server = StreamServer(listener.socket, self._serve, spawn=Pool(limits.max_clients))

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or the end of the pod; then stop in order."""
        gevent.signal_handler(signal.SIGTERM, self._stopping.set)
        gevent.signal_handler(signal.SIGINT, self._stopping.set)
        self._server.start()
        log.info("listening", extra=tags(path=self._listener.path))
        self._stopping.wait()
        self._stop()

    def _serve(self, client: socket.socket, address: object) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CLIENT_SEND_BUFFER_BYTES)
        self.proxy.serve_client(client)

    def _stop(self) -> None:
        log.info("stopping")
        deadline_s = time.monotonic() + self._limits.shutdown_timeout_s
        self._server.stop_accepting()
        self._listener.close()
        for link in tuple(self.proxy.links.values()):
            link.close("the proxy is stopping")
        for connection in tuple(self.proxy.connections):
            connection.hang_up()
        self._server.stop(timeout=max(0.0, deadline_s - time.monotonic()))
        log.info("stopped")
