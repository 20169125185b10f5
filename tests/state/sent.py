"""What an output sends, taken and read as a shim would."""

from __future__ import annotations

from ccproxy_lib.state.output import FrameQueue, Output
from ccproxy_lib.wire import frames
from ccproxy_lib.wire.frames import FrameParser, Notification, Stream, Type

# sendmsg takes no more buffers than this.
IOV_MAX = 1024
HEADER_BYTES = 12
MIB = 1 << 20

Message = tuple[int, int, bytes]


class Memory:
    """An overflow that holds its bytes in memory, and hands out so many at a time."""

    def __init__(self, capacity_bytes: int, take_bytes: int = MIB) -> None:
        self._data = bytearray()
        self._capacity_bytes = capacity_bytes
        self._take_bytes = take_bytes
        self.disk_is_full = False
        self.closed = False

    @property
    def size_bytes(self) -> int:
        return len(self._data)

    @property
    def room_bytes(self) -> int:
        return self._capacity_bytes - len(self._data)

    def append(self, data: bytes) -> None:
        assert len(data) <= self.room_bytes and not self.closed
        if self.disk_is_full:
            raise OSError("no space left on device")
        self._data += data

    def take(self, limit_bytes: int) -> bytes:
        assert not self.closed
        count = min(limit_bytes, self._take_bytes)
        taken = bytes(self._data[:count])
        del self._data[:count]
        return taken

    def close(self) -> None:
        self._data.clear()
        self.closed = True


def read(sent: bytes) -> list[Message]:
    """Read what came over one connection, the last frame of which may be cut off."""
    found = [
        (frame.type, frame.opcode, bytes(frame.payload))
        for frame in FrameParser(max_payload_bytes=1 << 32).feed(sent)
    ]
    rest = sent[sum(HEADER_BYTES + len(payload) for _, _, payload in found) :]
    if len(rest) > HEADER_BYTES:
        found.append((rest[6] & 15, rest[7], rest[HEADER_BYTES:]))
    return found


def joined(messages: list[Message]) -> list[Message]:
    """Put neighbours of one stream together: where frames end does not matter."""
    runs: list[Message] = []
    for type, opcode, payload in messages:
        if runs and type == Type.STREAM and runs[-1][:2] == (type, opcode):
            runs[-1] = type, opcode, runs[-1][2] + payload
        else:
            runs.append((type, opcode, payload))
    return runs


def drain(source: Output | FrameQueue) -> bytes:
    """Send everything that is kept, as much at a time as is offered."""
    sent = b""
    queue = source.queue if isinstance(source, Output) else source
    while queue:
        buffers = source.buffers()
        assert 0 < len(buffers) <= IOV_MAX
        sent += b"".join(buffers)
        source.consume(sum(map(len, buffers)))
    return sent


def out(payload: bytes) -> Message:
    return Type.STREAM, Stream.STDOUT, payload


def err(payload: bytes) -> Message:
    return Type.STREAM, Stream.STDERR, payload


def exited(status: int) -> Message:
    return Type.NOTIFICATION, Notification.PROCESS_EXITED, bytes([status])


def stdout_frame(payload: bytes) -> bytes:
    return frames.encode(Type.STREAM, Stream.STDOUT, payload)
