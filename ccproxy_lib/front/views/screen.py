"""A terminal that is ours for a while: keys come at once, pictures replace each other.

However that ends, the terminal is then as it was; only SIGKILL gives us no chance.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from rich.console import Console, Group
from rich.text import Text

CAUGHT = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGTSTP,
    signal.SIGWINCH,
)
_NUDGE = b"\0"  # no signal has that number
_READ_BYTES = 1024


class Screen:
    """The terminal of the standard output, within a ``with``.

    Signals of ``CAUGHT`` do nothing by themselves there: :meth:`wait` tells them.
    """

    def __init__(self) -> None:
        self._console = Console(force_terminal=True)
        self._keyboard = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._outer = ExitStack()
        self._inner = ExitStack()

    def __enter__(self) -> Screen:
        self._told, self._teller = (self._outer.enter_context(end) for end in socket.socketpair())
        self._told.setblocking(False)
        self._teller.setblocking(False)
        self._outer.enter_context(_signals_to(self._teller))
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._inner.close()
        self._outer.close()

    def _take(self) -> None:
        if self._keyboard is not None:
            self._inner.enter_context(_keys_at_once(self._keyboard))
        self._inner.enter_context(_alternate(self._console))

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        size = os.get_terminal_size(sys.stdout.fileno())
        # A terminal that nobody has told its size says 0.
        return size.columns or 80, size.lines or 24

    def show(self, lines: Sequence[Text]) -> None:
        """Replace what the terminal shows; ``lines`` should not be more or wider than ``size``."""
        width, height = self.size
        self._console.size = (width, height)
        blank = [Text()] * (height - len(lines))
        for line in lines:
            line.no_wrap = True
        self._console.update_screen(Group(*lines[:height], *blank))

    def nudge(self) -> None:
        """Let :meth:`wait` return; for another thread."""
        with suppress(OSError):  # full, or closed
            self._teller.send(_NUDGE)

    def wait(self, timeout_s: float) -> tuple[bytes, frozenset[int]]:
        """Wait for keys, signals or a nudge; return the keys and the signals' numbers."""
        sources = [each for each in (self._told, self._keyboard) if each is not None]
        ready = select.select(sources, [], [], timeout_s)[0]
        told = self._told.recv(_READ_BYTES) if self._told in ready else b""
        keys = b""
        if self._keyboard in ready:
            with suppress(OSError):
                keys = os.read(self._keyboard, _READ_BYTES)
            if not keys:
                return b"", frozenset({signal.SIGHUP})
        return keys, frozenset(told) - frozenset(_NUDGE)

    def suspend(self) -> None:
        """Give the terminal back, stop as Ctrl-Z asks for, and take it again when continued."""
        self._inner.close()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()


@contextmanager
def _signals_to(teller: socket.socket) -> Iterator[None]:
    handlers = {number: signal.signal(number, lambda *_: None) for number in CAUGHT}
    before = signal.set_wakeup_fd(teller.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _keys_at_once(keyboard: int) -> Iterator[None]:
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(keyboard, termios.TCSAFLUSH, before)


@contextmanager
def _alternate(console: Console) -> Iterator[None]:
    """Show the alternate screen, without a cursor."""
    try:
        console.set_alt_screen(True)
        console.show_cursor(False)
        yield
    finally:
        with suppress(OSError):  # the terminal is gone
            console.set_alt_screen(False)
            console.show_cursor(True)
