"""What a VM has not read of its I/O channel yet, as far as message headers care.

QEMU reads pieces of 4096 bytes, or all there is, and each header must lie whole in
one of them (docs/PROTOCOL.md, "Messages to the agent stay whole").  While nothing
but whole pieces is unread, the next write is certain to begin one.  Behind a
shorter piece it is not, until that has been read.
"""

from __future__ import annotations

import fcntl
import socket
import sys
import termios

from ccproxy_lib.service.stream import Stream
from ccproxy_lib.state.input import InputQueue
from ccproxy_lib.wire.tty import MAX_TO_AGENT_BYTES

# A write must not show in parts.  Linux keeps one in one buffer up to 32 KiB, and
# up to half of the send buffer, less a little.
PIECES_IN_A_WRITE = 8
# Doubled by the kernel, as all of these.
SEND_BUFFER_BYTES = (PIECES_IN_A_WRITE + 1) * MAX_TO_AGENT_BYTES
# A socket polls as writable again when at most a quarter of its buffer is unread.
# With this one that is little enough for more headers.
SMALL_BUFFER_BYTES = 4352
LITTLE_BYTES = SMALL_BUFFER_BYTES * 2 // 4


class Unread:
    """The bytes that are unread in ``channel``, to which nobody else writes."""

    __slots__ = ("_at_most", "_channel", "_pieces_in_a_write")

    def __init__(self, channel: Stream) -> None:
        self._channel = channel
        _set_send_buffer(channel, SEND_BUFFER_BYTES)
        granted = channel.plain.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self._pieces_in_a_write = pieces_in_a_write(granted)
        # No more than this is unread, apart from whole pieces before it.
        self._at_most = 0

    def is_little(self) -> bool:
        """Whether more headers may be sent.

        What was sent since the VM had read everything is a bound, and while that
        is low enough the kernel need not be asked.
        """
        if self._at_most > LITTLE_BYTES:
            self._at_most = min(self._at_most, _unread_bytes(self._channel))
        return self._at_most <= LITTLE_BYTES

    def wait_until_little(self) -> None:
        """Wait until more headers may be sent, which the kernel tells of a smaller buffer."""
        if self.is_little():
            return
        _set_send_buffer(self._channel, SMALL_BUFFER_BYTES)
        while not self.is_little():
            self._channel.wait_writable()
        _set_send_buffer(self._channel, SEND_BUFFER_BYTES)

    def next_write(self, queue: InputQueue) -> bytes:
        """Take messages for a write from ``queue``; to be sent before anything else.

        Their headers come to lie within one piece, wherever the VM goes on reading.
        """
        if self._at_most:
            write = queue.next_write(MAX_TO_AGENT_BYTES - self._at_most)
            self._at_most += len(write)
        else:
            write = queue.next_pieces(self._pieces_in_a_write)
            self._at_most = len(write) % MAX_TO_AGENT_BYTES
        return write


def pieces_in_a_write(buffer_bytes: int) -> int:
    """Return how many pieces one write may have with a send buffer of that size."""
    return max(1, min(PIECES_IN_A_WRITE, (buffer_bytes // 2 - 64) // MAX_TO_AGENT_BYTES))


def _set_send_buffer(channel: Stream, size_bytes: int) -> None:
    channel.plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)


def _unread_bytes(channel: Stream) -> int:
    """Return SIOCOUTQ (which has TIOCOUTQ's number): what the other end has not read yet.

    It includes some of the kernel's own overhead, so it is never too low.
    """
    unread = bytearray(4)
    fcntl.ioctl(channel.plain, termios.TIOCOUTQ, unread)
    return int.from_bytes(unread, sys.byteorder)
