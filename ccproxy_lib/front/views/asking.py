"""What it means, in words that are safe to print, when the daemon does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ccproxy_lib.errors import ProxyError
from ccproxy_lib.front.views.safe import plain

# What daemons answer that are older than these commands, before they hang up.
_UNKNOWN = "unknown command opcode"


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise each ProxyError from within as one that can be shown."""
    try:
        yield
    except ProxyError as error:
        if str(error).startswith(_UNKNOWN):
            text = "the daemon that runs is older than this program and does not know this command"
        else:
            text = plain(error)
        raise ProxyError(text) from None
