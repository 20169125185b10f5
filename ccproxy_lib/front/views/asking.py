"""What it means, in plain words, when the daemon does not know a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ccproxy_lib.errors import ProxyError

# What daemons answer that are older than these commands, before they hang up.
_UNKNOWN = "unknown command opcode"


@contextmanager
def plain_errors() -> Iterator[None]:
    """Let each ProxyError from within say what its reader can do about it."""
    try:
        yield
    except ProxyError as error:
        if not str(error).startswith(_UNKNOWN):
            raise
        text = "the daemon that runs is older than this program and does not know this command"
        raise ProxyError(text) from None
