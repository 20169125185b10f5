"""What a shim sends before its process runs: kept in order, not lost."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ccproxy_lib.wire.payloads import Signal


class EarlySignal(NamedTuple):
    """A signal that waits for its process; ``answer`` takes an error's text, or "" for success.

    One with a ``refusal`` waits for nothing but its turn to be answered with that.
    """

    signal: Signal | None
    deadline_s: float
    answer: Callable[[str], None]
    refusal: str = ""


class Early:
    """Stdin and signals of one session, in the order in which they came.

    Empty bytes are stdin's end of file.  An item stays at the head while it is
    being worked on, so that what comes meanwhile queues behind it.
    """

    __slots__ = ("items", "on_taken", "stdin_bytes")

    def __init__(self) -> None:
        self.items: deque[bytes | EarlySignal] = deque()
        self.stdin_bytes = 0
        self.on_taken: Callable[[], None] | None = None

    def push(self, item: bytes | EarlySignal) -> None:
        """Append an item."""
        self.items.append(item)
        if isinstance(item, bytes):
            self.stdin_bytes += len(item)

    def pop(self) -> None:
        """Drop the head: it has been worked on."""
        item = self.items.popleft()
        if isinstance(item, bytes):
            self.stdin_bytes -= len(item)
        if self.on_taken:
            self.on_taken()

    def next_deadline_s(self) -> float | None:
        """Return when the first signal's patience ends, None if no signal waits."""
        deadlines = (item.deadline_s for item in self.items if isinstance(item, EarlySignal))
        return next(deadlines, None)

    def take_expired(self, now_s: float) -> list[EarlySignal]:
        """Remove and return the signals whose deadline has come."""
        expired = [
            item
            for item in self.items
            if isinstance(item, EarlySignal) and item.deadline_s <= now_s
        ]
        for item in expired:
            self.items.remove(item)
        return expired

    def cancel(self, reason: str) -> None:
        """Drop everything; each signal is answered with ``reason``."""
        items = tuple(self.items)
        self.items.clear()
        self.stdin_bytes = 0
        for item in items:
            if isinstance(item, EarlySignal):
                item.answer(item.refusal or reason)
        if self.on_taken:
            self.on_taken()
