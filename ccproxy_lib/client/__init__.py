"""The other side of the socket: what runtimes, shims and tools need, without gevent.

:class:`Client` is for a runtime's and an operator's calls, :class:`Shim` for the
streams of one process (:class:`Carrier` ties one to this program's own streams,
with :class:`Signals`), and the classes of :mod:`ccproxy_lib.client.events` are
what happens meanwhile.  All errors are a :class:`ProxyError` with one sentence.
docs/CLIENT.md shows how they go together.
"""

from __future__ import annotations

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
