"""Connecting to the sockets of a VM's channels."""

from __future__ import annotations

import errno
import socket
import time

import gevent

from ccproxy_lib.errors import CommandError

# A listener with a full backlog gives no sign when there is room again.
RETRY_S = 0.02


def dial(path: str, purpose: str, deadline_s: float) -> socket.socket:
    """Return a socket connected to ``path``; ``deadline_s`` is on the monotonic clock.

    Raises CommandError that names purpose, path and reason.
    """
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _connect(channel, path, deadline_s)
    except (OSError, ValueError) as error:
        channel.close()
        # Paths that are too long or no text are refused by Python, without an error number.
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"cannot connect to the {purpose} {path}: {reason}") from None
    except BaseException:
        channel.close()
        raise
    return channel


def _connect(channel: socket.socket, path: str, deadline_s: float) -> None:
    channel.setblocking(False)
    while True:
        try:
            channel.connect(path)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise OSError(errno.EAGAIN, "nobody accepts the connection") from None
            gevent.sleep(RETRY_S)
        else:
            break
    channel.setblocking(True)
