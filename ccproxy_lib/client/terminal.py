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
        with _in_the_background():
            tty.setraw(descriptor, termios.TCSANOW)

    enter()
    try:
        yield enter
    finally:
        with suppress(termios.error):  # the terminal may be gone
            restore(descriptor, before)


def restore(descriptor: int, modes: list[Any]) -> None:
    """Set the terminal's modes, as tcgetattr has returned them; what was shown stays."""
    with _in_the_background():
        # At once: a terminal that shows nothing just now must not hold us up.
        termios.tcsetattr(descriptor, termios.TCSANOW, modes)


def window_size(descriptor: int) -> tuple[int, int]:
    """Return the terminal's columns and rows, at least 1 each."""
    size = os.get_terminal_size(descriptor)
    return max(1, size.columns), max(1, size.lines)


@contextmanager
def _in_the_background() -> Iterator[None]:
    """Be allowed to also when another program has the terminal; else the kernel would stop us."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
