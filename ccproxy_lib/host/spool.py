"""A queue of bytes in a file without a name: what is too much for memory, in order.

The file is used as a ring, so it never grows beyond its capacity however long
the queue lives.  It belongs to nobody else (mode 0600, no directory entry) and
is gone with the process.
"""

from __future__ import annotations

import os

# Unlike /tmp seldom a file system in memory, which would defeat the purpose.
DEFAULT_DIRECTORY = "/var/tmp"


class Spool:
    """At most ``capacity_bytes`` bytes, first in, first out.

    Raises OSError if the file cannot be made, written or read; a failed
    :meth:`append` has appended nothing.
    """

    __slots__ = ("_capacity_bytes", "_file", "_start", "size_bytes")

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._start = 0
        self.size_bytes = 0
        import tempfile  # slow to load, and most daemons never need it

        directory = os.environ.get("TMPDIR") or DEFAULT_DIRECTORY
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 (see close)

    @property
    def room_bytes(self) -> int:
        """How much more fits."""
        return self._capacity_bytes - self.size_bytes

    def append(self, data: bytes) -> None:
        """Append all of ``data``, which must fit."""
        view = memoryview(data)
        end = (self._start + self.size_bytes) % self._capacity_bytes
        first = min(len(view), self._capacity_bytes - end)
        self._write(view[:first], end)
        self._write(view[first:], 0)
        self.size_bytes += len(view)

    def take(self, limit_bytes: int) -> bytes:
        """Remove and return the first bytes, as many as lie in one piece up to the limit."""
        count = min(limit_bytes, self.size_bytes, self._capacity_bytes - self._start)
        data = os.pread(self._file.fileno(), count, self._start)
        self._start = (self._start + len(data)) % self._capacity_bytes
        self.size_bytes -= len(data)
        return data

    def close(self) -> None:
        """Forget everything and free the space."""
        self._file.close()
        self.size_bytes = 0

    def _write(self, view: memoryview, position: int) -> None:
        while view:
            written = os.pwrite(self._file.fileno(), view, position)
            view = view[written:]
            position += written
