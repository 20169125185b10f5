"""A process's standard streams, as binary files."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class Pile:
    """Output that has come and was not read yet."""

    __slots__ = ("_pieces", "size_bytes")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self.size_bytes = 0

    def put(self, data: bytes) -> None:
        """Add what has come; nothing is no piece."""
        if data:
            self._pieces.append(data)
            self.size_bytes += len(data)

    def take(self, most_bytes: int) -> bytes:
        """Return what came first, ``most_bytes`` at most; b"" if there is nothing."""
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        if len(piece) > most_bytes:
            self._pieces.appendleft(piece[most_bytes:])
            piece = piece[:most_bytes]
        self.size_bytes -= len(piece)
        return piece

    def take_all(self) -> bytes:
        """Return all there is."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self.size_bytes = 0
        return data


class OutputReader(io.RawIOBase):
    """Stdout or stderr; at its end when the process has ended and all is read."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        super().__init__()
        self._read = read

    def readable(self) -> bool:
        """Say that it is for reading."""
        return True

    def readinto(self, target: WriteableBuffer) -> int:
        """Wait for output and put it into ``target``; return how many bytes, 0 at the end."""
        view = memoryview(target).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)


class StdinWriter(io.RawIOBase):
    """Stdin: what is written goes out at once, and closing it is its end of file."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        super().__init__()
        self._send = send

    def __del__(self) -> None:
        """Do not close: that nobody writes any more is no end of file."""

    def writable(self) -> bool:
        """Say that it is for writing."""
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Send all of ``data``, waiting until the proxy takes it; return its length in bytes."""
        if self.closed:
            raise ValueError("write to closed stdin")
        view = memoryview(data).cast("B")
        if view:  # an empty frame would be the end
            self._send(view)
        return len(view)

    def close(self) -> None:
        """Tell the process that there is no more."""
        if not self.closed:
            super().close()
            with suppress(BrokenPipeError):  # the process has ended before
                self._send(b"")
