"""Stdin on its way to the agent: bytes of many sessions in, writes for one channel out.

The agent must find each message header whole in one piece, and QEMU hands on
pieces of at most 4096 bytes.  :meth:`InputQueue.next_write` makes writes for
which that holds, given how many bytes may still lie unread in the channel, and
:meth:`InputQueue.next_pieces` those for which it is known where a piece begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ccproxy_lib.state.output import Buffer
from ccproxy_lib.wire import tty

# Data is collected in pieces of about this size, so that none is ever moved to make room.
CHUNK_BYTES = 65536

_NO_CHUNKS: deque[memoryview] = deque()


class Input:
    """What one session's process has yet to read, then perhaps its end of file.

    ``size_bytes`` is how much that is.  ``on_taken`` is called whenever some of
    it has left.  ``messages`` and ``payload_bytes`` are how much its shim has
    sent so far.
    """

    __slots__ = (
        "_chunks",
        "_tail",
        "eof",
        "messages",
        "on_taken",
        "payload_bytes",
        "queued",
        "seq",
        "size_bytes",
    )

    def __init__(self, seq: int) -> None:
        self.seq = seq
        # What is in front of the tail; an empty deque of its own would take 600 bytes.
        self._chunks: deque[memoryview] = _NO_CHUNKS
        self._tail = bytearray()
        self.size_bytes = 0
        self.eof = False
        self.messages = 0
        self.payload_bytes = 0
        self.queued = False
        self.on_taken: Callable[[], None] | None = None

    def append(self, data: bytes | memoryview) -> None:
        """Add what the shim has sent."""
        if len(self._tail) >= CHUNK_BYTES:
            self._close_tail()
        self._tail += data
        size = len(data)
        self.size_bytes += size
        self.messages += 1
        self.payload_bytes += size

    def take(self, limit_bytes: int) -> bytearray | memoryview:
        """Remove and return the first bytes, at most ``limit_bytes`` of them."""
        if not self._chunks:
            if len(self._tail) <= limit_bytes:
                data, self._tail = self._tail, bytearray()
                self.size_bytes = 0
                return data
            self._close_tail()
        head = self._chunks[0]
        if len(head) <= limit_bytes:
            self._chunks.popleft()
        else:
            self._chunks[0] = head[limit_bytes:]
            head = head[:limit_bytes]
        self.size_bytes -= len(head)
        return head

    def clear(self) -> None:
        """Forget everything."""
        self._chunks = _NO_CHUNKS
        self._tail = bytearray()
        self.size_bytes = 0

    def _close_tail(self) -> None:
        if self._chunks is _NO_CHUNKS:
            self._chunks = deque()
        self._chunks.append(memoryview(self._tail))
        self._tail = bytearray()


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
            target.append(data)
            self._take_turn(target)

    def push_eof(self, target: Input) -> None:
        """Close one session's stdin behind what it has sent; further input is dropped."""
        if not target.eof:
            target.eof = True
            self._take_turn(target)

    def drop(self, target: Input) -> None:
        """Forget a session whose process is over."""
        target.clear()
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
        parts: list[Buffer] = []
        self._fill_piece(parts, headers_within)
        return b"".join(parts)

    def next_pieces(self, most: int) -> bytes:
        """Return the next messages for one write of up to ``most`` pieces, empty if there are none.

        Each piece has 4096 bytes, the last one perhaps less, and holds whole
        messages only.
        """
        parts: list[Buffer] = []
        for _ in range(most):
            if self._fill_piece(parts, tty.MAX_TO_AGENT_BYTES) < tty.MAX_TO_AGENT_BYTES:
                break
        return b"".join(parts)

    def _fill_piece(self, parts: list[Buffer], headers_within: int) -> int:
        """Add headers and data of the next messages to ``parts``; return how much that is."""
        turns = self._turns
        # Where the last header may begin, with room for a byte behind it.
        last = min(headers_within, tty.MAX_TO_AGENT_BYTES - 1) - tty.HEADER_BYTES
        size = 0
        while turns and size <= last:
            target = turns.popleft()
            data = target.take(tty.MAX_STDIN_BYTES - size)
            target.queued = False
            if target.size_bytes or (target.eof and data):
                self._take_turn(target)
            if target.on_taken:
                target.on_taken()
            length = tty.HEADER_BYTES + len(data)
            parts += (tty.HEADER.pack(target.seq, length), data)
            size += length
        return size

    def _take_turn(self, target: Input) -> None:
        if not target.queued:
            target.queued = True
            self._turns.append(target)
