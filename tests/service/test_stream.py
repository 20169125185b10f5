"""The sockets under everything: what is left of one when it is closed."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import gevent
import pytest

from ccproxy_lib.service.stream import Stream

# For a test that hangs; nothing here takes any time.
PATIENCE_S = 30.0


def test_a_closed_stream_is_refused_and_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        stream = Stream(ours)
        with pytest.raises(TimeoutError):
            stream.receive_within(10, 0.001)  # it has been waited for before
        stream.close()
        with gevent.Timeout(PATIENCE_S), pytest.raises(OSError) as refusal:
            stream.receive(10)
        assert refusal.value.errno == errno.EBADF


def test_closing_a_stream_wakes_those_who_wait(ends) -> None:
    """The greenlets of a VM that is over end by themselves."""
    stream, _ = ends
    reader = gevent.spawn(stream.receive, 10)
    writer = gevent.spawn(stream.send_all, bytes(1 << 24))
    gevent.idle()
    stream.close()
    assert reader.get() == b""
    with pytest.raises(OSError):
        writer.get()


def test_closing_a_stream_is_told_to_who_waits_to_write(ends) -> None:
    """The socket says nothing of it; its number may be another's by then."""
    stream, _ = ends
    with pytest.raises(BlockingIOError):
        while True:
            stream.plain.send(bytes(1 << 16))
    writer = gevent.spawn(stream.wait_writable)
    gevent.idle()
    stream.close()
    for wait in (writer.get, stream.wait_writable):
        with pytest.raises(OSError) as refusal:
            wait()
        assert refusal.value.errno == errno.EBADF


def test_closing_a_stream_wakes_who_reads_into_a_buffer(ends) -> None:
    stream, _ = ends
    reader = gevent.spawn(stream.receive_into, memoryview(bytearray(10)))
    gevent.idle()
    stream.close()
    assert reader.get() == 0


def test_a_reader_that_a_close_finds_awake_is_woken_once(ends) -> None:
    """Its shortcut has the stream closed, and leaves the data to it nevertheless."""
    stream, theirs = ends

    def close(data: bytes) -> bool:
        stream.close()
        return False

    def read_and_wait() -> bytes:
        data = stream.receive(10)
        gevent.sleep(0.001)
        return data

    stream.shortcut = close
    reader = gevent.spawn(read_and_wait)
    gevent.idle()
    theirs.sendall(b"data")
    assert reader.get() == b"data"


def test_a_reader_that_always_finds_more_leaves_turns_to_others(ends) -> None:
    stream, theirs = ends
    theirs.sendall(bytes(1000))
    assert len(stream.receive(10)) == 10
    other = gevent.spawn(lambda: None)
    for _ in range(10):
        stream.receive(10)
    assert other.dead


# ---- the shortcut


class Taker:
    """Takes what is in capitals, in the hub, and keeps what it was asked about."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bool]] = []

    def __call__(self, data: bytes) -> bool:
        self.asked.append((data, gevent.getcurrent() is gevent.get_hub()))
        return data.isupper()


@pytest.fixture(name="ends")
def make_ends() -> Iterator[tuple[Stream, socket.socket]]:
    ours, theirs = socket.socketpair()
    stream = Stream(ours)
    with theirs, gevent.Timeout(PATIENCE_S):
        yield stream, theirs
    stream.close()


def test_a_reader_sleeps_on_over_what_its_shortcut_takes(ends) -> None:
    stream, theirs = ends
    stream.shortcut = taker = Taker()
    reader = gevent.spawn(stream.receive, 10)
    for data in (b"TAKE", b"THESE", b"not this"):
        gevent.idle()
        theirs.sendall(data)
        while data not in [asked for asked, _ in taker.asked]:
            gevent.sleep(0)
    assert reader.get() == b"not this"
    assert taker.asked == [(b"TAKE", True), (b"THESE", True), (b"not this", True)]


def test_a_reader_that_does_not_wait_needs_no_shortcut(ends) -> None:
    """As it has not read all that there was."""
    stream, theirs = ends
    stream.shortcut = taker = Taker()
    theirs.sendall(b"smallBIG")
    assert stream.receive(5) == b"small"
    assert stream.receive(5) == b"BIG"
    assert taker.asked == [(b"small", True)]


def test_a_reader_has_the_end_of_a_stream_with_a_shortcut(ends) -> None:
    stream, theirs = ends
    stream.shortcut = Taker()
    reader = gevent.spawn(stream.receive, 10)
    gevent.idle()
    theirs.shutdown(socket.SHUT_WR)
    assert reader.get() == b""


def test_a_reader_is_told_that_its_connection_was_reset(ends) -> None:
    stream, theirs = ends
    stream.shortcut = Taker()
    stream.plain.sendall(b"never read")
    reader = gevent.spawn(stream.receive, 10)
    gevent.idle()
    theirs.close()
    with pytest.raises(ConnectionResetError):
        reader.get()


def test_a_reader_has_the_error_of_its_shortcut(ends) -> None:
    stream, theirs = ends

    def fail(data: bytes) -> bool:
        raise LookupError(data)

    stream.shortcut = fail
    reader = gevent.spawn(stream.receive, 10)
    gevent.idle()
    theirs.sendall(b"data")
    with pytest.raises(LookupError, match="data"):
        reader.get()
