"""Where the proxy is."""

from __future__ import annotations

from ccproxy_lib.errors import ProxyError

DEFAULT_PATH = "/run/clear-containers/proxy.sock"
SCHEME = "unix://"


def path_of(address: str) -> str:
    """Return the path in ``/path/of/socket`` or ``unix:///path/of/socket``; ProxyError if none."""
    path = address.removeprefix(SCHEME)
    if not path or "://" in path:
        raise ProxyError(
            f"'{address}' is not the address of a Unix socket, like unix:///run/x.sock"
        )
    return path
