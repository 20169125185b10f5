"""One of the agent's two channels, as it looks from inside the guest.

QEMU reads the host's socket in pieces, and each piece becomes one buffer of
the guest's port.  A read() in the guest returns what is left of one buffer and
never crosses into the next, and real agents read a header with one read():

    host writes    |  message 1  |     message 2     |  message 3  |
    pieces         |      4096 bytes      |      4096 bytes      |  ...
                                          ^ a header here would be torn
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import NamedTuple

from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.socket import socket

from ccproxy_lib.errors import ProtocolError
from ccproxy_lib.wire import ctl, tty

PIECE_BYTES = 4096

log = logging.getLogger(__name__)


class Channel(NamedTuple):
    """What tells the channels apart: header (number, whole length) and the largest message."""

    name: str
    header: struct.Struct
    limit_bytes: int


CONTROL = Channel("control", struct.Struct(">II"), ctl.MAX_COMMAND_BYTES)
IO = Channel("I/O", tty.HEADER, tty.MAX_TO_AGENT_BYTES)


class _HungUp(Exception):
    """The host closed its side."""


class GuestPort:
    """A channel that outlives its connections.

    One greenlet runs :meth:`serve`, one other reads, any number send.
    ``on_read`` is called with the size of each read() that a guest would do.
    """

    def __init__(
        self,
        channel: Channel,
        listener: socket,
        on_read: Callable[[int], None] = lambda read_bytes: None,
    ) -> None:
        self._channel = channel
        self._listener = listener
        self._on_read = on_read
        self._host: socket | None = None
        self._connected = Event()
        self._hung_up = Event()
        self._source: socket | None = None
        self._piece = b""
        self._sending = BoundedSemaphore(1)

    def serve(self) -> None:
        """Take one connection after the other, as QEMU does; never returns."""
        while True:
            self._host, _ = self._listener.accept()
            self._hung_up.clear()
            self._connected.set()
            self._hung_up.wait()

    def read_message(self) -> tuple[int, bytes]:
        """Return the number and the payload of the next message, from whichever connection.

        Raises ProtocolError for what makes a real agent power its VM off: a
        torn header and a length that is no message's.
        """
        while True:
            try:
                number, payload_bytes = self._read_header()
                return number, self._read_payload(payload_bytes)
            except _HungUp:
                continue

    def send(self, messages: bytes) -> None:
        """Send whole messages; waits while no host is connected.

        When the host hangs up, what has left is lost.  The next connection
        begins with the first message of which no byte has left.
        """
        with self._sending:
            start = 0
            while start < len(messages):
                host = self._wait_for_host()
                start += self._push(host, memoryview(messages)[start:])
                start = self._next_boundary(messages, start)

    def close(self) -> None:
        """Hang up, as QEMU does when its VM ends."""
        if self._host is not None:
            self._host.close()

    def _read_header(self) -> tuple[int, int]:
        name, header, limit_bytes = self._channel
        if not self._piece:
            self._source = self._wait_for_host()
        raw = self._read(header.size)
        if len(raw) < header.size:
            raise ProtocolError(
                f"torn header on the {name} channel: one read got {len(raw)} of {header.size} bytes"
            )
        number, length = header.unpack(raw)
        if not header.size <= length <= limit_bytes:
            raise ProtocolError(
                f"message of {length} bytes on the {name} channel,"
                f" expected {header.size} to {limit_bytes}"
            )
        return number, length - header.size

    def _read_payload(self, size_bytes: int) -> bytes:
        payload = b""
        while len(payload) < size_bytes:
            try:
                payload += self._read(size_bytes - len(payload))
            except _HungUp:
                log.warning("the host hung up within a %s message", self._channel.name)
                raise
        return payload

    def _read(self, most_bytes: int) -> bytes:
        """Do one read() of the guest: at most what is left of one piece."""
        if not self._piece:
            self._piece = self._receive()
        data, self._piece = self._piece[:most_bytes], self._piece[most_bytes:]
        self._on_read(len(data))
        return data

    def _receive(self) -> bytes:
        # A message that one connection began is never completed by the next.
        source = self._source
        assert source is not None
        try:
            piece = source.recv(PIECE_BYTES)
        except OSError:
            piece = b""
        if not piece:
            self._hang_up(source)
            raise _HungUp
        return piece

    def _wait_for_host(self) -> socket:
        while self._host is None:
            self._connected.wait()
        return self._host

    def _hang_up(self, host: socket) -> None:
        host.close()
        if host is self._host:
            self._host = None
            self._connected.clear()
            self._hung_up.set()

    def _push(self, host: socket, data: memoryview) -> int:
        """Send until the end or until the host hangs up; return how many bytes left."""
        sent = 0
        try:
            while sent < len(data):
                sent += host.send(data[sent:])
        except OSError:
            self._hang_up(host)
        return sent

    def _next_boundary(self, messages: bytes, position: int) -> int:
        if position == len(messages):
            return position
        boundary = 0
        while boundary < position:
            _, length = self._channel.header.unpack_from(messages, boundary)
            boundary += length
        return boundary
