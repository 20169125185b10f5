"""Connecting to the sockets of a VM."""

from __future__ import annotations

import errno
import socket
import time

import gevent

from ccproxy_lib.errors import CommandError
from ccproxy_lib.service.stream import PlainSocket, Stream

# A listener with a full backlog gives no sign when there is room again.
RETRY_S = 0.02


def dial(path: str, purpose: str, deadline_s: float) -> Stream:
    """Return a stream connected to ``path``; ``deadline_s`` is on the monotonic clock.

    Raises CommandError that names purpose, path and reason.
    """
    try:
        return Stream(_connect(path, deadline_s))
    except (OSError, ValueError) as error:
        # Paths that are too long or no text are refused by Python, without an error number.
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"cannot connect to the {purpose} {path}: {reason}") from None


def _connect(path: str, deadline_s: float) -> socket.socket:
    channel = PlainSocket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        while not _has_connected(channel, path):
            if time.monotonic() >= deadline_s:
                raise OSError(errno.EAGAIN, "nobody accepts the connection")
            gevent.sleep(RETRY_S)
    except BaseException:
        channel.close()
        raise
    return channel


def _has_connected(channel: socket.socket, path: str) -> bool:
    try:
        channel.connect(path)
    except BlockingIOError:
        return False
    return True
