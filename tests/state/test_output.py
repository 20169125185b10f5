"""Output on its way to a shim: nothing twice, nothing lost, and in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy_lib.state.output import (
    BURST_BYTES,
    READ_ALLOWANCE_BYTES,
    Buffer,
    FrameQueue,
    Output,
)
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


# ---- the batch


def test_without_output_there_is_no_batch() -> None:
    output = Output()
    assert output.batch() == []
    output.keep_unsent()
    assert not output.queue


def test_neighbouring_messages_of_one_stream_become_one_frame() -> None:
    output = Output()
    for stream, piece in [
        (Stream.STDOUT, b"a"),
        (Stream.STDOUT, b"b"),
        (Stream.STDERR, b"c"),
        (Stream.STDOUT, b"d"),
    ]:
        output.add(stream, memoryview(piece))
    assert read(b"".join(output.batch())) == [out(b"ab"), err(b"c"), out(b"d")]


def test_large_pieces_are_not_copied_and_small_ones_are_joined() -> None:
    output = Output()
    large = [memoryview(b"x" * 4096), memoryview(b"y" * 4096)]
    for piece in large:
        output.add(Stream.STDOUT, piece)
    for _ in range(10):
        output.add(Stream.STDERR, memoryview(b"z"))
    batch = output.batch()
    assert [len(buffer) for buffer in batch] == [12, 4096, 4096, 22]
    assert all(any(buffer is piece for buffer in batch) for piece in large)


def test_a_batch_that_was_sent_is_over() -> None:
    output = Output()
    output.add(Stream.STDOUT, memoryview(b"sent"))
    output.keep_unsent(len(b"".join(output.batch())))
    assert not output.queue
    assert output.batch() == []


def test_what_is_kept_is_a_copy() -> None:
    output, buffer = Output(), bytearray(b"first")
    output.add(Stream.STDOUT, memoryview(buffer))
    output.keep_unsent(3)
    buffer[:] = b"other"
    assert stdout_frame(b"first")[:3] + drain(output) == stdout_frame(b"first")


def test_more_runs_than_sendmsg_takes_buffers_go_out_all_the_same() -> None:
    output = Output()
    expected = [out(b"a"), err(b"b")] * 2000
    for _, opcode, payload in expected:
        output.add(Stream(opcode), memoryview(payload))
    batch = output.batch()
    assert len(batch) <= IOV_MAX
    assert read(b"".join(batch)) == expected
    output.keep_unsent(5)
    assert read(b"".join(batch)[:5] + drain(output)) == expected


def test_what_the_socket_took_of_a_batch_does_not_come_again() -> None:
    expected = [out(b"first"), err(b"second"), out(b"3"), err(b"last")]
    whole = b"".join(stdout_frame(payload) for _, _, payload in expected)
    for taken in range(len(whole) + 1):
        output = Output()
        for _, opcode, payload in expected:
            output.add(Stream(opcode), memoryview(payload))
        sent = b"".join(output.batch())[:taken]
        output.keep_unsent(taken)
        assert output.kept_bytes == len(whole) - taken
        assert read(sent + drain(output)) == expected


# ---- the queue


def test_an_offer_to_the_socket_has_its_bounds() -> None:
    queue = FrameQueue()
    large = [stdout_frame(b"%d" % n * (BURST_BYTES // 2)) for n in range(5)]
    for frame in large:
        queue.push(frame)
    assert BURST_BYTES <= sum(map(len, queue.buffers())) < 2 * BURST_BYTES
    assert drain(queue) == b"".join(large)


def test_a_queue_of_many_frames_is_offered_in_parts() -> None:
    queue = FrameQueue()
    many = [stdout_frame(b"%d" % n) for n in range(3000)]
    for frame in many:
        queue.push(frame)
    assert drain(queue) == b"".join(many)
    assert queue.size_bytes == 0


def test_a_frame_can_be_queued_with_part_of_it_sent() -> None:
    queue, frame = FrameQueue(), stdout_frame(b"answer")
    queue.push(frame, 5)
    assert queue.midway
    assert queue.size_bytes == len(frame) - 5
    assert drain(queue) == frame[5:]
    assert not queue and not queue.midway


def test_midway_is_only_inside_a_frame() -> None:
    queue, frame = FrameQueue(), stdout_frame(b"x")
    queue.push(frame)
    queue.push(frame)
    seen = []
    for _ in range(2 * len(frame)):
        seen.append(queue.midway)
        queue.consume(1)
    assert seen == [False, *[True] * (len(frame) - 1)] * 2
    assert not queue


def test_whoever_waits_for_room_is_told_when_there_is_more() -> None:
    queue, told = FrameQueue(), []
    queue.on_taken = lambda: told.append(queue.size_bytes)
    queue.push(stdout_frame(b"12345678"))
    assert told == []
    queue.consume(15)
    assert told == [5]
    queue.clear()
    assert told == [5, 0]
    assert not queue and not queue.midway


# ---- another connection


@pytest.mark.parametrize("sent", range(12))
def test_a_frame_whose_header_was_cut_off_starts_again(sent: int) -> None:
    queue, frame = FrameQueue(), stdout_frame(b"payload")
    queue.push(frame)
    queue.consume(sent)
    queue.rewind()
    assert not queue.midway
    assert queue.size_bytes == len(frame)
    assert drain(queue) == frame


@pytest.mark.parametrize("sent", range(12, 12 + 7))
def test_a_frame_whose_payload_was_cut_off_starts_again_with_the_rest(sent: int) -> None:
    queue, frame = FrameQueue(), stdout_frame(b"payload")
    queue.push(frame)
    queue.push(stdout_frame(b"next"))
    queue.consume(sent)
    queue.rewind()
    assert not queue.midway
    rest = stdout_frame(frame[sent:]) + stdout_frame(b"next")
    assert queue.size_bytes == len(rest)
    assert drain(queue) == rest


def test_between_frames_there_is_nothing_to_rewind() -> None:
    queue = FrameQueue()
    queue.rewind()
    queue.push(stdout_frame(b"a"))
    queue.push(stdout_frame(b"b"))
    queue.consume(13)
    queue.rewind()
    assert drain(queue) == stdout_frame(b"b")


# ---- the end


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_exit_status_comes_behind_everything(status: int) -> None:
    output = Output()
    output.add(Stream.STDOUT, memoryview(b"kept"))
    output.keep_unsent()
    output.add(Stream.STDERR, memoryview(b"in the batch"))
    output.end(status)
    assert read(drain(output)) == [out(b"kept"), err(b"in the batch"), exited(status)]


def test_what_nobody_wants_is_dropped() -> None:
    output = Output()
    output.add(Stream.STDOUT, memoryview(b"kept"))
    output.keep_unsent()
    output.add(Stream.STDOUT, memoryview(b"in the batch"))
    output.discard()
    assert output.batch() == [] and not output.queue
    output.add(Stream.STDERR, memoryview(b"later"))
    output.add(Stream.STDERR, memoryview(b"later"))
    assert output.batch() == []
    output.end(0)
    assert not output.queue
    assert output.kept_bytes == 0


# ---- more than memory may hold


def filled(output: Output, count: int, piece: bytes = b"x" * 88) -> list[Message]:
    """Keep ``count`` frames of 100 bytes, and return what they are."""
    for _ in range(count):
        output.add(Stream.STDOUT, memoryview(piece))
        output.keep_unsent()
    return [out(piece)] * count


def test_what_is_over_the_limit_goes_to_the_overflow_and_comes_back_in_order() -> None:
    opened: list[Memory] = []

    def open_overflow() -> Memory:
        opened.append(Memory(MIB))
        return opened[-1]

    output = Output(200, open_overflow)
    expected = filled(output, 2)
    assert not opened and output.spooled_bytes == 0
    expected += filled(output, 5, b"y" * 88)
    assert len(opened) == 1
    assert (output.queue.size_bytes, output.spooled_bytes, output.kept_bytes) == (200, 500, 700)
    output.end(3)
    assert read(drain(output)) == [*expected, exited(3)]
    assert opened[0].closed
    assert output.kept_bytes == output.spooled_bytes == 0


@pytest.mark.parametrize("take_bytes", [1, 13, 100, 130])
def test_it_does_not_matter_in_what_pieces_the_overflow_comes_back(take_bytes: int) -> None:
    output = Output(300, lambda: Memory(MIB, take_bytes))
    expected = filled(output, 20)
    output.end(3)
    assert read(drain(output)) == [*expected, exited(3)]


@pytest.mark.parametrize("capacity", [None, 20, 110, 250, 1000, MIB])
@pytest.mark.parametrize("buffer_bytes", [1, 250, 1000])
@pytest.mark.parametrize("taken", [70, 130, 290])
def test_what_comes_while_some_is_taken_goes_behind_what_is_kept(
    capacity: int | None, buffer_bytes: int, taken: int
) -> None:
    output = Output(buffer_bytes, (lambda: Memory(capacity)) if capacity else None)
    expected, sent = [], b""
    for n in range(60):
        # More comes than goes at first, then nothing at all.
        if n < 20:
            expected += filled(output, 3, b"%2d" % n * 44)
        offered = b"".join(output.buffers())[:taken]
        output.consume(len(offered))
        sent += offered
    assert read(sent + drain(output)) == expected


def test_an_overflow_is_opened_again_when_it_is_needed_again() -> None:
    opened: list[Memory] = []

    def open_overflow() -> Memory:
        opened.append(Memory(MIB))
        return opened[-1]

    output = Output(100, open_overflow)
    for _ in range(2):
        expected = filled(output, 4)
        assert joined(read(drain(output))) == joined(expected)
    assert [overflow.closed for overflow in opened] == [True, True]


def test_discarding_closes_the_overflow() -> None:
    overflow = Memory(MIB)
    output = Output(100, lambda: overflow)
    filled(output, 4)
    assert not overflow.closed
    output.discard()
    assert overflow.closed
    assert output.kept_bytes == 0


def test_without_an_overflow_the_limit_makes_the_output_full() -> None:
    output = Output(200)
    expected = filled(output, 1)
    assert not output.full
    expected += filled(output, 1)
    assert output.full
    expected += filled(output, 2)  # what was read already is kept all the same
    assert output.full and output.kept_bytes == 400
    assert read(drain(output)) == expected
    assert not output.full


def test_with_an_overflow_the_output_is_full_when_the_next_read_might_not_fit() -> None:
    output = Output(100, lambda: Memory(READ_ALLOWANCE_BYTES + 150))
    expected = filled(output, 1)
    assert not output.full, "the overflow has yet to be opened"
    expected += filled(output, 1)
    assert not output.full
    expected += filled(output, 1)
    assert output.full
    assert read(drain(output)) == expected
    assert not output.full


def test_frames_that_the_overflow_has_no_room_for_are_kept_behind_it() -> None:
    output = Output(100, lambda: Memory(250))
    expected = filled(output, 3) + filled(output, 3, b"y" * 88)
    assert output.full
    assert (output.spooled_bytes, output.kept_bytes) == (200, 600)
    assert read(drain(output)) == expected
    assert not output.full


def test_an_overflow_too_small_for_any_frame_holds_up_nothing() -> None:
    output = Output(100, lambda: Memory(50))
    expected = filled(output, 3)
    assert output.full
    assert read(drain(output)) == expected


def test_an_overflow_that_cannot_be_opened_makes_the_output_full_and_loses_nothing() -> None:
    def open_overflow() -> Memory:
        raise OSError("too many open files")

    output = Output(100, open_overflow)
    expected = filled(output, 3)
    assert output.full and output.spooled_bytes == 0
    assert read(drain(output)) == expected


def test_a_full_disk_makes_the_output_full_and_loses_nothing() -> None:
    overflow = Memory(MIB)
    overflows = [Memory(MIB), overflow]
    output = Output(100, overflows.pop)
    expected = filled(output, 3)
    overflow.disk_is_full = True
    expected += filled(output, 2, b"y" * 88)
    assert output.full and output.spooled_bytes == 200
    assert output.overflow_error is not None
    assert read(drain(output)) == expected
    expected = filled(output, 3)
    assert output.overflow_error is None
    assert read(drain(output)) == expected


# ---- for any sequence


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
