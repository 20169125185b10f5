"""A process's output on its way to the shim: messages in, frames out.

What one read of the I/O channel holds for a session is collected in a batch
(:meth:`Output.add`) and leaves as buffers for a single ``sendmsg``
(:meth:`Output.batch`).  What the socket did not take is copied into a queue of
whole frames (:meth:`Output.keep_unsent`), and beyond a limit into a file behind
that queue; while they hold anything, batches go through them as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from ccproxy_lib.wire import frames
from ccproxy_lib.wire.frames import Notification, Stream, Type

# What the queue offers to one sendmsg: more than this seldom fits into a socket.
BURST_BYTES = 256 * 1024
# What one read of the I/O channel can add at most, frame headers included.
READ_ALLOWANCE_BYTES = 512 * 1024
# sendmsg takes at most 1024 buffers (IOV_MAX), and joining small pieces is
# cheaper than handing them over one by one.
MAX_BUFFERS = 512
JOIN_BELOW_BYTES = 1024

Buffer = bytes | bytearray | memoryview

# A plain number: looking a member up in its enum costs.
STREAM = int(Type.STREAM)

_NO_FRAMES: deque[bytes] = deque()


class FrameQueue:
    """Whole frames in order, the first of which may be half sent.

    ``on_taken`` is called whenever there is less in it than before.
    """

    __slots__ = ("_frames", "_head_sent", "on_taken", "size_bytes")

    def __init__(self) -> None:
        # Most queues never hold anything, and an empty deque takes 600 bytes.
        self._frames: deque[bytes] = _NO_FRAMES
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
        if self._frames is _NO_FRAMES:
            self._frames = deque()
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
        self._frames = _NO_FRAMES
        self._head_sent = 0
        self.size_bytes = 0
        if self.on_taken:
            self.on_taken()


class Overflow(Protocol):
    """A queue of bytes outside memory; see ccproxy_lib.host.spool."""

    size_bytes: int

    @property
    def room_bytes(self) -> int:
        """How much more fits."""
        ...

    def append(self, data: bytes) -> None:
        """Append all of ``data``; OSError if that fails, and nothing is appended."""
        ...

    def take(self, limit_bytes: int) -> bytes:
        """Remove and return the first bytes."""
        ...

    def close(self) -> None:
        """Forget everything."""
        ...


class Output:
    """The output of one session, its order kept across stdout, stderr and the exit status.

    Up to ``buffer_bytes`` are kept in memory, what is beyond that in an overflow
    that ``open_overflow`` makes when it is first needed; without one, or when it
    is full, the output is :attr:`full` and its VM must be read no more.
    ``overflow_error`` is why the overflow did not take what it had room for, if so.
    ``messages`` and ``payload_bytes`` are how much has come from the VM so far.
    """

    __slots__ = (
        "_behind",
        "_buffer_bytes",
        "_discarding",
        "_open_overflow",
        "_overflow",
        "_runs",
        "_unit",
        "batch_bytes",
        "messages",
        "overflow_error",
        "payload_bytes",
        "queue",
    )

    def __init__(
        self,
        buffer_bytes: int = 1 << 20,
        open_overflow: Callable[[], Overflow] | None = None,
    ) -> None:
        self.queue = FrameQueue()
        # The batch: neighbouring messages of one stream are one run, and one frame.
        self._runs: list[tuple[Stream, list[memoryview]]] = []
        self.batch_bytes = 0
        self._discarding = False
        self.messages = 0
        self.payload_bytes = 0
        self._buffer_bytes = buffer_bytes
        self._open_overflow = open_overflow
        self._overflow: Overflow | None = None
        self.overflow_error: OSError | None = None
        # The beginning of a frame whose end is still in the overflow.
        self._unit = b""
        # Frames that the overflow did not take, behind all that it holds.
        self._behind: list[bytes] = []

    @property
    def full(self) -> bool:
        """Whether another read of the I/O channel might not fit."""
        if self._behind:
            return True
        if self.queue.size_bytes < self._buffer_bytes:
            return False
        if self._overflow is None:
            return self._open_overflow is None
        return self._overflow.room_bytes < READ_ALLOWANCE_BYTES

    @property
    def kept_bytes(self) -> int:
        """How much waits for the shim, in memory and outside."""
        behind = len(self._unit) + sum(map(len, self._behind))
        return self.queue.size_bytes + behind + self.spooled_bytes

    @property
    def spooled_bytes(self) -> int:
        """How much of that is outside memory."""
        return self._overflow.size_bytes if self._overflow else 0

    def add(self, stream: Stream, piece: memoryview) -> None:
        """Add a piece to the batch, which must be sent or kept before its buffer is used again."""
        runs = self._runs
        if runs and runs[-1][0] is stream:
            runs[-1][1].append(piece)
        elif not self._discarding:
            runs.append((stream, [piece]))

    def batch(self) -> list[Buffer]:
        """Return the batch as buffers for one sendmsg; empty if there is none.

        ``batch_bytes`` then is how much that is.
        """
        runs = self._runs
        if len(runs) == 1 and len(runs[0][1]) == 1:
            stream, (piece,) = runs[0]
            size = len(piece)
            self.batch_bytes = frames.HEADER_BYTES + size
            head = frames.header(STREAM, stream, size)
            return [head + piece] if size < JOIN_BELOW_BYTES else [head, piece]
        buffers: list[Buffer] = []
        total = 0
        for stream, pieces in runs:
            size = sum(map(len, pieces))
            total += frames.HEADER_BYTES + size
            head = frames.header(STREAM, stream, size)
            if size < len(pieces) * JOIN_BELOW_BYTES:
                buffers.append(b"".join((head, *pieces)))
            else:
                buffers.append(head)
                buffers += pieces
        self.batch_bytes = total
        return buffers if len(buffers) <= MAX_BUFFERS else [b"".join(buffers)]

    def batch_sent(self) -> None:
        """End the batch: all of it is on the wire."""
        runs = self._runs
        for _, pieces in runs:
            self.messages += len(pieces)
        self.payload_bytes += self.batch_bytes - frames.HEADER_BYTES * len(runs)
        runs.clear()

    def keep_unsent(self, sent: int = 0) -> None:
        """End the batch: keep a copy of what lies behind its first ``sent`` bytes.

        Nothing may have been sent of a batch while anything was kept before it.
        """
        if sent and sent == self.batch_bytes:
            self.batch_sent()
            return
        runs = self._runs
        for stream, pieces in runs:
            size = frames.HEADER_BYTES + sum(map(len, pieces))
            self.messages += len(pieces)
            self.payload_bytes += size - frames.HEADER_BYTES
            if sent >= size:
                sent -= size
                continue
            frame = frames.encode(Type.STREAM, stream, b"".join(pieces))
            if sent:
                self.queue.push(frame, sent)
            else:
                self._keep(frame)
            sent = 0
        runs.clear()

    def buffers(self) -> list[Buffer]:
        """Return what one sendmsg can take of what is kept."""
        return self.queue.buffers()

    def consume(self, sent: int) -> None:
        """Forget ``sent`` kept bytes, which are on the wire, and fill it up again."""
        self.queue.consume(sent)
        if self._overflow is not None or self._behind:
            self._refill()

    def end(self, status: int) -> None:
        """Keep ProcessExited behind everything else."""
        self.keep_unsent()
        if not self._discarding:
            payload = bytes([status])
            self._keep(frames.encode(Type.NOTIFICATION, Notification.PROCESS_EXITED, payload))

    def discard(self) -> None:
        """Drop what there is and all that will come."""
        self._discarding = True
        self._runs.clear()
        self._behind.clear()
        self._close_overflow()
        self.queue.clear()

    def _keep(self, frame: bytes) -> None:
        in_memory = self._overflow is None and not self._behind
        if in_memory and self.queue.size_bytes < self._buffer_bytes:
            self.queue.push(frame)
        elif not self._spool(frame):
            self._behind.append(frame)
            self._refill()

    def _spool(self, frame: bytes) -> bool:
        """Put a frame into the overflow; whether that has worked."""
        if self._behind or self._open_overflow is None:
            return False
        self.overflow_error = None
        try:
            if self._overflow is None:
                self._overflow = self._open_overflow()
            if self._overflow.room_bytes < len(frame):
                return False
            self._overflow.append(frame)
        except OSError as error:
            self.overflow_error = error
            return False
        return True

    def _refill(self) -> None:
        """Move frames from the overflow into the queue, then those behind it."""
        while self._overflow is not None and self.queue.size_bytes < self._refill_below():
            self._cut(self._unit + self._overflow.take(BURST_BYTES))
            if not self._overflow.size_bytes:
                self._close_overflow()
        if self._overflow is None:
            while self._behind and (not self.queue or self.queue.size_bytes < self._buffer_bytes):
                self.queue.push(self._behind.pop(0))

    def _cut(self, data: bytes) -> None:
        """Push the whole frames in ``data`` and keep the rest."""
        pos = 0
        while len(data) - pos >= frames.HEADER_BYTES:
            stop = pos + self._frame_bytes(data, pos)
            if stop > len(data):
                break
            self.queue.push(data[pos:stop])
            pos = stop
        self._unit = data[pos:]

    def _frame_bytes(self, data: bytes, pos: int) -> int:
        return frames.HEADER_BYTES + int.from_bytes(data[pos + 8 : pos + 12], "big")

    def _refill_below(self) -> int:
        return max(1, self._buffer_bytes // 2)

    def _close_overflow(self) -> None:
        if self._overflow is not None:
            self._overflow.close()
            self._overflow = None
            self._unit = b""
