"""The one writer of a client's socket.

Answers and a session's output leave here as whole frames.  While the socket
takes everything, a frame leaves at once, in the greenlet that has it.  Only for
what the socket does not take a writer greenlet is spawned; it ends when nothing
is left.  Nothing here ever makes the caller wait.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Sequence

import gevent

from ccproxy_lib.service.stream import Stream
from ccproxy_lib.state.output import Buffer, FrameQueue, Output

log = logging.getLogger(__name__)


class Outbox:
    """What one client has yet to get; of answers ``max_pending_bytes`` at most.

    ``broken`` tells that the client's end is gone, ``cut_off`` that this was our
    doing; ``on_broken`` is called once when that turns out.
    """

    __slots__ = (
        "_answers",
        "_max_pending_bytes",
        "broken",
        "cut_off",
        "_on_broken",
        "_output",
        "_stream",
        "_writer",
    )

    def __init__(
        self, client: Stream, max_pending_bytes: int, on_broken: Callable[[], None]
    ) -> None:
        self._stream = client
        self._max_pending_bytes = max_pending_bytes
        self._answers = FrameQueue()
        self._output: Output | None = None
        self._writer: gevent.Greenlet[[], None] | None = None
        self.broken = False
        self.cut_off = False
        self._on_broken = on_broken

    @property
    def pending_bytes(self) -> int:
        """How much waits that is not a session's output."""
        return self._answers.size_bytes

    @property
    def sending(self) -> bool:
        """Whether something waits for the socket to take it."""
        return self._writer is not None

    def send(self, frame: bytes) -> None:
        """Send a whole frame, behind those that wait."""
        if self.broken:
            return
        if self._writer is not None:
            self._push(frame)
            return
        sent = self._try_send((frame,))
        if sent < len(frame) and not self.broken:
            self._answers.push(frame, sent)
            self._spawn_writer()

    def adopt(self, output: Output) -> None:
        """Become the way of a session's output; what has been kept for it leaves first."""
        self._output = output
        self._spawn_writer()

    def release(self) -> None:
        """Let go of the session's output; what the socket has not taken stays with it."""
        if self._output is None:
            return
        # Killed while it waits, the writer has sent nothing that is not accounted
        # for; were it left to run, it could send once more from a rewound queue.
        self._kill_writer()
        self._output.queue.rewind()
        self._output = None
        self._spawn_writer()

    def deliver(self) -> None:
        """Send the output's batch, or keep it behind what waits."""
        output = self._output
        if output is None:
            return
        if self._writer is not None or self.broken:
            output.keep_unsent()
            return
        sent = 0 if output.queue.size_bytes else self._try_send(output.batch())
        if sent and sent == output.batch_bytes:
            output.batch_sent()
            return
        output.keep_unsent(sent)
        if not output.queue:
            return
        while output.queue and self._try_consume(output):
            pass
        self._spawn_writer()

    def _try_consume(self, output: Output) -> bool:
        """Send what one sendmsg takes of what is kept; whether that was all it was offered."""
        buffers = output.buffers()
        sent = self._try_send(buffers)
        output.consume(sent)
        return sent == sum(map(len, buffers))

    def finish(self, timeout_s: float | None) -> None:
        """Wait until everything is on the wire, for ``timeout_s`` at most (None: as it takes)."""
        if self._writer is not None:
            self._writer.join(timeout_s)
            self._kill_writer()

    def close(self) -> None:
        """Drop what has not left; the stream may be closed then."""
        self.broken = True
        self._kill_writer()

    def _push(self, frame: bytes) -> None:
        if self._answers.size_bytes + len(frame) > self._max_pending_bytes:
            log.warning("client does not read its answers: it is cut off")
            self.cut_off = True
            self._break()
            with contextlib.suppress(OSError):
                self._stream.shutdown(socket.SHUT_RDWR)
        else:
            self._answers.push(frame)

    def _try_send(self, buffers: Sequence[Buffer]) -> int:
        if not buffers:
            return 0
        try:
            return self._stream.try_send(buffers)
        except OSError:
            self._break()
            return 0

    def _spawn_writer(self) -> None:
        if self._writer is None and not self.broken and self._next() is not None:
            self._writer = gevent.spawn(self._write)

    def _kill_writer(self) -> None:
        if self._writer is not None:
            self._writer.kill()
            self._writer = None

    def _next(self) -> FrameQueue | Output | None:
        """Return whose turn it is: a half-sent frame's, then answers, then output."""
        output = self._output
        if output is not None and output.queue and (output.queue.midway or not self._answers):
            return output
        return self._answers or None

    def _write(self) -> None:
        try:
            while (source := self._next()) is not None:
                buffers = source.buffers()
                sent = self._stream.try_send(buffers)
                source.consume(sent)
                if sent < sum(map(len, buffers)):
                    self._stream.wait_writable()
            self._writer = None
        except OSError:
            self._writer = None
            self._break()

    def _break(self) -> None:
        if not self.broken:
            self.broken = True
            self._answers.clear()
            self._on_broken()
