"""Sockets that read as blocking and let others run while they wait.

As gevent's own, with what the way of a byte needs and nothing else: one watcher
for each direction that is made once, no timeouts to arm, no copies, and no call
into the kernel that is known to find nothing.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent import getcurrent
from gevent.hub import Waiter, get_hub
from gevent.monkey import get_original

from ccproxy_lib.state.output import Buffer

FULL_READS_IN_A_ROW = 4
READABLE = 1
WRITABLE = 2

# The standard library's own socket, whatever is patched.
PlainSocket: type[socket.socket] = get_original("socket", "socket")


class Stream:
    """A connected stream socket, for one reading and one writing greenlet.

    Takes over the descriptor of ``connected``.  All methods raise OSError as
    sockets do.  Whoever waits when it is closed wakes up: the reader finds the end
    of the stream, and the writer that nothing more can be sent.

    ``shortcut``, if any, is asked in the hub what to do with what the reader of
    :meth:`receive` waits for: it returns True if it has seen to it, and then the
    reader is not woken.  It must not wait.
    """

    __slots__ = (
        "_drained",
        "_full_reads",
        "_hub",
        "_limit",
        "_readable",
        "_reader",
        "_recv",
        "_watching",
        "_writable",
        "_writer",
        "plain",
        "shortcut",
    )

    def __init__(self, connected: socket.socket) -> None:
        if type(connected) is PlainSocket:
            self.plain = connected
        else:
            self.plain = PlainSocket(fileno=connected.detach())
        if self.plain.gettimeout() != 0:
            self.plain.setblocking(False)
        self._recv = self.plain.recv
        self._hub = get_hub()
        self._readable: Any = self._hub.loop.io(self.plain.fileno(), READABLE)
        self._watching = False
        self._reader: Any = None
        self._writable: Any = None
        self._writer: Any = None
        self._drained = True
        self._full_reads = 0
        self._limit = 0
        self.shortcut: Callable[[bytes], bool] | None = None

    def fileno(self) -> int:
        """Return the descriptor, -1 when closed."""
        return self.plain.fileno()

    def receive(self, limit: int) -> bytes:
        """Wait for data and return it; empty at the end of the stream."""
        self._limit = limit
        while True:
            data = self._wait_readable() if self._drained else None
            if data is None:
                try:
                    data = self._recv(limit)
                except BlockingIOError:
                    self._drained = True
                    continue
            # A short read has emptied the socket, so the next one begins with waiting.
            # So it does after some that were full, as others wait for their turns.
            self._full_reads = 0 if len(data) < limit else self._full_reads + 1
            self._drained = self._full_reads % FULL_READS_IN_A_ROW == 0
            return data

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for data, put it into ``buffer`` and return how much; 0 at the end of the stream."""
        while True:
            if self._drained and self._wait_readable() is not None:
                return 0  # the stream was closed meanwhile
            try:
                count = self.plain.recv_into(buffer)
            except BlockingIOError:
                self._drained = True
                continue
            self._drained = count < len(buffer)
            return count

    def receive_within(self, limit: int, timeout_s: float) -> bytes:
        """As :meth:`receive`; TimeoutError after ``timeout_s``."""
        with gevent.Timeout(timeout_s, TimeoutError("timed out")):
            return self.receive(limit)

    def try_send(self, buffers: Sequence[Buffer]) -> int:
        """Send what the socket takes now; return how much, perhaps 0."""
        try:
            if len(buffers) == 1:
                return self.plain.send(buffers[0])
            return self.plain.sendmsg(buffers)
        except BlockingIOError:
            return 0

    def send_all(self, data: Buffer) -> None:
        """Send all of ``data``, waiting as needed."""
        while data:
            sent = self.try_send((data,))
            if sent == len(data):
                return
            if not sent:
                self.wait_writable()
            data = memoryview(data)[sent:]

    def wait_writable(self) -> None:
        """Wait until the socket takes more."""
        self._check_open()
        if self._writable is None:
            self._writable = self._hub.loop.io(self.plain.fileno(), WRITABLE)
        watcher = self._writable
        self._writer = getcurrent()
        watcher.start(self._writer.switch)
        try:
            self._hub.switch()
        finally:
            self._writer = None
            watcher.stop()
        self._check_open()

    def send_descriptor(self, byte: bytes, descriptor: int) -> None:
        """Send one byte with a descriptor, in a write of its own."""
        while True:
            try:
                socket.send_fds(self.plain, [byte], [descriptor])
            except BlockingIOError:
                self.wait_writable()
            else:
                return

    def shutdown(self, how: int) -> None:
        """Close one direction or both; whoever waits wakes up."""
        self.plain.shutdown(how)

    def close(self) -> None:
        """Close the descriptor; harmless if repeated."""
        for watcher in (self._readable, self._writable):
            if watcher is not None:
                watcher.close()
        self._readable = self._writable = None
        self._watching = False
        self.plain.close()
        if self._reader is not None or self._writer is not None:
            self._hub.loop.run_callback(self._wake)

    def _check_open(self) -> None:
        if self._readable is None:
            raise OSError(errno.EBADF, "the stream was closed")

    def _wake(self) -> None:
        """Wake those who still wait for what will never come; runs in the hub.

        To kill them would cost more than all else that ends with a connection.
        """
        if self._reader is not None:
            self._reader.switch(b"")
        if self._writer is not None:
            self._writer.switch()

    def _wait_readable(self) -> bytes | None:
        """Wait for data; return it if it has been received already, b"" at the end.

        The watcher goes on when the wait is over, as the next one seldom is far:
        to start and stop it each time costs more than all the rest of waiting.
        """
        if not self._watching:
            self._check_open()
            self._readable.start(self._on_readable)
            self._watching = True
        self._reader = getcurrent()
        try:
            data: bytes | None = self._hub.switch()
        finally:
            self._reader = None
        return data

    def _on_readable(self) -> None:
        """Wake the reader, or watch no more if it is busy elsewhere; runs in the hub.

        With a shortcut this receives in the reader's place, and wakes it only if it
        has to see to that: two switches of greenlets cost as much as all that we do
        with a small message.
        """
        reader, shortcut = self._reader, self.shortcut
        if reader is None:
            self._readable.stop()
            self._watching = False
        elif shortcut is None:
            reader.switch(None)
        else:
            try:
                data = self._recv(self._limit)
                taken = shortcut(data)
            except BlockingIOError:
                return
            except Exception as error:
                reader.throw(error)  # whatever it is, it ends this connection and no other
                return
            if not taken:
                reader.switch(data)


class Bell:
    """Wakes one greenlet that waits for work, at most once for each time that it waits."""

    __slots__ = ("_hub", "_rung", "_waiter")

    def __init__(self) -> None:
        self._hub = get_hub()
        self._waiter: Waiter[None] | None = None
        self._rung = False

    def ring(self) -> None:
        """Wake the greenlet soon, or let its next :meth:`wait` return at once."""
        waiter = self._waiter
        if waiter is None:
            self._rung = True
        else:
            self._waiter = None
            self._hub.loop.run_callback(waiter.switch, None)

    def wait(self) -> None:
        """Wait until somebody rings."""
        if not self._rung:
            self._waiter = Waiter(self._hub)
            try:
                self._waiter.get()
            finally:
                self._waiter = None
        self._rung = False
