"""Signals to this program, as something that poll can wait for."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any

# More than one byte each, as the same signal may come again and again.
READ_BYTES = 4096


class Signals:
    """Catches signals while it is entered; for the main thread, one at a time.

    Its descriptor is also readable when another signal has come that Python handles,
    so that its handler need not wait for the end of a poll.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = frozenset(numbers)
        self._previous: dict[int, Any] = {}
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._previous_descriptor = -1

    def __enter__(self) -> Signals:
        # Written at once; a handler of Python's would run only behind a poll that
        # the signal came a moment too early for.
        self._previous_descriptor = signal.set_wakeup_fd(
            self._writer.fileno(), warn_on_full_buffer=False
        )
        for number in self._numbers:
            self._previous[number] = signal.signal(number, _catch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(self._previous_descriptor)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """Return a descriptor that is readable when a signal has come."""
        return self._reader.fileno()

    def take(self) -> list[int]:
        """Return the signals that have come, in their order."""
        try:
            come = self._reader.recv(READ_BYTES)
        except BlockingIOError:
            return []
        return [number for number in come if number in self._numbers]

    def wait(self, seconds: float, other: int | None = None) -> bool:
        """Wait until a signal has come; False if none does within ``seconds``.

        It is False, too, when the descriptor ``other`` can be read: that says what
        the signals are for.
        """
        poll = select.poll()
        poll.register(self, select.POLLIN)
        if other is not None:
            poll.register(other, select.POLLIN)
        ready = dict(poll.poll(seconds * 1000))
        return bool(ready) and other not in ready


def _catch(number: int, frame: FrameType | None) -> None:
    """Do nothing: the number is in the descriptor already."""
