"""The agent's ends of a process's standard streams: pipes or a terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from itertools import chain
from typing import Protocol

from gevent.monkey import get_original
from gevent.os import make_nonblocking, nb_write

# Under the share of an unprivileged user even with a hundred pipes.
_PIPE_BYTES = 256 * 1024
# The patched one may wait until something else wakes the loop; an end of file must not.
_close = get_original("os", "close")


class Streams(Protocol):
    """Both ends of a process's streams; outputs are stdout and, where it is apart, stderr."""

    stdin_fd: int
    output_fds: list[int]
    # What the process gets as 0, 1 and 2.
    process_fds: tuple[int, int, int]
    terminal: bool

    def close_process_side(self) -> None:
        """Close what only the process needs."""

    def end_stdin(self) -> None:
        """Let the process see the end of its stdin."""

    def resize(self, row: int, column: int) -> None:
        """Set a terminal's size."""

    def close(self) -> None:
        """Close the agent's side."""


class Pipes:
    """Pipes; with ``merged`` stderr goes where stdout goes."""

    terminal = False

    def __init__(self, merged: bool) -> None:
        (process_stdin, self.stdin_fd), *outputs = _open_pipes(2 if merged else 3)
        self.output_fds = [read_end for read_end, _ in outputs]
        self.process_fds = (process_stdin, outputs[0][1], outputs[-1][1])
        for fd in (self.stdin_fd, *self.output_fds):
            make_nonblocking(fd)

    def close_process_side(self) -> None:
        for fd in set(self.process_fds):
            _close(fd)

    def end_stdin(self) -> None:
        if self.stdin_fd != -1:
            _close(self.stdin_fd)
            self.stdin_fd = -1

    def resize(self, row: int, column: int) -> None:
        raise ValueError("pipes have no size")

    def close(self) -> None:
        self.end_stdin()
        for fd in self.output_fds:
            _close(fd)


class Terminal:
    """A pseudo terminal."""

    terminal = True

    def __init__(self) -> None:
        self.stdin_fd, slave = os.openpty()
        self.output_fds = [self.stdin_fd]
        self.process_fds = (slave, slave, slave)
        make_nonblocking(self.stdin_fd)

    def close_process_side(self) -> None:
        _close(self.process_fds[0])

    def end_stdin(self) -> None:
        special_characters = termios.tcgetattr(self.stdin_fd)[6]
        nb_write(self.stdin_fd, special_characters[termios.VEOF])

    def resize(self, row: int, column: int) -> None:
        size = struct.pack("HHHH", row, column, 0, 0)
        fcntl.ioctl(self.stdin_fd, termios.TIOCSWINSZ, size)

    def close(self) -> None:
        _close(self.stdin_fd)


def take_terminal() -> None:
    """Make stdin's terminal the controlling one; for a forked child that leads its session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _open_pipes(count: int) -> list[tuple[int, int]]:
    """Open all of them or, with OSError, none."""
    pipes: list[tuple[int, int]] = []
    try:
        for _ in range(count):
            pipes.append(os.pipe())
            _enlarge(pipes[-1][0])
    except OSError:
        for fd in chain.from_iterable(pipes):
            _close(fd)
        raise
    return pipes


def _enlarge(pipe_fd: int) -> None:
    try:
        fcntl.fcntl(pipe_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except PermissionError:
        pass  # The user's share of pipe memory is used up: the pipe is smaller, no more.
