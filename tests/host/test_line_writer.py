"""Lines for readers that are slow, gone or fine: real pipes, sockets and terminals."""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import socket
import sys
import termios
import threading
import tty

import pytest

from ccproxy_lib.host import line_writer, logs
from ccproxy_lib.host.line_writer import LineHandler, LineWriter

LIMIT_BYTES = 10_000
LINE = b"x" * 99 + b"\n"
# In the place of deadlines where it does not matter when they are.
PATIENCE_S = 30.0


@pytest.fixture
def pipe():
    """Both ends of a pipe, as descriptors; the reading one does not wait."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    for end in (reader, writer):
        with open(end, "rb", buffering=0):
            pass


@pytest.fixture
def make_writer():
    made = []

    def make(descriptor, limit_bytes=LIMIT_BYTES):
        writer = LineWriter(descriptor, lambda count: b"dropped %d\n" % count, limit_bytes)
        made.append(writer)
        return writer

    yield make
    for writer in made:
        writer.close()


def read_all(descriptor) -> bytes:
    got = b""
    while True:
        try:
            data = os.read(descriptor, 1 << 20)
        except BlockingIOError:
            return got
        if not data:
            return got
        got += data


def fill(writer, line=LINE) -> int:
    """Write until something is kept; return how many lines that took."""
    stuck = []
    writer.on_stuck = lambda: stuck.append(True)
    for count in range(1, 1_000_000):
        writer.write(line)
        if stuck:
            return count
    raise AssertionError("everything is taken")


def numbered(count) -> list[bytes]:
    return [b"%06d %s\n" % (number, b"x" * 92) for number in range(count)]


def test_what_is_taken_is_there_at_once(pipe, make_writer):
    writer = make_writer(pipe[1])
    writer.write(b"one\n")
    assert os.read(pipe[0], 100) == b"one\n"


def test_the_descriptor_of_others_stays_as_it_was(pipe, make_writer):
    writer = make_writer(pipe[1])
    fill(writer)
    assert os.get_blocking(pipe[1])
    writer.close()
    assert os.fstat(pipe[1])


def test_a_slow_reader_gets_all_in_order(pipe, make_writer):
    writer = make_writer(pipe[1])
    lines = numbered(700)  # some 64 KiB of them go into the pipe
    for line in lines:
        writer.write(line)
    got = read_all(pipe[0])
    assert writer.flush()
    assert got + read_all(pipe[0]) == b"".join(lines)


def test_what_is_too_much_is_dropped_and_counted_in_its_place(pipe, make_writer):
    writer = make_writer(pipe[1])
    lines = numbered(1000)
    for line in lines:
        writer.write(line)
    got = read_all(pipe[0])
    assert writer.flush()
    writer.write(b"after\n")
    got += read_all(pipe[0])
    *kept, notice, last = got.splitlines(keepends=True)
    assert kept == lines[: len(kept)]
    assert notice == b"dropped %d\n" % (len(lines) - len(kept))
    assert last == b"after\n"
    assert len(got) - 65536 < LIMIT_BYTES + len(LINE)


def test_once_something_is_dropped_no_later_line_jumps_the_gap(pipe, make_writer):
    writer = make_writer(pipe[1])
    fill(writer)
    for line in numbered(200):
        writer.write(line)
    os.read(pipe[0], 8192)  # room for some of what is kept, not for all
    writer.write(b"short\n")
    got = b""
    while not writer.flush():
        got += os.read(pipe[0], 8192)
    got += read_all(pipe[0])
    assert b"short" not in got
    assert got.splitlines()[-1].startswith(b"dropped ")


def test_it_tells_once_that_it_is_stuck(pipe, make_writer):
    writer = make_writer(pipe[1])
    fill(writer)
    told = []
    writer.on_stuck = lambda: told.append(True)
    writer.write(LINE)
    assert told == []
    read_all(pipe[0])
    assert writer.flush()
    fill(writer)


def test_a_reader_that_is_gone_costs_nothing(pipe, make_writer):
    writer = make_writer(pipe[1])
    fill(writer)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), pipe[0])  # closes the reading end
    writer.write(LINE)
    assert writer.flush()
    for _ in range(10):
        writer.write(LINE)


def test_an_end_waits_for_a_reader_that_is_only_slow(pipe, make_writer, monkeypatch):
    monkeypatch.setattr(line_writer, "STUCK_S", PATIENCE_S)
    monkeypatch.setattr(line_writer, "DRAIN_S", PATIENCE_S)
    lines = numbered(5000)  # far more than goes into the pipe
    writer = make_writer(pipe[1], len(lines) * len(LINE))
    for line in lines:
        writer.write(line)
    os.set_blocking(pipe[0], True)
    got = []

    def read() -> None:
        while data := os.read(pipe[0], 1000):
            got.append(data)

    reading = threading.Thread(target=read)
    reading.start()
    writer.drain()
    writer.close()
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), pipe[1])  # closes the writing end
    reading.join()
    assert b"".join(got) == b"".join(lines)


def test_an_end_does_not_wait_for_a_reader_that_is_stuck(pipe, make_writer, monkeypatch):
    monkeypatch.setattr(line_writer, "STUCK_S", 0.01)
    writer = make_writer(pipe[1])
    fill(writer)
    writer.drain()
    assert not writer.flush()


def test_after_the_end_nothing_is_written(pipe, make_writer):
    writer = make_writer(pipe[1])
    own = writer.descriptor
    assert own != pipe[1]
    writer.close()
    writer.close()
    writer.write(LINE)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(own)
    assert read_all(pipe[0]) == b""


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_socket(make_writer, kind):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        writer = make_writer(ours.fileno())
        count = fill(writer)
        assert ours.getblocking()
        got = b""
        while len(got) < count * len(LINE):
            got += theirs.recv(1 << 16)
            writer.flush()
        assert got == LINE * count
        writer.close()


def test_a_file(tmp_path, make_writer):
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    with open(path, "ab") as file:
        writer = make_writer(file.fileno())
        for _ in range(1000):
            writer.write(LINE)
    assert path.read_bytes() == b"before\n" + LINE * 1000


@pytest.fixture
def terminal():
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    yield master, slave
    for end in (master, slave):
        with open(end, "rb", buffering=0):
            pass


def test_a_terminal_that_is_stopped(terminal, make_writer):
    master, slave = terminal
    writer = make_writer(slave)
    writer.write(b"before\n")
    termios.tcflow(slave, termios.TCOOFF)  # as Ctrl-S does
    for _ in range(10):
        writer.write(LINE)
    assert not writer.flush()
    assert read_all(master) == b"before\n"
    termios.tcflow(slave, termios.TCOON)
    assert writer.flush()
    assert read_all(master) == LINE * 10


def test_a_pipe_that_cannot_be_opened_again(pipe, make_writer, monkeypatch):
    def refuse(*_) -> int:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(line_writer.os, "open", refuse)
        writer = make_writer(pipe[1])
    assert writer.descriptor == pipe[1]
    long = b"y" * 10_000 + b"\n"
    count = fill(writer, long)  # hangs if it waits
    got = read_all(pipe[0])
    assert writer.flush()
    assert got + read_all(pipe[0]) == long * count


# ---- as a handler


@pytest.fixture
def handler(pipe):
    handler = LineHandler(pipe[1])
    handler.writer._limit_bytes = LIMIT_BYTES
    handler.setFormatter(logs.LogfmtFormatter(timed=False))
    yield handler
    handler.close()


def record(message: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "levelno": logging.INFO})


def test_the_log_says_how_many_lines_are_missing(pipe, handler):
    for _ in range(2000):
        handler.handle(record("x" * 50))
    got = read_all(pipe[0])
    assert handler.writer.flush()
    got += read_all(pipe[0])
    *lines, notice = got.decode().splitlines()
    missing = 2000 - len(lines)
    assert missing > 0
    why = '"log lines dropped: whoever reads stderr is too slow"'
    assert notice == f"level=warning msg={why} count={missing}"


def test_odd_characters_are_written_all_the_same(pipe, handler):
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.handle(record("odd \udcff \u20ac"))
    assert read_all(pipe[0]) == b"odd \\udcff \xe2\x82\xac\n"


def test_a_record_that_cannot_be_written_hurts_nobody(pipe, handler, monkeypatch):
    told = io.StringIO()
    monkeypatch.setattr(sys, "stderr", told)
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    handler.handle(record("next"))
    assert "Logging error" in told.getvalue()
    assert read_all(pipe[0]) == b"level=info msg=next\n"


def test_no_descriptor_reaches_a_program_that_is_run(pipe, make_writer):
    writer = make_writer(pipe[1])
    assert fcntl.fcntl(writer.descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
