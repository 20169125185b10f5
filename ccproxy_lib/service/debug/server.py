"""Serving HTTP to few and slow clients, without harm to the proxying."""

from __future__ import annotations

import logging
import socket
from types import TracebackType
from typing import Any, Protocol

import gevent
import gevent.socket
from gevent.lock import BoundedSemaphore
from gevent.pool import Pool
from gevent.pywsgi import Input, LoggingLogAdapter, WSGIHandler, WSGIServer

from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.accepting import AcceptingServer
from ccproxy_lib.service.debug.routes import Application
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.turns import give_way

MAX_CONNECTIONS = 32
# The longest profile, and some time to send it.
RESPONSE_TIMEOUT_S = 75.0
# One write to a client that does not read.
WRITE_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


class Place(Protocol):
    """Where to listen: a TCP socket or a Unix socket."""

    socket: socket.socket
    uri: str

    def close(self) -> None:
        """Listen no more."""
        ...


class DebugServer:
    """The HTTP endpoint of one proxy.

    ``loopback`` tells that ``place`` is a TCP socket that only this host reaches.
    """

    def __init__(self, place: Place, proxy: Proxy, loopback: bool) -> None:
        self._place = place
        self._server = _Server(
            place.socket,
            Application(proxy, only_local_names=loopback),
            spawn=Pool(MAX_CONNECTIONS),
            log=None,
            error_log=LoggingLogAdapter(log, logging.DEBUG),
            handler_class=_Handler,
            # Otherwise pywsgi asks the DNS for it.
            environ={"SERVER_NAME": "cc-proxy"},
        )
        self._server.request_timeout_s = proxy.limits.frame_timeout_s

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()
        log.info("debug endpoint", extra=tags(url=self._place.uri))

    def close(self) -> None:
        """Answer no more, and cut off whoever is connected."""
        self._server.stop(timeout=0)
        self._place.close()


class _Server(AcceptingServer, WSGIServer):
    # Until a request is whole; idle connections are closed by it, too.
    request_timeout_s = 0.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.turn = BoundedSemaphore()

    def do_read(self) -> Any:
        accepted = super().do_read()
        if accepted is None:
            return None
        client, address = accepted
        # What reads and writes HTTP relies on timeouts.
        wrapped = gevent.socket.socket(fileno=client.detach())
        wrapped.settimeout(WRITE_TIMEOUT_S)
        return wrapped, address


class _Handler(WSGIHandler):
    """One connection: bounded in time, silent on stderr."""

    server: _Server
    _reading: gevent.Timeout

    def handle_one_request(self) -> Any:
        """Serve one request; whoever takes too long over it is cut off."""
        self._reading = gevent.Timeout.start_new(self.server.request_timeout_s)
        try:
            return super().handle_one_request()
        except gevent.Timeout as timeout:
            if timeout is not self._reading:
                raise
            return None
        finally:
            self._reading.close()

    def handle_one_response(self) -> None:
        """Answer one request, within a time of its own."""
        self._reading.close()
        responding = gevent.Timeout.start_new(RESPONSE_TIMEOUT_S)
        try:
            self._wait_for_a_turn()
            super().handle_one_response()
        finally:
            responding.close()

    def _wait_for_a_turn(self) -> None:
        """Let the proxying have its turn between any two answers.

        Whoever sends requests without reading answers would keep the hub for as
        long as there are any, and several such clients would do so together.
        """
        with self.server.turn:
            give_way()

    def get_environ(self) -> dict[str, Any]:
        """Return the request; its body, which no route wants, is not read."""
        environ: dict[str, Any] = super().get_environ()
        if self.content_length or "HTTP_TRANSFER_ENCODING" in environ:
            self.close_connection = True
            self.wsgi_input = environ["wsgi.input"] = Input(self.rfile, 0)
        return environ

    def log_request(self) -> None:
        """Say what was asked for, and what the answer was."""
        fields = tags(request=self.requestline, status=self.code, bytes=self.response_length)
        log.debug("HTTP request", extra=fields)

    def _handle_client_error(self, error: Exception) -> Any:
        # Some are printed with a traceback otherwise; all of them are the client's fault.
        return super()._handle_client_error(ValueError(str(error)))  # type: ignore[misc]

    def _log_error(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType
    ) -> None:
        if issubclass(kind, (gevent.Timeout, gevent.GreenletExit, OSError)):
            log.debug("HTTP client cut off", extra=tags(reason=kind.__name__))
        else:
            log.error("HTTP request failed", exc_info=(kind, error, trace))
