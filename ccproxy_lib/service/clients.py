"""The clients that are connected: who may be, how many, and their common end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from ccproxy_lib.host.logs import tags
from ccproxy_lib.host.peer import Peer, may_enter, peer_of
from ccproxy_lib.service.connection import Connection, Protocols
from ccproxy_lib.service.proxy import Proxy

log = logging.getLogger(__name__)


class Clients:
    """All client connections of one proxy.

    ``protocols`` are what speaks each version with a client; ``socket_gid``
    returns the group whose members may connect.
    """

    def __init__(
        self,
        proxy: Proxy,
        protocols: Protocols,
        socket_gid: Callable[[], int | None],
    ) -> None:
        self._proxy = proxy
        self._protocols = protocols
        self._socket_gid = socket_gid
        self._last_id = 0

    def serve(self, client: socket.socket) -> None:
        """Serve one client to its end; the greenlet of a connection."""
        self._last_id += 1
        peer = peer_of(client)
        if peer is not None and not may_enter(client, peer, self._socket_gid):
            self._proxy.counters.refusals["stranger"] += 1
            _log_stranger(peer)
            return
        self._proxy.counters.clients += 1
        refusal = self._refusal()
        connection = Connection(self._proxy, self._protocols, client, self._last_id, peer, refusal)
        self._proxy.clients.add(connection)
        try:
            connection.serve()
        except Exception:
            log.exception("client handler failed", extra=tags(client=connection.id))
        finally:
            self._proxy.clients.discard(connection)

    def hang_up(self) -> None:
        """Take no more from anybody; what clients are due still goes out."""
        for connection in tuple(self._proxy.clients):
            connection.hang_up()

    def drain(self) -> None:
        """Wait until everybody has been sent all that is due."""
        for connection in tuple(self._proxy.clients):
            connection.outbox.finish(None)

    def _refusal(self) -> str:
        """Return why another client cannot be served, or ""."""
        count = len(self._proxy.clients)
        if count < self._proxy.limits.max_clients:
            return ""
        self._proxy.counters.refusals["max-clients"] += 1
        return f"{count} clients are connected and no more are allowed (-max-clients)"


def _log_stranger(peer: Peer) -> None:
    log.warning(
        "client refused: neither root, nor the daemon's user, nor in its socket's group",
        extra=tags(pid=peer.pid, uid=peer.uid, gid=peer.gid),
    )
