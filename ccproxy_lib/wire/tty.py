"""Messages of the agent's I/O channel (docs/PROTOCOL.md, "I/O channel").

    +-------------+------------------------+--------+
    |  seq (u64)  |  length (u32), whole   |  data  |
    +-------------+------------------------+--------+

The length counts the header's 12 bytes.  An empty message is an end of file;
the message of one byte that follows it on a process's stdio number is the exit
status.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ccproxy_lib.errors import ProtocolError

HEADER_BYTES = 12
# One message to the agent, header included: more than QEMU hands on in one piece
# would tear the next header, and old C agents have no room for more.
MAX_TO_AGENT_BYTES = 4096
MAX_STDIN_BYTES = MAX_TO_AGENT_BYTES - HEADER_BYTES
DEFAULT_MAX_MESSAGE_BYTES = 1 << 20

HEADER = struct.Struct(">QI")


def encode(seq: int, data: bytes | bytearray | memoryview = b"") -> bytes:
    """Return a whole I/O message."""
    return HEADER.pack(seq, HEADER_BYTES + len(data)) + data


class TtyParser:
    """Cuts an I/O channel's bytes into messages, made for large reads.

    Nothing but an incomplete header is ever kept: the data of a message whose
    end has not come yet is handed out in pieces, so a message of any length
    costs no memory.
    """

    __slots__ = ("_header", "_left_bytes", "_length", "_max_message_bytes", "_seq")

    def __init__(self, max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES) -> None:
        self._max_message_bytes = max_message_bytes
        self._header = b""
        self._seq = 0
        self._length = 0
        self._left_bytes = 0

    @property
    def midway(self) -> bool:
        """Whether part of a message has come and the rest has not."""
        return bool(self._header or self._left_bytes)

    def sole(self, view: memoryview) -> int:
        """Return the stream number if ``view`` is one whole message with data and nothing else.

        Its data is then all behind the header.  That is what most reads bring
        where processes answer what they are asked; for everything else, 0, there
        is :meth:`feed`.
        """
        if len(view) <= HEADER_BYTES or self._left_bytes or self._header:
            return 0
        seq, length = HEADER.unpack_from(view)
        whole = length == len(view) <= self._max_message_bytes
        return seq if whole else 0

    def feed(self, view: memoryview) -> Iterator[tuple[int, memoryview, int]]:
        """Yield ``(seq, data, length)`` for each message, or piece of one, in ``view``.

        ``length`` is that of the whole message's data: a message is an end of
        file if it is 0, and can be an exit status only if it is 1, whatever the
        piece.  ``data`` is a view into ``view`` and empty only where ``length``
        is 0.  The iterator must be exhausted before the next call.  Raises
        ProtocolError for a length that is no message's.
        """
        pos = 0
        end = len(view)
        if self._left_bytes:
            pos = min(self._left_bytes, end)
            self._left_bytes -= pos
            if pos:
                yield self._seq, view[:pos], self._length
        if self._header:
            # Seldom: only where a read ended inside a header.
            view = memoryview(self._header + view[pos:])
            self._header = b""
            pos = 0
            end = len(view)
        limit = self._max_message_bytes
        unpack = HEADER.unpack_from
        while end - pos >= HEADER_BYTES:
            seq, length = unpack(view, pos)
            if not HEADER_BYTES <= length <= limit:
                raise ProtocolError(
                    f"I/O message of {length} bytes, expected {HEADER_BYTES} to {limit}"
                )
            stop = pos + length
            pos += HEADER_BYTES
            if stop > end:
                self._seq = seq
                self._length = length - HEADER_BYTES
                self._left_bytes = stop - end
                if pos < end:
                    yield seq, view[pos:end], self._length
                return
            yield seq, view[pos:stop], length - HEADER_BYTES
            pos = stop
        self._header = bytes(view[pos:end])
