"""A TCP socket to listen on, and what may be told of its address."""

from __future__ import annotations

import ipaddress
import re
import socket

from ccproxy_lib.errors import StartError

BACKLOG = 64
# Behind a name, an IPv4 address, or an IPv6 address in brackets.
_PORT = re.compile(r"(?<=[^:]):\d*$")


class TcpListener:
    """A listening TCP socket; ``loopback`` tells whether only this host can reach it."""

    def __init__(self, listening: socket.socket) -> None:
        self.socket = listening
        address, port = listening.getsockname()[:2]
        self.loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
        self.uri = f"http://{f'[{address}]' if ':' in address else address}:{port}/"

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def listen(host: str, port: int) -> TcpListener:
    """Listen at an address or a host's name; port 0 is a free one.

    Raises StartError, one sentence, if that fails.
    """
    return TcpListener(_bind(host.removeprefix("[").removesuffix("]"), port))


def is_foreign_name(host: str) -> bool:
    """Whether an HTTP Host header names a host that may be somebody else's.

    A page from anywhere can have its own name resolve to this host, and its
    scripts would then reach us under that name.  They cannot with an address or
    with localhost.
    """
    name = _PORT.sub("", host.strip().lower())
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if name in ("", "localhost"):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def _bind(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # As Go does it: the old family first where a name has both.
        family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartError(f"cannot listen on {host}:{port}: {reason}") from None
    return listening
