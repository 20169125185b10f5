"""No header is torn, whenever a VM reads, and it need not have read all before it gets more."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.service.stream import Stream
from ccproxy_lib.service.unread import PIECES_IN_A_WRITE, Unread, pieces_in_a_write
from ccproxy_lib.state.input import Input, InputQueue
from ccproxy_lib.wire.tty import HEADER

PIECE_BYTES = 4096


class Guest:
    """Reads the host's socket as QEMU does, and headers as the Clear Containers agent."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._seq = 0
        self._left = 0
        self.got: dict[int, bytearray] = {}

    def read_piece(self) -> int:
        try:
            piece = self._channel.recv(PIECE_BYTES)
        except BlockingIOError:
            return 0
        rest = piece
        while rest:
            if not self._left:
                assert len(rest) >= HEADER.size, "torn header"
                self._seq, length = HEADER.unpack_from(rest)
                self._left = length - HEADER.size
                rest = rest[HEADER.size :]
            data, rest = rest[: self._left], rest[self._left :]
            self._left -= len(data)
            self.got.setdefault(self._seq, bytearray()).extend(data)
        return len(piece)


class Channel:
    """Both ends of a VM's I/O channel."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.stream, self._theirs = Stream(ours), theirs
        self.unread, self.queue = Unread(self.stream), InputQueue()
        self.guest = Guest(theirs)
        self._waiting: deque[bytes] = deque()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()
        self._theirs.close()

    def send(self) -> int:
        """Send what may be sent now in one write; return how much that was."""
        if not self._waiting:
            if not self.queue or not self.unread.is_little():
                return 0
            self._waiting.append(self.unread.next_write(self.queue))
        sent = self.stream.try_send((self._waiting[0],))
        assert sent in (0, len(self._waiting[0])), "a write shows as a whole or not at all"
        if sent:
            self._waiting.popleft()
        return sent


@pytest.fixture
def channel() -> Iterator[Channel]:
    with Channel() as channel:
        yield channel


SEQS = range(1, 121, 2)
SIZES = st.one_of(
    st.integers(1, 100),
    st.integers(1, 100_000),
    st.sampled_from([2164, 2165, 4072, 4083, 4084, 4085, 8 * 4084, 100_000]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(SEQS), SIZES),
        st.tuples(st.just("push to all"), st.integers(1, 90), st.none()),
        st.tuples(st.just("send"), st.integers(1, 3), st.none()),
        st.tuples(st.just("read"), st.integers(1, 20), st.none()),
    ),
    min_size=5,
    max_size=40,
)


@given(STEPS)
def test_no_header_is_torn_whenever_the_vm_reads(steps: list[tuple[str, int, int]]) -> None:
    with Channel() as channel:
        inputs = {seq: Input(seq) for seq in SEQS}
        due = {seq: bytearray() for seq in inputs}
        for what, number, size in steps:
            if what == "push":
                data = bytes(n % 251 for n in range(size))
                channel.queue.push(inputs[number], data)
                due[number] += data
            elif what == "push to all":
                for seq in SEQS:
                    channel.queue.push(inputs[seq], bytes(number))
                    due[seq] += bytes(number)
            elif what == "send":
                for _ in range(number):
                    channel.send()
            else:
                for _ in range(number):
                    channel.guest.read_piece()
        while channel.send() + channel.guest.read_piece():
            pass
        assert not channel.queue
        assert channel.guest.got == {seq: data for seq, data in due.items() if data}


def test_a_header_that_would_lie_across_two_pieces_waits(channel) -> None:
    channel.queue.push(Input(1), bytes(1))
    sent = channel.send()
    channel.queue.push(Input(3), bytes(PIECE_BYTES - 6 - sent - HEADER.size))
    channel.queue.push(Input(5), bytes(1))
    assert sent + channel.send() == PIECE_BYTES - 6
    assert channel.send() == 0
    channel.guest.read_piece()
    assert channel.send() == HEADER.size + 1


def test_bulk_goes_in_large_writes_while_the_vm_reads_nothing(channel) -> None:
    channel.queue.push(Input(1), bytes(1 << 20))
    assert channel.send() == channel.send() == PIECES_IN_A_WRITE * PIECE_BYTES
    while channel.send():
        pass
    assert channel.queue, "what nobody reads does not all go into the socket"


def test_behind_a_part_of_a_piece_one_write_more_is_sent_until_all_is_read(channel) -> None:
    shell = Input(1)
    channel.queue.push(shell, bytes(100))
    assert channel.send() == 112
    channel.queue.push(shell, bytes(1 << 20))
    assert channel.send() == PIECE_BYTES
    assert channel.send() == 0
    assert channel.guest.read_piece() == PIECE_BYTES
    assert channel.guest.read_piece() == 112
    assert channel.send() == PIECES_IN_A_WRITE * PIECE_BYTES


def test_whoever_waits_is_woken_when_little_is_unread(channel) -> None:
    shell = Input(1)
    channel.queue.push(shell, bytes(3000))
    channel.send()
    waiting = gevent.spawn(channel.unread.wait_until_little)
    gevent.idle()
    assert not waiting.dead
    channel.guest.read_piece()
    waiting.get()
    channel.queue.push(shell, bytes(1 << 20))
    assert channel.send() == PIECES_IN_A_WRITE * PIECE_BYTES


@pytest.mark.parametrize(
    ("buffer_bytes", "pieces"), [(4608, 1), (8704, 1), (16512, 2), (1 << 20, PIECES_IN_A_WRITE)]
)
def test_a_write_stays_within_half_of_the_send_buffer(buffer_bytes: int, pieces: int) -> None:
    assert pieces_in_a_write(buffer_bytes) == pieces
