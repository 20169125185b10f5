"""Whatever the sequence of sends, no output is lost and none comes twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy_lib.state.output import Buffer, FrameQueue, Output
from ccproxy_lib.wire.frames import Stream, Type
from tests.state.sent import (
    IOV_MAX,
    MIB,
    Memory,
    Message,
    drain,
    exited,
    joined,
    read,
    stdout_frame,
)


@dataclass
class Room:
    """How much an output may hold, and where."""

    buffer_bytes: int
    open_overflow: Callable[[], Memory] | None


ROOMS = st.builds(
    Room,
    st.sampled_from([1, 60, 300, MIB]),
    st.one_of(
        st.none(),
        st.builds(
            lambda capacity, take: lambda: Memory(capacity, take),
            st.sampled_from([20, 100, 500, MIB]),
            st.sampled_from([1, 13, 100, MIB]),
        ),
    ),
)


# How much the socket takes of an offer.
TAKEN = st.one_of(st.integers(0, 40), st.just(1 << 30))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add"] * 4 + ["deliver"] * 3 + ["write"] * 2 + ["keep", "reconnect"]),
        st.sampled_from([Stream.STDOUT, Stream.STDERR]),
        st.one_of(st.integers(1, 60), st.integers(1, 3000)),
        TAKEN,
    ),
    min_size=8,
    max_size=40,
)


class Conversation:
    """An output and the connections that it goes to, one after another."""

    def __init__(self, room: Room) -> None:
        self.output = Output(room.buffer_bytes, room.open_overflow)
        self.connections = [b""]
        self.expected: list[Message] = []
        self._buffer = bytearray(1 << 18)
        self._filled = 0
        self._made = 0

    def add(self, stream: Stream, size: int) -> None:
        """Add a message as the reader does: a view into the buffer that it reads into."""
        payload = bytes((self._made + n) % 251 for n in range(size))
        self._made += size
        view = memoryview(self._buffer)[self._filled : self._filled + size]
        view[:] = payload
        self._filled += size
        self.output.add(stream, view)
        self.expected.append((Type.STREAM, stream, payload))

    def deliver(self, taken: int) -> None:
        """Send the batch if nothing waits before it, and keep what is not taken."""
        if self.output.queue:
            self.keep()
            self.write(taken)
        else:
            self.output.keep_unsent(self._send(self.output.batch(), taken))
            self._reuse_buffer()

    def keep(self) -> None:
        self.output.keep_unsent()
        self._reuse_buffer()

    def write(self, taken: int) -> None:
        self.output.consume(self._send(self.output.buffers(), taken))

    def reconnect(self) -> None:
        self.keep()
        self.output.queue.rewind()
        self.connections.append(b"")

    def _send(self, buffers: list[Buffer], taken: int) -> int:
        assert len(buffers) <= IOV_MAX
        sent = b"".join(buffers)[:taken]
        self.connections[-1] += sent
        return len(sent)

    def _reuse_buffer(self) -> None:
        self._buffer[: self._filled] = b"\xff" * self._filled
        self._filled = 0


@settings(max_examples=3 * settings.default.max_examples)
@given(STEPS, ROOMS, st.integers(0, 255))
def test_any_sequence_of_sends_loses_nothing_and_sends_nothing_twice(
    steps: list[tuple[str, Stream, int, int]], room: Room, status: int
) -> None:
    conversation = Conversation(room)
    output = conversation.output
    for step, stream, size, taken in steps:
        if step == "add":
            conversation.add(stream, size)
        elif step == "deliver":
            conversation.deliver(taken)
        elif step == "keep":
            conversation.keep()
        elif step == "write":
            conversation.write(taken)
        else:
            conversation.reconnect()
        assert bool(output.queue) == bool(output.kept_bytes)
        assert bool(output.buffers()) == bool(output.queue)
    output.end(status)
    while output.queue:
        conversation.write(1 << 30)
    received = [message for sent in conversation.connections for message in read(sent)]
    assert all(payload for _, _, payload in received), "an empty frame looks like an end of file"
    assert received[-1] == exited(status)
    assert joined(received) == [*joined(conversation.expected), exited(status)]
    assert output.kept_bytes == 0


@given(
    st.lists(st.binary(min_size=1, max_size=30), max_size=12),
    st.lists(st.tuples(st.integers(0, 80), st.booleans()), max_size=30),
)
def test_the_size_of_a_queue_is_what_has_yet_to_be_sent(
    payloads: list[bytes], sends: list[tuple[int, bool]]
) -> None:
    queue = FrameQueue()
    for payload in payloads:
        queue.push(stdout_frame(payload))
    for taken, reconnect in sends:
        assert queue.size_bytes == sum(map(len, queue.buffers()))
        queue.consume(min(taken, queue.size_bytes))
        if reconnect:
            queue.rewind()
    assert queue.size_bytes == len(drain(queue))
    assert queue.size_bytes == 0


@given(st.lists(st.tuples(st.sampled_from([Stream.STDOUT, Stream.STDERR]), st.binary(min_size=1))))
def test_what_has_come_is_counted_whether_it_is_sent_or_kept(messages) -> None:
    for sent_all in (True, False):
        output = Output()
        for stream, data in messages:
            output.add(stream, memoryview(data))
        size = sum(map(len, output.batch()))
        output.keep_unsent(size if sent_all else size // 2)
        assert output.messages == len(messages)
        assert output.payload_bytes == sum(len(data) for _, data in messages)
