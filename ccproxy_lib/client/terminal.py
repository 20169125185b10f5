"""The user's terminal in raw mode, and back again however that ends."""

from __future__ import annotations

import os
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def raw_mode(descriptor: int) -> Iterator[Callable[[], None]]:
    """Put the terminal into raw mode for a while: keys reach the process, not this program.

    The context's value puts it there again, after a stop that has let the shell
    have its own way.
    """
    before = termios.tcgetattr(descriptor)

    def enter() -> None:
        with unstopped(signal.SIGTTOU):
            tty.setraw(descriptor, termios.TCSANOW)

    enter()
    try:
        yield enter
    finally:
        with suppress(termios.error):  # the terminal may be gone
            restore(descriptor, before)


def restore(descriptor: int, modes: list[Any]) -> None:
    """Set the terminal's modes, as tcgetattr has returned them, wherever we run."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        # At once: a terminal that shows nothing just now must not hold us up.
        termios.tcsetattr(descriptor, termios.TCSANOW, modes)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def window_size(descriptor: int) -> tuple[int, int]:
    """Return the terminal's columns and rows, 0 where nobody has said."""
    size = os.get_terminal_size(descriptor)
    return size.columns, size.lines


@contextmanager
def unstopped(number: int) -> Iterator[None]:
    """Use the terminal where another program may have it.

    The kernel then sends SIGTTIN or SIGTTOU and tries again.  By default that
    stops us until it is our turn, which is right; a program that catches the
    signal would run in circles, so it gets an error, or its way, instead.
    """
    if signal.getsignal(number) == signal.SIG_DFL:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
