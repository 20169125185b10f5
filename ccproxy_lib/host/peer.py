"""Who is at the other end of a Unix socket, and whether that one may be served."""

import os
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59  # Linux 4.13 and newer; Python has no name for it
_GID_BYTES = 4
# The most that Python's getsockopt takes; a peer with more groups counts as having none.
_GROUPS_BYTES = 1024


class Peer(NamedTuple):
    """Process, user and group ids of a client, as the kernel noted them when it connected."""

    pid: int
    uid: int
    gid: int


def peer_of(client: socket.socket) -> Peer | None:
    """Return a client's credentials, or None where the platform cannot tell."""
    try:
        raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except (AttributeError, OSError):
        return None
    return Peer(*_CREDENTIALS.unpack(raw))


def may_enter(client: socket.socket, peer: Peer, socket_gid: Callable[[], int | None]) -> bool:
    """Whether a client is root, the daemon's own user, or in the group of the daemon's socket.

    ``socket_gid`` returns None where the socket has no file, and so no group.
    """
    if peer.uid == 0 or peer.uid == os.geteuid():
        return True
    gid = socket_gid()
    return gid is not None and gid in (peer.gid, *_supplementary_groups(client))


def _supplementary_groups(client: socket.socket) -> tuple[int, ...]:
    try:
        raw = client.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // _GID_BYTES}I", raw)
