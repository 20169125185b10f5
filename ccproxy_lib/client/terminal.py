"""The user's terminal in raw mode, and back again however that ends."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def raw_mode(descriptor: int) -> Iterator[None]:
    """Put the terminal into raw mode for a while: keys reach the process, not this program."""
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


def window_size(descriptor: int) -> tuple[int, int]:
    """Return the terminal's columns and rows, at least 1 each."""
    size = os.get_terminal_size(descriptor)
    return max(1, size.columns), max(1, size.lines)
