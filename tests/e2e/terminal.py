"""A program of ours on a pseudo terminal, and the user in front of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import termios

import pexpect
from pexpect import fdpexpect

from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP, wait_until

# pexpect's own way to start a program warns where there are threads.


class Terminal(fdpexpect.fdspawn):
    """What the program shows is expected, what the user types is sent."""

    def __init__(self, *arguments: str, rows: int = 24, columns: int = 80, program=PROGRAM):
        master, slave = os.openpty()
        super().__init__(master, timeout=PATIENCE_S, encoding="utf-8")
        self.delaybeforesend = None
        self.resize(rows, columns)
        self.modes_before = self.modes()
        self.process = subprocess.Popen(
            [*program, *arguments],
            cwd=TOP,
            env=os.environ | {"TERM": "xterm-256color", "NO_COLOR": ""},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # Only then do its keys and its changes of size become signals.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.child_fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self) -> list:
        return termios.tcgetattr(self.child_fd)

    def wait_until_stopped(self) -> None:
        """Wait for what Ctrl-Z does, reading what is shown meanwhile."""

        def stopped() -> bool:
            self.expect([r"(?s).+", pexpect.TIMEOUT], timeout=0)
            return os.waitpid(self.process.pid, os.WNOHANG | os.WUNTRACED)[0] != 0

        wait_until(stopped, "the program has stopped")

    def end(self) -> tuple[int, str]:
        """Return the exit status and what was shown last; the terminal must be as before."""
        self.expect(pexpect.EOF)
        status = self.process.wait(PATIENCE_S)
        assert self.modes() == self.modes_before
        return status, self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        super().close()


def shown(text: str) -> str:
    """Text without the escape sequences of colours and of the cursor."""
    return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", text)


@contextlib.contextmanager
def on_terminal(*arguments: str, **options):
    terminal = Terminal(*arguments, **options)
    try:
        yield terminal
    finally:
        terminal.close()


def is_raw(terminal: Terminal) -> bool:
    return not terminal.modes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
