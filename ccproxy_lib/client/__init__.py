"""The other side of the socket: what runtimes, shims and tools need, without gevent.

:class:`Client` is for a runtime's and an operator's calls, :class:`Shim` for the
streams of one process (:class:`Carrier` ties one to this program's own streams,
with :class:`Signals`), and the classes of :mod:`ccproxy_lib.client.events` are
what happens meanwhile.  All errors are a :class:`ProxyError` with one sentence.
docs/CLIENT.md shows how they go together.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccproxy_lib.client import events
    from ccproxy_lib.client.address import DEFAULT_PATH
    from ccproxy_lib.client.carrier import Carrier
    from ccproxy_lib.client.client import Client
    from ccproxy_lib.client.shim import Shim
    from ccproxy_lib.client.signals import Signals
    from ccproxy_lib.errors import ProxyError, ProxyLost, ProxyTimeout

__all__ = [
    "DEFAULT_PATH",
    "Carrier",
    "Client",
    "ProxyError",
    "ProxyLost",
    "ProxyTimeout",
    "Shim",
    "Signals",
    "events",
]
_HOMES = {
    "DEFAULT_PATH": "ccproxy_lib.client.address",
    "Carrier": "ccproxy_lib.client.carrier",
    "Client": "ccproxy_lib.client.client",
    "ProxyError": "ccproxy_lib.errors",
    "ProxyLost": "ccproxy_lib.errors",
    "ProxyTimeout": "ccproxy_lib.errors",
    "Shim": "ccproxy_lib.client.shim",
    "Signals": "ccproxy_lib.client.signals",
}


def __getattr__(name: str) -> object:
    """Load what is asked for: each container has a shim, which starts sooner without the rest."""
    if name == "events":
        return import_module("ccproxy_lib.client.events")
    if name not in _HOMES:
        raise AttributeError(f"module 'ccproxy_lib.client' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
