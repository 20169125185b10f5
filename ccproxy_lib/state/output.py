"""A process's output on its way to the shim: messages in, frames out.

What one read of the I/O channel holds for a session is collected in a batch
(:meth:`Output.add`) and leaves as buffers for a single ``sendmsg``
(:meth:`Output.batch`).  What the socket did not take is copied into a queue of
whole frames (:meth:`Output.keep_unsent`); while that holds anything, batches go
through it as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ccproxy_lib.wire import frames
from ccproxy_lib.wire.frames import Notification, Stream, Type

# What the queue offers to one sendmsg: more than this seldom fits into a socket.
BURST_BYTES = 256 * 1024
# sendmsg takes at most 1024 buffers (IOV_MAX), and joining small pieces is
# cheaper than handing them over one by one.
MAX_BUFFERS = 512
JOIN_BELOW_BYTES = 1024

Buffer = bytes | memoryview


class FrameQueue:
    """Whole frames in order, the first of which may be half sent.

    ``on_taken`` is called whenever there is less in it than before.
    """

    __slots__ = ("_frames", "_head_sent", "on_taken", "size_bytes")

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._head_sent = 0
        self.size_bytes = 0
        self.on_taken: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        return bool(self._frames)

    @property
    def midway(self) -> bool:
        """Whether part of a frame is on the wire, so that no other may come between."""
        return self._head_sent > 0

    def push(self, frame: bytes, sent: int = 0) -> None:
        """Append a frame; ``sent`` bytes of it have left already if it is the first one."""
        if sent:
            self._head_sent = sent
        self._frames.append(frame)
        self.size_bytes += len(frame) - sent

    def buffers(self) -> list[Buffer]:
        """Return what one sendmsg can take."""
        found: list[Buffer] = []
        size = 0
        for frame in self._frames:
            found.append(frame)
            size += len(frame)
            if size >= BURST_BYTES or len(found) == MAX_BUFFERS:
                break
        if self._head_sent:
            found[0] = memoryview(found[0])[self._head_sent :]
        return found

    def consume(self, sent: int) -> None:
        """Forget ``sent`` bytes, which are on the wire."""
        self.size_bytes -= sent
        sent += self._head_sent
        while self._frames and sent >= len(self._frames[0]):
            sent -= len(self._frames.popleft())
        self._head_sent = sent
        if self.on_taken:
            self.on_taken()

    def rewind(self) -> None:
        """Make the rest of a half-sent frame a frame of its own, for another connection."""
        if not self._head_sent:
            return
        head = self._frames[0]
        done = max(self._head_sent, frames.HEADER_BYTES)
        rest = frames.header(head[6], head[7], len(head) - done) + head[done:]
        self.size_bytes += len(rest) - (len(head) - self._head_sent)
        self._frames[0] = rest
        self._head_sent = 0

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self._head_sent = 0
        self.size_bytes = 0
        if self.on_taken:
            self.on_taken()


class Output:
    """The output of one session, its order kept across stdout, stderr and the exit status."""

    __slots__ = ("_discarding", "_runs", "queue")

    def __init__(self) -> None:
        self.queue = FrameQueue()
        # The batch: neighbouring messages of one stream are one run, and one frame.
        self._runs: list[tuple[Stream, list[memoryview]]] = []
        self._discarding = False

    def add(self, stream: Stream, piece: memoryview) -> None:
        """Add a piece to the batch, which must be sent or kept before its buffer is used again."""
        runs = self._runs
        if runs and runs[-1][0] is stream:
            runs[-1][1].append(piece)
        elif not self._discarding:
            runs.append((stream, [piece]))

    def batch(self) -> list[Buffer]:
        """Return the batch as buffers for one sendmsg; empty if there is none."""
        buffers: list[Buffer] = []
        for stream, pieces in self._runs:
            size = sum(map(len, pieces))
            buffers.append(frames.header(Type.STREAM, stream, size))
            if size < len(pieces) * JOIN_BELOW_BYTES:
                buffers.append(b"".join(pieces))
            else:
                buffers += pieces
        return buffers if len(buffers) <= MAX_BUFFERS else [b"".join(buffers)]

    def keep_unsent(self, sent: int = 0) -> None:
        """End the batch: copy into the queue what lies behind its first ``sent`` bytes."""
        for stream, pieces in self._runs:
            size = frames.HEADER_BYTES + sum(map(len, pieces))
            if sent >= size:
                sent -= size
                continue
            payload = b"".join(pieces)
            self.queue.push(frames.encode(Type.STREAM, stream, payload), sent)
            sent = 0
        self._runs.clear()

    def end(self, status: int) -> None:
        """Queue ProcessExited behind everything else."""
        self.keep_unsent()
        if not self._discarding:
            payload = bytes([status])
            notification = Notification.PROCESS_EXITED
            self.queue.push(frames.encode(Type.NOTIFICATION, notification, payload))

    def discard(self) -> None:
        """Drop what there is and all that will come."""
        self._discarding = True
        self._runs.clear()
        self.queue.clear()
