"""Lines of text out of a byte stream that may hold anything: a VM's console."""

from __future__ import annotations

from collections.abc import Iterator

DEFAULT_MAX_LINE_BYTES = 4096


class LineSplitter:
    """Cuts bytes into lines; a line over the limit comes in several pieces."""

    __slots__ = ("_max_line_bytes", "_partial")

    def __init__(self, max_line_bytes: int = DEFAULT_MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._partial = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the lines that ``data`` completes, without their ends; no bytes raise anything."""
        *complete, self._partial = (self._partial + data).split(b"\n")
        for line in complete:
            yield from self._pieces(line.removesuffix(b"\r"))
        # A piece leaves when the line goes on behind it, and "\r" may yet be its end:
        # so it does not matter how the bytes are cut into chunks.
        while len(self._partial.removesuffix(b"\r")) > self._max_line_bytes:
            yield self._text(self._partial[: self._max_line_bytes])
            self._partial = self._partial[self._max_line_bytes :]

    def _pieces(self, line: bytes) -> Iterator[str]:
        for start in range(0, max(1, len(line)), self._max_line_bytes):
            yield self._text(line[start : start + self._max_line_bytes])

    def _text(self, line: bytes) -> str:
        return line.decode("utf-8", "replace")
