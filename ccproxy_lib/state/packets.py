"""The output of a protocol 1 session: the agent's I/O messages, one packet a write."""

from __future__ import annotations

from collections.abc import Callable

from ccproxy_lib.state.output import Buffer, Output, Overflow
from ccproxy_lib.wire import tty
from ccproxy_lib.wire.frames import Stream


class PacketOutput(Output):
    """As :class:`Output`, in packets instead of frames.

    stdout has the number ``io_base`` and stderr the next one.  The end is an
    empty packet and one with the exit status, both on ``io_base``.
    """

    __slots__ = ("_io_base",)

    def __init__(
        self,
        io_base: int,
        buffer_bytes: int = 1 << 20,
        open_overflow: Callable[[], Overflow] | None = None,
    ) -> None:
        super().__init__(buffer_bytes, open_overflow)
        self._io_base = io_base

    def batch(self) -> list[Buffer]:
        """Return nothing: a batch is several packets, and each must be a write of its own."""
        return []

    def keep_unsent(self, sent: int = 0) -> None:
        """End the batch: keep a copy of it, packet by packet."""
        for stream, pieces in self._runs:
            seq = self._io_base + (stream is Stream.STDERR)
            self.messages += len(pieces)
            for piece in pieces:
                self.payload_bytes += len(piece)
                self._keep(tty.encode(seq, piece))
        self._runs.clear()

    def buffers(self) -> list[Buffer]:
        """Return the next packet."""
        return self.queue.buffers()[:1]

    def end(self, status: int) -> None:
        """Keep end of file and exit status behind everything else."""
        self.keep_unsent()
        if not self._discarding:
            self._keep(tty.encode(self._io_base))
            self._keep(tty.encode(self._io_base, bytes([status])))

    def _frame_bytes(self, data: bytes, pos: int) -> int:
        return int.from_bytes(data[pos + 8 : pos + 12], "big")
