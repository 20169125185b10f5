"""Lines for a descriptor whose reader may be slow, or gone: never waits for it.

The descriptor is shared with whoever started us, so it must not be made
non-blocking: that would be so for the user's shell too.  A pipe or a terminal is
opened once more instead, which gives a descriptor with flags of its own.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections import deque
from collections.abc import Callable

# What waits for a slow reader, at most.
LIMIT_BYTES = 1 << 20
# How long the end waits for a reader that takes something, and for one that does not.
DRAIN_S = 2.0
STUCK_S = 0.5
# As much as a pipe that polls as writable takes without waiting.
PIPE_BYTES = 4096


class LineWriter:
    """Writes lines whole and in order; what is not taken is kept, and dropped beyond a limit.

    ``notice`` makes the line that tells how many were dropped, in their place.
    ``on_stuck`` is called when something has to wait; then :meth:`flush` is to be
    called when :attr:`descriptor` is writable.  ``on_drop`` is called for each
    line that is dropped.
    """

    def __init__(
        self, descriptor: int, notice: Callable[[int], bytes], limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self.descriptor = descriptor
        self.on_stuck: Callable[[], None] = lambda: None
        self.on_drop: Callable[[], None] = lambda: None
        self._notice = notice
        self._limit_bytes = limit_bytes
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._dropped = 0
        self._close: Callable[[], None] = lambda: None
        self._send = self._sender(descriptor)

    def write(self, line: bytes) -> None:
        """Write a line, or keep it, or drop it."""
        if self._kept and not self.flush():
            if self._dropped or self._kept_bytes + len(line) > self._limit_bytes:
                self._dropped += 1
                self.on_drop()
            else:
                self._keep(line)
            return
        sent = self._try_send(line)
        if sent < len(line):
            self._keep(line[sent:])
            self.on_stuck()

    def flush(self) -> bool:
        """Write what is kept, as far as it goes now; whether nothing is left."""
        while self._kept:
            line = self._kept.popleft()
            sent = self._try_send(line)
            self._kept_bytes -= sent
            if sent < len(line):
                self._kept.appendleft(line[sent:])
                return False
            if self._dropped and not self._kept:
                self._keep(self._notice(self._dropped))
                self._dropped = 0
        return True

    def drain(self) -> None:
        """Wait for the reader, if it is one that still takes something."""
        deadline_s = time.monotonic() + DRAIN_S
        while not self.flush() and time.monotonic() < deadline_s:
            if not _writable(self.descriptor, STUCK_S):
                break

    def close(self) -> None:
        """Write no more; the descriptor that was given stays open.  Harmless if repeated."""
        self._send = len
        close, self._close = self._close, lambda: None
        close()

    def _keep(self, line: bytes) -> None:
        self._kept.append(line)
        self._kept_bytes += len(line)

    def _try_send(self, line: bytes) -> int:
        """Send what is taken now; a reader that is gone takes everything."""
        sent = 0
        try:
            while sent < len(line) and (count := self._send(line[sent:])):
                sent += count
        except BlockingIOError:
            pass
        except OSError:
            return len(line)
        return sent

    def _sender(self, descriptor: int) -> Callable[[bytes], int]:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            return self._socket_sender(descriptor)
        if not stat.S_ISFIFO(mode) and not os.isatty(descriptor):
            return lambda data: os.write(descriptor, data)
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
        try:
            own = os.open(f"/proc/self/fd/{descriptor}", flags)
        except OSError:  # another user's, or there is no /proc
            return lambda data: _write_if_writable(descriptor, data)
        self.descriptor = own
        self._close = lambda: os.close(own)
        return lambda data: os.write(own, data)

    def _socket_sender(self, descriptor: int) -> Callable[[bytes], int]:
        import socket

        from gevent.monkey import get_original

        plain = get_original("socket", "socket")(fileno=os.dup(descriptor))
        self._close = plain.close
        return lambda data: int(plain.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL))


class LineHandler(logging.Handler):
    """Sends each record through a LineWriter; ``prefix`` begins each line."""

    def __init__(self, descriptor: int, prefix: Callable[[int], str] | None = None) -> None:
        super().__init__()
        self.writer = LineWriter(descriptor, self._notice)
        self._prefix = prefix

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; never waits."""
        try:
            self.writer.write(self._line(record))
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Give the reader a moment for what is left."""
        self.writer.drain()
        self.writer.close()
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        prefix = self._prefix(record.levelno) if self._prefix else ""
        return f"{prefix}{self.format(record)}\n".encode(errors="backslashreplace")

    def _notice(self, count: int) -> bytes:
        said = {
            "msg": "log lines dropped: whoever reads stderr is too slow",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "fields": {"count": count},
        }
        return self._line(logging.makeLogRecord(said))


def _write_if_writable(descriptor: int, data: bytes) -> int:
    if not _writable(descriptor, 0):
        return 0
    return os.write(descriptor, data[:PIPE_BYTES])


def _writable(descriptor: int, timeout_s: float) -> bool:
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(timeout_s * 1000))
