"""Opening the HTTP endpoint for metrics and debugging where the flags say."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ccproxy_lib.errors import StartError
from ccproxy_lib.front.settings import Pprof
from ccproxy_lib.host.activation import listening_socket
from ccproxy_lib.host.listener import BoundListener, Listener
from ccproxy_lib.host.logs import tags
from ccproxy_lib.host.tcp_listener import TcpListener, listen
from ccproxy_lib.service.debug.server import DebugServer
from ccproxy_lib.service.proxy import Proxy

log = logging.getLogger(__name__)


@contextmanager
def serving(where: Pprof | int, proxy: Proxy) -> Iterator[None]:
    """Serve it meanwhile; a number is the descriptor of a socket that was passed for it.

    Raises StartError if the endpoint cannot be where it shall be.
    """
    place: Listener | TcpListener
    if isinstance(where, int):
        place = _passed(where)
    elif where.path:
        place = BoundListener(where.path)
    else:
        place = listen(where.host, where.port)
    loopback = isinstance(place, TcpListener) and place.loopback
    if isinstance(place, TcpListener) and not loopback:
        log.warning("debug endpoint is open to other hosts", extra=tags(url=place.uri))
    with closing(DebugServer(place, proxy, loopback)) as server:
        server.start()
        yield


def _passed(descriptor: int) -> Listener | TcpListener:
    listening = listening_socket(descriptor)
    if listening.family == socket.AF_UNIX:
        return Listener(listening, str(listening.getsockname()))
    if listening.family in (socket.AF_INET, socket.AF_INET6):
        return TcpListener(listening)
    listening.close()
    raise StartError("the socket that was passed for metrics is neither of TCP nor a Unix socket")
