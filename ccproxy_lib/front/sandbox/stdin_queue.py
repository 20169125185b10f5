"""Stdin that a process has not read yet."""

from __future__ import annotations

from gevent.event import Event

LIMIT_BYTES = 1 << 20
_TAKE_BYTES = 64 * 1024


class StdinQueue:
    """Bytes between the I/O channel's reader and one process.

    :meth:`put` waits while LIMIT_BYTES or more are queued: then nothing else is
    read from the channel either, as in a VM.
    """

    def __init__(self) -> None:
        self._queued = bytearray()
        self._ended = False
        self._filled = Event()
        self._room = Event()
        self._room.set()

    def put(self, data: bytes) -> None:
        """Queue data; empty data ends the stream, and what comes behind that is dropped."""
        self._room.wait()
        if self._ended:
            return
        if data:
            self._queued += data
        else:
            self._ended = True
        if len(self._queued) >= LIMIT_BYTES:
            self._room.clear()
        self._filled.set()

    def take(self) -> bytes:
        """Return some of what is queued, waiting for it; empty at the end of the stream."""
        while not self._queued and not self._ended:
            self._filled.clear()
            self._filled.wait()
        data = bytes(self._queued[:_TAKE_BYTES])
        del self._queued[:_TAKE_BYTES]
        if len(self._queued) < LIMIT_BYTES:
            self._room.set()
        return data

    def abandon(self) -> None:
        """Nobody reads any more: drop what is queued and all that comes."""
        self._ended = True
        self._queued.clear()
        self._filled.set()
        self._room.set()
