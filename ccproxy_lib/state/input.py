"""Stdin on its way to the agent: bytes of many sessions in, writes for one channel out.

The agent must find each message header whole in one piece, and QEMU hands on
pieces of at most 4096 bytes.  :meth:`InputQueue.next_write` makes writes for
which that holds, given how many bytes may still lie unread in the channel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ccproxy_lib.wire import tty


class Input:
    """What one session's process has yet to read, then perhaps its end of file.

    ``on_taken`` is called whenever some of it has left.  ``messages`` and
    ``payload_bytes`` are how much its shim has sent so far.
    """

    __slots__ = ("buffer", "eof", "messages", "on_taken", "payload_bytes", "queued", "seq")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.buffer = bytearray()
        self.eof = False
        self.messages = 0
        self.payload_bytes = 0
        self.queued = False
        self.on_taken: Callable[[], None] | None = None


class InputQueue:
    """The sessions of one VM with something to send, served in turns."""

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns: deque[Input] = deque()

    def __bool__(self) -> bool:
        return bool(self._turns)

    def push(self, target: Input, data: bytes | memoryview) -> None:
        """Append stdin of one session; neighbouring pieces may travel as one message."""
        if data and not target.eof:
            target.buffer += data
            target.messages += 1
            target.payload_bytes += len(data)
            self._take_turn(target)

    def push_eof(self, target: Input) -> None:
        """Close one session's stdin behind what it has sent; further input is dropped."""
        if not target.eof:
            target.eof = True
            self._take_turn(target)

    def drop(self, target: Input) -> None:
        """Forget a session whose process is over."""
        target.buffer.clear()
        target.eof = True
        if target.queued:
            self._turns.remove(target)
            target.queued = False
        if target.on_taken:
            target.on_taken()

    def next_write(self, headers_within: int) -> bytes:
        """Return the next messages for one write, empty if there are none.

        All headers lie within the first ``headers_within`` bytes, and the whole
        write is no longer than one piece (4096 bytes).
        """
        write = b""
        while self._turns:
            room = tty.MAX_STDIN_BYTES - len(write)
            if len(write) + tty.HEADER_BYTES > headers_within or room <= 0:
                break
            write += self._message(self._turns.popleft(), room)
        return write

    def _message(self, target: Input, room: int) -> bytes:
        with memoryview(target.buffer)[:room] as data:
            message = tty.encode(target.seq, data)
        del target.buffer[:room]
        target.queued = False
        if target.buffer or (target.eof and len(message) > tty.HEADER_BYTES):
            self._take_turn(target)
        if target.on_taken:
            target.on_taken()
        return message

    def _take_turn(self, target: Input) -> None:
        if not target.queued:
            target.queued = True
            self._turns.append(target)
