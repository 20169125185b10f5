"""The one writer of a client's socket.

Answers and a session's output leave here as whole frames.  While the socket
takes everything, a frame leaves at once, in the greenlet that has it.  Only for
what the socket does not take a writer greenlet is spawned; it ends when nothing
is left.  Nothing here ever makes the caller wait.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import gevent

from ccproxy_lib.state.output import Buffer, FrameQueue, Output


class Outbox:
    """What one client has yet to get.

    ``broken`` tells that the client's end is gone; ``on_broken`` is called once
    when that turns out.
    """

    __slots__ = ("_answers", "broken", "_on_broken", "_output", "_socket", "_writer")

    def __init__(self, client: socket.socket, on_broken: Callable[[], None]) -> None:
        self._socket = client
        self._answers = FrameQueue()
        self._output: Output | None = None
        self._writer: gevent.Greenlet[[], None] | None = None
        self.broken = False
        self._on_broken = on_broken

    def send(self, frame: bytes) -> None:
        """Send a whole frame, behind those that wait."""
        if self.broken:
            return
        if self._writer is None:
            sent = self._try_send((frame,))
            if sent == len(frame):
                return
            self._answers.push(frame, sent)
            self._spawn_writer()
        else:
            self._answers.push(frame)

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
        if self._writer is None and not self.broken:
            output.keep_unsent(self._try_send(output.batch()))
            self._spawn_writer()
        else:
            output.keep_unsent()

    def finish(self, timeout_s: float | None) -> None:
        """Wait until everything is on the wire, for ``timeout_s`` at most (None: as it takes)."""
        if self._writer is not None:
            self._writer.join(timeout_s)
            self._kill_writer()

    def _try_send(self, buffers: Sequence[Buffer]) -> int:
        if not buffers:
            return 0
        try:
            return self._socket.sendmsg(buffers, (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            self._break()
            return 0

    def _spawn_writer(self) -> None:
        if self._writer is None and not self.broken and self._next_queue() is not None:
            self._writer = gevent.spawn(self._write)

    def _kill_writer(self) -> None:
        if self._writer is not None:
            self._writer.kill()
            self._writer = None

    def _next_queue(self) -> FrameQueue | None:
        """Return the queue whose turn it is: a half-sent frame's, then answers, then output."""
        output = self._output.queue if self._output is not None else None
        if output is not None and output.midway:
            return output
        return self._answers or output or None

    def _write(self) -> None:
        try:
            while (queue := self._next_queue()) is not None:
                queue.consume(self._socket.sendmsg(queue.buffers()))
            self._writer = None
        except OSError:
            self._writer = None
            self._break()

    def _break(self) -> None:
        if not self.broken:
            self.broken = True
            self._answers.clear()
            self._on_broken()
